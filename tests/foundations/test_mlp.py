"""Losses, gradients and training of the NumPy network against torch, SciPy and scikit-learn."""
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from scipy import special  # noqa: E402
from sklearn.datasets import make_circles, make_moons  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import log_loss  # noqa: E402

from course_lib.core.datasets import load_images  # noqa: E402
from course_lib.foundations.mlp import (  # noqa: E402
    MLP, SCHEMES, cross_entropy, initial_weights, numerical_gradient, softmax, squared_error, train)

BENDS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
         "gelu": torch.nn.functional.gelu, "identity": lambda x: x}
SHAPES = [(4, 2), (5, 7, 3), (3, 6, 5, 2), (2, 4, 4, 4, 4, 10), (1, 1)]


def tensor(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


# ------------------------------------------------------------------- losses

@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1000])
def test_softmax_as_scipy_computes_it(scale):
    logits = np.random.default_rng(1).normal(size=(50, 7)) * scale
    np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=1), atol=1e-14)
    np.testing.assert_allclose(softmax(logits[0]), special.softmax(logits[0]), atol=1e-14)


@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1000])
def test_cross_entropy_and_gradient_as_torch_computes_them(scale):
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(40, 6)) * scale, rng.integers(0, 6, 40)
    theirs = tensor(logits)
    expected = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels))
    expected.backward()
    loss, gradient = cross_entropy(logits, labels)
    assert loss == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(gradient, theirs.grad, atol=1e-14)


def test_cross_entropy_as_scikit_learn_computes_it():
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(200, 4)), rng.integers(0, 4, 200)
    expected = log_loss(labels, special.softmax(logits, axis=1))
    assert cross_entropy(logits, labels)[0] == pytest.approx(expected, rel=1e-10)


def test_gradient_of_cross_entropy_is_what_is_measured():
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    measured = numerical_gradient(lambda: cross_entropy(logits, labels)[0], logits)
    np.testing.assert_allclose(cross_entropy(logits, labels)[1], measured, atol=1e-9)


def test_extreme_logits_stay_finite():
    for row in ([1e4, -1e4], [-1e4, -1e4], [0.0, 745.0]):
        loss, gradient = cross_entropy([row], [0])
        assert np.isfinite(loss) and np.isfinite(gradient).all() and np.isfinite(softmax(row)).all()


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4)])
def test_squared_error_as_torch_computes_it(shape):
    rng = np.random.default_rng(5)
    outputs, targets = rng.normal(size=shape), rng.normal(size=shape)
    theirs = tensor(outputs)
    expected = torch.nn.functional.mse_loss(theirs, torch.tensor(targets))
    expected.backward()
    loss, gradient = squared_error(outputs, targets)
    assert loss == pytest.approx(float(expected), rel=1e-14)
    np.testing.assert_allclose(gradient, theirs.grad, atol=1e-15)


# ------------------------------------------------------------------ network

def by_torch(network, inputs, labels):
    """Logits, loss and gradients of the same network in torch."""
    weights = [tensor(array) for array in network.parameters()]
    x = torch.tensor(inputs)
    for layer in range(len(network.weights)):
        x = BENDS[network.activation.name](x) if layer else x
        x = x @ weights[2 * layer] + weights[2 * layer + 1]
    loss = torch.nn.functional.cross_entropy(x, torch.tensor(labels))
    loss.backward()
    return x.detach().numpy(), float(loss), [each.grad.numpy() for each in weights]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("name", BENDS)
def test_forward_and_backward_as_torch_computes_them(name, sizes):
    rng = np.random.default_rng(6)
    network = MLP(sizes, activation=name, initialisation="glorot", seed=7)
    for bias in network.biases:
        bias += rng.normal(size=bias.shape)
    inputs, labels = rng.normal(size=(9, sizes[0])), rng.integers(0, sizes[-1], 9)
    logits, loss, gradients = by_torch(network, inputs, labels)
    mine = network.forward(inputs)
    my_loss, arriving = cross_entropy(mine, labels)
    np.testing.assert_allclose(mine, logits, atol=1e-12)
    assert my_loss == pytest.approx(loss, rel=1e-12, abs=1e-14)
    for one, other in zip(network.backward(arriving), gradients, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu"])
def test_gradients_are_what_is_measured(name):
    rng = np.random.default_rng(8)
    network = MLP([3, 5, 4, 2], activation=name, initialisation="glorot", seed=8)
    inputs, labels = rng.normal(size=(6, 3)), rng.integers(0, 2, 6)
    gradients = network.backward(cross_entropy(network.forward(inputs), labels)[1])
    for array, gradient in zip(network.parameters(), gradients, strict=True):
        measured = numerical_gradient(
            lambda: cross_entropy(network.forward(inputs), labels)[0], array)
        np.testing.assert_allclose(gradient, measured, atol=1e-8)


def test_same_seed_same_network():
    one, two, other = MLP([3, 4, 2], seed=1), MLP([3, 4, 2], seed=1), MLP([3, 4, 2], seed=2)
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (one.weights[0] != other.weights[0]).all()


@pytest.mark.parametrize("scheme, expected", [
    ("he", (2 / 400) ** 0.5), ("glorot", (2 / 700) ** 0.5), (0.3, 0.3)])
def test_initial_weights_have_the_deviation_of_their_scheme(scheme, expected):
    weights = initial_weights(400, 300, scheme=scheme, rng=np.random.default_rng(9))
    assert weights.shape == (400, 300)
    assert abs(weights.mean()) < 4 * expected / np.sqrt(weights.size)
    assert weights.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * weights.size))


def test_schemes_agree_with_torchs():
    """torch draws He's and Glorot's weights with these standard deviations (gain 1 for tanh's)."""
    weight = torch.empty(300, 400)                # torch: (out, in)
    torch.manual_seed(0)
    he = torch.nn.init.kaiming_normal_(weight.clone()).std()
    glorot = torch.nn.init.xavier_normal_(weight.clone()).std()
    assert float(he) == pytest.approx(SCHEMES["he"](400, 300), rel=0.01)
    assert float(glorot) == pytest.approx(SCHEMES["glorot"](400, 300), rel=0.01)


# ----------------------------------------------------------------- training

def test_training_takes_the_steps_of_torchs_sgd():
    """One epoch of full batches each: the order does not matter then, and torch must agree."""
    rng = np.random.default_rng(10)
    inputs, labels = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    network = MLP([3, 8, 4], seed=3)
    weights = [tensor(array) for array in network.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        hidden = torch.relu(torch.tensor(inputs) @ weights[0] + weights[1])
        logits = hidden @ weights[2] + weights[3]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    mine = train(network, inputs, labels, epochs=30, batch_size=20, learning_rate=0.2)
    np.testing.assert_allclose(mine, losses, rtol=1e-9)
    for one, other in zip(network.parameters(), weights, strict=True):
        np.testing.assert_allclose(one, other.detach(), atol=1e-9)


def test_no_hidden_layer_comes_where_logistic_regression_comes():
    inputs, labels = make_moons(200, noise=0.3, random_state=0)
    network = MLP([2, 2], seed=0)
    losses = train(network, inputs, labels, epochs=3000, batch_size=200, learning_rate=1.0)
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(inputs, labels)
    assert losses[-1] == pytest.approx(
        log_loss(labels, expected.predict_proba(inputs)), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_digits_over_95_per_cent_held_out(seed):
    digits = load_images("digits")
    network = MLP([64, 128, 10], seed=seed)
    train(network, digits.train_images.reshape(-1, 64) / 255, digits.train_labels, seed=seed)
    assert network.accuracy(digits.test_images.reshape(-1, 64) / 255, digits.test_labels) > 0.95


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_a_border_that_is_not_straight(name):
    (seen, labels), (new, truth) = (make_circles(200, noise=0.08, factor=0.3, random_state=seed)
                                    for seed in (0, 1))
    network = MLP([2, 16, 2], activation=name, seed=1)
    train(network, seen, labels, epochs=100, batch_size=20)
    assert network.accuracy(new, truth) > 0.97


def test_a_seed_decides_the_order():
    inputs, labels = make_moons(50, random_state=0)
    def trained(seed):
        network = MLP([2, 4, 2])
        return train(network, inputs, labels, epochs=3, batch_size=7, seed=seed)
    assert trained(0) == trained(0) != trained(1)


def test_after_each_epoch_somebody_may_look():
    seen = []
    losses = train(MLP([1, 2, 2]), [[0.0], [1.0]], [0, 1], epochs=3, after_epoch=seen.append)
    assert seen == [1, 2, 3] and len(losses) == 3


# ---------------------------------------------------------------- bad input

@pytest.mark.parametrize("logits, labels, said", [
    ([[0.0, 0.0]], [2], "from 0 to 1"), ([[0.0, 0.0]], [-1], "from 0 to 1"),
    ([[np.nan, 0.0]], [0], "must not hold NaN"), ([[0.0, 0.0]], [0, 1], "one entry for each row"),
    ([[np.inf, 0.0]], [0], "largest of each row finite"), ([[0.0, 0.0]], [[0]], "one entry"),
    ([0.0, 0.0], [0], "one entry for each row"), (np.zeros((0, 2)), [], "at least one number")])
def test_labels_that_do_not_fit_get_one_sentence(logits, labels, said):
    with pytest.raises(ValueError, match=said):
        cross_entropy(logits, labels)


@pytest.mark.parametrize("call, said", [
    (lambda: MLP([3]), "sizes must name"), (lambda: MLP([3, 0, 2]), "sizes must name"),
    (lambda: MLP([3, 2], activation="swish"), "activation must be"),
    (lambda: MLP([3, 2], initialisation="zero"), "scheme must be"),
    (lambda: MLP([3, 2]).forward(np.zeros((4, 2))), r"\(batch, 3\), not \(4, 2\)"),
    (lambda: MLP([3, 2]).forward(np.zeros(3)), r"\(batch, 3\), not \(3,\)"),
    (lambda: MLP([3, 2]).backward(np.zeros((4, 2))), "of which there is none"),
    (lambda: squared_error([1.0], [[1.0]]), r"\(1,\), not \(1, 1\)"),
    (lambda: squared_error([], []), "at least one number"),
    (lambda: softmax([]), "at least one number"), (lambda: softmax(3.0), "must be rows"),
    (lambda: softmax([np.nan, 1.0]), "must not hold NaN"),
    (lambda: MLP([3, 2]).forward([[np.nan, 0.0, 0.0]]), "inputs must not hold NaN"),
    (lambda: MLP([3, 2]).accuracy(np.zeros((4, 3)), np.zeros((4, 1), int)), "one entry for each"),
    (lambda: initial_weights(3, 2, scheme=-1.0, rng=np.random.default_rng(0)), "positive number"),
    (lambda: initial_weights(0, 2, rng=np.random.default_rng(0)), "fan_in must be a whole"),
    (lambda: learn(learning_rate=-0.1), "learning_rate must be a positive number, not -0.1"),
    (lambda: learn(learning_rate=np.nan), "learning_rate must be a positive"),
    (lambda: learn(epochs=0), "epochs must be a whole number of at least 1, not 0"),
    (lambda: learn(batch_size=0), "batch_size must be a whole number of at least 1"),
    (lambda: learn(labels=[0, 1, 0]), "one entry for each row"),
    (lambda: learn(labels=[0, 2]), "from 0 to 1"),
    (lambda: numerical_gradient(lambda: 0.0, np.zeros(1), step=0), "step must be a positive"),
    (lambda: numerical_gradient(lambda: np.nan, np.zeros(1)), "finite numbers")])
def test_bad_input_gets_one_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize("call, said", [
    (lambda: numerical_gradient(lambda: 0.0, np.array([1, 2])), "must hold floats.* int64"),
    (lambda: numerical_gradient(lambda: 0.0, [1.0]), "must hold floats.* list"),
    (lambda: MLP(3), "sizes must be a list"), (lambda: MLP([3, 2.5]), "sizes must be a list"),
    (lambda: MLP("32"), "sizes must be a list"), (lambda: softmax(["a", "b"]), "logits must be a"),
    (lambda: squared_error([[1.0], [1.0, 2.0]], [1.0]), "outputs must be a number or an array"),
    (lambda: MLP([3, 2]).forward(None), "inputs must be a number or an array"),
    (lambda: cross_entropy([[0.0, 0.0]], [0.5]), "labels must be whole numbers"),
    (lambda: initial_weights(3, 2, rng=0), "rng must be a random generator"),
    (lambda: learn(epochs=1.5), "epochs must be a whole number")])
def test_what_is_no_number_gets_one_sentence(call, said):
    with pytest.raises(TypeError, match=said):
        call()


def learn(labels=(0, 1), **options):
    return train(MLP([1, 2, 2]), [[0.0], [1.0]], labels, **options)


def test_bad_arguments_leave_the_network_as_it_is():
    network = MLP([1, 2, 2])
    before = [each.copy() for each in network.parameters()]
    with pytest.raises(ValueError):
        train(network, [[0.0], [1.0]], [0, 2])
    for one, other in zip(before, network.parameters(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lists_do_as_well_as_arrays():
    network = MLP((2, 3, 2))
    outputs = network.forward([[1, 2]])
    shapes = [each.shape for each in network.backward(outputs.tolist())]
    assert shapes == [(2, 3), (3,), (3, 2), (2,)]
    assert network.accuracy([[1, 2]], [int(outputs.argmax())]) == 1


def test_a_class_that_is_ruled_out_has_probability_0():
    assert softmax([-np.inf, 0.0]).tolist() == [0, 1]


def test_an_array_is_put_back_when_the_loss_fails():
    array = np.ones(3)
    with pytest.raises(ZeroDivisionError):
        numerical_gradient(lambda: 1 / 0, array)
    assert array.tolist() == [1, 1, 1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_stops_the_training():
    inputs, labels = make_moons(50, noise=0.1, random_state=0)
    with pytest.raises(FloatingPointError, match="below 1e"):
        train(MLP([2, 8, 2]), inputs, labels, learning_rate=1e200)


def test_numerical_gradient_puts_everything_back():
    array = np.random.default_rng(0).normal(size=(3, 2))
    before = array.copy()
    numerical_gradient(lambda: float((array ** 3).sum()), array)
    np.testing.assert_array_equal(array, before)
