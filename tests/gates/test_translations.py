"""The Chinese course is whole: nothing missing, fuzzy or lost, and its code is the original's."""
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html import unescape
from pathlib import Path

import polib
import pytest
from project import ROOT
from test_readme import console_examples, python_examples

from course_lib.classroom import chinese, terms, translation
from course_lib.core.messages import _look_up

PO = ROOT / "nbs" / "locale" / translation.LANGUAGE
NOTEBOOKS = (ROOT / "nbs").glob("[1-7]_*/*.ipynb")
CHAPTERS = sorted(f"{path.parent.name}/{path.stem}" for path in NOTEBOOKS
                  if re.match(r"\d\d_", path.name))
READ = ["index", *CHAPTERS, "appendices/glossary"]  # two of these are run
COMPLETE = ["messages", *READ, *(f"classroom/answers/{name.split('/')[1]}" for name in CHAPTERS)]
LINK = re.compile(r"\]\(([^()\s]+)\)")
BOLD = re.compile(r"\*\*([^*]+)\*\*")


# ------------------------------------------------------------------ the files

@pytest.fixture(scope="module")
def files():
    """Every source as it is now, with what its PO file translates."""
    return translation.read_translations()


def stale(name, file, folder=PO):
    """Whether a PO file is not what `make translations` would write."""
    path = folder / name
    return not path.is_file() or path.read_text(encoding="utf-8") != f"{file}\n"


def test_translators_files_are_up_to_date(files):
    """Extraction is idempotent: `make translations` changes nothing now.

    A new chapter whose translation nobody began has no file yet, and is read in English.
    """
    begun = [name for name in files if (PO / name).is_file() or name[:-3] in COMPLETE]
    behind = [name for name in begun if stale(name, files[name])]
    assert not behind, f"run `make translations`: {', '.join(behind)}"


@pytest.mark.parametrize("name", COMPLETE)
def test_translated_whole_and_sure(files, name):
    texts, translated, fuzzy, missing = translation.state(files[f"{name}.po"])
    assert texts > 0 and (fuzzy, missing) == (0, 0), f"{translated} of {texts}, {fuzzy} fuzzy"


@pytest.mark.parametrize("name", COMPLETE)
def test_nothing_protected_is_lost_and_terms_are_kept(files, name):
    faults = [f"{fault}: {entry.msgid[:60]}" for entry in files[f"{name}.po"]
              for fault in translation.entry_faults(entry)]
    assert not faults, "\n".join(faults)


def test_no_other_file_has_faults(files):
    """A companion that somebody began is not whole, but what there is of it is right."""
    faults = [f"{name}: {fault}" for name, file in files.items() for entry in file
              for fault in translation.entry_faults(entry)]
    assert not faults, "\n".join(faults)


def test_catalogue_is_compiled(files):
    catalogue, faults = translation.compile_catalogue(files)
    stored = json.loads(translation.catalogue_path().read_text(encoding="utf-8"))
    assert not faults
    assert stored == catalogue, "run `make translations`"


@pytest.mark.parametrize("damage", ["missing", "fuzzy", "stale", "code", "term", "double"])
def test_each_check_of_the_files_can_fail(files, tmp_path, damage):
    file = polib.pofile(str(PO / "2_anatomy/06_parameters.po"), wrapwidth=0)
    entry = next(each for each in file if "`" in each.msgid and each.msgstr)
    if damage == "missing":
        entry.msgstr = ""
        assert translation.state(file)[3] == translation.state(files["2_anatomy/06_parameters.po"]
                                                               )[3] + 1
    elif damage == "fuzzy":
        entry.flags = ["fuzzy"]
        assert translation.state(file)[2] >= 1
    elif damage == "stale":
        entry.msgid += " "
        (tmp_path / "2_anatomy").mkdir()
        (tmp_path / "2_anatomy/06_parameters.po").write_text(f"{file}\n", encoding="utf-8")
        assert stale("2_anatomy/06_parameters.po", files["2_anatomy/06_parameters.po"], tmp_path)
    elif damage == "code":
        entry.msgstr = entry.msgstr.replace("`", "", 2)
        assert translation.entry_faults(entry)
    elif damage == "term":
        assert translation.entry_faults(polib.POEntry(msgid="A hidden layer.", msgstr="一个隐层。"))
    else:
        one = polib.POEntry(msgid="share", msgstr="占比", comment=translation.SCREEN)
        two = polib.POEntry(msgid="share", msgstr="份额", comment=translation.SCREEN)
        assert translation.compile_catalogue({"one": [one], "two": [two]})[1]


# -------------------------------------------------------------- the notebooks

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The Chinese notebooks, not run."""
    folder = tmp_path_factory.mktemp("zh_CN")
    chinese.build_chinese(folder, execute=False)
    return folder


def read(path):
    """A notebook as a dictionary."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def prose(notebook):
    """All Markdown of a notebook."""
    return "\n\n".join("".join(cell["source"]) for cell in notebook["cells"]
                       if cell["cell_type"] == "markdown")


def bindings(notebook):
    """The expressions bound to numbers, and the sources cited, as often as they come."""
    return Counter(re.findall(r"<!--\s*(?:=|cite:).*?-->", prose(notebook), re.S))


def broken_links(notebook, path):
    """Targets of links inside the course that are not there."""
    targets = [target.split("#")[0] for target in LINK.findall(prose(notebook))]
    return [target for target in targets if target and not re.match(r"[a-z]+:", target)
            and not (path.parent / target).is_file()]


def test_same_notebooks_in_both_languages(built):
    english = {path.relative_to(ROOT / "nbs") for path in (ROOT / "nbs").rglob("*.ipynb")
               if not {"core", "classroom", ".ipynb_checkpoints"} & set(path.parts)}
    assert {path.relative_to(built) for path in built.rglob("*.ipynb")} == english
    assert len(english) > 20


@pytest.mark.parametrize("name", READ)
def test_code_bindings_and_links_are_the_originals(built, name):
    original, path = read(ROOT / "nbs" / f"{name}.ipynb"), built / f"{name}.ipynb"
    translated = read(path)
    assert chinese.code_differences(original, translated) == []
    assert bindings(original) == bindings(translated)
    assert broken_links(translated, path) == []
    kinds = [[(cell["id"], cell["cell_type"]) for cell in each["cells"]]
             for each in (original, translated)]
    assert kinds[0] == kinds[1]


def english_blocks(notebook):
    """Blocks of words without a Chinese one; names, numbers and references may be so."""
    pieces = [piece.text for cell in notebook["cells"] if cell["cell_type"] == "markdown"
              for piece in translation.split_markdown("".join(cell["source"])) if piece.text]
    return [text for text in pieces if not re.search("[\u4e00-\u9fff]", text)
            and re.search(r"[a-z]{3,} [a-z]{3,} [a-z]{2,}", re.sub(r"`[^`]*`", "", text))]


@pytest.mark.parametrize("name", READ)
def test_prose_is_chinese(built, name):
    assert english_blocks(read(built / f"{name}.ipynb")) == []
    assert english_blocks(read(ROOT / "nbs" / f"{name}.ipynb"))


@pytest.mark.parametrize("damage", ["code", "binding", "link"])
def test_each_check_of_the_notebooks_can_fail(built, damage):
    path = built / "2_anatomy/06_parameters.ipynb"
    original, changed = read(ROOT / "nbs/2_anatomy/06_parameters.ipynb"), read(path)
    prose_cell = next(cell for cell in changed["cells"] if "<!--=" in "".join(cell["source"])
                      and cell["cell_type"] == "markdown")
    if damage == "code":
        cell = next(cell for cell in changed["cells"] if cell["cell_type"] == "code"
                    and "assert" in "".join(cell["source"]))
        cell["source"] = "".join(cell["source"]).replace("==", "!=")
        assert chinese.code_differences(original, changed)
    elif damage == "binding":
        prose_cell["source"] = "".join(prose_cell["source"]).replace("<!--=", "<!--= 1 +", 1)
        assert bindings(original) != bindings(changed)
    else:
        prose_cell["source"] = "[no](nowhere.ipynb)"
        assert broken_links(changed, path) == ["nowhere.ipynb"]


# ------------------------------------------------------------------- it runs

RECORD = """\
import json as _json
from course_lib.core import messages as _messages
_drawn, _translate = {}, _messages.translate
def _recorded(text, **values):
    shown = _translate(text, **values)
    _drawn[_messages._fill(str(text), values)] = str(shown)
    return shown
_messages.translate = _recorded
"""


def drawn_pair(contents, names=READ):
    """Two of the notebooks that students read: the same for the same course, others for another."""
    first = int(hashlib.sha256(contents).hexdigest(), 16) % len(names)
    return [names[first], names[(first + 1) % len(names)]]


def course():
    """What the Chinese notebooks are made from."""
    paths = [*(ROOT / "nbs" / f"{name}.ipynb" for name in READ), *sorted(PO.rglob("*.po"))]
    return b"".join(path.read_bytes() for path in paths)


def test_every_notebook_has_its_turn():
    pairs = [drawn_pair(bytes([n])) for n in range(200)]
    assert {name for pair in pairs for name in pair} == set(READ)
    assert all(len(set(pair)) == 2 for pair in pairs) and drawn_pair(course()) in pairs


def with_record(notebook):
    """The notebook with a cell before and after it that note what was drawn, and as what."""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {**notebook, "cells": [
        {**cell, "id": "record", "source": RECORD}, *notebook["cells"],
        {**cell, "id": "drawn", "source": "print(_json.dumps(_drawn))"}]}


def has_words(text):
    """Whether a text says something: two words, not in code."""
    return re.search(r"\b[a-z]{3,} (\S+ )?[a-z]{3,}\b", re.sub(r"`[^`]*`", "", text))


def untranslated(drawn):
    """Texts of several words that were drawn as they are."""
    return [text for text, shown in drawn.items() if text == shown and has_words(text)]


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 1])
def test_chinese_notebook_runs_and_shows_chinese(built, turn, tmp_path):
    name = drawn_pair(course())[turn]
    folder = tmp_path / Path(name).parent
    folder.mkdir(exist_ok=True)
    path = folder / f"{Path(name).name}.ipynb"
    path.write_text(json.dumps(with_record(read(built / f"{name}.ipynb"))), encoding="utf-8")
    assert chinese.execute_notebook(path) == "", name
    cells = read(path)["cells"]
    drawn = json.loads("".join(cells[-1]["outputs"][-1]["text"]).splitlines()[-1])
    assert any(re.search("[\u4e00-\u9fff]", shown) for shown in drawn.values())
    assert untranslated(drawn) == []
    alts = [each["alt"] for cell in cells for output in cell.get("outputs", ())
            for each in output.get("metadata", {}).values() if isinstance(each, dict)
            and "alt" in each]
    assert all(re.search("[\u4e00-\u9fff]", alt) for alt in alts), alts


def shown_in(notebook):
    """The texts in a stored notebook's tables, and the alternative texts of its figures."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            html = "".join(output.get("data", {}).get("text/html", ""))
            for _, cell_text in re.findall(r"<(td|th|caption)\b[^>]*>(.*?)</\1>", html, re.S):
                yield unescape(re.sub(r"<[^>]*>", "", cell_text))
            yield from (each["alt"] for each in output.get("metadata", {}).values()
                        if isinstance(each, dict) and "alt" in each)


def left_in_english(texts):
    """Those that a Chinese chapter would show as they are, or in good part."""
    shown = {text: _look_up(text, translation.LANGUAGE) for text in texts if has_words(text)}
    return [text for text, chinese_text in shown.items() if chinese_text == text
            or re.search(r"\b[a-z]{2,}( [a-z]{2,}){2}\b", chinese_text)]


@pytest.mark.parametrize("name", ["index", *CHAPTERS])
def test_what_a_chapter_shows_has_a_translation(name):
    """From the stored outputs: in the Chinese chapter the same texts are looked up."""
    shown = set(shown_in(read(ROOT / "nbs" / f"{name}.ipynb")))
    assert len(shown) > 10 and left_in_english(shown) == []


def test_a_text_without_translation_is_found():
    known = ["held-out accuracy (%)", "3 more: words", "7,340,032", "`two words`",
             "8·8 = 64 [unused in the last forward]"]
    strange = ["a new text", "one new text and a second one", "8·8 = 64 [a new note]"]
    assert left_in_english(known + strange) == strange
    table = {"data": {"text/html": ["<table><tr><td>one &amp; <b>two</b></td></tr></table>"]}}
    assert list(shown_in({"cells": [{"outputs": [table]}]})) == ["one & two"]


def test_a_chinese_notebook_that_fails_is_reported(tmp_path):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None,
            "source": "import os\nassert os.environ['COURSE_LANG'] == 'en', 'not English'"}
    path = tmp_path / "fails.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4,
                                "nbformat_minor": 5}), encoding="utf-8")
    assert "not English" in chinese.execute_notebook(path)
    assert untranslated({"time steps on the path": "time steps on the path", "gpt2": "gpt2"})


# -------------------------------------------------------------- the glossary

LABELS = {"before this", "reading", "running", "writes", "predict", "as many"}


def new_terms(notebook):
    """Terms in bold in running text: one to three words, no sentence, no lead of a list item."""
    running = re.sub(r"^\|.*$|^\s*[-*\d.]+ \*\*[^*]+\*\*", "", prose(notebook), flags=re.M)
    for text in BOLD.findall(running.split("\n## Pitfalls")[0]):
        term = " ".join(text.split()).lower().rstrip(".:")
        if (len(term.split()) < 4 and term not in LABELS and not text.endswith((".", "?", "!"))
                and not re.search(r"\d|[+−=]", term)):
            yield term


def is_listed(term, listed):
    """Whether a glossary lists a term, in singular or plural, alone or as the start of one."""
    singular = re.sub(r"s$", "", term)
    return any(each in (term, singular) or each.startswith((f"{term} ", f"{singular} "))
               for each in listed)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_term_in_bold_is_in_the_glossary(name):
    listed = {term.term.lower() for term in terms.read_terms()}
    notebook = read(ROOT / "nbs" / f"{name}.ipynb")
    found = sorted({term for term in new_terms(notebook) if not is_listed(term, listed)})
    assert not found, found
    assert len(set(new_terms(notebook))) > 2
    assert not is_listed("no such term", listed)


def test_one_term_one_translation():
    listed = terms.read_terms()
    assert len({term.term.lower() for term in listed}) == len(listed) >= 120
    for term in listed:
        assert term.definition[-1] == "." and term.definition_zh[-1] == "。", term.term
        assert not set(term.wrong) & {term.zh, *term.also}, term.term
        assert re.search("[\u4e00-\u9fff]", term.definition_zh)
        assert not re.search("[\u4e00-\u9fff]", term.definition)
    assert [term.term.lower() for term in listed] == sorted(term.term.lower() for term in listed)


def test_definitions_use_the_glossarys_own_terms():
    faults = [f"{term.term}: {fault}" for term in terms.read_terms()
              for fault in terms.term_faults(term.definition, term.definition_zh)]
    assert not faults, "\n".join(faults)


def test_overfitting_and_underfitting_are_not_swapped():
    """As the field defines them: 过 is too much, 欠 is too little (Goodfellow et al. 2016, 5.2).

    Underfitting: the error on the training set is not low enough. Overfitting: the gap between
    training and test error is too large.
    """
    listed = {term.term: term for term in terms.read_terms()}
    over, under = listed["overfitting"], listed["underfitting"]
    assert (over.zh, under.zh) == ("过拟合", "欠拟合")
    assert "new data" in over.definition and "新数据" in over.definition_zh
    assert "too simple" in under.definition and "太简单" in under.definition_zh
    assert "欠拟合" in over.wrong and "过拟合" in under.wrong
    assert terms.term_faults("overfitting", "欠拟合")
    assert terms.term_faults("underfitting", "过拟合")


# ---------------------------------------------------------------- the README

def commands(text):
    """What a README tells its reader to type, in order."""
    return re.findall(r"^```(sh|console|python|text)\n(.*?)^```", text, re.S | re.M)


def without_comments(block):
    """A block of commands without what is said about them, nor what they print."""
    kind, content = block
    lines = [line.split("  # ")[0].rstrip() for line in content.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return kind, [line for line in lines if kind != "console" or line.startswith("$ ")]


def test_chinese_readme_has_the_same_commands():
    english, translated = (ROOT / name for name in ("README.md", "README.zh-CN.md"))
    blocks = [[without_comments(block) for block in commands(path.read_text(encoding="utf-8"))
               if block[0] != "text"] for path in (english, translated)]
    assert blocks[0] == blocks[1] and len(blocks[0]) > 5


def test_readmes_point_at_each_other_and_at_what_exists():
    for name, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        text = (ROOT / name).read_text(encoding="utf-8")
        targets = [target for target in LINK.findall(text) if not re.match(r"[a-z]+:|#", target)]
        assert other in targets, f"{name} does not link to {other}"
        assert [target for target in targets if not (ROOT / target).exists()] == []


def test_chinese_readme_is_set_as_chinese():
    text = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    bare = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    faults = [fault for line in bare.splitlines() for fault in translation.style_faults(line)]
    assert not faults, "\n".join(faults)


def test_a_build_clears_notebooks_that_the_course_lost(tmp_path):
    root = tmp_path / "root"
    (root / "nbs").mkdir(parents=True), (root / "course_lib").mkdir()
    empty = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (root / "nbs/index.ipynb").write_text(json.dumps(empty))
    (root / "nbs/old.ipynb").write_text(json.dumps(empty))
    assert set(chinese.build_chinese(tmp_path / "zh", execute=False, root=root)) == {
        "index.ipynb", "old.ipynb"}
    (root / "nbs/old.ipynb").unlink()
    chinese.build_chinese(tmp_path / "zh", execute=False, root=root)
    assert [path.name for path in (tmp_path / "zh").rglob("*.ipynb")] == ["index.ipynb"]


@pytest.mark.slow
def test_chinese_readmes_examples_print_what_it_shows(tmp_path):
    """The same programs as in English, and tables in Chinese."""
    text = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    environment = {**os.environ, "COURSE_LANG": "zh", "COURSE_DATA": str(tmp_path)}
    so_far, shown = "", ""
    for program, output in python_examples(text):
        so_far, shown = so_far + program, shown + output
    commands = [([sys.executable, "-c", so_far], shown)]
    script = str(Path(sys.executable).with_name("course-lib"))
    commands += [([script, *command.split()[1:]], output)
                 for command, output in console_examples(text)]
    for command, output in commands:
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert ran.stdout.split() == output.split()
    assert len(commands) > 2 and "合计" in commands[1][1]
