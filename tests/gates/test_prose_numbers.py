"""Every number in a chapter's prose is vouched for, by code or by a source, and is checked live."""
import json
import re

import nbformat
import polib
import pytest
from project import ROOT, notebooks

from course_lib.classroom.live_numbers import (
    ANSWER, binding_faults, bindings, bindings_in, references, unbound_in, unbound_numbers)
from course_lib.classroom.stated_numbers import STATED, parse_number, prose

FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["live-numbers"]}
READ = [path for path in notebooks()  # a letter after the number marks a companion
        if re.fullmatch(r"\d_\w+/\d\d_\w+\.ipynb|index\.ipynb",
                        path.relative_to(ROOT / "nbs").as_posix())]


def check_cell(name):
    """The code that ends a chapter."""
    return ("from course_lib.classroom.live_numbers import check_numbers\n"
            f'check_numbers("{name}", globals())')


def ending_faults(path):
    """Why a notebook's numbers are not checked when it runs."""
    cell = json.loads(path.read_text(encoding="utf-8"))["cells"][-1]
    if cell["cell_type"] != "code" or "".join(cell["source"]).strip() != check_cell(path.name):
        return [f"the last cell does not read\n{check_cell(path.name)}"]
    return [] if cell["metadata"] == FOLDED else [f"the last cell's metadata are not {FOLDED}"]


def reference_faults(content):
    """What is wrong with the file of references."""
    known = json.loads(content)
    faults = [] if list(known) == sorted(known) else ["the keys are not sorted"]
    for key, entry in known.items():
        if not re.fullmatch(r"[a-z]+(\d{4})[a-z]?", key) or str(entry.get("year")) not in key:
            faults.append(f"{key} is not a name and the year")
        if set(entry) != {"authors", "year", "title", "where"} or not all(entry.values()):
            faults.append(f"{key} must have authors, year, title, where, and nothing else")
    return faults


def translation_faults(english, chinese):
    """Where a translation binds other numbers, states another value, or leaves a number alone."""
    pairs = [sorted(bindings_in(text), key=lambda each: (each.kind, each.expression))
             for text in (english, chinese)]
    if [each.expression for each in pairs[0]] != [each.expression for each in pairs[1]]:
        yield "other bindings than in English"
        return
    for one, other in zip(*pairs):
        if not other.stated:
            yield f"no number stands before <!--{other.kind} {other.expression} -->"
        elif one.stated and not compatible(one.stated, other.stated):
            yield f"{one.stated} has become {other.stated}"
    said, meant = ({found["number"]: parse_number(found[0]).value
                    for found in STATED.finditer(prose(text))} for text in (chinese, english))
    yield from (f"{number} is not bound" for _, number in unbound_in(chinese)
                if said[number] not in meant.values())  # 56 billion are 560 亿


def compatible(one, other):
    """Whether two stated numbers can be roundings of one value."""
    first, second = parse_number(one), parse_number(other)
    return abs(first.value - second.value) <= (first.step + second.step) / 2


@pytest.mark.parametrize("path", READ, ids=lambda path: path.stem)
def test_a_translation_states_the_same_numbers(path):
    catalogue = path.relative_to(ROOT / "nbs").with_suffix(".po")
    entries = polib.pofile(str(ROOT / "nbs" / "locale" / "zh_CN" / catalogue))
    blocks = [entry for entry in entries.translated_entries() if "prose" in (entry.comment or "")]
    assert blocks, "nothing of this chapter is translated"
    assert [(entry.msgid, fault) for entry in blocks
            for fault in translation_faults(entry.msgid, entry.msgstr)] == []


@pytest.mark.parametrize("path", READ, ids=lambda path: path.stem)
def test_every_number_is_bound_or_cited(path):
    assert [f"cell {cell}: {number}: {sentence}"
            for cell, sentence, number in unbound_numbers(path)] == []


@pytest.mark.parametrize("path", READ, ids=lambda path: path.stem)
def test_every_binding_can_vouch(path):
    assert binding_faults(path) == []


@pytest.mark.parametrize("path", READ, ids=lambda path: path.stem)
def test_the_last_cell_checks_them(path):
    assert ending_faults(path) == []


def test_references_are_in_order():
    path = ROOT / "course_lib" / "_data" / "references.json"
    assert reference_faults(path.read_text(encoding="utf-8")) == []


def test_chapters_are_found():
    assert {"index", "05_depth", "06_parameters", "07_layer_roles"} <= {path.stem for path in READ}
    assert not any(path.stem.startswith(("05a", "06a", "core")) for path in READ)


def test_companions_bind_nothing_that_is_never_checked():
    """A binding in a notebook that does not end with the check would only look like one."""
    teaching = {"live_numbers", "stated_numbers"}  # they are about bindings: theirs are examples
    others = [path for path in notebooks() if path not in READ and path.stem not in teaching]
    assert [path.stem for path in others if bindings(path) and ending_faults(path)] == []


@pytest.fixture
def write(tmp_path):
    """Write a notebook that falls short in nothing, changed where a test wants it."""
    def write(prose="It has 124M<!--= total -->.", code="total = 124_439_808", end=None, **folded):
        cells = [nbformat.v4.new_markdown_cell(prose), nbformat.v4.new_code_cell(code)]
        last = nbformat.v4.new_code_cell(end or check_cell("01_sample.ipynb"))
        last.metadata = {**FOLDED, **folded}
        nbformat.write(nbformat.v4.new_notebook(cells=[*cells, last]), tmp_path / "01_sample.ipynb")
        return tmp_path / "01_sample.ipynb"
    return write


def test_a_notebook_in_order_passes(write):
    path = write()
    assert unbound_numbers(path) == binding_faults(path) == ending_faults(path) == []


@pytest.mark.parametrize("prose, number", [
    ("It has 124M.", "124"), ("It has 124,439,808 of them.", "124,439,808"), ("Of 98.7 %.", "98.7"),
    ("| a | 250,002 |", "250,002"), ("## With 152 layers", "152"), ("(about 300 s)", "300")])
def test_an_unbound_number_is_seen(write, prose, number):
    assert [found[2] for found in unbound_numbers(write(prose=prose))] == [number]


@pytest.mark.parametrize("prose, code, said", [
    ("124M<!--= total -->", "total = 1\ntotal = 2", "assigned 2 times"),
    ("124M<!--= total -->", "for total in (1, 2): pass", "in a loop"),
    ("124M<!--= total -->", "pass", "in no cell"),
    ("about 124M<!--= total -->", "total = 1", "Bind it to a range"),
    ("124M<!--= total -->", f"{ANSWER}\ntotal = ...", "left to an answer"),
    ("124M<!--cite: nobody1900 -->", "pass", "no reference")])
def test_a_binding_that_cannot_vouch_is_seen(write, prose, code, said):
    assert said in " ".join(binding_faults(write(prose=prose, code=code)))


@pytest.mark.parametrize("changes, said", [
    ({"end": "print('the end')"}, "does not read"),
    ({"end": check_cell("02_other.ipynb")}, "does not read"),
    ({"jupyter": {}}, "metadata"), ({"tags": []}, "metadata")])
def test_an_ending_that_checks_nothing_is_seen(write, changes, said):
    assert said in " ".join(ending_faults(write(**changes)))


@pytest.mark.parametrize("chinese, said", [
    ("它有 1.24 亿<!--= n -->个参数。", ""), ("它有 124,439,808<!--= n --> 个参数。", ""),
    ("它有 1.42 亿<!--= n -->个参数。", "124M has become 1.42 亿"),
    ("它有 1.24 亿个参数。", "other bindings"),
    ("它有 1.24 亿<!--= m -->个参数。", "other bindings"),
    ("它的参数<!--= n -->有 7 个。", "no number stands"),
    ("2,019 年，它有 1.24 亿<!--= n -->个参数。", "2,019 is not bound")])
def test_a_translation_with_other_numbers_is_seen(chinese, said):
    faults = " / ".join(translation_faults("It has 124M<!--= n --> parameters.", chinese))
    assert said in faults and bool(said) == bool(faults)


GOOD = {"authors": "A", "year": 2019, "title": "T", "where": "W"}


@pytest.mark.parametrize("entries, said", [
    ({"b2019": GOOD, "a2019": GOOD}, "sorted"), ({"a2018": GOOD}, "the year"),
    ({"Radford": GOOD}, "the year"), ({"a2019": {**GOOD, "where": ""}}, "must have"),
    ({"a2019": {"year": 2019}}, "must have"), ({"a2019": {**GOOD, "page": 3}}, "nothing else")])
def test_a_reference_out_of_order_is_seen(entries, said):
    assert said in " ".join(reference_faults(json.dumps(entries)))


def test_keys_resolve():
    cited = {binding.expression for path in READ for binding in bindings(path)
             if binding.kind == "cite:"}
    assert {re.split(r"[\s,]", key)[0] for key in cited} <= set(references())
    assert bindings_in("117M<!--cite: radford2019, table 2 -->")[0].kind == "cite:"
