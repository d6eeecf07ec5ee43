"""What the README tells a reader to type works: examples are run, their output is compared.

A ```python block runs after those before it, and a ```text block under it is what it prints.
In a ```console block each `$ course-lib …` line runs, and the lines under it are what it prints.
In a ```sh block each line names a task of make.py or an extra of setup.py that exists, or it is a
`course-lib …` line, which runs and has to succeed.
"""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import make
import pytest
from project import ROOT, notebooks

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTRAS = set(re.search(r"extras_require=\{(.*?)\}", (ROOT / "setup.py").read_text(), re.S)
             .group(1).replace('"', " ").replace(":", " ").replace(",", " ").split())
FREE = ("git clone ", "cd ")


def blocks(text):
    """(language, content) of each fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.S | re.M)


def python_examples(text):
    """(program, output shown) pairs; a program is every block since the last output."""
    program = ""
    for kind, content in blocks(text):
        program += content if kind == "python" else ""
        if kind == "text":
            yield program, content
            program = ""


def console_examples(text):
    """(command, output expected) of each line that starts with a dollar."""
    for kind, content in blocks(text):
        if kind == "console":
            for part in re.split(r"^\$ ", content, flags=re.M)[1:]:
                command, _, shown = part.partition("\n")
                yield command, shown


def shell_lines(text):
    """Lines to type that set up or start the course."""
    for kind, content in blocks(text):
        if kind == "sh":
            yield from (line for line in content.splitlines() if line and line[0] != "#")


def shell_fault(line):
    """What is wrong with a line that a reader would type, or None."""
    words = shlex.split(line)
    if line.startswith(FREE) or words[0] == "course-lib":
        return None
    if words[0] == "make" or words[:3] == ["py", "-m", "make"]:
        task = words[1] if words[0] == "make" else words[3]
        return None if task in make.TASKS else f"make.py has no task {task}"
    if words[:2] == ["pip", "install"]:
        asked = re.findall(r"\[(.*?)\]", line)
        unknown = {extra for group in asked for extra in group.split(",")} - EXTRAS
        return f"setup.py has no extra {sorted(unknown)}" if unknown else None
    return f"nothing checks this line: {line}"


def output(command, folder):
    """What a command prints; it has to succeed. Its record of progress lies in the folder too."""
    environment = {**os.environ, "COURSE_DATA": str(folder / "record")}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8",
                            env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def tidy(text):
    """Lines without the blanks at their ends."""
    return [line.rstrip() for line in text.strip().splitlines()]


def check_python(text, folder):
    """Run all examples as one program, as a reader would, and compare what each prints."""
    programs, shown = zip(*python_examples(text))
    mark = "-- next example --\n"
    printed = output([sys.executable, "-c", f"print(end={mark!r})\n".join(programs)], folder)
    assert [tidy(part) for part in printed.split(mark)] == [tidy(part) for part in shown]


def course_lib_prints(command, folder):
    words = shlex.split(command)
    assert words[0] == "course-lib", f"nothing checks this line: {command}"
    return output([Path(sys.executable).with_name("course-lib"), *words[1:]], folder)


def check_console(text, folder):
    for command, shown in console_examples(text):
        assert tidy(course_lib_prints(command, folder)) == tidy(shown)


def map_faults(text, folder, here):
    """Chapters that are missing from a map, marked as planned though they exist, or linked wrongly.

    Links are written as seen from `folder`; `here` names the chapters that exist.
    """
    rows = dict(re.findall(r"^\| (\d\d) \| (.*?) \|", text, re.M))
    faults = [f"{number:02} is missing" for number in range(1, 29) if f"{number:02}" not in rows]
    for path in here:
        link = path.relative_to(folder).as_posix()
        if f"]({link})" not in rows.pop(path.name[:2], ""):
            faults.append(f"{link} is not linked")
    return faults + [f"{number} is not there and not marked as planned"
                     for number, row in rows.items() if "*(planned)*" not in row]


def existing_chapters():
    """Notebooks that begin with a chapter's number: reference notebooks have a letter after it.

    The notebooks of answers are named like their chapters, and no map leads a student there.
    """
    return [path for path in notebooks()
            if re.match(r"\d\d_", path.name) and "answers" not in path.parts]


@pytest.mark.slow
def test_python_examples_print_what_is_shown(tmp_path):
    assert list(python_examples(README)), "the README shows no example of the library"
    check_python(README, tmp_path)


@pytest.mark.slow
def test_command_line_examples_print_what_is_shown(tmp_path):
    assert list(console_examples(README)), "the README shows no example of the command line"
    check_console(README, tmp_path)


COMMANDS = [line for line in shell_lines(README) if line.startswith("course-lib")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder where commands run one after the other: what one writes, the next one reads."""
    folder = tmp_path_factory.mktemp("reader")
    event = {"id": "1", "time": "2026-01-02T03:04:05+00:00", "kind": "check",
             "chapter": "06_parameters", "name": "lenet5_by_hand", "state": "right"}
    (folder / "record").mkdir()
    (folder / "record" / "progress.jsonl").write_text(json.dumps(event) + "\n")
    (folder / "hand-ins").mkdir()
    (folder / "hand-ins" / "ada.jsonl").write_text(json.dumps(event) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_longer_commands_succeed(reader, command):
    assert course_lib_prints(command, reader)


def test_lines_to_type_name_what_exists():
    assert [shell_fault(line) for line in shell_lines(README) if shell_fault(line)] == []


def test_both_ways_to_start_are_told():
    told = set(shell_lines(README))
    assert {"make lab", "make test", "py -m make lab", "py -m make test"} <= told


def test_every_task_and_command_of_a_reader_is_told():
    told = " ".join(shell_lines(README)).split()
    tasks = {"lab", "lab-zh", "edit", "teacher", "print", "translations", "test", "run"}
    commands = {"status", "export", "import", "report", "params", "depth", "--lang"}
    assert sorted((tasks | commands) - set(told)) == []
    assert "`course-lib reset`" in README, "told, but not among lines to copy: it erases"


def index_text():
    """The prose of the index notebook."""
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_the_maps_tell_which_chapters_are_there():
    assert map_faults(README, ROOT, existing_chapters()) == []
    assert map_faults(index_text(), ROOT / "nbs", existing_chapters()) == []


def test_a_wrong_map_is_seen():
    rows = [f"| {number:02} | *(planned)* |" for number in range(1, 28)]
    rows[4] = "| 05 | [depth](nbs/depth.ipynb) |"
    rows[5] = "| 06 | parameters |"
    here = [ROOT / "nbs/05_depth.ipynb"]
    assert map_faults("\n".join(rows), ROOT, here) == [
        "28 is missing", "nbs/05_depth.ipynb is not linked",
        "06 is not there and not marked as planned"]


@pytest.mark.parametrize("text, folder", [(README, ROOT), (index_text(), ROOT / "nbs")])
def test_links_into_the_tree_lead_somewhere(text, folder):
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    assert links and [link for link in links if not (folder / link).exists()] == []


def test_the_makefile_has_the_tasks_of_make_py():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    assert set(targets) == set(make.TASKS)


@pytest.mark.parametrize("line", ["make lob", "py -m make tset", 'pip install ".[jax]"', "sudo x"])
def test_a_line_that_leads_nowhere_is_seen(line):
    assert shell_fault(line)


def test_a_wrong_output_is_seen(tmp_path):
    text = "```python\nx = 2\n```\n```python\nprint(x)\n```\n```text\n{}\n```\n"
    check_python(text.format(2), tmp_path)
    with pytest.raises(AssertionError):
        check_python(text.format(3), tmp_path)


def test_a_wrong_command_output_is_seen(tmp_path):
    with pytest.raises(AssertionError):
        check_console("```console\n$ course-lib --version\nno such version\n```\n", tmp_path)
