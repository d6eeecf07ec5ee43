"""Memory against what torch really allocates, by its own profiler, and against derivations."""
import copy
import gc
import itertools
import os
import struct

import pytest

os.environ.setdefault("KINETO_LOG_LEVEL", "99")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch import nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from course_lib.anatomy.activations import measure_step  # noqa: E402
from course_lib.anatomy.memory import (  # noqa: E402
    OPTIMIZERS, Stored, estimate_memory, kv_cache_bytes)


def resnet18():
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(
        layer_type="basic", depths=[2, 2, 2, 2], embedding_size=64,
        hidden_sizes=[64, 128, 256, 512], num_labels=1000))


def bert(**options):
    return transformers.BertModel(transformers.BertConfig(**{"num_hidden_layers": 4, **options}))


def gpt2(**options):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{"n_layer": 4, **options}))


IDS = torch.arange(2 * 64).reshape(2, 64)
IMAGES = torch.zeros(2, 3, 96, 96)
MODELS = {
    "resnet18": (resnet18, {"pixel_values": IMAGES}),
    "bert": (bert, {"input_ids": IDS}),
    "bert with a mask": (bert, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}),
    "bert eager": (lambda: bert(attn_implementation="eager"), {"input_ids": IDS}),
    "gpt2": (gpt2, {"input_ids": IDS}),
    "gpt2 with a loss": (gpt2, {"input_ids": IDS, "labels": IDS}),
    "gpt2 without dropout": (lambda: gpt2(attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0),
                             {"input_ids": IDS}),
}


class Watch:
    """What torch's allocator reported: bytes taken minus bytes given back, as time passes."""

    def __enter__(self):
        gc.collect()  # what other tests left behind must not be given back while we watch
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.profiler.__enter__()
        return self

    def __exit__(self, *error):
        self.profiler.__exit__(*error)
        events = sorted((event for event in self.profiler.profiler.kineto_results.events()
                         if event.name() == "[memory]"), key=lambda event: event.start_ns())
        course = list(itertools.accumulate((event.nbytes() for event in events), initial=0))
        self.held, self.peak = course[-1], max(course)


def first_loss(output):
    loss = getattr(output, "loss", None)
    return loss if loss is not None else output[0].sum()


def off(estimate, truth):
    return abs(estimate - truth) / truth


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_activations_are_what_torch_holds(name):
    build, inputs = MODELS[name]
    model = build().train()
    report = estimate_memory(model, inputs)
    with Watch() as forward:
        output = model(**inputs)
    assert off(report.activations, forward.held) < 0.001
    with Watch() as backward:
        first_loss(output).backward()
    fixed = report.parameters + report.buffers + report.optimizer_states + report.inputs
    assert off(report.peak - fixed, forward.held + backward.peak) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "bert", "gpt2 with a loss"])
def test_activations_under_autocast_are_what_torch_holds(name):
    build, inputs = MODELS[name]
    model = build().train()
    report = estimate_memory(model, inputs, precision="mixed")
    with Watch() as forward, torch.autocast("cpu", torch.bfloat16):
        output = model(**inputs)
    assert off(report.activations, forward.held) < 0.01
    with Watch() as backward:
        first_loss(output).backward()
    fixed = report.parameters + report.buffers + report.optimizer_states + report.inputs
    # The backward pass adds gradients of tied weights in place, which a shadow cannot see.
    tied = 4 * model.config.vocab_size * 768 if "gpt2" in name else 0
    real = forward.held + backward.peak
    assert 0.94 * real < report.peak - fixed < 1.05 * real + tied


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "bert", "gpt2"])
def test_activations_in_bfloat16_are_what_torch_holds(name):
    build, inputs = MODELS[name]
    model = build().train()
    report = estimate_memory(model, inputs, precision="bf16")
    assert report.parameters == 2 * sum(p.numel() for p in model.parameters())
    cast = {key: value.bfloat16() if value.is_floating_point() else value
            for key, value in inputs.items()}
    model.bfloat16()
    with Watch() as forward:
        output = model(**cast)
    assert output is not None and off(report.activations, forward.held) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name, options, inputs", [
    ("bert", {"num_hidden_layers": 12}, {"input_ids": torch.arange(4 * 128).reshape(4, 128)}),
    ("gpt2", {"n_layer": 12}, {"input_ids": torch.arange(2 * 256).reshape(2, 256)})])
def test_full_size_models_hold_what_the_estimate_says(name, options, inputs):
    model = {"bert": bert, "gpt2": gpt2}[name](**options).train()
    report = estimate_memory(model, inputs)
    with Watch() as forward:
        output = model(**inputs)
    assert output is not None and off(report.activations, forward.held) < 0.001


def test_meta_and_real_models_are_told_the_same():
    build, inputs = MODELS["gpt2 with a loss"]
    with torch.device("meta"):
        ghost = build()
    ours = estimate_memory(ghost, {key: value.to("meta") for key, value in inputs.items()})
    assert ours.to_dict() == estimate_memory(build(), inputs).to_dict()


OPTIMIZER_CLASSES = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, foreach=False),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=False),
    "adam": lambda parameters: torch.optim.Adam(parameters, foreach=False),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, foreach=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZER_CLASSES)
@pytest.mark.parametrize("freeze", [False, True])
def test_gradients_and_states_after_one_step(optimizer, freeze):
    model = gpt2(n_layer=2)
    if freeze:
        model.transformer.wte.requires_grad_(False)
        model.transformer.h[0].requires_grad_(False)
    report = estimate_memory(model, {"input_ids": IDS}, optimizer=optimizer)
    steps = OPTIMIZER_CLASSES[optimizer]([p for p in model.parameters() if p.requires_grad])
    with Watch() as watch:
        loss = model(IDS)[0].sum()
        loss.backward()
        steps.step()
        del loss
    assert off(report.gradients + report.optimizer_states, watch.held) < 0.001
    states = [value for state in steps.state.values() for value in state.values()
              if isinstance(value, torch.Tensor)]
    assert report.optimizer_states == sum(v.numel() * v.element_size() for v in states)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert report.gradients == sum(g.numel() * g.element_size() for g in grads)


def test_a_frozen_part_saves_activations_as_it_does_in_torch():
    model = bert().train()
    whole = estimate_memory(model, {"input_ids": IDS})
    for parameter in [*model.embeddings.parameters(), *model.encoder.layer[:3].parameters()]:
        parameter.requires_grad_(False)
    report = estimate_memory(model, {"input_ids": IDS})
    with Watch() as forward:
        output = model(IDS)
    assert output is not None and off(report.activations, forward.held) < 0.001
    assert report.activations < 0.5 * whole.activations
    assert report.parameters == whole.parameters
    assert report.gradients == 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_lora_trains_little():
    peft = pytest.importorskip("peft")
    base = gpt2(n_layer=2)
    parameters = 4 * sum(p.numel() for p in base.parameters())
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules=["c_attn"],
                                                      fan_in_fan_out=True))
    report = estimate_memory(model, {"input_ids": IDS})
    lora = 2 * 8 * (768 + 3 * 768)
    assert report.gradients == 4 * lora and report.parameters == parameters + 4 * lora


@pytest.mark.slow
def test_checkpointed_activations_are_measured():
    model = gpt2(use_cache=False).train()
    whole = estimate_memory(model, {"input_ids": IDS}).activations
    model.gradient_checkpointing_enable()
    report = estimate_memory(model, {"input_ids": IDS})
    with Watch() as forward:
        output = model(IDS)
    assert output is not None and off(report.activations, forward.held) < 0.02
    assert report.activations < 0.6 * whole


def test_a_layer_by_hand():
    """A Linear needs its input for its weight, a ReLU its output; both are one storage here."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    step = measure_step(model, (32, 8))
    assert step.saved == 32 * 16 * 4 and step.activations == step.saved + 32 * 4 * 4
    assert step.inputs == 32 * 8 * 4 and step.copies == 0 and step.cache is None


@pytest.mark.slow
def test_fused_attention_keeps_no_matrix_of_tokens_by_tokens():
    sizes = {}
    for kind in ("sdpa", "eager"):
        model = gpt2(attn_implementation=kind, attn_pdrop=0.0)
        report = estimate_memory(model, {"input_ids": torch.zeros(1, 512, dtype=int)})
        sizes[kind] = report.activations
        assert kind in report.attention and ("fused" in report.attention) == (kind == "sdpa")
    # Four layers and twelve heads keep a matrix of 512 x 512; the fused kernel keeps a sum a row.
    matrices, sums = 4 * 12 * 512 * 512 * 4, 4 * 12 * 512 * 4
    assert sizes["eager"] - sizes["sdpa"] == pytest.approx(matrices - sums, rel=0.01)


def test_eight_bit_adamw_by_derivation():
    """Dettmers et al. 2022: one byte a state, and a float32 maximum for each block."""
    price = OPTIMIZERS["adamw8bit"][0]
    assert price(Stored(4096, 4, True, False)) == 2 * (4096 + 4 * 16)
    assert price(Stored(4097, 4, True, False)) == 2 * (4097 + 4 * 17)
    assert price(Stored(1000, 4, True, False)) == 8 * 1000


def small(kind, **options):
    config = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "vocab_size": 99,
              "num_attention_heads": 8, **options}
    family = getattr(transformers, kind)
    return getattr(transformers, kind.replace("Config", "ForCausalLM"))(family(**config)).eval()


CACHED = {
    "gpt2": lambda: gpt2(n_layer=2).eval(),
    "llama, grouped queries": lambda: small("LlamaConfig", num_key_value_heads=2),
    "mistral, sliding window": lambda: small("MistralConfig", num_key_value_heads=4,
                                             sliding_window=9),
    "gemma 2, alternating windows": lambda: small("Gemma2Config", num_key_value_heads=2,
                                                  head_dim=16, sliding_window=9),
    "deepseek v3, latent": lambda: small(
        "DeepseekV3Config", num_key_value_heads=8, kv_lora_rank=32, q_lora_rank=24,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=8, n_group=2,
        topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1),
    "mixtral": lambda: small("MixtralConfig", num_key_value_heads=2, sliding_window=None),
}


@pytest.mark.parametrize("name", CACHED)
def test_cache_by_formula_by_measurement_and_for_real(name):
    model, ids = CACHED[name](), torch.ones(3, 20, dtype=torch.int64)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    real = sum(tensor.numel() * tensor.element_size() for layer in cache.layers
               for tensor in (layer.keys, layer.values))
    assert kv_cache_bytes(model.config, batch_size=3, sequence_length=20, width=4) == real
    assert estimate_memory(model, ids, training=False).kv_cache == pytest.approx(real, abs=64)


def test_cache_that_a_configuration_does_not_tell():
    assert kv_cache_bytes(transformers.T5Config(), sequence_length=8) is None
    assert kv_cache_bytes(transformers.MambaConfig(), sequence_length=8) is None
    assert kv_cache_bytes(transformers.FalconConfig(), sequence_length=8) is None


def test_inference_holds_no_more_than_torch_did():
    model = gpt2().eval()
    report = estimate_memory(model, {"input_ids": IDS}, training=False)
    assert report.gradients == report.optimizer_states == 0
    with torch.no_grad(), Watch() as watch:
        output = model(IDS)
    assert output is not None
    assert off(report.activations + report.kv_cache, watch.peak) < 0.05


@pytest.mark.slow
def test_llama_3_8b_by_name():
    report = estimate_memory("llama-3-8b", batch_size=1, sequence_length=2048, precision="fp32")
    assert report.parameters == report.gradients == 4 * 8_030_261_248
    assert 24e9 < report.activations < 40e9 and "fused" in report.attention
    written = estimate_memory("llama-3-8b", sequence_length=2048, precision="bf16", training=False)
    assert written.kv_cache == 2 * 32 * 8 * 128 * 2048 * 2
    assert report.total > report.peak > report.parameters + report.optimizer_states


class Branch(nn.Module):
    """Looks at values, so no shadow can run it."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 4)

    def forward(self, x):
        return self.out(self.norm(x)) if x.sum() > 0 else x


def test_a_model_that_looks_at_values_is_run_and_left_as_it_was():
    model = Branch().eval()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    report = estimate_memory(model, torch.ones(6, 4))
    # normalised output for the product, input statistics of the normalisation, and the output
    assert report.activations == (6 * 4 + 4 + 4 + 6 * 4) * 4
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state) and not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.nn.modules.module._global_forward_hooks


def test_a_model_that_refuses_the_inputs_made_for_it_leaves_activations_unknown(monkeypatch):
    model = gpt2(n_layer=1)
    monkeypatch.setattr(type(model.lm_head), "forward", lambda self, x: x[0] @ self.weight)
    report = estimate_memory(model)
    assert report.activations is None and report.total is None and report.parameters > 0
    assert "lm_head" in report.made_of["activations"]
    with pytest.raises(ValueError, match="lm_head"):
        estimate_memory(model, {"input_ids": IDS})


def test_tied_and_quantised_and_buffers():
    layer = nn.Linear(4, 4, bias=False)
    tied = nn.Sequential(layer, nn.Linear(4, 4, bias=False))
    tied[1].weight = layer.weight
    assert estimate_memory(tied, (1, 4)).parameters == 64
    norm = estimate_memory(nn.BatchNorm1d(3), (8, 3))
    assert norm.buffers == 3 * 4 + 3 * 4 + 8 and norm.parameters == 24


def write_checkpoint(folder):
    header = (b'{"a": {"dtype": "F32", "shape": [10, 2], "data_offsets": [0, 80]},'
              b'"b": {"dtype": "I64", "shape": [2], "data_offsets": [80, 96]}}')
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(96))
    return path


def test_a_checkpoint_leaves_activations_unknown(tmp_path):
    report = estimate_memory(write_checkpoint(tmp_path), precision="bf16", optimizer="adam")
    assert report.parameters == 20 * 2 + 16 and report.gradients == 40
    assert report.optimizer_states == 2 * 40 + 4
    assert report.activations is None and report.total is None and "unknown" in str(report)
    assert report.to_dict()["activations"] is None
    with pytest.raises(ValueError, match="unknown beyond"):
        int(report)


def test_a_keras_model_leaves_activations_unknown():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4),
                              keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    report = estimate_memory(model, optimizer="momentum")
    weights = 8 * 4 + 4 + 2 * 4 + 4 * 2 + 2
    assert report.parameters == report.gradients == report.optimizer_states == 4 * weights
    assert report.buffers == 4 * 2 * 4 and report.activations is None and report.total is None
    model.layers[0].trainable = False
    frozen = estimate_memory(model, optimizer="momentum")
    assert frozen.parameters == 4 * weights and frozen.gradients == 4 * (weights - 36)
    with pytest.raises(ValueError, match="call the model once"):
        estimate_memory(keras.Sequential([keras.layers.Dense(3)]))


@pytest.mark.parametrize("options, error, words", [
    ({"optimizer": "adan"}, ValueError, "optimizer must be one of"),
    ({"precision": "int3"}, ValueError, "precision must be one of"),
    ({"batch_size": 0}, ValueError, "batch_size must be a whole number"),
    ({"sequence_length": 2.5}, ValueError, "sequence_length must be a whole number"),
    ({"inputs": (1, 4), "batch_size": 2}, ValueError, "both given"),
    ({"inputs": (1, 5)}, ValueError, "inputs float32 (1, 5) make the forward pass of Linear"),
    ({"inputs": torch.zeros(1, 4, dtype=torch.int64)}, ValueError, "int64 (1, 4)"),
])
def test_bad_input_is_one_sentence(options, error, words):
    with pytest.raises(error) as caught:
        estimate_memory(nn.Linear(4, 2), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_batch_is_no_longer_than_the_models_positions():
    with pytest.raises(ValueError, match="at most 1,024, .* has positions for, not 2,048"):
        estimate_memory("gpt2", sequence_length=2048)
    assert estimate_memory("clip", training=False).inputs == 8 * 77 + 4 * 3 * 224 * 224


def test_bad_models():
    with pytest.raises(ValueError, match="call the model once"):
        estimate_memory(nn.LazyLinear(3), (1, 4))
    with pytest.raises(FileNotFoundError):
        estimate_memory("missing.safetensors")
    with pytest.raises((TypeError, ValueError)):
        estimate_memory(3)


def test_report_speaks_all_forms():
    report = estimate_memory(nn.Linear(784, 128), (32, 784))
    assert report.total == report.known == sum(
        row[1] for row in report.table().rows if row[0] != "total")
    assert report.to_dict()["total"] == int(report)
    assert "gradients" in report.to_markdown() and "activations" in report._repr_html_()
    figure = report.plot()
    assert "GB" in figure.axes[0].get_xlabel()


def test_the_optimizer_may_be_written_as_torch_writes_it():
    model = nn.Linear(4, 2)
    states = {name: estimate_memory(model, optimizer=name).optimizer_states
              for name in ("AdamW", "SGD", "adamw", "sgd")}
    assert states["AdamW"] == states["adamw"] > states["SGD"] == states["sgd"] == 0
