"""The runner of experiments: order, cache by content, kill and resume, errors."""
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from course_lib.core.experiments import fingerprint, run_experiments

JOB = """
import os, sys, time
from course_lib.core.experiments import run_experiments

def job(x, seed):
    with open({log!r}, "a") as stream:
        stream.write(f"{{x}} {{seed}}\\n")
    time.sleep(0.3)
    return {{"sum": x + seed, "process": os.getpid()}}

rows = run_experiments(job, [{{"x": x}} for x in range(5)], seeds=[0, 1], processes=2,
                       cache={cache!r}, progress=False)
assert [row["sum"] for row in rows] == [x + seed for x in range(5) for seed in (0, 1)]
assert len({{row["process"] for row in rows}}) >= 2
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "cache").mkdir()
    path = tmp_path / "job.py"
    path.write_text(JOB.format(log=str(tmp_path / "log"), cache=str(tmp_path / "cache")))
    return path


def finished(folder):
    return [path for path in (folder / "cache").glob("*.json")]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(script, tmp_path):
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    end = time.monotonic() + 120
    while len(finished(tmp_path)) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL) if os.name != "nt" else process.kill()
    process.wait()
    survived = len(finished(tmp_path))
    assert 3 <= survived < 10
    for path in finished(tmp_path):
        json.loads(path.read_text())
    before = len((tmp_path / "log").read_text().splitlines())
    subprocess.run([sys.executable, str(script)], check=True)
    after = len((tmp_path / "log").read_text().splitlines())
    assert after - before == 10 - survived


@pytest.mark.slow
def test_changed_code_is_computed_anew(script, tmp_path):
    subprocess.run([sys.executable, str(script)], check=True)
    script.write_text(script.read_text().replace("time.sleep(0.3)", "time.sleep(0.2)"))
    subprocess.run([sys.executable, str(script)], check=True)
    assert len((tmp_path / "log").read_text().splitlines()) == 20


def double(x, seed, text="a"):
    return {"double": 2 * x, "said": text}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_order_is_that_of_settings_then_seeds(tmp_path, processes):
    settings = [{"x": 3}, {"x": 1, "text": "\u6df1\u5ea6"}]
    rows = run_experiments(double, settings, seeds=[7, 5], processes=processes, cache=tmp_path,
                           progress=False)
    assert [(row["x"], row["seed"], row["double"]) for row in rows] == [
        (3, 7, 6), (3, 5, 6), (1, 7, 2), (1, 5, 2)]
    assert rows[-1]["said"] == "\u6df1\u5ea6"


def test_what_identifies_a_run():
    prints = {fingerprint(double, settings, seed) for settings, seed in (
        ({"x": 1}, 0), ({"x": 1}, 1), ({"x": 2}, 0), ({"x": 1, "text": "b"}, 0))}
    assert len(prints) == 4
    assert fingerprint(double, {"x": 1, "text": "b"}, 0) == fingerprint(
        double, {"text": "b", "x": 1}, 0)


def alone(experiment, settings, cache, seeds=(0,), **options):
    return run_experiments(experiment, settings, seeds=seeds, cache=cache, progress=False,
                           **{"processes": 1, **options})


@pytest.mark.parametrize("content", [
    "{", "", "null", "{}", "[]", "3", '"s"', '{"x": 1}', '{"x": 1, "seed": 3, "double": 8}',
    '{"x": 2, "seed": 0, "double": 8}', b"\xff\xfe\0"])
def test_a_damaged_result_is_computed_again(tmp_path, content):
    alone(double, [{"x": 1}], tmp_path)
    (only,) = tmp_path.iterdir()
    only.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert alone(double, [{"x": 1}], tmp_path)[0]["double"] == 2
    only.unlink()
    only.mkdir()
    with pytest.raises(IsADirectoryError, match="cache has a folder where a result belongs"):
        alone(double, [{"x": 1}], tmp_path)


# ------------------------------------------------------------------ what an experiment refers to

CELLS = """
import dataclasses, functools
import numpy as np
STEPS, IMAGES, NAMES, KINDS = 3, np.arange(6.0), {"one", "two"}, {"double": lambda x: 2 * x}
@dataclasses.dataclass
class Pair:
    first: int = 1
    rest: list = dataclasses.field(default_factory=lambda: [5])
class Body:
    size = 4
    @property
    def area(self): return self.size * self.size
    def grown(self): return type(self)()
class Large(Body):
    def grown(self): return super().grown()
@functools.cache
def slow(n): return n + 7
def again(n): return n and other(n - 1)
def other(n): return n and again(n - 2)
def made(factor):
    def inner(x, seed, most=9, *, least=-1):
        rows = [STEPS * each for each in IMAGES if "two" in {"one", "two"}]
        return {"all": [rows, factor, most, NAMES, KINDS["double"](x), Pair(), slow(1), again(3),
                        Large().grown().area, START.first]}
    return inner
START = Pair(8)
job = made(2)
"""
CHANGES = [("STEPS, IMAGES", "IMAGES, STEPS"), (" = 3, np", " = 4, np"), ("6.0", "6.5"),
           ('{"one", "two"}, {', '{"one", "new"}, {'), ("2 * x", "2 + x"), ("int = 1", "int = 0"),
           ("[5]", "[6]"), ("size = 4", "size = 5"), ("self.size * ", "2 * "),
           ("type(self)()", "type(self)() or 0"),
           ("super().grown()", "super().grown() or 0"), ("n + 7", "n - 7"), ("n - 1)", "n - 2)"),
           ("n - 2)", "n - 1)"), ("STEPS * each", "each * STEPS"), ('"two" in', '"one" in'),
           ("most=9", "most=8"), ("least=-1", "least=-2"), ("Pair(8)", "Pair(7)"),
           ("made(2)", "made(3)"), ("(Body)", "(Body, Pair)")]


def identified(source):
    """The fingerprint of `job`, after these cells ran in a notebook."""
    namespace = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), namespace)
    return fingerprint(namespace["job"], {"x": 1}, 0)


def test_every_change_of_what_counts_is_seen():
    found = {identified(CELLS)}
    for count, (old, new) in enumerate(CHANGES, start=1):
        assert old in CELLS
        found.add(identified(CELLS.replace(old, new, 1)))
        assert len(found) == count + 1, f"{old} -> {new} changes nothing"


def test_comments_and_line_numbers_change_nothing():
    moved = "# first\n\n\n" + CELLS.replace("    def inner", "    # a comment\n\n    def inner")
    assert identified(moved) == identified(CELLS) != identified(f"{CELLS}\njob = made(5)")


@pytest.mark.slow
def test_a_fresh_kernel_finds_the_same(tmp_path):
    code = (f"import tensors\n{CELLS}\nfrom course_lib.core.experiments import fingerprint\n"
            "old = job\ndef job(x, seed): return old, tensors.TENSOR, TENSOR\n"
            "TENSOR = tensors.TENSOR\nprint(fingerprint(job, {'x': 1}, 0))")
    (tmp_path / "tensors.py").write_text("import torch\nTENSOR = torch.arange(4.0)\n")
    found = set()
    for seed in ("1", "2"):
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        found.add(subprocess.run([sys.executable, "-c", code], env=environment, check=True,
                                 capture_output=True, text=True).stdout)
    assert len(found) == 1 and len(found.pop()) == 65


KERNEL = """
import sys
import numpy as np
from course_lib.core.experiments import run_experiments
images, factor = np.arange(10.0), 3
class Network:
    def __init__(self, seed): self.weight = seed + factor
def trained(lr, seed):
    print("run", file=open({log!r}, "a"))
    return {{"sum": float(lr * Network(seed).weight * images.sum())}}
rows = run_experiments(trained, [{{"lr": 0.1}}, {{"lr": 1.0}}], seeds=[0, 1], processes=2,
                       cache={cache!r}, progress=False)
assert rows[3]["sum"] == 180
"""


def test_a_second_kernel_computes_nothing(tmp_path):
    log = tmp_path / "log"
    for _ in range(2):
        code = KERNEL.format(log=str(log), cache=str(tmp_path / "c"))
        subprocess.run([sys.executable, "-c", code], check=True)
        assert len(log.read_text().splitlines()) == 4


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An experiment in a package, its helper two modules away, and a stranger."""
    for name, text in {
            "ours/__init__.py": "", "ours/deep/__init__.py": "", "stranger.py": "x = 1\n",
            "ours/job.py": "def job(x, seed):\n    from .deep import helper\n    return {'y': 1}\n",
            "ours/deep/helper.py": "import ours.far as far\nimport json, ours.job\n",
            "ours/far.py": "try:\n    from ....no import RATE\nexcept ImportError:\n    RATE = 1\n",
            "ours/broken.py": "def (", "ours/unused.py": "z = 1\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ours", "stranger")]:
        del sys.modules[name]


def test_modules_of_our_own_count_with_their_files(package):
    from ours.job import job  # type: ignore[import-not-found]
    found = {fingerprint(job, {"x": 1}, 0)}
    for count, name in enumerate(("job", "deep/helper", "deep/__init__", "far"), start=2):
        with open(package / f"ours/{name}.py", "a") as stream:
            stream.write("# changed\n")
        found.add(fingerprint(job, {"x": 1}, 0))
        assert len(found) == count, name
    for name in ("ours/unused.py", "stranger.py"):
        (package / name).write_text("# changed\n")
        assert fingerprint(job, {"x": 1}, 0) in found, name


@pytest.mark.parametrize("used", [
    "import ours\nimport ours.far\ndef job(x, seed): return ours.far.RATE",
    "from ours import far\ndef job(x, seed): return far.RATE",
    "def job(x, seed):\n    from ours.far import RATE\n    return RATE",
    "import ours.job\nf = ours.job.job\ndef job(x, seed): return [f(x, seed) for _ in 'ab']"])
def test_a_notebook_counts_modules_of_our_own(package, used):
    before = identified(used)
    (package / "ours/far.py").write_text("RATE = 2\n")
    assert identified(used) != before


def test_course_lib_counts_for_an_experiment_of_its_own(monkeypatch):
    from course_lib.anatomy.depth_experiments import train_once
    from course_lib.core import datasets
    before, read = fingerprint(train_once, {}, 0), Path.read_bytes
    changed = Path(datasets.__file__).resolve()
    monkeypatch.setattr(Path, "read_bytes",
                        lambda path: read(path) + b"\n" * (path.resolve() == changed))
    assert fingerprint(train_once, {}, 0) != before


def test_lambdas_of_one_line_and_closures_differ(tmp_path):
    pair = [lambda x, seed: {"r": "first"}, lambda x, seed: {"r": "second"}]
    assert [alone(each, [{"x": 1}], tmp_path)[0]["r"] for each in pair] == ["first", "second"]

    def made(factor):
        return lambda x, seed: {"r": factor * x}
    assert [alone(made(k), [{"x": 1}], tmp_path)[0]["r"] for k in (1, 100)] == [1, 100]


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError, match="experiment uses rows, a generator that cannot be identi"):
        identified("rows = (n for n in 'abc')\ndef help(): return next(rows)\n"
                   "def job(x, seed): return help()")


def test_settings_of_other_types_differ():
    values = (1, 1.0, True, "1", (1, 2), [1, 2], {"1": 2}, {1: 2}, None)
    assert len({fingerprint(double, {"x": value}, 0) for value in values}) == len(values)


# ------------------------------------------------------------------ errors


def fails_at_two(x, seed):
    if x == 2:
        raise ArithmeticError("no twos")
    return {"x2": x * x}


def test_an_error_keeps_what_was_done(tmp_path):
    with pytest.raises(ArithmeticError, match="no twos"):
        run_experiments(fails_at_two, [{"x": x} for x in (0, 1, 2)], seeds=[0], processes=1,
                        cache=tmp_path, progress=False)
    assert len(list(Path(tmp_path).iterdir())) == 2


def test_an_error_says_in_which_run(tmp_path):
    for processes in (1, 2):
        with pytest.raises(ArithmeticError, match="no twos") as caught:
            alone(fails_at_two, [{"x": x} for x in (2, 3)], tmp_path, [5], processes=processes)
        assert caught.value.__notes__ == ["This happened with the settings {'x': 2} and seed 5."]


def returns(result):
    return lambda x, seed: result


def test_results_are_plain_numbers(tmp_path):
    given = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": float("inf"),
             "e": [np.float64(1)], "f": None}
    (row,) = alone(returns(given), [{"x": 1}], tmp_path)
    assert row == {"x": 1, "seed": 0, "a": 0.5, "b": 3, "c": True, "d": float("inf"), "e": [1.0],
                   "f": None}
    (row,) = alone(returns({"loss": float("nan")}), [{"x": 1}], tmp_path)
    assert np.isnan(row["loss"])


@pytest.mark.parametrize("result, error, message", [
    (3, TypeError, "must return a dict of results, not int"),
    ({"seed": 5}, ValueError, "must not return 'seed'"),
    ({"y": 1, "x": 9}, ValueError, "must not return 'x': a setting has that name"),
    ({"y": 1, "w": np.zeros(2)}, TypeError, "JSON can write; 'w' is of type ndarray"),
    ({"y": 1j}, TypeError, "'y' is of type complex"),
    ({(1, 2): 1}, TypeError, r"\(1, 2\) is of type int")])
def test_bad_results(tmp_path, result, error, message):
    with pytest.raises(error, match=message):
        alone(returns(result), [{"x": 1}], tmp_path)
    assert list(tmp_path.iterdir()) == []


class Callable:
    def __call__(self, x, seed):
        return {}


@pytest.mark.parametrize("experiment", [partial(double, x=1), Callable(), dict, 3, None, len,
                                        Callable().__call__])
def test_an_experiment_is_a_function(tmp_path, experiment):
    with pytest.raises(TypeError, match="experiment must be a function, not "):
        alone(experiment, [{"x": 1}], tmp_path)


@pytest.mark.parametrize("settings, options, error, message", [
    ({"x": 1}, {}, TypeError, "settings must be a list of dicts, not one dict"),
    ([3], {}, TypeError, "settings must be dicts without a seed, not 3"),
    ([{"x": 1, "seed": 2}], {}, TypeError, "settings must be dicts without a seed"),
    ([{"x": object()}], {}, TypeError, "settings must be values that JSON can write"),
    ([{"x": float("nan")}], {}, TypeError, "settings must be values that JSON can write"),
    ([{"x": 1}], {"seeds": 3}, TypeError, "seeds must be a list of whole numbers, not 3"),
    ([{"x": 1}], {"seeds": ["0"]}, TypeError, "seeds must be a list of whole numbers"),
    *(([{"x": 1}], {"processes": wrong}, ValueError, "processes must be a whole number from 1")
      for wrong in (0, -3, 1.5, "2"))])
def test_bad_input(tmp_path, settings, options, error, message):
    with pytest.raises(error, match=message):
        alone(double, settings, tmp_path, **options)


def test_a_cache_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cache '.*file' cannot be made: "):
        alone(double, [{"x": 1}], tmp_path / "file")

    def full(path, content):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("course_lib.core.experiments.write_atomically", full)
    with pytest.raises(OSError, match="cache '.*' cannot be written: No space left on device"):
        alone(double, [{"x": 1}], tmp_path)


def test_seeds_of_numpy_and_settings_that_occur_twice(tmp_path):
    rows = alone(double, [{"x": 1}, {"x": 1}], tmp_path, seeds=np.arange(2))
    assert rows[:2] == rows[2:] and [row["seed"] for row in rows] == [0, 1, 0, 1]
    assert len(list(tmp_path.iterdir())) == 2
