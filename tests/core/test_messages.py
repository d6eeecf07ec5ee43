"""Which language, and what a text becomes in it; the lookup never raises."""
import json
import random
import string
import subprocess
import sys

import pytest

from course_lib.core import messages

WORDS = {"layers": "层", "{} layers": "{} 层", "{n} of {total} solved": "{total} 题中已解 {n} 题",
         "{n} layer{plural} deep": "深 {n} 层", "{a} and {b}": "{b} 和 {a}", "role": "角色",
         "total {n}": "合计 {n}", "{what} left": "剩下{what}", "formula $x_{i}$": "公式 $x_{i}$",
         ", {n} of them frozen": "，其中 {n} 个冻结", "meta tensors": "meta 张量",
         "measured: {n} saved for later": "实测：保存 {n} 备用", ", {n} outputs": "，输出 {n}"}
VARIABLES = ("COURSE_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def environment(monkeypatch):
    """No language in the environment; what a test chooses is forgotten after it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    messages.set_language(None)


@pytest.fixture
def chinese(environment):
    """Chinese, with a small catalogue."""
    environment.setattr(messages, "_catalogue", lambda name: WORDS)
    messages._templates.cache_clear(), messages._look_up.cache_clear()
    messages.set_language("zh")
    yield
    messages._templates.cache_clear(), messages._look_up.cache_clear()


@pytest.mark.parametrize("tag, language", [
    ("zh", "zh_CN"), ("zh_CN", "zh_CN"), ("zh-CN", "zh_CN"), ("zh_CN.UTF-8", "zh_CN"),
    ("ZH_hans", "zh_CN"), ("Chinese (Simplified)_China", "zh_CN"), ("en", "en"),
    ("en_US.UTF-8", "en"), ("C", "en"), ("POSIX", "en"), ("fr_FR", "en"), ("zhx", "en")])
def test_tags(environment, tag, language):
    environment.setenv("COURSE_LANG", tag)
    assert messages.language() == language


def test_order_of_the_environment(environment):
    for index, name in enumerate(reversed(VARIABLES)):
        environment.setenv(name, "zh_CN.UTF-8" if index % 2 == 0 else "en_GB.UTF-8")
        assert messages.language() == ("zh_CN" if index % 2 == 0 else "en")
    environment.setenv("COURSE_LANG", "")
    assert messages.language() == "zh_CN"


def test_a_choice_beats_the_environment(environment):
    environment.setenv("COURSE_LANG", "zh")
    messages.set_language("en")
    assert messages.language() == "en"
    messages.set_language(None)
    assert messages.language() == "zh_CN"


def test_windows_is_asked_where_no_variable_is_set(environment):
    environment.setattr(messages.os, "name", "nt")
    import locale
    environment.setattr(locale, "getlocale", lambda *_: ("Chinese (Simplified)_China", "936"))
    assert messages.language() == "zh_CN"
    environment.setattr(locale, "getlocale", lambda *_: (None, None))
    assert messages.language() == "en"


@pytest.mark.parametrize("name", ["fr", "english-like", "", 3])
def test_a_language_that_the_course_lacks_is_refused(environment, name):
    with pytest.raises(ValueError, match="name must be 'en' or 'zh'"):
        messages.set_language(name)


@pytest.mark.parametrize("text, shown", [
    ("layers", "层"), ("12 layers", "12 层"), ("3 of 5 solved", "5 题中已解 3 题"),
    ("1 layer deep", "深 1 层"), ("2 layers deep", "深 2 层"), ("x and y", "y 和 x"),
    ("role left", "剩下角色"), ("gpt2", "gpt2"), ("", ""), ("124,439,808", "124,439,808"),
    ("formula $x_{i}$", "公式 $x_{i}$"), ("total 3 · total 4", "合计 3 · 合计 4"),
    ("12 layers, 8 of them frozen", "12 层，其中 8 个冻结"),
    ("measured: 2 MB saved for later, 3 outputs", "实测：保存 2 MB 备用，输出 3"),
    ("torch 2.13, meta tensors", "torch 2.13, meta tensors"),
    ("numpy, meta tensors", "numpy，meta 张量")])
def test_finished_texts(chinese, text, shown):
    assert messages.translate(text) == shown


def test_values(chinese):
    assert messages.translate("{n} of {total} solved", n=3, total=5) == "5 题中已解 3 题"
    assert messages.translate("{what} left", what="role") == "剩下角色"
    assert messages.translate("unknown {n:,}", n=1234) == "unknown 1,234"


def test_what_stands_in_a_code_span_is_the_learners_own(chinese):
    told = messages.translate("`{code}` has another {what}, and so has `f({code}, 1)`",
                              code="layers", what="role")
    assert told == "`layers` has another 角色, and so has `f(layers, 1)`"


def test_english_needs_no_catalogue(environment):
    environment.setattr(messages, "_catalogue", lambda name: pytest.fail("read"))
    assert messages.translate("12 layers") == "12 layers"
    assert messages.translate("{n:,} of {m}", n=1234, m="x") == "1,234 of x"


def test_never_raises(chinese):
    rng = random.Random(1)
    letters = string.ascii_letters + "{}:!$ ·,;()%层\n"
    for _ in range(500):
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(30)))
        assert isinstance(messages.translate(text), str)
        assert isinstance(messages.translate(text, n=object(), a=None), str)
    for value in (None, 3, b"x"):
        assert messages.translate(value) == value


@pytest.mark.parametrize("content", [None, "", "[1]", "{", "\xff"])
def test_a_missing_or_damaged_catalogue_leaves_english(environment, tmp_path, content):
    folder = tmp_path / "_data" / "locale"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "zh_CN.json").write_text(content, encoding="latin-1")
    environment.setattr(messages, "__file__", str(tmp_path / "core" / "messages.py"))
    messages._catalogue.cache_clear()
    try:
        assert messages._catalogue("zh_CN") == {}
    finally:
        messages._catalogue.cache_clear()


def test_the_shipped_catalogue_is_read_once(environment):
    messages._catalogue.cache_clear(), messages._look_up.cache_clear()
    messages.set_language("zh")
    assert messages.translate("share") == "占比"
    assert messages.translate("Depth of gpt2") == "gpt2 的深度"
    messages.translate("total 12")
    assert messages._catalogue.cache_info().misses == 1


def test_import_is_light_and_needs_no_package():
    code = ("import sys, time; t = time.perf_counter(); import course_lib.core.messages as m;"
            "print(time.perf_counter() - t); m.set_language('zh'); m.translate('share');"
            "print([n for n in ('numpy', 'ipywidgets', 'matplotlib') if n in sys.modules])")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = shown.stdout.splitlines()
    assert float(seconds) < 0.1 and loaded == "[]"


def test_widgets_send_translations_and_keep_english(chinese):
    ipywidgets = pytest.importorskip("ipywidgets")
    import ipykernel  # noqa: F401  (descriptions are translated in a kernel only)
    messages.set_language("zh")
    choice = ipywidgets.Dropdown(options=[("layers", 1), ("gpt2", 2)], description="role")
    sent = choice.get_state()
    assert (sent["description"], sent["_options_labels"]) == ("角色", ["层", "gpt2"])
    assert choice.description == "role" and choice.label == "layers"
    messages.set_language("en")
    assert json.loads(json.dumps(choice.get_state()["description"])) == "role"


def test_every_template_of_the_catalogue_finds_itself():
    """A filled template is found again, whatever stands in its holes: no other one comes first."""
    catalogue = json.loads((messages.Path(messages.__file__).parents[1] / "_data" / "locale"
                            / "zh_CN.json").read_text(encoding="utf-8"))
    messages.set_language("zh")
    try:
        for english in catalogue:
            filled = messages._HOLE.sub(lambda hole: "s" if hole[1] == "plural" else "Q7", english)
            if filled != english and catalogue[english] != english:
                assert messages.translate(filled) != filled, english
    finally:
        messages.set_language(None)
