"""copy_weights: random stacks agree in both directions, and a mismatch is explained."""
import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
from torch import nn  # noqa: E402

from course_lib.foundations.parity import copy_weights  # noqa: E402

L = keras.layers
LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}       # channels to the end
FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


class First(nn.Module):
    """A recurrent layer that hands on its outputs and not its states."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class SelfAttention(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x, x, need_weights=False)[0]


class KerasSelfAttention(L.Layer):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape, shape)

    def call(self, x):
        return self.layer(x, x)


def shake(model, seed):
    """Random numbers everywhere, running variances positive, so that no zero hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                scale = 0.5 / max(1, tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.3
                tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.5)
    return model.eval()


def agree(ours, theirs, x, seed=0, image=False):
    """Copy there and compare; spoil torch's weights, copy back and compare."""
    shake(ours, seed)
    report = copy_weights(ours, theirs)
    result = np.asarray(keras.ops.convert_to_numpy(
        theirs(x.transpose(LAST[x.ndim]) if image else x, training=False)))
    given = torch.tensor(x)

    def difference():
        mine = ours(given).detach().numpy()
        turned = result.transpose(FIRST[result.ndim]) if image and result.ndim > 2 else result
        assert mine.shape == turned.shape
        return abs(mine - turned).max()
    assert difference() < 1e-5
    shake(ours, seed + 1)
    assert difference() > 1e-3
    copy_weights(ours, theirs, to="torch")
    assert difference() < 1e-5
    return report


def keras_stack(shape, *stack):
    return keras.Sequential([keras.Input(shape), *stack])


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("seed", range(4))
def test_random_dense_stacks(seed):
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 20, size=rng.integers(2, 6))
    ours, theirs = [], []
    for before, after in zip(widths, widths[1:]):
        bias, norm = rng.integers(0, 2, size=2)
        ours += [nn.Linear(before, after, bias=bool(bias)), nn.Tanh()]
        theirs += [L.Dense(int(after), activation="tanh", use_bias=bool(bias))]
        if norm:
            ours.append(nn.BatchNorm1d(after))
            theirs.append(L.BatchNormalization(epsilon=1e-5))
    agree(nn.Sequential(*ours), keras_stack((int(widths[0]),), *theirs),
          normal(rng, 6, widths[0]), seed)


@pytest.mark.parametrize("seed", range(6))
def test_random_image_stacks(seed):
    """Convolutions of every kind, then flattened into a dense layer."""
    rng = np.random.default_rng(100 + seed)
    channels = int(rng.integers(1, 4)) * 2
    ours, theirs, shape = [], [], (13, 12, channels)
    for _ in range(3):
        kind, size, out = rng.integers(5), int(rng.integers(1, 4)), int(rng.integers(1, 4)) * 2
        if kind == 0:
            ours.append(nn.Conv2d(channels, out, size, stride=2))
            theirs.append(L.Conv2D(out, size, strides=2))
        elif kind == 1:
            ours.append(nn.Conv2d(channels, out, (size, 2), groups=2))
            theirs.append(L.Conv2D(out, (size, 2), groups=2))
        elif kind == 2:
            ours.append(nn.ConvTranspose2d(channels, out, size))
            theirs.append(L.Conv2DTranspose(out, size))
        elif kind == 3:
            out = channels * int(rng.integers(1, 4))
            ours.append(nn.Conv2d(channels, out, size, groups=channels))
            theirs.append(L.DepthwiseConv2D(size, depth_multiplier=out // channels))
        else:
            ours += [nn.Conv2d(channels, channels * 2, size, groups=channels, bias=False),
                     nn.Conv2d(channels * 2, out, 1)]
            theirs.append(L.SeparableConv2D(out, size, depth_multiplier=2))
        channels = out
        norms = [(nn.BatchNorm2d(out), L.BatchNormalization(epsilon=1e-5)),
                 (nn.GroupNorm(2, out), L.GroupNormalization(2, epsilon=1e-5)),
                 (nn.ReLU(), L.ReLU())]
        pair = norms[rng.integers(3)]
        ours.append(pair[0])
        theirs.append(pair[1])
    body = keras_stack(shape, *theirs)
    flat = int(np.prod(body.output_shape[1:]))
    theirs = keras_stack(shape, *theirs, L.Flatten(), L.Dropout(0.5),
                         L.BatchNormalization(epsilon=1e-5), L.Dense(7), L.Dense(3))
    ours = nn.Sequential(*ours, nn.Flatten(), nn.BatchNorm1d(flat), nn.Linear(flat, 7),
                         nn.Linear(7, 3))
    report = agree(ours, theirs, normal(rng, 3, shape[2], *shape[:2]), seed, image=True)
    assert not report.settings or all("momentum" in each for each in report.settings)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_every_rank(rank, transposed):
    rng = np.random.default_rng(rank)
    kind = "ConvTranspose" if transposed else "Conv"
    ours = getattr(nn, f"{kind}{rank}d")(3, 4, 3, stride=2)
    theirs = getattr(L, f"Conv{rank}D{'Transpose' if transposed else ''}")(4, 3, strides=2)
    x = normal(rng, 2, 3, *(7, 6, 5)[:rank])
    report = agree(ours, keras_stack((*x.shape[2:], 3), theirs), x, rank, image=True)
    assert report.settings == ()


def test_depthwise_and_separable_in_one_dimension():
    x = normal(np.random.default_rng(0), 2, 3, 9)
    agree(nn.Conv1d(3, 6, 3, groups=3),
          keras_stack((9, 3), L.DepthwiseConv1D(3, depth_multiplier=2)), x, image=True)
    agree(nn.Sequential(nn.Conv1d(3, 6, 3, groups=3, bias=False), nn.Conv1d(6, 5, 1)),
          keras_stack((9, 3), L.SeparableConv1D(5, 3, depth_multiplier=2)), x, image=True)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind, theirs, options", [
    ("LSTM", "LSTM", {}), ("GRU", "GRU", {}), ("RNN", "SimpleRNN", {})])
@pytest.mark.parametrize("levels, directions", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_recurrent_stacks(kind, theirs, options, levels, directions, bias):
    rng = np.random.default_rng(levels + 2 * directions)
    ours = First(getattr(nn, kind)(5, 4, num_layers=levels, bidirectional=directions == 2,
                                   batch_first=True, bias=bias))

    def level():
        layer = getattr(L, theirs)(4, return_sequences=True, use_bias=bias)
        return L.Bidirectional(layer) if directions == 2 else layer
    stack = keras_stack((6, 5), *(level() for _ in range(levels)))
    report = agree(ours, stack, normal(rng, 3, 6, 5), levels)
    assert len(report.layers) == levels * directions


def test_embedding_lstm_and_norm_in_one_stack():
    rng = np.random.default_rng(5)
    ours = nn.Sequential(nn.Embedding(11, 6), First(nn.GRU(6, 5, batch_first=True)),
                         nn.LayerNorm(5), nn.Flatten(), nn.Linear(20, 3))
    theirs = keras_stack((4,), L.Embedding(11, 6), L.GRU(5, return_sequences=True),
                         L.LayerNormalization(epsilon=1e-5), L.Flatten(), L.Dense(3))
    report = agree(ours, theirs, rng.integers(0, 11, size=(7, 4)))
    assert report.settings == ()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention(heads, bias):
    x = normal(np.random.default_rng(heads), 2, 5, 8)
    ours = SelfAttention(nn.MultiheadAttention(8, heads, batch_first=True, bias=bias))
    layer = L.MultiHeadAttention(heads, 8 // heads, use_bias=bias)
    agree(nn.Sequential(ours, nn.RMSNorm(8, eps=1e-6)),
          keras_stack((5, 8), KerasSelfAttention(layer), L.RMSNormalization(epsilon=1e-6)), x)


def test_attention_with_widths_of_its_own():
    rng = np.random.default_rng(0)
    ours = shake(nn.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=True), 3)
    theirs = L.MultiHeadAttention(2, 4)
    q, k, v = normal(rng, 2, 3, 8), normal(rng, 2, 4, 6), normal(rng, 2, 4, 5)
    theirs(q, v, k)
    copy_weights(ours, theirs)
    expected = ours(*map(torch.tensor, (q, k, v)))[0].detach().numpy()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(theirs(q, v, k)), expected, atol=1e-5)


def test_another_number_of_heads_is_refused_though_all_shapes_fit():
    theirs = L.MultiHeadAttention(2, 4)
    theirs.build((1, 5, 8), (1, 5, 8))
    for to in ("keras", "torch"):
        with pytest.raises(ValueError, match="number of heads is 4 in torch and 2 in .*: nothing"):
            copy_weights(nn.MultiheadAttention(8, 4), theirs, to=to)


def built(layer, *shape):
    layer.build((None, *shape))
    return layer


@pytest.mark.parametrize("ours, theirs", [
    (lambda: nn.Conv2d(2, 4, 3), lambda: built(L.Conv2D(4, 3, groups=2), 8, 8, 4)),
    (lambda: nn.Conv2d(1, 6, 3), lambda: built(L.DepthwiseConv2D(3, depth_multiplier=2), 8, 8, 3)),
    (lambda: nn.ConvTranspose2d(4, 4, 3, groups=2, bias=False),
     lambda: built(L.Conv2DTranspose(2, 3, use_bias=False), 6, 6, 4))])
def test_another_number_of_groups_is_refused_though_all_shapes_fit(ours, theirs):
    with pytest.raises(ValueError, match="number of groups is .*: nothing was copied"):
        copy_weights(ours(), theirs())


class Adapted(nn.Linear):
    """A linear layer with arrays of its own, as LoRA has."""

    def __init__(self):
        super().__init__(3, 2)
        self.lora = nn.Parameter(torch.ones(2, 2))


class Gated(nn.Linear):
    """A linear layer with another inside."""

    def __init__(self):
        super().__init__(3, 2)
        self.gate = nn.Linear(3, 2)


def adapted():
    dense = built(L.Dense(2), 3)
    dense.enable_lora(2)
    return dense


def quantised():
    dense = built(L.Dense(2), 3)
    dense.quantize("int8")
    return dense


def with_gate():
    layer = L.MultiHeadAttention(2, 4, use_gate=True)
    layer.build((1, 5, 8), (1, 5, 8))
    return layer


@pytest.mark.parametrize("to", ["keras", "torch"])
@pytest.mark.parametrize("ours, theirs, name", [
    (Adapted, lambda: built(L.Dense(2), 3), "lora"),
    (Gated, lambda: built(L.Dense(2), 3), "gate.bias"),
    (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
     lambda: built(L.Dense(2), 3), "parametrizations.weight.original0"),
    (lambda: nn.utils.prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5),
     lambda: built(L.Dense(2), 3), "weight_mask"),
    (lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), with_gate, "bias_k"),
    (lambda: nn.Linear(3, 2), adapted, "lora_kernel_a"),
    (lambda: nn.Linear(3, 2), quantised, "kernel_scale"),
    (lambda: nn.MultiheadAttention(8, 2), with_gate, "gate/bias")])
def test_an_array_that_no_rule_knows_is_refused(ours, theirs, name, to):
    import torch.nn.utils.prune  # noqa: F401
    with pytest.raises(ValueError) as caught:
        copy_weights(ours(), theirs(), to=to)
    assert str(caught.value).endswith(f"keeps {name}, which no rule knows: nothing was copied")


@pytest.mark.parametrize("side, before, size, stack", [
    (8, [], 192, lambda: [L.Flatten(), L.Dense(5)]),
    (8, [nn.Conv2d(3, 4, 3)], 144, lambda: [L.Conv2D(4, 3), L.Reshape((144,)), L.Dense(5)]),
    (4, [nn.Upsample(scale_factor=2)], 192, lambda: [L.UpSampling2D(2), L.Flatten(), L.Dense(5)]),
    (8, [nn.Conv2d(3, 4, 3)], 144,
     lambda: [keras_stack((8, 8, 3), L.Conv2D(4, 3)), L.Flatten(), L.Dense(5)]),
    (8, [nn.Conv2d(3, 4, 3)], 144,
     lambda: [L.Conv2D(4, 3), keras_stack((6, 6, 4), L.Flatten(), L.Dense(5))])])
def test_a_flattened_image_is_found(side, before, size, stack):
    """A bare image, a reshape, a layer without weights, a nested body, a nested head."""
    ours = nn.Sequential(*before, nn.Flatten(), nn.Linear(size, 5))
    report = agree(ours, keras_stack((side, side, 3), *stack()),
                   normal(np.random.default_rng(0), 2, 3, side, side), image=True)
    assert report.layers[-1][3].endswith("rows reordered") and report.settings == ()


def test_a_residual_image_is_found():
    given = keras.Input((8, 8, 3))
    summed = L.Add()([given, L.Conv2D(3, 3, padding="same")(given)])
    theirs = keras.Model(given, L.Dense(5)(L.Flatten()(summed)))
    ours = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Linear(192, 5))
    assert "rows reordered" in copy_weights(ours, theirs).layers[1][3]


def test_channels_first_and_a_permutation_keep_their_rows():
    options = {"data_format": "channels_first"}
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(144, 5))
    for flatten, moved in ((L.Flatten(), False), (L.Flatten(**options), True)):
        theirs = keras_stack((3, 8, 8), L.Conv2D(4, 3, **options), flatten, L.Dense(5))
        assert ("reordered" in copy_weights(ours, theirs).layers[1][3]) is moved
    theirs = keras_stack((8, 8, 3), L.Conv2D(4, 3), L.Permute((3, 1, 2)), L.Flatten(), L.Dense(5))
    assert "reordered" not in copy_weights(ours, theirs).layers[1][3]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.head = L.Conv2D(4, 3), L.Dense(5)

    def call(self, x):
        return self.head(keras.ops.reshape(self.body(x), (-1, 144)))


def test_what_cannot_be_seen_is_told():
    def joined():
        image, meta = keras.Input((8, 8, 3)), keras.Input((2,))
        flat = L.Concatenate()([L.Flatten()(L.Conv2D(4, 3)(image)), meta])
        return keras.Model([image, meta], L.Dense(5)(flat))

    def called():
        model = Subclassed()
        model(np.zeros((1, 8, 8, 3), "float32"))
        return model
    for model, rows in ((called(), 144), (joined(), 146)):
        ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(rows, 5))
        (note,) = copy_weights(ours, model).settings
        assert note.startswith("the rows of Keras's dense") and "compare outputs" in note
        assert copy_weights(ours, model, reorder_flattened=False).settings == ()
    pooled = keras_stack((8, 8, 3), L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(5))
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5))
    assert copy_weights(ours, pooled).settings == ()
    several = keras_stack((4, 4, 4), L.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5))
    assert "compare outputs" in copy_weights(nn.LayerNorm((4, 4, 4)), several).settings[0]


@pytest.mark.parametrize("ours, theirs, word", [
    (lambda: nn.RNN(5, 4, nonlinearity="relu"), lambda: built(L.SimpleRNN(4), 6, 5), "activation"),
    (lambda: nn.LSTM(5, 4), lambda: built(L.LSTM(4, activation="relu"), 6, 5), "activation"),
    (lambda: nn.GRU(5, 4), lambda: built(L.GRU(4, recurrent_activation="hard_sigmoid"), 6, 5),
     "recurrent_activation"),
    (lambda: nn.LSTM(5, 4), lambda: built(L.LSTM(4, go_backwards=True), 6, 5), "go_backwards"),
    (lambda: nn.LSTM(5, 4, bidirectional=True),
     lambda: built(L.Bidirectional(L.LSTM(4), merge_mode="sum"), 6, 5), "merge_mode"),
    (lambda: nn.ConvTranspose2d(3, 4, 2, stride=3),
     lambda: built(L.Conv2DTranspose(4, 2, strides=3), 8, 8, 3), "output_padding"),
    (lambda: nn.LayerNorm(4), lambda: keras_stack((4, 4), L.LayerNormalization(1, 1e-5)), "axis"),
    (lambda: nn.RMSNorm(4), lambda: built(L.RMSNormalization(), 4), "epsilon"),
    (lambda: nn.Embedding(5, 3, max_norm=0.1), lambda: built(L.Embedding(5, 3), 4), "max_norm"),
    (lambda: nn.Embedding(5, 3), lambda: built(L.Embedding(5, 3, mask_zero=True), 4), "mask_zero"),
    (lambda: nn.MultiheadAttention(8, 2, add_zero_attn=True),
     lambda: (lambda layer: layer.build((1, 5, 8), (1, 5, 8)) or layer)(L.MultiHeadAttention(2, 4)),
     "add_zero_attn")])
def test_settings_that_change_outputs_are_noted(ours, theirs, word):
    (note,) = copy_weights(ours(), theirs()).settings
    assert note.startswith(f"{word} differs: ")


def test_output_padding_that_fills_a_stride_agrees():
    ours = nn.ConvTranspose2d(3, 4, 2, stride=3, output_padding=1)
    theirs = keras_stack((4, 5, 3), L.Conv2DTranspose(4, 2, strides=3))
    assert agree(ours, theirs, normal(np.random.default_rng(0), 2, 3, 4, 5),
                 image=True).settings == ()


def test_what_fails_while_writing_is_undone():
    with torch.inference_mode():
        frozen = nn.Linear(3, 2)
    ours = nn.Sequential(nn.Linear(3, 3), frozen)
    before = ours[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"weight of torch's 1 .*cannot be written.*nothing was"):
        copy_weights(ours, keras_stack((3,), L.Dense(3), L.Dense(2)), to="torch")
    assert torch.equal(ours[0].weight, before)


def test_numbers_too_large_for_the_type_are_refused():
    ours, theirs = nn.Linear(3, 2), built(L.Dense(2, dtype="float16"), 3)
    nn.init.constant_(ours.weight, 1e6)
    with pytest.raises(ValueError, match="kernel of Keras's .* is float16, too small"):
        copy_weights(ours, theirs)
    theirs = built(L.Dense(2), 3)
    copy_weights(ours, theirs)
    with pytest.raises(ValueError, match="weight of torch's .* is torch.float16, too small"):
        copy_weights(nn.Linear(3, 2).half(), theirs, to="torch")


def test_a_module_used_twice_counts_once():
    linear = nn.Linear(3, 3)
    dense, given = L.Dense(3), keras.Input((3,))
    report = copy_weights(nn.Sequential(nn.Sequential(linear), nn.Sequential(linear)),
                          keras.Model(given, dense(dense(given))))
    assert len(report.layers) == 1 and report.layers[0][3] == "(out, in) → (in, out)"


class Late(keras.Model):
    """Makes its layers when it is called for the first time."""

    def build(self, shape):
        self.dense = L.Dense(2)


def test_gru_without_reset_after_is_told():
    theirs = keras_stack((6, 5), L.GRU(4, reset_after=False, use_bias=False))
    with pytest.raises(ValueError, match=r"weight_ih \(12, 5\).*reset_after=False.*nothing was"):
        copy_weights(nn.GRU(5, 4, bias=False), theirs)


def test_padding_same_with_a_stride_is_noted():
    def notes(ours, **options):
        return copy_weights(ours, keras_stack((9, 9, 2), L.Conv2D(3, 3, **options))).settings
    assert notes(nn.Conv2d(2, 3, 3)) == ()
    assert notes(nn.Conv2d(2, 3, 3, padding=1), padding="same") == ()
    assert notes(nn.Conv2d(2, 3, 3, padding="same"), padding="same") == ()
    for ours, options, word in [
            (nn.Conv2d(2, 3, 3, 2, padding=1), {"strides": 2, "padding": "same"}, "padding"),
            (nn.Conv2d(2, 3, 3, padding=1), {}, "padding"),
            (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), {"padding": "same"}, "padding"),
            (nn.Conv2d(2, 3, 3, 2), {}, "stride"),
            (nn.Conv2d(2, 3, 3, dilation=2), {}, "dilation")]:
        (note,) = notes(ours, **options)
        assert note.startswith(f"{word} differs") and "conv2d" in note


def test_norms_with_other_settings_are_noted():
    notes = copy_weights(nn.BatchNorm1d(4), keras_stack((4,), L.BatchNormalization())).settings
    assert [note.partition(" differs")[0] for note in notes] == [
        "epsilon", "momentum in Keras's sense"]
    groups = keras_stack((3, 3, 4), L.GroupNormalization(4, epsilon=1e-5))
    assert "groups differs: 2" in copy_weights(nn.GroupNorm(2, 4), groups).settings[0]


BAD = [
    (lambda: nn.Linear(3, 4), lambda: keras_stack((3,), L.Dense(5)),
     ["weight (4, 3)", "kernel (3, 5)", "would become"]),
    (lambda: nn.Linear(3, 5, bias=False), lambda: keras_stack((3,), L.Dense(5)),
     ["Keras keeps bias and torch has nothing like it"]),
    (lambda: nn.Linear(3, 5), lambda: keras_stack((3,), L.Dense(5, use_bias=False)),
     ["torch keeps bias and Keras has nothing like it"]),
    (lambda: nn.Linear(3, 5), lambda: keras_stack((3,), L.Dense(5), L.Dense(2)),
     ["only keras_model", "kernel (5, 2)"]),
    (lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)),
     lambda: keras_stack((3,), L.Dense(5)), ["only torch_model", "weight (2, 5)"]),
    (lambda: nn.Linear(3, 5), lambda: keras_stack((4, 3), L.Conv1D(5, 1)), ["Linear", "Conv1D"]),
    (lambda: nn.Conv2d(4, 4, 3), lambda: keras_stack((5, 5, 4), L.DepthwiseConv2D(3)),
     ["(4, 4, 3, 3)", "(3, 3, 4, 1)"]),
    (lambda: nn.MultiheadAttention(8, 2),
     lambda: keras_stack((5, 6), KerasSelfAttention(L.MultiHeadAttention(2, 4))),
     ["in_proj_weight (24, 8)", "query/kernel (6, 2, 4)", "must be"]),
    (lambda: nn.MultiheadAttention(9, 3),
     lambda: keras_stack((5, 9), KerasSelfAttention(L.MultiHeadAttention(2, 4))), ["(9, 2, 4)"]),
    (lambda: nn.BatchNorm1d(4, track_running_stats=False),
     lambda: keras_stack((4,), L.BatchNormalization()), ["moving_mean"]),
    (lambda: nn.LSTM(3, 4, proj_size=2), lambda: keras_stack((5, 3), L.LSTM(4)), ["proj_size"]),
    (lambda: nn.Bilinear(2, 3, 4), lambda: keras_stack((3,), L.Dense(5)), ["Bilinear"]),
    (lambda: nn.Linear(3, 5), lambda: keras_stack((3,), L.PReLU()), ["PReLU"]),
    (lambda: nn.Linear(3, 5), lambda: keras.Sequential([L.Dense(5)]), ["no weights yet"]),
    (lambda: nn.InstanceNorm1d(3, track_running_stats=True), lambda: keras_stack((3,), L.Dense(5)),
     ["InstanceNorm1d"]),
    (lambda: nn.LazyLinear(5), lambda: keras_stack((3,), L.Dense(5)), []),
    (lambda: nn.Linear(3, 5, device="meta"), lambda: keras_stack((3,), L.Dense(5)), ["meta"]),
    (lambda: nn.LSTM(3, 4), lambda: keras_stack((5, 3), L.LSTM(4, use_bias=False)), ["bias"]),
]


@pytest.mark.parametrize("to", ["keras", "torch"])
@pytest.mark.parametrize("ours, theirs, words", BAD)
def test_a_mismatch_is_explained_and_nothing_is_copied(ours, theirs, words, to):
    good, better = nn.Linear(3, 3), L.Dense(3)
    bad, worse = ours(), theirs()
    ours = nn.Sequential(good, bad)
    keras_model = keras.Sequential(name="outer")
    keras_model.add(keras_stack((3,), better))
    before = good.weight.detach().clone(), keras.ops.convert_to_numpy(better.kernel).copy()

    class Both(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras_model, worse
    both = Both()
    both.built = True
    with pytest.raises(ValueError) as caught:
        copy_weights(ours, both, to=to)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert message.endswith(": nothing was copied")
    assert torch.equal(good.weight, before[0])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(better.kernel), before[1])


def test_a_shared_matrix_cannot_become_two():
    ours = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    ours[1].weight = ours[0].weight
    theirs = keras_stack((2,), L.Embedding(5, 3), L.Dense(5, use_bias=False))
    before = ours[0].weight.detach().clone()
    with pytest.raises(ValueError, match="shares weight"):
        copy_weights(ours, theirs, to="torch")
    assert torch.equal(ours[0].weight, before)
    copy_weights(ours, theirs)
    copy_weights(ours, theirs, to="torch")             # now both are the same matrix
    assert torch.equal(ours[0].weight, before)
    nn.init.constant_(ours[0].weight, float("nan"))
    copy_weights(ours, theirs)
    assert copy_weights(ours, theirs, to="torch").count == 30


def test_a_keras_variable_that_two_layers_share_is_named():
    first, second = built(L.Dense(3, use_bias=False), 3), built(L.Dense(3, use_bias=False), 3)
    object.__setattr__(second, "_trainable_variables", first._trainable_variables)
    theirs = keras_stack((3,), first, second)
    with pytest.raises(ValueError, match="Keras's dense.* shares kernel with another layer, and "
                                         "torch's 1"):
        copy_weights(nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(2))), theirs)


def test_a_model_that_makes_its_layers_late_must_be_called():
    with pytest.raises(ValueError, match="no weights yet at late .*: call it once, .*: nothing"):
        copy_weights(nn.Linear(3, 2), Late())


def test_rows_can_be_left_as_they_are():
    ours = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    theirs = keras_stack((4, 4, 1), L.Conv2D(2, 3), L.Flatten(), L.Dense(3))
    copy_weights(ours, theirs, reorder_flattened=False)
    np.testing.assert_array_equal(theirs.layers[-1].kernel, ours[2].weight.detach().numpy().T)
    copy_weights(ours, theirs)
    assert abs(theirs.layers[-1].kernel.numpy() - ours[2].weight.detach().numpy().T).max() > 0.01


@pytest.mark.parametrize("arguments, error", [
    (("gpt2", 3), TypeError), ((nn.Linear(2, 2), "x"), TypeError),
    ((nn.Linear(2, 2), nn.Linear(2, 2)), TypeError)])
def test_wrong_kinds_of_model(arguments, error):
    with pytest.raises(error, match="must be a"):
        copy_weights(*arguments)


def test_wrong_direction():
    with pytest.raises(ValueError, match='to must be "keras" or "torch"'):
        copy_weights(nn.Linear(2, 2), keras_stack((2,), L.Dense(2)), to="jax")


def test_float64_and_bfloat16():
    ours = nn.Linear(3, 2).to(torch.bfloat16)
    theirs = keras_stack((3,), L.Dense(2, dtype="float64"))
    copy_weights(ours, theirs)
    np.testing.assert_array_equal(theirs.layers[0].kernel, ours.weight.detach().double().T)
