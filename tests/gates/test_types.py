"""The public face is typed for whoever imports it, and a wrong use of it is seen."""
import ast
import os
import subprocess
import sys

import course_lib
import pytest
from project import LIBRARY, ROOT

USE = """
from course_lib import compare, count_flops, count_parameters, estimate_memory, measure_depth

total: int = count_parameters("gpt2").total
weighted: int = measure_depth("gpt2").weighted
difference: int = compare("gpt2", "gpt2").difference
memory = estimate_memory("gpt2").total
"""


def mypy(source, folder):
    """What mypy says about a program that uses the library."""
    (folder / "use.py").write_text(source)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
               "--cache-dir", str(folder / "cache"), "use.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_stub_names_the_public_face():
    tree = ast.parse((LIBRARY / "__init__.pyi").read_text())
    named = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom)
             for alias in node.names}
    assert named == set(course_lib.__all__)


@pytest.mark.slow
def test_a_right_use_passes(tmp_path):
    result = mypy(USE, tmp_path)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
def test_a_wrong_use_is_seen(tmp_path):
    result = mypy(USE + "wrong: str = count_parameters('gpt2').total\n", tmp_path)
    assert 'expression has type "int", variable has type "str"' in result.stdout
