"""Exercises in a real browser: wrong, then right, an endless loop stopped; the status follows."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from course_lib.classroom.exercises import exercises
from reader import ROOT, Reader, server
from samples import KERNEL

CHAPTER = "06_parameters"
EXERCISES = {each.name: each for each in exercises(CHAPTER)}
IMPORT = "from course_lib.classroom.exercises import check, hints, show_solution"
REGION = re.compile(r"(?<=# your answer\n).*(?=\n# end of your answer)", re.S)


def cells(*names):
    """The chapter's own cells of some exercises, so that what is tried is what learners get."""
    notebook = nbformat.read(ROOT / "nbs" / "2_anatomy" / f"{CHAPTER}.ipynb", as_version=4)
    return [cell for name in names for cell in notebook.cells
            if cell.cell_type == "code" and f'check("{name}"' in cell.source]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Where the learner's record is kept."""
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def opened(chromium, record, tmp_path_factory):
    """A notebook with three exercises as they ship, opened and run."""
    root = tmp_path_factory.mktemp("work")
    asked = cells("lenet5_by_hand", "llama_block")
    extra = [nbformat.v4.new_code_cell(source) for source in (
        IMPORT, 'hints("lenet5_by_hand")', 'show_solution("lenet5_by_hand")')]
    notebook = nbformat.v4.new_notebook(cells=[extra[0], *asked, *extra[1:]],
                                        metadata={"kernelspec": KERNEL})
    nbformat.write(notebook, root / "solving.ipynb")
    with server(root, tmp_path_factory.mktemp("settings"), COURSE_DATA=str(record)) as address:
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        reader = Reader(page, address)
        reader.open_and_run("solving.ipynb")
        yield reader
        page.close()
        assert reader.outside == [], "the page asked for something outside this machine"


def hand_in(reader, name, answer, said):
    """Write an answer between the markers, run the cell, and return what is said.

    It must hold `said`, which has to be something else than what stood there before.
    """
    source = REGION.sub(lambda _: answer, cells(name)[0].source)
    reader.run_again(f'check("{name}"', source)
    return reader.said(f'check("{name}"', said)


def status(record):
    """What `course-lib status --json` says of chapter 06."""
    program = Path(sys.executable).with_name("course-lib")
    text = subprocess.check_output([program, "status", "--json"], text=True,
                                   env={**os.environ, "COURSE_DATA": str(record)})
    return next(each for each in json.loads(text)["chapters"] if each["chapter"] == CHAPTER)


def test_a_wrong_answer_then_the_right_one(opened, record, tmp_path):
    exercise = EXERCISES["lenet5_by_hand"]
    wrong = exercise.wrong_answers[0]
    opened.said('check("lenet5_by_hand"', "not attempted")
    assert status(record)["solved"] == 0
    assert not list(record.iterdir()), "an untouched exercise left a record"

    answered = hand_in(opened, "lenet5_by_hand", f"{exercise.variable} = {wrong.answer()}",
                       f"✘ {exercise.title}: wrong")
    assert wrong.message in answered
    opened.photograph(tmp_path / "wrong.png")
    tried = status(record)
    assert tried["solved"] == 0 and tried["last"]

    answered = hand_in(opened, "lenet5_by_hand", exercise.solution, f"✔ {exercise.title}: right")
    assert "wrong" not in answered
    opened.photograph(tmp_path / "right.png")
    assert status(record)["solved"] == 1


def test_the_solution_is_open_after_the_attempt(opened):
    exercise = EXERCISES["lenet5_by_hand"]
    first, second = exercise.hints[:2]
    assert second not in opened.said('hints("lenet5', first)
    opened.run_again('hints("lenet5')
    opened.said('hints("lenet5', second)
    opened.run_again('show_solution("lenet5')
    opened.said('show_solution("lenet5', exercise.solution.strip().splitlines()[-1])


def test_an_endless_loop_is_stopped_and_the_kernel_lives(opened):
    loop = "def llama_block(d, m, heads, kv_heads):\n    while True:\n        d = d + 0"
    hand_in(opened, "llama_block", loop, "was stopped after 10 s, in line")
    exercise = EXERCISES["llama_block"]
    hand_in(opened, "llama_block", exercise.solution, f"✔ {exercise.title}: right")
