"""Lesson sheets: plans that fill the hour, every exercise and question answered, fit to print."""
import json
import re
import subprocess

import make
import pytest
from course_lib.classroom.exercises import exercises
from course_lib.classroom.lesson_sheets import lesson_sheet, lessons, question_part, write_sheets
from course_lib.classroom.printing import prose
from course_lib.classroom.questions import lettered, questions
from course_lib.core import messages
from test_printing import check_page

CHAPTERS = sorted(lessons())


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    """The folder of all sheets, in English."""
    folder = tmp_path_factory.mktemp("teacher")
    written = write_sheets(make.NOTEBOOKS, folder)
    assert [path.name for path in written] == [
        f"{chapter}.{kind}" for chapter in CHAPTERS for kind in ("md", "html")]
    return folder


def text(sheets, chapter):
    return (sheets / f"{chapter}.md").read_text(encoding="utf-8")


def test_every_chapter_with_exercises_has_a_lesson():
    assert {each.chapter for each in exercises()} == set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_plan_fills_its_minutes(chapter):
    lesson = lessons()[chapter]
    for plan, whole in ((lesson.plan_45, 45), (lesson.plan_90, 90)):
        assert sum(minutes for minutes, _ in plan) == whole
        assert all(isinstance(minutes, int) and minutes > 0 and what for minutes, what in plan)
    assert lesson.goal and all(what and why for what, why in lesson.notes)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_is_answered(sheets, chapter):
    sheet = text(sheets, chapter)
    for each in exercises(chapter):
        assert f"· {each.title}\n" in sheet and each.solution.strip() in sheet
        for wrong in each.wrong_answers:
            assert f"| {wrong.name} |".replace("\n", " ") in sheet
        assert all(hint in sheet for hint in each.hints)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_question_is_answered(sheets, chapter):
    sheet = text(sheets, chapter)
    asked = [each for each in questions() if each["chapter"] == chapter]
    assert asked
    for number, question in enumerate(asked, 1):
        part = sheet.split(f"**{number}.** {question['question']}")[1]
        part = part.split(f"\n\n**{number + 1}.")[0]
        right = part.strip().splitlines()[0]
        assert right.startswith("- **") and reasons(question)[0] in right
        assert all(reason in part for reason in reasons(question))


def reasons(question):
    """Every reason of a question, that of the right answer first."""
    options = sorted(question.get("options", ()), key=lambda option: not option["right"])
    more = [each["reason"] for each in (*options, *question.get("wrong", ()))]
    return ([question["reason"]] if "reason" in question else []) + more


def test_the_right_answer_has_the_letter_that_students_see():
    for question in questions():
        answer = re.search(r"- \*\*(.*?)[*)]", question_part(1, question))[1]
        if question["kind"] == "choice":
            right, = (option["text"] for option in question["options"] if option["right"])
            assert lettered(question)[answer] == right
        if question["kind"] == "order":
            assert [lettered(question)[letter] for letter in answer.split()] == question["items"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_sheet_prints(sheets, chapter):
    page = (sheets / f"{chapter}.html").read_text(encoding="utf-8")
    structure = check_page(page)
    assert structure.headings.count(2) == 6
    tables = re.findall(r"<table.*?</table>", page, re.S)
    assert len(tables) == 3 + len(exercises(chapter))
    assert all(table.count("<th>") == len(re.findall("<td", table.split("</tr>")[1]))
               for table in tables)


def test_a_bar_in_a_cell_opens_no_column():
    lesson = next(iter(lessons().values()))
    changed = type(lesson)(lesson.chapter, "goal", ((45, "a | b\nc"),), ((90, "x"),))
    page = prose(lesson_sheet(changed, "x"))
    assert "<td>a | b c</td>" in page


def test_a_sheet_speaks_the_teachers_language(tmp_path, monkeypatch):
    chinese = {"Goal": "目标", "Plan for 45 minutes": "45 分钟教案",
               lessons()[CHAPTERS[0]].goal: "学生能说出深度的定义。"}
    monkeypatch.setattr(messages, "_catalogue", lambda name: chinese if name == "zh_CN" else {})
    messages._look_up.cache_clear()
    messages._templates.cache_clear()
    messages.set_language("zh")
    try:
        sheet = lesson_sheet(lessons()[CHAPTERS[0]], "05 · 深度")
    finally:
        messages.set_language(None)
        messages._look_up.cache_clear()
        messages._templates.cache_clear()
    assert "## 目标\n\n学生能说出深度的定义。\n\n## 45 分钟教案" in sheet
    assert re.search(r"(?m)^- \*\*.+\*\*：", sheet)
    assert not re.search(r"(?m)^- \*\*.+?\*\*: ", sheet)


def test_a_chapter_without_a_lesson_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'01_models' has no lesson: choose from 0"):
        write_sheets(make.NOTEBOOKS, tmp_path, "01_models")


def test_sheets_are_in_no_copy_and_no_package():
    folders = ["teacher/", "print/", "work/"]
    ignored = subprocess.run(["git", "check-ignore", *folders], cwd=make.ROOT, capture_output=True,
                             text=True)
    if ignored.returncode != 128:  # no git here: an unpacked archive
        assert ignored.stdout.split() == folders
    for path in make.NOTEBOOKS.rglob("*.ipynb"):
        if not {"classroom", "core"} & set(path.relative_to(make.NOTEBOOKS).parts):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            assert not any("lesson_sheets" in "".join(cell["source"]) for cell in cells)
