"""Every example in a docstring runs: `make test` runs them all, and none may opt out."""
import doctest
import importlib
import inspect
import re
import subprocess
import sys

import course_lib
import pytest
from project import LIBRARY, ROOT, modules

OPT_OUT = re.compile(r"#\s*doctest:\s*\+SKIP|__doctest_skip__")


def named(paths):
    """Importable names of the modules that hold code."""
    parts = (path.with_suffix("").parts for path in paths if path.name != "__init__.py")
    return sorted(".".join(("course_lib", *names)) for names in parts)


def without_example(name, thing):
    """A function that a reader cannot try from its docstring; a class is what functions return."""
    found = doctest.DocTestFinder(recurse=False).find(thing, name)
    return inspect.isfunction(thing) and not any(test.examples for test in found)


@pytest.mark.parametrize("name", modules(), ids=str)
def test_no_example_opts_out(name):
    assert not OPT_OUT.search((LIBRARY / name).read_text(encoding="utf-8"))


def test_an_example_that_opts_out_is_seen():
    assert OPT_OUT.search('"""\n>>> 1 / 0  # doctest: +SKIP\n"""')


@pytest.mark.parametrize("name", course_lib.__all__)
def test_the_public_face_shows_an_example(name):
    assert not without_example(name, getattr(course_lib, name))


def test_a_missing_example_is_seen():
    def bare():
        """Words only."""

    assert without_example("bare", bare)


@pytest.mark.parametrize("module", named(modules()))
def test_public_functions_are_documented(module):
    loaded = importlib.import_module(module)
    public = [getattr(loaded, name) for name in getattr(loaded, "__all__", ())]
    bare = [thing.__name__ for thing in public
            if (inspect.isfunction(thing) or inspect.isclass(thing)) and not inspect.getdoc(thing)]
    assert bare == []


@pytest.mark.slow
@pytest.mark.parametrize("value, verdict", [("2", 0), ("3", 1)])
def test_a_wrong_example_fails(tmp_path, value, verdict):
    """The command that `make test` uses on course_lib, on one right and one wrong example."""
    (tmp_path / "sample.py").write_text(f'"""\n>>> 1 + 1\n{value}\n"""\n')
    command = [sys.executable, "-m", "pytest", "-q", "--doctest-modules", str(tmp_path),
               f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == verdict
