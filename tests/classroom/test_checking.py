"""How a check answers, on an exercise of its own: a mean, as learners get it wrong."""
import functools
import itertools
import re
import subprocess
import sys
import time
from unittest.mock import ANY

import pytest
from course_lib.classroom import exercises as mechanism
from course_lib.classroom.exercises import (TOO_LARGE, TOO_SMALL, CheckResult, Exercise, Lesson,
                                            Property, Wrong, check, exercises, hints, judge, number,
                                            show_solution)
from course_lib.classroom.progress import events
from course_lib.core.messages import set_language


def of_a_list(mean, random):
    values = list(random.normal(size=5))
    return abs(mean(values) - sum(values) / 5) < 1e-12


def of_an_array(mean, random):
    values = random.normal(size=7)
    given = mean(values)
    if abs(given - values.mean()) > 1e-12:
        raise Wrong("Of {n} values in an array it is off.", n=len(values))
    return True


MEAN = Exercise(
    "mean_by_hand", "99_demo", "A mean by hand", 2, 1, "sums", "mean",
    (Property("takes a list", of_a_list, "Divide by how many values there are."),
     Property("takes an array", of_an_array, "")),
    ("What is added up?", "Divide the sum by the length."),
    "def mean(values):\n    return sum(values) / len(values)", (), seconds=1)
COUNT = Exercise("count", "99_demo", "A count", 1, 1, "counting", "count",
                 number(lambda: 8, misconceptions=((6, "Each output has a bias, too."),
                                                   (lambda: 9, "The bias is counted twice."))),
                 ("a", "b"), "count = 8", (), seconds=1)


@pytest.fixture
def of_the_course(monkeypatch, tmp_path):
    """Puts both exercises into the course, with a record of its own and a fresh session."""
    monkeypatch.setattr(mechanism, "exercises", lambda chapter=None: [MEAN, COUNT])
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(mechanism, "_TRIED", set())
    monkeypatch.setattr(mechanism, "_HINTS_GIVEN", {})
    return tmp_path


def mean(values):
    return sum(values) / len(values)


def returns_nothing(values):
    sum(values) / len(values)


def endless(values):
    while True:
        pass


def stubborn(values):
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722
            pass


def without_end(values):
    while True:
        yield 1.0


def calls_itself(values):
    return calls_itself(values)


def raises_from_the_root(values):
    raise GeneratorExit("enough")


def gives_any(values):
    return ANY


def leaves(values):
    sys.exit("enough")


def stopped(values):
    raise KeyboardInterrupt


def spoils(values):
    values[:] = [0] * len(values)
    return 0


def sleeps(values):
    time.sleep(1.5)
    return mean(values)


# ------------------------------------------------------------ states

@pytest.mark.parametrize("answer", [
    ..., lambda values: ..., lambda values: (1, ...), lambda values: {"mean": ...},
    lambda values: ... + 1, {"a": 1, "b": ...}, [1, [2, ...]],
    functools.partial(lambda a, values: ..., 1)])
def test_not_attempted(answer):
    result = judge(MEAN, answer)
    assert result.state == "not attempted" and "Replace `...`" in repr(result)


def test_a_class_whose_method_gives_an_ellipsis_is_not_attempted():
    class Open:
        @staticmethod
        def forward(x):
            return ...

    class Sliced:
        def forward(self, x):
            return x[..., 0]

    assert judge(COUNT, Open).state == "not attempted"
    assert judge(COUNT, Sliced).state == "wrong"


@pytest.mark.parametrize("answer", [mean, lambda values: sum(values) / len(values),
                                    functools.partial(lambda by, values: mean(values) / by, 1)])
def test_right(answer):
    for seed in range(20):
        result = judge(MEAN, answer, seed=seed)
        assert (result.state, result.holding) == ("right", ("takes a list", "takes an array"))


@pytest.mark.parametrize("answer, said", [
    (sum, "Divide by how many values there are."),
    (lambda values: mean(values) if type(values) is list else 0, "Of 7 values in an array"),
    (lambda values: values.mean(), "AttributeError: 'list' object has no attribute 'mean', raised"),
    (lambda: 1, "TypeError: <lambda>() takes 0 positional arguments but 1 was given"),
    (returns_nothing, "gives back `None`"),
    (lambda values: "mean", "What came is `str`, and it cannot be used as the task asks"),
    (mean([1, 2]), "Hand in `mean` itself, without calling it: what came is `float`."),
    (None, "Hand in `mean` itself"),
    (endless, "stopped after 1 s, in line"),
    (stubborn, "stopped after 1 s, in line"),
    (without_end, "What came is `generator`, and it cannot be used as the task asks (TypeError)"),
    (sleeps, "stopped after 1 s"),
    (calls_itself, "`return calls_itself(values)`): when does it return"),
    (leaves, "`sys.exit(\"enough\")`, asks Python to end (SystemExit)"),
    (raises_from_the_root, "GeneratorExit: enough, raised by line"),
    (gives_any, "What came is `_ANY`, and it cannot be used as the task asks (`__eq__`)."),
    (spoils, "Divide by how many values there are."),
    (str, "What came is `type`, and it cannot be used as the task asks"),
])
def test_wrong(answer, said):
    started = time.process_time()
    result = judge(MEAN, answer, seed=1)
    assert result.state == "wrong" and said in repr(result), result
    assert "…" not in said and time.process_time() - started < 5
    assert not re.search(r"\{\w+\}", repr(result))


def test_stopping_the_kernel_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        judge(MEAN, stopped)


def test_an_import_of_ours_that_fails_is_not_the_learners_fault():
    ours = Property("", lambda answer, random: __import__("no_such_module"), "off")
    for answer in (mean, 3):
        with pytest.raises(ModuleNotFoundError):
            judge(Exercise(*fields(COUNT, properties=(ours,))), answer)
    theirs = judge(MEAN, lambda values: __import__("no_such_module"))
    assert "ModuleNotFoundError: No module named 'no_such_module', raised by line" in repr(theirs)


def test_methods_of_a_class_are_watched_and_their_lines_named(tmp_path, monkeypatch):
    (tmp_path / "learners.py").write_text(
        "class Mean:\n    def of(self, values):\n        while True: pass\n"
        "class Slip:\n    def of(self, values):\n        return values.mean\n")
    monkeypatch.syspath_prepend(tmp_path)
    import learners
    works = Property("", lambda Mean, random: Mean().of([1, 3]) == 2, "off")
    exercise = Exercise(*fields(MEAN, properties=(works,), solution="class mean:\n    pass"))
    said = repr(judge(exercise, learners.Mean)) + repr(judge(exercise, learners.Slip))
    assert "stopped after 1 s, in line 3, `while True: pass`" in said
    assert "raised by line 6 of your code, `return values.mean`" in said


def fields(exercise, **changed):
    return {**vars(exercise), **changed}.values()


def test_a_generator_is_read_under_the_watch():
    first = Property("begins", lambda f, random: list(itertools.islice(f([]), 2)) == [1, 1], "")
    everything = Property("ends", lambda f, random: len(list(f([]))) > 0, "")
    assert judge(Exercise(*fields(MEAN, properties=(first,))), without_end).state == "right"
    result = judge(Exercise(*fields(MEAN, properties=(everything,))), without_end)
    assert "stopped after 1 s" in repr(result)


def test_a_function_that_comes_back_is_watched_too():
    calls = Property("counts", lambda make, random: make([])([]) == 1, "")
    exercise = Exercise(*fields(MEAN, properties=(calls,)))
    assert "stopped after" in repr(judge(exercise, lambda values: endless))
    assert judge(exercise, lambda values: lambda more: 1).state == "right"
    assert judge(exercise, lambda values: lambda more: ...).state == "not attempted"


def test_the_learners_prints_come_through(capsys):
    judge(MEAN, lambda values: print("looking at", len(values)) or mean(values))
    assert capsys.readouterr().out == "looking at 5\nlooking at 7\n"


def test_randomness_is_fresh_for_each_property_and_each_check():
    drawn = []
    draw = Property("", lambda answer, random: drawn.append(random.random()) or True, "")
    exercise = Exercise(*fields(COUNT, properties=(draw, draw)))
    for _ in range(5):
        judge(exercise, 1)
    assert len(set(drawn)) == 10
    del drawn[:]
    judge(exercise, 1, seed=3)
    judge(exercise, 1, seed=3)
    assert drawn[:2] == drawn[2:] and drawn[0] != drawn[1]


def test_inputs_are_copied_in_every_container():
    import numpy as np
    import torch
    from collections import Counter
    given = {"a": np.ones(2), "t": torch.ones(2), "n": [np.ones(2)], "c": Counter("aa")}
    needed = torch.ones(2, requires_grad=True)

    def spoil(values, tensor):
        values["a"][:] = values["t"][:] = values["n"][0][:] = 0
        values["c"]["a"] = 0
        return tensor is needed

    with mechanism.Watch(5) as watch:
        assert mechanism._guarded(spoil, watch)(given, tensor=needed)
    assert given["a"].all() and given["t"].all() and given["n"][0].all() and given["c"]["a"] == 2


# ------------------------------------------------------------ numbers

@pytest.mark.parametrize("answer, said", [
    (6, "Each output has a bias, too."), (9, "The bias is counted twice."), (7, TOO_SMALL),
    (10 ** 400, TOO_LARGE), (-8, TOO_SMALL), ("8", "What came is `str`"), (True, "`bool`"),
    ([8], "`list`"), (None, "`NoneType`"), (8j, "`complex`"), (float("nan"), "What came is nan"),
    (float("-inf"), "What came is -inf"), (mean, "`function`"), (8.001, TOO_LARGE)])
def test_a_number_that_is_wrong(answer, said):
    result = judge(COUNT, answer)
    assert result.state == "wrong" and said in repr(result)


def test_a_number_that_is_right_in_any_type():
    import numpy as np
    import torch
    for answer in (8, 8.0, np.int64(8), np.float32(8), np.array(8), torch.tensor(8)):
        assert judge(COUNT, answer).state == "right", type(answer)


def test_whole_numbers_agree_to_the_unit_however_large():
    large = Exercise(*fields(COUNT, properties=number(lambda: 3 ** 200)))
    assert judge(large, 3 ** 200).state == "right" and judge(large, 3 ** 200 + 1).state == "wrong"


def test_a_tolerance_makes_room_and_never_turns_right_into_a_misconception():
    share = Exercise(*fields(COUNT, properties=number(
        lambda: 0.38, tolerance=0.01, misconceptions=((0.395, "Of all, not of the weights."),))))
    assert judge(share, 0.389).state == "right"
    assert judge(share, 0.4).message == "Of all, not of the weights."
    assert judge(share, 0.42).message == judge(share, 10 ** 400).message == TOO_LARGE


def test_a_reference_is_computed_once():
    calls = []
    exercise = Exercise(*fields(COUNT, properties=number(lambda: calls.append(1) or 8)))
    assert [judge(exercise, answer).state for answer in (7, 8, 9)] == ["wrong", "right", "wrong"]
    assert len(calls) == 1


def test_the_tick_names_the_unit():
    properties = number(lambda: 8, unit="bytes")
    assert judge(Exercise(*fields(COUNT, properties=properties)), 8).holding[0].endswith("bytes")


# ------------------------------------------------------------ check, hints, show_solution

def test_wrong_and_right_are_recorded_and_not_attempted_is_not(of_the_course):
    for answer in (..., 7, 8):
        check("count", answer)
    told = [(each["kind"], each["chapter"], each["name"], each["state"]) for each in events()]
    assert told == [("check", "99_demo", "count", "wrong"), ("check", "99_demo", "count", "right")]
    assert events()[0]["message"] == TOO_SMALL and "message" not in events()[1]


def test_a_record_that_cannot_be_written_does_not_stop_a_check(of_the_course, monkeypatch, capsys):
    blocked = of_the_course / "file"
    blocked.write_text("")
    monkeypatch.setenv("COURSE_DATA", str(blocked / "below"))
    assert check("count", 8).state == "right"
    assert "not saved" in capsys.readouterr().err


@pytest.mark.parametrize("call", [lambda name: check(name, 3), hints, show_solution])
def test_an_unknown_name_gets_near_ones(of_the_course, call):
    with pytest.raises(ValueError, match=r"'mean_by_han': did you mean 'mean_by_hand'\?"):
        call("mean_by_han")
    with pytest.raises(ValueError, match=r"'xyz': its name stands in the chapter's cell"):
        call("xyz")
    with pytest.raises(ValueError, match="no exercise 3"):
        call(3)


def test_hints_grow_and_then_point_to_the_solution(of_the_course):
    said = [hints("mean_by_hand") for _ in range(4)]
    assert said[:2] == list(MEAN.hints) and said[2] == said[3]
    assert 'no more hints' in said[2] and 'show_solution("mean_by_hand")' in said[2]
    assert hints("count") == "a" and repr(hints("count")) == "b"


def test_a_solution_waits_for_an_attempt(of_the_course):
    refused = show_solution("mean_by_hand")
    check("mean_by_hand", ...)
    assert "Try it once first" in refused and show_solution("mean_by_hand") == refused
    assert MEAN.solution not in refused
    check("mean_by_hand", sum)
    shown = show_solution("mean_by_hand")
    namespace = {}
    exec(shown, namespace)
    assert namespace["mean"]([1, 3]) == 2 and repr(shown) == MEAN.solution
    assert shown._repr_markdown_() == f"```python\n{MEAN.solution}\n```"


def test_an_attempt_of_another_day_counts(of_the_course):
    check("count", 7)
    mechanism._TRIED.clear()
    assert show_solution("count") == "count = 8"


def test_giving_up_shows_it_at_once(of_the_course):
    assert show_solution("count", give_up=True) == "count = 8"


# ------------------------------------------------------------ what is shown

def test_a_result_as_text_says_what_holds_and_where_to_look():
    result = judge(MEAN, lambda values: mean(values) if type(values) is list else 0)
    assert repr(result).splitlines() == [
        "✘ A mean by hand: wrong", "  ✔ takes a list", "  ✘ Of 7 values in an array it is off.",
        "  `hints(\"mean_by_hand\")` helps."]
    assert repr(judge(MEAN, mean)).splitlines() == [
        "✔ A mean by hand: right", "  ✔ takes a list", "  ✔ takes an array"]


def test_html_is_escaped_and_keeps_the_colours_of_the_page():
    result = CheckResult(MEAN, "wrong", ("<b>",), "`a < b` & {what}", {"what": "<script>"})
    html = result._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "<code>a &lt; b</code>" in html
    assert not re.search(r"(?<![-\w])(color|background)[-\w]*\s*:", html)
    for state, symbol in mechanism.SYMBOLS.items():
        html = CheckResult(MEAN, state)._repr_html_()
        assert symbol in html and state in html


def test_messages_are_translated_when_they_are_shown(monkeypatch):
    from course_lib.core import messages
    chinese = {"{title}: wrong": "{title}：不对", "A mean by hand": "手算平均值",
               "takes a list": "接受列表",
               "Of {n} values in an array it is off.": "数组有 {n} 个值时不对。",
               "`hints(\"{name}\")` helps.": "`hints(\"{name}\")` 有提示。"}
    monkeypatch.setattr(messages, "_catalogue", lambda name: chinese if name == "zh_CN" else {})
    messages._look_up.cache_clear()
    result = judge(MEAN, lambda values: mean(values) if type(values) is list else 0)
    set_language("zh")
    try:
        assert repr(result).splitlines() == [
            "✘ 手算平均值：不对", "  ✔ 接受列表", "  ✘ 数组有 7 个值时不对。",
            "  `hints(\"mean_by_hand\")` 有提示。"]
    finally:
        set_language(None)
        messages._look_up.cache_clear()


# ------------------------------------------------------------ data

@pytest.mark.parametrize("plan_45, plan_90", [(((44, "a"),), ((90, "b"),)), (((45, "a"),), ())])
def test_a_plan_that_does_not_fit_its_lesson_is_refused(plan_45, plan_90):
    with pytest.raises(ValueError, match="let its parts sum to"):
        Lesson("99_demo", "goal", plan_45, plan_90)


def test_what_a_solution_defines():
    assert MEAN.defines() == "function" and COUNT.defines() == "value"
    assert Exercise(*fields(MEAN, solution="class mean:\n    pass")).defines() == "class"


def test_exercises_of_one_chapter_in_the_order_of_the_course():
    every = exercises()
    assert [each.chapter for each in every] == sorted(each.chapter for each in every)
    assert exercises(every[0].chapter) == [x for x in every if x.chapter == every[0].chapter]
    assert exercises("99_nowhere") == []


def test_importing_the_exercises_is_light():
    code = ("import sys; from course_lib.classroom.exercises import exercises; exercises();"
            "print(sorted({'torch', 'tensorflow', 'transformers', 'numpy'} & set(sys.modules)))")
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
