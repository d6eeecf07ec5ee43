"""The builders against the truth table, the papers' own layer sums, and a forward pass."""

import csv
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_lib.anatomy import builders

TRUTH = Path(__file__).parents[1] / "truth" / "parameters.csv"
BUILT = {
    "LeNet-5 (1998 paper)": builders.lenet5_1998,
    "LeNet-5 (modern ReLU/max-pool)": builders.lenet5,
    "AlexNet (one-column torchvision layout)": builders.alexnet,
    "AlexNet (2012 grouped convolutions)": builders.alexnet_2012,
    "VGG11": lambda: builders.vgg(11),
    "VGG16": lambda: builders.vgg(16),
}


def truth():
    with TRUTH.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["source"] in ("own builder", "torch")]
    return {row["model"]: (int(row["total"]), int(row["trainable"])) for row in rows}


def counted(model):
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable)


def by_layer(model):
    return [n for layer in model if (n := sum(p.numel() for p in layer.parameters()))]


def test_the_truth_table_names_no_builder_that_is_missing():
    assert set(truth()) == set(BUILT)


@pytest.mark.parametrize("name", BUILT)
def test_total_and_trainable_are_the_truth_tables(name):
    with torch.device("meta"):
        model = BUILT[name]()
    assert counted(model) == truth()[name]


@pytest.mark.parametrize("name", BUILT)
def test_every_network_runs_forward_for_real(name):
    model = BUILT[name]().eval()
    with torch.no_grad():
        logits = model(torch.randn(1, *model.input_shape))
    assert logits.shape[0] == 1 and logits.shape[1] in (10, 1000)
    assert torch.isfinite(logits).all()


def test_lenet_of_1998_layer_by_layer():
    # LeCun et al. 1998, II.B: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164; RBF 84 x 10.
    assert by_layer(builders.lenet5_1998()) == [156, 12, 1516, 32, 48120, 10164, 840]


def test_the_connection_table_is_the_papers():
    # Table I: every map of S2 feeds ten maps of C3, and no two maps of C3 see the same inputs.
    table = builders.C3_TABLE
    assert [len(inputs) for inputs in table] == [3] * 6 + [4] * 9 + [6]
    assert len(set(table)) == 16
    assert [sum(i in inputs for inputs in table) for i in range(6)] == [10] * 6


def test_subsampling_adds_scales_and_shifts():
    model = builders.lenet5_1998()
    x = torch.randn(2, 6, 28, 28)
    sums = x.unfold(2, 2, 2).unfold(3, 2, 2).sum((-1, -2))
    weight, bias = model.S2[1].weight.view(1, 6, 1, 1), model.S2[1].bias.view(1, 6, 1, 1)
    expected = 1.7159 * torch.tanh(2 / 3 * (sums * weight + bias))
    torch.testing.assert_close(model.S2(x), expected)


def test_partial_convolution_is_a_masked_full_one():
    model = builders.lenet5_1998()
    full = torch.zeros(16, 6, 5, 5)
    for row, inputs, conv in zip(full, builders.C3_TABLE, model.C3.maps):
        row[list(inputs)] = conv.weight[0].detach()
    bias = torch.cat([conv.bias for conv in model.C3.maps])
    x = torch.randn(2, 6, 14, 14)
    torch.testing.assert_close(model.C3(x), torch.nn.functional.conv2d(x, full, bias))


def test_the_output_of_1998_is_a_squared_distance_to_fixed_signs():
    rbf = builders.lenet5_1998().RBF
    assert not rbf.weight.requires_grad and set(rbf.weight.unique().tolist()) == {-1.0, 1.0}
    x = torch.randn(3, 84)
    torch.testing.assert_close(rbf(x), torch.cdist(x, rbf.weight) ** 2, rtol=1e-4, atol=1e-3)
    assert torch.equal(rbf.weight, builders.lenet5_1998().RBF.weight)


def test_building_leaves_the_random_state_of_the_caller_to_the_layers_alone():
    torch.manual_seed(3)
    first = builders.lenet5_1998().C1.weight
    torch.manual_seed(3)
    assert torch.equal(first, torch.nn.Conv2d(1, 6, 5).weight)


def test_alexnet_layer_by_layer():
    # (inputs / groups) * kernel area * outputs + outputs, then the three Linear layers.
    convs = {
        builders.alexnet: [(3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)],
        builders.alexnet_2012: [(3, 96, 11), (48, 256, 5), (256, 384, 3), (192, 384, 3),
                                (192, 256, 3)],
    }
    for build, rows in convs.items():
        with torch.device("meta"):
            model = build()
        assert by_layer(model.features) == [i * k * k * o + o for i, o, k in rows]
        assert by_layer(model.classifier) == [9216 * 4096 + 4096, 4096 * 4096 + 4096, 4097000]


@pytest.mark.parametrize("layers, total", [
    (11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)])
def test_vgg_totals_are_torchvisions(layers, total):
    with torch.device("meta"):
        model = builders.vgg(layers)
    assert counted(model) == (total, total)
    weighted = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(weighted) == layers


def test_names_are_those_of_torchvisions_checkpoints():
    with torch.device("meta"):
        alexnet, vgg16 = builders.alexnet().state_dict(), builders.vgg(16).state_dict()
    assert [n for n in alexnet if n.endswith("weight")] == [
        *(f"features.{i}.weight" for i in (0, 3, 6, 8, 10)),
        *(f"classifier.{i}.weight" for i in (1, 4, 6))]
    assert [n for n in vgg16 if n.endswith("weight")] == [
        *(f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        *(f"classifier.{i}.weight" for i in (0, 3, 6))]


def test_mlp_counts_and_ends_without_an_activation():
    model = builders.mlp([784, 128, 64, 10])
    assert by_layer(model) == [784 * 128 + 128, 128 * 64 + 64, 64 * 10 + 10]
    assert isinstance(model[-1], torch.nn.Linear)
    assert counted(builders.mlp([3, 2], bias=False)) == (6, 6)


@pytest.mark.parametrize("sizes", [
    [784], [], 784, "784", [784, 0], [784, -1], [784, 1.5], [1, True]])
def test_mlp_refuses_bad_widths(sizes):
    with pytest.raises(ValueError, match="sizes must"):
        builders.mlp(sizes)


@pytest.mark.parametrize("build, argument", [
    (lambda: builders.vgg(12), "layers must be 11, 13, 16 or 19, not 12"),
    (lambda: builders.vgg(16, 0), "num_classes must be"),
    (lambda: builders.alexnet(num_classes="ten"), "num_classes must be"),
    (lambda: builders.alexnet_2012(num_classes=-3), "num_classes must be"),
])
def test_bad_arguments_are_named(build, argument):
    with pytest.raises(ValueError, match=argument):
        build()


def test_layers_pickle_and_are_found_by_name():
    model = builders.lenet5_1998()
    again = pickle.loads(pickle.dumps(model))
    x = torch.randn(1, 1, 32, 32)
    assert torch.equal(model(x), again(x))
    assert type(again.RBF) is builders.EuclideanRBF
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        builders.Nothing


def test_importing_the_builders_does_not_import_torch():
    code = "import sys, course_lib.anatomy.builders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
