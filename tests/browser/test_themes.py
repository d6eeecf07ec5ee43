"""What the course shows in a notebook has a contrast of 4.5:1 in JupyterLab's light and dark."""
import json
from urllib.request import Request, urlopen

import nbformat
import pytest
from reader import TOKEN
from samples import KERNEL

from course_lib.classroom.report import ClassReport
from course_lib.core.tables import Table

ENOUGH = 4.5  # WCAG 2.2, success criterion 1.4.3
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
SETTING = "@jupyterlab/apputils-extension:themes"
CELLS = {
    "table": """
from course_lib.core.tables import Table
Table(["layer", "count"], [["fc", 1290], ["x" * 50, None]], "A small network", ["total 1,290"])""",
    "checks": """
from IPython.display import display
from course_lib.classroom.exercises import CheckResult, Reply, Solution, exercises
task = exercises("06_parameters")[0]
for state in ("not attempted", "wrong", "right"):
    display(CheckResult(task, state, ("is a whole number",), "Look at `n` again."))""",
    "hints": """
from course_lib.classroom.exercises import hints, show_solution
display(hints(task.name), hints(task.name), show_solution(task.name, give_up=True))""",
    "progress": """
from course_lib.classroom.progress import status
status()""",
    "glossary": """
from course_lib.classroom.terms import glossary_table
glossary_table()""",
    "quiz": """
from course_lib.classroom.quiz import quiz
quiz("06_parameters")""",
    "pale": """
from IPython.display import HTML
HTML('<p style="color: #888">This is too pale in light and too dark for nobody.</p>'
     '<p style="color: #505050">This is too dark in dark.</p>'
     '<p style="opacity: 0.4">This lets its ground through.</p>')""",
}
# The contrast of each text in the outputs of a cell with what lies behind it.
MEASURE = """cell => {
  const parse = colour => {
    const found = colour.match(/^rgba?\\(([\\d.]+), ([\\d.]+), ([\\d.]+)(?:, ([\\d.]+))?\\)$/);
    if (!found) throw new Error('a colour of another kind: ' + colour);
    return [1, 2, 3, 4].map(place => Number(found[place] ?? 1));
  };
  const over = (front, back) => [0, 1, 2].map(c => front[3] * front[c] + (1 - front[3]) * back[c]);
  const luminance = colour => {
    const linear = colour.map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ancestors = element => element ? [element, ...ancestors(element.parentElement)] : [];
  const canvas = document.body.appendChild(document.createElement('div'));
  canvas.style.backgroundColor = 'Canvas';  // what lies behind a page that has no colour
  const paper = parse(getComputedStyle(canvas).backgroundColor).slice(0, 3);
  canvas.remove();
  const ground = element => ancestors(element).reverse()
    .map(each => parse(getComputedStyle(each).backgroundColor))
    .reduce((back, front) => over(front, back), paper);
  const measured = [];
  for (const output of cell.querySelectorAll('.jp-OutputArea-output, main')) {
    const walker = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
      const unseen = 'style, script, :disabled, pre code span';  // the last: JupyterLab's syntax
      const hidden = !element.getClientRects().length || element.closest(unseen);
      if (!text || hidden) continue;
      const back = ground(element), front = parse(getComputedStyle(element).color);
      const opacity = ancestors(element).reduce(
        (product, each) => product * Number(getComputedStyle(each).opacity), 1);
      const seen = over([...front.slice(0, 3), front[3] * opacity], back);
      const [low, high] = [luminance(seen), luminance(back)].sort((a, b) => a - b);
      measured.push([text.slice(0, 60), (high + 0.05) / (low + 0.05), seen.join(), back.join()]);
    }
  }
  return measured;
}"""


def ask(address, path, content):
    """Send JSON to the server."""
    request = Request(f"{address}{path}", json.dumps(content).encode(), method="PUT", headers={
        "Authorization": f"token {TOKEN}", "Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status < 300


@pytest.fixture(scope="module")
def sample(address):
    """A notebook that shows one of each, on the server; its theme is the light one afterwards."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    ask(address, "/api/contents/themes.ipynb", {"type": "notebook", "content": notebook})
    yield "themes.ipynb"
    ask(address, f"/lab/api/settings/{SETTING}", {"raw": "{}"})


@pytest.fixture(params=THEMES)
def shown(request, reader, sample, tmp_path):
    """(theme, contrasts by the name of the cell) after the sample has run in a theme."""
    setting = {"theme": THEMES[request.param], "adaptive-theme": False}
    ask(reader.address, f"/lab/api/settings/{SETTING}", {"raw": json.dumps(setting)})
    reader.open_and_run(sample)
    page = reader.page
    dark = page.evaluate("document.body.dataset.jpThemeLight") == "false"
    assert dark == (request.param == "dark"), "the theme did not change"
    page.wait_for_selector(".course-quiz input[type=radio]")
    page.locator(".course-quiz input[type=radio]").first.click()
    page.locator(".course-quiz button").first.click()
    page.wait_for_selector(".course-quiz-verdict")
    reader.photograph(tmp_path / f"{request.param}.png")
    found = page.locator(".jp-CodeCell").evaluate_all(f"cells => cells.map({MEASURE})")
    return request.param, dict(zip(CELLS, found))


def test_every_text_stands_out_in_both_themes(shown):
    theme, contrasts = shown
    for name, texts in contrasts.items():
        assert texts, f"the cell with the {name} shows no text"
        if name != "pale":
            assert [text for text in texts if text[1] < ENOUGH] == [], f"{name}, {theme}"
    expected = {"light": [False, True, False], "dark": [True, False, False]}[theme]
    assert [text[1] >= ENOUGH for text in contrasts["pale"]] == expected  # the measure can fail


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_for_a_class_follows_the_scheme_of_its_reader(chromium, scheme):
    report = ClassReport(Table(["name", "right"], [["lenet5_by_hand", 3]], "By question"),
                         Table(["student", "right"], [["Ada", 1]], "By student"), {"x": "empty"})
    page = chromium.new_page(color_scheme=scheme)
    page.set_content(report.to_html())
    texts = page.evaluate(f"({MEASURE})(document.body)")
    page.close()
    assert {"lenet5_by_hand", "Ada"} <= {text[0] for text in texts}
    assert [text for text in texts if text[1] < ENOUGH] == []
    grounds = {text[3] for text in texts}
    assert (grounds == {"255,255,255"}) == (scheme == "light")
