"""Quizzes: every file sound, every answer read and judged, nothing given away."""
import copy
import inspect
import json
import re
from decimal import Decimal

import pytest

from course_lib.classroom import questions as questions_module
from course_lib.classroom import quiz as quiz_module
from course_lib.classroom.progress import events
from course_lib.classroom.questions import (
    _files, judge, lettered, questions, quiz_faults, read_number)
from course_lib.classroom.quiz import Quiz, answer, quiz
from course_lib.core.messages import set_language

SIDES = {"name": "square_q_sides", "kind": "choice", "chapter": "00_square",
         "question": "A side doubles. What does the *area* do?",
         "options": [{"text": "It doubles.", "right": False, "reason": "That is the border."},
                     {"text": "It quadruples.", "right": True, "reason": "Two times two."},
                     {"text": "It stays as `large` as it was.", "right": False, "reason": "Draw."}]}
AREA = {"name": "square_q_area", "kind": "number", "chapter": "00_square", "unit": "cells",
        "question": "How many cells has 1,234 times 1,234?", "answer": 1522756,
        "computed": "1234 ** 2", "reason": "Rows times columns.",
        "wrong": [{"value": 4936, "reason": "That is the border."}]}
SHARE = {"name": "square_q_share", "kind": "number", "chapter": "00_square",
         "question": "Which part?", "answer": 0.31, "tolerance": 0.005, "computed": "31 / 100",
         "reason": "Count."}
SIZES = {"name": "square_q_sizes", "kind": "order", "chapter": "00_square",
         "question": "The smallest first.", "items": ["side", "area", "border"],
         "reason": "3, 9, 12."}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty record for each test."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))


@pytest.fixture
def squares(monkeypatch):
    """A course whose only chapter is about squares."""
    asked = [SIDES, AREA, SIZES]
    monkeypatch.setattr(quiz_module, "questions", lambda chapter=None: asked)
    return asked


# ---- the files --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def scope():
    """What an author's expression may name."""
    import numpy
    import torch

    import course_lib
    face = {name: getattr(course_lib, name) for name in course_lib.__all__}
    return {**face, "course_lib": course_lib, "torch": torch, "nn": torch.nn, "np": numpy}


@pytest.mark.parametrize("chapter", _files())
def test_a_quiz_file_is_sound(chapter):
    quiz = json.loads(_files()[chapter].read_text(encoding="utf-8"))
    assert quiz["chapter"] == chapter
    assert quiz_faults(quiz) == []


@pytest.mark.slow
@pytest.mark.parametrize("chapter", _files())
def test_every_number_is_what_its_expression_gives(chapter, scope):
    quiz = json.loads(_files()[chapter].read_text(encoding="utf-8"))
    assert quiz_faults(quiz, scope=scope) == []


def test_the_chapters_of_issue_3_have_a_quiz():
    assert {"05_depth", "06_parameters"} <= {*_files()}


def test_names_are_unique_over_the_course():
    names = [question["name"] for question in questions()]
    assert len(names) == len({*names}) and names


def test_the_right_option_is_not_always_at_the_same_place():
    choices = [question for question in questions() if question["kind"] == "choice"]
    places = [list(lettered(question).values()).index(text) for question in choices
              for text in (questions_module._right_text(question),)]
    assert max(map(places.count, places)) <= 0.6 * len(places)


@pytest.mark.parametrize("question", questions(), ids=lambda question: question["name"])
def test_every_answer_has_its_reason(question):
    letters = list(lettered(question))
    if question["kind"] == "choice":
        verdicts = [judge(question, letter) for letter in letters]
        assert sorted(v.state for v in verdicts) == ["right"] + ["wrong"] * (len(letters) - 1)
        assert {v.message for v in verdicts} == {o["reason"] for o in question["options"]}
    elif question["kind"] == "number":
        assert judge(question, question["answer"]).state == "right"
        for wrong in question.get("wrong", ()):
            assert judge(question, wrong["value"]).message == wrong["reason"]
    else:
        assert judge(question, question["items"]).state == "right"
        assert judge(question, letters).state == "wrong", "the order shown is not the answer"


# ---- what authors are told --------------------------------------------------------------------

def sound():
    """A quiz without a fault."""
    extra = {**copy.deepcopy(SIDES), "name": "square_q_corners"}
    extra["options"][1]["text"] = "It is now four times as large as before, or more."
    numbers = {**copy.deepcopy(AREA), "name": "square_q_other"}
    asked = [copy.deepcopy(each) for each in (SIDES, extra, AREA, SIZES, numbers)]
    for question in asked:
        question.pop("chapter", None)
    return {"chapter": "00_square", "questions": asked}


def test_a_sound_quiz_has_no_faults():
    assert quiz_faults(sound(), scope={}) == []


@pytest.mark.parametrize("change, said", [
    (lambda quiz: quiz["questions"].pop(), "is too short"),
    (lambda quiz: quiz["questions"].extend(quiz["questions"]), "is too long"),
    (lambda quiz: quiz.update(title="Squares"), "title"),
    (lambda quiz: quiz["questions"][0].update(kind="essay"), "essay"),
    (lambda quiz: quiz["questions"][0].pop("options"), "'options' is a required property"),
    (lambda quiz: quiz["questions"][0]["options"][0].pop("reason"), "'reason' is a required"),
    (lambda quiz: quiz["questions"][0]["options"].pop(), "is too short"),
    (lambda quiz: quiz["questions"][0]["options"][0].update(right=True), "Too many"),
    (lambda quiz: quiz["questions"][0]["options"][1].update(right=False), "does not contain"),
    (lambda quiz: quiz["questions"][0].update(name="Square Sides"), "does not match"),
    (lambda quiz: quiz["questions"][0].update(question=" "), "does not match"),
    (lambda quiz: quiz["questions"][2].update(answer="12"), "is not of type 'number'"),
    (lambda quiz: quiz["questions"][2].pop("computed"), "'computed' is a required"),
    (lambda quiz: quiz["questions"][3].update(items=["a", "b", "a"]), "non-unique"),
    (lambda quiz: quiz["questions"][2].update(answer=1522757), "1234 ** 2 is 1522756"),
    (lambda quiz: quiz["questions"][2]["wrong"][0].update(value=1522756), "counts as right"),
    (lambda quiz: quiz["questions"][2]["wrong"].append(quiz["questions"][2]["wrong"][0]),
     "two wrong values are the same"),
    (lambda quiz: quiz["questions"][0]["options"][0].update(text="it QUADRUPLES"), "say the same"),
    (lambda quiz: quiz["questions"][3].update(items=["Side", "side.", "area"]), "say the same"),
    (lambda quiz: quiz["questions"][4].update(name="square_q_area"), "two questions have one name"),
    (lambda quiz: quiz["questions"].__setitem__(3, {**quiz["questions"][2], "name": "new_q"}),
     "no question of the kind order"),
    (lambda quiz: quiz["questions"][0]["options"][1].update(text="It is " + "far " * 20 + "more."),
     "longest in square_q_sides, square_q_corners"),
])
def test_a_fault_is_named(change, said):
    quiz = sound()
    change(quiz)
    assert said in " ".join(quiz_faults(quiz, scope={}))


def test_expressions_are_evaluated_only_where_names_are_given(tmp_path):
    quiz = sound()
    quiz["questions"][2]["computed"] = f"open({str(tmp_path / 'x')!r}, 'w').write('') or 1522756"
    quiz_faults(quiz)
    assert not (tmp_path / "x").exists()


# ---- numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("text, value", [
    ("38,597,376", "38597376"), ("38597376", "38597376"), ("38_597_376", "38597376"),
    ("38 597 376", "38597376"), ("38\u202f597\u202f376", "38597376"), ("3.9e7", "3.9E7"),
    ("3.9E+7", "3.9E7"), ("3.9×10^7", "3.9E7"), ("3.9*10^7", "3.9E7"), ("38.6M", "38600000"),
    ("38.6 million", "38600000"), ("46.7 billion", "46700000000"), ("46.7B", "46700000000"),
    ("12k", "12000"), ("3860万", "38600000"), ("1.2亿", "120000000"), ("31 %", "0.31"),
    ("5千", "5000"), ("1.2 百万", "1200000"), ("5.6 十亿", "5.6E9"), ("2万亿", "2E12"),
    ("31%", "0.31"), ("３１％", "0.31"), (".5", "0.5"), ("-2", "-2"), ("−2", "-2"), ("+2", "2"),
    (" 12 ", "12"), (12, "12"), (0.25, "0.25"), (1e300, "1E300"), ("007", "7"),
])
def test_numbers_as_people_write_them(text, value):
    assert read_number(text) == Decimal(value)


def test_numbers_of_numpy():
    import numpy
    assert read_number(numpy.int64(12)) == 12 and read_number(numpy.float32(0.5)) == Decimal("0.5")


@pytest.mark.parametrize("text, unit, value", [
    ("31 %", "%", "31"), ("31", "%", "31"), ("12 GB", "GB", "12"), ("12gb", "GB", "12"),
    ("1.5 billion cells", "cells", "1.5E9"), ("46.7", "billion", "46.7"),
    ("46.7 billion", "billion", "46.7"), ("5 层", "层", "5")])
def test_a_unit_may_stand_behind(text, unit, value):
    assert read_number(text, unit) == Decimal(value)


@pytest.mark.parametrize("text", [
    "many", "0,31", "1,23,456", "12 apples", "1e9999", "nan", "inf", "--2", "1..2", "e7",
    "__import__('os')", None, True, [], float("nan"), float("inf"), "9" * 5000 + "x"])
def test_what_is_no_number_is_one_sentence(text):
    with pytest.raises(ValueError, match="is not a number that this quiz can read") as raised:
        read_number(text)
    assert len(str(raised.value)) < 200
    assert judge(AREA, text).state == "unclear"


@pytest.mark.parametrize("text", ["", " ", "\u3000"])
def test_an_empty_field_is_no_attempt(text):
    assert judge(AREA, text) == questions_module.Verdict("unclear", "Write a number first.")


# ---- verdicts ---------------------------------------------------------------------------------

@pytest.mark.parametrize("given, state", [
    ("1,522,756", "right"), (1522756, "right"), ("1522756 cells", "right"), (1522756.0, "right"),
    ("1.5227560e6", "right"), ("1522757", "wrong"), ("1.52M", "unclear"), ("1.5e6", "unclear"),
    ("2e6", "wrong"), ("1.53M", "wrong"), (4936, "wrong"), (0, "wrong"), (-1522756, "wrong")])
def test_a_number(given, state):
    assert judge(AREA, given).state == state


@pytest.mark.parametrize("given, state", [
    ("31 %", "right"), ("0.31", "right"), (0.312, "right"), ("31.4%", "right"), ("31.6%", "wrong"),
    ("0.3", "wrong"), ("31", "wrong")])
def test_a_tolerance(given, state):
    assert judge(SHARE, given).state == state


@pytest.mark.parametrize("unit, answer, given, state", [
    ("billion", 46.7, "46.7", "right"), ("billion", 46.7, "46.7 billion", "right"),
    ("billion", 46.7, "46.7B", "right"), ("billion", 46.7, 46_702_792_704, "right"),
    ("billion", 46.7, "46.7M", "wrong"), ("billion", 46.7, "4.67", "wrong"),
    ("%", 31, "31", "right"), ("%", 31, "31 %", "right"), ("%", 31, "0.31", "right"),
    ("%", 31, "0.0031", "wrong"), ("layers", 12, "12", "right"), ("%", 31, 0, "wrong")])
def test_a_unit_that_scales_may_be_written_out(unit, answer, given, state):
    question = {**AREA, "unit": unit, "answer": answer, "tolerance": 0.05, "wrong": []}
    assert judge(question, given).state == state


def test_a_wrong_number_says_why_where_that_is_known():
    assert judge(AREA, "4,936").message == "That is the border."
    assert judge(AREA, 5).message == "That is too small."
    assert judge(AREA, 5e9).message == "That is too large."
    assert "1522756" not in re.sub(r"\D", "", judge(AREA, "1.52M").message)


@pytest.mark.parametrize("form", [str, str.upper, "{})".format, "({})".format, " {} ".format,
                                  lambda letter: [letter], lambda letter: lettered(SIDES)[letter]])
def test_a_letter_in_its_forms(form):
    verdicts = {letter: judge(SIDES, form(letter)).state for letter in lettered(SIDES)}
    assert verdicts == {letter: "right" if text == "It quadruples." else "wrong"
                        for letter, text in lettered(SIDES).items()}


@pytest.mark.parametrize("given", ["", "d", "ab", None, 1, True, [], ["a", "b"], object(), "中"])
def test_what_is_no_letter_is_unclear(given):
    assert judge(SIDES, given).state == "unclear"
    assert judge(SIDES, given).message == "Choose one of a, b, c."


@pytest.mark.parametrize("separator", ["", " ", ", ", " → ", " > "])
def test_an_order_in_its_forms(separator):
    letters = {text: letter for letter, text in lettered(SIZES).items()}
    right = [letters[text] for text in SIZES["items"]]
    assert judge(SIZES, separator.join(right)).state == "right"
    assert judge(SIZES, right).state == "right" and judge(SIZES, tuple(right)).state == "right"
    swapped = [right[1], right[0], right[2]]
    assert judge(SIZES, swapped).message == "1 of 3 stand in their place."


@pytest.mark.parametrize("given", ["", "ab", "abcc", "aab", "abd", None, 3, [], ["a"]])
def test_what_is_no_order_is_unclear(given):
    assert judge(SIZES, given).message == "Put each of a, b, c into the order once."


def test_the_order_shown_is_fixed_and_not_the_files():
    assert lettered(SIDES) == lettered(copy.deepcopy(SIDES))
    backwards = {**SIDES, "options": SIDES["options"][::-1]}
    assert lettered(backwards) == lettered(SIDES), "the order in the file tells nothing"
    for name in (f"q_{number}" for number in range(50)):
        assert list(lettered({**SIZES, "name": name}).values()) != SIZES["items"]


# ---- the plain form ---------------------------------------------------------------------------

def test_answers_are_recorded(squares):
    assert answer("square_q_area", 4936).state == "wrong"
    assert answer("square_q_area", "1,522,756").state == "right"
    assert [(e["kind"], e["chapter"], e["name"], e["state"]) for e in events()] == [
        ("quiz", "00_square", "square_q_area", "wrong"),
        ("quiz", "00_square", "square_q_area", "right")]


def test_an_answer_is_recorded_as_it_was_read(squares):
    letters = {text: letter for letter, text in lettered(SIDES).items()}
    for given, kept in (("1.522756 million cells", "1522756"), ("4,936", "4936")):
        answer("square_q_area", given)
        assert events()[-1]["answer"] == kept
    answer("square_q_sides", "It doubles.")
    assert events()[-1]["answer"] == letters["It doubles."]
    answer("square_q_sizes", "C, B > a")
    assert events()[-1]["answer"] == "cba"


def test_what_is_unclear_is_not_recorded(squares):
    assert answer("square_q_area", "lots").state == "unclear"
    assert events() == []


def test_an_answer_is_judged_where_nothing_can_be_saved(squares, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file"))
    verdict = answer("square_q_area", 1522756)
    assert verdict.state == "right" and "could not be saved" in verdict.message
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistyped_name_is_put_right(squares):
    with pytest.raises(ValueError, match="do you mean 'square_q_area'"):
        answer("square_q_aera", 1)
    with pytest.raises(ValueError, match="no question is named 3"):
        answer(3, 1)


def test_a_chapter_without_a_quiz():
    with pytest.raises(ValueError, match="chapter '99' has no quiz; these have one: .*05_depth"):
        quiz("99")


def secrets(question):
    """Texts that must not be seen before an answer."""
    yield from (option["reason"] for option in question.get("options", ()))
    yield from (question[key] for key in ("reason", "computed") if key in question)
    yield from (wrong["reason"] for wrong in question.get("wrong", ()))


@pytest.mark.parametrize("chapter", _files())
def test_no_form_gives_an_answer_away(chapter):
    shown = quiz(chapter)
    bundle = shown._repr_mimebundle_()
    assert {*bundle} == {"text/plain", "text/markdown", "application/vnd.jupyter.widget-view+json"}
    for text in (bundle["text/plain"], bundle["text/markdown"], str(every_state(shown))):
        for question in shown.questions:
            assert not any(secret in text for secret in secrets(question)), question["name"]
        assert "'right'" not in text


def every_state(shown):
    """What the browser is sent for a quiz that nobody has answered."""
    import ipywidgets
    page = quiz_module._Page(ipywidgets, shown.questions)
    waiting, states = [page.view], []
    while waiting:
        widget = waiting.pop()
        states.append({name: str(value) for name, value in widget.get_state().items()})
        waiting += getattr(widget, "children", ())
    return states


@pytest.mark.parametrize("chapter", _files())
def test_the_text_forms_hold_the_whole_quiz(chapter):
    shown = quiz(chapter)
    for number, question in enumerate(shown.questions, 1):
        for text in (shown.to_text(), shown.to_markdown()):
            assert question["question"] in text
            assert f'answer("{question["name"]}", ' in text
            assert all(option in text for option in lettered(question).values())
        assert f"\n{number}. " in shown.to_text() and f"\n**{number}.** " in shown.to_markdown()


def test_without_ipywidgets_there_is_still_text(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert {*Quiz([SIDES])._repr_mimebundle_()} == {"text/plain", "text/markdown"}


# ---- widgets ----------------------------------------------------------------------------------

def page(*asked):
    """A page of widgets, and all of its widgets by class."""
    import ipywidgets
    made = quiz_module._Page(ipywidgets, asked)
    waiting, found = [made.view], {}
    while waiting:
        widget = waiting.pop(0)
        found.setdefault(type(widget).__name__, []).append(widget)
        waiting = [*getattr(widget, "children", ()), *waiting]
    return made, found


def verdicts(found):
    """The verdicts that a page shows."""
    return [box.value for box in found["HTMLMath"] if 'role="alert"' in box.value]


def test_a_choice_by_widgets():
    made, found = page(SIDES)
    radio, button = found["RadioButtons"][0], found["Button"][0]
    button.click()
    assert "Choose one of a, b, c." in verdicts(found)[0] and events() == []
    assert radio.value is None, "nothing is chosen beforehand"
    letters = {text: letter for letter, text in lettered(SIDES).items()}
    radio.value = letters["It doubles."]
    button.click()
    assert "✗" in verdicts(found)[0] and "That is the border." in verdicts(found)[0]
    radio.value = letters["It quadruples."]
    button.click()
    assert "✓" in verdicts(found)[0] and "Two times two." in verdicts(found)[0]
    assert made.score.value.count("1 of 1 right, 0 at the first attempt") == 1
    assert [event["state"] for event in events()] == ["wrong", "right"]


def test_a_number_by_widgets_and_by_enter():
    _, found = page(AREA)
    field, button = found["Text"][0], found["Button"][0]
    field.value = "1,522,756"
    button.click()
    assert "Rows times columns." in verdicts(found)[0]
    field.value = "4936"
    field._handle_custom_msg({"event": "submit"}, [])
    assert "That is the border." in verdicts(found)[0]


def test_an_order_by_widgets():
    _, found = page(SIZES)
    boxes = {box.description.split("  ")[1]: box for box in found["Dropdown"]}
    button = found["Button"][0]
    button.click()
    assert "Put each of a, b, c into the order once." in verdicts(found)[0]
    for place, text in enumerate(["side", "area", "area"], 1):
        boxes[text].value = place
    button.click()
    assert "Put each of a, b, c into the order once." in verdicts(found)[0]
    boxes["area"].value, boxes["border"].value = 2, 3
    button.click()
    assert "3, 9, 12." in verdicts(found)[0]


def test_the_score_counts_first_attempts():
    made, _ = page(SIDES, AREA)
    made._judged(AREA, 4936)
    assert "1 of 2 questions answered, 0 right." in made.score.value
    made._judged(AREA, 1522756)
    made._judged(SIDES, "It quadruples.")
    assert "Your score: 2 of 2 right, 1 at the first attempt." in made.score.value


def test_every_control_has_a_name():
    _, found = page(SIDES, AREA, SIZES)
    assert [button.description for button in found["Button"]] == [
        f"Answer question {number}" for number in (1, 2, 3)]
    assert found["Text"][0].description and found["RadioButtons"][0].tooltip
    assert [box.description for box in found["Dropdown"]] == [
        f"{letter})  {text}" for letter, text in lettered(SIZES).items()]


def test_questions_are_escaped():
    evil = {**SIDES, "question": "<img src=x onerror=alert(1)> `<b>` **bold** $a<b$"}
    html = quiz_module._html(evil["question"])
    assert "<img" not in html and "<code>&lt;b&gt;</code>" in html
    assert "<strong>bold</strong>" in html and "$a&lt;b$" in html


def test_options_with_formulas_stand_above_their_letters():
    options = [{**option, "text": f"$x^{n}$"} for n, option in enumerate(SIDES["options"])]
    _, found = page({**SIDES, "options": options})
    assert [label for label, _ in found["RadioButtons"][0].options] == ["a", "b", "c"]
    assert any("$x^0$" in box.value for box in found["HTMLMath"])


# ---- the other language -----------------------------------------------------------------------

@pytest.fixture
def chinese(monkeypatch):
    """A catalogue of our own."""
    from course_lib.core import messages
    words = {SIDES["question"]: "边长加倍，面积怎样变化？", "It doubles.": "加倍。",
             "It quadruples.": "变为四倍。", "That is the border.": "那是周长。",
             "Right.": "正确。", "Question {n} of {total}": "第 {n} 题，共 {total} 题",
             "Choose one of {letters}.": "请从 {letters} 中选一个。"}
    monkeypatch.setattr(messages, "_catalogue", lambda name: words if name == "zh_CN" else {})
    messages._look_up.cache_clear()
    messages._templates.cache_clear()
    set_language("zh")
    yield
    set_language(None)
    messages._look_up.cache_clear()
    messages._templates.cache_clear()


def test_a_quiz_in_chinese(chinese):
    english = lettered(SIDES)
    text = Quiz([SIDES]).to_text()
    assert "边长加倍" in text and "变为四倍。" in text
    assert judge(SIDES, "变为四倍。").state == "right", "an option may be given by its text"
    assert judge(SIDES, "加倍。").message == "那是周长。"
    assert judge(SIDES, "z").message == "请从 a, b, c 中选一个。"
    _, found = page(SIDES)
    assert "第 1 题，共 1 题" in found["HTMLMath"][0].value
    assert lettered(SIDES) == english, "letters mean the same in both languages"


def test_a_slip_in_a_name_is_answered_in_the_readers_language():
    set_language("zh")
    try:
        with pytest.raises(ValueError, match="没有名为 'parameters_q_linea' 的题目；你是指"):
            answer("parameters_q_linea", "1")
        with pytest.raises(ValueError, match="章节 '09_nowhere' 没有测验"):
            questions("09_nowhere")
    finally:
        set_language(None)


def test_all_of_its_words_are_there_to_be_translated():
    for module in (quiz_module, questions_module):
        source = inspect.getsource(module)
        for call in re.findall(r"translate\(f?([^\"(\w]|f\")", source):
            raise AssertionError(f"translate takes plain literals: {call}")
