"""The library is what the notebooks export, and nothing else."""
from pathlib import Path

import pytest
from project import LIBRARY, copy_notebooks, modules, nbdev


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The modules that the notebooks write today, in a temporary folder."""
    folder = copy_notebooks(tmp_path_factory.mktemp("export"))
    nbdev("nbdev_export", folder)
    return modules(folder / "course_lib")


def differences(exported, library):
    """Names of the modules that differ, or that only one side has."""
    def text(path):
        return path.read_text(encoding="utf-8") if path else None

    return sorted(str(name) for name in {*exported, *library}
                  if text(exported.get(name)) != text(library.get(name)))


def test_library_is_what_the_notebooks_export(exported):
    stale = differences(exported, modules(LIBRARY))
    assert not stale, f"differ from their notebooks (nbdev_export writes them): {stale}"


def test_an_edited_module_is_seen(exported, tmp_path):
    edited = tmp_path / "edited.py"
    name, original = next(iter(exported.items()))
    edited.write_text(original.read_text(encoding="utf-8") + "\nx = 1\n", encoding="utf-8")
    assert differences(exported, {**exported, name: edited}) == [str(name)]


def test_a_module_without_a_notebook_is_seen(exported, tmp_path):
    stray = tmp_path / "stray.py"
    stray.write_text("x = 1\n")
    assert differences(exported, {**exported, Path("stray.py"): stray}) == ["stray.py"]


def test_a_missing_module_is_seen(exported):
    library = dict(exported)
    name, _ = library.popitem()
    assert differences(exported, library) == [str(name)]
