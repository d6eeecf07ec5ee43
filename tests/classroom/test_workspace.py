"""A workspace after an update holds the course of today and every line that the student typed."""
import copy
import json
import random

import nbformat
import pytest
from course_lib.classroom import workspace
from course_lib.classroom.workspace import (
    course_files, identify, in_order, merge_notebooks, read_answers, text_of, update, write_answers)

STUB = ('# your answer\n{name} = ...\n# end of your answer\n'
        'check("{name}", {name})  # {text}')


class Author:
    """Random edits to a notebook; every text is marked, so that no two are alike."""

    def __init__(self, seed, mark):
        self.random, self.mark, self.count = random.Random(f"{seed} {mark}"), mark, 0

    def text(self):
        self.count += 1
        return f"{self.mark}-{self.count}"

    def cell(self, source=None):
        source = source or self.text()
        kind = self.random.choice(("code", "markdown"))
        cell = {"cell_type": kind, "id": self.text(), "metadata": {}, "source": source}
        return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})

    def exercise(self):
        name = self.text().replace("-", "_")
        return {"cell_type": "code", "id": self.text(), "metadata": {}, "outputs": [],
                "execution_count": None, "source": STUB.format(name=name, text=self.text())}

    def notebook(self):
        cells = [self.random.choice((self.cell, self.exercise))() for _ in range(8)]
        return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}

    def edited(self, notebook, actions, times=None):
        notebook = copy.deepcopy(notebook)
        for _ in range(self.random.randint(0, 6) if times is None else times):
            getattr(self, self.random.choice(actions))(notebook["cells"])
        return notebook

    def any(self, cells):
        return self.random.randrange(len(cells)) if cells else None

    def add(self, cells):
        cells.insert(self.random.randint(0, len(cells)), self.cell())

    def rewrite(self, cells):
        if cells:
            cells[self.any(cells)]["source"] = self.text()

    def append(self, cells):
        if cells:
            chosen = cells[self.any(cells)]
            chosen["source"] = (text_of(chosen) + "\n" + self.text()).splitlines(keepends=True)

    def new_stub(self, cells):
        tasks = [cell for cell in cells if read_answers(text_of(cell))]
        if tasks:
            task = self.random.choice(tasks)
            task["source"] = write_answers(text_of(task), [f"{self.text()} = ...\n"])

    def answer(self, cells):
        tasks = [cell for cell in cells if read_answers(text_of(cell))]
        if tasks:
            task = self.random.choice(tasks)
            task["source"] = write_answers(text_of(task), [self.text() + "\n"])

    def delete(self, cells):
        if cells:
            del cells[self.any(cells)]

    def move(self, cells):
        if cells:
            cells.insert(self.random.randrange(len(cells)), cells.pop(self.any(cells)))

    def duplicate(self, cells):
        if cells:
            cells.insert(self.any(cells), copy.deepcopy(cells[self.any(cells)]))

    def new_id(self, cells):
        if cells:
            cells[self.any(cells)]["id"] = self.text()

    def lose_ids(self, cells):
        for cell in cells:
            cell.pop("id", None)

    def merge_two(self, cells):
        if len(cells) > 1:
            at = self.random.randrange(len(cells) - 1)
            cells[at]["source"] = text_of(cells[at]) + "\n\n" + text_of(cells.pop(at + 1))

    def run(self, cells):
        for cell in cells:
            if cell["cell_type"] == "code":
                output = {"output_type": "stream", "name": "stdout", "text": [self.text()]}
                cell |= {"outputs": [output], "execution_count": 3}


STUDENT = ("add", "rewrite", "append", "answer", "answer", "delete", "move", "duplicate",
           "new_id", "lose_ids", "merge_two", "run")
COURSE = ("add", "rewrite", "append", "delete", "move", "new_id", "new_stub")


def typed(notebook):
    """Everything that the student typed and that is still there."""
    lines = (line for cell in notebook["cells"] for line in text_of(cell).splitlines())
    return {line for line in lines if line.startswith("student")}


def texts(notebook):
    return [text_of(cell) for cell in notebook["cells"]]


def valid(notebook):
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(names) == len(set(names))
    nbformat.validate({**notebook, "nbformat": 4, "nbformat_minor": 5})
    return True


@pytest.mark.parametrize("seed", range(300))
def test_no_line_is_lost_over_a_term(seed):
    teacher, student = Author(seed, "course"), Author(seed, "student")
    base = teacher.notebook()
    work = copy.deepcopy(base)
    for _ in range(5):
        work = student.edited(work, STUDENT)
        course = teacher.edited(base, COURSE)
        course["cells"] = identify(course["cells"], base["cells"])
        merged, _ = merge_notebooks(base, course, work)
        assert typed(work) <= typed(merged) and valid(merged)
        assert texts(merge_notebooks(course, course, merged)[0]) == texts(merged)
        cut_off, _ = merge_notebooks(base, course, merged)  # before the base was written
        assert typed(work) <= typed(cut_off) and valid(cut_off)
        base, work = course, merged


@pytest.mark.parametrize("seed", range(100))
def test_without_a_base_nothing_is_lost_either(seed):
    teacher, student = Author(seed, "course"), Author(seed, "student")
    base = teacher.notebook()
    work, course = student.edited(base, STUDENT), teacher.edited(base, COURSE)
    merged, _ = merge_notebooks({}, course, work)
    assert typed(work) <= typed(merged) and set(texts(course)) <= set(texts(merged)) | {
        text_of(cell) for cell in course["cells"] if read_answers(text_of(cell))}
    assert valid(merged)


@pytest.mark.parametrize("seed", range(100))
def test_who_writes_nothing_gets_the_course(seed):
    teacher = Author(seed, "course")
    base = teacher.notebook()
    course = teacher.edited(base, COURSE)
    merged, doubled = merge_notebooks(base, course, copy.deepcopy(base))
    assert merged["cells"] == course["cells"] and not doubled


@pytest.mark.parametrize("seed", range(100))
def test_a_course_that_did_not_change_changes_nothing(seed):
    base = Author(seed, "course").notebook()
    work = Author(seed, "student").edited(base, STUDENT)
    merged, doubled = merge_notebooks(base, copy.deepcopy(base), work)
    assert texts(merged) == texts(work) and not doubled
    assert [cell.get("outputs") for cell in merged["cells"]] == [
        cell.get("outputs") for cell in work["cells"]]


@pytest.mark.parametrize("seed", range(100))
def test_answers_stand_in_the_tasks_of_today(seed):
    teacher, student = Author(seed, "course"), Author(seed, "student")
    base = teacher.notebook()
    work = student.edited(base, ["answer"], 5)
    course = teacher.edited(base, ["add", "append", "delete", "move"])
    merged, doubled = merge_notebooks(base, course, work)
    replies = {cell["id"]: read_answers(text_of(cell)) for cell in work["cells"]}
    names = [cell["id"] for cell in course["cells"]]
    assert [cell["id"] for cell in merged["cells"] if cell["id"] in names] == names
    for cell in course["cells"]:
        got, = (each for each in merged["cells"] if each["id"] == cell["id"])
        answered = replies.get(cell["id"], read_answers(text_of(cell)))
        assert text_of(got) == write_answers(text_of(cell), answered)
    assert not doubled


@pytest.mark.parametrize("seed", range(100))
def test_a_cell_of_yours_stays_behind_the_one_it_followed(seed):
    teacher, student = Author(seed, "course"), Author(seed, "student")
    base = teacher.notebook()
    work = student.edited(base, ["add"], 3)
    course = teacher.edited(base, ["add", "append", "move"])
    merged, _ = merge_notebooks(base, course, work)
    order, before = [c["id"] for c in merged["cells"]], [c["id"] for c in work["cells"]]
    for one, other in zip(before, before[1:]):
        if other.startswith("student"):
            assert order[order.index(other) - 1] == one


def test_a_task_in_a_cell_with_a_new_id_keeps_its_answer():
    author = Author(0, "course")
    base = {"cells": [author.exercise()], "metadata": {}}
    work = author.edited(base, ["answer"], 1)
    course = author.edited(base, ["append"], 1)
    course["cells"][0]["id"] = "rewritten"
    course["cells"] = identify(course["cells"], base["cells"])
    merged, doubled = merge_notebooks(base, course, work)
    answered = write_answers(text_of(course["cells"][0]), read_answers(text_of(work["cells"][0])))
    assert texts(merged) == [answered] and not doubled


def test_a_new_stub_stands_under_the_answer_and_is_told_once():
    author = Author(0, "course")
    base = {"cells": [author.exercise(), author.exercise()], "metadata": {}}
    work, course = copy.deepcopy(base), copy.deepcopy(base)
    for cell in course["cells"]:
        cell["source"] = write_answers(cell["source"], ["def f(x, y):\n    return ...\n"])
    work["cells"][0]["source"] = write_answers(work["cells"][0]["source"], ["student-1\n"])
    merged, doubled = merge_notebooks(base, course, work)
    answer, = read_answers(texts(merged)[0])
    assert answer.startswith("student-1\n# The course begins") and not doubled
    assert answer.endswith("# def f(x, y):\n#     return ...\n")
    assert texts(merged)[1] == course["cells"][1]["source"], "the one not begun follows"
    for known in (base, course):
        assert texts(merge_notebooks(known, course, merged)[0]) == texts(merged)


def test_what_was_run_stays_and_what_was_not_follows():
    author = Author(0, "course")
    code = {"cell_type": "code", "id": "a", "source": "2 + 2", "metadata": {},
            "outputs": [], "execution_count": None}
    base = {"cells": [code, {**code, "id": "b"}], "metadata": {}}
    work, course = copy.deepcopy(base), copy.deepcopy(base)
    author.run(work["cells"][:1])
    author.run(course["cells"])
    merged, _ = merge_notebooks(base, course, work)
    assert merged["cells"][0]["outputs"] == work["cells"][0]["outputs"]
    assert merged["cells"][0]["execution_count"] == 3
    assert merged["cells"][1]["outputs"] == course["cells"][1]["outputs"]


def test_cleared_outputs_stay_cleared_and_a_count_alone_says_that_it_ran():
    author = Author(0, "course")
    base = {"cells": [author.cell("x"), author.cell("y")], "metadata": {}}
    for cell in base["cells"]:
        cell |= {"cell_type": "code", "outputs": [{"text": ["base"]}], "execution_count": None}
    work, course = copy.deepcopy(base), copy.deepcopy(base)
    author.run(course["cells"])
    work["cells"][0]["outputs"] = []
    work["cells"][1]["execution_count"] = 5
    merged, _ = merge_notebooks(base, course, work)
    assert [cell["outputs"] for cell in merged["cells"]] == [[], [{"text": ["base"]}]]


def test_an_update_that_is_repeated_doubles_no_task():
    author = Author(0, "course")
    base = {"cells": [author.exercise()], "metadata": {}}
    work = author.edited(base, ["answer"], 1)
    course = author.edited(base, ["append"], 1)
    merged, _ = merge_notebooks(base, course, work)
    again, doubled = merge_notebooks(base, course, merged)
    assert texts(again) == texts(merged) and not doubled


def test_of_two_answers_the_one_not_begun_follows():
    stub = "# your answer\nx = {}\n# end of your answer\n"
    cell = Author(0, "course").exercise()
    base, work, course = ({"cells": [{**cell, "source": stub.format(x) + stub.format(y) + z}],
                           "metadata": {}}
                          for x, y, z in (("...", "...", ""), ("12", "...", ""),
                                          ("...", "None", "check()")))
    merged, doubled = merge_notebooks(base, course, work)
    assert texts(merged) == [stub.format(12) + stub.format(None) + "check()"] and not doubled


@pytest.mark.parametrize("base, course, student, expected", [
    ("a b", "a n b", "b m a", "b m a n"),  # moved by the student: whose order holds
    ("a b c", "a n b c", "c a m b", "c a m n b"),  # what is new stands behind, after your own
    ("a b", "b a", "a m b", "b a m"),  # moved by the course
    ("a b", "n a b", "m a b", "m n a b"),  # what stood first stays first
    ("a", "a", "a m", "a m"), ("a b c", "a c", "a m b c", "a m b c"), ("", "a", "", "a"),
])
def test_the_order_of_cells(base, course, student, expected):
    assert in_order(base.split(), course.split(), student.split()) == expected.split()


def test_a_deleted_cell_comes_back_only_when_the_course_changes_it():
    author = Author(0, "course")
    base = author.notebook()
    work, course = copy.deepcopy(base), copy.deepcopy(base)
    del work["cells"][2:4]
    course["cells"][3]["source"] = "changed"
    merged, _ = merge_notebooks(base, course, work)
    assert texts(merged) == [*texts(base)[:2], "changed", *texts(base)[4:]]


def test_settings_of_yours_stay_and_those_of_the_course_come():
    cell = {"cell_type": "markdown", "id": "a", "source": "x", "metadata": {"tags": ["old"]}}
    base, work, course = ({"cells": [copy.deepcopy(cell)], "metadata": {}} for _ in range(3))
    work["cells"][0]["metadata"]["jp-MarkdownHeadingCollapsed"] = True
    course["cells"][0]["metadata"]["tags"] = ["new"]
    merged, _ = merge_notebooks(base, course, work)
    assert merged["cells"][0]["metadata"] == {"tags": ["new"], "jp-MarkdownHeadingCollapsed": True}


def test_a_pasted_picture_is_something_written():
    cell = {"cell_type": "markdown", "id": "a", "source": "x", "metadata": {}}
    base, work, course = ({"cells": [copy.deepcopy(cell)], "metadata": {}} for _ in range(3))
    work["cells"][0]["attachments"] = {"a.png": {"image/png": "data"}}
    course["cells"][0]["source"] = "y"
    merged, doubled = merge_notebooks(base, course, work)
    assert texts(merged) == ["x", "y"] and merged["cells"][0]["attachments"] and doubled == 1


# --------------------------------------------------------------------- files

@pytest.fixture
def course(tmp_path):
    """A small course with everything that a student gets and does not get."""
    author = Author(0, "course")
    source = tmp_path / "nbs"
    for name in ("index", "2_anatomy/05_depth", "2_anatomy/05a_torch_graph", "core/files",
                 "classroom/quiz", "classroom/answers/05_depth",
                 "2_anatomy/.ipynb_checkpoints/05_depth"):
        write(source / f"{name}.ipynb", author.notebook())
    (source / "appendices").mkdir()
    (source / "appendices" / "table.csv").write_text("a,b\n")
    (source / "locale").mkdir()
    (source / "locale" / "index.po").write_text("")
    return source


def write(path, notebook):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def state(folder):
    """Every file's bytes, the bookkeeping's too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def shown(work):
    return {name for name in state(work) if not name.startswith(".course")}


def test_a_student_gets_the_chapters_and_no_solutions(course, tmp_path):
    report = update(course, tmp_path / "work" / "en")
    expected = {"index.ipynb", "2_anatomy/05_depth.ipynb", "2_anatomy/05a_torch_graph.ipynb",
                "appendices/table.csv"}
    assert shown(tmp_path / "work" / "en") == expected and report.new == 4 and not report.notes
    assert {path.as_posix() for path in report.files} == expected
    assert str(report) == "work/en: 4 files, 4 new, 0 updated"


def test_the_second_update_writes_nothing(course, tmp_path):
    update(course, tmp_path / "en")
    before = state(tmp_path / "en")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "en").rglob("*")}
    assert str(update(course, tmp_path / "en")).endswith("4 files, 0 new, 0 updated")
    assert state(tmp_path / "en") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "en").rglob("*")} == times


def test_chapters_come_go_and_stay_where_somebody_wrote(course, tmp_path):
    work = tmp_path / "en"
    update(course, work)
    student = Author(1, "student")
    name = "2_anatomy/05_depth.ipynb"
    write(work / name, student.edited(read(work / name), ["answer", "add"], 3))
    write(course / "3_training/09_data.ipynb", Author(2, "course").notebook())
    (course / name).unlink()
    (course / "2_anatomy/05a_torch_graph.ipynb").unlink()
    answers = typed(read(work / name))
    report = update(course, work)
    assert shown(work) == {"index.ipynb", name, "3_training/09_data.ipynb", "appendices/table.csv"}
    assert typed(read(work / name)) == answers
    assert report.notes == [f"{name} is no longer part of the course; yours stays, "
                            "because you worked in it"]


def test_a_deleted_notebook_begins_anew(course, tmp_path):
    work = tmp_path / "en"
    update(course, work)
    (work / "index.ipynb").unlink()
    assert update(course, work).new == 1
    assert read(work / "index.ipynb") == read(course / "index.ipynb")


@pytest.mark.parametrize("broken", [
    b'{"cells": [{"source": "student', b"\xff\xfe student", b"student", b"[]", b'{"cells": 3}',
    b'{"worksheets": []}', b'{"cells": [3]}', b'{"cells": [{"source": 3}]}'])
def test_a_broken_notebook_is_left_alone(course, tmp_path, broken):
    work = tmp_path / "en"
    update(course, work)
    (work / "index.ipynb").write_bytes(broken)
    report = update(course, work)
    assert (work / "index.ipynb").read_bytes() == broken
    assert read(work / "index_2.ipynb") == read(course / "index.ipynb")
    assert len(report.notes) == 1 and "index_2.ipynb" in report.notes[0]
    student = Author(0, "student")
    write(work / "index_2.ipynb", student.edited(read(work / "index_2.ipynb"), ["answer"], 2))
    answers = typed(read(work / "index_2.ipynb"))
    write(course / "index.ipynb", Author(1, "course").edited(read(course / "index.ipynb"), COURSE))
    update(course, work)
    assert answers <= typed(read(work / "index_2.ipynb")), "the copy is merged, not overwritten"
    assert not (work / "index_3.ipynb").exists()
    assert (work / "index.ipynb").read_bytes() == broken


def test_a_repaired_notebook_is_updated_again(course, tmp_path):
    work = tmp_path / "en"
    update(course, work)
    good = (work / "index.ipynb").read_bytes()
    (work / "index.ipynb").write_bytes(good[:-20])
    update(course, work)
    (work / "index.ipynb").write_bytes(good)
    assert update(course, work).notes == []
    assert shown(work) >= {"index.ipynb"}


def test_an_empty_file_is_written_anew(course, tmp_path):
    work = tmp_path / "en"
    update(course, work)
    (work / "index.ipynb").write_bytes(b"")
    assert update(course, work).new == 1 and not (work / "index_2.ipynb").exists()


def test_a_file_that_is_no_notebook_is_not_merged(course, tmp_path):
    work, name = tmp_path / "en", "appendices/table.csv"
    update(course, work)
    (course / name).write_text("a,b,c\n")
    assert update(course, work).updated == 1 and (work / name).read_text() == "a,b,c\n"
    (work / name).write_text("mine\n")
    assert update(course, work).notes == []
    (course / name).write_text("a,b,c,d\n")
    report = update(course, work)
    assert (work / name).read_text() == "mine\n" and "yours stays" in report.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cut", range(1, 8))
def test_a_cut_at_any_write_is_made_good_by_the_next_update(course, tmp_path, monkeypatch, cut,
                                                            seed):
    work, name = tmp_path / "en", "2_anatomy/05_depth.ipynb"
    update(course, work)
    student, teacher = Author(seed, "student"), Author(seed, "course again")
    for each in (name, "index.ipynb"):
        write(work / each, student.edited(read(work / each), STUDENT))
        write(course / each, teacher.edited(read(course / each), COURSE))
    answers = {each: typed(read(work / each)) for each in (name, "index.ipynb")}
    calls = []

    def power_cut(path, content):
        calls.append(path)
        if len(calls) == cut:
            raise KeyboardInterrupt
        return place(path, content)

    place = workspace.write_atomically
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "write_atomically", power_cut)
        try:
            update(course, work)
        except KeyboardInterrupt:
            pass
    update(course, work)
    assert all(answers[each] <= typed(read(work / each)) for each in answers)
    settled = {each: read(work / each)["cells"] for each in answers}
    assert update(course, work).updated == 0
    assert {each: read(work / each)["cells"] for each in answers} == settled


def test_the_notebook_before_the_update_is_kept(course, tmp_path):
    work = tmp_path / "en"
    update(course, work)
    write(work / "index.ipynb", Author(0, "student").edited(read(work / "index.ipynb"), STUDENT, 4))
    mine = (work / "index.ipynb").read_bytes()
    write(course / "index.ipynb",
          Author(1, "course").edited(read(course / "index.ipynb"), ["append"], 3))
    update(course, work)
    assert (work / ".course" / "before" / "index.ipynb").read_bytes() == mine


def test_a_file_that_cannot_be_written_does_not_stop_the_others(course, tmp_path, monkeypatch):
    def refuse(path, content):
        if path.name == "05_depth.ipynb":
            raise PermissionError("in use")
        return place(path, content)

    place = workspace.write_atomically
    monkeypatch.setattr(workspace, "write_atomically", refuse)
    report = update(course, tmp_path / "en")
    assert report.notes == ["2_anatomy/05_depth.ipynb could not be updated: in use"]
    assert "index.ipynb" in shown(tmp_path / "en")


def test_a_source_without_notebooks_takes_nothing_away(course, tmp_path):
    work = tmp_path / "en"
    update(course, work)
    before = state(work)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="source .* holds no notebooks"):
        update(tmp_path / "empty", work)
    with pytest.raises(ValueError, match="outside source"):
        update(course, course / "work")
    assert state(work) == before


def test_a_broken_source_is_one_sentence(course, tmp_path):
    (course / "index.ipynb").write_text("<<<<<<< mine")
    with pytest.raises(ValueError, match="index.ipynb, which is no notebook"):
        update(course, tmp_path / "en")


def test_the_real_course_is_copied_with_its_links(tmp_path):
    import make
    work = tmp_path / "work" / "en"
    report = update(make.NOTEBOOKS, work)
    assert {"index.ipynb", "2_anatomy/06_parameters.ipynb"} <= shown(work)
    assert not any(name.startswith(("core", "classroom", "locale")) for name in shown(work))
    assert report.files == course_files(make.NOTEBOOKS)
