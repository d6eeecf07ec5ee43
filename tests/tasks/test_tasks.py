"""The tasks of a reader, a teacher and an author: what each opens or writes, and what it leaves."""
import json
import os
import subprocess
import sys
from pathlib import Path

import make
import pytest
from course_lib.classroom import chinese
from course_lib.core.messages import set_language

STUB = "# your answer\nx = ...\n# end of your answer\ncheck('x', x)"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project whose JupyterLab is only recorded; tasks change what they like in it."""
    monkeypatch.setattr(make, "ROOT", tmp_path)
    monkeypatch.setattr(make, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(make, "NOTEBOOKS", tmp_path / "nbs")
    for name in ("index", "2_anatomy/05_depth", "core/files", "classroom/quiz"):
        write(tmp_path / "nbs" / f"{name}.ipynb", STUB)
    monkeypatch.setattr(make.os, "environ", {name: value for name, value in os.environ.items()
                                             if name not in ("COURSE_LANG", "LAB_ARGS")})
    opened, trusted = [], []
    monkeypatch.setattr(make, "replace_process", lambda command: opened.append(command) or 0)
    monkeypatch.setattr(make.subprocess, "call",
                        lambda command, **options: trusted.append(command) or 0)
    monkeypatch.setattr(make.os, "chdir", lambda folder: None)
    return Project(tmp_path, opened, trusted)


class Project:
    def __init__(self, folder, opened, trusted):
        self.folder, self.opened, self.trusted = folder, opened, trusted

    def root(self):
        """The folder over which JupyterLab was opened last."""
        option = next(word for word in self.opened[-1] if word.startswith("--ServerApp.root_dir="))
        return Path(option.partition("=")[2])


def write(path, *sources):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"cell_type": "code", "id": f"cell-{number}", "source": source, "metadata": {},
              "outputs": [], "execution_count": None} for number, source in enumerate(sources)]
    path.write_text(json.dumps({"cells": cells, "metadata": {}}), encoding="utf-8")


def source(path):
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])


def test_lab_opens_a_copy_that_keeps_answers(project, capsys):
    assert make.lab(["--no-browser"]) == 0
    work = project.folder / "work" / "en"
    assert project.root() == work and project.opened[-1][-1] == "--no-browser"
    assert make.os.environ["COURSE_LANG"] == "en"
    assert capsys.readouterr().out == "work/en: 2 files, 2 new, 0 updated\n"
    chapter = Path("2_anatomy", "05_depth.ipynb")
    assert project.trusted[-1][4:] == [str(work / chapter), str(work / "index.ipynb")]
    write(work / chapter, STUB.replace("...", "12"))
    write(project.folder / "nbs" / chapter, STUB + "  # clearer")
    make.lab([])
    assert source(work / chapter) == STUB.replace("...", "12") + "  # clearer"
    assert capsys.readouterr().out == "work/en: 2 files, 0 new, 1 updated\n"


def test_lab_zh_opens_the_chinese_course(project, monkeypatch):
    def build(folder, execute):
        assert execute
        write(folder / "index.ipynb", STUB + "  # 中文")

    monkeypatch.setattr(chinese, "build_chinese", build)
    assert make.lab_zh([]) == 0
    assert project.root() == project.folder / "work" / "zh_CN"
    assert source(project.root() / "index.ipynb").endswith("中文")
    assert make.os.environ["COURSE_LANG"] == "zh_CN"


def test_each_course_remembers_its_own_open_files(project):
    make.lab([])
    english = make.os.environ["JUPYTERLAB_WORKSPACES_DIR"]
    make.edit([])
    assert english != make.os.environ["JUPYTERLAB_WORKSPACES_DIR"]


def test_edit_opens_the_sources(project):
    make.edit([])
    assert project.root() == project.folder and not (project.folder / "work").exists()
    assert "--LabApp.default_url=/lab/tree/nbs/index.ipynb" in project.opened[-1]
    assert len(project.trusted[-1]) == 4 + 4


def test_your_language_wins_over_that_of_lab(project):
    make.os.environ["COURSE_LANG"] = "zh"
    make.lab([])
    assert make.os.environ["COURSE_LANG"] == "zh"


def test_lab_args_are_passed_on(project):
    make.os.environ["LAB_ARGS"] = "--no-browser --port=9999"
    make.lab([])
    assert project.opened[-1][-2:] == ["--no-browser", "--port=9999"]


def test_a_broken_course_is_one_sentence(project):
    (project.folder / "nbs" / "index.ipynb").write_text("<<<<<<< yours")
    with pytest.raises(SystemExit, match="index.ipynb, which is no notebook: repair it first$"):
        make.lab([])
    assert project.opened == []


def test_translations_run_the_module(project):
    make.translations(["--check"])
    assert project.trusted[-1][1:] == ["-m", "course_lib.classroom.translation", "--check"]


@pytest.fixture
def english():
    set_language("en")
    yield
    set_language(None)


def test_print_writes_pages_and_names_them(project, english, capsys):
    assert make.print_chapters(["05_depth"]) == 0
    assert (project.folder / "print" / "en" / "05_depth.html").exists()
    assert str(Path("print", "en", "05_depth.html")) in capsys.readouterr().out.splitlines()


def test_an_unknown_chapter_is_one_sentence(project, english):
    with pytest.raises(SystemExit, match="no notebook '99_end' to print: choose from") as refusal:
        make.print_chapters(["99_end"])
    assert "\n" not in str(refusal.value)
    with pytest.raises(SystemExit, match="'99_end' has no lesson: choose from"):
        make.teacher(["99_end"])


def test_sheets_are_written_by_make_teacher_alone(project, english):
    make.lab([])
    make.edit([])
    make.print_chapters([])
    assert not (project.folder / "teacher").exists()
    assert make.teacher(["06_parameters"]) == 0
    assert {path.name for path in (project.folder / "teacher" / "en").iterdir()} == {
        "06_parameters.md", "06_parameters.html"}


def test_clean_leaves_your_answers(project, english):
    make.lab([])
    for name in ("print", "teacher", "build"):
        (project.folder / name).mkdir()
    answers = sorted((project.folder / "work").rglob("*"))
    make.clean([])
    assert sorted((project.folder / "work").rglob("*")) == answers
    assert {path.name for path in project.folder.iterdir()} == {"nbs", "work"}


def test_help_lists_every_task_on_a_line():
    told = subprocess.run([sys.executable, make.__file__, "help"], capture_output=True, text=True,
                          encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    lines = told.stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(make.TASKS)
    assert all(len(line) <= 100 and len(line.split()) > 3 for line in lines)


def test_a_console_without_chinese_gets_help_too():
    told = subprocess.run([sys.executable, make.__file__, "help"], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert told.returncode == 0 and b"make lab-zh" in told.stdout
