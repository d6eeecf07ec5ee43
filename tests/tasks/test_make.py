"""make.py: what it refuses, when it sets up again, and when stored outputs change."""
import json
import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import make
import nbformat
import pytest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project in which make.py's setup works, with every command recorded."""
    for name in ("settings.ini", "setup.py", "constraints.txt"):
        (tmp_path / name).write_text(name)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(make, "ROOT", tmp_path)
    monkeypatch.setattr(make, "VENV", venv)
    monkeypatch.setattr(make, "VENV_PYTHON", venv / "python")
    monkeypatch.setattr(make, "STAMP", venv / "course-setup")
    done = []

    def create():
        done.append("create")
        venv.mkdir(exist_ok=True)
        (venv / "python").touch()
        (venv / "pyvenv.cfg").write_text("version = 3.11.7")

    monkeypatch.setattr(make, "create_environment", create)
    monkeypatch.setattr(make, "install", lambda: done.append("install"))
    return SimpleNamespace(folder=tmp_path, done=done, patch=monkeypatch)


def test_the_second_setup_does_nothing(project):
    make.setup()
    assert project.done == ["create", "install"]
    make.setup()
    assert project.done == ["create", "install"]


def test_a_changed_pin_installs_again_into_the_same_environment(project):
    make.setup()
    (project.folder / "constraints.txt").write_text("numpy==2.4.6")
    make.setup()
    assert project.done == ["create", "install", "install"]


def test_an_interrupted_setup_is_redone_from_the_start(project):
    def interrupted():
        raise KeyboardInterrupt

    install = make.install
    project.patch.setattr(make, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make.setup()
    project.patch.setattr(make, "install", install)
    make.setup()
    assert project.done == ["create", "create", "install"]


@pytest.mark.parametrize("version, supported", [
    ((3, 10, 13), False), ((3, 11, 4), False), ((3, 11, 5), True), ((3, 12, 0), True),
    ((3, 13, 9), True), ((3, 14, 0), False)])
def test_pythons_without_wheels_are_refused_in_one_sentence(monkeypatch, version, supported):
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(make.shutil, "which", lambda name: None)
    if supported:
        assert make.supported_python() == sys.executable
    else:
        with pytest.raises(SystemExit, match=r"needs Python 3\.11\.5 to 3\.13") as refusal:
            make.supported_python()
        assert "\n" not in str(refusal.value)


def test_a_supported_python_beside_an_old_one_is_taken(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    found = {"python3.12": "/somewhere/python3.12"}
    monkeypatch.setattr(make.shutil, "which", found.get)
    assert make.supported_python() == "/somewhere/python3.12"


def settings(monkeypatch, listing, which=None, **environment):
    """uv's settings for what `pip config list` prints, on a Linux machine."""
    monkeypatch.setattr(make.subprocess, "check_output", lambda command: listing.encode())
    monkeypatch.setattr(make.shutil, "which", lambda name: which)
    monkeypatch.setattr(make.sys, "platform", "linux")
    monkeypatch.setattr(make.os, "environ", environment)
    monkeypatch.setattr(make.Path, "exists", lambda path: False)
    return make.uv_settings("python")


@pytest.mark.parametrize("listing, expected", [
    ("", {"UV_TORCH_BACKEND": "cpu"}),
    ("global.timeout='60'", {"UV_TORCH_BACKEND": "cpu"}),
    ("global.find-links='/wheels'", {"UV_FIND_LINKS": "/wheels"}),
    (":env:.find-links='/one /two'", {"UV_FIND_LINKS": "/one,/two"}),
    ("global.index-url='https://mirror/simple'", {"UV_DEFAULT_INDEX": "https://mirror/simple"}),
    ("global.extra-index-url='https://more/simple'", {}),
])
def test_pips_sources_are_handed_on_to_uv(monkeypatch, listing, expected):
    assert settings(monkeypatch, listing) == expected


def test_a_driver_or_a_choice_of_yours_keeps_the_cpu_build_away(monkeypatch):
    assert settings(monkeypatch, "", which="/usr/bin/nvidia-smi") == {}
    assert settings(monkeypatch, "", UV_TORCH_BACKEND="cu130") == {}
    assert settings(monkeypatch, "", UV_DEFAULT_INDEX="https://mirror") == {}


def test_everything_private_lies_inside_the_environment():
    folders = make.private_folders()
    assert {"JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
            "MPLCONFIGDIR", "KERAS_HOME"} <= set(folders)
    assert all(folder.startswith(str(make.VENV)) for folder in folders.values())


@pytest.mark.parametrize("name", ["COURSE_DATA", "COURSE_CACHE", "COURSE_DATASETS"])
def test_what_a_reader_keeps_is_never_touched(monkeypatch, name):
    monkeypatch.setenv(name, "/home/reader/kept")
    first = make.repeatable_environment()[name]
    assert first.startswith(str(make.VENV)) and os.listdir(first) == []
    assert make.repeatable_environment()[name] != first, "each run begins with an empty folder"
    monkeypatch.setenv(name, first)
    assert make.repeatable_environment()[name] == first, "a child uses the same one"


def test_lab_opens_the_index_and_passes_options_on(tmp_path):
    command = make.lab_command(["--no-browser"])
    assert "--LabApp.default_url=/lab/tree/nbs/index.ipynb" in command
    assert command[-1] == "--no-browser"
    (tmp_path / "index.ipynb").touch()
    command = make.lab_command(root=tmp_path)
    assert f"--ServerApp.root_dir={tmp_path}" in command
    assert "--LabApp.default_url=/lab/tree/index.ipynb" in command


def test_two_may_write_a_file_at_once(tmp_path):
    path = tmp_path / "settings.json"
    code = ("import sys; from pathlib import Path; import make\n"
            "for each in range(200): make.write_whole(Path(sys.argv[1]), sys.argv[2] * 9999)")
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter], cwd=make.ROOT,
                                stderr=subprocess.PIPE, text=True) for letter in "ab"]
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert path.read_text() in ("a" * 9999, "b" * 9999)
    assert list(tmp_path.iterdir()) == [path]


def test_root_is_allowed_only_to_root(monkeypatch):
    for user, allowed in ((0, True), (1000, False)):
        monkeypatch.setattr(make.os, "geteuid", lambda user=user: user, raising=False)
        assert ("--allow-root" in make.lab_command()) is allowed


def test_an_unknown_task_is_refused_in_one_sentence():
    result = subprocess.run([sys.executable, make.__file__, "tset"], capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "There is no task 'tset'" in result.stderr


@pytest.fixture
def chapters(tmp_path, monkeypatch):
    """Two small notebooks under nbs/ whose stored output is out of date."""
    monkeypatch.setattr(make, "ROOT", tmp_path)
    stale = [nbformat.v4.new_output("stream", text="before\n")]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}

    def write(*sources):
        paths = []
        for number, source in enumerate(sources):
            cell = nbformat.v4.new_code_cell(source, outputs=stale)
            paths.append(tmp_path / f"{number}.ipynb")
            nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), paths[-1])
        return paths

    return write


def stored(path):
    return "".join(json.loads(path.read_text())["cells"][0]["outputs"][0]["text"])


def test_outputs_are_stored_when_all_pass(chapters, capsys):
    paths = chapters("print('after')", "x = bytearray(300_000_000); print('after')")
    assert make.run([str(path) for path in paths]) == 0
    assert [stored(path) for path in paths] == ["after\n", "after\n"]
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "passed" in line]
    assert [line[-1] for line in lines] == ["0.ipynb", "1.ipynb"]
    seconds, megabytes = float(lines[1][1]), float(lines[1][3])
    assert seconds > 0 and megabytes > float(lines[0][3]) + 200


def test_nothing_is_stored_when_one_fails(chapters, capsys):
    paths = chapters("print('after')", "1 / 0")
    with pytest.raises(SystemExit, match="1 of 2 notebooks failed"):
        make.run([str(path) for path in paths])
    assert [stored(path) for path in paths] == ["before\n", "before\n"]
    assert "ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.slow
def test_widgets_and_streams_are_stored_alike_on_every_run(chapters):
    path, = chapters("import ipywidgets, sys, time\nprint('one', flush=True)\ntime.sleep(0.5)\n"
                     "print('two')\nipywidgets.VBox([ipywidgets.IntSlider(), ipywidgets.Text()])")
    make.run([str(path)])
    first = path.read_text()
    make.run([str(path)])
    assert path.read_text() == first and stored(path) == "one\ntwo\n"
    assert "widget" not in json.dumps([json.loads(first)["metadata"],
                                       json.loads(first)["cells"][0]["outputs"]])


def test_what_else_a_widgets_output_holds_is_stored(chapters):
    path, = chapters("import ipywidgets\nfrom IPython.display import display\n"
                     "class Quiz(ipywidgets.VBox):\n"
                     "    def _repr_mimebundle_(self, **options):\n"
                     "        bundle = super()._repr_mimebundle_(**options)\n"
                     "        return {**bundle, 'text/markdown': '1. Which layer?'}\n"
                     "Quiz()")
    make.run([str(path)])
    output, = json.loads(path.read_text())["cells"][0]["outputs"]
    assert "".join(output["data"]["text/markdown"]) == "1. Which layer?"
    assert make.WIDGET not in output["data"]


def test_a_folded_cell_stays_folded(chapters):
    path, = chapters("print('after')")
    notebook = nbformat.read(path, 4)
    folded = {"jupyter": {"source_hidden": True}, "tags": ["live-numbers"]}
    notebook.cells[0].metadata = {**folded, "editable": False}
    nbformat.write(notebook, path)
    make.run([str(path)])
    assert json.loads(path.read_text())["cells"][0]["metadata"] == folded


def test_a_missing_ensurepip_is_one_sentence(project, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(make, "VENV", project.folder / ".venv")
    monkeypatch.setattr(make.subprocess, "call", lambda *command, **options: 1)
    with pytest.raises(SystemExit, match="ensurepip is missing.*python3-venv") as refusal:
        make.create_environment()
    assert "\n" not in str(refusal.value) and not (project.folder / ".venv").exists()


@pytest.mark.slow
def test_a_taken_port_makes_lab_take_another(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}"]
        environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path)}
        lab = subprocess.Popen(make.lab_command(options), env=environment,
                               stderr=subprocess.PIPE, text=True)
        try:
            chosen = next(re.search(r"://[^/]*:(\d+)/lab/tree/nbs/index.ipynb", line)
                          for line in lab.stderr if "/lab/tree/" in line)
        finally:
            lab.terminate()
            lab.communicate(timeout=30)
    assert int(chosen.group(1)) != port
