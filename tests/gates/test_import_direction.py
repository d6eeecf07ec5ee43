"""Imports run one way, no module needs a package at import, and `import course_lib` is light."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from project import LIBRARY, modules

RANK = {"core": 0, "anatomy": 1, "foundations": 2, "training": 2, "evaluation": 2,
        "trust": 3, "deployment": 3, "cases": 4, "classroom": 5}
FACE = 5  # the package itself offers names of all parts, so only tools of the course import it
TOOLS = {"nbdev", "fastcore", "execnb"}


def imported(tree, module):
    """(absolute name, whether it is imported as the module is) of each import in a module."""
    inside = {id(node) for function in ast.walk(tree) if is_deferred(function)
              for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = absolute(node, module)
        else:
            continue
        yield from ((name, id(node) not in inside) for name in names)


def is_deferred(node):
    """A function's body, or what only a type checker reads."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def absolute(node, module):
    """Full names of a `from … import …`; a submodule may be among what it names."""
    package = ["course_lib", *module.parts[:-1]]
    base = package[:len(package) - node.level + 1] if node.level else []
    start = ".".join([*base, node.module] if node.module else base)
    return [start] + [f"{start}.{alias.name}" for alias in node.names]


def faults(name, source):
    """What a module imports against the rules, in sentences."""
    found, rank = [], RANK.get(name.parts[0], FACE)
    for target, at_once in imported(ast.parse(source), name):
        top, *rest = target.split(".")
        if top in TOOLS:
            found.append(f"{name} imports {top}, a tool of development")
        elif top == "course_lib":
            if (RANK.get(rest[0], FACE) if rest else FACE) > rank:
                found.append(f"{name} imports {target}, which comes after it")
        elif at_once and top not in sys.stdlib_module_names:
            found.append(f"{name} imports {top} as soon as it is imported")
    return found


def circles(sources):
    """Modules that import themselves by way of others.

    An import inside a function counts by its direction (`faults`) and not here: `measure_depth`
    fetches the tracer of one framework when it is called, and that tracer fills depth's own class.
    """
    names = {".".join(("course_lib", *name.with_suffix("").parts)): name for name in sources}
    edges = {name: {names[target] for target, at_once in imported(ast.parse(source), name)
                    if at_once and target in names} - {name}
             for name, source in sources.items() if len(name.parts) > 1}
    return [str(name) for name in edges if name in reachable(name, edges)]


def reachable(start, edges):
    """Everything that a module imports, directly or by way of others."""
    seen, waiting = set(), list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges.get(name, ())
    return seen


def library():
    """Every module's source."""
    return {name: path.read_text(encoding="utf-8") for name, path in modules(LIBRARY).items()}


def test_imports_run_one_way():
    assert [fault for name, source in library().items() for fault in faults(name, source)] == []


def test_there_are_no_circles():
    assert circles(library()) == []


@pytest.mark.parametrize("module, source, said", [
    ("core/tables.py", "from course_lib.anatomy.depth import x", "comes after"),
    ("core/tables.py", "from ..anatomy import depth", "comes after"),
    ("core/tables.py", "def f():\n    import course_lib.trust", "comes after"),
    ("anatomy/depth.py", "from course_lib import compare", "comes after"),
    ("cases/text.py", "from ..classroom.checks import x", "comes after"),
    ("core/tables.py", "import numpy as np", "as soon as"),
    ("core/tables.py", "class A:\n    import torch.nn", "as soon as"),
    ("core/tables.py", "def f():\n    from fastcore.all import L", "a tool"),
])
def test_a_wrong_import_is_seen(module, source, said):
    assert said in faults(Path(module), source)[0]


@pytest.mark.parametrize("module, source", [
    ("core/tables.py", "def f():\n    import numpy"),
    ("core/tables.py", "if TYPE_CHECKING:\n    import torch"),
    ("anatomy/depth.py", "from ..core.tables import Table\nimport json"),
    ("training/loop.py", "from ..foundations.optimizers import x"),
])
def test_a_right_import_passes(module, source):
    assert faults(Path(module), source) == []


def test_a_circle_is_seen():
    sources = {Path("anatomy/a.py"): "from .b import f", Path("anatomy/b.py"): "from . import c",
               Path("anatomy/c.py"): "from .a import f", Path("anatomy/d.py"): "from .a import f"}
    assert circles(sources) == ["anatomy/a.py", "anatomy/b.py", "anatomy/c.py"]


def test_importing_the_library_loads_nothing_else():
    code = "import sys; old = set(sys.modules); import course_lib; print(*set(sys.modules) - old)"
    loaded = {name.split(".")[0] for name in python("-c", code).stdout.split()}
    assert loaded - set(sys.stdlib_module_names) <= {"course_lib"}


def test_importing_the_library_takes_under_a_tenth_of_a_second():
    assert min(import_milliseconds("course_lib") for _ in range(5)) < 100


@pytest.mark.slow
def test_a_slow_import_is_seen():
    assert min(import_milliseconds("torch") for _ in range(2)) > 100


def import_milliseconds(package):
    """Cumulative time of an import as Python's own -X importtime reports it."""
    report = python("-X", "importtime", "-c", f"import {package}").stderr
    found = re.search(rf"\|\s+(\d+) \| {package}$", report, re.M)
    assert found, report[-300:]
    return int(found.group(1)) / 1000


def python(*arguments):
    """Run a fresh Python and keep what it prints."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
