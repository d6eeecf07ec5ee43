"""Notebooks and modules keep the house style, and each of its rules can fail."""
import json

import pytest
from house_style import module_faults, notebook_faults
from project import LIBRARY, ROOT, modules, notebooks


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: str(path.relative_to(ROOT)))
def test_notebook(path):
    assert notebook_faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", modules(), ids=str)
def test_module(name):
    assert module_faults((LIBRARY / name).read_text(encoding="utf-8")) == []


def code(source, *outputs, tags=()):
    return {"cell_type": "code", "source": source, "outputs": list(outputs),
            "metadata": {"tags": list(tags)}}


def prose(source="Words."):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def judge(*cells):
    return " / ".join(notebook_faults(json.dumps({"cells": list(cells)})))


ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
FIGURE = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}}
DESCRIBED = FIGURE | {"metadata": {"image/png": {"alt": "a line that rises"}}}
FUNCTION = "#| export\ndef f():\n    return 1"


@pytest.mark.parametrize("cells, said", [
    ([code("x = 1\n" * 26)], "26 lines, 25 are allowed"),
    ([code("#| export\ndef f():\n" + "    x = 1\n" * 41), code("assert f")], "f has 41 lines"),
    ([code("#| export\nclass A:\n" + "    x = 1\n" * 81), code("assert A")], "A has 81 lines"),
    ([code("x = 1\n" * 7)] * 3, "half of the teaching cells have 7"),
    ([code("x = 1")] * 4, "4 code cells follow"),
    ([code("x = '" + "y" * 100 + "'")], "a line of 106 columns"),
    ([code("draw()", FIGURE)], "image/png without alt text"),
    ([code("1 / 0", ERROR)], "stores an error"),
    ([prose("![a figure](https://example.org/a.png)")], "remote host"),
    ([prose('<img width=3 src="http://example.org/a.png">')], "remote host"),
    ([prose("TODO: write this")], "unfinished"),
    ([prose("long " * 70_000)], "350 kB"),
    ([code(FUNCTION), prose(), code("f()")], "f is exported, and no check follows"),
    ([code("x = 1"), prose()] * 4, "no outputs"),
])
def test_a_notebook_that_falls_short_is_seen(cells, said):
    assert said in judge(*cells)


@pytest.mark.parametrize("cells", [
    [code("x = 1\n" * 6 + "\n# a comment\n" * 30)],
    [code("draw()", DESCRIBED)],
    [code("1 / 0", ERROR, tags=["raises-exception"])],
    [code(FUNCTION), prose(), code("f()"), prose(), code("assert f() == 1")],
    [code("#| export\ndef _private():\n    return 1")],
    [prose("A [link](https://example.org) to read, and ![a figure](figure.svg).")],
])
def test_a_notebook_in_house_style_passes(cells):
    assert judge(*cells) == ""


@pytest.mark.parametrize("source, said", [
    ("def f():\n" + "    x = 1\n" * 41, "f has 41 lines"),
    ("x = 1\n" * 701, "701 lines"),
    ("from os import *", "import *"),
    ("try:\n    x = 1\nexcept:\n    pass", "bare except"),
    ("def f():\n    return 1", "f has no docstring"),
])
def test_a_module_that_falls_short_is_seen(source, said):
    assert said in " / ".join(module_faults(source))
