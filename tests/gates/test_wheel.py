"""The wheel alone, in an empty environment outside the checkout, counts a checkpoint."""
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project import LIBRARY, ROOT, modules

HEAVY = ("torch", "tensorflow", "keras", "transformers", "pandas", "matplotlib", "numpy")
TOTAL = 784 * 128 + 128 + 10 * 128

BY_LIBRARY = """
import sys
from course_lib import count_parameters
table = count_parameters(sys.argv[1])
assert int(table) == table.total == {total}, table.total
print(table)
""".format(total=TOTAL)

BY_COMMAND_LINE = """
import sys
from course_lib.classroom.command_line import main
status = main(["params", sys.argv[1], "--json"])
assert not status, status
"""

NOTHING_HEAVY = f"""
loaded = sorted(set({HEAVY}) & set(sys.modules))
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what git would ship, so that no build folder is left here."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE",
                 "LICENSE.prose"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(LIBRARY, source / "course_lib", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation",
        "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def empty_python(wheel, tmp_path_factory):
    """The Python of an environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-index", "--no-deps", wheel)
    return python


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint written by hand: eight bytes of length, the JSON header, the tensors' bytes."""
    shapes = {"hidden.weight": [128, 784], "hidden.bias": [128], "output.weight": [10, 128]}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def run(*command, folder=None):
    """Run a command away from the checkout and from its PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folder = folder or Path(command[0]).anchor
    result = subprocess.run([str(part) for part in command], cwd=folder, env=environment,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_holds_every_module_and_all_data(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("course_lib/")}
    data = (path for path in (LIBRARY / "_data").rglob("*") if path.is_file())
    expected = {f"course_lib/{path.relative_to(LIBRARY).as_posix()}"
                for path in [*modules().values(), *data]}
    assert expected <= held


def test_the_base_package_needs_nothing(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist:")]
    assert required and all("extra ==" in line for line in required)


@pytest.mark.parametrize("program", [BY_LIBRARY, BY_COMMAND_LINE], ids=["library", "command"])
def test_an_empty_environment_counts_a_checkpoint(empty_python, checkpoint, tmp_path, program):
    printed = run(empty_python, "-I", "-c", program + NOTHING_HEAVY, checkpoint, folder=tmp_path)
    assert f"{TOTAL:,}" in printed or json.loads(printed)["total"] == TOTAL


def test_the_installed_command_counts_a_checkpoint(empty_python, checkpoint, tmp_path):
    command = empty_python.with_name("course-lib")
    table = json.loads(run(command, "params", checkpoint, "--json", folder=tmp_path))
    assert table["total"] == TOTAL


@pytest.mark.parametrize("program", [BY_LIBRARY, BY_COMMAND_LINE], ids=["library", "command"])
def test_nothing_heavy_is_loaded_where_everything_is_installed(checkpoint, tmp_path, program):
    run(sys.executable, "-I", "-c", program + NOTHING_HEAVY, checkpoint, folder=tmp_path)


def test_something_heavy_is_seen(tmp_path):
    with pytest.raises(AssertionError, match="numpy"):
        run(sys.executable, "-I", "-c", "import sys, numpy" + NOTHING_HEAVY, folder=tmp_path)


def test_the_empty_environment_is_empty(empty_python, tmp_path):
    for name in HEAVY:
        with pytest.raises(AssertionError, match="No module named"):
            run(empty_python, "-I", "-c", f"import {name}", folder=tmp_path)
