"""Plots of a parameter table: drawn bars add up and labels fit, for 12 layers and for 1,200."""
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from torch import nn  # noqa: E402

from course_lib.anatomy.parameters import compare, count_parameters  # noqa: E402
from course_lib.core.figures import to_image  # noqa: E402


class Block(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.attention_output_projection = nn.Linear(64, 64 + index % 7)
        self.norm = nn.LayerNorm(64)
        self.very_long_name_of_a_feed_forward_layer = nn.Linear(64, 256 + index)


def twelve():
    model = nn.Sequential(*(nn.Linear(30 + n, 31 + n) for n in range(12)))
    model[:4].requires_grad_(False)
    return model


def twelve_hundred():
    return nn.ModuleDict({"embed": nn.Embedding(1000, 64),
                          "blocks": nn.ModuleList(Block(index) for index in range(400)),
                          "head": nn.Linear(64, 1000)})


@pytest.fixture(scope="module", params=[twelve, twelve_hundred], ids=["12", "1200"])
def table(request):
    with torch.device("meta"):
        return count_parameters(request.param())


def boxes_of(figure, texts):
    """Where texts stand in a drawn figure, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


def assert_no_overlap(boxes):
    for index, one in enumerate(boxes):
        for other in boxes[index + 1:]:
            width = min(one.x1, other.x1) - max(one.x0, other.x0)
            height = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert width < 1 or height < 1, (one, other)


@pytest.mark.parametrize("kind", ["bars", "trainable"])
def test_bars(table, kind):
    figure = table.plot(kind)
    axes, = figure.axes
    unit = 1e6 if "millions" in axes.get_xlabel() else 1e3
    drawn = sum(bar.get_width() for bars in axes.containers for bar in bars)
    assert drawn * unit == pytest.approx(table.total)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert 2 <= len(labels) <= 30 and max(map(len, labels)) <= 56
    assert_no_overlap(boxes_of(figure, axes.get_yticklabels()))
    assert_no_overlap(boxes_of(figure, axes.texts))
    for box in boxes_of(figure, axes.texts):
        assert box.x1 <= figure.bbox.x1
    if kind == "trainable":
        trained = sum(bar.get_width() for bar in axes.containers[0])
        assert trained * unit == pytest.approx(table.trainable)
    assert f"{table.total:,} parameters" in axes.get_title()


def test_nested(table):
    figure = table.plot("nested")
    axes, = figure.axes
    first = [bars[0] for bars in axes.containers if bars[0].get_x() == 0]
    assert sum(box.get_height() for box in first) == pytest.approx(1)
    for bars in axes.containers:
        box, = bars
        assert box.get_y() >= -1e-9 and box.get_y() + box.get_height() <= 1 + 1e-9
    assert axes.texts and len(axes.containers) < 60
    assert_no_overlap(boxes_of(figure, axes.texts))
    for text in axes.texts:
        assert text.get_color() == "black"


def test_most_and_levels(table):
    assert len(table.plot(most=3).axes[0].get_yticklabels()) <= 3
    narrow = table.plot("nested", levels=1).axes[0]
    assert {bars[0].get_x() for bars in narrow.containers} == {0}


def test_smaller_rows_are_gathered():
    with torch.device("meta"):
        model = nn.ModuleDict({f"layer_{chr(97 + n)}": nn.Linear(n, n) for n in range(1, 26)})
    table = count_parameters(model)
    axes, = table.plot(most=10).axes
    assert axes.get_yticklabels()[-1].get_text() == "16 smaller rows"
    drawn = sum(bar.get_width() for bars in axes.containers for bar in bars)
    assert 1000 * drawn == pytest.approx(table.total)


def test_refused():
    table = count_parameters(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="kind must be bars, nested or trainable, not 'pie'"):
        table.plot("pie")
    with pytest.raises(ValueError, match="most and levels must be at least 1"):
        table.plot(most=0)
    with pytest.raises(ValueError, match="the model has no parameters"):
        count_parameters(nn.ReLU()).plot()
    with pytest.raises(ValueError, match="the models do not differ"):
        compare(nn.Linear(2, 2), nn.Linear(2, 2)).plot()


def test_changes_on_both_sides_of_zero():
    comparison = compare(nn.Sequential(nn.Linear(50, 5), nn.LayerNorm(5)), nn.Linear(50, 90))
    figure = comparison.plot()
    axes, = figure.axes
    widths = [bar.get_width() for bar in axes.containers[0]]
    assert min(widths) < 0 < max(widths)
    assert 1000 * sum(widths) == pytest.approx(comparison.difference)
    assert_no_overlap(boxes_of(figure, [*axes.texts, *axes.get_yticklabels()]))


def test_the_same_bytes_each_time():
    table = count_parameters(twelve())
    for kind in ("bars", "nested", "trainable"):
        assert to_image(table.plot(kind), "svg") == to_image(table.plot(kind), "svg")
