"""Numbers in prose: how they are read, what may vouch for them, and that a wrong one fails."""
import json
import os
import time
from fractions import Fraction

import nbformat
import numpy as np
import pytest

from course_lib.classroom.live_numbers import (
    NumbersDisagree, binding_faults, bindings_in, check_numbers, main, unbound_in, unbound_numbers)
from course_lib.classroom.stated_numbers import exact_number, is_approximate, parse_number
from course_lib.core.messages import set_language


@pytest.mark.parametrize("text, value, step", [  # by hand, from what the unit means
    ("124,439,808", 124_439_808, 1), ("1,202", 1202, 1), ("107", 107, 1), ("31.5", "31.5", "0.1"),
    ("38,600,000", 38_600_000, 1), ("38.6 million", 38_600_000, 100_000),
    ("124M", 124_000_000, 10**6), ("1.56B", 1_560_000_000, 10**7),
    ("15T tokens", 15 * 10**12, 10**12),
    ("50K", 50_000, 1000), ("12k", 12_000, 1000), ("46.7 billion", 46_700_000_000, 10**8),
    ("three", None, None), ("1.5 thousand", 1500, 100), ("2.7 trillion", 27 * 10**11, 10**11),
    ("31 %", "0.31", "0.01"), ("31%", "0.31", "0.01"), ("98.7 %", "0.987", "0.001"),
    ("31 per cent", "0.31", "0.01"), ("31 percent", "0.31", "0.01"), ("31％", "0.31", "0.01"),
    ("3 percentage points", "0.03", "0.01"), ("−5 %", "-0.05", "0.01"), ("-0.25", "-0.25", "0.01"),
    ("1.5 kB", 1500, 100), ("0.5 GB", 5 * 10**8, 10**8), ("2 MiB", 2 * 2**20, 2**20),
    ("1 GiB", 2**30, 2**30), ("24 KiB", 24 * 1024, 1024), ("2.7 TB", 27 * 10**11, 10**11),
    ("2.7 terabytes", 27 * 10**11, 10**11), ("4.1 GFLOPs", 4_100_000_000, 10**8),
    ("1,000 FLOPs", 1000, 1), ("512 bytes", 512, 1),
    ("0.5 s", "0.5", "0.1"), ("20 ms", "0.020", "0.001"), ("2 minutes", 120, 60),
    ("2.5×", "2.5", "0.1"), ("3 × faster", 3, 1), ("12 layers", 12, 1),
    ("1.24 亿", 124_000_000, 10**6), ("467 亿个参数", 46_700_000_000, 10**8),
    ("5 万", 50_000, 10**4),
    ("2.7 万亿", 27 * 10**11, 10**11), ("3 个百分点", "0.03", "0.01"), ("30 秒", 30, 1),
    ("20 毫秒", "0.02", "0.001"), ("12 层", 12, 1),
])
def test_what_a_number_claims(text, value, step):
    if value is None:
        with pytest.raises(ValueError, match="begin with a number"):
            parse_number(text)
    else:
        stated = parse_number(text)
        assert (stated.value, stated.step) == (Fraction(value), Fraction(step))


@pytest.mark.parametrize("text, computed, agrees", [
    ("124M", 124_439_808, True), ("124M", 124_500_001, False), ("124M", 163_037_184, False),
    ("46.7 billion", 46_702_792_704, True), ("46.8 billion", 46_702_792_704, False),
    ("31 %", 0.3102, True), ("31 %", 31.02, False), ("31 %", 0.3151, False),
    ("31.0 %", 0.3102, True),
    ("31.1 %", 0.3102, False), ("38,600,000", 38_597_376, False),
    ("38.6 million", 38_597_376, True),
    ("1,000,000,000,000,001", 10**15 + 1, True), ("1,000,000,000,000,001", 10**15, False),
    ("0.3", 0.1 + 0.2, True), ("28.5 %", 0.285, True), ("12", 12.4, True), ("12", 12.6, False),
    ("-0.25", -0.2512, True), ("0.25", -0.25, False), ("7", np.int64(7), True),
    ("0.5", np.float32(0.5), True), ("7", np.array([7]), True), ("7", np.array([7, 7]), False),
    ("7", float("nan"), False), ("7", float("inf"), False), ("7", None, False), ("7", "7", False),
    ("1", True, False), ("1.24 亿", 124_439_808, True), ("1.25 亿", 124_439_808, False),
])
def test_rounding_to_the_digits_stated(text, computed, agrees):
    assert parse_number(text).agrees(computed) is agrees


def test_one_element_of_a_framework_is_a_number():
    torch = pytest.importorskip("torch")
    assert exact_number(torch.tensor(0.5)) == Fraction(1, 2)
    assert exact_number(torch.zeros(3)) is None


def test_a_unit_with_two_meanings_is_refused():
    with pytest.raises(ValueError, match="billion or bytes"):
        parse_number("46.7 B")


@pytest.mark.parametrize("source, stated, expression", [
    ("has 124M<!--= gpt2.total --> of", "124M", "gpt2.total"),
    ("**50**<!--= n -->", "50", "n"), ("**1.5** GB<!--= n -->", "1.5 GB", "n"),
    ("\"117M\"<!--cite: radford2019 -->", "117M", "radford2019"),
    ("| a | 31 %<!--= a < b -->|", "31 %", "a < b"), ("10–20<!--= n -->", "20", "n"),
    ("(−5<!--= n -->)", "−5", "n"), ("ResNet-50<!--= n -->", "50", "n"),
    ("12 weighted layers<!--= n -->", "12 weighted layers", "n"),
    ("30 × 768<!--= n -->", "768", "n"), ("1.24 亿个参数<!--= n -->", "1.24 亿个参数", "n"),
    ("a 3<!--= [x for x in y][0] -->", "3", "[x for x in y][0]"),
    ("a word<!--= n -->", "", "n"), ("124M <!--= n -->", "", "n"), ("7, then<!--= n -->", "", "n"),
])
def test_a_binding_is_found(source, stated, expression):
    binding, = bindings_in(source)
    assert (binding.stated, binding.expression) == (stated, expression)


@pytest.mark.parametrize("source", [
    "`7<!--= n -->`", "```\n7<!--= n -->\n```", "~~~\n7<!--= n -->\n~~~", "7<!-- a remark -->",
    "``a ` 7<!--= n -->``"])
def test_an_example_is_no_binding(source):
    assert bindings_in(source) == []


@pytest.mark.parametrize("before", [
    "about ", "It took nearly **", "roughly ", "almost ", "more than ", "At least ", "~", "≈ ",
    "no less than ", "大约 ", "约 ", "超过 "])
def test_words_that_need_a_range(before):
    assert is_approximate(before)


def test_words_that_need_none():
    assert not is_approximate("exactly ") and not is_approximate("About this: ")
    assert is_approximate("", "左右") and not is_approximate("", " 参数")


@pytest.mark.parametrize("source, numbers", [
    ("107 layers", ["107"]), ("46.7 billion", ["46.7"]), ("0.002", ["0.002"]), ("117M", ["117"]),
    ("| 1,202 | 99 |", ["1,202"]), ("400→120→84", ["400", "120"]), ("# 512 wide", ["512"]),
    ("*500*, (600), \"700\"", ["500", "600", "700"]), ("有 1,202 层", ["1,202"]),
    ("共1202层", ["1202"]), ("31.02％", ["31.02"]), ("2000 % and 2,000", ["2000", "2,000"]),
    ("a $5 and 768·3072", ["768", "3072"]), ("if 100 < n > 200", ["100", "200"]),
    ("12 and 3.5", []), ("in 2015 and the 1990s", []), ("ResNet-152, VGG16, Llama-3.1-405B", []),
    ("8x227B, a 100-layer net", []), ("`n = 1000`", []), ("```\n1000\n```", []), ("$d = 1000$", []),
    ("$$1000$$", []), ("[a](https://arxiv.org/abs/1706.03762)", []), ("pp. 123–145", []),
    ("section 3.1.4, version 2.13, arXiv:1706.03762", []), ("torch 2.13.0", []),
    ("*Compute · 120 minutes · ●●○○○*", []), ("第 123 页", []), ("323(6088)", []),
    ("124M<!--= n --> and 117M<!--cite: k -->", []), ("**124,439,808**<!--= n -->", []),
    ("124M <!--= n -->", ["124"]), ("100 <!-- 200 -->", ["100"]),
])
def test_what_must_be_bound(source, numbers):
    assert [number for _, number in unbound_in(source)] == numbers


@pytest.mark.parametrize("text", [
    "a" * 20_000, "1" * 5000, "1,111" * 1000, "word " * 5000, "`" * 5000, "$" * 3000, "<" * 5000,
    "a-1-" * 3000, "1.1.1." * 2000], ids=lambda text: text[:6])
def test_no_text_takes_long(text):
    start = time.process_time()
    unbound_in(text)
    bindings_in(text + "<!--= n -->")
    assert time.process_time() - start < 2  # it takes under 0.2 s, and took 9 s where it was square


@pytest.fixture
def write(tmp_path):
    """Write a notebook of one prose cell and some code cells, and give its path."""
    def write(prose, *code):
        cells = [nbformat.v4.new_markdown_cell(prose)]
        cells += [nbformat.v4.new_code_cell(source) for source in code]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
        return tmp_path / "a.ipynb"
    return write


@pytest.mark.parametrize("prose, code, said", [
    ("7<!--= n -->", "n = 7", ""), ("7<!--= n -->", "n: int = 7", ""),
    ("7<!--= len(n) -->", "n = 'seven'", ""), ("7<!--= math.e -->", "import math", ""),
    ("7<!--= f() -->", "def f(): n = 1; return 7", ""), ("7<!--= m -->", "m, n = 7, 8", ""),
    ("7<!--= sum(n for n in m) -->", "m = [7]\nfor n in m: pass", ""),
    ("7<!--= n -->", "with open('a') as n: pass", ""),
    ("7<!--= n -->", "n = 7\nimport math\nimport math", ""),
    ("7<!--= n -->", "%time m = 3\nn = 7", ""), ("7<!--= n -->", "n = [n for n in m]", ""),
    ("7<!--= n -->", "n = 7\nn = 8", "assigned 2 times"), ("7<!--= n -->", "m = 7", "in no cell"),
    ("7<!--= n -->", "n = 7\nn += 1", "assigned 2 times"),
    ("7<!--= n -->", "for n in m: pass", "assigned in a loop"),
    ("7<!--= n -->", "while m:\n    n = 7", "assigned in a loop"),
    ("7<!--= n -->", "if m:\n    n = 7\nelse:\n    n = 8", "assigned 2 times"),
    ("7<!--= n -->", "if (n := 7): pass\nn = 3", "assigned 2 times"),
    ("7<!--= n -->", "n = 7\ndef f():\n    global n\n    n = 8", "assigned 2 times"),
    ("7<!--= n -->", "n = 7\ndel n", "assigned 2 times"),
    ("7<!--= n -->", "import n\nn = 7", "assigned 2 times"),
    ("7<!--= n -->", "# your answer\nn = ...\n# end of your answer", "left to an answer"),
    ("7<!--= n n -->", "n = 7", "no Python expression"), ("7<!--= -->", "", "no Python expression"),
    ("7<!--= 7 -->", "n = 7", "computes nothing"), ("768<!--= 12 * 64 -->", "", ""),
    ("7<!--= 'n' -->", "n = 7", "computes nothing"),
    ("about 7<!--= 6 < 7 + 0 < 8 -->", "n = 7", "not about the stated"),
    ("7<!--= (n := 7) -->", "n = 7", "must only compute"),
    ("seven<!--= n -->", "n = 7", "no number stands"),
    ("46.7 B<!--= n -->", "n = 7", "billion or bytes"),
    ("about 7<!--= n -->", "n = 7", "Bind it to a range"),
    ("30 秒左右<!--= n -->", "n = 7", "Bind it to a range"),
    ("100 多层<!--= n -->", "n = 7", "Bind it to a range"),
    ("about 30 s<!--= 10 <= n <= 60 -->", "n = 7", ""),
    ("about 300 s<!--= 10 <= n <= 60 -->", "n = 7", "not about the stated"),
    ("more than 90 %<!--= n > 0.9 -->", "n = 7", ""),
    ("over 90 %<!--= n > 0.8 -->", "n = 7", "not about"),
    ("about 31 %<!--= 30 < 100 * n < 32 -->", "n = 7", ""),
    ("30 s<!--= abs(n - 30) < 5 -->", "n = 7", ""),
    ("30<!--= n == m -->", "n = m = 7", "not about"),
    ("about 5 kB<!--= 4e3 < n < 6 * 10**3 -->", "n = 7", ""),
    ("117M<!--cite: radford2019 -->", "", ""), ("117M<!--cite: radford2019, table 2 -->", "", ""),
    ("117M<!--cite: nobody1900 -->", "", "no reference"),
    ("x<!--cite: radford2019 -->", "", "no number"),
])
def test_faults_are_found_without_running(write, prose, code, said):
    faults = " / ".join(binding_faults(write(prose, code)))
    assert said in faults and bool(said) == bool(faults)


def test_all_disagreements_come_in_one_message(write):
    path = write("Right: 124M<!--= n -->. It has 12<!--= layers --> layers. A share of "
                 "**32 %**<!--= share -->.\n\n| row | 7<!--= missing --> |\n\n- item: about 30 "
                 "s<!--= 10 <= t <= 60 -->", "n = layers = share = missing = t = 0")
    values = {"n": 124_439_808, "layers": 13, "share": 0.3102, "t": 61}
    with pytest.raises(NumbersDisagree) as caught:
        check_numbers(path, values)
    assert str(caught.value).splitlines() == [
        "4 of 5 numbers in the prose do not agree with the code:",
        "- “It has 12 layers.” states 12, but `layers` is 13.",
        "- “A share of **32 %**.” states 32 %, but `share` is 0.3102.",
        "- “| row | 7 |” states 7, but `missing` raises NameError: name 'missing' is not defined.",
        "- “- item: about 30 s” states 30 s, but `10 <= t <= 60` is False."]


def test_what_agrees_is_counted(write, capsys):
    path = write("12<!--= n -->, 0.50<!--= n / 24 -->, 117M<!--cite: radford2019 -->", "n = 12")
    check_numbers(path, {"n": 12})
    check_numbers(write("12<!--= n -->", "n = 12"), {"n": 12})
    assert capsys.readouterr().out == ("2 numbers in the prose agree with the code.\n"
                                       "1 number in the prose agrees with the code.\n")


def test_a_comprehension_has_names_of_its_own(write, capsys):
    check_numbers(write("7<!--= sum(k for k in m) -->", "m = [3, 4]"), {"m": [3, 4]})
    assert capsys.readouterr().out == "1 number in the prose agrees with the code.\n"


def test_a_faulty_binding_fails_the_cell_too(write):
    with pytest.raises(NumbersDisagree, match="`n` is assigned 2 times"):
        check_numbers(write("7<!--= n -->", "n = 7\nn = 7"), {"n": 7})


def test_an_answer_that_takes_a_name_sets_its_number_aside(write, capsys):
    answer = "# your answer\nmodel = 3\n# end of your answer"
    path = write("2<!--= model --> and 7<!--= n -->", "model = 2\nn = 7", answer)
    check_numbers(path, {"model": 3, "n": 7})
    assert capsys.readouterr().out == (
        "1 number in the prose agrees with the code.\n"
        "1 could not be compared: your answers give model a new meaning.\n")


def test_before_the_cells_above_have_run_one_sentence_says_so(write):
    path = write("2<!--= n --> and 7<!--= len(m) -->", "n, m = 2, 'seven77'")
    with pytest.raises(NumbersDisagree, match="^Nothing is computed yet: run the cells above fir"):
        check_numbers(path, {"__name__": "__main__"})
    with pytest.raises(NumbersDisagree, match="1 of 2 .*\n.*states 7, but `len.m.` raises NameErr"):
        check_numbers(path, {"n": 2})


def test_the_namespace_is_only_read(write):
    namespace = {"n": 7}
    check_numbers(write("7<!--= n -->", "n = 7"), namespace)
    assert namespace == {"n": 7}


@pytest.mark.parametrize("stated, flag, fails", [
    ("12 亿", "", True), ("1.2 亿", "", False), ("12 亿", "#, fuzzy\n", False)])
def test_a_translation_is_compared_too(write, capsys, stated, flag, fails):
    notebook = write("It has 124M<!--= total -->.", "total = 124_439_808")
    po = notebook.parent / "locale" / "zh_CN" / notebook.with_suffix(".po").name
    po.parent.mkdir(parents=True)
    po.write_text(f'{flag}msgid "It has 124M."\nmsgstr "它有 {stated}<!--= total -->个。"\n',
                  encoding="utf-8")
    if fails:
        with pytest.raises(NumbersDisagree, match="^1 of 2 .*\n.*它有 12 亿个"):
            check_numbers(notebook, {"total": 124_439_808})
    else:
        check_numbers(notebook, {"total": 124_439_808})
        assert "1 number" in capsys.readouterr().out


def test_a_missing_notebook_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="'06_parameters.ipynb' is not in"):
        check_numbers("06_parameters.ipynb", {})


def test_the_shell_lists_what_is_left(write, capsys):
    path = write("107 layers, 7<!--= n -->.", "m = 7")
    assert main([str(path)]) == 1 and unbound_numbers(path)[0][2] == "107"
    said = capsys.readouterr().out
    assert "107 is not bound: 107 layers" in said and "`n` is assigned in no cell" in said
    assert said.splitlines()[-1] == f"{path}: 1 bound, 1 unbound, 1 faulty"
    assert main([str(write("7<!--= n -->", "n = 7"))]) == 0


def test_the_message_comes_in_chinese_where_the_catalogue_has_it(write, monkeypatch):
    from course_lib.core import messages
    catalogue = {"{n} of {total} numbers in the prose do not agree with the code:":
                 "正文中的 {total} 个数字里有 {n} 个与代码不符："}
    monkeypatch.setattr(messages, "_catalogue", lambda name: catalogue)
    set_language("zh")
    try:
        with pytest.raises(NumbersDisagree, match="正文中的 1 个数字里有 1 个与代码不符："):
            check_numbers(write("1.3 亿<!--= n -->", "n = 7"), {"n": 124_439_808})
    finally:
        set_language(None)


@pytest.mark.parametrize("stated, fails", [("124M", False), ("163M", True)])
def test_in_a_real_kernel_a_wrong_number_fails_the_last_cell(write, stated, fails):
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    check = ("from course_lib.classroom.live_numbers import check_numbers\n"
             "check_numbers('a.ipynb', globals())")
    path = write(f"GPT-2 has {stated}<!--= total --> parameters.", "total = 124_439_808", check)
    client = NotebookClient(nbformat.read(path, 4), timeout=60,
                            resources={"metadata": {"path": str(path.parent)}})
    if not fails:
        client.execute(env=dict(os.environ))
        assert "1 number in the prose agrees" in json.dumps(client.nb.cells[-1].outputs)
        return
    with pytest.raises(CellExecutionError) as caught:
        client.execute(env=dict(os.environ))
    message = str(caught.value)
    assert "“GPT-2 has 163M parameters.” states 163M, but `total` is 124,439,808." in message
    assert "_disagreement" not in message  # no way into the library's inside
    assert client.nb.cells[1].outputs == [] and client.nb.cells[-1].outputs[0].ename == (
        "NumbersDisagree")
