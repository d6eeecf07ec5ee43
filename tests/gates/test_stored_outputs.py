"""Stored outputs of notebooks are compared, as `make test` compares them, and a stale one fails."""
import os
import re
import subprocess
import sys

import nbformat
import pytest
from project import ROOT

OUTPUT = nbformat.v4.new_output
SVG = "from IPython.display import SVG\nSVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')"
OTHER_SVG = OUTPUT("execute_result", data={
    "image/svg+xml": "<svg/>", "text/plain": "<IPython.core.display.SVG object>"})
CELLS = [  # (source, stored output, whether the two agree)
    ("print('12,288')", OUTPUT("stream", text="12,288\n"), True),
    ("print('12,288')", OUTPUT("stream", text="12,289\n"), False),
    ("print(hex(id(object())))", OUTPUT("stream", text="0x7f0123456789\n"), True),
    ("print('/tmp/abc/model.bin')", OUTPUT("stream", text="/tmp/xyz/model.bin\n"), True),
    ("print(7)", None, False),
    ("# NBVAL_IGNORE_OUTPUT\nprint('3 s')", OUTPUT("stream", text="4 s\n"), True),
    ("assert 1 + 1 == 3", None, False),
    (SVG, OTHER_SVG, True),
]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """What nbval says about each cell of a notebook that nbdev_clean has cleaned."""
    cells = [nbformat.v4.new_code_cell(source, outputs=[stored] if stored else [])
             for source, stored, _ in CELLS]
    path = tmp_path_factory.mktemp("notebook") / "sample.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-rA", "--nbval", str(path),
               "--nbval-current-env", "-c", str(ROOT / "pyproject.toml"),
               f"--nbval-sanitize-with={ROOT / 'tests/sanitize.cfg'}"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    found = re.findall(r"^(PASSED|FAILED) .*::Cell (\d+)", result.stdout, re.M)
    return {int(number): verdict == "PASSED" for verdict, number in found}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CELLS)))
def test_verdict(verdicts, number):
    assert verdicts[number] is CELLS[number][2], CELLS[number][0]
