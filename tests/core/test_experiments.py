"""The runner of experiments: order, cache by content, kill and resume, errors."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def test_changed_code_is_computed_anew(script, tmp_path):
    subprocess.run([sys.executable, str(script)], check=True)
    script.write_text(script.read_text().replace("time.sleep(0.3)", "time.sleep(0.2)"))
    subprocess.run([sys.executable, str(script)], check=True)
    assert len((tmp_path / "log").read_text().splitlines()) == 20


def double(x, seed, text="a"):
    return {"double": 2 * x, "text": text}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_order_is_that_of_settings_then_seeds(tmp_path, processes):
    settings = [{"x": 3}, {"x": 1, "text": "\u6df1\u5ea6"}]
    rows = run_experiments(double, settings, seeds=[7, 5], processes=processes, cache=tmp_path,
                           progress=False)
    assert [(row["x"], row["seed"], row["double"]) for row in rows] == [
        (3, 7, 6), (3, 5, 6), (1, 7, 2), (1, 5, 2)]
    assert rows[-1]["text"] == "\u6df1\u5ea6"


def test_what_identifies_a_run():
    prints = {fingerprint(double, settings, seed) for settings, seed in (
        ({"x": 1}, 0), ({"x": 1}, 1), ({"x": 2}, 0), ({"x": 1, "text": "b"}, 0))}
    assert len(prints) == 4
    assert fingerprint(double, {"x": 1, "text": "b"}, 0) == fingerprint(
        double, {"text": "b", "x": 1}, 0)


def test_a_damaged_result_is_computed_again(tmp_path):
    run_experiments(double, [{"x": 1}], seeds=[0], processes=1, cache=tmp_path, progress=False)
    (only,) = Path(tmp_path).iterdir()
    only.write_text("{")
    rows = run_experiments(double, [{"x": 1}], seeds=[0], processes=1, cache=tmp_path,
                           progress=False)
    assert rows[0]["double"] == 2


def fails_at_two(x, seed):
    if x == 2:
        raise ArithmeticError("no twos")
    return {"x2": x * x}


def test_an_error_keeps_what_was_done(tmp_path):
    with pytest.raises(ArithmeticError, match="no twos"):
        run_experiments(fails_at_two, [{"x": x} for x in (0, 1, 2)], seeds=[0], processes=1,
                        cache=tmp_path, progress=False)
    assert len(list(Path(tmp_path).iterdir())) == 2


def test_bad_input(tmp_path):
    with pytest.raises(TypeError, match="settings must be values that JSON can write"):
        run_experiments(double, [{"x": object()}], cache=tmp_path)
    with pytest.raises(TypeError, match="experiment must return a dict of results, not int"):
        run_experiments(lambda seed: 3, [{}], seeds=[0], processes=1, cache=tmp_path)
