"""Activation functions and their derivatives against torch, SciPy and high precision."""
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from scipy import special  # noqa: E402

from course_lib.foundations.activations import ACTIVATIONS, activation, sigmoid  # noqa: E402
from course_lib.foundations import activations  # noqa: E402

TORCH = {"identity": lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
         "relu": torch.relu, "gelu": torch.nn.functional.gelu}
SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 4)]


def by_torch(name, x):
    """Value and slope as torch and its autograd compute them, in double precision."""
    x = torch.tensor(x, requires_grad=True, dtype=torch.float64)
    y = TORCH[name](x)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("scale", [1e-8, 0.1, 1, 10, 100])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_as_torch_computes_it(name, scale):
    x = np.random.default_rng(2).normal(size=5000) * scale
    value, slope = by_torch(name, x)
    np.testing.assert_allclose(ACTIVATIONS[name].function(x), value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ACTIVATIONS[name].derivative(x), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_keeps_the_shape_and_the_input(name, shape):
    x = np.random.default_rng(3).normal(size=shape)
    before = x.copy()
    each = activation(name)
    assert each.function(x).shape == each.derivative(x).shape == shape
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_takes_lists_and_whole_numbers(name):
    each = activation(name)
    for given in ([1, -2], np.array([1, -2]), [1.0, -2.0]):
        np.testing.assert_array_equal(each.function(given), each.function(np.array([1.0, -2.0])))
        np.testing.assert_array_equal(each.derivative(given),
                                      each.derivative(np.array([1.0, -2.0])))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nothing_overflows(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in ([-1e4, 1e4], [-745.0, 709.0, 710.0]):
            assert np.isfinite(ACTIVATIONS[name].function(x)).all()
            assert np.isfinite(ACTIVATIONS[name].derivative(x)).all()


def exact_exp(x):
    """e to a negative whole number as a fraction, by its series, to 40 digits and more."""
    power, term, total = Fraction(1), Fraction(1), Fraction(1)
    for n in range(1, 60):
        term = term * Fraction(1, n)
        total += term
    for _ in range(-x):
        power /= total
    return power


@pytest.mark.parametrize("x", [1, 5, 20, 40, 100])
def test_tails_keep_their_digits(x):
    """sigma'(x) = e / (1 + e)^2 and tanh'(x) = 4 sigma'(2x), in exact fractions."""
    e = exact_exp(-x)
    expected = float(e / (1 + e) ** 2)
    for sign in (x, -x):
        slope = float(activations.sigmoid_derivative(float(sign)))
        assert math.isclose(slope, expected, rel_tol=1e-14)
        assert math.isclose(float(activations.tanh_derivative(sign / 2)), 4 * expected,
                            rel_tol=1e-14)
    assert math.isclose(float(sigmoid(float(-x))), float(e / (1 + e)), rel_tol=1e-14)


def test_sigmoid_and_gelu_as_scipy_computes_them():
    x = np.random.default_rng(4).normal(size=10_000) * 30
    np.testing.assert_allclose(sigmoid(x), special.expit(x), rtol=1e-14)
    np.testing.assert_allclose(activations.gelu(x), x * special.ndtr(x), rtol=1e-14)


def test_relu_has_slope_zero_at_zero():
    assert activations.relu_derivative(0.0) == by_torch("relu", 0.0)[1] == 0


def test_an_unknown_name_gets_one_sentence():
    with pytest.raises(ValueError, match="activation must be one of identity, .* not 'swish'"):
        activation("swish")


@pytest.mark.parametrize("name, limits, slopes", [
    ("sigmoid", (0, 1), (0, 0)), ("tanh", (-1, 1), (0, 0)), ("relu", (0, np.inf), (0, 1)),
    ("gelu", (0, np.inf), (0, 1))])
def test_limits_at_infinity(name, limits, slopes):
    """The limits of the formulas; no infinity times 0, and no warning."""
    found = ACTIVATIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuple(found.function([-np.inf, np.inf])) == limits
        assert tuple(found.derivative([-np.inf, np.inf])) == slopes
        assert tuple(found.derivative([-1e200, 1e200])) == slopes


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("wrong", [None, "3", [[1.0], [1.0, 2.0]], 1j, {}, [None]], ids=repr)
def test_what_is_no_number_gets_one_sentence(name, wrong):
    for each in (ACTIVATIONS[name].function, ACTIVATIONS[name].derivative):
        with pytest.raises(TypeError, match="^x must be a number or an array of numbers"):
            each(wrong)


def test_a_name_of_another_type_gets_one_sentence():
    with pytest.raises(ValueError, match="activation must be one of"):
        activation(["relu"])
