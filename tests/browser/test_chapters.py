"""Chapters in a real browser: they run without an error, and their sliders move what they show."""
import pytest
from reader import ROOT

CHAPTERS = ["nbs/2_anatomy/05_depth.ipynb", "nbs/2_anatomy/06_parameters.ipynb"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_slider_moves_table_and_figure(reader, chapter, tmp_path):
    assert (ROOT / chapter).exists()
    reader.open_and_run(chapter)
    reader.move_slider()
    reader.photograph(tmp_path / "explorer.png")


def test_the_index_opens_and_runs(reader):
    reader.open_and_run("nbs/index.ipynb")


def test_the_sample_explorer_moves(reader, tmp_path):
    reader.open_and_run("explorer.ipynb")
    reader.move_slider()
    reader.photograph(tmp_path / "explorer.png")
    assert (tmp_path / "explorer.png").stat().st_size > 10_000


def test_a_figure_that_stays_is_seen(reader):
    reader.open_and_run("stuck.ipynb")
    with pytest.raises(TimeoutError, match="table and figure to change"):
        reader.move_slider(seconds=5)


def test_an_error_in_a_cell_is_seen(reader):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        reader.open_and_run("error.ipynb")


def test_a_request_to_an_outside_host_is_seen(reader):
    reader.open_and_run("outside.ipynb")
    assert set(reader.outside) == {"http://192.0.2.1/a.png"}
    reader.outside.clear()
