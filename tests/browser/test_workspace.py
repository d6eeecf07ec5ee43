"""What JupyterLab itself writes into a notebook is nobody's edit: what a student does stays."""
import json

import pytest
from course_lib.classroom.workspace import read_notebook, text_of, update
from reader import IDLE, ROOT, TOKEN, Reader, server, wait_for

NAME = "index.ipynb"


@pytest.fixture
def workspace(tmp_path, chromium):
    """(folder of the course, folder of a student's copy, a browser over the copy)."""
    course, work, home = tmp_path / "nbs", tmp_path / "work" / "en", tmp_path / "home"
    course.mkdir()
    home.mkdir()
    (course / NAME).write_bytes((ROOT / "nbs" / NAME).read_bytes())
    update(course, work)
    with server(work, home) as address:
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        yield course, work, Reader(page, address)
        page.close()


def save(reader, path):
    """Save as a reader does, and wait until the file is written."""
    before = path.stat().st_mtime_ns
    button = reader.page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="save"]')

    def saved():
        button.first.click()  # a click that comes too early is lost
        reader.page.wait_for_timeout(1500)
        return path.stat().st_mtime_ns != before

    wait_for(saved, 30, f"{path.name} to be saved")


def changed(course):
    """A new sentence in the course's first cell; its text."""
    notebook = read_notebook(course / NAME)
    notebook["cells"][0]["source"] = text_of(notebook["cells"][0]) + "\n\nA new sentence."
    (course / NAME).write_text(json.dumps(notebook), encoding="utf-8")
    return text_of(notebook["cells"][0])


def test_a_notebook_that_was_opened_and_saved_follows_the_course(workspace):
    course, work, reader = workspace
    reader.page.goto(f"{reader.address}/lab/tree/{NAME}?token={TOKEN}&reset")
    reader.page.wait_for_selector(IDLE, timeout=60_000)
    reader.page.wait_for_timeout(2000)
    save(reader, work / NAME)
    first = changed(course)
    assert update(course, work).updated == 1
    ours, theirs = read_notebook(work / NAME)["cells"], read_notebook(course / NAME)["cells"]
    assert text_of(ours[0]) == first
    assert [(text_of(cell), cell.get("outputs"), cell["metadata"]) for cell in ours] == [
        (text_of(cell), cell.get("outputs"), cell["metadata"]) for cell in theirs]


def test_what_was_run_stays_as_it_came_out(workspace):
    course, work, reader = workspace
    reader.open_and_run(NAME)
    save(reader, work / NAME)
    run = [cell.get("outputs") for cell in read_notebook(work / NAME)["cells"]]
    first = changed(course)
    update(course, work)
    cells = read_notebook(work / NAME)["cells"]
    assert text_of(cells[0]) == first and [cell.get("outputs") for cell in cells] == run
    assert any(cell.get("execution_count") for cell in cells)
