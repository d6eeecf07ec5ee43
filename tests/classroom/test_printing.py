"""Pages to print: whole, self-contained, nothing cut off, and room where a student writes."""
import html.parser
import json
import re

import make
import pytest
from course_lib.classroom import printing
from course_lib.classroom.printing import (
    code, find_browser, formula, output, page, print_course, print_notebook, prose, write_pdf)
from course_lib.classroom.workspace import read_notebook
from course_lib.core.messages import set_language

CHAPTERS = sorted(make.NOTEBOOKS.glob("*_*/[0-9][0-9]_*.ipynb"))
VOID = {"meta", "img", "br", "hr", "input", "col", "wbr"}


class Structure(html.parser.HTMLParser):
    """Whether every element is closed in order; headings, and what the page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.headings, self.fetched = [], [], [], []
        self.feed(text)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID and not values.get("xmlns"):
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        inside = values.get("src", "data:").startswith("data:")
        if tag in ("script", "link", "iframe") or not inside:
            self.fetched.append((tag, values))
        if tag == "img" and not values.get("alt"):
            self.faults.append("img without alt")

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def check_page(text):
    """A page is well-formed, its headings go down one step at a time, and it fetches nothing."""
    structure = Structure(text)
    assert structure.faults == [] and structure.fetched == []
    assert structure.headings[0] == 1 and structure.headings.count(1) == 1
    steps = zip(structure.headings, structure.headings[1:])
    assert all(after <= before + 1 for before, after in steps)
    assert "url(" not in text and "@import" not in text
    return structure


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return read_notebook(request.param)


@pytest.mark.slow
def test_a_chapter_is_one_whole_page(chapter):
    text = print_notebook(chapter, lang="en")
    check_page(text)
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert text.count('class="room"') == sum(
        len(re.findall("# your answer$", "".join(cell["source"]), re.M))
        for cell in chapter["cells"] if cell["cell_type"] == "code")
    for gone in ("not attempted", "check_numbers", "NBVAL_IGNORE", "#| export", "<!--",
                 "answer(&quot;"):
        assert gone not in text, gone
    assert text.count('class="figure"') == sum(
        any(kind.startswith("image/") for kind in result.get("data", ()))
        for cell in chapter["cells"] for result in cell.get("outputs", ()))


@pytest.mark.slow
def test_every_formula_is_drawn(chapter):
    text = print_notebook(chapter, lang="en")
    sources = ["".join(cell["source"]) for cell in chapter["cells"]
               if cell["cell_type"] == "markdown"]
    plain = re.sub(r"```.*?```|`[^`\n]*`|<!--.*?-->", "", "\n".join(sources), flags=re.S)
    written = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", plain, re.S)
    simple = [one or other for one, other in written if r"\begin{" not in one + other]
    assert [each for each in simple if "<img" not in formula(each)] == []
    assert text.count('class="formula"') == len(simple)


@pytest.mark.parametrize("wrong", ["<p>a", "a</p>", "<b><i>x</b></i>", "<img src='data:x'>"])
def test_a_page_that_is_not_well_formed_is_seen(wrong):
    with pytest.raises(AssertionError):
        check_page(page("x", f"<h1>x</h1>{wrong}"))


@pytest.mark.parametrize("wrong", [
    "<script src='https://x.org/a.js'></script>", "<img alt='x' src='https://x.org/a.png'>",
    "<h3>x</h3>", "<h1>x</h1>"])
def test_a_page_that_fetches_or_skips_a_heading_is_seen(wrong):
    with pytest.raises(AssertionError):
        check_page(page("x", f"<h1>x</h1>{wrong}"))


@pytest.mark.parametrize("markdown, expected", [
    ("`$5`, `$6`", "<code>$5</code>, <code>$6</code>"),
    ("```python\ncost = '$d$'\n```", "$d$"),
    ("[a](06_parameters.ipynb#lora)", 'href="06_parameters.html#lora"'),
    ("[a](https://x.org/a.ipynb)", 'href="https://x.org/a.ipynb"'),
    ("31 %<!--= share -->.", "<p>31 %.</p>"),
    ("a < b", "a &lt; b"),
])
def test_prose(markdown, expected):
    assert expected in prose(markdown)


def test_a_formula_says_itself_and_stands_on_its_line():
    drawn = formula(r"\frac{a<b}{c}")
    assert 'alt="\\frac{a&lt;b}{c}"' in drawn and "vertical-align:-" in drawn
    assert formula(r"\unknown<").startswith("<code>") and "&lt;" in formula(r"\unknown<")


def test_code_is_escaped_and_its_answer_has_room():
    assert "a &lt; b" in re.sub("<[^>]*>", "", code("a < b"))
    value = code("# your answer\nx = ...\n# end of your answer\n")
    function = code("# your answer\ndef f(x):\n    return ...\n# end of your answer\n")
    assert (value.count("<div></div>"), function.count("<div></div>")) == (3, 8)


@pytest.mark.parametrize("result, expected", [
    ({"output_type": "error", "ename": "ValueError", "evalue": "a < b", "traceback": []},
     "<pre>ValueError: a &lt; b</pre>\n"),
    ({"output_type": "stream", "text": "\x1b[31mred\x1b[0m\n"}, "<pre>red</pre>\n"),
    ({"output_type": "stream", "text": "\n"}, ""),
    ({"output_type": "display_data", "data": {"text/plain": "x", "text/html": "<b>x</b>"}},
     "<b>x</b>\n"),
    ({"output_type": "display_data", "data": {}}, ""),
])
def test_output(result, expected):
    assert output(result) == expected


def test_chapters_are_printed_and_companions_only_when_named(tmp_path):
    source = tmp_path / "nbs"
    for name in ("index", "2_anatomy/05_depth", "2_anatomy/05a_graph", "core/files"):
        path = source / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cells": [], "metadata": {}}))
    written = print_course(source, tmp_path / "print", pdf=False)
    assert [path.name for path in written] == ["05_depth.html"]
    written = print_course(source, tmp_path / "print", "05a_graph", "index.ipynb", pdf=False)
    assert [path.name for path in written] == ["05a_graph.html", "index.html"]
    with pytest.raises(FileNotFoundError, match="no notebook 'files' to print: choose from"):
        print_course(source, tmp_path / "print", "files")
    (source / "index.ipynb").write_text("{")
    with pytest.raises(ValueError, match="index.ipynb, which is no notebook"):
        print_course(source, tmp_path / "print", "index", pdf=False)


def test_chinese_pages_say_so():
    set_language("zh")
    try:
        assert '<html lang="zh-CN">' in print_notebook({"cells": []})
    finally:
        set_language(None)


def test_without_a_browser_html_alone_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(printing, "find_browser", lambda: None)
    written = print_course(make.NOTEBOOKS, tmp_path, "index")
    assert [path.name for path in written] == ["index.html"]


# Everything that reaches over the right edge of the paper.
CUT = """() => { const edge = document.body.getBoundingClientRect().right + 1;
  return [...document.querySelectorAll("body *")].filter(each =>
    each.getBoundingClientRect().right > edge
    || each.tagName == "PRE" && each.scrollWidth > each.clientWidth + 1)
  .map(each => each.tagName + ": " + each.innerText.slice(0, 60)) }"""
PAPER = 665  # pixels: 176 of A4's 210 mm


@pytest.fixture(scope="module")
def sheet():
    """A page of a browser, as wide as paper."""
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium is installed, so pages are not laid out")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser,
                                             args=["--no-sandbox", "--disable-gpu"])
        page = running.new_page(viewport={"width": PAPER, "height": 1000})
        page.emulate_media(media="print")
        yield page
        running.close()


@pytest.mark.slow
def test_nothing_is_cut_off(sheet, chapter):
    sheet.set_content(print_notebook(chapter, lang="en"))
    assert sheet.evaluate(CUT) == []


def test_a_cut_is_seen(sheet):
    cells = "<td style='white-space:nowrap'>a column of words</td>" * 9
    sheet.set_content(page("x", f'<div class="output"><table><tr>{cells}</tr></table></div>'))
    assert sheet.evaluate(CUT)


def test_a_browser_writes_a_pdf(tmp_path):
    if find_browser() is None:
        pytest.skip("no Chromium is installed, so no PDF is written")
    (tmp_path / "x.html").write_text(page("x", "<h1>x</h1>"), encoding="utf-8")
    pdf = write_pdf(tmp_path / "x.html", find_browser()).read_bytes()
    assert pdf.startswith(b"%PDF") and b"/MediaBox [0 0 594" in pdf or b"/MediaBox [0 0 595" in pdf
