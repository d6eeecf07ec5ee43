"""Bindings are invisible in JupyterLab, and the last cell names a sentence that is off."""
import nbformat
import pytest
from reader import ERROR
from samples import KERNEL
from test_themes import ask

PROSE = """# GPT-2 has 124M<!--= total --> parameters

In full **124,439,808**<!--= total -->, of them 31 %<!--= table / total --> in one table, counted in
about 1 s<!--= 0 <= seconds <= 2 and total > 3 -->; the paper says "117M"<!--cite: radford2019 -->.

| what | how many |
|---|---|
| in the table | 38.6 million<!--= [n for n in [table]][0] * 1 -->|

- $d^2$ of `7<!--= none -->` and 768<!--= 12 * 64 == width -->.
"""
SHOWN = """GPT-2 has 124M parameters
In full 124,439,808, of them 31 % in one table, counted in about 1 s; the paper says "117M".
in the table 38.6 million
of 7<!--= none --> and 768."""
CODE = "total, table, width, seconds = 124_439_808, 38_597_376, 768, 0.5"
CHECK = ("from course_lib.classroom.live_numbers import check_numbers\n"
         "check_numbers('bindings.ipynb', globals())")


def upload(address, prose):
    """Put the notebook on the server."""
    cells = [nbformat.v4.new_markdown_cell(prose), nbformat.v4.new_code_cell(CODE),
             nbformat.v4.new_code_cell(CHECK)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    ask(address, "/api/contents/bindings.ipynb", {"type": "notebook", "content": notebook})


def test_a_reader_sees_the_numbers_and_not_what_they_are_bound_to(reader):
    upload(reader.address, PROSE)
    reader.open_and_run("bindings.ipynb")
    said = " ".join(reader.page.locator(".jp-MarkdownCell").inner_text().split())
    for line in SHOWN.splitlines():
        assert line in said
    assert said.count("<!--") == 1 and "total" not in said  # the one in the code span
    reader.said("check_numbers(", "6 numbers in the prose agree")


def test_a_reader_sees_which_sentence_is_off(reader):
    upload(reader.address, PROSE.replace("38.6 million", "38.7 million"))
    with pytest.raises(AssertionError, match="1 of 6 numbers in the prose do not agree"):
        reader.open_and_run("bindings.ipynb")
    said = reader.page.locator(ERROR).inner_text()
    assert "in the table | 38.7 million|” states 38.7 million, but" in said
    assert "is 38,597,376." in said and "Traceback" not in said  # a sentence, and no inside
