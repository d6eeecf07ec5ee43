"""FLOPs against torch's own counter, fvcore, TensorFlow's profiler and derivations."""
import copy
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from course_lib import count_parameters
from course_lib.anatomy.flops import count_flops, trace_layers  # noqa: E402
from course_lib.anatomy.forward_pass import act_on, as_arguments, shadow_of  # noqa: E402

transformers = pytest.importorskip("transformers")


def resnet18(**options):
    config = transformers.ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], embedding_size=64,
                                       hidden_sizes=[64, 128, 256, 512], num_labels=1000, **options)
    return transformers.ResNetForImageClassification(config)


def bert(**options):
    return transformers.BertModel(transformers.BertConfig(
        num_hidden_layers=2, attn_implementation="eager", **options))


def gpt2(**options):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_layer=2, attn_implementation="eager", **options))


def vit(**options):
    return transformers.ViTForImageClassification(transformers.ViTConfig(
        num_hidden_layers=2, attn_implementation="eager", num_labels=10, **options))


IDS = torch.arange(2 * 16).reshape(2, 16)
IMAGE = torch.zeros(1, 3, 224, 224)
MODELS = {"resnet18": (resnet18, {"pixel_values": IMAGE}), "bert": (bert, {"input_ids": IDS}),
          "gpt2": (gpt2, {"input_ids": IDS}), "vit": (vit, {"pixel_values": IMAGE})}


def torch_counter(model, inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(**inputs)
    return counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", MODELS)
def test_total_is_that_of_torchs_flop_counter(name, device):
    build, inputs = MODELS[name]
    with torch.device(device):
        model = build()
    moved = {key: value.to(device) for key, value in inputs.items()}
    assert int(count_flops(model, inputs)) == torch_counter(model, moved)


@pytest.mark.parametrize("name", MODELS)
def test_total_is_twice_fvcores_multiply_adds(name):
    fvcore = pytest.importorskip("fvcore.nn")
    build, inputs = MODELS[name]
    model = build(use_cache=False) if name == "gpt2" else build()

    class Tensors(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model.eval()

        def forward(self, x):
            return tuple(value for value in self.model(x).to_tuple()
                         if isinstance(value, torch.Tensor))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = fvcore.FlopCountAnalysis(Tensors(), tuple(inputs.values()))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        operators = analysis.by_operator()
    # fvcore also prices normalisation and pooling, which are no matrix products.
    products = sum(operators[name] for name in ("conv", "linear", "matmul", "addmm", "bmm",
                                                "einsum"))
    assert int(count_flops(model, inputs)) == 2 * products


def test_resnet18_is_1_814_gigamacs():
    """He et al. 2016, table 1, give 1.8e9 multiply-adds for the 18-layer network."""
    layers = [(64, 3, 7, 112)] + 4 * [(64, 64, 3, 56)]
    for width, size in ((128, 28), (256, 14), (512, 7)):
        layers += [(width, width // 2, 3, size), (width, width // 2, 1, size)]
        layers += 3 * [(width, width, 3, size)]
    macs = sum(out * inp * k * k * s * s for out, inp, k, s in layers) + 512 * 1000
    assert int(count_flops(resnet18(), (1, 3, 224, 224))) == 2 * macs
    assert round(macs / 1e9, 1) == 1.8


def test_transformer_closed_form():
    """Per block 4·d² + 2·d·4d multiply-adds a token, and two products of T·T·d for attention."""
    batch, steps, width = 2, 16, 768
    block = batch * steps * (4 * width ** 2 + 8 * width ** 2) + 2 * batch * steps ** 2 * width
    head = batch * steps * width * 50257
    assert int(count_flops(gpt2(), {"input_ids": IDS})) == 2 * (2 * block + head)
    pooler = batch * width ** 2
    assert int(count_flops(bert(), {"input_ids": IDS})) == 2 * (2 * block + pooler)


def test_fused_attention_counts_as_much_as_eager():
    config = transformers.GPT2Config(n_layer=1)
    fused = transformers.GPT2LMHeadModel(config)
    assert fused.config._attn_implementation == "sdpa"
    eager = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_layer=1, attn_implementation="eager"))
    assert int(count_flops(fused, IDS)) == int(count_flops(eager, IDS))


@pytest.mark.parametrize("layer, gates", [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers(layer, gates, device, bidirectional):
    batch, steps, inputs, hidden, ways = 3, 5, 8, 16, 1 + bidirectional
    model = layer(inputs, hidden, 2, batch_first=True, bidirectional=bidirectional, device=device)
    per_step = ways * gates * hidden * ((inputs + hidden) + (ways * hidden + hidden))
    assert int(count_flops(model, (batch, steps, inputs))) == 2 * batch * steps * per_step


def test_experts_work_only_on_the_tokens_routed_to_them():
    config = transformers.MixtralConfig(
        num_hidden_layers=1, hidden_size=64, intermediate_size=96, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=100, num_local_experts=8, num_experts_per_tok=2)
    tokens, d, f = 16, 64, 96
    attention = tokens * (2 * d * d + 2 * d * d // 2) + 2 * tokens ** 2 * d
    experts = tokens * 2 * 3 * d * f + tokens * d * 8
    expected = 2 * (attention + experts + tokens * d * 100)
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = transformers.MixtralForCausalLM(config)
        assert int(count_flops(model, {"input_ids": torch.zeros(1, tokens, dtype=int)})) == expected


@pytest.mark.parametrize("layer, shape, macs", [
    (nn.Linear(4, 8), (4,), 32),
    (nn.Conv1d(4, 8, 3, groups=2), (2, 4, 9), 2 * 7 * 8 * 3 * 2),
    (nn.Conv2d(4, 8, 3, stride=2, padding=1), (1, 4, 9, 9), 25 * 8 * 9 * 4),
    (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 27 * 3 * 8 * 2),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5), 25 * 4 * 9 * 3),
    (nn.Embedding(10, 4), (2, 7), 0),
    (nn.LayerNorm(4), (2, 4), 0),
])
def test_layers_by_hand(layer, shape, macs):
    assert int(count_flops(layer, shape)) == 2 * macs


def test_bilinear_and_dynamic_quantisation():
    bilinear = nn.Bilinear(3, 4, 5)
    pair = torch.ones(2, 3), torch.ones(2, 4)
    assert int(count_flops(bilinear, pair)) == 2 * 2 * 5 * 4 * (3 + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 8)),
                                                           {nn.Linear})
        assert int(count_flops(quantised, torch.ones(3, 4))) == 2 * 3 * 4 * 8


def test_backward_is_what_torchs_counter_sees():
    model = resnet18()
    with FlopCounterMode(display=False) as counter:
        model.eval()(IMAGE).logits.sum().backward()
    report = count_flops(resnet18(), IMAGE, backward=True)
    assert report.total == counter.get_total_flops()
    assert report.forward + report.backward == report.total


def test_layers_add_up_and_reuse_is_seen():
    class Reusing(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x)))

    shared = nn.Linear(4, 4)
    model = Reusing(shared, nn.ReLU(), shared, nn.Identity(), nn.Linear(4, 4))
    traces = trace_layers(model, (1, 4))
    assert traces["0"].calls == 2 and traces["0"].flops == 2 * 2 * 16
    assert traces["0"].output_shape == (1, 4)
    assert not traces["4"].used and traces["4"].calls == 0
    assert not traces["3"].used
    gpt = gpt2()
    report = count_flops(gpt, IDS)
    assert sum(row.flops for row in report.rows) == int(report)
    assert "lm_head" in {row.name for row in report.rows}


def test_a_replaced_forward_is_run_as_it_is():
    model = nn.Linear(4, 4)
    inner = model.forward
    model.forward = lambda x: inner(inner(x))
    assert int(count_flops(model, (1, 4))) == 2 * 2 * 16


def test_weights_used_without_a_call_are_used():
    traces = trace_layers(nn.MultiheadAttention(8, 2), (torch.ones(3, 1, 8),) * 3)
    assert traces["out_proj"].calls == 0 and traces["out_proj"].used
    # a tied head that is not run is not used because the embedding is
    model = gpt2()
    body = model.transformer
    body.head = model.lm_head
    assert not trace_layers(body, IDS)["head"].used


def test_encoder_layer_is_not_swallowed_by_the_fast_path():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    tokens = 5
    macs = tokens * (4 * 16 * 16 + 2 * 16 * 32) + 2 * tokens ** 2 * 16
    assert int(count_flops(layer, (1, tokens, 16))) == 2 * macs
    assert torch.backends.mha.get_fastpath_enabled()


class Branch(nn.Module):
    """Looks at values, so no shadow can run it."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        self.seen = self.seen + torch.rand(())
        return self.out(self.norm(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("build", [Branch, resnet18])
def test_nothing_changes(build):
    model = build()
    inputs = torch.ones(2, 4) if build is Branch else IMAGE
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    report = count_flops(model, inputs)
    assert int(report) > 0 and model.training
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks and not hooks._global_forward_pre_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_stays_behind_after_a_failure():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(9))
    with pytest.raises(ValueError, match=r"in layer '1' \(BatchNorm1d\)"):
        count_flops(model, (2, 4))
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks and not hooks._global_forward_pre_hooks
    assert model.training and torch.backends.mha.get_fastpath_enabled()


def test_a_shadow_is_of_no_weight_and_leaves_the_model_alone():
    model = nn.LSTM(4, 4)
    with shadow_of(model, (torch.ones(3, 1, 4),)) as (shadow, args, _):
        shadow(*args)
        assert shadow.weight_ih_l0 is not model.weight_ih_l0
    assert type(model.weight_ih_l0) is nn.Parameter and model.weight_ih_l0.device.type == "cpu"
    model(torch.ones(3, 1, 4))


def test_inputs_in_all_forms():
    layer = nn.Linear(4, 2)
    for inputs in ((3, 4), [3, 4], torch.ones(3, 4), np.ones((3, 4)), (np.ones((3, 4)),),
                   {"input": torch.ones(3, 4)}, torch.ones(3, 4, device="meta")):
        assert int(count_flops(layer, inputs)) == 2 * 3 * 4 * 2
    assert act_on(layer, (1, 4), lambda model, args, kwargs: args[0].dtype) == torch.float32
    half = nn.Linear(4, 2).bfloat16()
    assert as_arguments(half, (1, 4))[0][0].dtype == torch.bfloat16
    with torch.inference_mode():
        assert int(count_flops(layer, (1, 4))) == 16


@pytest.mark.parametrize("inputs, error, words", [
    ("cat", TypeError, "inputs must be a tensor"),
    (3.5, TypeError, "not float 3.5"),
    ((1, 5), ValueError, "inputs float32 (1, 5) make the forward pass of Linear"),
    (torch.zeros(1, 4, dtype=torch.int64), ValueError, "int64 (1, 4)"),
])
def test_bad_inputs_are_one_sentence(inputs, error, words):
    with pytest.raises(error) as caught:
        count_flops(nn.Linear(4, 2), inputs)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_bad_models():
    with pytest.raises(ValueError, match="call the model once"):
        count_flops(nn.LazyLinear(3), (1, 4))
    with pytest.raises(TypeError, match="must be a torch module"):
        trace_layers(3, (1, 4))
    with pytest.raises(ValueError, match="is a checkpoint"):
        count_flops("model.safetensors", (1, 4))
    with pytest.raises(ValueError, match="needs a parameter"):
        count_flops(nn.ReLU(), torch.ones(1, 4), backward=True)


def test_an_operation_without_a_formula_makes_the_total_unknown():
    @torch.library.custom_op("course_test::product", mutates_args=())
    def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x @ weight

    product.register_fake(lambda x, weight: x.new_empty(x.shape[0], weight.shape[1]))

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 2))

        def forward(self, x):
            return product(x, self.weight)

    report = count_flops(nn.Sequential(nn.Linear(4, 4), Custom()), (1, 4))
    assert report.total is None and "course_test::product" in report.not_counted["1"]
    assert "unknown" in str(report) and "not counted: 1" in str(report)
    with pytest.raises(ValueError, match="unknown"):
        int(report)


def test_report_speaks_all_forms():
    report = count_flops(nn.Sequential(nn.Linear(784, 128), nn.Linear(128, 10)), (1, 784))
    assert "2 per multiply-add" in str(report).splitlines()[0]
    assert report.to_dict()["total"] == int(report) == 2 * (784 * 128 + 1280)
    assert report.by_kind == {"Linear": int(report)}
    assert [row[0] for row in report.table(by="layer").rows] == ["0", "1"]
    with pytest.raises(ValueError, match="by must be"):
        report.table(by="colour")
    assert int(report.to_dataframe()["FLOPs"].sum()) == int(report)


# ---- Keras ----

@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras")


def profiled(keras, model):
    """Multiply-adds that TensorFlow's profiler finds in matrix products and convolutions."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2_as_graph)
    specs = [tf.TensorSpec([1, *x.shape[1:]], x.dtype) for x in model.inputs]
    concrete = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0])).get_concrete_function(
        *specs)
    frozen, _ = convert_variables_to_constants_v2_as_graph(concrete)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
        options = (tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()).with_empty_output()
            .build())
        result = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    kinds = {"MatMul", "BatchMatMulV2", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "Einsum"}
    found, nodes = {}, [result]
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.name in kinds:
            found[node.name] = node.float_ops
    return sum(found.values())


@pytest.mark.parametrize("name, size", [
    ("MobileNetV2", 96), pytest.param("MobileNet", 128, marks=pytest.mark.slow),
    pytest.param("ResNet50", 64, marks=pytest.mark.slow),
    pytest.param("VGG16", 64, marks=pytest.mark.slow)])
def test_keras_total_is_that_of_tensorflows_profiler(keras, name, size):
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    assert int(count_flops(model)) == profiled(keras, model)


@pytest.mark.parametrize("build, shape, macs", [
    (lambda k: k.Dense(8), (4,), 32),
    (lambda k: k.Dense(8), (5, 4), 5 * 32),
    (lambda k: k.EinsumDense("abc,cde->abde", output_shape=(None, 2, 8)), (5, 4), 5 * 4 * 16),
    (lambda k: k.EinsumDense("...x,xy->...y", output_shape=8), (5, 4), 5 * 4 * 8),
    (lambda k: k.Conv1D(8, 3, groups=2), (9, 4), 7 * 8 * 3 * 2),
    (lambda k: k.Conv2D(8, 3, strides=2, padding="same"), (9, 9, 4), 25 * 8 * 9 * 4),
    (lambda k: k.Conv2DTranspose(6, 3), (5, 5, 4), 25 * 4 * 9 * 6),
    (lambda k: k.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 9 * 8 * 9),
    (lambda k: k.SeparableConv2D(6, 3), (5, 5, 4), 9 * 4 * (9 + 6)),
    (lambda k: k.SimpleRNN(16), (5, 8), 5 * 16 * 24),
    (lambda k: k.GRU(16), (5, 8), 5 * 3 * 16 * 24),
    (lambda k: k.LSTM(16, return_sequences=True), (5, 8), 5 * 4 * 16 * 24),
    (lambda k: k.Bidirectional(k.LSTM(16)), (5, 8), 2 * 5 * 4 * 16 * 24),
    (lambda k: k.BatchNormalization(), (5, 8), 0),
])
def test_keras_layers_by_hand(keras, build, shape, macs):
    x = keras.Input(shape)
    model = keras.Model(x, build(keras.layers)(x))
    assert int(count_flops(model)) == 2 * macs
    assert int(count_flops(model, (3, *shape))) == 3 * 2 * macs


def test_keras_attention(keras):
    batch, steps, keys, width, heads, dim = 1, 5, 7, 16, 2, 8
    query, value = keras.Input((steps, width)), keras.Input((keys, width))
    layer = keras.layers.MultiHeadAttention(heads, dim)
    model = keras.Model([query, value], layer(query, value))
    inner = heads * dim
    macs = 2 * steps * width * inner + 2 * keys * width * inner + 2 * steps * keys * inner
    assert int(count_flops(model)) == 2 * batch * macs
    grouped = keras.layers.GroupedQueryAttention if hasattr(
        keras.layers, "GroupedQueryAttention") else keras.layers.GroupQueryAttention
    model = keras.Model([query, value], grouped(dim, 4, 2)(query, value))
    macs = 2 * steps * width * 32 + 2 * keys * width * 16 + 2 * steps * keys * 32
    assert int(count_flops(model)) == 2 * macs


def test_keras_subclassed_shared_and_unknown(keras):
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.fc = keras.layers.Dense(4)

        def call(self, x):
            return self.fc(self.fc(x))

    with pytest.raises(ValueError, match="call the model once"):
        count_flops(Twice(), (1, 4))
    model = Twice()
    model(np.ones((1, 4), "float32"))
    report = count_flops(model, (1, 4))
    assert int(report) == 2 * 2 * 16
    assert [row.calls for row in report.rows if row.kind == "Dense"] == [2]
    with pytest.raises(ValueError, match="inputs must be given"):
        count_flops(model)

    class Strange(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight((4, 4))

        def call(self, x):
            return x @ self.w

    x = keras.Input((4,))
    report = count_flops(keras.Model(x, Strange()(x)))
    assert report.total is None and "Strange" in str(report)


def test_keras_twin_of_a_torch_network_counts_the_same(keras):
    ours = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(6, 16, 5), nn.Flatten(), nn.Linear(1600, 10))
    layers = keras.layers
    twin = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(6, 5, padding="same"),
                             layers.MaxPooling2D(), layers.Conv2D(16, 5), layers.Flatten(),
                             layers.Dense(10)])
    assert int(count_flops(ours, (1, 1, 28, 28))) == int(count_flops(twin))


def test_keras_bad_input_is_one_sentence(keras):
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(2)(x))
    with pytest.raises(ValueError) as caught:
        count_flops(model, (1, 5))
    assert "inputs [(1, 5)]" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="backward"):
        count_flops(model, backward=True)
    open_size = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="leaves open"):
        count_flops(keras.Model(open_size, keras.layers.Conv2D(2, 3)(open_size)))


def test_a_keras_model_with_inputs_gains_shapes_and_flops_in_its_parameter_table():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128)])
    row = count_parameters(model, (32, 784)).rows[0]
    assert row.output_shape == (32, 128)
    assert row.flops == 2 * 32 * 784 * 128
    assert not row.notes


def test_unknown_arithmetic_is_not_zero_in_the_parameter_table():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((4, 3)),
                              keras.layers.TimeDistributed(keras.layers.Dense(5))])
    table = count_parameters(model, (2, 4, 3))
    assert 0 not in [row.flops for row in table.rows if row.count]


class DecoratedEncoder(nn.TransformerEncoderLayer):
    """An encoder layer whose forward switches autograd off by itself."""

    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


def test_a_forward_in_inference_mode_counts_the_same():
    layer = DecoratedEncoder(8, 2, 16, batch_first=True)
    batch, steps, width, inner = 2, 4, 8, 16
    linear = 4 * width * width + 2 * width * inner
    attention = 2 * steps * width
    assert int(count_flops(layer, torch.ones(batch, steps, width))) == 2 * batch * steps * (
        linear + attention)


def test_a_sparse_product_is_unknown_and_not_zero():
    class Sparse(nn.Module):
        def forward(self, x):
            return torch.sparse.mm(x, torch.ones(4, 3))

    report = count_flops(Sparse(), torch.eye(4).to_sparse())
    assert report.total is None and "sparse" in str(report)
