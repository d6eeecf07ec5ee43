"""Notebooks are stored as nbdev_clean leaves them: no execution counts, no editor's metadata."""
import json

from project import ROOT, copy_notebooks, nbdev, notebooks


def unclean(root, folder):
    """Names of the notebooks under root that nbdev_clean would change; root is left alone."""
    copy = copy_notebooks(folder, root)
    nbdev("nbdev_clean", copy)
    return [str(path.relative_to(root)) for path in notebooks(root)
            if path.read_bytes() != (copy / path.relative_to(root)).read_bytes()]


def test_notebooks_are_clean(tmp_path):
    assert unclean(ROOT, tmp_path) == []


def test_an_execution_count_is_seen(tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "again").mkdir()
    root = copy_notebooks(tmp_path / "copy")
    path = notebooks(root)[0]
    notebook = json.loads(path.read_text(encoding="utf-8"))
    next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")["execution_count"] = 7
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")
    assert unclean(root, tmp_path / "again") == [str(path.relative_to(root))]
