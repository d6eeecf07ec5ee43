"""Keras models counted: against Keras itself, published totals, and the mistakes of other tools.

Expected totals come from the published table in tests/truth, from ``count_params()`` of Keras, or
are worked out by hand beside the test. Nothing here is taken from the code under test.
"""
import contextlib
import csv
import inspect
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
keras = pytest.importorskip("keras")
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

from course_lib.anatomy.keras_rules import collect_keras  # noqa: E402

BACKEND = keras.backend.backend()
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="about tf.Variable")
TRUTH = Path(__file__).parents[1] / "truth" / "parameters.csv"
EXPECTED = {row["model"]: (int(row["total"]), int(row["trainable"]))
            for row in csv.DictReader(TRUTH.open()) if row["source"] == "keras.applications"}


def owned(model):
    """Every tensor of a model once, the first layer that holds it being the owner."""
    seen = {}
    for record in collect_keras(model):
        for tensor in record.tensors:
            seen.setdefault(tensor.identity, tensor)
    return list(seen.values())


def total(model):
    return sum(tensor.count for tensor in owned(model))


def trainable(model):
    return sum(tensor.count for tensor in owned(model) if tensor.trainable)


def assert_explained(model):
    """Each tensor has a formula, and it gives what the tensor holds."""
    for record in collect_keras(model):
        for tensor in record.tensors:
            assert tensor.formula, (record.name, record.kind, tensor.name)
            assert tensor.formula.value == tensor.count, (record.name, str(tensor.formula), tensor)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_applications(name):
    model = getattr(keras.applications, name)(weights=None)
    assert (total(model), trainable(model)) == EXPECTED[name]
    assert_explained(model)
    keras.utils.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Xception", "ConvNeXtTiny", "EfficientNetV2B0",
                                  "MobileNetV3Small", "NASNetMobile"])
def test_other_applications_against_keras(name):
    model = getattr(keras.applications, name)(weights=None, classes=10)
    assert total(model) == model.count_params()
    assert_explained(model)
    keras.utils.clear_session()


def kinds(rng):
    """One layer of each kind with hyper-parameters drawn at random, and its input shapes."""
    a, b, c, d = (rng.randint(1, 9) for _ in range(4))
    bias, other = rng.random() < 0.5, rng.random() < 0.5
    groups = rng.randint(1, 3)
    space = [rng.randint(12, 15) for _ in range(3)]
    kernel = [rng.randint(1, 3) for _ in range(3)]
    yield layers.Dense(a, use_bias=bias), (None, 5, b)
    yield layers.EinsumDense("abc,cd->abd", (None, a), bias_axes="d"), (None, 7, b)
    yield layers.EinsumDense("...x,xyz->...yz", (a, b), bias_axes="yz"), (None, 7, 3, c)
    yield layers.EinsumDense("ab...,bc->ac...", (a, None), bias_axes="c"), (None, b, 6, 7)
    yield layers.EinsumDense("abc,bde->abde" if bias else "abc,cbd->abd",
                             (c, a, b) if bias else (c, a)), (None, c, d)
    yield layers.EinsumDense("ab,bc->ac", a, bias_axes="c" if bias else None), (None, b)
    for n in (1, 2, 3):
        shape = (None, *space[:n], groups * a)
        convolution = getattr(layers, f"Conv{n}D")
        yield convolution(groups * b, kernel[:n], groups=groups, use_bias=bias), shape
        if n < 3:
            yield getattr(layers, f"DepthwiseConv{n}D")(kernel[:n][0], depth_multiplier=c,
                                                        use_bias=bias), shape
            yield getattr(layers, f"SeparableConv{n}D")(b, kernel[0], depth_multiplier=c,
                                                        use_bias=other), shape
        yield getattr(layers, f"Conv{n}DTranspose")(b, kernel[:n], use_bias=bias), shape
        yield getattr(layers, f"ConvLSTM{n}D")(b, kernel[:n], padding="same",
                                               use_bias=bias), (None, 3, *space[:n], a)
    yield layers.Conv2D(b, 3, data_format="channels_first"), (None, a, 14, 14)
    yield layers.BatchNormalization(center=bias, scale=other), (None, 4, a)
    yield layers.BatchNormalization(axis=1, renorm=True), (None, a, 4, 3)
    yield layers.LayerNormalization(center=bias, scale=other), (None, 4, a)
    yield layers.LayerNormalization(axis=[1, 3]), (None, a, b, c)
    yield layers.LayerNormalization(rms_scaling=True), (None, a)
    yield layers.GroupNormalization(groups, center=bias, scale=other), (None, 4, groups * a)
    yield layers.GroupNormalization(-1, axis=1), (None, a, 4)
    yield layers.RMSNormalization(), (None, a)
    yield layers.RMSNormalization(axis=(1, 2)), (None, a, b)
    yield layers.UnitNormalization(), (None, a)
    yield layers.Normalization(), (None, 4, a)
    yield layers.Normalization(axis=None), (None, a)
    yield layers.Normalization(axis=(1, 2)), (None, a, b)
    yield layers.Normalization(mean=0.0, variance=1.0), (None, a)
    yield layers.SpectralNormalization(layers.Dense(a, use_bias=bias)), (None, b)
    yield layers.SpectralNormalization(layers.Conv2D(a, 3)), (None, 9, 9, b)
    yield layers.SpectralNormalization(layers.Embedding(a, b)), (None, 4)
    yield layers.Embedding(a, b), (None, 4)
    yield layers.ReversibleEmbedding(a, b, tie_weights=bias), (None, 4)
    for cell in ("SimpleRNN", "LSTM", "GRU"):
        options = {"reset_after": other} if cell == "GRU" else {}
        yield getattr(layers, cell)(a, use_bias=bias, **options), (None, 5, b)
        cells = [getattr(layers, f"{cell}Cell")(size, **options) for size in (a, c, d)]
        yield layers.RNN(cells), (None, 5, b)
        yield layers.StackedRNNCells(
            [getattr(layers, f"{cell}Cell")(size) for size in (a, c)]), (None, b)
        yield layers.RNN(getattr(layers, f"{cell}Cell")(a, use_bias=bias)), (None, 5, b)
        yield getattr(layers, f"{cell}Cell")(a, **options), (None, b)
        yield layers.Bidirectional(getattr(layers, cell)(a, use_bias=bias)), (None, 5, b)
    yield layers.TimeDistributed(layers.Conv2D(a, 3)), (None, 5, 9, 9, b)
    yield layers.TimeDistributed(layers.Dense(a)), (None, 5, b)
    yield layers.PReLU(), (None, a, b)
    yield layers.PReLU(shared_axes=[1, 2]), (None, a, b, c)
    yield layers.PReLU(shared_axes=[1]), (None, a)
    yield layers.Attention(use_scale=True, score_mode="concat"), [(None, 4, a), (None, 3, a)]
    yield layers.AdditiveAttention(use_scale=bias), [(None, 4, a), (None, 3, a)]
    yield layers.MultiHeadAttention(a, b, use_bias=bias), {
        "query_shape": (None, 4, c), "value_shape": (None, 3, d)}
    yield layers.MultiHeadAttention(a, b, value_dim=c, output_shape=d, use_bias=bias), {
        "query_shape": (None, 4, c), "value_shape": (None, 3, d), "key_shape": (None, 3, a)}
    yield layers.MultiHeadAttention(a, b, value_dim=b, output_shape=(c, d), use_gate=True), {
        "query_shape": (None, 4, c), "value_shape": (None, 3, d)}
    yield layers.MultiHeadAttention(a, b, attention_axes=(1, 2)), {
        "query_shape": (None, 4, 5, c), "value_shape": (None, 4, 5, d)}
    yield layers.GroupQueryAttention(b, groups * c, c, use_bias=bias, use_gate=other), {
        "query_shape": (None, 4, d), "value_shape": (None, 3, a)}
    yield layers.STFTSpectrogram(frame_length=64, frame_step=32, fft_length=128), (None, 900, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_every_kind_against_keras(seed):
    for layer, shapes in kinds(random.Random(seed)):
        layer.build(**shapes) if isinstance(shapes, dict) else layer.build(shapes)
        assert total(layer) == layer.count_params(), layer
        assert_explained(layer)


def test_every_class_of_keras_that_makes_variables_is_among_the_kinds():
    makes = re.compile(r"add_weight|_track_variable|_track_module|tf\.Variable|existing_variables")
    classes = {kind.__name__: kind for kind in vars(layers).values()
               if inspect.isclass(kind) and issubclass(kind, layers.Layer)}
    makers = {name for name, kind in classes.items() if any(
        makes.search(inspect.getsource(parent))
        for parent in kind.__mro__[:kind.__mro__.index(layers.Layer)])}
    tested = {type(inner).__name__ for layer, _ in kinds(random.Random(0))
              for inner in layer._flatten_layers()}
    elsewhere = {"StringLookup", "IntegerLookup", "TorchModuleWrapper"}  # tests of their own below
    foreign = {"JaxLayer", "FlaxLayer", "TFSMLayer"}  # hold what another library made: no rule
    assert makers - tested - elsewhere == foreign


def test_swapped_kernel_is_seen():
    dense = layers.Dense(128)
    dense.build((None, 784))
    for attribute in ("_kernel", "bias"):
        getattr(dense, attribute)._value = keras.Variable(np.zeros((3, 5)))._value
    kernel, bias = collect_keras(dense)[0].tensors
    assert (kernel.formula.value, kernel.count) == (784 * 128, 15)
    assert (bias.formula.value, bias.count) == (128, 15)


def test_names_parents_and_leaves_without_parameters():
    entry = keras.Input((6, 8))
    block = layers.MultiHeadAttention(2, 4, name="attention")
    encoder = keras.Model(entry, block(entry, entry), name="encoder")
    model = keras.Sequential([keras.Input((6, 8)), encoder, layers.Flatten(name="flat"),
                              layers.Dense(3, name="out")])
    records = {record.name: record for record in collect_keras(model)}
    query = records["encoder/attention/query"]
    assert query.kind == "EinsumDense"
    assert query.parents == ("Sequential", "Functional", "MultiHeadAttention")
    assert str(query.tensors[0].formula) == "query_features·num_heads·key_dim = 8·2·4 = 64"
    assert records["flat"].tensors == [] and records["out"].kind == "Dense"


def test_recurrent_layer_is_shown_under_its_own_name():
    model = keras.Sequential([keras.Input((6, 8)), layers.LSTM(3, name="memory")])
    record = collect_keras(model)[-1]
    assert (record.name, record.kind) == ("memory", "LSTM")
    assert {tensor.name: tensor.count for tensor in record.tensors} == {
        "kernel": 8 * 12, "recurrent_kernel": 3 * 12, "bias": 12}


def test_optimizer_and_metrics_do_not_count_after_fit():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5, seed=1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((8, 4)), np.zeros((8, 3)), verbose=0)
    assert total(model) == 4 * 3 + 3 == model.count_params()
    buffers = [buffer for record in collect_keras(model) for buffer in record.buffers]
    assert [(buffer.count, buffer.trainable) for buffer in buffers] == [(2, False)]


class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = layers.Dense(3, name="hidden")
        self.spare = layers.Dense(9, name="spare")

    def call(self, x):
        return self.hidden(x)


class BuildsNothing(Subclassed):
    def build(self, input_shape):
        self.built = True


@pytest.mark.parametrize("make", [lambda: keras.Sequential([layers.Dense(3)]), Subclassed,
                                  lambda: layers.Dense(3), lambda: layers.MultiHeadAttention(2, 3),
                                  lambda: layers.LSTM(3), lambda: keras.Sequential()])
def test_unbuilt_is_an_error_that_says_what_to_call(make):
    with pytest.raises(ValueError, match=r"no variables to count yet.*call it once"):
        collect_keras(make())


def test_build_alone_is_an_error():
    for kind in (BuildsNothing, Subclassed):
        model = kind(name="mine")
        with pytest.warns() if kind is Subclassed else contextlib.nullcontext():
            model.build((None, 4))
        assert model.built and model.count_params() == 0
        with pytest.raises(ValueError, match="'mine'.*'hidden' is not built"):
            collect_keras(model)


def test_called_model_counts_and_names_the_layer_it_does_not_use():
    model = Subclassed()
    model(np.zeros((1, 4)))
    assert total(model) == 15
    spare = [record for record in collect_keras(model) if record.name == "spare"]
    assert spare[0].notes == ["not built: no input has reached it"] and not spare[0].tensors


@only_tensorflow
def test_tf_variable_held_by_a_layer_is_found():
    import tensorflow as tf

    class Own(layers.Layer):
        def __init__(self):
            super().__init__()
            self.direct = tf.Variable(tf.zeros((2, 3)))
            self.inside = {"list": [tf.Variable(tf.zeros(5), trainable=False)]}

        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((4,)), Own()])
    assert model.count_params() == 0 and total(model) == 11 and trainable(model) == 6
    names = [t.name for record in collect_keras(model) for t in record.tensors]
    assert names == ["direct", "inside/list/0"]


def test_shared_layer_and_shared_nested_model_are_counted_once():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="core")], name="inner")
    left, right = keras.Input((4,)), keras.Input((4,))
    twice = keras.Model([left, right], layers.add([inner(left), inner(right)]))
    assert total(twice) == 20 and [r.name for r in collect_keras(twice)].count("inner/core") == 1
    outer = keras.Model(left, keras.Sequential([inner], name="again")(inner(left)))
    cores = [record for record in collect_keras(outer) if record.name.endswith("core")]
    assert [record.name for record in cores] == ["inner/core", "again/inner/core"]
    assert [record.notes for record in cores] == [[], ["reused"]]
    assert cores[0].tensors[0].identity == cores[1].tensors[0].identity
    assert total(outer) == 20 == outer.count_params()


def test_tied_kernel_has_one_owner_and_one_formula():
    class Head(layers.Layer):
        def __init__(self, table):
            super().__init__()
            self.table = table

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.table))

    entry = keras.Input((5,), dtype="int32")
    embedding = layers.Embedding(11, 4)
    hidden = embedding(entry)
    model = keras.Model(entry, Head(embedding.embeddings)(hidden))
    assert total(model) == 44 == model.count_params()
    assert_explained(model)


def test_frozen_layers_are_counted_and_not_trainable():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(),
                              layers.Dense(2, trainable=False)])
    assert (total(model), trainable(model)) == (15 + 12 + 8, 15 + 6)
    model.layers[0].trainable = False
    assert trainable(model) == 6
    model.trainable = False
    assert (total(model), trainable(model)) == (35, 0)


def test_statistics_are_told_apart():
    model = keras.Sequential([keras.Input((4,)), layers.Normalization(),
                              layers.SpectralNormalization(layers.Dense(3)),
                              layers.BatchNormalization()])
    apart = [t for t in owned(model) if t.note == "statistics"]
    assert sum(t.count for t in apart) == (4 + 4 + 1) + 3 + 6
    assert not any(t.trainable for t in apart) and total(model) == model.count_params()


def plain_and_quantised(mode):
    for make, shape in ((lambda: layers.Dense(5), (None, 7)),
                        (lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 5),
                                                    bias_axes="de"), (None, 4, 7)),
                        (lambda: layers.Embedding(11, 5), (None, 4)),
                        (lambda: layers.ReversibleEmbedding(11, 5, tie_weights=False), (None, 4))):
        layer = make()
        if mode == "float8" and isinstance(layer, layers.Embedding):
            continue
        layer.build(shape)
        before = layer.count_params()
        layer.quantize(mode)
        yield layer, before


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantising_does_not_change_the_count(mode):
    for layer, before in plain_and_quantised(mode):
        assert total(layer) == before, layer
        assert_explained(layer)
        record = collect_keras(layer)[0]
        assert record.buffers and all(b.note == "quantised storage" for b in record.buffers)
        stored = sum(tensor.bytes for tensor in record.tensors if "quantised" in tensor.note)
        biases = sum(t.count for t in record.tensors if t.name == "bias")
        if mode == "int8":
            assert stored == before - biases


def test_int4_of_an_odd_width_is_bigger_than_its_bytes_say():
    layer = layers.Dense(5)
    layer.build((None, 7))
    layer.quantize("int4")
    kernel = next(t for t in collect_keras(layer)[0].tensors if t.name == "kernel")
    assert (kernel.count, kernel.bytes, kernel.dtype, kernel.shape) == (35, 21, "int4", (7, 5))


def test_gptq_is_counted_once_before_and_after_calibration():
    layer = layers.Dense(5)
    layer.build((None, 7))
    layer.quantize("gptq", config=keras.quantizers.GPTQConfig(dataset=None, tokenizer=None))
    assert total(layer) == 40  # the kernel of before still works, the packed one waits
    layer._tracker.unlock()
    del layer._kernel
    layer.is_gptq_calibrated = True
    assert total(layer) == 40
    assert_explained(layer)


def test_lora_freezes_the_kernel_and_adds_two_matrices_of_a_rank():
    cases = [(layers.Dense(5), (None, 7), 2 * (7 + 5)),
             (layers.Conv2D(6, 3, groups=2), (None, 9, 9, 4), 2 * (3 * 3 * 2 + 6)),
             (layers.EinsumDense("abc,cde->abde", (None, 3, 5)), (None, 4, 7), 2 * (7 * 3 + 5)),
             (layers.Embedding(11, 5), (None, 4), 2 * (11 + 5))]
    for layer, shape, added in cases:
        layer.build(shape)
        before = layer.count_params()
        layer.enable_lora(2)
        assert total(layer) == before + added == layer.count_params()
        assert_explained(layer)
        names = {t.name: t.trainable for t in owned(layer)}
        assert not names.get("kernel", False) and not names.get("embeddings", False)
        texts = [t.formula.text for t in owned(layer) if t.name.startswith("lora")]
        assert len(texts) == 2 and all("lora_rank" in text for text in texts)


def test_lora_inside_attention_speaks_in_heads():
    layer = layers.MultiHeadAttention(2, 3)
    layer.build((None, 4, 8), (None, 4, 8))
    layer._query_dense.enable_lora(2)
    assert_explained(layer)
    assert total(layer) == layer.count_params()


def test_user_layer_has_no_formula_but_is_counted():
    class Own(layers.Layer):
        def build(self, input_shape):
            self.weight = self.add_weight(shape=(2, 3))
            self.offset = self.add_weight(shape=(4,), name="offset", trainable=False)

    class Dense(layers.Layer):  # a name alone earns no rule
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 2), name="kernel")

    class Scaled(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight(shape=(), name="scale")

    own, fake, scaled = Own(), Dense(), Scaled(3)
    for layer in (own, fake, scaled):
        layer.build((None, 4))
    assert {t.name: t.formula for t in owned(own)} == {"weight": None, "offset": None}
    assert (total(own), trainable(own)) == (10, 6)
    assert [t.formula for t in owned(fake)] == [None]
    assert {t.name: bool(t.formula) for t in owned(scaled)} == {
        "kernel": True, "bias": True, "scale": False}


@only_tensorflow
def test_tf_idf_weights_are_statistics():
    layer = layers.StringLookup(output_mode="tf_idf")
    layer.adapt([["a", "b"], ["a", "c"]])
    tensors = {t.name: t for t in owned(layer)}
    assert tensors["idf_weights"].count == tensors["idf_weights"].formula.value == 4
    assert {t.note for t in tensors.values()} == {"statistics"}


def test_stateful_memory_is_a_buffer():
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 4)), layers.LSTM(3, stateful=True)])
    assert total(model) == 4 * (4 * 3 + 3 * 3 + 3)
    buffers = [b for record in collect_keras(model) for b in record.buffers]
    assert sum(b.count for b in buffers if b.name.startswith("states")) == 2 * 2 * 3


def test_two_siblings_of_one_name_stay_two_rows():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(2, name="same"), layers.Dense(3, name="same")

        def call(self, x):
            return self.b(self.a(x))

    model = Twins()
    model(np.zeros((1, 4)))
    assert [record.name for record in collect_keras(model)] == ["same", "same#2"]


def test_saved_and_loaded_model_keeps_its_formulas(tmp_path):
    model = keras.Sequential([keras.Input((9, 9, 3)), layers.Conv2D(4, 3), layers.PReLU(),
                              layers.Flatten(), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert total(loaded) == total(model)
    assert_explained(loaded)


@pytest.mark.parametrize("model", [None, "resnet50", 3, np.zeros(3), layers.Dense])
def test_not_a_model(model):
    with pytest.raises(TypeError, match="model must be a Keras model or layer, not"):
        collect_keras(model)


@pytest.mark.skipif(BACKEND != "torch", reason="wraps a torch module")
def test_torch_module_inside_keras():
    import torch
    wrapper = layers.TorchModuleWrapper(torch.nn.Sequential(
        torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)))
    assert total(wrapper) == 4 * 3 + 3 + 6
    assert_explained(wrapper)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="started from the other backend")
def test_the_same_on_torch():
    pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                             "-k", "ResNet50 or every_kind_against_keras and 0 or module or tied "
                             "or frozen or lora or stateful or fit or int4 or swapped", __file__],
                            env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
