"""`count_parameters`: the published totals, tables that balance, and the mistakes of other tools.

Expected totals come from tests/truth (papers, model cards), from torch's own count of distinct
parameters, or are worked out beside the test. torchinfo is run beside us where it goes wrong.
"""
import csv
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch.nn.utils import prune  # noqa: E402
from torch import nn  # noqa: E402

from course_lib.anatomy.parameters import count_parameters  # noqa: E402

TRUTH = list(csv.DictReader((Path(__file__).parents[1] / "truth" / "parameters.csv").open()))
BUILDERS = {"LeNet-5 (1998 paper)": "lenet5-1998", "LeNet-5 (modern ReLU/max-pool)": "lenet5",
            "AlexNet (one-column torchvision layout)": "alexnet",
            "AlexNet (2012 grouped convolutions)": "alexnet-2012", "VGG11": "vgg11",
            "VGG16": "vgg16"}


def distinct(model):
    """Elements of the distinct parameters of a torch model."""
    return sum(tensor.numel() for tensor in {id(t): t for t in model.parameters()}.values())


def on_meta(architecture, **config):
    """A model of transformers with no weights in memory."""
    kind = getattr(transformers, architecture)
    with torch.device("meta"):
        return kind(kind.config_class(**config))


def numbers(text):
    """`a=1 b=2,3` of the truth table as keyword arguments."""
    parts = dict(part.split("=") for part in text.split()) if "=" in text else {}
    if "num_labels" in parts:
        parts["num_labels"] = int(parts["num_labels"])
    return {key: value if not str(value).replace(",", "").isdigit() else
            ([int(one) for one in value.split(",")] if "," in value else int(value))
            for key, value in ((key, str(value)) for key, value in parts.items())}


def model_of(row):
    """The network that a line of the truth table is about."""
    if row["source"].startswith("transformers."):
        return on_meta(row["source"].split(".")[1], **numbers(row["config"]))
    if row["source"] == "peft":
        peft = pytest.importorskip("peft")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return peft.get_peft_model(on_meta("GPT2LMHeadModel"), peft.LoraConfig(
                r=8, target_modules=["c_attn"], fan_in_fan_out=True))
    return BUILDERS[row["model"]]


@pytest.mark.parametrize("row", [row for row in TRUTH if row["source"] != "keras.applications"],
                         ids=lambda row: row["model"])
def test_truth_table(row):
    table = count_parameters(model_of(row), strict=True)
    assert (table.total, table.trainable) == (int(row["total"]), int(row["trainable"]))
    assert table.explained >= 0.99 and int(table) == table.total


# Where other tools go wrong

def torchinfo_total(model):
    return pytest.importorskip("torchinfo").summary(model, verbose=0).total_params


def test_tied_weights_are_owned_once():
    model = on_meta("GPT2LMHeadModel")
    assert torchinfo_total(model) == 163_037_184  # 124,439,808 + 50,257·768 once more
    table = count_parameters(model, strict=True)
    assert table.total == 124_439_808
    head = next(row for row in table.rows if row.name == "lm_head")
    assert (head.count, head.shared, head.tied_to) == (0, 50257 * 768, "transformer.wte.weight")


def test_one_embedding_shared_three_ways():
    model = on_meta("T5ForConditionalGeneration", vocab_size=32128)
    assert torchinfo_total(model) == 109_855_232  # three more copies of the embedding
    table = count_parameters(model, strict=True)
    assert table.total == distinct(model) == 60_506_624
    owner, *users = [row for row in table.rows if 32128 * 512 in (row.count, row.shared)]
    assert owner.count == 32128 * 512 and all(user.count == 0 for user in users)
    notes = " ".join(owner.notes)
    assert users or ("encoder.embed_tokens" in notes and "decoder.embed_tokens" in notes)


class Positions(nn.Module):
    def __init__(self, length=16, width=8):
        super().__init__()
        self.length, self.width = length, width
        self.position = nn.Parameter(torch.zeros(length, width))
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return self.fc(x + self.position)


def test_a_parameter_of_the_root_is_counted():
    table = count_parameters(Positions(), strict=True)
    root = table.rows[0]
    assert (root.count, root.name, table.total) == (16 * 8, "", 16 * 8 + 8 * 8 + 8)
    assert root.formula == "length·width = 16·8 = 128"
    assert "parameters of the model itself" in root.notes and "(model)" in str(table)


@pytest.mark.parametrize("layer", [nn.MultiheadAttention(8, 2), nn.LSTM(3, 5), nn.GRU(3, 5)],
                         ids=lambda layer: type(layer).__name__)
def test_layers_that_summaries_count_as_nothing(layer):
    """lightning and fvcore have no rule for these; the elements are there all the same."""
    table = count_parameters(nn.Sequential(layer))
    assert table.total == distinct(layer) > 0 and table.explained == 1


def test_a_reused_module_is_counted_once():
    shared = nn.Linear(10, 10)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), shared)
    table = count_parameters(model)
    assert table.total == 110 and len(table.rows) == 1
    assert table.rows[0].notes == ("also used as 2", "also used as 4")
    assert "also used as 2" in str(table)


def test_one_tensor_under_two_names_of_a_module():
    layer = nn.Module()
    layer.first = layer.second = nn.Parameter(torch.zeros(7))
    assert count_parameters(layer).total == 7


def test_total_is_not_only_what_is_trained():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    table = count_parameters(model)
    assert (table.total, table.trainable, table.frozen) == (40, 20, 20)


def test_one_frozen_tensor_of_a_module():
    layer = nn.Linear(4, 3)
    layer.bias.requires_grad_(False)
    table = count_parameters(layer)
    assert (table.total, table.trainable, table.frozen) == (15, 12, 3)
    assert table.rows[0].trainable == 12 and table.table().rows[0][5] == "12"


def test_buffers_stand_apart():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    table = count_parameters(model)
    assert (table.total, table.buffers) == (3 * 8 * 9 + 2 * 8, 2 * 8 + 1)
    assert table.stored == sum(t.numel() for t in model.state_dict().values())


def test_one_buffer_under_two_names():
    model = nn.Module()
    model.register_buffer("first", torch.zeros(7))
    model.register_buffer("second", model.first)
    assert count_parameters(model).buffers == 7


def test_a_row_of_buffers_only_says_so():
    model = nn.Module()
    model.register_buffer("mask", torch.zeros(32, 32), persistent=False)
    table = count_parameters(model)
    assert table.rows[0].formula == "no parameters; 1,024 buffer elements (not saved)"
    assert (table.total, table.buffers, table.stored) == (0, 1024, 0)
    assert table.explained == 1.0 and table.rows[0].explained
    model.register_buffer("scale", torch.zeros(6))
    assert count_parameters(model).rows[0].formula == \
        "no parameters; 1,030 buffer elements (1,024 of them not saved)"
    row = count_parameters(nn.BatchNorm1d(4, affine=False)).rows[0]
    assert row.formula == "no parameters; 9 buffer elements"


def test_pruned_weights_stay_and_torchinfo_loses_them():
    layer = nn.Linear(20, 10)
    prune.random_unstructured(layer, "weight", amount=0.5)
    table = count_parameters(layer, strict=True)
    assert table.total == 210 and table.buffers == 200 and table.stored == 410
    assert torchinfo_total(layer) == 110  # what the mask lets through, not what is there


def test_weight_normalised_layers_keep_both_factors():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(20, 10))
    row, = count_parameters(layer, strict=True).rows
    assert row.count == 10 * 20 + 10 + 10  # direction, magnitude, bias
    assert set(row.shape) == {"bias", "parametrizations.weight.original0",
                              "parametrizations.weight.original1"}


def test_quantised_weights_are_not_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(20, 10)))
    assert torchinfo_total(model) == 0 == distinct(model)
    table = count_parameters(model, strict=True)
    assert (table.total, table.trainable, table.bytes) == (210, 0, 200 + 4 * 10)
    assert table.bytes_by_dtype == {"qint8": 200, "float32": 40}


@pytest.mark.parametrize("layer", [nn.LazyLinear(3), nn.LazyConv2d(3, 3), nn.LazyBatchNorm1d()],
                         ids=lambda layer: type(layer).__name__)
def test_a_lazy_module_is_never_nothing(layer):
    with pytest.raises(ValueError, match="lazy.*run one batch through the model first") as caught:
        count_parameters(nn.Sequential(nn.Flatten(), layer))
    assert "\n" not in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not isinstance(layer, nn.LazyBatchNorm1d):
            assert torchinfo_total(nn.Sequential(layer)) == 0


def test_a_lazy_module_once_called():
    model = nn.Sequential(nn.LazyLinear(3))
    model(torch.zeros(2, 5))
    assert count_parameters(model, strict=True).total == 5 * 3 + 3


@pytest.mark.parametrize("architecture, config, active", [
    ("MixtralForCausalLM", {"vocab_size": 32000}, 12_879_925_248),
    ("DeepseekV3ForCausalLM", {}, 37_552_282_624),
])
def test_active_parameters(architecture, config, active):
    table = count_parameters(on_meta(architecture, **config), strict=True)
    assert table.active == active and f"active per token {active:,}" in str(table)


def test_unknown_active_is_said_to_be_unknown():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))

    table = count_parameters(Experts())
    assert table.active is None and "active per token: unknown" in str(table)
    assert count_parameters(nn.Linear(2, 3)).active == 9


def test_wrapped_models():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    expected = 4 * 3 + 3 + 3 * 2 + 2
    for wrapped in (torch.compile(model), nn.DataParallel(model), torch.fx.symbolic_trace(model)):
        assert count_parameters(wrapped, strict=True).total == expected
        assert count_parameters(wrapped).explained == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert count_parameters(torch.jit.script(model), strict=True).total == expected


def test_counting_changes_nothing_and_runs_nothing():
    class Stubborn(nn.Linear):
        def forward(self, x):
            raise AssertionError("count_parameters must not run the model")

    layer = Stubborn(3, 4)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state = torch.random.get_rng_state()
    assert count_parameters(layer).total == 16
    assert torch.equal(state, torch.random.get_rng_state()) and layer.training
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


# Tables that balance

def u_net():
    """Nested containers: a list of dictionaries of sequences, a tied pair, a frozen part."""
    down = nn.ModuleList(nn.ModuleDict({"conv": nn.Sequential(
        nn.Conv2d(2 ** i, 2 ** (i + 1), 3, groups=2 ** i), nn.BatchNorm2d(2 ** (i + 1)))})
        for i in range(3))
    model = nn.ModuleDict({"down": down, "head": nn.Linear(8, 8), "tail": nn.Linear(8, 8)})
    model["tail"].weight = model["head"].weight
    down[0].requires_grad_(False)
    return model.half()


MODELS = {
    "GPT-2": lambda: on_meta("GPT2LMHeadModel"),
    "T5": lambda: on_meta("T5ForConditionalGeneration", vocab_size=32128),
    "BERT": lambda: on_meta("BertForMaskedLM"),
    "ALBERT": lambda: on_meta("AlbertModel"),
    "ResNet": lambda: on_meta("ResNetForImageClassification"),
    "ViT": lambda: on_meta("ViTForImageClassification"),
    "Mixtral": lambda: on_meta("MixtralForCausalLM", vocab_size=32000),
    "Swin": lambda: on_meta("SwinModel"), "Whisper": lambda: on_meta("WhisperModel"),
    "Mamba": lambda: on_meta("MambaForCausalLM"), "CLIP": lambda: on_meta("CLIPModel"),
    "Transformer": lambda: nn.Transformer(16, 2, 2, 2, 32), "u-net": u_net,
    "MLP": lambda: nn.Sequential(nn.Linear(784, 128), nn.Sigmoid(), nn.Linear(128, 10)),
}


@pytest.fixture(scope="module", params=MODELS)
def counted(request):
    model = MODELS[request.param]()
    return model, count_parameters(model, strict=True)


def test_totals_against_torch(counted):
    model, table = counted
    parameters = list({id(t): t for t in model.parameters()}.values())
    buffers = list({id(t): t for t in model.buffers()}.values())
    assert table.total == sum(t.numel() for t in parameters)
    assert table.trainable == sum(t.numel() for t in parameters if t.requires_grad)
    assert table.buffers == sum(t.numel() for t in buffers)
    assert table.bytes == sum(t.numel() * t.element_size() for t in parameters)
    assert sum(table.bytes_by_dtype.values()) == table.bytes
    saved = {id(t): t for t in model.state_dict(keep_vars=True).values()}
    assert table.stored == sum(t.numel() for t in saved.values())
    assert table.trainable + table.frozen == table.total and table.explained >= 0.99


def test_each_tensor_is_owned_once(counted):
    model, table = counted
    owned = sum(row.count for row in table.rows)
    assert owned == table.total
    assert math.isclose(sum(table.share(row) for row in table.rows), 1, abs_tol=1e-9)
    assert all(row.count >= 0 and 0 <= table.share(row) <= 1 for row in table.rows)
    for row in table.rows:
        assert row.count + row.shared == sum(
            tensor.numel() for tensor in model.get_submodule(row.name)._parameters.values()
            if tensor is not None)
        assert (row.tied_to is None) == (row.shared == 0)


@pytest.mark.parametrize("by", ["kind", "role", "level", "block", "dtype"])
def test_groups_add_up(counted, by):
    _, table = counted
    grouped = table.group(by)
    assert sum(grouped.to_dict().values()) == table.total
    assert sum(line[2] for line in grouped.table().rows) == table.total
    assert sum(line[1] for line in grouped.table().rows) == len(table.rows)
    assert sum(line[4] for line in grouped.table().rows) == table.trainable


def test_levels_refine_each_other(counted):
    _, table = counted
    for level in (1, 2, 3, 9):
        assert sum(table.group("level", level=level).to_dict().values()) == table.total


def test_folding_loses_nothing(counted):
    _, table = counted
    printed = table.table()
    assert sum(line[3] for line in printed.rows) == table.total
    assert len(printed.rows) <= len(table.rows)
    assert f"total {table.total:,}" in str(table)


def test_conversions(counted):
    _, table = counted
    plain = json.loads(table.to_json())
    assert plain == json.loads(json.dumps(table.to_dict()))
    for name in ("total", "trainable", "frozen", "buffers", "stored", "active", "bytes",
                 "explained"):
        assert plain[name] == getattr(table, name)
    assert sum(row["count"] for row in plain["rows"]) == table.total
    frame = table.to_dataframe()
    assert len(frame) == len(table.rows) and frame["count"].sum() == table.total
    assert {"name", "kind", "role", "formula", "shape", "count", "trainable", "dtype",
            "tied_to"} <= set(frame.columns)
    lines = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table.table().rows)
    widths = {line.replace("\\|", "").count("|") for line in lines}
    assert widths == {len(table.table().headers) + 1}
    assert table._repr_html_().count("<tr>") == 1 + len(table.table().rows)


def test_every_row_says_why(counted):
    _, table = counted
    for row in table.rows:
        assert row.formula and row.role in ("input", "hidden", "output")
        if row.count and row.explained:
            number = row.formula.split("; tied")[0].rpartition(" ")[2]
            assert int(number.replace(",", "")) == row.count


def test_repeated_blocks_are_folded():
    table = count_parameters("gpt2")
    text = str(table.group("block"))
    assert "12 × GPT2Block" in text and table.group("block").to_dict()["GPT2Block"] == 85_054_464
    names = [line[0] for line in table.table().rows]
    assert "transformer.h.0…11.attn.c_attn" in names and len(names) < 25
    resnet = count_parameters("resnet50").group("block")
    assert sum(resnet.to_dict().values()) == 25_557_032


def test_a_grouping_that_is_none():
    with pytest.raises(ValueError, match="by must be one of kind, role, level, block, dtype"):
        count_parameters(nn.Linear(2, 2)).group("colour")


# Bad input, and what is loaded

@pytest.mark.parametrize("thing", [None, 3, {}, [nn.Linear(2, 2)], nn.Linear, object()])
def test_not_a_model(thing):
    with pytest.raises(TypeError) as caught:
        count_parameters(thing)
    assert "\n" not in str(caught.value)


def test_a_model_without_parameters():
    table = count_parameters(nn.Sequential(nn.ReLU(), nn.Flatten()))
    assert (table.total, table.rows, table.explained) == (0, [], 1.0)
    assert "total 0" in str(table)


def test_a_wide_and_a_deep_model():
    with torch.device("meta"):
        deep = nn.Sequential(*(nn.Linear(10, 10) for _ in range(5000)))
        tower = nn.Linear(3, 3)
        for _ in range(300):
            tower = nn.Sequential(tower)
    assert count_parameters(deep).total == 5000 * 110
    assert len(count_parameters(deep).table().rows) == 2  # the last one is the output
    assert count_parameters(tower, strict=True).total == 12


def test_a_checkpoint_needs_no_framework(tmp_path):
    save = pytest.importorskip("safetensors.torch").save_file
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    save(model.state_dict(), tmp_path / "model.safetensors")
    code = ("import sys; from course_lib.anatomy.parameters import count_parameters as c; "
            f"t = c({str(tmp_path / 'model.safetensors')!r}); "
            "assert t.total == 23 and t.explained == 0, t; "
            "assert not {'torch', 'tensorflow', 'numpy', 'pandas', 'matplotlib', 'transformers'} "
            "& set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkpoint_leaves_unknown_what_it_does_not_say(tmp_path):
    from safetensors.torch import save_file
    save_file(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict(),
              tmp_path / "m.safetensors")
    table = count_parameters(tmp_path / "m.safetensors")
    assert table.total == (3 * 2 + 2) + (2 + 2)
    assert table.stored == table.total + 2 + 2 + 1  # running mean, running variance, counter
    assert (table.trainable, table.frozen, table.buffers, table.active) == (None,) * 4
    assert "trainable unknown" in str(table) and table.group("role").to_dict()
    with pytest.raises(ValueError, match="does not say which"):
        table.plot("trainable")
    from course_lib import compare
    assert compare(table, table).trainable_difference is None


def test_a_checkpoint_holds_what_its_model_holds(tmp_path):
    from course_lib import compare
    from safetensors.torch import save_file
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    for pair in ((model, tmp_path / "m.safetensors"), (tmp_path / "m.safetensors", model)):
        comparison = compare(*pair)
        assert comparison.difference == 0 and comparison.reasons == []
