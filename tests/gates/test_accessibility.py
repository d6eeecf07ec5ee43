"""Everybody can read it: described figures, headings in order, table headers, colours apart."""
import ast
import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from house_style import parse, text
from project import LIBRARY, ROOT, modules, notebooks

from course_lib.core.figures import PALETTE
from course_lib.core.messages import set_language, translate

# ---------------------------------------------------------------- what a figure shows, in words

WORDS = 8  # "Bars by layer." names a kind of picture; what it shows takes a sentence
EMPTY_START = re.compile(r"(an?|the|this)?\s*(plot|figure|image|picture|chart|graph|diagram|photo|"
                         r"screenshot|illustration)\b", re.I)


def description_faults(alt):
    """Why an alternative text does not say what a figure shows."""
    if len(alt.split()) < WORDS:
        yield f"{alt!r} has {len(alt.split())} words, {WORDS} say something"
    if EMPTY_START.match(alt.strip()):
        yield f"{alt!r} begins with what it is, not with what it shows"


def written_alts(source):
    """Alternative texts that a cell's code writes, as far as they are literal."""
    tree = parse(source)
    for call in ast.walk(tree) if tree else ():
        if isinstance(call, ast.Call):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            for keyword in call.keywords:
                if keyword.arg == "alt" and name in ("show", "Image"):
                    literal = literal_text(keyword.value)
                    yield from [] if literal is None else [literal]


def literal_text(node):
    """A string or an f-string, `x` standing for what is computed; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "x"
                       for part in node.values)
    return None


def stored_alts(cell):
    """The alternative text of each image that a cell has stored; empty where there is none."""
    for output in cell.get("outputs", ()):
        for kind in output.get("data", ()):
            if kind.startswith("image/"):
                yield output.get("metadata", {}).get(kind, {}).get("alt", "")


def markdown_alts(source):
    """The alternative texts of images in prose."""
    yield from re.findall(r"!\[([^\]]*)\]\(", source)
    for tag in re.findall(r"<img\b[^>]*>", source, re.I):
        found = re.search(r"\balt=([\"'])(.*?)\1", tag, re.S)
        yield found[2] if found else ""


def figure_faults(cells):
    """Figures of a notebook that say too little to a reader who does not see them."""
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            refused = "raises-exception" in cell["metadata"].get("tags", ()) or re.search(
                r"pytest\.raises|^\s*>>> ", text(cell), re.M)
            alts = [*stored_alts(cell), *([] if refused else written_alts(text(cell)))]
        else:
            alts = list(markdown_alts(text(cell)))
        yield from (f"cell {number}: {fault}" for alt in alts for fault in description_faults(alt))


# ------------------------------------------------------------------------------------- headings

def headings(cells):
    """(level, text) of the headings of a notebook."""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            yield from ((len(marks), words) for marks, words in
                        re.findall(r"^ {0,3}(#{1,6})\s+(.+)", prose_of(text(cell)), re.M))


def prose_of(source):
    """A markdown text without its fenced code."""
    return re.sub(r"^(```|~~~).*?^\1", "", source, flags=re.M | re.S)


def heading_faults(cells):
    """Titles that are missing or twice there, and levels that are skipped."""
    found = list(headings(cells))
    titles = [words for level, words in found if level == 1]
    if len(titles) != 1 or found[0][0] != 1:
        yield f"one title must come first, and there are {len(titles)}"
    for (level, _), (following, words) in itertools.pairwise(found):
        if following > level + 1:
            yield f"{words!r} is at level {following}, right under level {level}"


# --------------------------------------------------------------------------------------- tables

class Headers(HTMLParser):
    """Which header cells each table of a piece of HTML has."""

    def __init__(self, content):
        super().__init__()
        self.tables, self.inside = [], False
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "th":
            self.inside = True
            if self.tables:
                self.tables[-1].append([dict(attributes).get("scope"), ""])

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "th"

    def handle_data(self, data):
        if self.inside and self.tables:
            self.tables[-1][-1][1] += data.strip()


def table_faults(content):
    """Tables in HTML whose columns a screen reader cannot name."""
    for number, cells in enumerate(Headers(content).tables, 1):
        if not cells:
            yield f"table {number} has no header cells"
        yield from (f"table {number}: header {words!r} has no scope" for scope, words in cells
                    if scope not in ("col", "row", "colgroup", "rowgroup"))
        if any(not words for _, words in cells):
            yield f"table {number} has an empty header cell"


def prose_table_faults(source):
    """Tables in Markdown with columns that have no name; the corner above the rows may be empty."""
    for header in re.findall(r"^[ ]*\|(.*)\|[ ]*\n[ ]*\|[-:| ]+\|[ ]*$", prose_of(source), re.M):
        if not all(name.strip() for name in header.split("|")[1:]):
            yield f"|{header}| leaves a column without a name"


def stored_html(cells):
    """All HTML that a notebook stores."""
    for cell in cells:
        for output in cell.get("outputs", ()):
            yield "".join(output.get("data", {}).get("text/html", ()))


# -------------------------------------------------------------------------------------- colours

# Two colours of the palette stand for two things, so everybody must tell them apart. matplotlib's
# petroff10, designed for colour-blind readers (Petroff 2021, arXiv:2107.02270), comes to 14.5 by
# the measure below; its default colours, which are not, to 1.6.
APART = 15
EYES = (None, "protanomaly", "deuteranomaly", "tritanomaly")
NON_TEXT, TEXT = 3, 4.5  # WCAG 2.2, success criteria 1.4.11 and 1.4.3
WHITE, LIGHT, DARK = (1, 1, 1), (1, 1, 1), (17 / 255,) * 3  # --jp-layout-color0 of both themes


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it, of red, green and blue up to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def rgb(colour):
    """Red, green and blue of a colour in any of CSS's notations."""
    from matplotlib.colors import to_rgb
    return to_rgb(colour)


def distances(colours, eye=None):
    """CAM02-UCS distance of any two colours, to a full dichromat where an eye is named."""
    import numpy as np
    from colorspacious import cspace_convert
    seen = np.array([rgb(colour) for colour in colours.values()])
    if eye:
        space = {"name": "sRGB1+CVD", "cvd_type": eye, "severity": 100}
        seen = np.clip(cspace_convert(seen, space, "sRGB1"), 0, 1)
    places = dict(zip(colours, cspace_convert(seen, "sRGB1", "CAM02-UCS")))
    return {pair: float(np.linalg.norm(places[pair[0]] - places[pair[1]]))
            for pair in itertools.combinations(colours, 2)}


def palette_faults(colours):
    """Colours that vanish on white, and pairs that some eyes cannot tell apart."""
    for name, colour in colours.items():
        if contrast(rgb(colour), WHITE) < NON_TEXT:
            yield f"{name} has a contrast of {contrast(rgb(colour), WHITE):.2f} with white"
    for eye in EYES:
        for pair, distance in distances(colours, eye).items():
            if distance < APART:
                yield f"{' and '.join(pair)} are {distance:.1f} apart to {eye or 'most'}"


COLOURLESS = ("none", "white", "black", "gray", "gray_r")  # told apart by lightness, by every eye


def own_colours(source):
    """Colours that drawing code names itself; the palette's were tested, these were not."""
    tree = parse(source)
    for call in ast.walk(tree) if tree else ():
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            said = getattr(keyword.value, "value", None)
            if (keyword.arg in ("color", "facecolor", "edgecolor", "markerfacecolor", "cmap")
                    and isinstance(said, str) and said not in COLOURLESS):
                yield f"{keyword.arg}={said!r} is not from PALETTE"


# ------------------------------------------------------------------- colours in HTML that we emit

OF_THE_THEME = re.compile(r"(inherit|currentcolor|transparent|none|unset|initial|revert"
                          r"|canvas|canvastext|graytext|linktext|buttonface|buttontext"
                          r"|var\(--jp-[\w-]+(,\s*(inherit|currentcolor|transparent))?\))$", re.I)
BLOCK = re.compile(r"\bstyle=([\"'])(?P<inline>.*?)\1|\{(?P<rule>[^{}]*:[^{}]*)\}", re.S)


def colour_faults(content):
    """Texts in HTML or CSS whose contrast hangs on the theme, or is too low in itself."""
    for block in BLOCK.finditer(content):
        said = dict(re.findall(r"(?:^|[;{\s])(color|background(?:-color)?)\s*:\s*([^;}]+)",
                               block["inline"] or block["rule"] or ""))
        front = said.get("color", "").strip()
        ground = (said.get("background-color") or said.get("background") or "").strip()
        own = [each for each in (front, ground) if each and not OF_THE_THEME.match(each)]
        if len(own) == 1:
            yield f"{own[0]} is fixed and the other side of the contrast follows the theme"
        if len(own) == 2 and contrast(rgb(front), rgb(ground)) < TEXT:
            yield f"{front} on {ground} has a contrast of {contrast(rgb(front), rgb(ground)):.1f}"


def emitted(source):
    """Strings of a module that hold HTML or CSS; of an f-string all fixed parts at once."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) not in parts:
            literal = literal_text(node)
            if literal and re.search(r"style=|color\s*:|background", literal):
                yield literal


# ----------------------------------------------------------------------------- the course itself

ALL = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in notebooks()]
TRANSLATED = [path for path in ALL if re.search(r"/(\d\d_\w+|index)\.ipynb$", path.id)
              and (ROOT / "nbs/locale/zh_CN" / path.id[4:]).with_suffix(".po").exists()]
FOR_PAPER = {"classroom/printing.py", "classroom/lesson_sheets.py"}  # always on white
MODULES = [name for name in modules() if name.as_posix() not in FOR_PAPER]


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("path", ALL)
def test_figures_say_what_they_show(path):
    assert list(figure_faults(cells_of(path))) == []


@pytest.mark.parametrize("path", TRANSLATED)
def test_figures_say_it_in_chinese_too(path):
    cells = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    alts = [alt for cell in cells for alt in [*stored_alts(cell), *written_alts(text(cell))]]
    set_language("zh")
    try:
        assert [alt for alt in alts if not is_chinese(translate(alt))] == []
    finally:
        set_language(None)


@pytest.mark.parametrize("path", TRANSLATED)
def test_chapters_show_figures_by_what_translates_them(path):
    """`show` translates the description with the figure; IPython's Image would not."""
    assert [number for number, cell in enumerate(cells_of(path)) if cell["cell_type"] == "code"
            and re.search(r"\bImage\(", text(cell))] == []


def is_chinese(words):
    """Whether a text has a Chinese character."""
    return re.search("[\u4e00-\u9fff]", words) is not None


@pytest.mark.parametrize("path", ALL)
def test_headings_are_in_order(path):
    assert list(heading_faults(cells_of(path))) == []


@pytest.mark.parametrize("path", ALL)
def test_tables_have_header_cells(path):
    assert [fault for html in stored_html(cells_of(path)) for fault in table_faults(html)] == []
    assert [fault for cell in cells_of(path) if cell["cell_type"] == "markdown"
            for fault in prose_table_faults(text(cell))] == []


@pytest.mark.parametrize("path", ALL)
def test_stored_html_is_readable_in_both_themes(path):
    assert [fault for html in stored_html(cells_of(path)) for fault in colour_faults(html)] == []


@pytest.mark.parametrize("name", MODULES, ids=str)
def test_emitted_html_is_readable_in_both_themes(name):
    source = (LIBRARY / name).read_text(encoding="utf-8")
    assert [fault for html in emitted(source) for fault in colour_faults(html)] == []


@pytest.mark.parametrize("path", ALL)
def test_notebooks_draw_with_the_palette(path):
    assert [fault for cell in cells_of(path) if cell["cell_type"] == "code"
            for fault in own_colours(text(cell))] == []


@pytest.mark.parametrize("name", MODULES, ids=str)
def test_modules_draw_with_the_palette(name):
    assert list(own_colours((LIBRARY / name).read_text(encoding="utf-8"))) == []


def test_the_palette_is_seen_by_all():
    assert list(palette_faults(PALETTE)) == []


# ------------------------------------------------------------------------- each rule can fail

def code(source="", tags=(), **data):
    outputs = [{"output_type": "display_data", "data": {kind.replace("_", "/"): "x"},
                "metadata": {kind.replace("_", "/"): {"alt": alt}}} for kind, alt in data.items()]
    return {"cell_type": "code", "source": source, "outputs": outputs,
            "metadata": {"tags": list(tags)}}


def prose(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


SENTENCE = "Depth rises from five layers in 1998 to over five hundred in 2024."


@pytest.mark.parametrize("cell, said", [
    (code(image_png="Depth over the years."), "has 4 words"),
    (code(image_png=""), "has 0 words"),
    (code(image_png="A plot of depth in layers against the year of the paper."), "begins with"),
    (code(image_png="Figure: depth in layers against the year of each paper."), "begins with"),
    (code("show(figure, alt='Bars by layer.')"), "has 3 words"),
    (code("display(Image(data, alt=f'Path lengths, longest {report.weighted}'))"), "has 4 words"),
    (prose("![](depth.svg)"), "has 0 words"), (prose("![depth](depth.svg)"), "has 1 words"),
    (prose("<img src='depth.svg'>"), "has 0 words"),
])
def test_a_figure_that_says_too_little_is_seen(cell, said):
    assert said in " ".join(figure_faults([cell]))


@pytest.mark.parametrize("cell", [
    code(image_png=SENTENCE), code(f"show(figure, alt={SENTENCE!r})"), code("show(f, alt=words)"),
    code("show(f, alt=f'{most} has most, {n} of all {total} parameters of it.')"),
    code("with pytest.raises(ValueError):\n    show(f, alt='plot')"),
    prose(f"![{SENTENCE}](depth.svg)"), prose(f"<img src='a.svg' alt='{SENTENCE}'>"),
])
def test_a_figure_that_says_enough_passes(cell):
    assert list(figure_faults([cell])) == []


@pytest.mark.parametrize("sources, said", [
    (["## No title"], "there are 0"), (["# One", "# Two"], "there are 2"),
    (["## Early", "# Late"], "must come first"), (["# T\n### Deep"], "'Deep' is at level 3"),
    (["# T", "## A", "#### B"], "'B' is at level 4"),
])
def test_headings_out_of_order_are_seen(sources, said):
    assert said in " ".join(heading_faults(map(prose, sources)))


def test_headings_in_order_pass():
    sources = ["# T\n\n## A", "### B\n```\n# a comment\n```", "## C", "### D"]
    assert list(heading_faults([*map(prose, sources), code("# T")])) == []


@pytest.mark.parametrize("html, said", [
    ("<table><tr><td>1</td></tr></table>", "no header cells"),
    ("<table><tr><th>a</th></tr></table>", "'a' has no scope"),
    ("<table><tr><th scope='col'></th></tr></table>", "empty header"),
    ("<table><th scope='col'>a</th></table><table></table>", "table 2 has no header cells"),
])
def test_a_table_without_names_for_its_columns_is_seen(html, said):
    assert said in " ".join(table_faults(html))


def test_a_table_in_prose_without_names_is_seen():
    assert "|x| | leaves a column" in " ".join(prose_table_faults("|x| |\n|---|---|\n|1|2|"))
    assert list(prose_table_faults("| | a |\n|---|--:|\n| b | |\n\n```\n| | |\n|-|-|\n```")) == []


def test_a_table_with_names_passes():
    from course_lib.core.tables import Table
    assert list(table_faults(Table(["layer", "count"], [["fc", 1290]], "T").to_html())) == []


OKABE_ITO = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "grey": "#6E6E6E"}


@pytest.mark.parametrize("colours, said", [
    (OKABE_ITO, "orange has a contrast of 2.25 with white"),
    (OKABE_ITO, "green and grey are 11.6 apart to deuteranomaly"),
    (OKABE_ITO, "blue and green are 11.7 apart to tritanomaly"),
    ({"red": "#d62728", "green": "#2ca02c"}, "red and green are"),
    ({"a": "#555555", "b": "#565656"}, "apart to most"),
])
def test_colours_that_some_cannot_see_are_seen(colours, said):
    assert said in " / ".join(palette_faults(colours))


def test_a_colour_from_elsewhere_is_seen():
    found = own_colours("axes.plot(x, color='gold')\naxes.bar(x, color=PALETTE['blue'])")
    assert list(found) == ["color='gold' is not from PALETTE"]


def test_other_palettes_by_the_same_measure():
    """What the threshold is worth: see the remark where it stands."""
    from matplotlib import rcParamsDefault, style
    cycles = [style.library["petroff10"], rcParamsDefault]
    colours = [dict(enumerate(each["axes.prop_cycle"].by_key()["color"])) for each in cycles]
    least = [min(min(distances(each, eye).values()) for eye in EYES) for each in colours]
    assert least == pytest.approx([14.5, 1.6], abs=0.05) and least[0] < APART


@pytest.mark.parametrize("html, said", [
    ('<p style="color: #333">', "follows the theme"),
    ('<p style="background:white">', "follows the theme"),
    ("<style>.a { color: red; }</style>", "follows the theme"),
    ('<p style="color:#777; background-color:#fff">', "#777 on #fff has a contrast of 4.5"),
    ('<p style="color:#999; background:#fff">', "#999 on #fff has a contrast of 2.8"),
])
def test_a_colour_that_hangs_on_the_theme_is_seen(html, said):
    assert said in " ".join(colour_faults(html))


@pytest.mark.parametrize("html", [
    '<p style="color:inherit">', '<p style="color: var(--jp-content-font-color1, inherit)">',
    '<p style="border-color:#6E6E6E">', '<p style="color:#000;background:#ffd">', "<p>",
    "<style>.a { padding: 1em; } .b { color: currentColor; }</style>",
    '<p style="text-align:left;white-space:nowrap">'])
def test_a_colour_that_follows_passes(html):
    assert list(colour_faults(html)) == []


def test_emitted_strings_are_found():
    source = "def f(x):\n    return f'<p style=\"color:#333\">{x}</p>' + '<b>'"
    assert list(emitted(source)) == ['<p style="color:#333">x</p>']


def test_chinese_is_told_from_english():
    assert is_chinese("深度 depth") and not is_chinese("depth") and len(TRANSLATED) >= 4


def test_contrast_is_that_of_the_standard():
    """Grey #767676 is the lightest that has 4.5:1 on white (WebAIM); black on white has 21."""
    assert contrast(rgb("#767676"), WHITE) >= 4.5 > contrast(rgb("#777777"), WHITE)
    assert contrast(rgb("black"), WHITE) == pytest.approx(21) and luminance(DARK) < 0.006
