"""What load_model and make_inputs accept, refuse, and leave as they found it."""

import json
import random
import subprocess
import sys

import numpy
import pytest
import torch
import transformers
from torch import nn
from work import FEW, calls

from course_lib import measure_depth
from course_lib.anatomy import model_sources
from course_lib.anatomy.model_sources import (check_sizes, config_types, default_length,
                                              default_model, load_model, longest_sequence,
                                              make_inputs, model_names)


def total(model):
    return sum({id(p): p.numel() for p in model.parameters()}.values())


def folder(tmp_path, values):
    text = values if isinstance(values, str) else json.dumps(values)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    return tmp_path


def refused(source, match, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        load_model(source)
    assert "\n" not in str(caught.value)


# ---- what is accepted -------------------------------------------------------------------------

def test_a_module_comes_back_as_it_is():
    module = nn.Linear(2, 3)
    assert load_model(module) == (module, "Linear as given")


def test_tied_weights_are_one_tensor():
    gpt2, _ = load_model("gpt2")
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight and total(gpt2) == 124_439_808
    t5, _ = load_model("t5-small")
    assert t5.lm_head.weight is t5.shared.weight is t5.decoder.embed_tokens.weight


def test_heads_of_t5_1_1_are_their_own():
    flan, _ = load_model("flan-t5-small")
    assert flan.lm_head.weight is not flan.shared.weight
    assert flan.encoder.embed_tokens.weight is flan.shared.weight
    assert total(flan) == 76_961_152 and total(load_model("mt5-small")[0]) == 300_176_768


def test_a_config_without_architectures_is_the_base_model():
    model, description = load_model(transformers.BertConfig())
    assert type(model) is transformers.BertModel and total(model) == 109_482_240
    assert "BertModel" in description


def test_a_config_with_architectures_is_the_class_it_names():
    config = transformers.BertConfig(architectures=["BertForMaskedLM"])
    model, _ = load_model(config)
    assert type(model) is transformers.BertForMaskedLM and total(model) == 109_514_298


def test_a_config_is_not_changed():
    config = transformers.GPT2Config(n_layer=1)
    before = (config.to_dict(), dict(vars(config)))
    load_model(config)
    assert (config.to_dict(), dict(vars(config))) == before


def test_a_folder_as_save_pretrained_writes_it(tmp_path):
    config = transformers.ViTConfig(num_hidden_layers=1, num_labels=10)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    model, description = load_model(tmp_path)
    assert type(model) is transformers.ViTForImageClassification
    assert model.classifier.out_features == 10 and str(tmp_path) in description
    assert total(load_model(str(tmp_path))[0]) == total(model)


def test_the_type_of_the_numbers_is_the_configs(tmp_path):
    path = folder(tmp_path, {"model_type": "gpt2", "n_layer": 1, "torch_dtype": "bfloat16"})
    assert next(load_model(path)[0].parameters()).dtype is torch.bfloat16
    assert next(load_model("llama-3-8b")[0].parameters()).dtype is torch.bfloat16
    assert next(load_model("gpt2")[0].parameters()).dtype is torch.float32


def test_quantisation_in_a_folder_is_said_to_be_ignored(tmp_path):
    path = folder(tmp_path, {"model_type": "gpt2", "n_layer": 1, "quantization_config": {
        "quant_method": "bitsandbytes", "load_in_8bit": True}})
    assert "before the quantisation" in load_model(path)[1]


@pytest.mark.slow
def test_keras_by_prefix_and_by_a_name_that_only_keras_has():
    model, description = load_model("keras:MobileNetV2")
    assert model.count_params() == 3_538_984 and "weights=None" in description
    model, description = load_model("EfficientNetV2B0")
    assert "only Keras has this name" in description and model.count_params() == 7_200_312
    assert load_model(model)[0] is model


def test_a_known_name_wins_over_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    folder(tmp_path / "gpt2", {"model_type": "gpt2", "n_layer": 1})
    assert total(load_model("gpt2")[0]) == 124_439_808
    assert total(load_model("./gpt2")[0]) < 124_439_808


# ---- what is refused --------------------------------------------------------------------------

@pytest.mark.parametrize("name, near", [
    ("lama-3-8b", "llama-3-8b"), ("bert-base-uncase", "bert-base-uncased"), ("resnet5", "resnet50"),
    ("EfficientNetV2B9", "keras:EfficientNetV2B"), ("keras:ResNet55", "keras:ResNet50"),
    ("someone/gpt2", "gpt2"), ("vgg15", "vgg1"), ("zzzzzz", r"model_names\(\)")])
def test_an_unknown_name_gets_the_nearest_names(name, near):
    refused(name, f"no known model.*{near}")


@pytest.mark.parametrize("source, error, match", [
    (3, TypeError, "not int"), (None, TypeError, "not NoneType"), ([], TypeError, "not list"),
    ({"model_type": "gpt2"}, TypeError, "not dict"), (nn.Linear, TypeError, "not the class Linear"),
    (b"gpt2", TypeError, "not bytes"),
    ("", FileNotFoundError, "no folder"), ("./nowhere", FileNotFoundError, "no folder"),
    ("/nowhere/at/all", FileNotFoundError, "no folder"),
    ("jax:ResNet50", ValueError, "only 'keras:' is known"),
])
def test_what_is_no_model_is_refused(source, error, match):
    refused(source, match, error)


def test_files_and_empty_folders(tmp_path):
    refused(tmp_path, "has no config.json", FileNotFoundError)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    refused(file, "is a file.*read_header")
    refused(tmp_path, "has no config.json; its tensors.*'model.safetensors'", FileNotFoundError)


@pytest.mark.slow
@pytest.mark.parametrize("values, match", [
    ("{", "is not JSON"), ("[]", "is not a JSON object"), ("{}", "model_type None"),
    ({"model_type": "no-such-type"}, "model_type 'no-such-type', which transformers"),
    ({"model_type": ["gpt2"]}, "model_type"),
    ({"model_type": "gpt2", "architectures": ["EvilModel"]}, "names the class 'EvilModel'"),
    ({"model_type": "gpt2", "architectures": ["GPT2Config"]}, "names the class 'GPT2Config'"),
    ({"model_type": "gpt2", "n_embd": 100}, "cannot be built as GPT2Model.*divisible"),
    ({"model_type": "bert", "hidden_size": "wide"}, "no valid configuration.*hidden_size"),
    ({"model_type": "bert", "hidden_size": 0}, "hidden_size = 0, which must be at least 1"),
    ({"model_type": "bert", "hidden_size": -768}, "hidden_size = -768"),
    ({"model_type": "bert", "vocab_size": 0}, "vocab_size = 0"),
    ({"model_type": "gpt2", "n_head": 0}, "n_head = 0"),
    ({"model_type": "bert", "num_hidden_layers": -1}, "must not be negative"),
    ({"model_type": "bert", "num_hidden_layers": 10**7}, "10,000,000, above the limit"),
    ({"model_type": "gpt2", "n_layer": 10**7}, "above the limit"),
    ({"model_type": "bert", "vocab_size": 10**15}, "above the limit"),
    ({"model_type": "bert", "num_labels": 10**8}, "above the limit"),
    ({"model_type": "resnet", "depths": [10**8, 1, 1, 1]}, "depths = 100,000,000"),
    ({"model_type": "qwen3_moe", "num_experts": 10**7}, "above the limit"),
    ({"model_type": "clip", "vision_config": {"num_hidden_layers": 10**7}}, "above the limit"),
    ({"model_type": "switch_transformers", "num_layers": 900, "num_sparse_encoder_layers": 900,
      "num_decoder_layers": 1, "num_experts": 9000}, "more than 50,000 modules|above the limit"),
])
def test_a_broken_or_enormous_folder_is_one_quick_sentence(tmp_path, values, match):
    calls(lambda: refused(folder(tmp_path, values), match), most=FEW)


@pytest.mark.parametrize("config, match", [
    (lambda: transformers.BertConfig(num_hidden_layers=10**7), "above the limit"),
    (lambda: transformers.LlamaConfig(vocab_size=10**15), "above the limit"),
    (lambda: transformers.BertConfig(hidden_size=10**12), "above the limit"),
    (lambda: transformers.BertConfig(hidden_size=0), "at least 1"),
    (lambda: transformers.BertConfig(vocab_size=-5), "at least 1"),
    (lambda: transformers.BertConfig(architectures=["Nothing"]), "names the class 'Nothing'"),
    (lambda: transformers.GPT2Config(n_embd=100), "cannot be built as GPT2Model.*divisible"),
])
def test_a_broken_or_enormous_config_is_one_quick_sentence(config, match):
    config = config()
    calls(lambda: refused(config, match), most=FEW)


def test_code_in_a_model_folder_is_never_run(tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for values in ({"model_type": "evil"}, {"model_type": "gpt2", "n_layer": 1}):
        values["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
        try:
            load_model(folder(tmp_path, values))
        except ValueError:
            pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_no_default_config_is_refused_for_its_sizes():
    for name in config_types():
        try:
            values = transformers.CONFIG_MAPPING[name]().to_dict()
        except Exception:  # not meant to be made without arguments, or a package is missing
            continue
        check_sizes(values, name)


def test_a_missing_framework_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'transformers.*pip install "course-lib\[torch\]"'):
        load_model("gpt2")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r'keras.*pip install "course-lib\[tensorflow\]"'):
        load_model("keras:ResNet50")


# ---- what is left as it was -------------------------------------------------------------------

@pytest.mark.parametrize("source", ["gpt2", "alexnet", "wav2vec2-base", "no-such-name",
                                    transformers.BertConfig(hidden_size=100)])
def test_the_callers_state_is_left_alone(source):
    transformers.logging.set_verbosity_info()
    torch.set_default_dtype(torch.float64)
    states = lambda: (random.getstate(), torch.get_rng_state().tolist(),  # noqa: E731
                      str(numpy.random.get_state()), transformers.logging.get_verbosity(),
                      torch.get_default_dtype(), torch.get_default_device())
    try:
        before = states()
        try:
            load_model(source)
        except ValueError:
            pass
        assert states() == before
    finally:
        torch.set_default_dtype(torch.float32)
        transformers.logging.set_verbosity_warning()


def test_the_guard_that_counts_modules_is_taken_off():
    from torch.nn.modules import module
    load_model("gpt2")
    assert not module._global_module_registration_hooks


def test_nothing_is_printed_and_no_socket_is_opened(capfd, monkeypatch):
    import socket

    def refuse(*_, **__):
        raise AssertionError("a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_model("mixtral-8x7b")
    load_model(transformers.WhisperConfig())
    assert capfd.readouterr() == ("", "")


def test_importing_needs_no_framework():
    code = ("import sys, course_lib.anatomy.model_sources as m; m.model_names(); m._find('gpt2')\n"
            "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'keras', 'numpy')))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name, count", [("llama-3.1-405b", 405_853_388_800),
                                         ("deepseek-v3", 671_026_404_352)])
def test_the_largest_models_by_name_are_small(name, count):
    code = f"""
import resource, torch, transformers
from course_lib.anatomy.model_sources import load_model
load_model("tinyllama"), load_model("deepseek-v2-lite")  # imports
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
model, _ = load_model({name!r})
print((peak() - before) / 1024, sum(p.numel() for p in model.parameters()))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes, counted = run.stdout.split()
    assert int(counted) == count and float(megabytes) < 300  # it takes 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-3.1-405b", "deepseek-v3"])
def test_the_largest_models_by_name_are_quick(name):
    """Little more work than transformers itself has with its class and the configuration."""
    def in_transformers():
        with torch.device("meta"):
            return type(model)(model.config)

    model, _ = load_model(name)
    [_, ours], [_, theirs] = calls(lambda: load_model(name)), calls(in_transformers)
    assert ours < 2 * theirs  # 1.4 and 1.6 times as many calls


# ---- inputs -----------------------------------------------------------------------------------

@pytest.mark.parametrize("name, shapes", [
    ("gpt2", {"input_ids": (2, 5)}),
    ("bert-base-uncased", {"input_ids": (2, 5)}),
    ("t5-small", {"input_ids": (2, 5), "decoder_input_ids": (2, 5)}),
    ("vit-base-patch16-224", {"pixel_values": (2, 3, 224, 224)}),
    ("vit-base-patch32-384", {"pixel_values": (2, 3, 384, 384)}),
    ("resnet50", {"pixel_values": (2, 3, 224, 224)}),
    ("clip-vit-base-patch32", {"input_ids": (2, 5), "pixel_values": (2, 3, 224, 224)}),
    ("whisper-tiny", {"input_features": (2, 80, 3000), "decoder_input_ids": (2, 5)}),
    ("wav2vec2-base", {"input_values": (2, 4 * 320 + 400)}),
    ("mamba-130m", {"input_ids": (2, 5)}),
])
def test_inputs_come_from_the_config_and_run(name, shapes):
    model, _ = load_model(name)
    inputs = make_inputs(model, batch_size=2, sequence_length=5)
    assert {key: tuple(tensor.shape) for key, tensor in inputs.items()} == shapes
    with torch.no_grad():
        model(**inputs)


# With 40 stated positions; RoBERTa spends two of them on its padding.
TABLES = {"GPT2": 40, "Bert": 40, "Roberta": 38, "OPT": 40, "Bart": 40, "Whisper": 40, "CLIP": 40,
          "XLMRoberta": 38, "DistilBert": 40, "Pegasus": 40, "BioGpt": 40}


def small(family):
    """A small model with 40 stated positions, on the CPU, and one of its class on no device."""
    sizes = {"vocab_size": 64, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 40, "image_size": 8,
             "patch_size": 4}
    text = {**sizes, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    names = {"GPT2": {"n_positions": 40, "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 64},
             "DistilBert": {"max_position_embeddings": 40, "dim": 8, "n_layers": 1, "n_heads": 2,
                            "hidden_dim": 8, "vocab_size": 64},
             "CLIP": {"text_config": text, "vision_config": sizes}}
    blocks = {f"{part}_{what}": value for part in ("encoder", "decoder")
              for what, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 8))}
    wide = {**text, **blocks, "d_model": 8, "max_target_positions": 40, "max_source_positions": 20,
            "word_embed_proj_dim": 8, "ffn_dim": 8, "src_vocab_size": 64, "tgt_vocab_size": 64,
            "decoder_start_token_id": 2, "langs": ["en", "de"]}
    config = getattr(transformers, f"{family}Config")(**names.get(family, wide))
    return getattr(transformers, f"{family}Model")(config).eval(), load_model(config)[0]


@pytest.mark.parametrize("family, most", TABLES.items())
def test_a_text_that_has_no_positions_left_is_refused(family, most):
    model, shape_only = small(family)
    assert longest_sequence(model) == longest_sequence(shape_only) == most
    inputs = make_inputs(model, sequence_length=most)
    with torch.no_grad():
        model(**inputs)
        # One token more is an error of torch, or of the model itself.
        longer = {name: torch.cat([ids, ids[:, -1:]], 1) if name.endswith("ids") else ids
                  for name, ids in inputs.items()}
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(**longer)
    with pytest.raises(ValueError, match=f"must be at most {most}, the tokens .* not {most + 1}"):
        make_inputs(shape_only, sequence_length=most + 1)


def test_a_default_is_no_longer_than_the_positions():
    few = transformers.GPT2Config(n_positions=4, n_embd=8, n_layer=1, n_head=2, vocab_size=64)
    model = transformers.GPT2Model(few).eval()
    assert make_inputs(model)["input_ids"].shape == (1, 4)
    assert default_length(model, 128) == 4 and default_length(nn.Linear(2, 2), 128) == 128
    model(**make_inputs(model))
    assert measure_depth(few).weighted == measure_depth(
        transformers.GPT2Config(**{**few.to_dict(), "n_positions": 64})).weighted


def test_a_table_that_grows_has_no_end():
    model, shape_only = small("FSMT")
    assert longest_sequence(shape_only) is None
    with torch.no_grad():
        model(**make_inputs(model, sequence_length=200))


@pytest.mark.parametrize("name", ["llama-3-8b", "t5-small", "bloom-560m", "gpt-j-6b", "mamba-130m",
                                  "vit-base-patch16-224", "wav2vec2-base", "vgg11"])
def test_computed_positions_have_no_end(name):
    assert longest_sequence(load_model(name)[0]) is None


def test_inputs_follow_the_models_device_and_type():
    model = load_model(transformers.ViTConfig(num_hidden_layers=1))[0].to_empty(device="cpu")
    [pixels] = make_inputs(model.to(torch.bfloat16)).values()
    assert pixels.device.type == "cpu" and pixels.dtype is torch.bfloat16


@pytest.mark.parametrize("module, shape, dtype", [
    (nn.Linear(7, 2), (3, 7), torch.float32),
    (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (3, 784), torch.float32),
    (nn.Sequential(nn.Sequential(nn.Dropout(), nn.Linear(4, 4)), nn.ReLU()), (3, 4), torch.float32),
    (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), (3, 6), torch.int64),
    (nn.Linear(7, 2).double(), (3, 7), torch.float64),
])
def test_inputs_of_plain_modules_where_they_are_certain(module, shape, dtype):
    [x] = make_inputs(module, batch_size=3, sequence_length=6)
    assert tuple(x.shape) == shape and x.dtype is dtype
    module(x)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.second, self.first = nn.Linear(3, 1), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("module, match", [
    (Own(), "its first layer 'second', Linear"), (nn.Conv2d(3, 8, 3), "pass inputs.*Conv2d"),
    (nn.Sequential(nn.Conv1d(3, 8, 3), nn.Flatten()), "layer '0', Conv1d"),
    (nn.LSTM(3, 4), "pass inputs"), (nn.Identity(), "pass inputs")])
def test_inputs_that_cannot_be_known_are_asked_for(module, match):
    with pytest.raises(ValueError, match=match):
        make_inputs(module)


@pytest.mark.slow
def test_inputs_of_keras_models():
    import keras
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    [x] = make_inputs(model, batch_size=2)
    assert x.shape == (2, 28, 28, 1) and model(x).shape == (2, 784)
    ids = keras.Input((None,), dtype="int32")
    image = keras.Input((4, 4, 3))
    both = keras.Model([ids, image], [keras.layers.Embedding(9, 3)(ids), image])
    [pair] = make_inputs(both, sequence_length=7)
    assert [x.shape for x in pair] == [(1, 7), (1, 4, 4, 3)] and str(pair[0].dtype) == "int32"
    both(pair)
    named = keras.Model({"ids": ids, "image": image}, image)
    assert set(make_inputs(named)[0]) == {"ids", "image"}
    for open_model in (keras.Sequential([keras.layers.Dense(3)]),
                       keras.Sequential([keras.Input((None, None, 3)), keras.layers.ReLU()])):
        with pytest.raises(ValueError, match="pass inputs"):
            make_inputs(open_model)


@pytest.mark.parametrize("arguments, error", [
    ({"batch_size": 0}, ValueError), ({"batch_size": "2"}, ValueError),
    ({"sequence_length": -1}, ValueError), ({"sequence_length": True}, ValueError)])
def test_bad_sizes_of_inputs(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        make_inputs(nn.Linear(2, 2), **arguments)


def test_inputs_need_a_model():
    with pytest.raises(TypeError, match="not str"):
        make_inputs("gpt2")


# ---- the library as a whole -------------------------------------------------------------------

def test_a_type_without_a_base_model_says_so():
    with pytest.raises(ValueError, match="set its architectures"):
        default_model("siglip_text_model")


@pytest.mark.parametrize("model_type, count", [
    ("bert", 109_482_240), ("gpt2", 124_439_808), ("llama", 6_607_343_616), ("t5", 60_506_624)])
def test_default_models(model_type, count):
    assert total(default_model(model_type)) == count


@pytest.mark.parametrize("model_type", ["wav2vec2", "xlnet", "imagegpt", "lw_detr", "mask2former"])
def test_tensors_made_elsewhere_are_sent_to_meta_and_none_is_lost(model_type):
    with torch.device("meta"):
        reference = transformers.MODEL_MAPPING[type(config := transformers.CONFIG_MAPPING[
            model_type]())](config)
    assert {p.device.type for p in reference.parameters()} == {"meta", "cpu"}
    model = default_model(model_type)
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"meta"}
    assert total(model) == total(reference)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in reference.named_parameters()]


def test_names_are_listed_for_both_frameworks():
    assert model_names() == sorted(model_names())
    assert "ResNet50" in model_names(framework="keras")
    with pytest.raises(ValueError, match="framework must be 'torch' or 'keras', not 'jax'"):
        model_names(framework="jax")


def test_ties_survive_being_sent_to_meta():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    a.weight.requires_grad_(False)
    pair = model_sources._send_to_meta(nn.Sequential(a, b))
    assert pair[0].weight is pair[1].weight and pair[0].weight.is_meta
    assert not pair[0].weight.requires_grad and pair[0].bias.requires_grad
