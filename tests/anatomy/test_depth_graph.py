"""The framework-neutral definitions against enumeration by hand and by brute force."""

import json
import math
import random
from collections import Counter
from fractions import Fraction
from itertools import product

import pytest

from course_lib.anatomy.depth import (
    CreditPath,
    LayerGraph,
    credit_path,
    layer_graph,
    longest_path,
    measure_depth,
    path_lengths,
    write_count,
)


def chain(*layers):
    graph = LayerGraph()
    at = graph.add("x", "Input")
    for charges in layers:
        at = graph.add("layer", "Layer", [at], **charges)
    graph.outputs = (at,)
    return graph


def residual(blocks, per_block, branches=1):
    """A stem, `blocks` residual blocks of `per_block` weighted layers, a head."""
    graph = LayerGraph()
    at = graph.add("stem", "Linear", [graph.add("x", "Input")], weighted=1)
    for block in range(blocks):
        inner = at
        for layer in range(per_block):
            made = [graph.add(f"{block}.{layer}.{way}", "Linear", [inner], weighted=1)
                    for way in range(branches if layer == 0 else 1)]
            inner = graph.join("heads", made)
        at = graph.add("add", "Add", [at, inner], block=str(block))
    graph.outputs = (graph.add("head", "Linear", [at], weighted=1),)
    return graph


def random_graph(seed):
    rng = random.Random(seed)
    graph = LayerGraph()
    for index in range(rng.randint(1, 2)):
        graph.add(f"input {index}", "Input")
    for index in range(rng.randint(1, 11)):
        parents = rng.sample(range(len(graph.nodes)), rng.randint(1, min(3, len(graph.nodes))))
        graph.add(f"node {index}", "Layer", parents, weighted=rng.choice([0, 0, 1, 1, 2]),
                  nonlinear=rng.randint(0, 1), operations=1, with_parameters=rng.randint(0, 1))
    graph.outputs = tuple(rng.sample(range(len(graph.nodes)), min(2, len(graph.nodes))))
    return graph


def walks(graph, end):
    """Every path of nodes from an input to `end`, one by one."""
    if not graph.nodes[end].inputs:
        yield (end,)
    for parent in graph.nodes[end].inputs:
        for path in walks(graph, parent):
            yield (*path, end)


def brute_lengths(graph):
    """Distinct sequences of weighted layers (with their input), counted by total weight."""
    sequences = set()
    for end in graph.outputs:
        for path in walks(graph, end):
            sequences.add(tuple(i for i in path if graph.nodes[i].weighted
                                or not graph.nodes[i].inputs))
    return Counter(sum(graph.nodes[i].weighted for i in sequence) for sequence in sequences)


@pytest.mark.parametrize("seed", range(300))
def test_random_graphs_agree_with_enumeration(seed):
    graph = random_graph(seed)
    assert path_lengths(graph) == dict(sorted(brute_lengths(graph).items()))
    for measure in ("weighted", "with_parameters", "nonlinear", "operations"):
        length, path = longest_path(graph, measure)
        every = [sum(getattr(graph.nodes[i], measure) for i in walk)
                 for end in graph.outputs for walk in walks(graph, end)]
        assert length == max(every)
        assert sum(getattr(node, measure) for node in path) == length
        indices = [next(i for i, node in enumerate(graph.nodes) if node is one) for one in path]
        assert tuple(indices) in set(walks(graph, indices[-1])) and indices[-1] in graph.outputs


@pytest.mark.parametrize("blocks,per_block", list(product([1, 3, 8, 40], [1, 2, 3])))
def test_residual_networks_have_binomial_paths(blocks, per_block):
    report = measure_depth(residual(blocks, per_block))
    assert report.path_lengths == {2 + per_block * k: math.comb(blocks, k)
                                   for k in range(blocks + 1)}
    assert report.paths == 2 ** blocks
    assert report.exact_mean == 2 + Fraction(per_block * blocks, 2)
    assert (report.weighted, report.shortest) == (2 + per_block * blocks, 2)
    assert report.blocks == blocks


def test_parallel_heads_multiply_the_long_branch():
    # (x)(1 + 3x^2)^n (x): n blocks of three parallel projections and an output
    report = measure_depth(residual(5, 2, branches=3))
    assert report.path_lengths == {2 + 2 * k: math.comb(5, k) * 3 ** k for k in range(6)}


def test_counts_stay_exact_where_floats_overflow():
    report = measure_depth(residual(1200, 1))
    assert report.paths == 2 ** 1200 and report.mean == 602.0
    assert report.path_lengths[602] == math.comb(1200, 600)
    assert "10^361" in str(report)
    assert sum(json.loads(report.to_json())["path_lengths"].values()) == 2 ** 1200
    assert report.plot().axes[0].get_xlabel()


def test_the_same_layer_reached_twice_without_a_weight_is_one_source():
    # x * gate(x): two ways around, but no layer between: one path
    graph = LayerGraph()
    x = graph.add("x", "Input")
    gate = graph.add("gate", "Sigmoid", [x], nonlinear=1)
    graph.outputs = (graph.add("product", "Multiply", [x, gate], nonlinear=1),)
    report = measure_depth(graph)
    assert (report.paths, report.weighted, report.nonlinear) == (1, 0, 2)


@pytest.mark.parametrize("layers,expected", [
    ([("forward", 1)] * 4, CreditPath(1, 3)),                       # T + n - 1
    ([("forward", 1), ("", 1), ("forward", 1)], CreditPath(1, 2)),  # a Dense layer in each step
    ([("forward", 1), ("backward", 1)], CreditPath(2, 0)),
    ([("", 1)] * 3, CreditPath(0, 3)),
    ([("", 1), ("forward", 1), ("", 1)], CreditPath(1, 2)),
])
def test_recurrent_layers_share_the_time_steps(layers, expected):
    graph = chain(*({"recurrence": way, "weighted": weight} for way, weight in layers))
    assert credit_path(graph) == expected


def test_credit_path_equals_the_unrolled_network():
    # n stacked forward layers over T steps, unrolled cell by cell: the longest way is T + n - 1
    for layers, steps in product([1, 2, 3, 4], [1, 2, 5, 9]):
        graph = LayerGraph()
        below = [graph.add(f"x{t}", "Input") for t in range(steps)]
        for layer in range(layers):
            row = []
            for t in range(steps):
                row.append(graph.add(f"{layer}.{t}", "Cell", [below[t], *row[-1:]], weighted=1))
            below = row
        graph.outputs = tuple(below)
        rolled = credit_path(chain(*[{"recurrence": "forward", "weighted": 1}] * layers))
        assert longest_path(graph)[0] == rolled(steps) == steps + layers - 1


def test_bidirectional_layers_multiply_the_time_steps():
    for layers, steps in product([1, 2, 3], [1, 2, 5]):
        rolled, unrolled = LayerGraph(), LayerGraph()
        inputs, below = [rolled.add("x", "Input")], [[unrolled.add(f"x{t}", "Input")]
                                                      for t in range(steps)]
        for _ in range(layers):
            inputs = [rolled.add(way, "LSTM", inputs, weighted=1, recurrence=way)
                      for way in ("forward", "backward")]
            rows = []
            for order in (range(steps), reversed(range(steps))):
                row, last = {}, []
                for t in order:
                    row[t] = unrolled.add("cell", "Cell", [*below[t], *last], weighted=1)
                    last = [row[t]]
                rows.append(row)
            below = [[row[t] for row in rows] for t in range(steps)]
        rolled.outputs, unrolled.outputs = tuple(inputs), tuple(i for pair in below for i in pair)
        assert credit_path(rolled)(steps) == longest_path(unrolled)[0] == layers * steps


def test_credit_path_writes_itself():
    assert [str(CreditPath(a, b)) for a, b in [(0, 5), (1, 0), (1, 3), (2, -1), (3, 2)]] == [
        "5", "T", "T + 3", "2·T − 1", "3·T + 2"]
    assert int(CreditPath(0, 5)) == 5
    with pytest.raises(ValueError, match="time steps T"):
        int(CreditPath(1, 5))


def test_write_count():
    assert write_count(10 ** 12 - 1) == "999,999,999,999"
    assert write_count(12 ** 32) == "3.418 × 10^34"
    assert write_count(7 * 10 ** 400) == "7.000 × 10^400"
    assert write_count(10 ** 15 - 1).startswith(("1.000", "10.000", "9.999", "9.99"))


def test_an_empty_graph_and_a_strange_model():
    assert layer_graph(LayerGraph()).nodes == []
    with pytest.raises(TypeError, match="not list"):
        measure_depth([1, 2])
    with pytest.raises(TypeError, match="not NoneType"):
        measure_depth(None)


def test_report_forms():
    report = measure_depth(residual(2, 1))
    values = report.to_dict()
    for key in ("hidden", "weighted", "with_parameters", "blocks", "credit_path", "shortest",
                "mean", "paths", "path_lengths", "operations", "nonlinear", "keras_table",
                "witness", "framework", "attention"):
        assert key in values and hasattr(report, key)
    assert report.hidden == report.weighted - 1 == 3
    text = str(report)
    assert "Schmidhuber" in text and "Veit" in text and "stem → 0.0.0 → 1.0.0 → head" in text
    assert "<table" in report._repr_html_() and "| weighted layers | 4 |" in report.to_markdown()
