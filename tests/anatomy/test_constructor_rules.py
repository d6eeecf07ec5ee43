"""Formulas read off constructors: your own layers, those of transformers, and hostile ones.

Expected formulas are written out by hand from the constructor that stands in the test; expected
sizes are those of the tensors.
"""
import math
import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch import nn  # noqa: E402

from course_lib.anatomy.constructor_rules import Place, constructor_formula  # noqa: E402
from course_lib.anatomy.parameters import count_parameters  # noqa: E402

WIDTH = 6  # a constant of this module


def formula(module, name="weight"):
    """The formula of a parameter of a module that stands alone."""
    return constructor_formula(Place(module), name)


def check(module, text, name="weight"):
    """The formula reads as expected and gives what the tensor holds."""
    found = formula(module, name)
    assert found is not None and found.text == text
    assert found.value == getattr(module, name).numel()


def assert_explained(module):
    table = count_parameters(module, strict=True)
    assert table.total == sum(p.numel() for p in set(module.parameters()))
    assert table.explained == 1.0, [row.formula for row in table.rows if not row.explained]
    return table


# What a constructor may say

class Direct(nn.Module):
    def __init__(self, features, heads=2):
        super().__init__()
        self.features, self.heads = features, heads
        self.weight = nn.Parameter(torch.ones(self.heads, self.features // self.heads))


class Locals(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features
        inner = 4 * features
        size = (inner, features)
        self.weight = torch.nn.Parameter(torch.randn(size) * 0.02, requires_grad=True)


class Unpacked(nn.Module):
    def __init__(self, image_size):
        super().__init__()
        self.image_size = image_size
        height, width = self.image_size
        self.weight = nn.Parameter(torch.zeros(1, height * width + 1, WIDTH))


class Conditional(nn.Module):
    def __init__(self, width, wide):
        super().__init__()
        self.width, self.wide = width, wide
        if wide:
            self.weight = nn.Parameter(torch.empty(8 * width))
        else:
            self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.zeros(2 * width if wide else width))


class Base(nn.Module):
    def __init__(self, rows, columns=3):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))


class Child(Base):
    def __init__(self, width):
        self.width = width
        super().__init__(2 * width, columns=width)


class Grandchild(Child):
    """No constructor of its own."""


class Registered(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.register_parameter("weight", nn.Parameter(torch.empty((width, width))))


class Annotated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.weight: nn.Parameter = nn.Parameter(torch.full((width, 2), 0.5))


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))


class Logged(nn.Module):
    def __init__(self, states, width):
        super().__init__()
        self.states, self.width = states, width
        steps = torch.arange(1, states + 1).expand(width, -1)
        self.weight = nn.Parameter(torch.log(torch.rand(width).clone()))
        self.steps = nn.Parameter(steps.float())


class Rounded(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        rank = max(1, math.ceil(width / 16))
        self.weight = nn.Parameter(torch.zeros(width, rank))


def test_what_a_constructor_may_say():
    check(Direct(12, heads=3), "heads·features/heads")
    check(Locals(5), "inner·features")
    check(Unpacked((7, 9)), "1·(height·width + 1)·WIDTH")
    check(Conditional(4, True), "8·width")
    check(Conditional(4, False), "width")
    check(Conditional(4, True), "(2·width if wide else width)", "bias")
    check(Child(4), "rows·columns")
    check(Grandchild(4), "rows·columns")
    check(Registered(5), "width·width")
    check(Annotated(5), "width·2")
    check(Scalar(), "1")
    check(Scalar(), "3", "bias")
    check(Logged(4, 6), "width")
    check(Rounded(40), "width·rank")


@pytest.mark.parametrize("build", [
    lambda rng: Direct(4 * rng.randint(1, 9), 4), lambda rng: Locals(rng.randint(1, 9)),
    lambda rng: Unpacked((rng.randint(1, 9), rng.randint(1, 9))),
    lambda rng: Conditional(rng.randint(1, 9), rng.random() < 0.5),
    lambda rng: Child(rng.randint(1, 9)), lambda rng: Rounded(rng.randint(1, 99)),
])
def test_random_sizes(build):
    rng = random.Random(0)
    for _ in range(10):
        assert_explained(build(rng))


# What only the parent knows

class Norm(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Growing(nn.Module):
    """Each block is wider than the one before."""

    def __init__(self, count=3):
        super().__init__()
        self.blocks = nn.ModuleList([Norm(10 * (index + 1)) for index in range(count)])


class Two(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.narrow = Norm(width)
        self.wide = Norm(width=4 * self.width, eps=1e-5)
        self.chain = nn.Sequential(Norm(self.width), nn.ReLU())


class Split(nn.Module):
    """Two sizes behind one name: which one cannot be told, so nothing is claimed."""

    def __init__(self, width, build):
        super().__init__()
        self.norms = nn.ModuleList([Norm(width), Norm(2 * width)])


def test_the_parent_says():
    for row in assert_explained(Growing()).rows:
        assert row.formula.startswith("width = ")
    table = assert_explained(Two(8))
    assert [row.count for row in table.rows] == [8, 32, 8]


def test_readings_that_disagree_claim_nothing():
    table = count_parameters(Split(4, None), strict=True)
    assert table.total == 12 and table.explained == 0
    assert all(row.formula.startswith("no formula for weight") for row in table.rows)


def test_the_default_of_an_argument_at_the_root_is_not_assumed():
    """`Norm(5)` may have been called with anything: its constructor keeps no number."""
    table = count_parameters(Norm(5), strict=True)
    assert table.explained == 0 and table.rows[0].formula == "no formula for weight: 5"


def test_a_changed_attribute_is_a_mismatch():
    layer = Locals(5)
    layer.features = 6
    row, = count_parameters(layer).rows
    assert row.formula == "rule for Locals gives 144, tensors hold 100" and not row.explained
    with pytest.raises(ValueError, match="rule for Locals gives 144, tensors hold 100"):
        count_parameters(layer, strict=True)


def test_a_swapped_tensor_is_a_mismatch():
    """The tensor is never asked for its size: another one in its place is seen."""
    layer = Registered(5)
    layer.weight = nn.Parameter(torch.zeros(5, 6))
    assert count_parameters(layer).rows[0].formula == \
        "rule for Registered gives 25, tensors hold 30"


class OfTheShape(nn.Module):
    def __init__(self, other):
        super().__init__()
        self.other = other
        self.weight = nn.Parameter(torch.zeros(other.shape))
        self.bias = nn.Parameter(torch.zeros_like(other))


def test_a_size_read_off_a_tensor_is_no_formula():
    layer = OfTheShape(torch.zeros(3, 4))
    assert formula(layer) is None and formula(layer, "bias") is None

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.weight = nn.Parameter(torch.zeros(self.first.weight.shape[0]))
            self.bias = nn.Parameter(torch.zeros(self.first.weight.size(0)))

    assert formula(Own()) is None and formula(Own(), "bias") is None


# Names that change: a wrong reading would accuse a tensor that is right

class Augmented(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        rows = width
        rows *= 3
        self.weight = nn.Parameter(torch.zeros(rows, width))


class Pyramid(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList()
        dim = width
        for _ in range(3):
            dim = dim * 2
            self.norms.append(Norm(dim))
        self.last = Norm(dim)


class Shadowed(nn.Module):
    def __init__(self, width, widths):
        super().__init__()
        self.width = width
        self.norms = nn.ModuleList()
        for width in widths:
            self.norms.append(Norm(width))


class Undecided(nn.Module):
    def __init__(self, width, choose):
        super().__init__()
        self.width = width
        rows = 2
        if choose():
            rows = 3
        self.weight = nn.Parameter(torch.zeros(rows, width))


class Either(nn.Module):
    def __init__(self, width, choose):
        super().__init__()
        self.width = width
        if choose():
            self.weight = nn.Parameter(torch.zeros(2, width))
        else:
            self.weight = nn.Parameter(torch.zeros(width))


def test_names_that_change():
    check(Augmented(4), "rows·width")
    for model in (Pyramid(4), Shadowed(4, [3, 5]), Undecided(4, lambda: False),
                  Either(4, lambda: True), Either(4, lambda: False)):
        table = count_parameters(model, strict=True)
        assert table.total == sum(p.numel() for p in model.parameters())
        assert not table.explained, str(table)


class Listed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(width)) for _ in range(3)])
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.ones(2, self.width))})
        self.mixed = nn.ParameterList([nn.Parameter(torch.ones(n)) for n in (1, 2)])


def test_lists_of_parameters():
    rows = {row.name: row for row in count_parameters(Listed(5), strict=True).rows}
    assert rows["scales"].count == 15 and rows["scales"].explained
    assert rows["named"].formula == "2·width = 2·5 = 10"
    assert rows["mixed"].count == 3 and not rows["mixed"].explained


# No source, and hostile constructors

def test_a_class_without_source():
    scope = {"nn": nn, "torch": torch}
    exec("class Typed(nn.Module):\n"
         "    def __init__(self, width):\n"
         "        super().__init__()\n"
         "        self.width = width\n"
         "        self.weight = nn.Parameter(torch.ones(width))\n", scope)
    table = count_parameters(scope["Typed"](7), strict=True)
    assert (table.total, table.explained) == (7, 0)
    assert table.rows[0].formula == "no formula for weight: 7"
    assert "explained by a checked formula: 0 %" in str(table)


CALLED = []


def side_effect(width):
    CALLED.append(width)
    return width


class SideEffects(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.zeros(side_effect(width)))
        self.bias = nn.Parameter(torch.zeros([side_effect(width)][0], print("called")))


def test_nothing_of_the_model_is_called():
    layer = SideEffects.__new__(SideEffects)
    nn.Module.__init__(layer)
    layer.width = 4
    layer.weight, layer.bias = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    CALLED.clear()
    table = count_parameters(layer)
    assert CALLED == [] and (table.total, table.explained) == (8, 0)


class Endless(nn.Module):
    def __init__(self, width):
        super().__init__()
        width = width
        size = size + 1 if False else (lambda: width)()  # noqa: F821, F841
        loop = [loop for loop in (width, width)]
        self.weight = nn.Parameter(torch.zeros(sum(loop)))


class SelfMade(nn.Module):
    """Its constructor calls itself with a size that never ends."""

    def __init__(self, width, depth=0):
        super().__init__()
        if depth < 2:
            self.inner = SelfMade(width + 1, depth + 1)
        self.weight = nn.Parameter(torch.zeros(width))


def test_endless_readings_end():
    layer = Endless.__new__(Endless)
    nn.Module.__init__(layer)
    layer.weight = nn.Parameter(torch.zeros(3))
    assert count_parameters(layer, strict=True).total == 3
    table = count_parameters(SelfMade(3), strict=True)
    assert table.total == 3 + 4 + 5


class Guarded(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(self.width))

    @property
    def width(self):
        raise RuntimeError("this property must not break the counting")


def test_a_property_that_raises():
    layer = Guarded.__new__(Guarded)
    nn.Module.__init__(layer)
    layer.weight = nn.Parameter(torch.zeros(3))
    table = count_parameters(layer, strict=True)
    assert (table.total, table.explained) == (3, 0)


class Enormous(nn.Module):
    """A number that would take memory and hours to work out."""

    def __init__(self):
        super().__init__()
        self.power = 10
        self.weight = nn.Parameter(torch.zeros(9 ** 9 ** 9 if False else 3))
        self.bias = nn.Parameter(torch.zeros(len(range(10 ** 12)) if False else 3))


class Powers(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(9 ** 9 ** 9 ** 9))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len("x" * 10 ** 11)))


@pytest.mark.parametrize("kind", [Powers, Text])
def test_enormous_numbers_are_not_worked_out(kind):
    layer = kind.__new__(kind)
    nn.Module.__init__(layer)
    layer.weight = nn.Parameter(torch.zeros(3))
    assert count_parameters(layer).explained == 0


def test_a_branch_not_taken_is_not_read():
    assert_explained(Enormous())


def test_a_torch_layer_has_no_constructor_formula():
    assert formula(nn.Linear(2, 3)) is None and formula(nn.ReLU()) is None


# Pieces of transformers

TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 99,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def tiny(architecture, **options):
    kind = getattr(transformers, architecture)
    with torch.device("meta"):
        return kind(kind.config_class(**options))


@pytest.mark.parametrize("architecture, options", [
    ("LlamaForCausalLM", TINY), ("MistralForCausalLM", TINY), ("Qwen3ForCausalLM", TINY),
    ("GemmaForCausalLM", TINY), ("Gemma2ForCausalLM", TINY), ("OlmoForCausalLM", TINY),
    ("MixtralForCausalLM", TINY | {"num_local_experts": 3, "num_experts_per_tok": 2}),
    ("Qwen3MoeForCausalLM", TINY | {"num_experts": 3, "num_experts_per_tok": 2,
                                    "moe_intermediate_size": 20}),
    ("GptOssForCausalLM", TINY | {"num_local_experts": 3, "num_experts_per_tok": 2}),
    ("DeepseekV3ForCausalLM", TINY | {
        "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 20,
        "q_lora_rank": 12, "kv_lora_rank": 10, "qk_rope_head_dim": 4, "v_head_dim": 6,
        "qk_nope_head_dim": 6}),
    ("GPT2LMHeadModel", {"n_embd": 24, "n_layer": 2, "n_head": 2, "vocab_size": 99}),
    ("BertModel", {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2,
                   "intermediate_size": 40, "vocab_size": 99}),
    ("T5ForConditionalGeneration", {"d_model": 24, "num_layers": 2, "vocab_size": 99, "d_kv": 4,
                                    "num_heads": 3, "d_ff": 40}),
    ("MambaForCausalLM", {"hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 99,
                          "state_size": 4}),
    ("ViTModel", {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2,
                  "image_size": 32, "patch_size": 8, "intermediate_size": 40}),
    ("BloomModel", {"hidden_size": 24, "n_head": 2, "n_layer": 2, "vocab_size": 99}),
])
def test_models_of_transformers(architecture, options):
    table = assert_explained(tiny(architecture, **options))
    kinds = {row.kind for row in table.rows}
    if "moe" in architecture.lower() or "num_local_experts" in options:
        assert any("Experts" in kind for kind in kinds) and table.active < table.total


def test_fused_experts_in_the_terms_of_the_configuration():
    model = tiny("MixtralForCausalLM", **TINY, num_local_experts=3, num_experts_per_tok=2)
    row = next(row for row in count_parameters(model).rows if row.kind == "MixtralExperts")
    assert row.count == 3 * (2 * 48 * 32 + 32 * 48) and row.active == row.count * 2 // 3
    assert row.formula == (
        "num_experts·2·intermediate_dim·hidden_dim + num_experts·hidden_dim·intermediate_dim = "
        "3·2·48·32 + 3·32·48 = 13,824")


def test_a_norm_whose_width_only_the_parent_knows():
    model = tiny("LlamaForCausalLM", **TINY)
    row = next(row for row in count_parameters(model).rows if row.kind == "LlamaRMSNorm")
    assert row.formula == "hidden_size = 32" and row.count == 32


def test_router():
    model = tiny("Qwen3MoeForCausalLM", **TINY, num_experts=6, num_experts_per_tok=2,
                 moe_intermediate_size=20)
    row = next(row for row in count_parameters(model).rows if "Router" in row.kind)
    assert row.count == 6 * 32 and row.active == row.count and row.explained
