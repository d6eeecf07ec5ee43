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
from reader import ROOT, Reader, server, wait_for
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


def cell(reader, text):
    """The cell whose source holds a text."""
    return reader.page.locator(f".jp-CodeCell:has(.cm-content:has-text({json.dumps(text)}))")


def said(reader, name):
    """What stands below an exercise."""
    return cell(reader, f'check("{name}"').locator(".jp-OutputArea").inner_text()


def hand_in(reader, name, answer, seconds=60):
    """Write an answer between the markers, run the cell, and return what is said."""
    before = said(reader, name)
    source = REGION.sub(lambda _: answer, cells(name)[0].source)
    editor = cell(reader, f'check("{name}"').locator(".cm-content")
    editor.scroll_into_view_if_needed()
    editor.click()
    reader.page.keyboard.press("Control+a")
    reader.page.keyboard.insert_text(source)
    reader.page.keyboard.press("Control+Enter")
    return wait_for(lambda: said(reader, name) not in ("", before) and said(reader, name), seconds,
                    f"{name} to be checked")


def run_again(reader, source):
    """Run a cell again, and return what it shows."""
    cell(reader, source).locator(".cm-content").click()
    reader.page.keyboard.press("Control+Enter")
    wait_for(reader.finished, 30, f"{source} to run")
    reader.page.wait_for_timeout(500)
    return cell(reader, source).locator(".jp-OutputArea").inner_text()


def status(record):
    """What `course-lib status --json` says of chapter 06."""
    program = Path(sys.executable).with_name("course-lib")
    text = subprocess.check_output([program, "status", "--json"], text=True,
                                   env={**os.environ, "COURSE_DATA": str(record)})
    return next(each for each in json.loads(text)["chapters"] if each["chapter"] == CHAPTER)


def test_a_wrong_answer_then_the_right_one(opened, record, tmp_path):
    exercise = EXERCISES["lenet5_by_hand"]
    wrong = exercise.wrong_answers[0]
    assert "not attempted" in said(opened, "lenet5_by_hand") and status(record)["solved"] == 0
    assert not list(record.iterdir()), "an untouched exercise left a record"

    answered = hand_in(opened, "lenet5_by_hand", f"{exercise.variable} = {wrong.answer()}")
    assert f"✘ {exercise.title}: wrong" in answered and wrong.message in answered
    opened.photograph(tmp_path / "wrong.png")
    tried = status(record)
    assert tried["solved"] == 0 and tried["last"]

    answered = hand_in(opened, "lenet5_by_hand", exercise.solution)
    assert f"✔ {exercise.title}: right" in answered and "wrong" not in answered
    opened.photograph(tmp_path / "right.png")
    assert status(record)["solved"] == 1


def test_the_solution_is_open_after_the_attempt(opened):
    exercise = EXERCISES["lenet5_by_hand"]
    hint = cell(opened, 'hints("lenet5').locator(".jp-OutputArea").inner_text()
    assert hint and hint not in run_again(opened, 'hints("lenet5')
    shown = run_again(opened, 'show_solution("lenet5')
    assert exercise.solution.strip().splitlines()[-1] in shown


def test_an_endless_loop_is_stopped_and_the_kernel_lives(opened):
    loop = "def llama_block(d, m, heads, kv_heads):\n    while True:\n        d = d + 0"
    answered = hand_in(opened, "llama_block", loop)
    assert "was stopped after 10 s, in line" in answered
    answered = hand_in(opened, "llama_block", EXERCISES["llama_block"].solution)
    assert f"✔ {EXERCISES['llama_block'].title}: right" in answered
