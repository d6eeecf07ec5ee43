"""The Chinese chapter 06 in a real browser: it runs, its slider moves, and it speaks Chinese."""
import re
from urllib.parse import unquote

import pytest
from course_lib.classroom.chinese import build_chinese
from reader import Reader, server, wait_for

CHAPTER = "2_anatomy/06_parameters.ipynb"
HAN = re.compile(r"[\u4e00-\u9fff]")
STUB = 'what_grows = {"image": ..., "heads": ..., "steps": ..., "groups": ..., "units": ...}'


@pytest.fixture(scope="module")
def course(chromium, tmp_path_factory):
    """JupyterLab over the Chinese notebooks, not run yet, as `make lab-zh` would start it."""
    root = tmp_path_factory.mktemp("chinese")
    built = build_chinese(root, execute=False)
    assert built[CHAPTER] == "built", "chapter 06 is not translated"
    record = tmp_path_factory.mktemp("record")
    with server(root, tmp_path_factory.mktemp("settings"), COURSE_LANG="zh_CN",
                COURSE_DATA=str(record)) as address:
        yield address


@pytest.fixture(scope="module")
def opened(chromium, course):
    """The chapter, opened and run once for all of these tests."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    reader = Reader(page, course)
    reader.open_and_run(CHAPTER)
    yield reader
    page.close()
    assert reader.outside == [], "the page asked for something outside this machine"


def test_the_text_is_chinese(opened):
    title = opened.page.locator(".jp-MarkdownCell h1").first.inner_text()
    assert HAN.search(title) and title.startswith("06 · ")


def test_tables_have_chinese_headers(opened):
    headers = opened.page.locator(".jp-OutputArea table").first.locator("th").all_inner_texts()
    assert {"层", "参数", "占比"} <= set(headers)


def test_figures_are_labelled_in_chinese(opened):
    sources = opened.page.locator(".jp-RenderedSVG img").evaluate_all("all => all.map(i => i.src)")
    drawn = unquote(" ".join(sources))  # matplotlib notes each text in a comment beside its shapes
    assert {"注意力", "线性层", "参数（百万）"} <= set(re.findall(r"<!-- (.*?) -->", drawn))


def test_knobs_are_named_in_chinese(opened):
    names = opened.explorer().locator(".widget-label").all_inner_texts()
    assert {"宽度", "深度"} <= set(names)


def test_the_slider_moves_table_and_figure(opened, tmp_path):
    opened.move_slider()
    opened.photograph(tmp_path / "explorer.png")


def test_an_exercise_answers_in_chinese(opened):
    asked = 'check("what_grows"'
    assert "groups" not in opened.said(asked, "尚未作答")
    opened.run_again(asked, STUB.replace("...", '"same"') + f"\n{asked}, what_grows)")
    wrong = opened.said(asked, "groups")
    assert HAN.search(wrong.split("groups")[0])


def test_the_numbers_in_the_prose_agree_in_chinese_too(opened):
    last = opened.page.locator(".jp-CodeCell").last.locator(".jp-OutputArea")
    agree = re.compile(r"正文中的 \d+ 个数与代码一致")
    wait_for(lambda: agree.search(last.inner_text()), 20, agree.pattern)
