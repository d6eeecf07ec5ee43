"""Models whose parameters are known from a paper, a derivation or a reference implementation."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REFUSES = "refuses"  # the right answer is an error: the size is not known yet


@dataclass(frozen=True)
class Case:
    """A model, what is true of it, and inputs for the peers that must run it."""

    name: str
    build: Callable[[], Any]
    truth: dict[str, Any]
    inputs: Callable[[Any], tuple] | None = None


def named(name):
    """A model by name, on the meta device."""
    def build():
        from course_lib.anatomy.model_sources import load_model
        return load_model(name)[0]
    return build


def described(model):
    """Inputs from the model's own description."""
    from course_lib.anatomy.model_sources import make_inputs
    return make_inputs(model)


def zeros(*shape):
    """One float tensor."""
    def make(model):
        import torch
        return (torch.zeros(*shape),)
    return make


def mlp():
    """784·128 + 128 + 128·10 + 10 = 101,770 parameters."""
    from torch import nn
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def root_parameter():
    """A class token that belongs to the model itself: 7 + 7·3 + 3 = 31."""
    import torch
    from torch import nn

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 7))
            self.head = nn.Linear(7, 3)

        def forward(self, values):
            return self.head(values + self.token)

    return Root()


def reused():
    """One layer under two names, called twice: 8·8 + 8 = 72."""
    from torch import nn

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.second = self.first

        def forward(self, values):
            return self.second(self.first(values))

    return Twice()


def tied_to_a_function():
    """A weight used through a function, as many language models tie it: 9·4 = 36."""
    from torch import nn

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(self.embedding(ids))

    return Tied()


def frozen_bias():
    """The first bias is frozen: 101,770 − 128 = 101,642 are trained."""
    model = mlp()
    model[0].bias.requires_grad_(False)
    return model


def quantised():
    """Eight-bit weights, the same 101,770 numbers, none of them trained."""
    import warnings

    import torch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(mlp(), {torch.nn.Linear})


def pruned():
    """Half of the weights masked: the layer still holds and trains 784·128 + 128 = 100,480."""
    from torch import nn
    from torch.nn.utils import prune
    model = nn.Sequential(nn.Linear(784, 128))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    return model


def lazy():
    """Its size is not known before the first call."""
    from torch import nn
    return nn.Sequential(nn.LazyLinear(10))


def low_rank():
    """GPT-2 with LoRA of rank 8 on c_attn: 12 · 8 · (768 + 2304) = 294,912 are trained."""
    import warnings

    from peft import LoraConfig, get_peft_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(named("gpt2")(), LoraConfig(r=8, target_modules=["c_attn"]))


def attention():
    """4·16·16 + 4·16 = 1,088."""
    from torch import nn
    return nn.MultiheadAttention(16, 4)


def three_tokens(model):
    """Queries, keys and values."""
    import torch
    return (torch.zeros(3, 1, 16),) * 3


def recurrent():
    """4·(20·10 + 20·20 + 40) + 4·(20·20 + 20·20 + 40) = 5,920."""
    from torch import nn
    return nn.LSTM(10, 20, num_layers=2)


def normalised():
    """64·64 + 64 + 64 + 64 = 4,288 parameters; 64 + 64 + 1 buffers."""
    from torch import nn
    return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))


def ids(model):
    """Three tokens."""
    import torch
    return (torch.zeros(1, 3, dtype=torch.long),)


def ids_by_name(model):
    """The same by keyword, on the model's device."""
    import torch
    return {"input_ids": torch.zeros(1, 3, dtype=torch.long, device="meta")}


def all_trained(total):
    """Every parameter is trained."""
    return {"total": total, "trainable": total}


TORCH = [
    Case("ResNet-50", named("resnet50"), all_trained(25_557_032), described),
    Case("BERT-base", named("bert-base-uncased"), all_trained(109_482_240), described),
    Case("GPT-2 (tied head)", named("gpt2"), all_trained(124_439_808), described),
    Case("T5-small (tied three ways)", named("t5-small"), all_trained(60_506_624), described),
    Case("Llama-3-8B", named("llama-3-8b"), all_trained(8_030_261_248), described),
    Case("Mixtral-8x7B (experts)", named("mixtral-8x7b"),
         {"total": 46_702_792_704, "active": 12_879_925_248}),
    Case("GPT-2 with LoRA", low_rank, {"total": 124_734_720, "trainable": 294_912}, ids_by_name),
    Case("root parameter", root_parameter, all_trained(31), zeros(1, 2, 7)),
    Case("MultiheadAttention", attention, all_trained(1_088), three_tokens),
    Case("LSTM", recurrent, all_trained(5_920), zeros(3, 1, 10)),
    Case("reused module", reused, all_trained(72), zeros(1, 8)),
    Case("tied weight", tied_to_a_function, all_trained(36), ids),
    Case("frozen bias", frozen_bias, {"total": 101_770, "trainable": 101_642}, zeros(1, 784)),
    Case("buffers", normalised, {"total": 4_288, "buffers": 129}, zeros(2, 64)),
    Case("dynamically quantised", quantised, {"total": 101_770, "trainable": 0}, zeros(1, 784)),
    Case("pruned", pruned, all_trained(100_480), zeros(1, 784)),
    Case("Lazy, not called", lazy, {"total": REFUSES}),
]


def keras_resnet():
    """As keras.applications makes it."""
    import keras
    return keras.applications.ResNet50(weights=None)


def keras_after_fit():
    """101,770 parameters; Adam keeps twice as many numbers of its own."""
    import keras
    import numpy
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128), keras.layers.Dense(10)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(numpy.zeros((2, 784)), numpy.zeros((2, 10)), verbose=0)
    return model


def keras_only_built():
    """A subclassed model after build(): its layer has no weights yet."""
    import warnings

    import keras

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, values):
            return self.dense(values)

    model = Subclassed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.build((None, 4))
    return model


def keras_variable():
    """A tf.Variable of a layer, beside its dense kernel and bias: 4·3 + 3 + 3 = 18."""
    import keras
    import numpy
    import tensorflow

    class Scaled(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)
            self.scale = tensorflow.Variable(tensorflow.ones(3))

        def call(self, values):
            return self.dense(values) * self.scale

    model = keras.Sequential([keras.Input((4,)), Scaled()])
    model(numpy.zeros((1, 4), "float32"))
    return model


def keras_frozen():
    """The first layer is frozen: 784·128 + 128 = 100,480 of 101,770 parameters."""
    import keras
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128), keras.layers.Dense(10)])
    model.layers[0].trainable = False
    return model


KERAS = [
    Case("Keras ResNet50", keras_resnet, {"total": 25_636_712, "trainable": 25_583_592}),
    Case("Keras after fit", keras_after_fit, all_trained(101_770)),
    Case("Keras, frozen layer", keras_frozen, {"total": 101_770, "trainable": 1_290}),
    Case("Keras, tf.Variable in a layer", keras_variable, all_trained(18)),
    Case("Keras subclassed, only build()", keras_only_built, {"total": REFUSES}),
]
CASES = {"torch": TORCH, "keras": KERAS}
