"""Training cost against published hours and energy, torch's own profiler, and derivations."""
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch import nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from course_lib.core.files import data_path  # noqa: E402
from course_lib.foundations.scale import (  # noqa: E402
    HARDWARE, Hardware, energy_kwh, gpu_hours, recorded_flops, six_n_d, training_cost,
    training_flops, training_record)

RECORDS = json.loads(data_path("training.json").read_text(encoding="utf-8"))
REFERENCES = json.loads(data_path("references.json").read_text(encoding="utf-8"))


def test_three_times_forward_is_what_the_profiler_counts_for_a_transformer():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=64, n_layer=2, n_head=2, vocab_size=100, bos_token_id=0, eos_token_id=0)).eval()
    ids = torch.zeros(1, 32, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    assert training_flops(model, ids, samples=1) == counter.get_total_flops()


def test_three_times_forward_is_too_much_where_the_first_layer_is_all_there_is():
    model = nn.Linear(784, 128)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 784)).sum().backward()
    assert training_flops(model, (1, 784), samples=1) == 3 / 2 * counter.get_total_flops()


def test_a_transformer_in_closed_form():
    blocks, d, words, tokens = 12, 768, 50257, 1024  # GPT-2: 24 d² and 4 d T a block, 2 d V
    forward = tokens * (blocks * (24 * d * d + 4 * d * tokens) + 2 * d * words)
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    assert training_flops("gpt2", ids, samples=7) == 3 * 7 * forward


@pytest.mark.slow
def test_published_compute():
    assert recorded_flops("llama-3.1-405b") == pytest.approx(3.8e25, rel=0.1)  # the paper's own
    config = transformers.GPT2Config(n_embd=12288, n_layer=96, n_head=96, n_positions=2048)
    assert recorded_flops("gpt3", model=config) == pytest.approx(3.14e23, rel=0.05)  # its table D.1


@pytest.mark.slow
def test_a_token_and_a_sample_are_told_apart():
    for name, samples in (("bert-base-uncased", 42_598_400_000 / 128), ("whisper-large", 2**28)):
        ids = torch.zeros(1, training_record(name).length, dtype=torch.long, device="meta")
        inputs = {"input_ids": ids} if "bert" in name else {
            "input_features": torch.zeros(1, 80, 3000, device="meta"), "decoder_input_ids": ids}
        assert recorded_flops(name) == training_flops(name, inputs, samples=samples)


def test_what_the_course_does_not_ship_is_counted_when_it_is_passed():
    config = transformers.GPT2Config(n_embd=12288, n_layer=2, n_head=96, n_positions=2048)
    cost = training_cost("gpt3", model=config)
    assert cost.flops == recorded_flops("gpt3", model=config) and "table D.1" in cost.why
    pairs = nn.Bilinear(4, 4, 4)
    one = torch.zeros(1, 4)
    assert recorded_flops("transformer-big-2017", model=pairs, inputs=(one, one)) == training_flops(
        pairs, (one, one), samples=7.5e9 / 25)


def test_a_cost_says_where_it_comes_from():
    cost = str(training_cost("alexnet-2012", "GTX 580", overhead=1.5))
    for said in ("A. Krizhevsky 2012, NeurIPS 2012, section 5", "244 watts, times 1.5",
                 "three times forward", "40% of the peak of GTX 580"):
        assert said in cost
    given = training_cost("alexnet-2012", flops=np.float32(1e18))
    assert "as given" in str(given) and "forward" not in str(given) and given.why == ""


def test_the_rule_uses_active_parameters():
    assert six_n_d("mixtral-8x7b", 1e9) == pytest.approx(6 * 12.88e9 * 1e9, rel=1e-3)
    assert six_n_d("gpt2", 10) == 60 * 124_439_808


@pytest.mark.parametrize("name, kilowatt_hours", [("bloom", 433_196), ("llama-65b", 449_000)])
def test_published_energy(name, kilowatt_hours):
    overhead = {"bloom": 1, "llama-65b": 1.1}[name]
    estimate = energy_kwh(training_record(name).gpu_hours, "A100", overhead=overhead)
    assert estimate == pytest.approx(kilowatt_hours, rel=0.003)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-65b", "bloom", "alexnet-2012"])
def test_published_hours_are_met_within_a_factor_of_two(name):
    record = training_record(name)
    cost = training_cost(name, record.hardware)
    assert 1 / 2 < cost.hours / record.gpu_hours < 2


def test_unknown_stays_unknown():
    for name in ("gpt2", "mistral-7b", "mixtral-8x7b", "gpt-oss-120b"):
        assert training_record(name).unknown == "unpublished"
        assert recorded_flops(name) is None
    cost = training_cost("gpt2")
    assert cost.flops is cost.hours is cost.kwh is None
    assert str(cost).count("unknown") == 3 and "unpublished" in str(cost)
    assert training_flops("gpt2", samples=None) is None and six_n_d("gpt2", None) is None
    assert gpu_hours(None) is None and energy_kwh(None) is None


def test_hours_and_energy_by_hand():
    device = Hardware("mine", 2e12, 500, 1e9)
    assert gpu_hours(3600e12, device, utilisation=0.5) == 1
    assert energy_kwh(4, device, overhead=1.5) == 3
    assert energy_kwh(np.int64(4), device, overhead=np.float64(1.5)) == 3
    assert type(gpu_hours(np.float32(1e18), utilisation=np.float32(0.5))) is float


@pytest.mark.parametrize("call, message", [
    (lambda: training_record("llama-66b"), "name 'llama-66b' has no record of its training; the "
                                           "nearest that have one are llama-65b, "),
    (lambda: training_record(["gpt2"]), "name ['gpt2'] has no record"),
    (lambda: recorded_flops("gpt3"), "has a record but no shipped architecture; pass model="),
    (lambda: training_cost("gpt3"), "name 'gpt3' has a record but no shipped architecture"),
    (lambda: gpu_hours(1e9, ["A100"]), "hardware ['A100'] is not known"),
    (lambda: gpu_hours(1e9, utilisation=None), "utilisation must be above 0 and at most 1, not N"),
    (lambda: gpu_hours(1e9, utilisation=True), "utilisation must be above 0 and at most 1, not T"),
    (lambda: gpu_hours(1e9, utilisation=[0.4]), "utilisation must be above 0 and at most 1"),
    (lambda: energy_kwh(1, overhead="1.1"), "overhead must be at least 1 and below 100, not '1.1'"),
    (lambda: energy_kwh(1, overhead=float("nan")), "overhead must be at least 1 and below 100"),
    (lambda: Hardware("x", 0, 1, 1), "peak must be a number above 0, not 0"),
    (lambda: Hardware("x", 1, -1, 1), "watts must be a number above 0, not -1"),
    (lambda: Hardware("x", 1, 1, float("nan")), "memory must be a number above 0, not nan"),
    (lambda: Hardware("x", "1", 1, 1), "peak must be a number above 0, not '1'"),
    (lambda: six_n_d("resnet50", 1e9), "6ND is far off for resnet50"),
    (lambda: six_n_d("lenet5", 1e9), "6ND is far off for lenet5"),
    (lambda: six_n_d("t5-small", 1e9), "6ND is far off for t5-small"),
    (lambda: six_n_d("clip-vit-base-patch32", 1e9), "6ND is far off for clip"),
    (lambda: gpu_hours(1e9, "abacus"), "hardware 'abacus' is not known"),
    (lambda: gpu_hours(1e9, utilisation=40), "utilisation must be above 0 and at most 1, not 40"),
    (lambda: gpu_hours(-1.0), "flops must be a number above 0"),
    (lambda: gpu_hours(float("nan")), "flops must be a number above 0"),
    (lambda: energy_kwh(1, overhead=0.5), "overhead must be at least 1"),
    (lambda: energy_kwh(True), "hours must be a number above 0"),
    (lambda: six_n_d("gpt2", 0), "tokens must be a number above 0"),
    (lambda: training_flops(nn.Linear(2, 2), (1, 2), samples="3"), "samples must be a number"),
])
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_every_record_is_complete_and_has_a_source():
    for name, record in RECORDS.items():
        assert record["source"] in REFERENCES and 1998 <= record["year"] <= 2025, name
        assert ("samples" in record) != ("unknown" in record), name
        assert ("gpu_hours" in record) == ("hardware" in record), name
        assert record.get("hardware", "A100") in HARDWARE, name
        assert (record.get("unit") in ("token", "sample")) == ("samples" in record), name
        assert ("section" in record) or "samples" not in record, name
        assert "length" in record or record.get("unit") != "token", name
    assert all(each.source in REFERENCES for each in HARDWARE.values())
    with pytest.raises(TypeError):
        HARDWARE["mine"] = HARDWARE["A100"]
    assert len(RECORDS) >= 30
