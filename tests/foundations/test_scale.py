"""Training cost against published hours and energy, torch's own profiler, and derivations."""
import json

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


def test_published_compute():
    assert recorded_flops("llama-3.1-405b") == pytest.approx(3.8e25, rel=0.1)  # the paper's own
    config = transformers.GPT2Config(n_embd=12288, n_layer=96, n_head=96, n_positions=2048)
    assert recorded_flops("gpt3", model=config) == pytest.approx(3.14e23, rel=0.05)  # its table D.1


def test_the_rule_uses_active_parameters():
    assert six_n_d("mixtral-8x7b", 1e9) == pytest.approx(6 * 12.88e9 * 1e9, rel=1e-3)
    assert six_n_d("gpt2", 10) == 60 * 124_439_808


@pytest.mark.parametrize("name, kilowatt_hours", [("bloom", 433_196), ("llama-65b", 449_000)])
def test_published_energy(name, kilowatt_hours):
    overhead = {"bloom": 1, "llama-65b": 1.1}[name]
    estimate = energy_kwh(training_record(name).gpu_hours, "A100", overhead=overhead)
    assert estimate == pytest.approx(kilowatt_hours, rel=0.003)


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
    device = Hardware("mine", 2e12, 500, 1e9, "nvidia2020")
    assert gpu_hours(3600e12, device, utilisation=0.5) == 1
    assert energy_kwh(4, device, overhead=1.5) == 3


@pytest.mark.parametrize("call, message", [
    (lambda: training_record("no-such"), "name 'no-such' has no record"),
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
        assert "length" in record or record["function"] != "text writer" or (
            "samples" not in record), name
    assert all(each.source in REFERENCES for each in HARDWARE.values())
    assert len(RECORDS) >= 30
