"""Write course_lib/_data/models.json: the configurations of well-known models.

    python data/models/generate.py            writes the file
    python data/models/generate.py --check    exits with 1 when the file differs

A row gives the name that people type, the size that its makers published, other names under which
it is known, and the configuration where it differs from the defaults of transformers. Only what
decides shape and depth is given (widths, layers, heads, vocabulary, activations, ties), not
dropout rates or token ids. Standard library and course_lib.core only.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "course_lib" / "_data" / "models.json"
MODELS: dict[str, dict] = {}

HUB = "the model's hub page, counted there from the safetensors headers"
PAPER = "the paper"
CARD = "the model card"
TORCHVISION = "documentation of torchvision's models (num_params)"
# The type of the published weights; float32 where nothing is said.
BF16, FP16 = {"dtype": "bfloat16"}, {"dtype": "float16"}


class Family:
    """Models that share an architecture, a source, and part of their configuration."""

    def __init__(self, model_type, architecture, source, published_in=PAPER, untied=None, **common):
        self.fixed = {"model_type": model_type, "architecture": architecture, "source": source}
        if untied:  # layers whose weight is their own although transformers ties it on building
            self.fixed["untied"] = untied
        self.published_in, self.common = published_in, common

    def __call__(self, name, published, *aliases, published_in=None, **config):
        if name in MODELS:
            raise ValueError(f"{name!r} is listed twice")
        MODELS[name] = self.fixed | {
            "config": self.common | config,
            "aliases": list(aliases),
            "published": published,
            "published_in": published_in or self.published_in,
        }


def builder(name, function, arguments, published, source, published_in=PAPER, aliases=()):
    """A network that transformers lacks, built by course_lib.anatomy.builders."""
    MODELS[name] = {"builder": function, "arguments": arguments, "source": source,
                    "aliases": list(aliases), "published": published, "published_in": published_in}


# ---- built by course_lib.anatomy.builders -----------------------------------------------------
LECUN = "LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86(11), 1998"
builder("lenet5", "lenet5", [], 61_706, LECUN + ", in today's parts", aliases=["lenet"],
        published_in="textbooks: full convolutions and a linear output")
builder("lenet5-1998", "lenet5_1998", [], 60_840, LECUN,
        published_in="the paper: 60,000 trainable, and 840 fixed weights at the output")
builder("alexnet", "alexnet", [], 61_100_840, "Krizhevsky 2014, arXiv:1404.5997", TORCHVISION)
builder("alexnet-2012", "alexnet_2012", [], "60M", "Krizhevsky, Sutskever, Hinton, NeurIPS 2012",
        "the paper, abstract")
builder("mlp-784-128-10", "mlp", [[784, 128, 10]], 101_770, "one hidden layer on 28 x 28 digits",
        "784·128 + 128 + 128·10 + 10")
for layers, size in ((11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)):
    builder(f"vgg{layers}", "vgg", [layers], size, "Simonyan, Zisserman 2014, arXiv:1409.1556",
            TORCHVISION)

# ---- encoders: the bare encoder with its pooler, as their papers count ------------------------
bert = Family("bert", "BertModel", "Devlin et al. 2018, arXiv:1810.04805")
large = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
bert("bert-base-uncased", "110M", "google-bert/bert-base-uncased", "bert-base", "bert")
bert("bert-base-cased", "110M", "google-bert/bert-base-cased", vocab_size=28996)
bert("bert-base-chinese", "103M", "google-bert/bert-base-chinese", published_in=CARD,
     vocab_size=21128)
bert("bert-base-multilingual-cased", "179M", "google-bert/bert-base-multilingual-cased",
     published_in=CARD, vocab_size=119547)
bert("bert-large-uncased", "340M", "google-bert/bert-large-uncased", "bert-large", **large)
bert("bert-large-cased", "340M", "google-bert/bert-large-cased", vocab_size=28996, **large)
Family("distilbert", "DistilBertModel", "Sanh et al. 2019, arXiv:1910.01108")(
    "distilbert-base-uncased", "66M", "distilbert/distilbert-base-uncased", "distilbert")

roberta = Family("roberta", "RobertaModel", "Liu et al. 2019, arXiv:1907.11692", vocab_size=50265,
                 max_position_embeddings=514, type_vocab_size=1)
roberta("roberta-base", "125M", "FacebookAI/roberta-base", published_in="the fairseq README")
roberta("roberta-large", "355M", "FacebookAI/roberta-large", published_in="the fairseq README",
        **large)
xlmr = Family("xlm-roberta", "XLMRobertaModel", "Conneau et al. 2019, arXiv:1911.02116",
              vocab_size=250002, max_position_embeddings=514, type_vocab_size=1)
xlmr("xlm-roberta-base", "270M", "FacebookAI/xlm-roberta-base", "xlm-r-base")
xlmr("xlm-roberta-large", "550M", "FacebookAI/xlm-roberta-large", "xlm-r-large", **large)

albert = Family("albert", "AlbertModel", "Lan et al. 2019, arXiv:1909.11942", embedding_size=128)
albert("albert-base-v2", "12M", "albert/albert-base-v2", hidden_size=768, num_attention_heads=12,
       intermediate_size=3072)
albert("albert-large-v2", "18M", "albert/albert-large-v2", hidden_size=1024,
       num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
albert("albert-xlarge-v2", "60M", "albert/albert-xlarge-v2", hidden_size=2048,
       num_hidden_layers=24, num_attention_heads=16, intermediate_size=8192)
albert("albert-xxlarge-v2", "235M", "albert/albert-xxlarge-v2", hidden_size=4096,
       num_hidden_layers=12, num_attention_heads=64, intermediate_size=16384)

electra = Family("electra", "ElectraModel", "Clark et al. 2020, arXiv:2003.10555")
electra("electra-small-discriminator", "14M", "google/electra-small-discriminator",
        "electra-small")
electra("electra-base-discriminator", "110M", "google/electra-base-discriminator", "electra-base",
        embedding_size=768, hidden_size=768, num_attention_heads=12, intermediate_size=3072)
electra("electra-large-discriminator", "335M", "google/electra-large-discriminator",
        "electra-large", embedding_size=1024, **large)

deberta = Family("deberta-v2", "DebertaV2Model", "He, Gao, Chen 2021, arXiv:2111.09543", CARD,
                 vocab_size=128100, type_vocab_size=0, max_position_embeddings=512,
                 relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"],
                 position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True,
                 max_relative_positions=-1)
deberta("deberta-v3-xsmall", "70M", "microsoft/deberta-v3-xsmall", hidden_size=384,
        num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
deberta("deberta-v3-small", "142M", "microsoft/deberta-v3-small", hidden_size=768,
        num_hidden_layers=6, num_attention_heads=12, intermediate_size=3072)
deberta("deberta-v3-base", "184M", "microsoft/deberta-v3-base", "deberta-base", hidden_size=768,
        num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
deberta("deberta-v3-large", "435M", "microsoft/deberta-v3-large", **large)

# ---- encoder-decoders -------------------------------------------------------------------------
t5 = Family("t5", "T5ForConditionalGeneration", "Raffel et al. 2019, arXiv:1910.10683")
t5_base = dict(d_model=768, d_ff=3072, num_layers=12, num_heads=12)
t5_large = dict(d_model=1024, d_ff=4096, num_layers=24, num_heads=16)
t5("t5-small", "60M", "google-t5/t5-small")
t5("t5-base", "220M", "google-t5/t5-base", **t5_base)
t5("t5-large", "770M", "google-t5/t5-large", **t5_large)
t5("t5-3b", "2.8B", "google-t5/t5-3b", **t5_large | dict(d_kv=128, d_ff=16384, num_heads=32))
t5("t5-11b", "11B", "google-t5/t5-11b", **t5_large | dict(d_kv=128, d_ff=65536, num_heads=128))

# The checkpoints of T5 1.1 and mT5 hold an output head of their own; transformers 5 ties the head
# whenever it builds a T5, and unties it only when it loads such a checkpoint.
v1_1 = dict(feed_forward_proj="gated-gelu", untied=["lm_head"])
gated = {  # the sizes of T5 1.1, from its release notes
    "small": dict(d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6),
    "base": dict(d_model=768, d_ff=2048, num_layers=12, num_heads=12),
    "large": dict(d_model=1024, d_ff=2816, num_layers=24, num_heads=16),
    "xl": dict(d_model=2048, d_ff=5120, num_layers=24, num_heads=32),
    "xxl": dict(d_model=4096, d_ff=10240, num_layers=24, num_heads=64),
}
flan = Family("t5", "T5ForConditionalGeneration", "Chung et al. 2022, arXiv:2210.11416",
              tie_word_embeddings=False, **v1_1)
for size, published in zip(gated, ("80M", "250M", "780M", "3B", "11B")):
    flan(f"flan-t5-{size}", published, f"google/flan-t5-{size}", **gated[size])
mt5 = Family("mt5", "MT5ForConditionalGeneration", "Xue et al. 2020, arXiv:2010.11934",
             vocab_size=250112, **v1_1)
for size, published in zip(gated, ("300M", "580M", "1.2B", "3.7B", "13B")):
    mt5(f"mt5-{size}", published, f"google/mt5-{size}", **gated[size])

bart = Family("bart", "BartForConditionalGeneration", "Lewis et al. 2019, arXiv:1910.13461",
              "the fairseq README")
bart("bart-base", "140M", "facebook/bart-base", d_model=768, encoder_layers=6, decoder_layers=6,
     encoder_attention_heads=12, decoder_attention_heads=12, encoder_ffn_dim=3072,
     decoder_ffn_dim=3072)
bart("bart-large", "400M", "facebook/bart-large")
Family("pegasus", "PegasusForConditionalGeneration", "Zhang et al. 2019, arXiv:1912.08777")(
    "pegasus-large", "568M", "google/pegasus-large", vocab_size=96103, encoder_layers=16,
    decoder_layers=16, max_position_embeddings=1024)

# ---- GPT and its first heirs ------------------------------------------------------------------
Family("openai-gpt", "OpenAIGPTLMHeadModel", "Radford et al. 2018, Improving language "
       "understanding by generative pre-training")(
    "openai-gpt", "117M", "openai-community/openai-gpt", "gpt",
    published_in="the paper on GPT-2, table 2")
gpt2 = Family("gpt2", "GPT2LMHeadModel", "Radford et al. 2019, Language models are unsupervised "
              "multitask learners", CARD)
gpt2("gpt2", "124M", "openai-community/gpt2", "gpt2-small")
gpt2("gpt2-medium", "355M", "openai-community/gpt2-medium", n_layer=24, n_embd=1024, n_head=16)
gpt2("gpt2-large", "774M", "openai-community/gpt2-large", n_layer=36, n_embd=1280, n_head=20)
gpt2("gpt2-xl", "1.5B", "openai-community/gpt2-xl", n_layer=48, n_embd=1600, n_head=25)
gpt2("distilgpt2", "82M", "distilbert/distilgpt2", published_in=CARD, n_layer=6)

neo = Family("gpt_neo", "GPTNeoForCausalLM", "Black et al. 2021, doi:10.5281/zenodo.5297715", CARD)


def local_global(layers):
    """GPT-Neo alternates global and local attention."""
    return dict(num_layers=layers, attention_types=[[["global", "local"], layers // 2]])


neo("gpt-neo-125m", "125M", "EleutherAI/gpt-neo-125m", hidden_size=768, num_heads=12,
    **local_global(12))
neo("gpt-neo-1.3b", "1.3B", "EleutherAI/gpt-neo-1.3B", hidden_size=2048, num_heads=16,
    **local_global(24))
neo("gpt-neo-2.7b", "2.7B", "EleutherAI/gpt-neo-2.7B", hidden_size=2560, num_heads=20,
    **local_global(32))
Family("gptj", "GPTJForCausalLM", "Wang, Komatsuzaki 2021, mesh-transformer-jax", CARD)(
    "gpt-j-6b", "6.053B", "EleutherAI/gpt-j-6b", "gpt-j",
    published_in="the model card: 6,053,381,344")
Family("gpt_neox", "GPTNeoXForCausalLM", "Black et al. 2022, arXiv:2204.06745", CARD)(
    "gpt-neox-20b", 20_554_567_680, "EleutherAI/gpt-neox-20b", "gpt-neox")

pythia = Family("gpt_neox", "GPTNeoXForCausalLM", "Biderman et al. 2023, arXiv:2304.01373",
                "the model card, naming convention and parameter count",
                max_position_embeddings=2048, **FP16)
for name, published, hidden, layers, heads, vocabulary in (
    ("70m", 70_426_624, 512, 6, 8, 50304),
    ("160m", 162_322_944, 768, 12, 12, 50304),
    ("410m", 405_334_016, 1024, 24, 16, 50304),
    ("1b", 1_011_781_632, 2048, 16, 8, 50304),
    ("1.4b", 1_414_647_808, 2048, 24, 16, 50304),
    ("2.8b", 2_775_208_960, 2560, 32, 32, 50304),
    ("6.9b", 6_857_302_016, 4096, 32, 32, 50432),
    ("12b", 11_846_072_320, 5120, 36, 40, 50688),
):
    pythia(f"pythia-{name}", published, f"EleutherAI/pythia-{name}", vocab_size=vocabulary,
           hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
           intermediate_size=4 * hidden)

opt = Family("opt", "OPTForCausalLM", "Zhang et al. 2022, arXiv:2205.01068", **FP16)
for name, published, hidden, layers, heads in (
    ("125m", "125M", 768, 12, 12), ("350m", "331M", 1024, 24, 16), ("1.3b", "1.3B", 2048, 24, 32),
    ("2.7b", "2.7B", 2560, 32, 32), ("6.7b", "6.7B", 4096, 32, 32), ("13b", "13B", 5120, 40, 40),
    ("30b", "30B", 7168, 48, 56), ("66b", "66B", 9216, 64, 72),
):
    # The 350M model alone projects its embeddings up and normalises after each block.
    odd = dict(word_embed_proj_dim=512, do_layer_norm_before=False) if name == "350m" else {}
    opt(f"opt-{name}", published, f"facebook/opt-{name}", hidden_size=hidden,
        published_in=CARD if odd else PAPER, num_hidden_layers=layers, num_attention_heads=heads,
        ffn_dim=4 * hidden, **dict(word_embed_proj_dim=hidden) | odd)

bloom = Family("bloom", "BloomForCausalLM", "BigScience 2022, arXiv:2211.05100", CARD)
for name, published, hidden, layers, heads in (
    ("bloom-560m", 559_214_592, 1024, 24, 16), ("bloom-1b1", 1_065_314_304, 1536, 24, 16),
    ("bloom-1b7", 1_722_408_960, 2048, 24, 16), ("bloom-3b", 3_002_557_440, 2560, 30, 32),
    ("bloom-7b1", 7_069_016_064, 4096, 30, 32), ("bloom", 176_247_271_424, 14336, 70, 112),
):
    bloom(name, published, f"bigscience/{name}", *(["bloom-176b"] if name == "bloom" else []),
          hidden_size=hidden, n_layer=layers, n_head=heads)

falcon = Family("falcon", "FalconForCausalLM", "Almazrouei et al. 2023, arXiv:2311.16867", **BF16)
falcon("falcon-7b", "7B", "tiiuae/falcon-7b", vocab_size=65024, multi_query=True,
       parallel_attn=True, bias=False)
falcon("falcon-40b", "40B", "tiiuae/falcon-40b", vocab_size=65024, hidden_size=8192,
       num_hidden_layers=60, num_attention_heads=128, num_kv_heads=8,
       new_decoder_architecture=True, bias=False)

# ---- Llama and its kin ------------------------------------------------------------------------
llama1 = Family("llama", "LlamaForCausalLM", "Touvron et al. 2023, arXiv:2302.13971",
                "the paper, table 2", **FP16)
llama2 = Family("llama", "LlamaForCausalLM", "Touvron et al. 2023, arXiv:2307.09288", **FP16)
llama13b = dict(hidden_size=5120, intermediate_size=13824, num_hidden_layers=40,
                num_attention_heads=40, num_key_value_heads=40)
llama1("llama-7b", "6.7B", "huggyllama/llama-7b", "llama-1-7b")
llama1("llama-13b", "13.0B", "huggyllama/llama-13b", "llama-1-13b", **llama13b)
llama1("llama-30b", "32.5B", "huggyllama/llama-30b", "llama-1-33b", hidden_size=6656,
       intermediate_size=17920, num_hidden_layers=60, num_attention_heads=52,
       num_key_value_heads=52)
llama1("llama-65b", "65.2B", "huggyllama/llama-65b", "llama-1-65b", hidden_size=8192,
       intermediate_size=22016, num_hidden_layers=80, num_attention_heads=64,
       num_key_value_heads=64)
llama2("llama-2-7b", "7B", "meta-llama/Llama-2-7b-hf")
llama2("llama-2-13b", "13B", "meta-llama/Llama-2-13b-hf", **llama13b)
llama2("llama-2-70b", "70B", "meta-llama/Llama-2-70b-hf", hidden_size=8192,
       intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
       num_key_value_heads=8)

llama3 = Family("llama", "LlamaForCausalLM", "Dubey et al. 2024, arXiv:2407.21783", HUB,
                vocab_size=128256, **BF16)
llama8b = dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=8)
llama70b = dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                num_attention_heads=64, num_key_value_heads=8)
llama3("llama-3-8b", 8_030_261_248, "meta-llama/Meta-Llama-3-8B", max_position_embeddings=8192,
       **llama8b)
llama3("llama-3-70b", 70_553_706_496, "meta-llama/Meta-Llama-3-70B", max_position_embeddings=8192,
       **llama70b)
long = dict(max_position_embeddings=131072)
llama3("llama-3.1-8b", 8_030_261_248, "meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B",
       **llama8b | long)
llama3("llama-3.1-70b", 70_553_706_496, "meta-llama/Llama-3.1-70B",
       "meta-llama/Meta-Llama-3.1-70B", **llama70b | long)
llama3("llama-3.1-405b", 405_853_388_800, "meta-llama/Llama-3.1-405B",
       "meta-llama/Meta-Llama-3.1-405B", hidden_size=16384, intermediate_size=53248,
       num_hidden_layers=126, num_attention_heads=128, num_key_value_heads=8, **long)
llama3("llama-3.2-1b", 1_235_814_400, "meta-llama/Llama-3.2-1B", hidden_size=2048,
       intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, head_dim=64,
       num_key_value_heads=8, tie_word_embeddings=True, **long)
llama3("llama-3.2-3b", 3_212_749_824, "meta-llama/Llama-3.2-3B", hidden_size=3072,
       intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
       num_key_value_heads=8, tie_word_embeddings=True, **long)
llama3("llama-3.3-70b", 70_553_706_496, "meta-llama/Llama-3.3-70B-Instruct", **llama70b | long)
Family("llama", "LlamaForCausalLM", "Zhang et al. 2024, arXiv:2401.02385", HUB)(
    "tinyllama-1.1b", 1_100_048_384, "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama",
    hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
    num_key_value_heads=4)
smol = Family("llama", "LlamaForCausalLM", "Ben Allal et al. 2025, arXiv:2502.02737", HUB,
              vocab_size=49152, tie_word_embeddings=True, max_position_embeddings=8192,
              **BF16)
smol("smollm2-135m", 134_515_008, "HuggingFaceTB/SmolLM2-135M", hidden_size=576,
     intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3)
smol("smollm2-360m", 361_821_120, "HuggingFaceTB/SmolLM2-360M", hidden_size=960,
     intermediate_size=2560, num_hidden_layers=32, num_attention_heads=15, num_key_value_heads=5)
smol("smollm2-1.7b", 1_711_376_384, "HuggingFaceTB/SmolLM2-1.7B", hidden_size=2048,
     intermediate_size=8192, num_hidden_layers=24, num_attention_heads=32, num_key_value_heads=32)

mistral = Family("mistral", "MistralForCausalLM", "Jiang et al. 2023, arXiv:2310.06825", HUB,
                 **BF16)
mistral("mistral-7b", 7_241_732_096, "mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1")
mistral("mistral-7b-v0.3", 7_248_023_552, "mistralai/Mistral-7B-v0.3", vocab_size=32768,
        max_position_embeddings=32768)
mixtral = Family("mixtral", "MixtralForCausalLM", "Jiang et al. 2024, arXiv:2401.04088", HUB,
                 **BF16)
mixtral("mixtral-8x7b", 46_702_792_704, "mistralai/Mixtral-8x7B-v0.1",
        max_position_embeddings=32768)
mixtral("mixtral-8x22b", 140_620_634_112, "mistralai/Mixtral-8x22B-v0.1", hidden_size=6144,
        intermediate_size=16384, num_hidden_layers=56, num_attention_heads=48,
        max_position_embeddings=65536)

qwen25 = Family("qwen2", "Qwen2ForCausalLM", "Qwen Team 2024, arXiv:2412.15115", HUB, **BF16)
for name, published, hidden, inner, layers, heads, keys, vocabulary, tied in (
    ("0.5b", 494_032_768, 896, 4864, 24, 14, 2, 151936, True),
    ("1.5b", 1_543_714_304, 1536, 8960, 28, 12, 2, 151936, True),
    ("3b", 3_085_938_688, 2048, 11008, 36, 16, 2, 151936, True),
    ("7b", 7_615_616_512, 3584, 18944, 28, 28, 4, 152064, False),
    ("14b", 14_770_033_664, 5120, 13824, 48, 40, 8, 152064, False),
    ("32b", 32_763_876_352, 5120, 27648, 64, 40, 8, 152064, False),
    ("72b", 72_706_203_648, 8192, 29568, 80, 64, 8, 152064, False),
):
    qwen25(f"qwen2.5-{name}", published, f"Qwen/Qwen2.5-{name}", vocab_size=vocabulary,
           hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
           num_attention_heads=heads, num_key_value_heads=keys, tie_word_embeddings=tied)
qwen3 = Family("qwen3", "Qwen3ForCausalLM", "Qwen Team 2025, arXiv:2505.09388", CARD,
               vocab_size=151936, max_position_embeddings=40960, **BF16)
for name, published, hidden, inner, layers, heads, tied in (
    ("0.6b", "0.6B", 1024, 3072, 28, 16, True), ("1.7b", "1.7B", 2048, 6144, 28, 16, True),
    ("4b", "4.0B", 2560, 9728, 36, 32, True), ("8b", "8.2B", 4096, 12288, 36, 32, False),
    ("14b", "14.8B", 5120, 17408, 40, 40, False), ("32b", "32.8B", 5120, 25600, 64, 64, False),
):
    qwen3(f"qwen3-{name}", published, f"Qwen/Qwen3-{name}", hidden_size=hidden,
          intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
          num_key_value_heads=8, head_dim=128, tie_word_embeddings=tied)
qwen3moe = Family("qwen3_moe", "Qwen3MoeForCausalLM", "Qwen Team 2025, arXiv:2505.09388", CARD,
                  vocab_size=151936, num_local_experts=128, num_experts_per_tok=8, head_dim=128,
                  **BF16)
qwen3moe("qwen3-30b-a3b", "30.5B", "Qwen/Qwen3-30B-A3B", hidden_size=2048,
         intermediate_size=6144, moe_intermediate_size=768, num_hidden_layers=48,
         num_attention_heads=32, num_key_value_heads=4)
qwen3moe("qwen3-235b-a22b", "235B", "Qwen/Qwen3-235B-A22B", hidden_size=4096,
         intermediate_size=12288, moe_intermediate_size=1536, num_hidden_layers=94,
         num_attention_heads=64, num_key_value_heads=4)

gemma = Family("gemma", "GemmaForCausalLM", "Gemma Team 2024, arXiv:2403.08295", HUB, **BF16)
gemma("gemma-2b", 2_506_172_416, "google/gemma-2b", hidden_size=2048, intermediate_size=16384,
      num_hidden_layers=18, num_attention_heads=8, num_key_value_heads=1)
gemma("gemma-7b", 8_537_680_896, "google/gemma-7b")
gemma2 = Family("gemma2", "Gemma2ForCausalLM", "Gemma Team 2024, arXiv:2408.00118", HUB, **BF16)
gemma2("gemma-2-2b", 2_614_341_888, "google/gemma-2-2b")
gemma2("gemma-2-9b", 9_241_705_984, "google/gemma-2-9b", hidden_size=3584,
       intermediate_size=14336, num_hidden_layers=42, num_attention_heads=16,
       num_key_value_heads=8)
gemma2("gemma-2-27b", 27_227_128_320, "google/gemma-2-27b", hidden_size=4608,
       intermediate_size=36864, num_hidden_layers=46, num_attention_heads=32,
       num_key_value_heads=16, head_dim=128)
Family("gemma3_text", "Gemma3ForCausalLM", "Gemma Team 2025, arXiv:2503.19786", HUB, **BF16)(
    "gemma-3-1b", 999_885_952, "google/gemma-3-1b-pt", vocab_size=262144, hidden_size=1152,
    intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4, num_key_value_heads=1)

phi = Family("phi", "PhiForCausalLM", "Li et al. 2023, arXiv:2309.05463", CARD, **FP16)
phi("phi-1.5", "1.4B", "microsoft/phi-1_5", published_in="its hub page; 1.3B in the paper")
phi("phi-2", "2.7B", "microsoft/phi-2", hidden_size=2560, intermediate_size=10240,
    num_hidden_layers=32)
phi3 = Family("phi3", "Phi3ForCausalLM", "Abdin et al. 2024, arXiv:2404.14219", **BF16)
phi3("phi-3-mini", "3.8B", "microsoft/Phi-3-mini-4k-instruct", "phi-3-mini-4k")
phi3("phi-3-medium", "14B", "microsoft/Phi-3-medium-4k-instruct", hidden_size=5120,
     intermediate_size=17920, num_hidden_layers=40, num_attention_heads=40,
     num_key_value_heads=10)
Family("phi3", "Phi3ForCausalLM", "Abdin et al. 2024, arXiv:2412.08905", **BF16)(
    "phi-4", "14B", "microsoft/phi-4", vocab_size=100352, hidden_size=5120,
    intermediate_size=17920, num_hidden_layers=40, num_attention_heads=40, num_key_value_heads=10)

olmo = Family("olmo", "OlmoForCausalLM", "Groeneveld et al. 2024, arXiv:2402.00838",
              vocab_size=50304)
olmo("olmo-1b", "1.18B", "allenai/OLMo-1B-hf", hidden_size=2048, intermediate_size=8192,
     num_hidden_layers=16, num_attention_heads=16, tie_word_embeddings=True)
olmo("olmo-7b", "6.89B", "allenai/OLMo-7B-hf")
Family("olmo2", "Olmo2ForCausalLM", "OLMo Team 2024, arXiv:2501.00656", CARD)(
    "olmo-2-7b", "7B", "allenai/OLMo-2-1124-7B", vocab_size=100352)
Family("starcoder2", "Starcoder2ForCausalLM", "Lozhkov et al. 2024, arXiv:2402.19173")(
    "starcoder2-3b", "3B", "bigcode/starcoder2-3b")

# ---- mixtures of experts, and other ways ------------------------------------------------------
Family("deepseek_v3", "DeepseekV3ForCausalLM", "DeepSeek-AI 2024, arXiv:2412.19437",
       **BF16)(
    "deepseek-v3", "671B", "deepseek-ai/DeepSeek-V3", "deepseek-r1",
    "deepseek-ai/DeepSeek-R1")
deepseek2 = Family("deepseek_v2", "DeepseekV2ForCausalLM", "DeepSeek-AI 2024, arXiv:2405.04434",
                   **BF16)
deepseek2("deepseek-v2", "236B", "deepseek-ai/DeepSeek-V2", hidden_size=5120,
          intermediate_size=12288, moe_intermediate_size=1536, num_hidden_layers=60,
          num_attention_heads=128, num_key_value_heads=128, n_routed_experts=160,
          n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, kv_lora_rank=512,
          q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
          vocab_size=102400)
deepseek2("deepseek-v2-lite", "15.7B", "deepseek-ai/DeepSeek-V2-Lite", published_in=CARD,
          hidden_size=2048, intermediate_size=10944, moe_intermediate_size=1408,
          num_hidden_layers=27, num_attention_heads=16, num_key_value_heads=16,
          n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6,
          first_k_dense_replace=1, kv_lora_rank=512, q_lora_rank=None, qk_nope_head_dim=128,
          qk_rope_head_dim=64, v_head_dim=128, vocab_size=102400)
gptoss = Family("gpt_oss", "GptOssForCausalLM", "OpenAI 2025, arXiv:2508.10925", **BF16)
gptoss("gpt-oss-20b", "20.9B", "openai/gpt-oss-20b", num_hidden_layers=24, num_local_experts=32)
gptoss("gpt-oss-120b", "116.8B", "openai/gpt-oss-120b", num_hidden_layers=36,
       num_local_experts=128)
mamba = Family("mamba", "MambaForCausalLM", "Gu, Dao 2023, arXiv:2312.00752", vocab_size=50280)
for name, hidden, layers in (("130m", 768, 24), ("370m", 1024, 48), ("790m", 1536, 48),
                             ("1.4b", 2048, 48), ("2.8b", 2560, 64)):
    mamba(f"mamba-{name}", name.upper(), f"state-spaces/mamba-{name}-hf", hidden_size=hidden,
          num_hidden_layers=layers)

# ---- vision, with a classifier for the 1,000 classes of ImageNet ------------------------------
resnet = Family("resnet", "ResNetForImageClassification", "He et al. 2015, arXiv:1512.03385",
                TORCHVISION, num_labels=1000)
basic = dict(layer_type="basic", hidden_sizes=[64, 128, 256, 512])
bottleneck = dict(layer_type="bottleneck", hidden_sizes=[256, 512, 1024, 2048])
resnet("resnet18", 11_689_512, "microsoft/resnet-18", depths=[2, 2, 2, 2], **basic)
resnet("resnet34", 21_797_672, "microsoft/resnet-34", depths=[3, 4, 6, 3], **basic)
resnet("resnet50", 25_557_032, "microsoft/resnet-50", depths=[3, 4, 6, 3], **bottleneck)
resnet("resnet101", 44_549_160, "microsoft/resnet-101", depths=[3, 4, 23, 3], **bottleneck)
resnet("resnet152", 60_192_808, "microsoft/resnet-152", depths=[3, 8, 36, 3], **bottleneck)
Family("mobilenet_v2", "MobileNetV2ForImageClassification", "Sandler et al. 2018, "
       "arXiv:1801.04381", TORCHVISION, num_labels=1000)(
    "mobilenet-v2", 3_504_872, "google/mobilenet_v2_1.0_224")
Family("efficientnet", "EfficientNetForImageClassification", "Tan, Le 2019, arXiv:1905.11946",
       TORCHVISION, num_labels=1000)(
    "efficientnet-b0", 5_288_548, "google/efficientnet-b0", width_coefficient=1.0,
    depth_coefficient=1.0, hidden_dim=1280, image_size=224)
convnext = Family("convnext", "ConvNextForImageClassification", "Liu et al. 2022, "
                  "arXiv:2201.03545", TORCHVISION, num_labels=1000)
for name, published, depths, first in (
    ("tiny", 28_589_128, [3, 3, 9, 3], 96), ("small", 50_223_688, [3, 3, 27, 3], 96),
    ("base", 88_591_464, [3, 3, 27, 3], 128), ("large", 197_767_336, [3, 3, 27, 3], 192),
):
    convnext(f"convnext-{name}", published, f"facebook/convnext-{name}-224", depths=depths,
             hidden_sizes=[first, 2 * first, 4 * first, 8 * first])

vit = Family("vit", "ViTForImageClassification", "Dosovitskiy et al. 2020, arXiv:2010.11929",
             TORCHVISION, num_labels=1000)
vit("vit-base-patch16-224", 86_567_656, "google/vit-base-patch16-224", "vit-base", "vit-b-16")
vit("vit-base-patch32-384", "88M", "google/vit-base-patch32-384", published_in=PAPER,
    patch_size=32, image_size=384)
vit("vit-large-patch16-224", 304_326_632, "google/vit-large-patch16-224", "vit-large", "vit-l-16",
    **large)
vit("vit-huge-patch14-224", "632M", "google/vit-huge-patch14-224-in21k", "vit-huge", "vit-h-14",
    published_in=PAPER, hidden_size=1280, num_hidden_layers=32, num_attention_heads=16,
    intermediate_size=5120, patch_size=14)
deit = Family("vit", "ViTForImageClassification", "Touvron et al. 2020, arXiv:2012.12877",
              num_labels=1000)
deit("deit-tiny-patch16-224", "5.7M", "facebook/deit-tiny-patch16-224", "deit-tiny",
     published_in="documentation of timm's models; 5M in the paper",
     hidden_size=192, num_attention_heads=3, intermediate_size=768)
deit("deit-small-patch16-224", "22M", "facebook/deit-small-patch16-224", "deit-small",
     hidden_size=384, num_attention_heads=6, intermediate_size=1536)
deit("deit-base-patch16-224", "86M", "facebook/deit-base-patch16-224", "deit-base")
swin = Family("swin", "SwinForImageClassification", "Liu et al. 2021, arXiv:2103.14030",
              TORCHVISION, num_labels=1000)
for name, published, width, middle, heads in (("tiny", 28_288_354, 96, 6, 3),
                                              ("small", 49_606_258, 96, 18, 3),
                                              ("base", 87_768_224, 128, 18, 4)):
    swin(f"swin-{name}-patch4-window7-224", published,
         f"microsoft/swin-{name}-patch4-window7-224", f"swin-{name}", embed_dim=width,
         depths=[2, 2, middle, 2], num_heads=[heads, 2 * heads, 4 * heads, 8 * heads])
Family("beit", "BeitForImageClassification", "Bao et al. 2021, arXiv:2106.08254", num_labels=1000)(
    "beit-base-patch16-224", "86M", "microsoft/beit-base-patch16-224", "beit-base",
    vocab_size=8192, use_relative_position_bias=True, use_mask_token=False,
    use_absolute_position_embeddings=False, use_shared_relative_position_bias=False,
    use_mean_pooling=True, layer_scale_init_value=0.1)

# ---- vision without a classifier, image with text, speech -------------------------------------
dinov2 = Family("dinov2", "Dinov2Model", "Oquab et al. 2023, arXiv:2304.07193", image_size=518,
                patch_size=14)
dinov2("dinov2-small", "21M", "facebook/dinov2-small", hidden_size=384, num_attention_heads=6)
dinov2("dinov2-base", "86M", "facebook/dinov2-base")
dinov2("dinov2-large", "300M", "facebook/dinov2-large", hidden_size=1024, num_hidden_layers=24,
       num_attention_heads=16)
dinov2("dinov2-giant", "1.1B", "facebook/dinov2-giant", hidden_size=1536, num_hidden_layers=40,
       num_attention_heads=24, use_swiglu_ffn=True)

clip = Family("clip", "CLIPModel", "Radford et al. 2021, arXiv:2103.00020",
              "open_clip's table of models")
clip("clip-vit-base-patch32", "151M", "openai/clip-vit-base-patch32", "clip")
clip("clip-vit-base-patch16", "150M", "openai/clip-vit-base-patch16",
     vision_config=dict(patch_size=16))
clip("clip-vit-large-patch14", "428M", "openai/clip-vit-large-patch14", projection_dim=768,
     text_config=dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12,
                      projection_dim=768),
     vision_config=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                        num_attention_heads=16, patch_size=14, projection_dim=768))

whisper = Family("whisper", "WhisperForConditionalGeneration", "Radford et al. 2022, "
                 "arXiv:2212.04356", "the paper, table 1")
for name, published, width, layers, heads in (
    ("tiny", "39M", 384, 4, 6), ("base", "74M", 512, 6, 8), ("small", "244M", 768, 12, 12),
    ("medium", "769M", 1024, 24, 16), ("large", "1550M", 1280, 32, 20),
    ("large-v2", "1550M", 1280, 32, 20), ("large-v3", "1550M", 1280, 32, 20),
    ("large-v3-turbo", "809M", 1280, 32, 20),
):
    newest = dict(vocab_size=51866, num_mel_bins=128) if "v3" in name else {}
    whisper(f"whisper-{name}", published, f"openai/whisper-{name}", d_model=width,
            published_in=CARD if "v" in name else None, encoder_layers=layers,
            decoder_layers=4 if "turbo" in name else layers, encoder_attention_heads=heads,
            decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
            **newest)
speech_large = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                    intermediate_size=4096)
wav2vec2 = Family("wav2vec2", "Wav2Vec2Model", "Baevski et al. 2020, arXiv:2006.11477")
wav2vec2("wav2vec2-base", "95M", "facebook/wav2vec2-base")
wav2vec2("wav2vec2-large", "317M", "facebook/wav2vec2-large", **speech_large)
Family("hubert", "HubertModel", "Hsu et al. 2021, arXiv:2106.07447")(
    "hubert-base", "95M", "facebook/hubert-base-ls960")


def rendered():
    """The file's text: one model a line, in the order of this script."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}"
             for name, entry in MODELS.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(arguments):
    """Write the file, or with --check compare it."""
    if arguments == ["--check"]:
        return int(not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != rendered())
    sys.path.insert(0, str(ROOT))
    from course_lib.core.files import write_atomically
    write_atomically(TARGET, rendered())
    print(f"{len(MODELS)} models, {TARGET.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
