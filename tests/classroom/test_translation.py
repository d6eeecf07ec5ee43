"""Taking notebooks apart, merging translations, finding what a translation lost, building."""
import json
import random
import re
from pathlib import Path

import polib
import pytest

from course_lib.classroom import chinese, strings, terms, texts, translation, translation_faults

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb")
                   if ".ipynb_checkpoints" not in path.parts)


def cells(path, kind):
    """Sources of the cells of one kind."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


# ------------------------------------------------------------ apart and together

@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_is_put_together_again(path):
    for source in cells(path, "markdown"):
        pieces = texts.split_markdown(source)
        assert "".join(piece.source for piece in pieces) == source
        assert texts.translate_markdown(source, {}.get) == source
        for piece in pieces:
            assert not piece.text.startswith(("```", "$$", "#", "- ")), piece.text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_translating_every_comment_changes_no_code(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    words = {text: f"注释，{text.upper()}" * 3 for source in cells(path, "code")
             for *_, text in texts.split_comments(source)}
    assert chinese.code_differences(notebook, translate(notebook, words)) == []


def translate(notebook, words):
    """A notebook with a dictionary of translations put in."""
    return chinese.translate_notebook(notebook, words)


MARKDOWN = """# Title
A paragraph
in two lines.

> A quote
> goes on.

- item one
  continued
  - nested

    a paragraph of the item
* other
12. not a
    list of its own kind

~~~
a fence
~~~
$$
x
$$
Text before a table
| a | b |
|---|---|
| 1 | $x$ |
<!-- note -->
<details><summary>More</summary>

Inside.
</details>"""


def test_blocks_by_hand():
    found = [(piece.prefix, piece.text) for piece in texts.split_markdown(MARKDOWN) if piece.text]
    assert found == [
        ("# ", "Title"), ("", "A paragraph in two lines."), ("> ", "A quote goes on."),
        ("- ", "item one continued"), ("  - ", "nested"), ("    ", "a paragraph of the item"),
        ("* ", "other"), ("12. ", "not a list of its own kind"), ("", "Text before a table"),
        ("", "| a | b |\n|---|---|\n| 1 | $x$ |"),
        ("", "<details><summary>More</summary>"), ("", "Inside. </details>")]


def test_rewrapping_a_paragraph_keeps_its_text():
    words = "A paragraph that is long enough to be wrapped at quite different places.".split()
    rng = random.Random(0)
    for _ in range(20):
        source = "".join(word + rng.choice([" ", "\n", "\n"]) for word in words).strip()
        assert [piece.text for piece in texts.split_markdown(source)] == [" ".join(words)]


def test_a_line_that_starts_with_a_number_is_no_list():
    piece, = texts.split_markdown("The network of chapter\n06. It has 12 blocks\n- dash") [:1]
    assert piece.text.startswith("The network of chapter 06. It has 12 blocks")


@pytest.mark.parametrize("comment", [
    "#| export", "# NBVAL_IGNORE_OUTPUT", "# your answer", "# end of your answer", "# %%",
    "# noqa: E501", "# type: ignore", "# (B, T, C)", "# (in,), (h,), (4, h, in) …", "# 3 · 4"])
def test_comments_that_no_reader_reads_stay(comment):
    assert texts.split_comments(f"x = 1\n{comment}\ny = 2") == []


def test_a_string_with_a_hash_is_no_comment():
    assert texts.split_comments("x = '# no comment'  # one") == [(1, 1, 20, "one")]


# ----------------------------------------------------------------------- strings

@pytest.mark.parametrize("code, found", [
    ('ax.set(xlabel="share", color="blue")', ["share"]),
    ('ax.set_title(f"{name}: {n:,} layers")', ["{name}: {n} layers"]),
    ('Table(["network", "depth"], rows, title="Ten nets")', ["network", "depth", "Ten nets"]),
    ('show(figure, alt="Two bars, " f"{n} high")', ["Two bars, {n} high"]),
    ('raise ValueError(f"n must be positive, not {n!r}")', ["n must be positive, not {n}"]),
    ('Property("is a number", lambda a, rng: a == "two words", LOOK)', ["is a number"]),
    ('LOOK = "Look again."\nProperty("", f, LOOK)', ["Look again."]),
    ('Exercise(title="Depth", name="a_b", solution="x = 1\\ny = 2")', ["Depth"]),
    ('def f():\n    "A docstring of words."\n    return 1', []),
    ('x["two words"] == "more words"', []),
    ('assert x, "a sentence for developers"', []),
    ('re.match("a pattern", text)', []),
    ('print("what a cell prints")', []),
    ('"what a cell shows"', [])])
def test_strings_by_hand(code, found):
    assert [text for _, text in strings.find_strings([code])] == found


def test_chapters_labels_are_found():
    """Every literal label of an axis, a slider or a figure in the chapters is in its PO file."""
    count = 0
    for path in (path for path in NOTEBOOKS if re.match(r"\d\d_", path.stem)):
        taught = [source for source in cells(path, "code") if "#| export" not in source]
        labels = re.findall(r'(?:xlabel|ylabel|description|title)="([^"]+)"', "\n".join(taught))
        words = {label for label in labels if re.fullmatch(r"[A-Za-z ]{4,}", label)}
        count += len(words)
        assert words <= {entry.msgid for entry in translation.extract(path)}
    assert count > 10


# ----------------------------------------------------------------------- merging

def file_of(entries):
    """A PO file of (text, translation, flags …) tuples."""
    file = polib.POFile()
    for text, done, *rest in entries:
        file.append(polib.POEntry(msgid=text, msgstr=done, flags=list(rest)))
    return file


LONG = "A matrix that two layers share is a tied weight and is counted once."


def test_exact_keeps():
    merged = translation.merge(file_of([(LONG, "共享")]), file_of([(LONG, "")]))
    assert [(entry.msgstr, entry.fuzzy) for entry in merged] == [("共享", False)]


def test_near_becomes_fuzzy_and_shows_what_it_was():
    near = LONG.replace("counted", "seen")
    merged = translation.merge(file_of([(LONG, "共享")]), file_of([(near, "")]))
    entry, = merged
    assert (entry.msgstr, entry.fuzzy, entry.previous_msgid) == ("共享", True, LONG)
    assert "#| msgid" in str(merged)


def test_far_is_missing_and_vanished_is_obsolete():
    merged = translation.merge(file_of([(LONG, "共享"), ("Untranslated.", "")]),
                               file_of([("Something else altogether, new.", "")]))
    assert [(entry.msgid, entry.msgstr, entry.obsolete) for entry in merged] == [
        ("Something else altogether, new.", "", False), (LONG, "共享", True)]


def test_what_vanished_comes_back():
    gone = translation.merge(file_of([(LONG, "共享")]), file_of([]))
    back = translation.merge(gone, file_of([(LONG, "")]))
    assert [(entry.msgstr, entry.obsolete, entry.fuzzy) for entry in back] == [
        ("共享", False, False)]


def test_fuzzy_twice_remembers_the_text_that_was_translated():
    second, third = LONG.replace("two", "three"), LONG.replace("two", "four")
    once = translation.merge(file_of([(LONG, "共享")]), file_of([(second, "")]))
    twice = translation.merge(once, file_of([(third, "")]))
    assert twice[0].previous_msgid == LONG and twice[0].fuzzy


def test_one_translation_is_inherited_once():
    new = [(LONG.replace("two", word), "") for word in ("three", "four")]
    merged = translation.merge(file_of([(LONG, "共享")]), file_of(new))
    assert sorted(entry.msgstr for entry in merged) == ["", "共享"]


def test_fuzzy_stays_fuzzy_until_somebody_looks():
    merged = translation.merge(file_of([(LONG, "共享", "fuzzy")]), file_of([(LONG, "")]))
    assert merged[0].fuzzy
    assert translation.compile_catalogue({"one": merged})[0] == {}


def test_merging_twice_changes_nothing():
    new = file_of([(LONG, ""), ("Another one.", "")])
    once = str(translation.merge(file_of([(LONG, "共享"), ("Gone now.", "没了")]), new))
    again = translation.merge(polib.pofile(once, wrapwidth=0),
                              file_of([(LONG, ""), ("Another one.", "")]))
    assert str(again) == once


# -------------------------------------------------------------------- protection

WHOLE = ("**Tied**: `lm_head` and $W^T$ hold 38,597,376<!--= wte.count --> numbers, 117M"
         "<!--cite: radford2019 -->, see [05](05_depth.ipynb) and <b>1,024</b> tokens.")
RIGHT = ("**共享**：`lm_head` 和 $W^T$ 有 38,597,376<!--= wte.count --> 个数，117M"
         "<!--cite: radford2019 -->，见 [05](05_depth.ipynb) 和 <b>1,024</b> 个词元。")


def test_a_right_translation_has_no_faults():
    assert translation_faults.protection_faults(WHOLE, RIGHT) == []
    assert translation_faults.style_faults(RIGHT) == []
    assert terms.term_faults(WHOLE, RIGHT) == []


@pytest.mark.parametrize("old, new", [
    ("`lm_head`", "`lm_haed`"), ("`lm_head`", "lm_head"), ("$W^T$", "$W$"),
    ("<!--= wte.count -->", ""), ("wte.count", "wpe.count"), ("radford2019", "radford2018"),
    ("05_depth.ipynb", "05_deep.ipynb"), ("<b>1,024</b>", "1,024"), ("1,024", "1,042"),
    ("`lm_head`", "`lm_head` `lm_head`")])
def test_every_slip_is_found(old, new):
    assert translation_faults.protection_faults(WHOLE, RIGHT.replace(old, new))


def test_numbers_may_be_written_in_chinese_units():
    english = "GPT-2 has 124,439,808<!--= gpt2.total --> parameters."
    assert not translation_faults.protection_faults(
        english, "GPT-2 有 1.24 亿<!--= gpt2.total -->个参数。")


@pytest.mark.parametrize("text, translated, fault", [
    ("{n} of {total}", "{total} 中的 {n}", None), ("{n} layer{plural}", "{n} 层", None),
    ("{n} of {total}", "{total} 中", "n"), ("{n} layers", "{m} 层", "m")])
def test_holes(text, translated, fault):
    faults = translation_faults.protection_faults(text, translated, screen=True)
    assert not faults if fault is None else any(f"hole {fault} " in each for each in faults)


@pytest.mark.parametrize("text", [
    "一层,两层", "一层.", "（a)一层(两层)", "共享weight", "12层", "您看", "**权重（w）**是", "对!"])
def test_style_is_seen(text):
    assert translation_faults.style_faults(text)


@pytest.mark.parametrize("text", [
    "**权重**（w）是", "在 `fc` 中，12 层。", "**注意：**这里", "`a`、`b` 和 $x$", "占 31 %。",
    "{n}层", "见 [第 05 章](05.ipynb)。", "1. 第一", "**重要。** 下一句"])
def test_good_style_passes(text):
    faults = translation_faults.style_faults(text)
    assert not faults or text == "**注意：**这里", faults


def test_terms_in_plural_and_in_longer_terms():
    assert terms.term_faults("Hidden layers", "隐藏层") == []
    assert terms.term_faults("two vocabularies", "两个词表") == []
    assert len(terms.term_faults("two vocabularies", "两个字典")) == 1
    assert terms.term_faults("the learning rate", "学习率") == []


# ------------------------------------------------------------------------- build

def test_missing_and_fuzzy_stay_english(tmp_path):
    file = file_of([("Depth", "深度"), ("Sure?", "不确定", "fuzzy"), ("Missing", "")])
    file.save(str(tmp_path / "a.po"))
    assert chinese.read_usable(tmp_path / "a.po") == {"Depth": "深度"}


def test_magics_are_kept():
    cell = {"cell_type": "code", "id": "a", "source": "%matplotlib inline\nx = 1  # one"}
    built = translate({"cells": [cell]}, {"one": "一"})
    assert "".join(built["cells"][0]["source"]) == "%matplotlib inline\nx = 1  # 一"
    assert chinese.code_differences({"cells": [cell]}, built) == []
    built["cells"][0]["source"] = "%matplotlib inline\nx = 2  # 一"
    assert chinese.code_differences({"cells": [cell]}, built) == ["a"]
