"""Figures and tables show themselves in the reader's language, and stay English inside."""
import logging
import warnings

import pytest

from course_lib.core import messages
from course_lib.core.figures import (
    CHINESE_FONTS, chinese_font, in_readers_language, new_figure, show, to_image)
from course_lib.core.tables import Report, Table

WORDS = {
    "parameters": "参数", "layers": "层", "embedding": "嵌入", "head": "头",
    "title $x^2$": "标题 $x^2$",
    "trained": "已训练，“是”", "{n} blocks": "{n} 个块",
    "Two bars: {n} and {m}.": "两根条：{n} 和 {m}。",
    "Figure: {alt}": "图：{alt}", "role": "角色", "unknown": "未知", "yes": "是", "layer": "层名",
    "(the model itself)": "（模型本身）", "total": "合计", "A small <network>": "一个小<网络>",
    "total {n}": "共 {n}", "frozen": "冻结", "tied to {owners}": "与 {owners} 共享",
    "; tied to {owners}": "；与 {owners} 共享", "reused {calls} times": "用了 {calls} 次"}
NEEDS_FONT = pytest.mark.skipif(chinese_font() is None, reason="no Chinese font is installed here")


@pytest.fixture
def chinese(monkeypatch):
    """A reader of Chinese, and a catalogue of a few words."""
    monkeypatch.setattr(messages, "_catalogue", lambda name: WORDS)
    for cached in (messages._templates, messages._look_up):
        cached.cache_clear()
    messages.set_language("zh")
    yield
    messages.set_language(None)
    for cached in (messages._templates, messages._look_up):
        cached.cache_clear()


@pytest.fixture
def drawing():
    """A figure with text of every kind: labels, ticks, title, legend, annotation."""
    figure, axes = new_figure()
    axes.barh(["embedding", "head"], [3, -1], label="trained")
    axes.set_xlabel("parameters", weight="bold")
    axes.set_ylabel("layers", style="italic")
    axes.set_title("title $x^2$")
    axes.annotate("12 blocks", (0, 0), weight="bold")
    axes.legend(title="parameters")
    figure.suptitle("untranslated")
    return figure


def written(figure):
    """The words of a figure as an SVG holds them, drawn as text."""
    import matplotlib
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return to_image(figure, "svg").decode()


def texts(figure):
    """All words of a figure and the fonts that they are to be in."""
    from matplotlib.text import Text
    return [(text.get_text(), text.get_fontfamily()) for text in figure.findobj(Text)]


@NEEDS_FONT
def test_every_text_is_drawn_in_chinese_and_then_put_back(chinese, drawing):
    drawing.canvas.draw()
    before = texts(drawing)
    drawn = written(drawing)
    for word in ("参数", "层", "嵌入", "头", "标题", "已训练，“是”", "12 个块", "untranslated"):
        assert word in drawn, word
    assert "embedding" not in drawn and "parameters" not in drawn
    assert texts(drawing) == before
    assert not any("format_ticks" in vars(axis.get_major_formatter())
                   for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis))


@NEEDS_FONT
def test_unusual_places_of_text_are_found(chinese):
    import matplotlib
    figure, (left, right) = new_figure(1, 2)
    figure.colorbar(left.imshow([[1, 2]]), ax=left, label="parameters")
    left.set_xticks([0, 1], ["embedding", "head"])
    right.table([["layers", "1"]], loc="center")
    right.secondary_xaxis("top").set_xlabel("unknown")
    right.twinx().set_ylabel("role")
    figure.supxlabel("total 7")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        drawn = to_image(figure, "svg").decode()
    for word in ("参数", "嵌入", "头", "层", "未知", "角色", "共 7"):
        assert f">{word}<" in drawn, word


@NEEDS_FONT
def test_a_figure_is_put_back_when_drawing_fails(chinese, drawing):
    drawing.canvas.draw()
    before = texts(drawing)
    with pytest.raises(RuntimeError), in_readers_language(drawing):
        assert drawing.axes[0].get_xlabel() == "参数"
        raise RuntimeError("the disk is full")
    assert texts(drawing) == before


@NEEDS_FONT
@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_chinese_is_drawn_without_a_word_in_the_log(chinese, drawing, caplog, kind):
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        to_image(drawing, kind)
    assert caplog.records == []


def test_without_a_chinese_font_labels_stay_english_and_the_log_empty(
        chinese, drawing, monkeypatch, caplog):
    from matplotlib.font_manager import fontManager
    others = [entry for entry in fontManager.ttflist if entry.name not in CHINESE_FONTS]
    monkeypatch.setattr(fontManager, "ttflist", others)
    assert chinese_font() is None
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = written(drawing)
    assert "embedding" in drawn and "参数" not in drawn and caplog.records == []


@pytest.mark.parametrize("installed", [CHINESE_FONTS[:3], CHINESE_FONTS[4:6], CHINESE_FONTS[-1:]])
def test_the_first_installed_font_is_taken(monkeypatch, installed):
    from types import SimpleNamespace

    from matplotlib.font_manager import fontManager
    entries = [SimpleNamespace(name=name) for name in ("DejaVu Sans", *reversed(installed))]
    monkeypatch.setattr(fontManager, "ttflist", entries)
    assert chinese_font() == installed[0]


def shown(figure, alt, monkeypatch):
    """What `show` hands to the notebook."""
    import IPython.display
    calls = []
    monkeypatch.setattr(IPython.display, "display", lambda *data, **rest: calls.append((data,
    rest)))
    show(figure, alt=alt)
    (data,), rest = calls[0]
    return data["text/plain"], rest["metadata"]["image/svg+xml"]["alt"]


def test_the_description_is_translated_too(chinese, drawing, monkeypatch):
    said = shown(drawing, "Two bars: 3 and -1.", monkeypatch)
    assert said == ("图：两根条：3 和 -1。", "两根条：3 和 -1。")


def test_in_english_nothing_is_looked_at(drawing, monkeypatch):
    messages.set_language("en")
    try:
        assert shown(drawing, "Two bars: 3 and -1.", monkeypatch) == (
            "Figure: Two bars: 3 and -1.", "Two bars: 3 and -1.")
        monkeypatch.setattr(type(drawing), "findobj", None)
        with in_readers_language(drawing):
            pass
        table = Table(["layer"], [["head"]])
        assert table.in_readers_language() is table
    finally:
        messages.set_language(None)


ROWS = [["head", "embedding", 1290, True], ["count", None, 7, False]]
TABLE = Table(["layer", "role", "parameters", "trained?"], ROWS, "A small <network>", ["total 8"])


def test_a_table_is_written_in_chinese(chinese):
    assert TABLE.to_text().splitlines() == [
        "一个小<网络>", "层名   角色   参数  trained?", "────────────────────────────",
        "head   嵌入  1,290        是", "count  未知      7        no", "共 8"]
    assert TABLE.to_markdown().splitlines()[2] == "| 层名 | 角色 | 参数 | trained? |"
    html = TABLE.to_html()
    assert "<strong>一个小&lt;网络&gt;</strong>" in html and "<div>共 8</div>" in html
    assert '<th scope="col" style="text-align:right">参数</th>' in html and ">未知</td>" in html


def test_names_and_raw_values_stay(chinese):
    assert "head" in TABLE.to_text() and "头" not in TABLE.to_text()
    assert (TABLE.headers[1], TABLE.rows[0][1], TABLE.title) == (
        "role", "embedding", "A small <network>")


def test_what_the_library_writes_among_names_is_translated(chinese):
    said = Table(["layer"], [["(the model itself)"], ["head"], ["total"]]).to_text()
    assert said.split()[2:] == ["（模型本身）", "head", "合计"]


def test_the_sums_of_a_comparison_are_translated(chinese):
    said = Table(["a", "b"], [["head", "head"], ["frozen", "frozen"], ["total", "total"]]).to_text()
    assert said.split()[3:] == ["head", "head", "冻结", "冻结", "合计", "合计"]


@pytest.mark.parametrize("cell, shown", [
    ("in·head = 2·3 = 6", "in·head = 2·3 = 6"),
    ("head[0]·head = 2·3 = 6 [reused 2 times]", "head[0]·head = 2·3 = 6 [用了 2 次]"),
    ("head = 6; tied to head.weight", "head = 6；与 head.weight 共享"),
    ("tied to head.weight", "与 head.weight 共享"), ("head", "头"),
    ("12 × (in·head = 2·3 = 6)", "12 × (in·head = 2·3 = 6)")])
def test_words_beside_a_formula_are_translated_and_the_formula_is_not(chinese, cell, shown):
    assert Table(["formula"], [[cell]]).in_readers_language()._cells == [[shown]]


def test_a_chinese_header_is_not_broken_between_characters(chinese):
    assert '<thead style="word-break:keep-all">' in TABLE.to_html()
    messages.set_language("en")
    assert "<thead><tr>" in TABLE.to_html()


def test_a_data_frame_stays_english(chinese):
    pytest.importorskip("pandas")

    class Sample(Report):
        def table(self):
            return TABLE

    frame = Sample().to_dataframe()
    assert list(frame.columns) == ["layer", "role", "parameters", "trained?"]
    assert frame.role[0] == "embedding"


def test_a_long_chinese_sentence_may_break():
    assert "white-space:pre-wrap" in Table(["note"], [["这一层的参数" * 4]]).to_html()
    assert "white-space:nowrap" in Table(["note"], [["这一层的参数" * 2]]).to_html()
