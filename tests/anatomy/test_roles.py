"""Roles of layers against numbers derived by hand from configurations and papers."""
import csv
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from course_lib.anatomy.parameters import count_parameters  # noqa: E402
from course_lib.anatomy.roles import RoleReport, plot_roles, role_shares  # noqa: E402

transformers = pytest.importorskip("transformers")

TRUTH = Path(__file__).parents[1] / "truth" / "roles.csv"
ROLES = ("input", "hidden", "output")


def on_meta(architecture, **options):
    """A model of transformers without weights."""
    model = getattr(transformers, architecture)
    with torch.device("meta"):
        return model(model.config_class(**options))


def owned(report):
    return tuple(report[role].own for role in ROLES)


def bert_block(d):
    """Four projections with biases, a feed-forward of four times the width, two norms."""
    return 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d


def llama_block(d, inner, kv):
    return 2 * d * d + 2 * d * kv + 3 * d * inner + 2 * d


BLOCK = bert_block(768)
assert 12 * BLOCK == 85_054_464  # the blocks of BERT-base, GPT-2 and ViT-B
BERT_INPUT = (30_522 + 512 + 2) * 768 + 2 * 768
POOLER = 768 * 768 + 768


def mlp():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


@pytest.mark.parametrize("row", csv.DictReader(TRUTH.open()), ids=lambda row: row["model"])
def test_truth_table(row):
    model = {"GPT-2 124M": "gpt2", "MLP 784-128-10": mlp()}[row["model"]]
    report = role_shares(model)
    assert owned(report) == tuple(int(row[role]) for role in ROLES)
    assert report["output"].shared == int(row["shared_with_output"])


T5_BLOCKS = 12 * (4 * 512**2 + 2 * 512 * 2048 + 2 * 512) + 6 * (4 * 512**2 + 512)
TRANSFORMERS = {
    "BertModel": ({}, (BERT_INPUT, 12 * BLOCK, POOLER), 0),
    "BertForSequenceClassification": (
        {"num_labels": 3}, (BERT_INPUT, 12 * BLOCK, POOLER + 3 * 769), 0),
    # dense, its norm and the vocabulary's bias are owned; the decoder is the word embedding
    "BertForMaskedLM": (
        {}, (BERT_INPUT, 12 * BLOCK, POOLER + 2 * 768 + 30_522), 30_522 * 768),
    "GPT2Model": ({}, ((50_257 + 1_024) * 768, 12 * BLOCK + 2 * 768, 0), 0),
    "GPT2ForSequenceClassification": (
        {"num_labels": 2}, ((50_257 + 1_024) * 768, 12 * BLOCK + 2 * 768, 2 * 768), 0),
    "LlamaForCausalLM": (
        {"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
         "num_hidden_layers": 32, "num_key_value_heads": 8},
        (128_256 * 4096, 32 * llama_block(4096, 14_336, 1024) + 4096, 128_256 * 4096), 0),
    "MixtralForCausalLM": (  # 8 experts of 3 matrices and a router in place of one feed-forward
        {"vocab_size": 32_000},
        (32_000 * 4096, 32 * (llama_block(4096, 8 * 14_336, 1024) + 8 * 4096) + 4096,
         32_000 * 4096), 0),
    "ViTForImageClassification": (  # 197 positions, a class token, 16 x 16 x 3 pixels a patch
        {"num_labels": 1000},
        ((197 + 1) * 768 + 768 * 768 + 768, 12 * BLOCK + 2 * 768, 1000 * 769), 0),
    "T5ForConditionalGeneration": (  # one embedding for three; 32 x 8 distances in two stacks
        {"vocab_size": 32_128}, (32_128 * 512, T5_BLOCKS + 2 * 512 + 2 * 32 * 8, 0),
        32_128 * 512),
    "XLMRobertaModel": (
        {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1},
        ((250_002 + 514 + 1 + 2) * 768, 12 * BLOCK, POOLER), 0),
    "AlbertModel": (  # words of width 128, projected to 4,096; one block for all
        {}, ((30_000 + 512 + 2 + 2) * 128 + 128 * 4096 + 4096, bert_block(4096),
             4096 * 4096 + 4096), 0),
    "DistilBertForMaskedLM": (
        {}, ((30_522 + 512 + 2) * 768, 6 * BLOCK, POOLER + 2 * 768 + 30_522), 30_522 * 768),
    "OPTForCausalLM": (  # 350M: words of width 512, projected to 1,024 and back; no final norm
        {"hidden_size": 1024, "word_embed_proj_dim": 512, "num_hidden_layers": 2, "ffn_dim": 4096,
         "num_attention_heads": 16, "do_layer_norm_before": False},
        (50_272 * 512 + 2_050 * 1024 + 512 * 1024, 2 * bert_block(1024), 1024 * 512),
        50_272 * 512),
    "ElectraModel": (  # small: words of width 128 and a projection to 256
        {}, ((30_522 + 512 + 2 + 2) * 128 + 128 * 256 + 256, 12 * bert_block(256), 0), 0),
}


@pytest.mark.parametrize("architecture", TRANSFORMERS)
def test_transformers_by_hand(architecture):
    options, expected, shared = TRANSFORMERS[architecture]
    report = role_shares(on_meta(architecture, **options))
    assert owned(report) == expected
    assert report["output"].shared == shared
    assert report["input"].shared == report["hidden"].shared == 0


def test_xlm_r_word_embedding_is_most_of_the_model():
    table = count_parameters("xlm-roberta-base")
    words = max(table.rows, key=lambda row: row.count)
    assert (words.count, words.role, table.total) == (192_001_536, "input", 278_043_648)


def test_clip_has_two_inputs_and_two_projections():
    report = role_shares(on_meta("CLIPModel"))
    text = (49_408 + 77) * 512
    image = 768 + 50 * 768 + 768 * 3 * 32 * 32 + 2 * 768  # class, positions, patches, their norm
    assert report["input"].own == text + image
    assert report["output"].own == 512 * 512 + 512 * 768 + 1  # and the temperature
    assert report["hidden"].own == 12 * (bert_block(512) + BLOCK) + 2 * 512 + 2 * 768


def test_siglip_reads_its_answer_off_with_attention():
    report = role_shares(on_meta("SiglipModel"))
    pooling = 768 + 4 * (768 * 768 + 768) + 2 * 768 + 2 * 768 * 3072 + 3072 + 768
    assert report["output"].own == pooling + (768 * 768 + 768) + 2  # and the text's; two scalars


def test_a_projection_among_the_embeddings_is_input():
    rows = count_parameters(on_meta("VisualBertModel", num_hidden_layers=1)).rows
    assert {row.role for row in rows if row.name.startswith("embeddings")} == {"input"}


def test_whisper_hears_with_hidden_convolutions():
    report = role_shares("whisper-tiny")
    assert report["input"].own == (51_865 + 448 + 1_500) * 384
    assert (report["output"].own, report["output"].shared) == (0, 51_865 * 384)


@pytest.mark.parametrize("name, total, width", [
    ("resnet18", 11_689_512, 512), ("resnet50", 25_557_032, 2048),
    ("mobilenet-v2", 3_504_872, 1280), ("vgg16", 138_357_544, 4096), ("alexnet", 61_100_840, 4096)])
def test_stem_of_a_convolutional_network_is_hidden(name, total, width):
    report = role_shares(name)
    assert owned(report) == (0, total - 1000 * (width + 1), 1000 * (width + 1))


def test_headless_networks_have_no_output():
    assert role_shares(on_meta("ResNetModel"))["output"].own == 0
    assert role_shares(nn.LSTM(8, 16, 2))["output"].own == 0
    assert role_shares(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))["output"].own == 0
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2), 2)
    assert owned(role_shares(encoder))[0::2] == (0, 0)


def test_rotary_and_relative_tables_are_hidden():
    rows = count_parameters(on_meta("LlamaModel", num_hidden_layers=1)).rows
    assert all(row.role == "hidden" for row in rows if "rotary" in row.name)
    rows = count_parameters(on_meta("T5Model", num_layers=1)).rows
    assert [row.role for row in rows if "relative" in row.name] == ["hidden", "hidden"]


class Classifier(nn.Module):
    """A recurrent network that is registered in an unusual order."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(1000, 32)
        self.lstm = nn.LSTM(32, 64)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(64, 5)


def test_lstm_classifier():
    gates = 4 * 64 * (32 + 64 + 2)
    assert owned(role_shares(Classifier())) == (32_000, gates, 5 * 65)


def test_layers_in_a_list():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(8, 4), nn.Linear(4, 2)])

    assert owned(role_shares(Net())) == (0, 36, 10)


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.mix, self.norm = nn.Linear(d, d), nn.LayerNorm(d)


class NanoGPT(nn.Module):
    """The layout of nanoGPT: a tied head beside a dictionary of modules."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(100, 8), "wpe": nn.Embedding(16, 8),
            "h": nn.ModuleList([Block(8), Block(8)]), "ln_f": nn.LayerNorm(8)})
        self.lm_head = nn.Linear(8, 100, bias=False)
        self.transformer.wte.weight = self.lm_head.weight


class TimmViT(nn.Module):
    """Names as timm writes them, with parameters of the model itself."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.patch_embed = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)


def test_networks_of_others():
    block = 8 * 8 + 8 + 16
    report = role_shares(NanoGPT())
    assert owned(report) == (116 * 8, 2 * block + 16, 0) and report["output"].shared == 800
    assert owned(role_shares(TimmViT())) == (6 * 8 + 8 * 48 + 8, 2 * block + 16, 27)


def test_several_heads():
    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 8)
            self.policy_head = nn.Linear(8, 2)
            self.value_head = nn.Linear(8, 1)

    assert owned(role_shares(Agent())) == (0, 40, 18 + 9)


def test_own_head_behind_a_transformer():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = on_meta("BertModel", num_hidden_layers=1)
            self.tags = nn.Linear(768, 9)

    assert owned(role_shares(Tagger())) == (BERT_INPUT, BLOCK, POOLER + 9 * 769)


def test_vision_pooler_in_front_of_a_language_model_is_not_the_end():
    report = role_shares(on_meta("Gemma3ForConditionalGeneration", text_config={
        "num_hidden_layers": 1}))
    words = report["output"].shared
    assert report["output"].own == 0 and words == 262_208 * 2304


def test_adapters_keep_the_roles():
    peft = pytest.importorskip("peft")
    plain = role_shares("gpt2")
    config = peft.LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True)
    with torch.device("meta"):
        model = peft.get_peft_model(on_meta("GPT2LMHeadModel"), config)
    report = role_shares(model)
    assert report["hidden"].own == plain["hidden"].own + 12 * 8 * (768 + 2304)
    assert report["hidden"].trainable == report.trainable == 294_912
    assert report["input"].own == plain["input"].own
    assert report["output"].shared == 38_597_376


def test_saved_modules_of_an_adapter_are_output():
    peft = pytest.importorskip("peft")
    with torch.device("meta"):
        model = peft.get_peft_model(
            on_meta("BertForSequenceClassification", num_hidden_layers=1),
            peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    assert role_shares(model)["output"].own == POOLER + 2 * (2 * 769)  # kept and trained copy


def test_frozen_parts_are_counted_and_not_trained():
    model = mlp()
    model[0].requires_grad_(False)
    report = role_shares(model)
    assert report["hidden"].own == 100_480 and report["hidden"].trainable == 0
    assert report.trainable == report["output"].trainable == 1_290


def test_keras_networks():
    keras = pytest.importorskip("keras")
    twin = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128),
                             keras.layers.Dense(10)])
    assert owned(role_shares(twin)) == (0, 100_480, 1_290)
    text = keras.Sequential([
        keras.Input((None,), dtype="int32"), keras.layers.Embedding(1000, 32),
        keras.layers.Bidirectional(keras.layers.LSTM(64)), keras.layers.Dense(2)])
    gates = 2 * 4 * 64 * (32 + 64 + 1)
    assert owned(role_shares(text)) == (32_000, gates, 2 * 129)


def test_keras_applications():
    keras = pytest.importorskip("keras")
    report = role_shares("keras:ResNet50")
    assert owned(report) == (0, 25_636_712 - 2_049_000, 2_049_000)
    body = keras.applications.ResNet50(weights=None, include_top=False)
    assert owned(role_shares(body)) == (0, 25_636_712 - 2_049_000, 0)


def save(path, tensors):
    from safetensors.torch import save_file
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path)
    return path


BERT_FILE = {
    "bert.embeddings.word_embeddings.weight": (50, 8),
    "bert.embeddings.LayerNorm.weight": (8,),
    "bert.encoder.layer.0.attention.output.dense.weight": (8, 8),
    "bert.encoder.layer.10.output.dense.weight": (8, 8),
    "bert.pooler.dense.weight": (8, 8), "classifier.weight": (2, 8), "classifier.bias": (2,)}
VGG_FILE = {"features.0.weight": (4, 3, 3, 3), "classifier.0.weight": (16, 4),
            "classifier.3.weight": (16, 16), "classifier.6.weight": (10, 16)}
LLAMA_FILE = {"model.embed_tokens.weight": (50, 8), "model.layers.0.mlp.up_proj.weight": (32, 8),
              "model.norm.weight": (8,), "lm_head.weight": (50, 8)}
GPT2_FILE = {"wte.weight": (50, 8), "wpe.weight": (16, 8), "h.0.attn.c_attn.weight": (8, 24),
             "h.0.mlp.c_proj.weight": (32, 8), "ln_f.weight": (8,)}
RESNET_FILE = {"resnet.embedder.embedder.convolution.weight": (64, 3, 7, 7),
               "resnet.embedder.embedder.normalization.running_mean": (64,),
               "classifier.1.weight": (10, 64)}
T5_FILE = {"shared.weight": (50, 8), "decoder.block.0.layer.0.SelfAttention.q.weight": (8, 8),
           "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 2)}


@pytest.mark.parametrize("tensors, expected", [
    (BERT_FILE, (408, 128, 64 + 16 + 2)), (VGG_FILE, (0, 108 + 64 + 256, 160)),
    (LLAMA_FILE, (400, 256 + 8, 400)), (GPT2_FILE, (528, 192 + 256 + 8, 0)),
    (RESNET_FILE, (0, 9_408, 640)), (T5_FILE, (400, 64 + 64, 0)),
    ({"fc1.weight": (4, 3), "fc2.weight": (4, 4), "fc10.weight": (2, 4)}, (0, 28, 8))],
    ids=["bert", "vgg", "llama", "gpt2", "resnet", "t5", "plain"])
def test_a_file_is_read_by_its_names(tmp_path, tensors, expected):
    path = save(tmp_path / "model.safetensors", tensors)
    assert owned(role_shares(path)) == expected


@pytest.mark.parametrize("name", ["gpt2", "t5-small", "bert-base-uncased", "llama-3-8b"])
def test_shares_add_up(name):
    report = role_shares(name)
    assert sum(owned(report)) == report.total
    assert sum(part.share for part in report) == pytest.approx(1)
    assert sum(part.share_tie_as_output for part in report) == pytest.approx(1)


def test_tie_counted_as_output():
    report = role_shares("gpt2")
    assert report["output"].share_tie_as_output == pytest.approx(38_597_376 / 124_439_808)
    assert report["input"].share_tie_as_output == pytest.approx(1_024 * 768 / 124_439_808)


def test_report_shows_itself():
    report = role_shares("gpt2")
    assert "38,597,376" in str(report) and "also counted as output" in str(report)
    assert "also counted as output" not in str(role_shares(mlp()))
    assert json.loads(report.to_json())["roles"]["hidden"]["own"] == 85_056_000
    assert report["input"].trainable == 39_383_808
    with pytest.raises(KeyError, match="input, hidden, output"):
        report["head"]


def test_a_table_is_as_good_as_a_model():
    assert role_shares(count_parameters("gpt2")).to_dict() == role_shares("gpt2").to_dict()


def test_an_empty_network_has_no_shares():
    report = role_shares(nn.Sequential(nn.ReLU()))
    assert isinstance(report, RoleReport) and owned(report) == (0, 0, 0)
    assert [part.share for part in report] == [0, 0, 0]


def test_bad_input_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match="model"):
        role_shares(3)
    with pytest.raises(ValueError, match="gpt2"):
        role_shares("gpt-22")
    with pytest.raises(ValueError, match="at least one report"):
        plot_roles({})


def test_figure_marks_what_is_tied():
    figure = plot_roles({"GPT-2": role_shares("gpt2"), "MLP": role_shares(mlp())})
    axes = figure.axes[0]
    widths = [patch.get_width() for patch in axes.patches if patch.get_hatch()]
    assert widths == pytest.approx([100 * 38_597_376 / 124_439_808, 0])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["input", "hidden", "output", "input, also used as output"]
    assert axes.get_xlabel() == "share of all parameters (%)"


def test_the_heads_of_attention_are_no_output():
    keras = pytest.importorskip("keras")
    inputs = keras.Input((6, 16))
    x = keras.layers.MultiHeadAttention(2, 8)(inputs, inputs)
    shares = role_shares(keras.Model(inputs, keras.layers.Dense(2)(x)))
    assert shares["output"].own == 16 * 2 + 2
    assert shares["hidden"].own == 4 * (16 * 16 + 16)
