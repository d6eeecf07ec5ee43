"""Networks by depth, their training, and what is measured about them."""
import math
import statistics

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.anatomy import depth_experiments as experiments
from course_lib.anatomy.depth import measure_depth

RECIPES = tuple(experiments.RECIPES.values())


@pytest.mark.parametrize("recipe", RECIPES, ids=experiments.RECIPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_depth_is_the_number_of_weighted_layers(depth, recipe):
    network = experiments.build_network(depth, 16, **recipe)
    assert measure_depth(network, torch.zeros(1, 64)).weighted == depth
    assert len(experiments.linear_layers(network)) == depth
    assert network(torch.zeros(3, 64)).shape == (3, 10)


@pytest.mark.parametrize("normalise", [False, True])
def test_parameters_follow_the_formula(normalise):
    """65w + (d - 2)(w² + w) + 10w + 10, and 2w for each of d - 1 norms."""
    for depth, width in ((2, 5), (6, 32), (32, 7)):
        network = experiments.build_network(depth, width, normalise=normalise)
        expected = 65 * width + (depth - 2) * (width ** 2 + width) + 10 * width + 10
        expected += 2 * width * (depth - 1) if normalise else 0
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_he_has_twice_the_inverse_of_the_inputs():
    torch.manual_seed(0)
    network = experiments.build_network(4, 400, initialisation="he")
    for layer in experiments.linear_layers(network)[:3]:
        assert layer.weight.var().item() * layer.in_features == pytest.approx(2, rel=0.05)
        assert not layer.bias.any()


def test_a_residual_layer_of_zeros_passes_its_input_on():
    network = experiments.build_network(3, 8, residual=True, normalise=True)
    nn.init.zeros_(network[1].linear.weight)
    nn.init.zeros_(network[1].linear.bias)
    x = torch.randn(4, 8)
    assert torch.equal(network[1](x), x)


def test_width_for_is_the_largest():
    generator = np.random.default_rng(0)
    for _ in range(20):
        depth, normalise = int(generator.integers(2, 40)), bool(generator.integers(2))
        budget = int(generator.integers(4000, 20000))
        width = experiments.width_for(budget, depth, normalise=normalise)
        sizes = [sum(parameter.numel() for parameter in experiments.build_network(
            depth, each, normalise=normalise).parameters()) for each in (width, width + 1)]
        assert sizes[0] <= budget < sizes[1]


@pytest.mark.parametrize("call, says", [
    (lambda: experiments.build_network(0), "depth must be a whole number of at least 1, not 0"),
    (lambda: experiments.build_network(True), "depth must be a whole number"),
    (lambda: experiments.build_network(2, 1.5), "width must be a whole number of at least 1"),
    (lambda: experiments.build_network(2, initialisation="xavier"), "must be default or he"),
    (lambda: experiments.width_for(1000, 1), "depth must be at least 2"),
    (lambda: experiments.width_for(50, 2), "parameters must be enough"),
    (lambda: experiments.mean_interval([1.0]), "at least two measurements, not 1"),
    (lambda: experiments.build_network(3, dropout=1.5), "dropout must be a share from 0 to 1"),
    (lambda: experiments.mean_interval([1.0, 2.0], level=95), "level must be between 0 and 1"),
    (lambda: experiments.training_set("digits", 5000, 0.0, 0), "images must be at most 1438"),
    (lambda: experiments.training_set("digits", 0, 0.0, 0), "images must be a whole number"),
    (lambda: experiments.training_set("digits", 9, math.nan, 0), "wrong_labels must be a share"),
    (lambda: experiments.train_once(1, steps=0), "steps must be a whole number of at least 1"),
    (lambda: experiments.train_once(1, batch_size=0), "batch_size must be a whole number"),
    (lambda: experiments.train_once(1, learning_rate=-1), "learning_rate must be a number of"),
    (lambda: experiments.train_once(1, weight_decay=math.nan), "weight_decay must be a number"),
    (lambda: experiments.fit(experiments.build_network(1), torch.zeros(4, 64), torch.zeros(3)),
     "4 and 3 came"),
    (lambda: experiments.accuracy(nn.Identity(), torch.zeros(0, 3), torch.zeros(0)), "one image"),
    (lambda: experiments.zero_weights(nn.Linear(2, 2), 2), "share must be a share from 0 to 1"),
    (lambda: experiments.drop_layers(nn.Sequential(), torch.zeros(1, 2), -1), "keep must be"),
    (lambda: experiments.train_once(1, optimizer="lion"), "must be one of momentum, adam"),
    (lambda: experiments.train_once(1, precision="fp8"), "must be one of fp32, mixed")])
def test_bad_input_gets_one_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_wrong_labels_are_wrong_and_as_many_as_asked_for():
    inputs, labels, wrong = experiments.training_set("digits", 150, 0.3, 4)
    same, right, none = experiments.training_set("digits", 150, 0.0, 4)
    assert torch.equal(inputs, same) and wrong.sum() == 45 and not none.any()
    assert torch.equal(labels != right, wrong) and set(labels.tolist()) <= set(range(10))


def test_inputs_are_standardised_by_the_training_images():
    inputs, labels, _ = experiments.training_set("digits", None, 0.0, 0)
    assert len(labels) == 1438
    assert inputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert inputs.std().item() == pytest.approx(1, abs=1e-3)


def test_shifted_images_are_rolls_within_a_frame():
    """Inside a frame of two empty pixels a shift loses nothing: it is one of nine rolls."""
    image = torch.zeros(8, 8)
    image[2:6, 2:6] = torch.rand(4, 4) + 0.1
    torch.manual_seed(0)
    moved = experiments._shifted(image.view(1, 64).repeat(300, 1)).view(-1, 8, 8)
    rolls = [image.roll((down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    found = [next(i for i, roll in enumerate(rolls) if torch.equal(roll, each)) for each in moved]
    assert set(found) == set(range(9))


def test_fit_takes_the_same_steps_as_a_loop_by_hand():
    inputs, labels, _ = experiments.training_set("digits", None, 0.0, 0)
    torch.manual_seed(3)
    ours, other = (experiments.build_network(3, 16) for _ in range(2))
    other.load_state_dict(ours.state_dict())
    torch.manual_seed(5)
    experiments.fit(ours, inputs, labels, steps=8, learning_rate=0.02, batch_size=64,
                    weight_decay=0.01)
    torch.manual_seed(5)
    velocity = [torch.zeros_like(parameter) for parameter in other.parameters()]
    for _ in range(8):
        chosen = torch.randint(len(inputs), (64,))
        loss = nn.functional.cross_entropy(other(inputs[chosen]), labels[chosen])
        gradients = torch.autograd.grad(loss, list(other.parameters()))
        with torch.no_grad():
            for parameter, gradient, speed in zip(other.parameters(), gradients, velocity):
                speed.mul_(0.9).add_(gradient + 0.01 * parameter)
                parameter -= 0.02 * speed
    for mine, theirs in zip(ours.parameters(), other.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_gradient_norms_agree_with_backward():
    torch.manual_seed(0)
    network = experiments.build_network(5, 12, residual=True, normalise=True)
    inputs, labels = torch.randn(7, 64), torch.randint(10, (7,))
    norms = experiments.gradient_norms(network, inputs, labels)
    nn.functional.cross_entropy(network(inputs), labels).backward()
    expected = [layer.weight.grad.norm().item() for layer in experiments.linear_layers(network)]
    assert norms == pytest.approx(expected)


def test_train_once_depends_on_its_seed_alone():
    first, again, other = (experiments.train_once(3, seed=seed, steps=20) for seed in (1, 1, 2))
    for name in ("train_accuracy", "test_accuracy", "gradient_norms", "parameters"):
        assert first[name] == again[name]
    assert first["gradient_norms"] != other["gradient_norms"] and first["memorised"] is None


def test_dropout_works_in_training_only():
    network = experiments.build_network(4, 16, dropout=0.5)
    x = torch.randn(6, 64)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_mean_interval_agrees_with_the_table_of_student():
    """Student's factors for 95 %: 4.303 for three values, 2.776 for five, 2.262 for ten."""
    for count, factor in ((3, 4.303), (5, 2.776), (10, 2.262)):
        values = [math.sin(i) for i in range(count)]
        mean, half = experiments.mean_interval(values)
        assert mean == pytest.approx(statistics.mean(values))
        assert half == pytest.approx(
            factor * statistics.stdev(values) / count ** 0.5, rel=2e-4)


def test_zeroed_weights_are_the_smallest():
    network = experiments.build_network(3, 16)
    before = [layer.weight.detach().clone() for layer in experiments.linear_layers(network)]
    experiments.zero_weights(network, 0.25)
    for old, layer in zip(before, experiments.linear_layers(network)):
        gone = layer.weight == 0
        assert gone.sum() == old.numel() // 4
        assert old[gone].abs().max() <= old[~gone].abs().min()
        assert torch.equal(layer.weight[~gone], old[~gone])


def test_dropped_layers_change_least_and_the_rest_is_shared():
    torch.manual_seed(0)
    network = experiments.build_network(6, 16, residual=True)
    with torch.no_grad():
        for place, size in ((1, 1.0), (2, 0.01), (3, 2.0), (4, 0.02)):
            network[place].linear.weight *= size
            network[place].linear.bias *= size
    short = experiments.drop_layers(network, torch.randn(30, 64), 2)
    assert list(short) == [network[place] for place in (0, 1, 3, 5, 6)]
    assert list(experiments.drop_layers(network, torch.randn(30, 64), 9)) == list(network)


def test_mixed_precision_learns_as_well():
    result = experiments.train_once(3, precision="mixed", **experiments.RECIPES["residual + norm"])
    assert result["train_accuracy"] > 0.9


def test_other_images_can_be_used(monkeypatch):
    """What Fashion-MNIST needs: another name, 28 × 28 pixels, and no download."""
    from course_lib.core.datasets import ImageData
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=300)
    images = generator.integers(60, size=(300, 28, 28)).astype("uint8")
    images[np.arange(300), labels * 2] = 255                     # one bright line tells the class

    def load(name, *, fall_back=True):
        assert name == "fashion-mnist" and not fall_back
        return ImageData(name, images[:240], labels[:240], images[240:], labels[240:],
                         tuple("0123456789"))

    monkeypatch.setattr(experiments, "load_images", load)
    result = experiments.train_once(2, data="fashion-mnist", steps=60)
    assert result["test_accuracy"] > 0.9 and result["parameters"] == 785 * 32 + 33 * 10
