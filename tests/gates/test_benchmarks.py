"""The benchmarks: the library is right on every case, and each peer's mistakes are as recorded."""
import json
import subprocess
import sys

import pytest
from project import ROOT

from benchmarks.__main__ import judge, sums
from benchmarks.cases import CASES, REFUSES
from benchmarks.peers import TOOLS
from benchmarks.workers import answer

EVERY = [(case, quantity) for cases in CASES.values() for case in cases for quantity in case.truth]


def told(framework, name, tool, quantity="total"):
    """What a tool says of a case."""
    case = next(case for case in CASES[framework] if case.name == name)
    return answer(case, tool, TOOLS[framework][tool], quantity)


@pytest.mark.slow
@pytest.mark.parametrize("case, quantity", EVERY, ids=lambda each: getattr(each, "name", each))
def test_the_library_is_right(case, quantity):
    framework = "keras" if case in CASES["keras"] else "torch"
    said = answer(case, "course-lib", TOOLS[framework]["course-lib"], quantity)
    assert judge(said, case.truth[quantity]) == "right"


# A peer may be mended one day: what the course says of it then fails here, and is put right.
@pytest.mark.slow
@pytest.mark.parametrize("framework, name, tool, quantity, number", [
    ("torch", "GPT-2 (tied head)", "torchinfo", "total", 163_037_184),
    ("torch", "T5-small (tied three ways)", "torchinfo", "total", 109_855_232),
    ("torch", "T5-small (tied three ways)", "torchinfo, with input", "total", 93_405_696),
    ("torch", "pruned", "torchinfo", "total", 50_304),
    ("torch", "dynamically quantised", "torchinfo", "total", 0),
    ("torch", "dynamically quantised", "fvcore", "total", 0),
    ("torch", "dynamically quantised", "lightning", "total", 0),
    ("torch", "Lazy, not called", "torchinfo", "total", 0),
    ("torch", "Lazy, not called", "lightning", "total", 0),
    ("torch", "Mixtral-8x7B (experts)", "fvcore", "active", None),
    ("torch", "frozen bias", "calflops", "total", None),  # it tells the trainable ones only
    ("torch", "frozen bias", "calflops", "trainable", 101_642),
    ("keras", "Keras after fit", "keras summary", "total", 305_312),
    ("keras", "Keras, tf.Variable in a layer", "keras summary", "total", 15),
    ("keras", "Keras subclassed, only build()", "keras count_params", "total", 0),
])
def test_a_peer_says_what_is_recorded(framework, name, tool, quantity, number):
    assert told(framework, name, tool, quantity) == number


def test_verdicts():
    assert judge(3, 3) == judge({"error": "ValueError"}, REFUSES) == "right"
    assert judge(1234, 3) == "**1,234**" and judge(0, REFUSES) == "**0**"
    assert judge(None, 3) == "not told" and judge("not tried", 3) == "not tried"
    assert judge({"error": "KeyError"}, 3) == "KeyError"
    assert sums([["right", "**3**"], ["right", "not told"]]) == {
        "right": [2, 0], "not told": [0, 1], "not tried": [0, 0], "wrong, or an error": [0, 1]}


@pytest.mark.slow
def test_a_measurement_in_its_own_process():
    command = [sys.executable, "-m", "benchmarks.workers", "memory", "LSTM", "course-lib"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 <= json.loads(result.stdout) < 50


def test_a_part_that_does_not_exist():
    command = [sys.executable, "-m", "benchmarks", "beauty"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "'beauty'" in result.stderr
