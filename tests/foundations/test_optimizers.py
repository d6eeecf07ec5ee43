"""Optimizers against torch.optim and keras.optimizers, a hundred steps each; schedules, range test.

Constants here are fractions of powers of two where Keras is the reference: it rounds settings to
float32, also for float64 weights.
"""
import math
import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from course_lib.foundations import optimizers  # noqa: E402
from course_lib.foundations.optimizers import (  # noqa: E402
    SGD, Adam, AdamW, Optimizer, RMSprop, range_test, scheduled)

STEPS, RATE, DECAY, EPS = 100, 2 ** -6, 2 ** -7, 2 ** -23
SHAPES = [((1,),), ((5,), (2, 3)), ((2, 3, 4), (), (7,))]
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
MOMENTA = [{}, {"momentum": 0.875}, {"momentum": 0.875, "nesterov": True}]
OPTIONS = [("SGD", options) for options in MOMENTA]
OPTIONS += [("RMSprop", {"alpha": alpha, "eps": eps})
            for alpha in (0.5, 0.875) for eps in (EPS, 2 ** -4)]
OPTIONS += [(kind, {"betas": betas, "eps": eps}) for kind in ("Adam", "AdamW")
            for betas in ((0.875, 1023 / 1024), (0.5, 0.75), (0.0, 0.5))
            for eps in (EPS, 2 ** -4)]
EVERY = pytest.mark.parametrize("kind, options", OPTIONS, ids=str)
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
DECAYS = pytest.mark.parametrize("decay", [0.0, DECAY])


def task(shapes, dtype, scale=1.0, seed=4):
    """Arrays to start from, and for each step a gradient of each array; some entries are zero."""
    rng = np.random.default_rng(seed)
    start = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    gradients = [[np.asarray(scale * rng.normal(size=shape) * (rng.random(shape) > 0.1), dtype)
                  for shape in shapes] for _ in range(STEPS)]
    return start, gradients


def ours(kind, start, gradients, rates=None, **options):
    """Where our optimizer stands after each step."""
    weights = [each.copy() for each in start]
    optimizer, path = getattr(optimizers, kind)(RATE, **options), []
    for t, each in enumerate(gradients):
        optimizer.lr = rates[t] if rates else RATE
        kept = [g.copy() for g in each]
        optimizer.step(weights, each)
        assert all((g == k).all() for g, k in zip(each, kept)), "a gradient was changed"
        path.append([w.copy() for w in weights])
    assert all(w.dtype == s.dtype and w.shape == s.shape for w, s in zip(weights, start))
    return path


def torchs(kind, start, gradients, rates=None, **options):
    """Where torch's stands."""
    torch = pytest.importorskip("torch")
    weights = [torch.tensor(each, requires_grad=True) for each in start]
    optimizer, path = getattr(torch.optim, kind)(weights, lr=RATE, **options), []
    for t, each in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = rates[t] if rates else RATE
        for w, g in zip(weights, each):
            w.grad = torch.tensor(g)
        optimizer.step()
        path.append([w.detach().numpy().copy() for w in weights])
    return path


def kerass(kind, start, gradients, rates=None, **options):
    """Where Keras's stands, with our names of options turned into its own."""
    keras = pytest.importorskip("keras")
    options = dict(options)
    named = {"eps": "epsilon", "alpha": "rho"}
    betas = dict(zip(("beta_1", "beta_2"), options.pop("betas", ())))
    options = {named.get(name, name): value for name, value in options.items()} | betas
    weights = [keras.Variable(each, dtype=str(each.dtype)) for each in start]
    optimizer, path = getattr(keras.optimizers, kind)(RATE, **options), []
    for t, each in enumerate(gradients):
        optimizer.learning_rate = rates[t] if rates else RATE
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in each], weights)
        path.append([np.array(keras.ops.convert_to_numpy(w)) for w in weights])
    return path


def assert_same(found, expected, dtype):
    """All arrays of all steps, relative to the size of what has been walked."""
    for t, (a, b) in enumerate(zip(found, expected, strict=True)):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_allclose(left, right, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype],
                                       err_msg=f"step {t}")


@pytest.mark.slow
@DECAYS
@DTYPES
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@EVERY
def test_takes_the_steps_of_torch(kind, options, shapes, dtype, decay):
    start, gradients = task(shapes, dtype)
    options = options | {"weight_decay": decay}
    assert_same(ours(kind, start, gradients, **options),
                torchs(kind, start, gradients, **options), dtype)


@pytest.mark.slow
@DECAYS
@DTYPES
@EVERY
def test_takes_the_steps_of_keras(kind, options, dtype, decay):
    start, gradients = task(SHAPES[1], dtype)
    options = options | {"weight_decay": decay}
    assert_same(ours(kind, start, gradients, convention="keras", **options),
                kerass(kind, start, gradients, **options), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e3])
@pytest.mark.parametrize("kind", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_follows_where_epsilon_dominates_and_where_gradients_are_large(kind, scale):
    start, gradients = task(SHAPES[1], "float64", scale)
    options = {} if kind == "SGD" else {"eps": EPS}
    betas = {"betas": (0.875, 1023 / 1024)}
    keras_options = options | {"SGD": {}, "RMSprop": {"alpha": 0.875}, "Adam": betas,
                               "AdamW": betas | {"weight_decay": DECAY}}[kind]
    assert_same(ours(kind, start, gradients, **options),
                torchs(kind, start, gradients, **options), "float64")
    assert_same(ours(kind, start, gradients, convention="keras", **keras_options),
                kerass(kind, start, gradients, **keras_options), "float64")


@pytest.mark.slow
@EVERY
def test_follows_when_the_learning_rate_changes(kind, options):
    start, gradients = task(SHAPES[1], "float64")
    options = options | {"weight_decay": DECAY}
    rates = [2.0 ** -(3 + t // 20) for t in range(STEPS)]
    assert_same(ours(kind, start, gradients, rates, **options),
                torchs(kind, start, gradients, rates, **options), "float64")
    assert_same(ours(kind, start, gradients, rates, convention="keras", **options),
                kerass(kind, start, gradients, rates, **options), "float64")


@pytest.mark.slow
def test_with_the_frameworks_own_defaults():
    """Torch's usual constants to rounding; Keras's to what it loses by holding them in float32."""
    start, gradients = task(SHAPES[1], "float64")
    for kind in ("SGD", "RMSprop", "Adam", "AdamW"):
        assert_same(ours(kind, start, gradients), torchs(kind, start, gradients), "float64")
    theirs = {"SGD": {}, "RMSprop": {"alpha": 0.9, "eps": 1e-7}, "Adam": {"eps": 1e-7},
              "AdamW": {"eps": 1e-7, "weight_decay": 0.004}}
    for kind, options in theirs.items():
        for a, b in zip(ours(kind, start, gradients, convention="keras", **options),
                        kerass(kind, start, gradients)):
            for left, right in zip(a, b):
                np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["RMSprop", "Adam"])
def test_conventions_differ_where_gradients_are_near_epsilon(kind):
    start, gradients = task(SHAPES[0], "float64", scale=1e-7)
    torch_way, keras_way = (ours(kind, start, gradients, eps=1e-7, convention=convention)
                            for convention in ("torch", "keras"))
    assert abs(torch_way[-1][0] - keras_way[-1][0]).max() > 1e-3


def test_a_gradient_of_a_millionth_moves_its_weight_until_epsilon_dominates():
    for size, expected in ((1.0, RATE), (1e-6, RATE), (1e-12, RATE * 1e-4)):
        w, optimizer = np.zeros(1), RMSprop(RATE, eps=1e-8)
        for _ in range(3000):
            before = w.copy()
            optimizer.step([w], [np.full(1, size)])
        assert (before - w)[0] == pytest.approx(expected, rel=0.02)


def test_adam_without_correction_against_the_closed_form():
    w, optimizer, steps = np.zeros(1), Adam(1.0, eps=0.0, bias_correction=False), []
    for _ in range(200):
        before = w.copy()
        optimizer.step([w], [np.ones(1)])
        steps.append(float((before - w)[0]))
    expected = [(1 - 0.9 ** t) / math.sqrt(1 - 0.999 ** t) for t in range(1, 201)]
    np.testing.assert_allclose(steps, expected, rtol=1e-9)


def test_adamw_shrinks_every_weight_alike_whatever_its_gradients():
    rng, w, optimizer = np.random.default_rng(0), np.ones((2, 2000)), AdamW(1e-3, weight_decay=0.1)
    for _ in range(500):
        optimizer.step([w], [np.array([[10.0], [0.1]]) * rng.normal(size=w.shape)])
    np.testing.assert_allclose(w.mean(axis=1), (1 - 1e-4) ** 500, atol=2e-3)


@pytest.mark.parametrize("make, said", [
    (lambda: SGD(0.0), "lr must be"), (lambda: SGD(-1.0), "lr must be"),
    (lambda: SGD(math.nan), "lr must be"), (lambda: SGD(math.inf), "lr must be"),
    (lambda: SGD(0.1, momentum=1.0), "momentum must be at least 0 and below 1"),
    (lambda: SGD(0.1, momentum=-0.1), "momentum"),
    (lambda: SGD(0.1, nesterov=True), "nesterov must have a momentum"),
    (lambda: SGD(0.1, weight_decay=-1.0), "weight_decay must be finite"),
    (lambda: SGD(0.1, convention="jax"), "convention must be 'torch' or 'keras', not 'jax'"),
    (lambda: RMSprop(0.1, alpha=1.0), "alpha"), (lambda: RMSprop(0.1, eps=-1e-8), "eps"),
    (lambda: Adam(0.1, betas=(1.0, 0.9)), r"betas\[0\]"),
    (lambda: Adam(0.1, betas=(0.9, math.nan)), r"betas\[1\]"),
    (lambda: Adam(0.1, betas=(0.9,)), "betas"), (lambda: AdamW(0.1, weight_decay=-0.1), "weight")])
def test_settings_that_make_no_sense_get_one_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("make, said", [
    (lambda: SGD("0.1"), "lr must be a number, not '0.1'"), (lambda: SGD(True), "lr must be a num"),
    (lambda: SGD(None), "lr must be"), (lambda: SGD(0.1, momentum="a lot"), "momentum must be"),
    (lambda: SGD(0.1, weight_decay=None), "weight_decay must be"),
    (lambda: RMSprop(0.1, eps="small"), "eps must be"), (lambda: RMSprop(0.1, alpha=[9]), "alpha"),
    (lambda: Adam(0.1, betas=0.9), "betas must be two numbers, not 0.9"),
    (lambda: Adam(0.1, betas=(0.9, "b")), r"betas\[1\] must be a number"),
    (lambda: SGD(0.1, dampening=0.1), "dampening"), (lambda: Adam(0.1, amsgrad=True), "amsgrad")])
def test_settings_of_another_kind_are_named(make, said):
    with pytest.raises(TypeError, match=said):
        make()


FIXED = np.ones(2)
FIXED.flags.writeable = False


@pytest.mark.parametrize("weights, gradients, error, said", [
    ([np.ones(2)], [], ValueError, "gradients must be one for each"),
    ([], [], ValueError, "at least one; there are 0 and 0"),
    ([np.ones(2)], [np.ones(3)], ValueError, r"number 0 has \(3,\), its weight \(2,\)"),
    ([np.ones(2), np.ones(2)], [np.ones(2), np.ones((2, 1))], ValueError, "number 1 has"),
    (np.ones(3), np.ones(3), TypeError, r"weights must be a list of arrays, such as \[w\]"),
    ([np.ones(3)], np.ones((1, 3)), TypeError, "gradients must be a list of arrays"),
    ([np.ones(2, int)], [np.ones(2)], TypeError, "weights .*number 0 is ndarray of int64"),
    ([np.ones(2, complex)], [np.ones(2)], TypeError, "weights .*complex128"),
    ([[1.0, 2.0]], [np.ones(2)], TypeError, "weights .*number 0 is list"),
    ([np.float64(1)], [np.float64(1)], TypeError, "weights .*number 0 is float64"),
    ([np.ones(2), FIXED], [np.ones(2), np.ones(2)], TypeError, "may be changed; number 1"),
    ([np.ones(2)], [None], TypeError, "gradients .*number 0 is NoneType"),
    ([np.ones(2), np.ones(2)], [np.ones(2), np.ones(2, complex)], TypeError, "number 1 is .*compl"),
    ([np.ones(2)], [np.ones(2, object)], TypeError, "gradients .*object"),
    ([np.ones(2)], [np.array(["a", "b"])], TypeError, "gradients .*number 0")])
def test_what_cannot_be_stepped_is_refused_before_anything_changes(weights, gradients, error, said):
    before, optimizer = [np.array(w) for w in weights], Adam(0.1, weight_decay=0.1,
                                                             convention="keras")
    with pytest.raises(error, match=said):
        optimizer.step(weights, gradients)
    assert optimizer.steps == 0 and not optimizer.state and not optimizer.shapes
    assert all((w == b).all() for w, b in zip(weights, before))


def test_gradients_of_torch_are_refused():
    torch = pytest.importorskip("torch")
    w = np.ones(2)
    with pytest.raises(TypeError, match="gradients must be NumPy arrays.*Tensor"):
        SGD(0.1).step([w], [torch.ones(2)])
    assert (w == 1).all()


@pytest.mark.parametrize("lr, error", [(math.nan, ValueError), (-1.0, ValueError),
                                       ("0.1", TypeError)])
def test_a_learning_rate_that_went_wrong_is_refused_at_the_step(lr, error):
    w, optimizer = np.ones(2), SGD(0.1)
    optimizer.lr = lr
    with pytest.raises(error, match="lr must be"):
        optimizer.step([w], [np.ones(2)])
    assert (w == 1).all() and optimizer.steps == 0


def test_a_learning_rate_of_zero_stands_still_and_remembers():
    w, optimizer = np.ones(2), SGD(0.1, momentum=0.5)
    optimizer.lr = 0.0
    optimizer.step([w], [np.ones(2)])
    assert (w == 1).all() and (optimizer.state[0]["v"] == 1).all()


def test_who_does_not_say_how_to_update_changes_nothing():
    class Silent(Optimizer):
        pass
    for kind in (Optimizer, Silent):
        w, optimizer = np.ones(2), kind(0.1, weight_decay=0.1, convention="keras")
        with pytest.raises(TypeError, match=f"{kind.__name__} must say how it updates"):
            optimizer.step([w], [np.ones(2)])
        assert (w == 1).all() and optimizer.steps == 0 and not optimizer.state


def test_nan_gradients_are_applied_as_torch_does():
    torch = pytest.importorskip("torch")
    w, theirs = np.ones(2), torch.ones(2, dtype=torch.float64, requires_grad=True)
    theirs.grad = torch.tensor([math.nan, 1.0], dtype=torch.float64)
    Adam(0.1).step([w], [np.array([math.nan, 1.0])])
    torch.optim.Adam([theirs], lr=0.1).step()
    np.testing.assert_allclose(w, theirs.detach().numpy())


def test_refuses_other_arrays_than_those_it_remembers():
    optimizer = SGD(0.1, momentum=0.5)
    optimizer.step([np.ones(2)], [np.ones(2)])
    with pytest.raises(ValueError, match="weights must be the arrays of the first step"):
        optimizer.step([np.ones(3)], [np.ones(3)])


@pytest.mark.parametrize("progress, expected", [(0, 1), (0.25, 0.5 + math.sqrt(2) / 4), (0.5, 0.5),
                                                (1, 0)])
def test_cosine_follows_half_a_period(progress, expected):
    assert scheduled(2.0, progress, "cosine") == pytest.approx(2 * expected, abs=1e-12)


def test_step_schedule_as_torch_takes_it():
    torch = pytest.importorskip("torch")
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    plan = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50, 75], 0.1)
    for t in range(100):
        assert scheduled(0.5, t / 100, "step") == pytest.approx(plan.get_last_lr()[0])
        optimizer.step()
        plan.step()


def test_cosine_schedule_as_torch_takes_it():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for t in range(100):
        assert scheduled(0.5, t / 100, "cosine") == pytest.approx(plan.get_last_lr()[0])
        optimizer.step()
        plan.step()


def test_warmup_rises_in_a_straight_line_and_the_plan_follows():
    rises = [scheduled(1.0, each / 100, "cosine", warmup=0.2) for each in range(21)]
    np.testing.assert_allclose(rises, np.linspace(0, 1, 21), atol=1e-12)
    assert scheduled(1.0, 0.6, "cosine", warmup=0.2) == pytest.approx(0.5)
    assert scheduled(1.0, 1.0, "cosine", warmup=0.2) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("arguments, said", [((0.1, -0.1), "progress"), ((0.1, 1.1), "progress"),
                                             ((0.1, math.nan), "progress"),
                                             ((0.1, 0.5, "linear"), "kind must be one of")])
def test_schedules_refuse_what_is_none(arguments, said):
    with pytest.raises(ValueError, match=said):
        scheduled(*arguments)
    with pytest.raises(ValueError, match="warmup"):
        scheduled(0.1, 0.5, warmup=1.0)


@pytest.mark.parametrize("arguments, error, said", [
    ((math.nan, 0.5), ValueError, "lr must be"), ((-1, 0.5), ValueError, "lr must be"),
    (("0.1", 0.5), TypeError, "lr must be a number"), ((0.1, "0.5"), TypeError, "progress"),
    ((0.1, 0.5, ["cosine"]), ValueError, "kind must be one of")])
def test_schedules_refuse_what_is_no_number_or_name(arguments, error, said):
    with pytest.raises(error, match=said):
        scheduled(*arguments)
    with pytest.raises(TypeError, match="warmup must be a number"):
        scheduled(0.1, 0.5, warmup="a tenth")


def test_range_test_grows_at_equal_ratios_and_stops_at_the_explosion():
    rates, losses = range_test(lambda lr: 1.0 if lr < 0.5 else 100.0, lowest=1e-4, highest=1.0,
                               steps=41)
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.1)
    assert rates[-1] == pytest.approx(10 ** -0.3) and losses[-1] == 100 and len(rates) == 38
    assert len(range_test(lambda lr: math.nan)[0]) == 1
    assert len(range_test(lambda lr: 1.0, steps=7)[0]) == 7


def test_range_test_goes_on_after_a_lucky_batch():
    """A loss of four times the luckiest is no explosion while it is within what came first."""
    found = iter([2.0, 2.5, 2.2, 0.1, 2.4, 1.0, 2.5, 2.6, 0.1])
    assert range_test(lambda lr: next(found), steps=9)[1][-1] == 2.6


@pytest.mark.parametrize("options, error, said", [
    ({"lowest": 0.0}, ValueError, "lowest"), ({"steps": 1}, ValueError, "steps"),
    ({"lowest": 2.0, "highest": 1.0}, ValueError, "lowest"),
    ({"highest": math.inf}, ValueError, "highest must be finite"),
    ({"lowest": "tiny"}, TypeError, "lowest must be a number"),
    ({"steps": 10.5}, TypeError, "steps must be a whole number of at least 2, not 10.5")])
def test_range_test_refuses_what_cannot_grow(options, error, said):
    with pytest.raises(error, match=said):
        range_test(lambda lr: 1.0, **options)


def test_range_test_refuses_what_is_no_step():
    with pytest.raises(TypeError, match="step must return the loss, a number, not None"):
        range_test(lambda lr: None)
    with pytest.raises(TypeError, match="step must be a function"):
        range_test(0.1)
