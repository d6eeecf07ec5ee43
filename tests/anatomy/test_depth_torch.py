"""Depth of torch models: the truth table, derivations, every kind of layer, and bad input."""

import csv
import math
from pathlib import Path

import pytest
import torch
import transformers
from random_networks import as_graph, in_torch, program
from torch import nn
from torch.nn.utils import prune
from work import calls

from course_lib.anatomy import builders
from course_lib.anatomy.depth import CreditPath, measure_depth

TRUTH = Path(__file__).parents[1] / "truth" / "depth.csv"
BUILT = {
    "MLP 784-128-10": (lambda: builders.mlp([784, 128, 10]), (1, 784)),
    "LeNet-5 (modern)": (builders.lenet5, (1, 1, 32, 32)),
    "AlexNet": (builders.alexnet, (1, 3, 224, 224)),
    "VGG16": (lambda: builders.vgg(16), (1, 3, 224, 224)),
}
IDS = torch.zeros(1, 8, dtype=torch.long)
LLAMA = {"vocab_size": 128256, "hidden_size": 16384, "intermediate_size": 53248,
         "num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8}


def truth():
    with TRUTH.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if "keras.applications" != row["source"]]


def setting(text):
    key, value = text.split("=")
    if "," in value:
        return key, [int(number) for number in value.split(",")]
    return key, int(value) if value.isdigit() else value


def from_config(name, dtype=torch.float32, **settings):
    model = getattr(transformers, name)
    with torch.device("meta"):
        return model._from_config(model.config_class(**settings), dtype=dtype)


def inputs_for(model):
    if model.main_input_name == "pixel_values":
        size = getattr(model.config, "image_size", 224)
        return {"pixel_values": torch.zeros(1, 3, size, size)}
    extra = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    return {"input_ids": IDS, **extra}


def build(row):
    if row["source"].startswith("transformers."):
        settings = {} if row["config"] == "default" else dict(map(setting, row["config"].split()))
        model = from_config(row["source"].split(".")[1], **settings)
        return model, inputs_for(model)
    make, shape = BUILT[row["model"]]
    with torch.device("meta"):
        return make(), torch.zeros(shape)


@pytest.mark.parametrize("row", truth(), ids=lambda row: row["model"])
def test_truth_table(row):
    report = measure_depth(*build(row))
    for key in ("weighted", "with_parameters", "blocks", "shortest", "paths"):
        if row[key]:
            assert getattr(report, key) == int(row[key]), key
    if row["mean"]:
        assert report.mean == float(row["mean"])
    assert report.hidden == report.weighted - 1 == len(report.witness) - 1
    assert report.credit_path == CreditPath(0, report.weighted)
    assert sum(report.path_lengths.values()) == report.paths


def test_all_rows_of_the_truth_table_are_known():
    assert len(truth()) == 12


def test_resnet50_paths_are_binomial():
    # 16 blocks of 3 convolutions; 4 of them with a convolution on the shortcut; stem and head
    report = measure_depth(*build(next(row for row in truth() if row["model"] == "ResNet-50")))
    expected = {}
    for plain in range(13):
        for convolved in range(5):
            n = 2 + 3 * plain + 3 * convolved + (4 - convolved)
            expected[n] = expected.get(n, 0) + math.comb(12, plain) * math.comb(4, convolved)
    assert report.path_lengths == dict(sorted(expected.items()))


@pytest.mark.parametrize("name,factor", [("LlamaForCausalLM", (3, 2)), ("GPT2LMHeadModel", (1, 1))])
def test_transformer_paths_follow_from_their_blocks(name, factor):
    # a block is (1 + heads x^2)(1 + ways x^2): query, key, value before the output projection
    model = from_config(name, num_hidden_layers=3)
    heads, ways = factor
    assert measure_depth(model, {"input_ids": IDS}).paths == ((1 + heads) * (1 + ways)) ** 3


@pytest.mark.parametrize("name", ["BertModel", "LlamaForCausalLM", "T5ForConditionalGeneration"])
def test_the_attention_implementation_changes_operations_only(name):
    reports = []
    for attention in ("eager", "sdpa"):
        model = getattr(transformers, name)
        with torch.device("meta"):
            model = model._from_config(model.config_class(), attn_implementation=attention)
        reports.append(measure_depth(model, inputs_for(model)))
    eager, sdpa = reports
    assert (eager.attention, sdpa.attention) == ("eager", "sdpa")
    for key in ("weighted", "with_parameters", "blocks", "nonlinear", "path_lengths", "witness"):
        assert getattr(eager, key) == getattr(sdpa, key), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("experts", ["eager", "grouped_mm", "batched_mm"])
def test_the_experts_implementation_changes_nothing_and_is_put_back(dtype, experts):
    config = transformers.MixtralConfig(num_hidden_layers=2)
    with torch.device("meta"):
        model = transformers.MixtralForCausalLM._from_config(
            config, dtype=dtype, experts_implementation=experts)
    report = measure_depth(model, {"input_ids": IDS})
    # a block is (1 + 3x^2)(1 + x + x^2 + x^3): the router weighs, and it chooses the rows
    assert (report.weighted, report.paths) == (2 + 2 * 5, (4 * 4) ** 2)
    assert model.config._experts_implementation == experts


def test_real_and_meta_tensors_agree():
    config = transformers.MixtralConfig(vocab_size=90, num_hidden_layers=2, hidden_size=32,
                                        intermediate_size=64, num_attention_heads=4,
                                        num_key_value_heads=2)
    real = measure_depth(transformers.MixtralForCausalLM(config), {"input_ids": IDS})
    with torch.device("meta"):
        model = transformers.MixtralForCausalLM(config)
    meta = measure_depth(model, {"input_ids": IDS})
    assert real.path_lengths == meta.path_lengths and real.nonlinear == meta.nonlinear
    assert "meta" in meta.framework and "meta" not in real.framework


class Sequence(nn.Module):
    def __init__(self, recurrent, width=8):
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(10, 8), recurrent
        self.head = nn.Linear(width, 2)

    def forward(self, ids):
        return self.head(self.recurrent(self.embedding(ids))[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_stacked_recurrent_layers(kind, layers, device):
    model = Sequence(kind(8, 8, layers, batch_first=True)).to(device)
    report = measure_depth(model, torch.zeros(2, 6, dtype=torch.long))
    assert report.credit_path == CreditPath(1, layers - 1 + 2)      # T + n - 1, embedding, head
    assert report.weighted == report.with_parameters == report.keras_table == layers + 2
    assert report.paths == 1


def test_bidirectional_recurrent_layers():
    model = Sequence(nn.LSTM(8, 8, 2, bidirectional=True, batch_first=True), 16)
    report = measure_depth(model, torch.zeros(2, 6, dtype=torch.long))
    assert str(report.credit_path) == "2·T + 2" and report.credit_path(100) == 202
    assert report.paths == 4 and report.keras_table == 6


def test_packed_sequences_and_projections():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = nn.LSTM(3, 8, 2, proj_size=4)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 2]))
            out, _ = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0])
            return self.head(out)
    report = measure_depth(Packed(), torch.zeros(4, 2, 3))
    assert str(report.credit_path) == "T + 2"


def test_a_final_state_starts_a_new_count():
    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.GRU(3, 8), nn.GRU(3, 8)

        def forward(self, source, target):
            return self.decoder(target, self.encoder(source)[1])[0]
    report = measure_depth(Translator(), (torch.zeros(5, 1, 3), torch.zeros(4, 1, 3)))
    assert str(report.credit_path) == "2·T" and report.weighted == 2


def test_a_cell_in_a_loop_is_unrolled():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(8, 8)

        def forward(self, x):
            state = None
            for step in x:
                state = self.cell(step, state)
            return state[0]
    report = measure_depth(Loop(), torch.zeros(6, 2, 8))
    assert report.weighted == report.with_parameters == report.nonlinear == 6
    assert report.keras_table == 1


def test_attention_module_has_three_parallel_projections():
    class Attention(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True, **options)

        def forward(self, x, memory):
            return self.attention(x, memory, memory)[0]
    for options in ({}, {"kdim": 12, "vdim": 12}):
        memory = torch.zeros(1, 4, options.get("kdim", 16))
        report = measure_depth(Attention(**options), (torch.zeros(1, 3, 16), memory))
        assert (report.weighted, report.with_parameters, report.paths) == (2, 2, 3)
        assert report.nonlinear == 1 and report.witness[-1] == "attention.out_proj"


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder_in_eval_and_in_train_mode(norm_first):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    assert torch.backends.mha.get_fastpath_enabled()
    for mode in (True, False):
        report = measure_depth(model.train(mode), torch.zeros(1, 5, 32))
        assert (report.weighted, report.blocks, report.with_parameters) == (12, 3, 18)
        assert report.paths == (4 * 2) ** 3 and report.nonlinear == 12
        assert model.training is mode
    assert torch.backends.mha.get_fastpath_enabled()


def test_encoder_and_decoder():
    report = measure_depth(nn.Transformer(32, 4, 2, 3, 64, batch_first=True),
                           (torch.zeros(1, 5, 32), torch.zeros(1, 6, 32)))
    # the longest path skips the decoder's first self-attention: it enters by the keys
    assert report.weighted == 2 * 4 + (6 - 2) + 2 * 6 and report.blocks == 5


class Dense(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4 * (i + 1), 4) for i in range(layers))

    def forward(self, x):
        seen = [x]
        for layer in self.layers:
            seen.append(torch.relu(layer(torch.cat(seen, -1))))
        return torch.cat(seen, -1)


def test_dense_connections_are_binomial():
    report = measure_depth(Dense(6), torch.zeros(1, 4))
    assert report.path_lengths == {k: math.comb(6, k) for k in range(7)}
    assert report.blocks is None and report.nonlinear == 6


def test_shared_layers_count_at_each_use_and_once_as_layers():
    layer = nn.Linear(4, 4)
    report = measure_depth(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), layer),
                           torch.zeros(1, 4))
    assert (report.weighted, report.nonlinear, report.keras_table) == (3, 2, 1)
    assert report.witness == ["0", "0", "0"]


def parametrized():
    wrap = nn.utils.parametrizations
    return nn.Sequential(wrap.weight_norm(nn.Linear(4, 4)), nn.ReLU(),
                         wrap.spectral_norm(nn.Linear(4, 4)), wrap.orthogonal(nn.Linear(4, 4)))


def pruned():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4))
    for index in (0, 2):
        prune.l1_unstructured(model[index], "weight", 0.5)
    return model


@pytest.mark.filterwarnings("ignore")
def quantized():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4))
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [parametrized, pruned, quantized])
def test_rewritten_weights_are_still_weights(make):
    report = measure_depth(make(), torch.zeros(1, 4))
    assert (report.weighted, report.with_parameters, report.keras_table) == (3, 3, 3)
    assert report.nonlinear == 1 and report.witness == ["0", "2", "3"]


def test_lora_adds_a_longer_way_around():
    peft = pytest.importorskip("peft")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=100,
                                     bos_token_id=1, eos_token_id=1)
    plain = measure_depth(transformers.GPT2LMHeadModel(config), {"input_ids": IDS})
    model = peft.get_peft_model(transformers.GPT2LMHeadModel(config), peft.LoraConfig(
        r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    lora = measure_depth(model, {"input_ids": IDS})
    assert plain.weighted == 10 and lora.weighted == 12 and lora.blocks == 2
    assert plain.paths == 2 ** 4 and lora.paths == (3 * 2) ** 2    # c_attn, or A and then B


def test_parameters_used_without_a_layer():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.randn(4, 8))
            self.bias = nn.Parameter(torch.randn(8))
            self.second = nn.Parameter(torch.randn(8, 2))
            self.activation = nn.GELU()

        def forward(self, x):
            return self.activation(x @ self.first + self.bias) @ self.second
    report = measure_depth(Raw(), torch.zeros(3, 4))
    assert (report.weighted, report.with_parameters, report.nonlinear) == (2, 2, 1)
    assert report.witness == ["first", "second"]


def test_activation_written_out_is_one_and_products_are_gates():
    assert measure_depth(transformers.activations.NewGELUActivation(),
                         torch.zeros(1, 4)).nonlinear == 1

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up = nn.Linear(4, 8), nn.Linear(4, 8)

        def forward(self, x):
            return nn.functional.silu(self.gate(x)) * self.up(x)
    report = measure_depth(Gated(), torch.zeros(1, 4))
    assert (report.nonlinear, report.weighted, report.paths) == (2, 1, 2)


def test_masks_and_positions_begin_no_path():
    config = transformers.BertConfig(num_hidden_layers=2)
    with torch.device("meta"):
        model = transformers.BertModel(config)
    alone = measure_depth(model, {"input_ids": IDS})
    masked = measure_depth(model, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS),
                                   "position_ids": IDS})
    assert alone.path_lengths == masked.path_lengths
    # RoBERTa makes its positions from the ids it compares with the padding id
    roberta = from_config("RobertaModel", num_hidden_layers=2)
    assert measure_depth(roberta, {"input_ids": IDS}).path_lengths == alone.path_lengths


def two_layers():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, torch.jit.script,
                                  lambda model: torch.jit.trace(model, torch.zeros(1, 4))])
def test_wrapped_models(wrap):
    report = measure_depth(wrap(two_layers()), torch.zeros(1, 4))
    assert (report.weighted, report.keras_table, report.nonlinear) == (2, 2, 1)
    assert [name.split(".")[-2] if "weight" in name else name.split(".")[-1]
            for name in report.witness] == ["0", "2"]


def test_less_common_layers():
    bag = nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 2))
    assert measure_depth(bag, torch.zeros(2, 3, dtype=torch.long)).weighted == 2
    images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 3), nn.PReLU())
    report = measure_depth(images, torch.zeros(1, 3, 8, 8))
    assert (report.weighted, report.with_parameters, report.nonlinear) == (2, 3, 1)
    report = measure_depth(nn.Bilinear(3, 4, 5), (torch.zeros(1, 3), torch.zeros(1, 4)))
    assert (report.weighted, report.paths) == (1, 2)


def test_learned_queries_begin_no_path():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries, self.project = nn.Parameter(torch.ones(1, 2, 4)), nn.Linear(4, 4)
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, x):
            return self.attention(self.project(self.queries), x, x)[0]
    report = measure_depth(Reader(), torch.zeros(1, 3, 4))
    assert report.path_lengths == {2: 2}             # by the keys or by the values
    assert report.keras_table == 6                   # queries, project, q, k, v, output


def test_in_place_operations_and_views():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.a(x)
            y += self.b(y.view(-1, 4)).relu_()
            out = torch.zeros(2, 8)
            out[:, :4] = y
            return out[:, 2:]
    report = measure_depth(InPlace(), torch.zeros(2, 4))
    assert report.path_lengths == {1: 1, 2: 1} and report.nonlinear == 1


class Decides(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else self.fc(self.fc(x))


def test_decisions_on_data():
    assert measure_depth(Decides(), torch.ones(1, 4)).weighted == 1
    assert measure_depth(Decides(), -torch.ones(1, 4)).weighted == 2
    with torch.device("meta"):
        unreal = Decides()
        assert measure_depth(unreal, torch.ones(1, 4)).weighted == 2         # tried with zeros
        huge = Decides(40_000)
    assert measure_depth(unreal, torch.ones(1, 4)).weighted == 1             # with the real input
    with pytest.raises(ValueError, match="1,600,000,000 parameters are too many to make up"):
        measure_depth(huge, torch.ones(1, 40_000))


def test_choosing_rows_by_their_values_on_meta():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y, rows = self.fc(x), (x[:, 0] > 0).nonzero()[:, 0]
            return y.index_add(0, rows, self.fc(y)[rows])
    assert measure_depth(Chooses().to("meta"), torch.ones(2, 4)).path_lengths == {1: 1, 2: 1}


def test_a_model_is_left_as_it_was():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4, max_norm=0.1)
            self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout()
            self.register_buffer("calls", torch.zeros(1))
            self.fails = False

        def forward(self, ids):
            self.calls += 1
            x = self.drop(self.norm(self.table(ids))) + torch.rand(4)
            if self.fails:
                raise KeyError("on purpose")
            return x
    model = Counter()
    model.norm.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    for fails in (False, True):
        model.fails = fails
        if fails:
            with pytest.raises(ValueError, match="layer 'Counter' .*KeyError.*on purpose"):
                measure_depth(model, torch.tensor([0, 1]))
        else:
            measure_depth(model, torch.tensor([0, 1]))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.equal(state, torch.get_rng_state())
        assert model.training and not model.norm.training and model.table.max_norm == 0.1
        hooks = torch.nn.modules.module
        assert not hooks._global_forward_hooks and not hooks._global_forward_pre_hooks


def bad(message, model, inputs=None, error=ValueError):
    with pytest.raises(error, match=message) as caught:
        measure_depth(model, inputs)
    assert "\n" not in str(caught.value)


def test_bad_input():
    bad("layer without weights yet .0.weight.", nn.Sequential(nn.LazyLinear(3)), torch.ones(1, 4))
    bad("inputs must be a tensor, an array, a shape", nn.Linear(2, 2), "text", TypeError)
    bad(r"layer '1' \(Linear\) raised RuntimeError on inputs float32 \(1, 4\)",
        nn.Sequential(nn.Linear(4, 2), nn.Linear(3, 1)), torch.ones(1, 4))
    bad("Embedding.*float32", nn.Embedding(4, 3), torch.ones(1, 3))
    bad("inputs without a tensor", nn.Linear(2, 2), {})
    bad("no output of model depends", type("Constant", (nn.Module,), {
        "forward": lambda self, x: torch.ones(2)})(), torch.ones(1))
    bad("its forward pass returned none", type("Nothing", (nn.Module,), {
        "forward": lambda self, x: None})(), torch.ones(1))


def test_llama_405b_with_all_statistics():
    """Work that grows with the depth and no faster; `benchmarks` measures how long it takes."""
    work = {}
    for layers in (21, 126):
        model = from_config("LlamaForCausalLM", **LLAMA | {"num_hidden_layers": layers})
        report, work[layers] = calls(lambda model=model: measure_depth(model, {"input_ids": IDS}))
        assert (report.weighted, report.blocks, report.paths) == (
            4 * layers + 2, layers, 12 ** layers)
    assert work[126] < 6.3 * work[21]


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_random_networks(seed, device):
    lines = program(seed)
    expected, report = measure_depth(as_graph(lines)), measure_depth(
        in_torch(lines).to(device), torch.zeros(2, 4))
    for key in ("weighted", "with_parameters", "nonlinear", "path_lengths"):
        assert getattr(report, key) == getattr(expected, key), (key, lines)


def test_a_forward_in_inference_mode_is_as_deep():
    class Decorated(nn.TransformerEncoderLayer):
        @torch.inference_mode()
        def forward(self, x):
            return super().forward(x)

    shape = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}
    report = measure_depth(Decorated(**shape), torch.ones(2, 4, 8))
    assert (report.weighted, report.paths) == (4, 8)  # query, key or value, or around; then the MLP
