"""A class's report: every number by hand, bad files named, names escaped, pages accessible."""
import csv
import io
import json
import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest

from course_lib.classroom import report as report_module
from course_lib.classroom.progress import export, record
from course_lib.classroom.questions import lettered, questions
from course_lib.classroom.report import class_report, read_class
from course_lib.core.messages import set_language

EIGHT = datetime(2026, 3, 2, 8, tzinfo=timezone.utc)


def event(student, minute, name, state, kind="check", **details):
    """One line of a student's file."""
    return {"id": f"{student}-{name}-{minute}", "kind": kind, "chapter": "06_parameters",
            "time": (EIGHT + timedelta(minutes=minute)).isoformat(), "name": name, "state": state,
            **details}


def hand_in(folder, student, *found):
    """What a student exported."""
    path = folder / f"{student}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"format": "course-lib progress", "version": 1, "events": len(found)}
    lines = [json.dumps(line, ensure_ascii=False) for line in (head, *found)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def hand_ins(tmp_path):
    """Three students."""
    folder = tmp_path / "hand-ins"
    hand_in(folder, "ada", event("ada", 0, "lenet", "right"),
            event("ada", 4, "image", "right", kind="quiz"))
    hand_in(folder, "ben", event("ben", 0, "lenet", "wrong", message="the bias"),
            event("ben", 6, "lenet", "wrong", message="the bias"),
            event("ben", 9, "lenet", "wrong", message="a whole number"),
            event("ben", 10, "lenet", "right"),
            event("ben", 60, "image", "wrong", kind="quiz", answer="c"))
    hand_in(folder, "李雷", event("li", 0, "lenet", "wrong", message="a whole number"),
            event("li", 2, "lenet", "wrong", message="the bias"))
    return folder


def rows(table, key):
    """The rows of a table by one of their columns."""
    return {dict(zip(table.headers, row))[key]: dict(zip(table.headers, row)) for row in table.rows}


# ---- numbers ----------------------------------------------------------------------------------

def test_one_row_a_question(hand_ins):
    found = rows(class_report(hand_ins).questions, "question")
    assert found["lenet"] == {
        "chapter": "06_parameters", "question": "lenet", "kind": "exercise", "students": 3,
        "attempts": 7, "right at first": 1, "solved": 2, "most often refused for": "the bias",
        "median minutes": 6.0}  # ben's 10 and li's 2: how long ada took is unknown
    assert found["image"]["kind"] == "quiz" and found["image"]["most often refused for"] == "c"
    assert (found["image"]["students"], found["image"]["solved"]) == (2, 1)
    assert found["image"]["median minutes"] == 4.0, "ben's pause of 50 minutes is no work"


def test_one_row_a_student(hand_ins):
    found = rows(class_report(hand_ins).students, "student")
    assert [*found] == ["ada", "ben", "李雷"]
    assert found["ben"] == {"student": "ben", "exercises solved": 1, "quiz right": 0,
                            "attempts": 5, "minutes": 10.0, "last seen": "2026-03-02"}
    assert found["ada"]["quiz right"] == 1


def test_a_wrong_option_is_told_by_its_text(tmp_path):
    asked = next(each for each in questions("06_parameters") if each["kind"] == "choice")
    letter, text = next(iter(lettered(asked).items()))
    hand_in(tmp_path, "ada", event("ada", 0, asked["name"], "wrong", kind="quiz", answer=letter))
    assert class_report(tmp_path).questions.rows[0][7] == text


def test_a_report_in_chinese_keeps_its_values(hand_ins):
    english = class_report(hand_ins).to_dict()
    set_language("zh")
    try:
        chinese = class_report(hand_ins)
        assert chinese.to_dict() == english
        assert '<html lang="zh-CN">' in chinese.to_html()
    finally:
        set_language(None)


def test_solving_twice_counts_once(tmp_path):
    hand_in(tmp_path, "ada", event("ada", 0, "lenet", "right"), event("ada", 1, "lenet", "right"))
    assert rows(class_report(tmp_path).students, "student")["ada"]["exercises solved"] == 1


def test_the_first_attempt_is_the_earliest_and_not_the_first_line(tmp_path):
    hand_in(tmp_path, "ada", event("ada", 5, "lenet", "right"), event("ada", 0, "lenet", "wrong"))
    assert rows(class_report(tmp_path).questions, "question")["lenet"]["right at first"] == 0


def test_times_of_other_zones_are_one_clock(tmp_path):
    late = {**event("ada", 0, "lenet", "right"), "id": "late",
            "time": "2026-03-02T16:05:00+08:00"}
    hand_in(tmp_path, "ada", late, event("ada", 0, "lenet", "wrong"))
    assert rows(class_report(tmp_path).questions, "question")["lenet"]["median minutes"] == 5


def test_a_file_of_this_library(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    record("check", "06_parameters", "lenet5_by_hand", "wrong", message="the bias")
    (tmp_path / "class").mkdir()
    export(tmp_path / "class" / "ada.jsonl")
    assert rows(class_report(tmp_path / "class").questions, "question")["lenet5_by_hand"][
        "most often refused for"] == "the bias"


# ---- files ------------------------------------------------------------------------------------

def test_bad_files_are_named_and_the_others_go_on(hand_ins):
    (hand_ins / "cyd.jsonl").write_bytes(b"\x89PNG\r\n")
    (hand_ins / "dan.docx").write_text("I did it all")
    (hand_ins / ".DS_Store").write_text("nothing")
    (hand_ins / "empty.jsonl").write_bytes(b"")
    report = class_report(hand_ins)
    assert len(report.students.rows) == 3
    assert {*report.set_aside} == {"cyd.jsonl", "dan.docx", "empty.jsonl"}
    assert "Left out: 'cyd.jsonl' holds no progress" in str(report)
    assert "cyd.jsonl" in report.to_html()


def test_damaged_lines_cost_those_lines(hand_ins):
    path = hand_ins / "ada.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "torn')
    assert rows(class_report(hand_ins).students, "student")["ada"]["attempts"] == 2


def test_the_same_events_twice_count_once(hand_ins):
    early = hand_in(hand_ins, "ada-early", event("ada", 0, "lenet", "right"))
    assert early.exists()
    (hand_ins / "copied.jsonl").write_bytes((hand_ins / "ben.jsonl").read_bytes())
    report = class_report(hand_ins)
    assert len(report.students.rows) == 3
    assert report.set_aside == {
        "ada-early.jsonl": "all events of ada-early.jsonl stand in ada.jsonl too",
        "copied.jsonl": "all events of copied.jsonl stand in ben.jsonl too"}


def test_a_folder_for_each_student(tmp_path):
    for student in ("ada", "ben"):
        hand_in(tmp_path / student, "progress", event(student, 0, "lenet", "right"))
    hand_in(tmp_path / "deep" / "er", "far", event("far", 0, "lenet", "right"))
    assert {*read_class(tmp_path)[0]} == {"ada/progress", "ben/progress"}


def test_many_bad_files_do_not_bury_the_table(hand_ins):
    for number in range(50):
        (hand_ins / f"x{number}.txt").write_text("x")
    assert str(class_report(hand_ins)).count("Left out") == 20
    assert "30 more files were left out." in str(class_report(hand_ins))


def test_nothing_to_report(tmp_path):
    with pytest.raises(ValueError, match="holds no exported progress: students write it with"):
        class_report(tmp_path)
    with pytest.raises(NotADirectoryError, match="is no folder"):
        class_report(tmp_path / "nowhere")


# ---- what is written --------------------------------------------------------------------------

class Page(HTMLParser):
    """What matters of a page: its tags, and the texts of its cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag if tag in ("td", "th", "caption", "h1") else self.open

    def handle_data(self, data):
        if self.open:
            self.cells.append((self.open, data))

    def handle_endtag(self, tag):
        self.open = None if tag == self.open else self.open


def test_the_page_is_accessible(hand_ins):
    page = Page(class_report(hand_ins).to_html())
    tags = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags and tags.count("h1") == 1 and "main" in tags
    assert tags.count("table") == tags.count("caption") == 2 and "title" in tags
    heads = [attrs["scope"] for tag, attrs in page.tags if tag == "th"]
    assert heads.count("col") == 9 + 6 and heads.count("row") == 2 + 3
    named = [text for tag, text in page.cells if tag == "th"]
    assert {"lenet", "image", "ada", "李雷"} <= {*named}


def test_the_page_needs_nothing_from_outside_and_prints(hand_ins):
    html = class_report(hand_ins).to_html()
    assert not re.search(r"https?:|<script|<link|url\(|@import", html)
    assert "@media print" in html and "table-header-group" in html
    assert "color-scheme: light dark" in html
    colours = re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(", html)
    assert colours == [], "the system's own colours, whose contrast the reader has chosen"


def test_names_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    hand_in(tmp_path, "eve", event("e", 0, evil, "wrong", message="<b onclick='x'>"),
            {**event("e", 1, "x", "wrong"), "chapter": "\"><img src=x>"})
    html = class_report(tmp_path).to_html()
    assert "<script" not in html and "<img" not in html and "<b onclick" not in html
    assert "&lt;script&gt;" in html


def test_csv_opens_in_a_spreadsheet(hand_ins, tmp_path):
    hand_in(hand_ins, "=cmd|'calc'!A1", event("eve", 0, "@SUM(1)", "wrong", message="+1"))
    questions, students, _ = class_report(hand_ins).write(tmp_path / "out")
    assert students.read_bytes().startswith(b"\xef\xbb\xbf")
    read = list(csv.DictReader(io.StringIO(students.read_text(encoding="utf-8-sig"))))
    assert [row["student"] for row in read] == ["'=cmd|'calc'!A1", "ada", "ben", "李雷"]
    assert read[2]["minutes"] == "10.0" and b"\r" not in students.read_bytes()
    found = list(csv.DictReader(io.StringIO(questions.read_text(encoding="utf-8-sig"))))
    assert not any(cell[:1] in "=+@" for row in found for cell in row.values() if cell)


def test_files_are_written_whole_or_not_at_all(hand_ins, tmp_path, monkeypatch):
    report = class_report(hand_ins)
    report.write(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {*before} == {"questions.csv", "students.csv", "report.html"}

    def fails(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(report_module, "write_atomically", fails)
    with pytest.raises(OSError, match="No space"):
        report.write(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_report_may_lie_among_the_hand_ins(hand_ins):
    first = class_report(hand_ins)
    first.write(hand_ins)
    first.write(hand_ins / "report")
    second = class_report(hand_ins)
    assert second.set_aside == {} and second.to_dict() == first.to_dict()


def test_as_data(hand_ins):
    values = json.loads(class_report(hand_ins).to_json())
    assert {*values} == {"questions", "students", "set_aside"}
    assert values["questions"][0]["solved"] == 2
    assert list(class_report(hand_ins).to_dataframe()["attempts"]) == [7, 2]
