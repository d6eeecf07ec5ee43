"""The small autograd engine against torch's, on fixed and on random expressions."""
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from course_lib.foundations.autograd import Value  # noqa: E402

DOUBLE = torch.float64
BROADCAST = [((5, 3), (3,)), ((5, 3), (5, 1)), ((5, 3), (1, 3)), ((5, 3), ()), ((3,), (3,)),
             ((2, 4, 3), (4, 1)), ((1,), (4, 2)), ((5, 1), (1, 3))]
BINARY = {"add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
          "divide": lambda a, b: a / b}
OPERATIONS = [lambda a, b: a + b, lambda a, b: a * b * 0.3, lambda a, b: a - b,
              lambda a, b: a.tanh(), lambda a, b: (a * 0.1).exp(), lambda a, b: a.relu() * 0.5,
              lambda a, b: a / (b * b + 1.0)]
UNARY = {"exp": lambda x: x.exp(), "log": lambda x: (x * x + 0.1).log(), "tanh": lambda x: x.tanh(),
         "relu": lambda x: x.relu(), "power": lambda x: (x * x + 1.0) ** -1.5,
         "negate": lambda x: -x,
         "from a number": lambda x: 3.0 - x, "by a number": lambda x: 2.0 / (x * x + 1.0),
         "rows": lambda x: x.sum(0), "columns": lambda x: x.sum(1), "mean": lambda x: x.mean(),
         "part": lambda x: x[1:, [0, 0, 2]], "twice": lambda x: x * x + x}


def both(expression, *arrays):
    """Result and gradients of both engines; the loss is a weighted sum, to tell places apart."""
    found = []
    for make in (Value, lambda array: torch.tensor(array, dtype=DOUBLE, requires_grad=True)):
        inputs = [make(array) for array in arrays]
        result = expression(*inputs)
        data = result.data.numpy() if isinstance(result.data, torch.Tensor) else result.data
        weights = np.cos(np.arange(data.size)).reshape(data.shape)
        loss = result * (Value(weights) if isinstance(result, Value) else torch.tensor(weights))
        loss.sum().backward()
        found.append((data, [np.zeros(array.shape) if each.grad is None else np.asarray(each.grad)
                             for each, array in zip(inputs, arrays)]))
    return found


def assert_same(expression, *arrays):
    (mine, my_gradients), (theirs, their_gradients) = both(expression, *arrays)
    np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-13)
    for one, other in zip(my_gradients, their_gradients, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shapes", BROADCAST, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary_operations_with_broadcasting(name, shapes):
    rng = np.random.default_rng(5)
    first, second = (rng.uniform(0.5, 2, size=shape) for shape in shapes)
    assert_same(BINARY[name], first, second)
    assert_same(BINARY[name], second, first)


@pytest.mark.parametrize("name", UNARY)
def test_operations_of_one_array(name):
    assert_same(UNARY[name], np.random.default_rng(6).normal(size=(4, 3)))


def test_products_of_matrices():
    rng = np.random.default_rng(7)
    assert_same(lambda a, b: a @ b, rng.normal(size=(5, 3)), rng.normal(size=(3, 2)))


def test_an_array_on_the_left():
    array = np.arange(6.0).reshape(3, 2)
    W = Value(np.ones((2, 4)))
    (array @ W).sum().backward()
    np.testing.assert_array_equal(W.grad, array.sum(axis=0)[:, None] * np.ones((2, 4)))
    for result in (array + Value(1.0), array * Value(1.0), array - Value(1.0), array / Value(1.0)):
        assert isinstance(result, Value) and result.data.shape == (3, 2)


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_with_shared_parts(seed):
    """Up to twenty random operations, each on values made before, many of them used again."""
    steps = np.random.default_rng(seed).integers(0, 1000, size=(20, 3))

    def expression(*inputs):
        made = list(inputs)
        for kind, first, second in steps:
            a, b = made[first % len(made)], made[second % len(made)]
            made.append(OPERATIONS[kind % len(OPERATIONS)](a, b))
        return sum(made[-4:], made[0])

    rng = np.random.default_rng(100 + seed)
    assert_same(expression, rng.normal(size=(3, 4)), rng.normal(size=(4,)), rng.normal(size=(3, 1)))


def test_a_value_that_is_used_twice_adds_up():
    x = Value(3.0)
    y = x * x
    (y + y * x).backward()
    assert x.grad == 2 * 3 + 3 * 3 ** 2


def test_backward_twice_gives_the_same():
    x = Value([1.0, 2.0])
    loss = (x * x).sum()
    loss.backward()
    first = x.grad.copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad, first)


def test_ten_thousand_operations_in_a_row():
    x = y = Value(0.0)
    for _ in range(10_000):
        y = y + 1.0
    y.backward()
    assert y.data == 10_000 and x.grad == 1


def test_inputs_keep_their_data():
    array = np.arange(4.0)
    (Value(array) * 2).sum().backward()
    np.testing.assert_array_equal(array, np.arange(4.0))


def test_backward_starts_at_one_number():
    with pytest.raises(ValueError, match=r"single number.*\(2, 3\)"):
        Value(np.ones((2, 3))).backward()


def test_infinite_data_do_not_spoil_gradients():
    """A class that is masked out has the gradient 0, as in torch, and not NaN."""
    for expression in (lambda x: x.exp(), lambda x: x.exp().sum(1).log(), lambda x: x[:, [1, 2]]):
        assert_same(expression, np.array([[-np.inf, 0.0, 1.0], [2.0, -np.inf, 0.5]]))


@pytest.mark.parametrize("call, error, said", [
    (lambda: Value(None), TypeError, "data must be a number or an array"),
    (lambda: Value("3"), TypeError, "data must be a number or an array"),
    (lambda: Value([[1.0], [1.0, 2.0]]), TypeError, "rows of one length"),
    (lambda: Value(1.0) + "a", TypeError, "data must be a number or an array"),
    (lambda: Value([1.0, 2.0]) ** Value(2.0), TypeError, "exponent must be a plain number"),
    (lambda: Value([1.0, 2.0]) @ Value(np.ones((2, 2))), ValueError, r"\(2,\) @ \(2, 2\)"),
    (lambda: Value(np.ones((2, 2, 2))) @ np.ones((2, 2)), ValueError, r"\(B, I\) @ \(I, O\)"),
    (lambda: Value(np.ones((2, 3))) @ np.ones((2, 3)), ValueError, r"\(2, 3\) @ \(2, 3\)")])
def test_bad_input_gets_one_sentence(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_value_prints_its_numbers():
    assert repr(Value([1.0, 2.0])) == "Value([1. 2.])"


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_a_network_are_those_of_the_numpy_one(seed):
    from course_lib.foundations.mlp import MLP, cross_entropy
    rng = np.random.default_rng(seed)
    network, x, labels = MLP([5, 7, 3], seed=seed), rng.normal(size=(6, 5)), rng.integers(0, 3, 6)
    expected = network.backward(cross_entropy(network.forward(x), labels)[1])
    W, b, V, c = weights = [Value(each) for each in network.parameters()]
    logits = (x @ W + b).relu() @ V + c
    (logits.exp().sum(1).log() - logits[np.arange(6), labels]).mean().backward()
    for each, gradient in zip(weights, expected, strict=True):
        np.testing.assert_allclose(each.grad, gradient, atol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_it_learns_to_read_digits_along_the_path_of_torch(seed):
    """Forty steps on the digits: the losses are torch's, and go down."""
    from course_lib.core.datasets import load_images
    digits = load_images("digits")
    x, labels = digits.train_images[:300].reshape(-1, 64) / 255, digits.train_labels[:300]
    rng = np.random.default_rng(seed)
    start = [rng.normal(size=shape) / 8 for shape in ((64, 16), (16,), (16, 10), (10,))]
    mine = [Value(each.copy()) for each in start]
    theirs = [torch.tensor(each, requires_grad=True) for each in start]
    losses = []
    for _ in range(40):
        W, b, V, c = mine
        logits = (x @ W + b).relu() @ V + c
        loss = (logits.exp().sum(1).log() - logits[np.arange(300), labels]).mean()
        loss.backward()
        W, b, V, c = theirs
        expected = torch.nn.functional.cross_entropy(
            (torch.tensor(x) @ W + b).relu() @ V + c, torch.tensor(labels).long())
        expected.backward()
        for one, other in zip(mine, theirs, strict=True):
            one.data -= 0.5 * one.grad
            other.data -= 0.5 * other.grad
            other.grad = None
        losses.append((float(loss.data), float(expected)))
    np.testing.assert_allclose(*np.array(losses).T, rtol=1e-9)
    assert losses[-1][0] < 0.6 * losses[0][0]
