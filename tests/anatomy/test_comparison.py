"""`compare`: the reasons for a difference, for twins in two frameworks, adapters and pruning.

Expected differences come from the two frameworks' own counts and from closed forms beside the test.
"""
import random
import warnings

import pytest

torch = pytest.importorskip("torch")
from torch.nn.utils import prune  # noqa: E402
from torch import nn  # noqa: E402

from course_lib.anatomy.parameters import compare, count_parameters  # noqa: E402


@pytest.mark.slow
def test_a_torch_network_and_its_keras_twin():
    pytest.importorskip("keras")
    pytest.importorskip("transformers")
    comparison = compare("resnet50", "keras:ResNet50")
    assert comparison.difference == 25_636_712 - 25_557_032 == 53_120 + 26_560
    assert comparison.changes == {"batch normalisation statistics": 53_120,
                                  "convolution biases": 26_560}
    assert comparison.reasons == ["53,120 more: batch normalisation statistics (53 layers)",
                                  "26,560 more: convolution biases (53 layers)"]
    # in torch the same statistics are buffers, with a counter of batches in each of 53 layers
    assert comparison.buffer_changes == {"batch normalisation statistics": -(53_120 + 53)}
    assert all(first and second for first, second in comparison.pairs)


def gpt2():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        return transformers.GPT2LMHeadModel(transformers.GPT2Config())


def test_before_and_after_lora():
    """Rank 8 on c_attn of 12 blocks: 12·8·(768 + 3·768) = 294,912."""
    peft = pytest.importorskip("peft")
    model = gpt2()
    before = count_parameters(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, peft.LoraConfig(
            r=8, target_modules=["c_attn"], fan_in_fan_out=True))
    comparison = compare(before, adapted)
    assert comparison.difference == 12 * 8 * (768 + 3 * 768) == 294_912
    assert comparison.reasons == ["294,912 more: LoRA matrices (24 layers)"]
    assert comparison.trainable_difference == 294_912 - 124_439_808
    assert compare(adapted, before).reasons == ["294,912 fewer: LoRA matrices (24 layers)"]
    text = str(comparison)
    assert "h.0…11.attn.c_attn.lora_A.default" in text and len(text.splitlines()) < 25


def test_before_and_after_pruning():
    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 5))
    before = count_parameters(model)
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    comparison = compare(before, model)
    assert (comparison.difference, comparison.reasons, comparison.changes) == (0, [], {})
    assert comparison.buffer_difference == 200
    assert comparison.buffer_reasons == ["200 more in buffers: pruning masks"]
    assert "no difference in the number of parameters" in str(comparison)
    assert "pruning masks" in str(comparison)


def test_a_model_and_itself():
    comparison = compare(nn.Linear(3, 4), nn.Linear(3, 4))
    assert comparison.difference == 0 and comparison.reasons == []
    assert [line[0] for line in comparison.table().rows] == [
        "total", "trainable", "frozen", "buffers"]


def test_frozen_layers_show_as_trainable_difference():
    first, second = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)) for _ in range(2))
    second[0].requires_grad_(False)
    comparison = compare(first, second)
    assert (comparison.difference, comparison.trainable_difference) == (0, -20)
    assert ["0", "0", 20, 20, 0, -20] in comparison.table().rows


def test_a_head_replaced():
    """A classifier for 10 classes instead of 1,000: 990·(512 + 1) fewer."""
    first, second = (nn.ModuleDict({"conv": nn.Conv2d(3, 512, 3), "fc": nn.Linear(512, classes)})
                     for classes in (1000, 10))
    comparison = compare(first, second)
    assert comparison.changes == {"linear weights": -990 * 512, "linear biases": -990}


def test_a_tied_head_untied():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        tied, untied = (transformers.GPT2LMHeadModel(transformers.GPT2Config(
            n_layer=1, tie_word_embeddings=tie)) for tie in (True, False))
    comparison = compare(tied, untied)
    assert comparison.changes == {"linear weights": 50257 * 768}


def network(rng):
    """A random stack of layers, some tied, frozen, pruned or nested."""
    layers = []
    for _ in range(rng.randint(0, 6)):
        size = rng.randint(1, 4)
        layers.append(rng.choice([
            lambda size=size: nn.Linear(4, size, bias=rng.random() < 0.5),
            lambda size=size: nn.Conv2d(2, size, size), lambda size=size: nn.BatchNorm1d(size),
            lambda size=size: nn.LSTM(3, size), lambda size=size: nn.Embedding(7, size),
            lambda size=size: nn.MultiheadAttention(4, 2),
            lambda size=size: nn.Sequential(nn.Linear(4, size), nn.LayerNorm(size)),
            lambda size=size: nn.utils.parametrizations.weight_norm(nn.Linear(4, size)),
        ])())
    if len(layers) > 1 and rng.random() < 0.5:
        layers.append(layers[0])
    if layers and type(layers[0]) is nn.Linear and rng.random() < 0.5:
        prune.random_unstructured(layers[0], "weight", amount=0.5)
    if layers and rng.random() < 0.3:
        layers[-1].requires_grad_(False)
    model = nn.Sequential(*layers)
    return nn.ModuleDict({"base_model": nn.ModuleDict({"model": model})}) \
        if rng.random() < 0.3 else model


@pytest.mark.parametrize("seed", range(60))
def test_reasons_add_up(seed):
    rng = random.Random(seed)
    first, second = network(rng), network(rng)
    a, b = count_parameters(first), count_parameters(second)
    comparison = compare(a, b)
    assert comparison.difference == b.total - a.total == sum(comparison.changes.values())
    assert comparison.buffer_difference == b.buffers - a.buffers \
        == sum(comparison.buffer_changes.values())
    assert compare(b, a).difference == -comparison.difference
    rows = [row for pair in comparison.pairs for row in pair if row]
    assert sorted(map(id, rows)) == sorted(map(id, [*a.rows, *b.rows]))
    lines = comparison.table().rows[:-4]
    assert sum(line[4] for line in lines) == comparison.difference
    assert sum(line[5] for line in lines) == comparison.trainable_difference


def test_many_different_rows_are_shortened():
    first = nn.Sequential(*(nn.Linear(n, n + 1) for n in range(1, 120)))
    comparison = compare(first, nn.Linear(1, 1))
    assert len(comparison.table().rows) == 40 + 1 + 4 and "more lines" in str(comparison)
    assert sum(comparison.changes.values()) == comparison.difference


def test_conversions():
    comparison = compare(nn.Linear(3, 4), nn.Linear(3, 5))
    plain = comparison.to_dict()
    assert plain["difference"] == 4
    assert plain["changes"] == {"linear weights": 3, "linear biases": 1}
    assert plain["a"]["total"] == 16 and plain["b"]["total"] == 20
    assert '"difference": 4' in comparison.to_json() and "| total" in comparison.to_markdown()
    assert "<table>" in comparison._repr_html_() and len(comparison.to_dataframe()) == 5


def test_transformers_conv1d_is_a_matrix_and_keras_conv1d_a_convolution():
    import keras
    reasons = compare("gpt2", "gpt2-medium").reasons
    assert "linear weights" in reasons[0] and not any("convolution" in line for line in reasons)
    small, large = (keras.Sequential([keras.Input((9, 4)), keras.layers.Conv1D(n, 3)])
                    for n in (2, 5))
    assert {line.split(": ")[1].split(" (")[0] for line in compare(small, large).reasons} == {
        "convolution weights", "convolution biases"}
