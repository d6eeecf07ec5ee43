"""Every exercise of the course, tried on its solution, its stub and its wrong answers."""
import re
from dataclasses import replace
from functools import cache
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from course_exercises import (CALL, chapters, every, exercise_cells, handed_in, normalised, region,
                              secret, solution, telling_lines)
from course_lib.classroom.exercises import (TOO_SMALL, Exercise, WrongAnswer, answer_modules,
                                            check, judge, number)
from course_lib.classroom.progress import events

SEEDS = (0, 1, 2)
EVERY = pytest.mark.parametrize("exercise", every(), ids=lambda exercise: exercise.name)
# What trains a network or traces large ones is also given more time than other exercises.
EVERY_MARKED = pytest.mark.parametrize("exercise", [
    pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.seconds >= 30))
    for each in every()])
CHAPTER = pytest.mark.parametrize("chapter", chapters())


@pytest.mark.slow
@EVERY_MARKED
def test_the_solution_is_right(exercise):
    answer = solution(exercise)
    for seed in SEEDS:
        result = judge(exercise, answer, seed=seed)
        assert result.state == "right", result
        assert len(result.lines()) > 1, "nothing says what is right"


@pytest.mark.slow
@EVERY_MARKED
def test_each_wrong_answer_gets_its_own_sentence(exercise):
    for wrong in exercise.wrong_answers:
        for seed in SEEDS:
            result = judge(exercise, wrong.answer(), seed=seed)
            assert result.state == "wrong", f"{wrong.name}: {result}"
            assert result.message == wrong.message, f"{wrong.name}: {result}"
            assert not re.search(r"\{\w*\}", repr(result)), f"a hole is open: {result}"


@EVERY
def test_wrong_answers_are_at_least_three_and_told_apart(exercise):
    wrong = exercise.wrong_answers
    assert len(wrong) >= 3
    assert len({each.message for each in wrong}) == len({each.name for each in wrong}) == len(wrong)
    assert all(each.why for each in wrong)


class Chameleon:
    """Equal to whatever it is compared with, and larger and smaller as well."""

    def __eq__(self, other):
        return True

    def __lt__(self, other):
        return True

    def __sub__(self, other):
        return type(self)(0)

    __abs__ = __neg__ = lambda self: type(self)(0)
    __gt__ = __le__ = __ge__ = __lt__
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __sub__
    __hash__ = None


class ChameleonInt(Chameleon, int):
    __hash__ = int.__hash__


class ChameleonFloat(Chameleon, float):
    __hash__ = float.__hash__


JUNK = {"equals anything": ANY, "a number that equals any": ChameleonInt(3),
        "a float that equals any": ChameleonFloat(3), "undefined": float("nan"), "true": True,
        "numpy's undefined": np.float64("nan"), "a tensor of nothing": torch.zeros(0),
        "gives what equals anything": lambda *args, **named: ANY,
        "gives a number that equals any": lambda *args, **named: ChameleonInt(3),
        "gives a list of them": lambda *args, **named: [ChameleonFloat(3)] * 3,
        "gives undefined": cache(lambda *args, **named: float("nan")),
        "nothing": None, "zero": 0, "minus one": -1, "a word": "gpt2", "infinity": float("inf"),
        "an empty list": [], "an empty dictionary": {}, "a pair": (1, 2), "a type": dict,
        "a dictionary of a word": {"A": "B"}, "an object": object(), "a huge number": 10 ** 400,
        "gives nothing": lambda *args, **named: None, "gives zero": lambda *args, **named: 0,
        "gives a word": lambda *args, **named: "gpt2", "gives a list": lambda *args, **named: [],
        "gives a dictionary": lambda *args, **named: {}, "takes nothing": lambda: 1,
        "gives its input": lambda *args, **named: args[0] if args else None,
        "fails": lambda *args, **named: 1 / 0}


@pytest.mark.slow
@EVERY
def test_whatever_is_handed_in_gets_one_sentence(exercise):
    for name, junk in JUNK.items():
        result = judge(exercise, junk, seed=0)
        assert result.state == "wrong", f"{name}: {result}"
        *_, sentence, _ = result.lines()
        assert re.fullmatch(r"✘ \S.*\S", sentence) and len(sentence) < 500, name
        assert not re.search(r"\{\w*\}", sentence) and "Traceback" not in sentence, name


def filled(open_answer, value):
    """A stub's answer, with `value` wherever `...` stands; None for a function."""
    if isinstance(open_answer, dict):
        return {key: filled(each, value) for key, each in open_answer.items()}
    if isinstance(open_answer, (list, tuple)):
        return type(open_answer)(filled(each, value) for each in open_answer)
    return value if open_answer is ... else None


@CHAPTER
def test_what_equals_anything_is_no_answer_wherever_it_stands(chapter):
    words = [type("Word", (Chameleon, str), {"__hash__": str.__hash__})(word)
             for word in ("same", "hidden", "weighted")]
    for (_, _, source), each in zip(exercise_cells(chapter), every(chapter)):
        for odd in (ANY, ChameleonInt(2), *words):
            answer = filled(handed_in(each, region(source)[0]), odd)
            assert judge(each, answer, seed=0).state == "wrong", each.name


def named(name):
    """One exercise of the course."""
    return next(each for each in every() if each.name == name)


KINDS = {"float": float, "numpy": np.int64, "torch": torch.tensor, "array": np.array}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["lenet5_by_hand", "vgg16_pooled", "finer_experts", "lora_ranks"])
def test_a_right_number_passes_whoever_made_it(name, kind):
    right = solution(named(name))
    given = [[kind(each) for each in right]] if isinstance(right, tuple) else [kind(right)]
    if isinstance(right, tuple) and kind in (torch.tensor, np.array):
        given.append(kind(right))
    for answer in given:
        assert judge(named(name), answer).state == "right", answer


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["llama_block", "my_counter", "llama_by_hand"])
def test_a_right_function_passes_whatever_kind_of_number_it_gives(name, kind):
    right = solution(named(name))

    def given(*arguments):
        found = right(*arguments)
        return list(map(kind, found)) if isinstance(found, (tuple, list)) else kind(found)
    assert judge(named(name), given).state == "right"


def test_a_counter_may_ask_each_module_for_its_own_parameters():
    def walks(model):
        own = {each for module in model.modules() for each in module.parameters(recurse=False)}
        return sum(each.numel() for each in own), sum(
            each.numel() for each in own if each.requires_grad)
    assert judge(named("my_counter"), walks).state == "right"


def test_a_counter_that_empties_the_network_is_wrong():
    def empties(model):
        model._modules.clear()
        model._parameters.clear()
        return 0, 0
    assert judge(named("my_counter"), empties).state == "wrong"


@CHAPTER
def test_a_chapter_has_the_exercises_that_are_checked(chapter):
    asked = [CALL.findall(source) for _, _, source in exercise_cells(chapter)]
    assert asked == [[(each.name, each.variable)] for each in every(chapter)]
    assert len(asked) >= 5


@CHAPTER
def test_headings_and_meta_lines_say_what_the_exercise_says(chapter):
    for place, (cell, each) in enumerate(zip(exercise_cells(chapter), every(chapter)), 1):
        heading, meta, _ = cell
        assert heading == (str(place), each.title)
        assert meta, f"no line like *Compute · 8 minutes · ●●○○○ · trains: …* for {each.name}"
        assert int(meta["minutes"]) == each.minutes, each.name
        assert meta["dots"] == "●" * each.difficulty + "○" * (5 - each.difficulty), each.name
        assert meta["trains"] == each.trains, each.name


@CHAPTER
def test_an_untouched_stub_is_not_attempted_and_leaves_no_trace(chapter):
    before = len(events())
    for (_, _, source), each in zip(exercise_cells(chapter), every(chapter)):
        inside, outside = region(source)
        answer = handed_in(each, inside)
        assert judge(each, answer).state == "not attempted", each.name
        assert check(each.name, answer).state == "not attempted"
        left = CALL.sub("", outside).strip().splitlines()
        assert all(line.startswith("from course_lib.classroom.exercises import") for line in left)
    assert len(events()) == before


@CHAPTER
def test_exercises_are_from_predict_to_build(chapter):
    difficulties = [each.difficulty for each in every(chapter)]
    assert difficulties == sorted(difficulties) and set(difficulties) <= set(range(1, 6))
    assert min(difficulties) <= 2 and max(difficulties) >= 4


@EVERY
def test_data_are_complete(exercise):
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", exercise.name)
    assert 1 <= exercise.minutes <= 60 and exercise.seconds <= 60
    assert len(exercise.hints) == 2 and all(exercise.hints) and len(set(exercise.hints)) == 2
    assert all(each.look or each.says for each in exercise.properties)


def test_names_are_unique_in_the_course():
    names = [each.name for each in every()]
    assert len(names) == len(set(names)) > 0


def test_each_module_of_answers_has_a_chapter_and_its_lesson():
    for module in answer_modules():
        assert {each.chapter for each in module.EXERCISES} == {module.LESSON.chapter}
        assert module.LESSON.goal and len(module.LESSON.notes) >= 3


# ------------------------------------------------------------ what is said never holds the answer

def said(exercise):
    """Everything that a learner reads before the solution."""
    looks = [each.look for each in exercise.properties]
    ticks = [each.says for each in exercise.properties]
    return [*looks, *ticks, *exercise.hints, *(each.message for each in exercise.wrong_answers)]


def values(answer):
    """The numbers in an answer."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, (list, tuple, set)):
        return [value for each in answer for value in values(each)]
    is_number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
    return [answer] if is_number else []


SCALES = {1e3: ("k", "K"), 1e6: ("M", " million"), 1e9: ("B", "G", " billion")}


def spellings(value):
    """A number as people write it: grouped, rounded, in millions or billions, as a percentage."""
    found = {str(value), repr(value), f"{value:,}", f"{value:_}", f"{value:,}".replace(",", " ")}
    found |= {f"{value:,}".replace(",", "\u202f"), f"{value:,}".replace(",", "\u00a0")}
    for digits in (3, 4, 5, 6):
        found.add(f"{value:.{digits}g}")
        for scale, units in SCALES.items():
            found |= {f"{value / scale:.{digits}g}{unit}" for unit in units}
    if isinstance(value, float):
        found |= {f"{value:.{digits}f}" for digits in (1, 2, 3, 4)}
        found |= {f"{100 * value:.{digits}f}{sign}" for digits in (0, 1, 2) for sign in ("%", " %")}
    return found


def gives_away(text, value):
    """The spelling of a number that a text holds, not as a part of another number; or None."""
    for spelling in sorted(spellings(value), key=len, reverse=True):
        if re.search(rf"(?<![\w.,]){re.escape(spelling)}(?!\w|[.,]\d)", text):
            return spelling
    return None


@EVERY
def test_no_sentence_gives_the_number_away(exercise):
    answer = solution(exercise)
    for value in values(answer):
        if value is not answer and abs(value) < 10:
            continue  # one digit of several answers: "one of the 2 layers" gives nothing away
        for text in said(exercise):
            assert not gives_away(text, value), f"{value} in: {text}"


@EVERY
def test_no_sentence_holds_a_line_of_the_solution(exercise):
    lines = list(telling_lines(secret(exercise)))
    for text in said(exercise):
        assert not [line for line in lines if line in normalised(text)], text


@pytest.mark.parametrize("text, value", [
    ("It is 61,706.", 61706), ("61706", 61706), ("about 61.7k", 61706), ("(0.38)", 0.3812),
    ("That is 38 % of it", 0.3812), ("124M in all", 124439808), ("nearly 124.4 million", 124439808),
    ("61 706 parameters", 61706), ("twelve, or 12?", 12), ("0.381", 0.3812)])
def test_a_number_that_is_given_away_is_seen(text, value):
    assert gives_away(text, value)


@pytest.mark.parametrize("text, value", [
    ("It is 161,706 or 61,7061.", 61706), ("12 layers", 2), ("GPT2 has more", 2), ("1.25", 25)])
def test_another_number_is_not_taken_for_it(text, value):
    assert not gives_away(text, value)


# ------------------------------------------------------------ these tests can fail

KNOWN = ((6, "That is one of its layers."), (7, "That counts one layer twice."))
ASKED = Exercise(
    "asked", "99_demo", "Asked", 1, 1, "sums", "total",
    number(lambda: 61706, misconceptions=KNOWN), ("Add.", "Add all."), "total = 156 + 61550", (
        WrongAnswer("one layer", lambda: 6, "That is one of its layers.", "it is the largest"),
        WrongAnswer("one twice", lambda: 7, "That counts one layer twice.", "two rows of a table"),
        WrongAnswer("half", lambda: 30853, TOO_SMALL, "half of the table was read")))
SIX, SEVEN, HALF = ASKED.wrong_answers


def test_an_exercise_in_order_passes():
    for test in (test_the_solution_is_right, test_each_wrong_answer_gets_its_own_sentence,
                 test_wrong_answers_are_at_least_three_and_told_apart, test_data_are_complete,
                 test_whatever_is_handed_in_gets_one_sentence):
        test(ASKED)


@pytest.mark.parametrize("test, changed", [
    (test_the_solution_is_right, {"solution": "total = 61705"}),
    (test_each_wrong_answer_gets_its_own_sentence, {"properties": ()}),
    (test_each_wrong_answer_gets_its_own_sentence, {"properties": number(lambda: 61706)}),
    (test_each_wrong_answer_gets_its_own_sentence, {"properties": number(lambda: 30853)}),
    (test_wrong_answers_are_at_least_three_and_told_apart, {"wrong_answers": (SIX, SEVEN)}),
    (test_wrong_answers_are_at_least_three_and_told_apart, {"wrong_answers": (SIX, SEVEN, SIX)}),
    (test_whatever_is_handed_in_gets_one_sentence, {"properties": ()}),
    (test_data_are_complete, {"name": "Asked"}), (test_data_are_complete, {"hints": ("a", "a")})])
def test_an_exercise_that_is_not_is_seen(test, changed):
    with pytest.raises(AssertionError):
        test(replace(ASKED, **changed))


def test_an_exercise_that_tells_its_number_is_seen():
    told = replace(ASKED, hints=("Add.", "Is it 61.7k?"))
    assert [text for text in said(told) if gives_away(text, 61706)] == ["Is it 61.7k?"]
