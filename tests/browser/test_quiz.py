"""The quiz of a chapter, taken by keyboard alone, and what `course-lib status` then tells."""
import json
import os
import subprocess
import sys

import nbformat
import pytest
from reader import Reader, server, wait_for
from samples import KERNEL

from course_lib.classroom.questions import lettered, questions

CHAPTER = "06_parameters"
CELLS = ["1 + 1", f'from course_lib.classroom.quiz import quiz\nquiz("{CHAPTER}")', "2 + 2"]
FOCUSED = """() => {
  const element = document.activeElement, block = element.closest('.course-quiz-block');
  return [element.tagName, block === null ? null
          : [...document.querySelectorAll('.course-quiz-block')].indexOf(block)];
}"""


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A record of progress for this module alone."""
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def pages(tmp_path_factory, record):
    """JupyterLab over one notebook that shows the quiz."""
    root = tmp_path_factory.mktemp("quiz")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(notebook, root / "quiz.ipynb")
    with server(root, tmp_path_factory.mktemp("settings"), COURSE_DATA=str(record),
                COURSE_LANG="en") as address:
        yield address


@pytest.fixture
def taker(chromium, pages):
    """Somebody without a mouse, in front of the quiz."""
    page = chromium.new_page(viewport={"width": 1200, "height": 1400})
    reader = Reader(page, pages)
    reader.open_and_run("quiz.ipynb")
    page.wait_for_selector(".course-quiz button")
    yield Taker(page)
    page.close()
    assert reader.outside == []


class Taker:
    """Keys, and what they lead to."""

    def __init__(self, page):
        self.page = page

    def press(self, *keys):
        """Press keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self):
        """(tag, number of the question) of what has the focus."""
        return tuple(self.page.evaluate(FOCUSED))

    def enter_quiz(self):
        """Tab from the notebook's cells to the first control of the quiz."""
        self.page.locator(".jp-Notebook .jp-Cell").first.focus()
        for _ in range(40):
            self.press("Tab")
            if self.focused() == ("INPUT", 0) or self.focused()[1] == 0:
                return
        raise AssertionError("Tab never leads to the quiz")

    def verdict(self, number, symbol):
        """The verdict under a question, once it shows a symbol."""
        verdict = self.page.locator(".course-quiz-block").nth(number).locator("[role=alert]")
        wait_for(lambda: verdict.count() and symbol in verdict.inner_text(), 20,
                 f"{symbol} under question {number + 1}")
        return verdict.inner_text()

    def choose(self, question, letter):
        """Choose by arrows, from wherever the group's focus is."""
        letters = list(lettered(question))
        self.press("Space")
        for _ in letters:
            at = self.page.evaluate("document.activeElement.value")
            if letters[int(at)] == letter:
                self.page.wait_for_timeout(200)  # nobody is on the button sooner than that
                return
            self.press("ArrowDown")

    def place(self, order):
        """Give each item its place in lists, the focus on the first of them."""
        for place in order:
            self.press("Home", *["ArrowDown"] * place, "Tab")


def plain(markdown):
    """A text without marks and spaces, to find it on a page."""
    return "".join(letter for letter in markdown if letter.isalnum())


def right_letter(question, right=True):
    """A letter of the option that is right, or of one that is not."""
    texts = [option["text"] for option in question["options"] if option["right"] is right]
    return next(letter for letter, text in lettered(question).items() if text == texts[0])


def reason(question, right=True):
    """The reason that such an answer must bring up."""
    return next(option["reason"] for option in question["options"] if option["right"] is right)


def status(record):
    """What `course-lib status --json` tells about the chapter, in a process of its own."""
    command = [sys.executable, "-m", "course_lib.classroom.command_line", "status", "--json"]
    environment = {**os.environ, "COURSE_DATA": str(record)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    chapters = json.loads(said.stdout)["chapters"]
    return next(each for each in chapters if each["chapter"] == CHAPTER)


def take(taker, number, question):
    """Answer one question wrongly, then rightly, and see why; the focus is on its control."""
    assert taker.focused()[1] == number
    if question["kind"] == "choice":
        taker.choose(question, right_letter(question, right=False))
        taker.press("Tab", "Enter")
        assert plain(reason(question, right=False)) in plain(taker.verdict(number, "✗"))
        taker.press("Shift+Tab")
        taker.choose(question, right_letter(question))
        taker.press("Tab", "Space")
        said, why = taker.verdict(number, "✓"), reason(question)
    elif question["kind"] == "number":
        taker.page.keyboard.type("-123456789")
        taker.press("Enter")
        assert "too small" in taker.verdict(number, "✗")
        taker.press("ControlOrMeta+a")
        taker.page.keyboard.type(f"{question['answer']:,}")
        taker.press("Enter")
        said, why = taker.verdict(number, "✓"), question["reason"]
        taker.press("Tab")
    else:
        items = list(lettered(question).values())
        taker.place(range(1, len(items) + 1))
        taker.press("Enter")
        assert "stand in their place" in taker.verdict(number, "✗")
        taker.press(*["Shift+Tab"] * len(items))
        taker.place([question["items"].index(item) + 1 for item in items])
        taker.press("Enter")
        said, why = taker.verdict(number, "✓"), question["reason"]
    assert plain(why) in plain(said) or "$" in why
    assert taker.focused() == ("BUTTON", number), "the focus stays where the answer was given"


def test_the_quiz_by_keyboard_alone(taker, record, tmp_path):
    asked = questions(CHAPTER)
    before = status(record)
    assert before["right"] == 0 and before["questions"] == len(asked)
    taker.enter_quiz()
    for number, question in enumerate(asked):
        take(taker, number, question)
        taker.press("Tab")
    score = taker.page.locator(".course-quiz [role=status]")
    full = f"Your score: {len(asked)} of {len(asked)} right, 0 at the first attempt."
    wait_for(lambda: score.inner_text() == full, 20, full)
    taker.page.screenshot(path=str(tmp_path / "quiz.png"))
    after = status(record)
    assert after["right"] == len(asked) and after["last"] is not None


def test_each_control_has_a_name_and_each_question_is_a_group(taker):
    page = taker.page
    wait_for(lambda: page.locator(".course-quiz [role=radiogroup]").count(), 20, "radio groups")
    for number, question in enumerate(questions(CHAPTER), 1):
        group = page.get_by_role("group", name=f"Question {number} of")
        assert group.count() == 1
        assert group.get_by_role("button", name=f"Answer question {number}").count() == 1
        if question["kind"] == "choice":
            assert group.get_by_role("radiogroup", name=f"Question {number} of").count() == 1
            assert group.get_by_role("radio").count() == len(question["options"])
        elif question["kind"] == "number":
            assert group.get_by_role("textbox", name="Your number:").count() == 1
        else:
            for item in question["items"]:
                assert group.get_by_role("combobox", name=item.replace("`", "")).count() == 1


def test_keys_of_the_notebook_still_work_outside_the_quiz(taker):
    taker.enter_quiz()
    cells = taker.page.locator(".jp-Cell").count()
    taker.press("a", "b", "x")  # in a notebook: add a cell above, add one below, cut
    assert taker.page.locator(".jp-Cell").count() == cells
    taker.page.locator(".jp-Notebook .jp-Cell").last.focus()
    taker.press("b")
    wait_for(lambda: taker.page.locator(".jp-Cell").count() == cells + 1, 10, "a new cell")
