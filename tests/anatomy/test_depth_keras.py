"""Depth of Keras models: the truth table, twins in torch, every way to write a model."""

import csv
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
import transformers
from random_networks import as_graph, in_keras, program
from torch import nn

from course_lib.anatomy import builders
from course_lib.anatomy.depth import CreditPath, measure_depth

TRUTH = Path(__file__).parents[1] / "truth" / "depth.csv"
EXACT = ("hidden", "weighted", "with_parameters", "blocks", "credit_path", "nonlinear", "shortest",
         "mean", "paths", "path_lengths", "keras_table")
layers = keras.layers


def truth():
    with TRUTH.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if "keras.applications" in row["source"]]


@pytest.mark.slow
@pytest.mark.parametrize("row", truth(), ids=lambda row: row["model"])
def test_truth_table(row):
    report = measure_depth(getattr(keras.applications, row["model"])(weights=None))
    for key in ("weighted", "with_parameters", "blocks", "shortest", "paths"):
        if row[key]:
            assert getattr(report, key) == int(row[key]), key
    if "keras_table" in row["note"]:
        assert report.keras_table == int(row["note"].split("keras_table ")[1].split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("name,published", [
    # the Depth column of keras.io/api/applications
    ("Xception", 81), ("VGG16", 16), ("VGG19", 19), ("ResNet50", 107), ("ResNet50V2", 103),
    ("MobileNet", 55), ("MobileNetV2", 105), ("DenseNet121", 242), ("EfficientNetB0", 132),
    ("InceptionV3", 189)])
def test_the_published_column(name, published):
    assert measure_depth(getattr(keras.applications, name)(weights=None)).keras_table == published


def same(torch_report, keras_report, but=()):
    for key in EXACT:
        if key not in but:
            assert getattr(torch_report, key) == getattr(keras_report, key), key


def test_resnet50_twin():
    config = transformers.ResNetConfig(num_labels=1000)
    with torch.device("meta"):
        model = transformers.ResNetForImageClassification(config)
    twin = keras.applications.ResNet50(weights=None, classifier_activation=None)
    same(measure_depth(model, torch.zeros(1, 3, 224, 224)), measure_depth(twin))


@pytest.mark.slow
def test_vgg16_and_mlp_twins():
    twin = keras.applications.VGG16(weights=None, classifier_activation=None)
    with torch.device("meta"):
        same(measure_depth(builders.vgg(16), torch.zeros(1, 3, 224, 224)), measure_depth(twin))
    mlp = keras.Sequential([keras.Input((784,)), layers.Dense(128, activation="relu"),
                            layers.Dense(10)])
    same(measure_depth(builders.mlp([784, 128, 10]), torch.zeros(1, 784)), measure_depth(mlp))


@pytest.mark.parametrize("dropout", [0.0, 0.1])       # keras takes another way through attention
def test_transformer_twin(dropout):
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(32, 4, 64, dropout, batch_first=True), 3)
    x = start = keras.Input((16, 32))
    for block in range(3):
        attended = layers.MultiHeadAttention(4, 8, dropout=dropout)(x, x)
        x = layers.LayerNormalization()(layers.Add(name=f"block_{block}_add1")([x, attended]))
        wide = layers.Dense(64, activation="relu")(x)
        x = layers.Add(name=f"block_{block}_add2")([x, layers.Dense(32)(wide)])
        x = layers.LayerNormalization()(x)
    same(measure_depth(encoder, torch.zeros(1, 16, 32)), measure_depth(keras.Model(start, x)))


@pytest.mark.parametrize("stack", [1, 2, 3])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_twins(stack, both):
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 8)
            self.recurrent = nn.LSTM(8, 8, stack, bidirectional=both, batch_first=True)
            self.head = nn.Linear(16 if both else 8, 5)

        def forward(self, ids):
            return self.head(self.recurrent(self.embedding(ids))[0])
    x = start = keras.Input((10,), dtype="int32")
    x = layers.Embedding(50, 8)(x)
    for _ in range(stack):
        one = layers.LSTM(8, return_sequences=True)
        x = (layers.Bidirectional(one) if both else one)(x)
    x = layers.TimeDistributed(layers.Dense(5))(x)
    report = measure_depth(keras.Model(start, x))
    same(measure_depth(Tagger(), torch.zeros(1, 10, dtype=torch.long)), report)
    assert report.credit_path == (CreditPath(stack, 2) if both else CreditPath(1, stack - 1 + 2))


def test_dense_connections_twin():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4 * (i + 1), 4) for i in range(5))

        def forward(self, x):
            for layer in self.layers:
                x = torch.cat([x, torch.relu(layer(x))], -1)
            return x
    x = start = keras.Input((4,))
    for _ in range(5):
        x = layers.Concatenate()([x, layers.Dense(4, activation="relu")(x)])
    report = measure_depth(keras.Model(start, x))
    same(measure_depth(Dense(), torch.zeros(1, 4)), report)
    assert report.path_lengths == {k: math.comb(5, k) for k in range(6)}


class Block(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.norm = layers.LayerNormalization()
        self.wide, self.narrow = layers.Dense(width, activation="gelu"), layers.Dense(width)

    def call(self, x):
        return x + self.narrow(self.wide(self.norm(x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks, self.head = [Block(8) for _ in range(3)], layers.Dense(2)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))


def test_subclassed_models():
    data = np.zeros((2, 8), "float32")
    model = Subclassed()
    with pytest.raises(ValueError, match="is not built: call it once on data"):
        measure_depth(model)
    model(data)
    history = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    report = measure_depth(model)
    assert history == [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    twin = nn.Sequential(TorchBlock(), TorchBlock(), TorchBlock(), nn.Linear(8, 2))
    same(measure_depth(twin, torch.zeros(2, 8)), report)
    assert report.blocks == 3 and measure_depth(model, data).path_lengths == report.path_lengths


def test_own_variables_and_operations():
    class Own(keras.Model):
        def build(self, shape):
            self.first = self.add_weight(shape=(8, 8))
            self.bias = self.add_weight(shape=(8,))
            self.second = self.add_weight(shape=(8, 3))

        def call(self, x):
            return keras.ops.relu(keras.ops.matmul(x, self.first) + self.bias) @ self.second
    model = Own()
    model(np.zeros((2, 8), "float32"))
    report = measure_depth(model)
    assert (report.weighted, report.with_parameters, report.nonlinear) == (2, 2, 1)
    assert report.keras_table == 1


def test_dictionaries_of_inputs():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.table = layers.Dense(2), layers.Embedding(5, 3)

        def call(self, inputs):
            return keras.ops.concatenate([self.dense(inputs["x"]), self.table(inputs["ids"])], -1)
    model = Two()
    inputs = {"x": np.zeros((2, 8), "float32"), "ids": np.zeros((2,), "int32")}
    model(inputs)
    assert measure_depth(model).paths == measure_depth(model, inputs).paths == 2


def test_nested_and_shared():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="relu"),
                              layers.Dense(8)])
    start = keras.Input((8,))
    report = measure_depth(keras.Model(start, inner(inner(start)) + start))
    assert (report.weighted, report.paths, report.keras_table) == (4, 2, 2)
    assert report.witness[0].startswith(inner.name + "/")
    dense = layers.Dense(8)
    report = measure_depth(keras.Model(start, dense(dense(dense(start)))))
    assert (report.weighted, report.keras_table) == (3, 1)


def test_states_start_a_new_count():
    source, target = keras.Input((None, 3)), keras.Input((None, 3))
    _, *states = layers.LSTM(8, return_state=True)(source)
    decoded = layers.LSTM(8, return_sequences=True)(target, initial_state=states)
    report = measure_depth(keras.Model([source, target], layers.Dense(2)(decoded)))
    assert str(report.credit_path) == "2·T + 1" and report.paths == 2


def test_masks_begin_no_path():
    start = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(start)
    report = measure_depth(keras.Model(start, layers.LSTM(4)(x)))
    assert report.path_lengths == {2: 1} and str(report.credit_path) == "T + 1"
    visible = keras.ops.expand_dims(keras.ops.not_equal(start, 0), 1)
    x = layers.Embedding(9, 4)(start)
    x = layers.MultiHeadAttention(2, 2)(x, x, attention_mask=visible)
    assert measure_depth(keras.Model(start, x)).path_lengths == {3: 3}


def test_layers_around_layers():
    cells = layers.StackedRNNCells([layers.GRUCell(4), layers.GRUCell(4)])
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    for layer, shape, weighted, credit in (
            (layers.SpectralNormalization(layers.Dense(4)), (4,), 1, "1"),
            (layers.ConvLSTM2D(3, 3), (4, 8, 8, 3), 1, "T"),
            (layers.RNN(cells, return_sequences=True), (5, 4), 2, "T + 1"),
            (layers.TimeDistributed(inner), (5, 4), 2, "2"),
            (layers.GroupQueryAttention(8, 4, 2), (5, 16), 2, "2")):
        one = keras.Input(shape)
        pair = (one, one) if "Attention" in type(layer).__name__ else (one,)
        report = measure_depth(keras.Model(one, layer(*pair)))
        assert (report.weighted, str(report.credit_path)) == (weighted, credit), layer.name


def test_separable_convolutions_are_two_matrices():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.SeparableConv2D(4, 3),
                              layers.DepthwiseConv2D(3)])
    assert measure_depth(model).weighted == 3


def test_bad_input():
    import tensorflow

    class Foreign(keras.Model):
        def __init__(self):
            super().__init__(name="foreign")
            self.dense = layers.Dense(2)

        def call(self, x):
            return tensorflow.nn.relu(self.dense(x))
    model = Foreign()
    model(np.zeros((2, 8), "float32"))
    with pytest.raises(ValueError, match="layer 'foreign' .Foreign. cannot be followed") as caught:
        measure_depth(model)
    assert "\n" not in str(caught.value) and "keras.ops" in str(caught.value)
    for unbuilt in (keras.Sequential([layers.Dense(2)]), layers.Dense(2)):
        with pytest.raises(ValueError, match="is not built"):
            measure_depth(unbuilt)
    built = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"shape \(2, 9\) do not fit .* takes \(None, 8\)"):
        measure_depth(built, np.zeros((2, 9)))
    with pytest.raises(TypeError, match="inputs must be arrays or tensors, not str"):
        measure_depth(built, "text")


@pytest.mark.parametrize("seed", range(25))
def test_random_networks(seed):
    lines = program(seed)
    expected, report = measure_depth(as_graph(lines)), measure_depth(in_keras(lines))
    for key in ("weighted", "with_parameters", "nonlinear", "path_lengths"):
        assert getattr(report, key) == getattr(expected, key), (key, lines)
