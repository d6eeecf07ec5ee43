"""Every torch layer that has a rule, with hyper-parameters drawn at random.

Each expected total is the number of distinct elements that torch itself holds; where torch hides
them (packed storage), it is worked out by hand beside the test.
"""
import random
import warnings

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

from course_lib.anatomy.counting_rules import (  # noqa: E402
    add_formulas,
    Formula, adapter_rule, attribute, evaluate, rule_for, tensor_rules)
from course_lib.anatomy.parameters import count_parameters  # noqa: E402


def distinct(model):
    """Elements of the distinct parameters of a torch model."""
    return sum(tensor.numel() for tensor in {id(t): t for t in model.parameters()}.values())


def assert_explained(model, expected=None):
    """The total is right, and a formula of the layer's own accounts for all of it."""
    table = count_parameters(model, strict=True)
    assert table.total == (distinct(model) if expected is None else expected)
    assert table.explained == 1.0, [row.formula for row in table.rows if not row.explained]
    return table


def convolution(rng, kind, dimensions):
    groups = rng.randint(1, 3)
    return kind(groups * rng.randint(1, 4), groups * rng.randint(1, 4),
                tuple(rng.randint(1, 4) for _ in range(dimensions)), groups=groups,
                bias=rng.random() < 0.5)


def recurrent(rng, kind):
    options = {"num_layers": rng.randint(1, 3), "bidirectional": rng.random() < 0.5,
               "bias": rng.random() < 0.5}
    hidden = rng.randint(3, 8)
    if kind is nn.LSTM and rng.random() < 0.5:
        options["proj_size"] = rng.randint(1, hidden - 1)
    return kind(rng.randint(1, 7), hidden, **options)


def attention(rng):
    heads = rng.randint(1, 3)
    width = heads * rng.randint(1, 4)
    return nn.MultiheadAttention(
        width, heads, bias=rng.random() < 0.5, add_bias_kv=rng.random() < 0.5,
        kdim=rng.choice([None, width, rng.randint(1, 9)]),
        vdim=rng.choice([None, width, rng.randint(1, 9)]))


def layer_norm(rng, kind, **options):
    return kind([rng.randint(1, 5) for _ in range(rng.randint(1, 3))],
                elementwise_affine=rng.random() < 0.7, **options)


def norms(kind):
    return lambda rng: kind(rng.randint(1, 20), affine=rng.random() < 0.7)


LAYERS = {
    "Linear": lambda rng: nn.Linear(rng.randint(1, 50), rng.randint(1, 50), rng.random() < 0.5),
    "Bilinear": lambda rng: nn.Bilinear(*(rng.randint(1, 9) for _ in range(3)),
                                        bias=rng.random() < 0.5),
    **{f"{name}{n}d": lambda rng, name=name, n=n: convolution(rng, getattr(nn, f"{name}{n}d"), n)
       for name in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    **{name: norms(getattr(nn, name)) for name in (
        "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm",
        "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")},
    "GroupNorm": lambda rng: nn.GroupNorm(2, 2 * rng.randint(1, 9), affine=rng.random() < 0.7),
    "LayerNorm": lambda rng: layer_norm(rng, nn.LayerNorm, bias=rng.random() < 0.5),
    "RMSNorm": lambda rng: layer_norm(rng, nn.RMSNorm),
    "Embedding": lambda rng: nn.Embedding(rng.randint(1, 99), rng.randint(1, 9), padding_idx=0),
    "EmbeddingBag": lambda rng: nn.EmbeddingBag(rng.randint(1, 99), rng.randint(1, 9)),
    "PReLU": lambda rng: nn.PReLU(rng.choice([1, rng.randint(1, 9)])),
    **{kind.__name__: lambda rng, kind=kind: recurrent(rng, kind)
       for kind in (nn.RNN, nn.LSTM, nn.GRU)},
    **{kind.__name__: lambda rng, kind=kind: kind(rng.randint(1, 9), rng.randint(1, 9),
                                                  bias=rng.random() < 0.5)
       for kind in (nn.RNNCell, nn.LSTMCell, nn.GRUCell)},
    "MultiheadAttention": attention,
    "Transformer": lambda rng: nn.Transformer(8, 2, rng.randint(1, 2), rng.randint(1, 2),
                                              rng.randint(1, 9), bias=rng.random() < 0.5),
    "AdaptiveLogSoftmaxWithLoss": lambda rng: nn.AdaptiveLogSoftmaxWithLoss(
        16, 60, [20, 40], div_value=2.0, head_bias=rng.random() < 0.5),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layer(kind):
    rng = random.Random(kind)
    for _ in range(12):
        layer = LAYERS[kind](rng)
        table = assert_explained(layer)
        assert_explained(nn.Sequential(nn.ModuleDict({"deep": layer})))
        for row in table.rows:
            assert row.formula.endswith(f" = {row.count:,}") or row.count < 1000 \
                and row.formula.endswith(str(row.count)) or not row.count


@pytest.mark.parametrize("kind", ["Linear", "Conv2d", "LSTM", "MultiheadAttention", "LayerNorm"])
def test_meta_device_needs_no_memory(kind):
    with torch.device("meta"):
        assert_explained(LAYERS[kind](random.Random(kind)))
        if kind == "Linear":
            assert_explained(nn.Linear(10**6, 10**6))  # four terabytes, were it real


def test_formula_in_the_terms_of_the_layer():
    """784·128 + 128 = 100,480: the numbers stand in LeCun's and everybody's first example."""
    row, = count_parameters(nn.Linear(784, 128)).rows
    assert row.formula == "in_features·out_features + out_features = 784·128 + 128 = 100,480"
    row, = count_parameters(nn.Conv2d(6, 16, 5)).rows  # LeNet-5's second convolution: 2,416
    assert row.formula == ("out_channels·(in_channels/groups)·kernel_size[0]·kernel_size[1] + "
                           "out_channels = 16·(6/1)·5·5 + 16 = 2,416")


def test_lstm_by_hand():
    """Two directions, two layers, projection 3: 4·5 rows; 7, then 2·3 inputs; 3 states."""
    lstm = nn.LSTM(7, 5, num_layers=2, bidirectional=True, proj_size=3)
    first = 20 * 7 + 20 * 3 + 20 + 20 + 3 * 5
    second = 20 * 6 + 20 * 3 + 20 + 20 + 3 * 5
    assert_explained(lstm, 2 * (first + second))


# Renamed tensors: parametrisation, pruning, quantisation

def old_weight_norm(layer, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer, **options)


WEIGHTED = [lambda: nn.Linear(5, 7), lambda: nn.Conv1d(4, 6, 3, groups=2),
            lambda: nn.Conv2d(4, 6, (3, 5)), lambda: nn.Conv3d(2, 4, (1, 2, 3), groups=2),
            lambda: nn.ConvTranspose2d(4, 6, (3, 5), groups=2), lambda: nn.Bilinear(3, 4, 5),
            lambda: nn.Embedding(9, 4)]


@pytest.mark.parametrize("build", WEIGHTED)
@pytest.mark.parametrize("normalise", [old_weight_norm, parametrizations.weight_norm])
def test_weight_norm_along_each_dimension(build, normalise):
    dimensions = build().weight.dim()
    for dim in (None, -1, *range(dimensions)):
        assert_explained(normalise(build(), dim=dim))


@pytest.mark.parametrize("normalise", [old_weight_norm, parametrizations.weight_norm])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_weight_norm_inside_a_recurrent_layer(normalise, dim):
    assert_explained(normalise(nn.LSTM(3, 5, num_layers=2), name="weight_hh_l1", dim=dim))
    assert_explained(normalise(nn.GRU(3, 5), name="weight_ih_l0", dim=dim))


@pytest.mark.parametrize("build", WEIGHTED[:-1])
def test_spectral_norm_and_orthogonal(build):
    assert_explained(parametrizations.spectral_norm(build()))
    assert_explained(nn.utils.spectral_norm(build()))
    if build().weight.dim() == 2:
        assert_explained(parametrizations.orthogonal(build()))


def test_orthogonal_with_each_map():
    for name in ("matrix_exp", "cayley", "householder"):
        assert_explained(parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map=name))


class Symmetric(nn.Module):
    def forward(self, matrix):
        return matrix.triu() + matrix.triu(1).transpose(-1, -2)


def test_parametrisation_of_your_own():
    layer = nn.utils.parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    table = assert_explained(layer)
    assert table.total == 4 * 4 + 4 and table.rows[0].kind == "Linear"


class Scaled(nn.Module):
    """A parametrisation that owns a parameter itself."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, matrix):
        return matrix * self.scale


def test_parametrisation_that_owns_a_parameter():
    layer = nn.utils.parametrize.register_parametrization(nn.Linear(6, 4), "weight", Scaled(6))
    table = count_parameters(layer, strict=True)
    assert table.total == distinct(layer) == 6 * 4 + 4 + 6
    assert sum(row.count for row in table.rows if "Linear" in row.kind) >= 6 * 4 + 4


@pytest.mark.parametrize("build", [*WEIGHTED, lambda: nn.LayerNorm(8), lambda: nn.GRUCell(3, 5)])
def test_pruned(build):
    layer, name = build(), "weight_hh" if isinstance(build(), nn.GRUCell) else "weight"
    before = distinct(layer)
    prune.random_unstructured(layer, name, amount=0.5)
    table = assert_explained(layer, before)
    mask = getattr(layer, f"{name}_mask").numel()
    assert table.buffers == mask and table.stored == before + mask
    prune.remove(layer, name)
    assert count_parameters(layer).buffers == 0


def test_quantised_linear_and_recurrent():
    """Packed weights are no parameters to torch; they still represent as many numbers."""
    from torch.ao.quantization import quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4, bias=False))
        packed = quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
        half = quantize_dynamic(net, {nn.Linear}, dtype=torch.float16)
        lstm = quantize_dynamic(nn.ModuleDict({"r": nn.LSTM(3, 5, 2, bidirectional=True)}),
                                {nn.LSTM}, dtype=torch.qint8)
        gru = quantize_dynamic(nn.ModuleDict({"r": nn.GRU(3, 5)}), {nn.GRU}, dtype=torch.qint8)
    table = assert_explained(packed, distinct(net))
    assert table.bytes < 4 * table.total and table.trainable == 0
    assert "quantised storage: qint8" in str(table)
    assert_explained(half, distinct(net))
    assert_explained(lstm, distinct(nn.LSTM(3, 5, 2, bidirectional=True)))
    assert_explained(gru, distinct(nn.GRU(3, 5)))


def test_quantised_embeddings_and_statically_quantised_layers():
    quantized = torch.ao.nn.quantized
    assert_explained(quantized.Embedding(10, 4), 40)
    assert_explained(quantized.EmbeddingBag(10, 4), 40)
    assert_explained(quantized.Linear(6, 5), 6 * 5 + 5)
    assert_explained(quantized.Conv2d(4, 6, 3, groups=2), 6 * 2 * 9 + 6)


# Adapters

def adapted(config, model):
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, config)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(20, 6)
        self.fc = nn.Linear(6, 9)
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.fc(self.word(x))


@pytest.mark.parametrize("options", [
    {"target_modules": ["fc"]}, {"target_modules": ["fc"], "use_dora": True},
    {"target_modules": ["word"]}, {"target_modules": ["word"], "use_dora": True},
    {"target_modules": ["conv"]}, {"target_modules": ["conv"], "use_dora": True},
    {"target_modules": ["fc"], "lora_bias": True}, {"target_modules": ["fc", "word", "conv"]},
    {"target_modules": ["fc"], "modules_to_save": ["word"]},
    {"target_modules": ["fc"], "bias": "all"}, {"target_parameters": ["fc.weight"]},
], ids=str)
def test_lora(options):
    peft = pytest.importorskip("peft")
    table = assert_explained(adapted(peft.LoraConfig(r=3, **options), Network()))
    assert 0 < table.trainable < table.total


@pytest.mark.parametrize("name, options", [
    ("IA3Config", {"target_modules": ["fc"], "feedforward_modules": []}),
    ("IA3Config", {"target_modules": ["fc", "conv"], "feedforward_modules": ["fc", "conv"]}),
    ("IA3Config", {"target_modules": ["conv"], "feedforward_modules": []}),
    ("VeraConfig", {"target_modules": ["fc"], "r": 3}),
    ("LoHaConfig", {"target_modules": ["fc"], "r": 3}),
    ("LoKrConfig", {"target_modules": ["fc"], "r": 3}),
    ("AdaLoraConfig", {"target_modules": ["fc"], "init_r": 3, "total_step": 10}),
    ("LNTuningConfig", {"target_modules": ["fc"]}),
])
def test_other_adapters(name, options):
    peft = pytest.importorskip("peft")
    model = adapted(getattr(peft, name)(**options), Network())
    table = count_parameters(model, strict=True)
    assert table.total == distinct(model)
    assert table.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    if name in ("IA3Config", "VeraConfig", "LNTuningConfig"):
        assert table.explained == 1.0, str(table)


def tiny_gpt2():
    transformers = pytest.importorskip("transformers")
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_layer=2, n_embd=12, n_head=2, vocab_size=50, n_positions=16))


@pytest.mark.parametrize("name, options", [
    ("LoraConfig", {"target_modules": ["c_attn"], "r": 4, "fan_in_fan_out": True}),
    ("LoraConfig", {"target_modules": ["wte"], "r": 4}),
    ("IA3Config", {"target_modules": ["c_attn", "mlp.c_proj"],
                   "feedforward_modules": ["mlp.c_proj"], "fan_in_fan_out": True}),
    ("PrefixTuningConfig", {"num_virtual_tokens": 5}),
    ("PromptTuningConfig", {"num_virtual_tokens": 5}),
    ("PromptEncoderConfig", {"num_virtual_tokens": 5, "encoder_hidden_size": 7}),
])
def test_adapters_on_gpt2(name, options):
    peft = pytest.importorskip("peft")
    config = getattr(peft, name)(task_type="CAUSAL_LM", **options)
    table = assert_explained(adapted(config, tiny_gpt2()))
    assert 0 < table.trainable < table.total


# The swap: a rule fed from the tensor would agree with any tensor

def test_a_swapped_tensor_is_seen():
    layer = nn.Linear(784, 128)
    layer.weight = nn.Parameter(torch.zeros(128, 785))
    row, = (table := count_parameters(layer)).rows
    assert row.count == table.total == 100_608 and not row.explained and table.explained == 0
    assert row.formula == "rule for Linear gives 100,480, tensors hold 100,608"
    with pytest.raises(ValueError, match="rule for Linear gives 100,480, tensors hold 100,608"):
        count_parameters(layer, strict=True)


@pytest.mark.parametrize("kind", [name for name in LAYERS if "Norm" not in name])
def test_any_tensor_swapped_is_seen(kind):
    layer = LAYERS[kind](random.Random(1))
    for owner, name in [(module, name) for module in layer.modules()
                        for name, tensor in module._parameters.items() if tensor is not None]:
        tensor = owner._parameters[name]
        owner._parameters[name] = nn.Parameter(torch.zeros(*tensor.shape[:-1],
                                                           tensor.shape[-1] + 1))
        table = count_parameters(layer)
        assert table.explained < 1 and table.total == distinct(layer), name
        owner._parameters[name] = tensor


# The pieces

def test_formula_and_evaluation():
    formula = evaluate("a·(b + 2)", {"a": 3, "b": 4}.get)
    assert (formula.value, str(formula)) == (18, "a·(b + 2) = 3·(4 + 2) = 18")
    both = add_formulas([formula, Formula("c", {"c": 1000}, 1000)])
    assert str(both) == "a·(b + 2) + c = 3·(4 + 2) + 1000 = 1,018"
    twice = add_formulas([Formula("n", {"n": 5}, 5), Formula("n", {"n": 5}, 5)])
    assert str(twice) == "2·n = 2·5 = 10"
    unlike = add_formulas([Formula("n", {"n": 5}, 5), Formula("n", {"n": 7}, 7)])
    assert (str(unlike), unlike.value) == ("n + n = 5 + 7 = 12", 12)
    assert str(Formula("hidden_size", {"hidden_size": 4096}, 4096)) == "hidden_size = 4,096"
    assert evaluate("a·b", {"a": 3}.get) is None
    assert evaluate("a", {"a": 2.5}.get) is None


def test_division_is_exact_or_unknown():
    assert evaluate("a/b", {"a": 12, "b": 3}.get).value == 4
    assert evaluate("a/b", {"a": 12, "b": 0}.get) is None


def test_attribute_refuses_what_is_no_whole_number():
    class Odd:
        width, ratio, sizes = 3, 0.5, (2, 4)

        @property
        def broken(self):
            raise RuntimeError("no")

    assert attribute(Odd(), "width") == 3 and attribute(Odd(), "sizes[-1]") == 4
    for name in ("ratio", "sizes", "sizes[9]", "absent", "broken"):
        assert attribute(Odd(), name) is None


def test_rules_belong_to_torch_not_to_a_name():
    class Linear(nn.Module):
        in_features, out_features = 3, 4

    assert tensor_rules(Linear()) == {} and tensor_rules(nn.ReLU()) == {}
    assert rule_for(nn.Linear(2, 3), "weight_orig") == "in_features·out_features"
    assert rule_for(nn.Linear(2, 3), "anything") is None
    assert adapter_rule(nn.Linear(2, 3), "unknown", "default") is None
