"""For every test and every notebook that nbval runs: one thread each, and no network."""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "no_network")]

import make  # noqa: E402

os.environ.update(make.repeatable_environment())

import refuse_network  # noqa: E402, F401  (bites in this process; PYTHONPATH does it in its children)


def pytest_collection_modifyitems(items):
    """nbdev_clean stores no execution counts, and nbval takes a cell without one for never run."""
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and getattr(cell, "execution_count", 0) is None:
            cell.execution_count = 0


def pytest_collectstart(collector):
    """An SVG's text may differ with the fonts of a machine: nbval leaves it out, as it does PNG."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("image/svg+xml",)
