"""Learners' code that never ends, or ends badly: stopped in time, said in one sentence."""
import subprocess
import sys
import threading
import time
from fractions import Fraction
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from course_lib.classroom.student_code import (_ALARM, TimeIsUp, Watch, equals_anything,
                                               learners_line, plain, sentence)

# Learners' code, as they write it; `stop` is never set, it only keeps a failing test from hanging.
STUBBORN = {
    "a plain loop": "while True: pass",
    "a bare except": "while True:\n    try: sum(range(9))\n    except: pass",
    "a loop in a bare except": "while True:\n    try:\n        while True: x = 1\n    except: pass",
    "two bare excepts": "while True:\n    try:\n        try:\n            while True: x = 1\n"
                        "        except: pass\n    except: pass",
    "finally continue": "while True:\n    try: x = 1\n    finally: continue",
    "an except that works on": "while True:\n    try: 1 / 0\n    except: sum([1])",
    "a generator": "def endless():\n    while True: yield 1\nfor _ in endless(): pass",
    "a sort's key": "while True: sorted([3, 1, 2] * 999, key=lambda x: -x)",
    "a destructor": "class A:\n    def __del__(self):\n        while True: pass\n"
                    "A()\nwhile True: pass",
    "recursion caught": "def f():\n    try: f()\n    except RecursionError: f()\nwhile True: f()",
}
ENDLESS = pytest.mark.parametrize("source", STUBBORN.values(), ids=STUBBORN)


def run(source, seconds=0.3):
    """Run a source under a watch; how long it took."""
    started = time.monotonic()
    with Watch(seconds) as watch:
        watch.run(exec, compile(source, "<the learner's cell>", "exec"), {})
    return time.monotonic() - started


@ENDLESS
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_endless_loop_is_stopped(source):
    started = time.process_time()
    with pytest.raises(TimeIsUp) as caught:
        run(source)
    assert time.process_time() - started < 5
    assert learners_line(caught.value)[0] >= 1


def test_code_inside_c_is_stopped_when_it_returns():
    started = time.monotonic()
    with pytest.raises(TimeIsUp):
        run("import time\ntime.sleep(0.8)")
    assert time.monotonic() - started >= 0.8


def test_the_line_is_named():
    with pytest.raises(TimeIsUp) as caught:
        run("x = 0\n\nwhile True:\n    pass")
    template, values = sentence(caught.value, 0.3)
    assert values["line"] in (3, 4) and values["seconds"] == "0.3" and "stopped" in template


def test_nothing_rings_after_the_code_has_ended():
    """Code that ends at its very deadline, many times: either stopped or not, but never later."""
    stopped = 0
    for attempt in range(400):
        end = time.monotonic() + 0.001
        try:
            with Watch(0.0005 + attempt % 7 * 0.0001) as watch:
                _ALARM.ring()
                watch.run(lambda end=end: [0 for _ in iter(lambda: time.monotonic() < end, False)])
        except TimeIsUp:
            stopped += 1
        assert _ALARM.deadline is None
        for _ in range(20):
            _ALARM.ring()
            sum(range(50))
    assert stopped > 0


def test_the_time_is_for_all_calls_together():
    with Watch(0.3) as watch, pytest.raises(TimeIsUp):
        for _ in range(100):
            watch.run(time.sleep, 0.02)
    with Watch(1) as watch:
        watch.run(time.sleep, 0.1)
        time.sleep(1.1)  # ours, and free
        assert watch.run(lambda: "in time") == "in time"


def test_a_watch_within_a_watch_keeps_the_nearer_deadline():
    with Watch(0.2) as outer, pytest.raises(TimeIsUp):
        with Watch(30) as inner:
            outer.run(lambda: inner.run(exec, STUBBORN["a loop in a bare except"], {}))
    with Watch(30) as outer, pytest.raises(TimeIsUp):
        with Watch(0.2) as inner:
            outer.run(lambda: inner.run(exec, STUBBORN["a plain loop"], {}))
    assert _ALARM.deadline is None


def test_results_and_exceptions_pass():
    with Watch(5) as watch:
        assert watch.run(divmod, 7, 2) == (3, 1)
        for error in (KeyboardInterrupt, SystemExit, ValueError):
            with pytest.raises(error):
                watch.run(exec, f"raise {error.__name__}", {})
        assert watch.run(dict, a=1) == {"a": 1}
    assert _ALARM.deadline is None


def test_in_another_thread_code_runs_without_a_limit():
    done = []

    def elsewhere():
        with Watch(0.05) as watch:
            done.append(watch.run(lambda: time.sleep(0.3) or "done"))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == ["done"] and _ALARM.deadline is None


def test_no_thread_is_left():
    before = threading.active_count()
    for _ in range(20):
        run("pass", seconds=30)
    assert threading.active_count() == before


def test_a_process_ends_quietly_after_a_loop_was_stopped():
    code = ("from course_lib.classroom.student_code import TimeIsUp, Watch\n"
            "try:\n    with Watch(0.2) as watch: watch.run(exec, 'while True: pass', {})\n"
            "except TimeIsUp: print('stopped')")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("stopped\n", "", 0)


# ------------------------------------------------------------ one sentence

def caught(source):
    """The exception that a source ends with."""
    try:
        exec(compile(source, "<the learner's cell>", "exec"), {"__name__": "__main__"})
    except BaseException as error:
        return error


@pytest.mark.parametrize("source, line", [
    ("x = 1\nx / 0", 2), ("import statistics\n\nstatistics.mean([])", 3),
    ("import json\ndef f():\n    return json.loads('{')\n\nf()", 3),
    ("import numpy as np\nnp.zeros(3) + np.zeros(4)", 2),
    ("import torch\n\ntorch.zeros(2, 3) @ torch.zeros(2, 3)", 3)])
def test_the_learners_own_line_is_named(source, line):
    assert learners_line(caught(source))[0] == line


def test_without_a_line_of_the_learners_there_is_none():
    try:
        import json
        json.loads("{")
    except ValueError as error:
        error.__traceback__ = error.__traceback__.tb_next  # from here on it is the library's
        assert learners_line(error) is None
        assert "what you handed in" in sentence(error, 1)[0]


@pytest.mark.parametrize("source, said", [
    ("{}['bias']", "KeyError: 'bias', raised by line 1"),
    ("def f(n):\n    return f(n)\nf(1)", "calls itself without end (RecursionError in line 2)"),
    ("import sys\nsys.exit()", "Line 2 of your code asks Python to end (SystemExit)"),
    ("raise ValueError('x' * 500)", "xxx…, raised by line 1 of your code"),
    ("raise ValueError('one\\ntwo')", "ValueError: one, raised by"),
    ("raise TypeError", "TypeError, raised by line 1")])
def test_an_exception_becomes_one_sentence(source, said):
    template, values = sentence(caught(source), seconds=10)
    text = template.format(**values)
    assert said in text and len(text) < 300 and "\n" not in text


# ------------------------------------------------------------ what comes back is what it says

class Pliant(float):
    """Equal to every number and to every text, and 0 away from both."""

    def __eq__(self, other):
        return isinstance(other, (int, float, str))

    def __sub__(self, other):
        return 0.0

    __hash__ = None


class Crowd(list):
    """A list that is equal to any other."""

    def __eq__(self, other):
        return True

    __hash__ = None


def kind(answer):
    """A name for a test that is the same in every process: a repr may hold an address."""
    return type(answer).__name__


@pytest.mark.parametrize("answer", [
    ANY, Pliant(2), Crowd([1]), [1, ANY], {"a": {"b": (1, Pliant(2))}}, (1, [[ANY]])],
    ids=kind)
def test_what_equals_anything_is_found_wherever_it_stands(answer):
    assert equals_anything(answer) is not None


@pytest.mark.parametrize("answer", [
    None, 0, 0.5, True, "same", float("nan"), 10 ** 400, [], {"a": (1, 2)}, Fraction(1, 3),
    np.float32(0.5), np.float32("inf"), np.zeros(3), np.array("text"), np.array([object()]),
    torch.tensor(0.5, dtype=torch.float16), torch.zeros(2, 2), torch.tensor(3), torch.zeros(0),
    torch.tensor(True), torch.nn.Linear(2, 2), dict, len], ids=kind)
def test_what_can_be_a_right_answer_is_not_taken_for_it(answer):
    assert equals_anything(answer) is None
    assert equals_anything([answer, {"a": answer}]) is None


def test_an_answer_that_holds_itself_is_looked_at_once():
    round_about = [1]
    round_about.append(round_about)
    assert equals_anything(round_about) is None


@pytest.mark.parametrize("value, number", [
    (3, 3), (np.int64(3), 3), (np.float64(0.5), 0.5), (torch.tensor(3), 3), (np.array(0.5), 0.5),
    (Pliant(2), 2.0), (True, True), (np.bool_(True), True)])
def test_a_number_is_pythons_own_whoever_made_it(value, number):
    assert (plain(value), type(plain(value))) == (number, type(number))


def test_what_is_no_single_number_stays():
    several = np.zeros(1)
    assert plain(several) is several and plain("3") == "3" and plain(None) is None
