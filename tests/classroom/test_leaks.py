"""No line of a solution stands in a notebook that learners get, neither in its code nor outputs."""
import json

import pytest
from course_exercises import every, normalised, secret, telling_lines
from make import ROOT

SECRET = ROOT / "nbs" / "classroom" / "answers"  # the one source of solutions; not copied to work/


def texts(notebook):
    """Everything that a notebook shows: sources, and outputs of every kind."""
    for cell in notebook["cells"]:
        yield "".join(cell["source"])
        for output in cell.get("outputs", ()):
            yield "".join(output.get("text", ()))
            yield "\n".join(output.get("traceback", ()))
            for value in output.get("data", {}).values():
                yield value if isinstance(value, str) else "".join(map(str, value))


def leaks(notebook, lines):
    """(exercise, line) of each line of a solution that a notebook shows."""
    shown = "\n".join(normalised(text) for text in texts(notebook))
    return [(name, line) for name, line in lines if line in shown]


def secret_lines():
    """(exercise, line) of all telling lines of all solutions."""
    return [(each.name, line) for each in every() for line in telling_lines(secret(each))]


def public_notebooks():
    """Every notebook but those of the answers; Chinese ones are built, and have the same code."""
    found = (ROOT / "nbs").rglob("*.ipynb")
    return sorted(path for path in found
                  if SECRET not in path.parents and ".ipynb_checkpoints" not in path.parts)


@pytest.mark.slow
@pytest.mark.parametrize("path", public_notebooks(), ids=lambda path: path.name)
def test_no_notebook_shows_a_line_of_a_solution(path):
    assert leaks(json.loads(path.read_text(encoding="utf-8")), secret_lines()) == []


def test_every_solution_has_lines_to_look_for():
    without = [each.name for each in every() if not list(telling_lines(secret(each)))]
    assert without == []


def a_notebook(source="x = 1", **output):
    """A notebook of one cell with one output."""
    return {"cells": [{"cell_type": "code", "source": source, "outputs": [output]}]}


LINES = [("lenet5_by_hand", normalised("lenet5_count = 6 * 26 + 16 * 151"))]


@pytest.mark.parametrize("notebook", [
    a_notebook("y = 2\nlenet5_count  =  6*26 + 16*151  # by hand"),
    a_notebook(["y = 2\n", "    lenet5_count = 6 * 26 + 16 * 151\n"]),
    a_notebook(output_type="stream", text=["lenet5_count = 6 * 26 + 16 * 151\n"]),
    a_notebook(data={"text/markdown": ["```\n", "lenet5_count = 6 * 26 + 16 * 151\n", "```"]}),
    a_notebook(output_type="error", traceback=["----> lenet5_count = 6 * 26 + 16 * 151"]),
])
def test_a_leak_is_seen(notebook):
    assert leaks(notebook, LINES) == [("lenet5_by_hand", LINES[0][1])]


def test_what_stands_in_any_program_is_no_leak():
    source = '"""Words of\nseveral lines."""\nimport torch\n\ndef f(x):\n    # words\n    return x'
    assert list(telling_lines(source)) == []
    assert list(telling_lines("total = 6 * 26 + 16 * 151  # both")) == ["total=6*26+16*151"]


@pytest.mark.slow
def test_no_text_for_learners_holds_a_line_of_a_solution():
    """Quizzes, catalogues and translations are read by learners as well."""
    texts = [path for folder in ("nbs/locale", "course_lib/_data") for path in
             (ROOT / folder).rglob("*") if path.suffix in (".po", ".json")]
    assert len(texts) > 5
    for path in [*texts, *ROOT.glob("*.md")]:
        text = normalised(path.read_text(encoding="utf-8"))
        assert [line for _, line in secret_lines() if line in text] == [], path.name
