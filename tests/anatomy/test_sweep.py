"""The sweep over every architecture of transformers: totals and explained shares."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sweep.py"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    run = subprocess.run([sys.executable, SCRIPT, "--output", folder], capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr[-2000:] + run.stdout[-2000:]
    with (folder / "sweep.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream)), run.stdout


def built(rows):
    return [row for row in rows if not row["skipped"]]


def test_every_type_is_built_or_has_a_reason(swept):
    rows, text = swept
    assert len(rows) > 750 and len(built(rows)) >= 550
    assert all(bool(row["architecture"]) != bool(row["skipped"]) for row in rows)
    assert f"Of {len(rows)} configuration types {len(built(rows))} build a model" in text


def test_every_total_is_the_sum_over_distinct_parameters(swept):
    wrong = [row["model_type"] for row in built(swept[0]) if row["total"] != row["reference"]]
    assert not wrong
    assert sum(int(row["reference"]) for row in built(swept[0])) == 19_414_014_493_509


def test_at_least_95_percent_is_explained_in_at_least_90_percent_of_the_architectures(swept):
    shares = [float(row["explained"]) for row in built(swept[0])]
    assert sum(share >= 0.95 for share in shares) >= 0.9 * len(shares)


def test_counting_takes_less_time_than_building(swept):
    seconds = {what: sum(float(row[what]) for row in built(swept[0]))
               for what in ("build_seconds", "count_seconds")}
    assert seconds["count_seconds"] < seconds["build_seconds"]  # 0.4 times, in the same processes


def test_a_count_that_fails_is_a_wrong_total_and_not_the_end(monkeypatch):
    import course_lib
    module = runpy.run_path(str(SCRIPT))

    def fail(_):
        raise RuntimeError("no")

    monkeypatch.setattr(course_lib, "count_parameters", fail)
    row = module["sweep_one"]("bert")
    assert row["total"] == "RuntimeError: no" and row["reference"] == 109_482_240
    text, wrong = module["summary"]([row], 1.0, 1)
    assert wrong == [row] and "| bert | RuntimeError: no | 109,482,240 |" in text
