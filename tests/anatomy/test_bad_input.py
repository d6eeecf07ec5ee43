"""Bad input gets one sentence that names what is wrong: never a 0, a NaN or an inner traceback."""
import functools
import json
import struct

import pytest
from work import FEW, calls

from course_lib import count_flops, count_parameters, estimate_memory, measure_depth

FACE = {"count": count_parameters, "depth": measure_depth, "memory": estimate_memory,
        "flops": count_flops}
EACH = pytest.mark.parametrize("function", FACE)
COUNTING = pytest.mark.parametrize("function", ["count", "memory"])  # these read checkpoints too
RUNNING = pytest.mark.parametrize("function", ["count", "depth", "memory", "flops"])


def refused(function, model, *inputs, error=ValueError, said=(), **options):
    """The sentence with which a function refuses; it names every word of `said`."""
    with pytest.raises(error) as caught:
        FACE[function](model, *inputs, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence and 10 < len(sentence) < 300, sentence
    for word in [said] if isinstance(said, str) else said:
        assert word in sentence
    return sentence


def network():
    """A torch network with four inputs."""
    from torch import nn
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


# ---- not a model ------------------------------------------------------------------------------

NOT_MODELS = {
    "int": lambda: 3, "float": lambda: 2.5, "None": lambda: None, "bytes": lambda: b"gpt2",
    "dict": lambda: {"model_type": "gpt2"}, "list": lambda: [network()],
    "function": lambda: len, "state dict": lambda: network().state_dict(),
    "tensor": lambda: next(network().parameters()).data,
}


@EACH
@pytest.mark.parametrize("kind", NOT_MODELS)
def test_not_a_model(function, kind):
    value = NOT_MODELS[kind]()
    refused(function, value, error=TypeError, said=["model", type(value).__name__])


@EACH
def test_a_class_instead_of_an_instance(function):
    from torch import nn
    from transformers import GPT2Config
    refused(function, nn.Linear, error=TypeError, said="model")
    refused(function, GPT2Config, error=TypeError, said="model")


# ---- not built yet ----------------------------------------------------------------------------

@EACH
def test_a_lazy_module(function):
    from torch import nn
    sentence = refused(function, nn.Sequential(nn.LazyLinear(3), nn.ReLU()), said="model")
    assert any(advice in sentence for advice in ("run ", "call "))


def keras_models():
    """Unbuilt Keras models; of the last one, only its own build ran, and no layer's inside."""
    import keras

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, values):
            return self.dense(values)

    built = Subclassed()
    built.build((None, 4))
    return {"layer": keras.layers.Dense(3), "sequential": keras.Sequential([keras.layers.Dense(3)]),
            "subclassed": Subclassed(), "only build()": built}


@EACH
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["layer", "sequential", "subclassed"])
def test_an_unbuilt_keras_model(function, kind):
    assert "call" in refused(function, keras_models()[kind], said="model")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", ["count", "memory"])
def test_a_keras_model_that_calls_itself_built(function):
    """Keras itself reports 0 here."""
    model = keras_models()["only build()"]
    assert model.count_params() == 0
    assert "call" in refused(function, model, said="model")


# ---- files ------------------------------------------------------------------------------------

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def packed(header, data=b""):
    """A safetensors file's bytes."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


BROKEN = {
    "empty": (b"", "0 bytes"),
    "truncated header": (struct.pack("<Q", 64) + b"{", "truncated"),
    "truncated data": (packed({"w": TENSOR}, bytes(7)), "truncated"),
    "oversized header": (struct.pack("<Q", 2**60) + b"{}", "limit"),
    "overlapping": (packed({"w": TENSOR, "b": TENSOR | {"data_offsets": [4, 12]}}, bytes(12)),
                    "overlaps"),
    "hole": (packed({"w": TENSOR, "b": TENSOR | {"data_offsets": [12, 20]}}, bytes(20)), "hole"),
    "shape against bytes": (packed({"w": TENSOR | {"shape": [3]}}, bytes(8)), "data_offsets"),
    "pickle": (b"\x80\x04\x95" + bytes(40), "pickle"),
    "zip": (b"PK\x03\x04" + bytes(40), "zip"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    "text": (b"these are words, not tensors", "safetensors"),
}


@COUNTING
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file(function, tmp_path, kind):
    content, reason = BROKEN[kind]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(function, path, said=["model.safetensors", reason])


@COUNTING
@pytest.mark.parametrize("convert", [str, lambda path: path], ids=["str", "Path"])
def test_a_missing_file(function, tmp_path, convert):
    refused(function, convert(tmp_path / "none.safetensors"), error=FileNotFoundError,
            said="none.safetensors")


@COUNTING
def test_a_missing_shard(function, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "model-00001-of-00002.safetensors"}}))
    refused(function, index, error=FileNotFoundError, said="model-00001-of-00002.safetensors")


@pytest.mark.parametrize("function", ["depth", "flops"])
def test_a_checkpoint_has_no_order_of_layers(function, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed({"w": TENSOR}, bytes(8)))
    refused(function, path, said="model")


def test_a_checkpoint_takes_no_inputs(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed({"w": TENSOR}, bytes(8)))
    refused("count", path, [1], said="inputs")


@EACH
@pytest.mark.parametrize("config, reason", [
    ("{", "JSON"), ("[]", "JSON object"), ("{}", "model_type"), ('{"model_type": "nope"}', "nope"),
    ('{"model_type": "gpt2", "n_layer": -1}', "n_layer"),
    ('{"model_type": "gpt2", "n_embd": "wide"}', "n_embd"),
    ('{"model_type": "gpt2", "architectures": ["Mine"]}', "Mine"),
])
def test_a_broken_config(function, tmp_path, config, reason):
    (tmp_path / "config.json").write_text(config)
    refused(function, tmp_path, said=reason)


@EACH
def test_a_folder_without_a_model(function, tmp_path):
    refused(function, tmp_path, error=FileNotFoundError, said="config.json")
    refused(function, str(tmp_path / "none"), error=FileNotFoundError, said="none")


# ---- names ------------------------------------------------------------------------------------

@EACH
@pytest.mark.parametrize("name, nearest", [
    ("gpt22", "gpt2"), ("resnet-5", "resnet50"), ("lama-3-8b", "llama-3-8b"),
    ("keras:ResNet5", "keras:ResNet50"), ("bert-base-uncase", "bert-base-uncased")])
def test_an_unknown_name_gets_the_nearest(function, name, nearest):
    refused(function, name, said=[repr(name), nearest])


@EACH
@pytest.mark.parametrize("name", ["zzzzzzzz", "jax:gpt2", "gpt2\n3?", "\0"])
def test_a_name_near_none(function, name):
    refused(function, name, said=repr(name))


@EACH
@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name(function, name):
    refused(function, name, error=FileNotFoundError, said=repr(name))


# ---- inputs -----------------------------------------------------------------------------------

@RUNNING
def test_inputs_of_a_wrong_shape(function):
    import torch
    refused(function, network(), torch.zeros(2, 5), said=["inputs", "(2, 5)", "'0' (Linear)"])


@RUNNING
def test_inputs_of_a_wrong_dtype(function):
    import torch
    refused(function, network(), torch.zeros(2, 4, dtype=torch.long),
            said=["inputs", "int64", "'0' (Linear)"])


@RUNNING
def test_numbers_where_ids_belong(function):
    import torch
    from torch import nn
    refused(function, nn.Sequential(nn.Embedding(9, 4)), torch.zeros(1, 3),
            said=["inputs", "'0' (Embedding)"])


@RUNNING
@pytest.mark.parametrize("inputs", ["text", 3, object()])
def test_inputs_that_are_none(function, inputs):
    refused(function, network(), inputs, error=TypeError, said="inputs")


@RUNNING
def test_an_argument_that_forward_does_not_take(function):
    import torch
    refused(function, network(), {"tokens": torch.zeros(1, 4)}, said=["inputs", "tokens"])
    refused(function, network(), (torch.zeros(1, 4), torch.zeros(1, 4)), said="inputs")


@pytest.mark.parametrize("function", ["depth", "memory", "flops"])
def test_inputs_that_cannot_be_made(function):
    from torch import nn
    refused(function, nn.Sequential(nn.Conv2d(3, 4, 3)), said=["inputs", "Conv2d"])


@pytest.mark.parametrize("function", ["count", "depth", "flops"])
def test_keras_inputs_of_a_wrong_shape(function):
    import keras
    import numpy
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    refused(function, model, numpy.zeros((2, 5), "float32"), said=["inputs", "(2, 5)"])


# ---- a forward that raises --------------------------------------------------------------------

def raising(error):
    """A network whose layer '1.0' raises."""
    from torch import nn

    class Raises(nn.Module):
        def forward(self, values):
            raise error

    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(Raises()))


ERRORS = (KeyError("position"), AttributeError("no 'position'"), ZeroDivisionError("by zero"),
          RuntimeError("one line\nand another\n" + 1000 * "long "))


@RUNNING
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_forward_that_raises_names_the_layer(function, error):
    import torch
    sentence = refused(function, raising(error), torch.zeros(1, 4), said="'1.0' (Raises)")
    assert type(error).__name__ in sentence


@RUNNING
def test_ctrl_c_in_a_forward_stays_ctrl_c(function):
    import torch
    with pytest.raises(KeyboardInterrupt):
        FACE[function](raising(KeyboardInterrupt()), torch.zeros(1, 4))


def test_no_tensor_no_depth():
    import torch
    from torch import nn

    class Silent(nn.Module):
        def forward(self, values):
            return None

    refused("depth", Silent(), torch.zeros(1, 4), said="model must return a tensor")


# ---- enormous ---------------------------------------------------------------------------------

@EACH
@pytest.mark.parametrize("sizes", [
    {"n_layer": 10**9}, {"n_embd": 2**62}, {"vocab_size": 10**15}, {"n_head": 2**40},
    {"n_inner": 2**50}])
def test_an_enormous_config_is_refused_at_once(function, sizes):
    from transformers import GPT2Config
    [(name, number)] = sizes.items()
    config = GPT2Config(**sizes)
    calls(lambda: refused(function, config, said=[name, f"{number:,}"]), most=FEW)


@EACH
def test_sizes_that_do_not_go_together(function):
    from transformers import GPT2Config
    refused(function, GPT2Config(n_embd=100, n_head=3), said=["100", "3"])


# ---- options ----------------------------------------------------------------------------------

@pytest.mark.parametrize("option, value", [
    ("batch_size", 0), ("batch_size", "2"), ("batch_size", True), ("sequence_length", -1),
    ("optimizer", "adamv"), ("optimizer", 3), ("precision", "fp33")])
def test_options_of_memory(option, value):
    refused("memory", "lenet5", said=[option, repr(value)], **{option: value})


def test_a_grouping_that_does_not_exist():
    with pytest.raises(ValueError, match="by must be one of kind, role, level, block, dtype"):
        count_parameters(network()).group("colour")


# ---- nothing is left behind -------------------------------------------------------------------

@RUNNING
@pytest.mark.parametrize("shape, dtype", [((2, 5), "float32"), ((2, 4), "int64")])
def test_a_refusal_is_the_sentence_and_nothing_beside_it(function, shape, dtype, capfd, caplog):
    import torch
    inputs = torch.zeros(shape, dtype=getattr(torch, dtype))
    refused(function, network(), inputs, said="inputs")
    assert capfd.readouterr() == ("", "") and not caplog.records


@RUNNING
def test_a_refusal_leaves_the_model_as_it_was(function):
    """No hook stays, the mode is kept, and the next call works."""
    import torch
    model = network().train()
    with pytest.raises(ValueError):
        FACE[function](model, torch.zeros(2, 5))
    hooks = [module for module in model.modules() if module._forward_hooks
             or module._forward_pre_hooks]
    assert hooks == [] and model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    FACE[function](model, torch.zeros(2, 4))


@functools.cache
def weights():
    return network()


@EACH
def test_weights_are_left_as_they_were(function):
    import torch
    before = {name: tensor.clone() for name, tensor in weights().state_dict().items()}
    FACE[function](weights(), torch.zeros(2, 4))
    for name, tensor in weights().state_dict().items():
        assert torch.equal(tensor, before[name])
