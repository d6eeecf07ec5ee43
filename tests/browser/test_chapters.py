"""Chapters in a real browser: they run without an error, and their sliders move what they show."""
import pytest

# Every chapter with an explorer, and the controls that move what is shown. The others are inert on
# purpose: heads add no parameter, and neither width nor length changes the depth of most networks.
EXPLORERS = {
    "nbs/1_foundations/01_large_models.ipynb": {"model", "device", "devices", "utilised %",
                                                "overhead"},
    "nbs/1_foundations/02_neural_networks.ipynb": {"data", "layers", "neurons", "activation"},
    "nbs/1_foundations/03_frameworks.ipynb": {"columns", "window", "stride"},
    "nbs/1_foundations/04_optimizers.ipynb": {"loss", "log₁₀ of rate", "steps"},
    "nbs/2_anatomy/05_depth.ipynb": {"network", "depth"},
    "nbs/2_anatomy/06_parameters.ipynb": {"network", "width", "depth", "1000 words",
                                              "LoRA rank"},
    "nbs/2_anatomy/08_what_depth_costs.ipynb": {"depth", "recipe", "budget"},
}


@pytest.mark.parametrize("chapter", EXPLORERS)
def test_each_control_moves_what_is_shown(reader, chapter, tmp_path):
    reader.open_and_run(chapter)
    controls = reader.controls()
    assert EXPLORERS[chapter] <= set(controls)
    for name, control in reversed(controls.items()):  # the first decides what others mean
        if name in EXPLORERS[chapter]:
            reader.turn(name, control)
        reader.photograph(tmp_path / f"{name.split()[0]}.png")
    assert all(reader.look()) or "03" in chapter, "03 draws a figure only"


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
