"""What the gates look at: the tree that this file belongs to."""
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "course_lib"
NOT_EXPORTED = {"_modidx.py"}  # nbdev's index for documentation pages, ignored by git


def notebooks(root=ROOT):
    """Every notebook under nbs/, checkpoints of JupyterLab left out."""
    found = (root / "nbs").rglob("*.ipynb")
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def modules(library=LIBRARY):
    """Every module of the library, by its path within it."""
    paths = sorted(library.rglob("*.py"))
    return {path.relative_to(library): path for path in paths if path.name not in NOT_EXPORTED}


def copy_notebooks(folder, root=ROOT):
    """The sources alone, where nbdev can work on them without touching the tree."""
    ignored = shutil.ignore_patterns(".ipynb_checkpoints", ".last_checked")
    shutil.copytree(root / "nbs", folder / "nbs", ignore=ignored)
    shutil.copy(root / "settings.ini", folder)
    return folder


def nbdev(command, folder):
    """Run one of nbdev's commands in a folder."""
    script = Path(sys.executable).with_name(command)
    subprocess.run([script], cwd=folder, check=True, capture_output=True, text=True)
