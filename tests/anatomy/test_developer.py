"""Networks as developers have them: totals, depths and FLOPs derived by hand in the comments."""
import warnings

import pytest

from course_lib import count_flops, count_parameters, estimate_memory, measure_depth

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional


def mlp():
    """8·16 + 16 = 144 and 16·4 + 4 = 68 parameters."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


class TwoConvolutions(nn.Sequential):
    """Of the U-Net: 9·i·o + 9·o·o weights without biases, and two norms of 2·o."""

    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
                         nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2 = TwoConvolutions(3, 8), TwoConvolutions(8, 16)
        self.bottom, self.pool = TwoConvolutions(16, 32), nn.MaxPool2d(2)
        self.up2, self.conv2 = nn.ConvTranspose2d(32, 16, 2, 2), TwoConvolutions(32, 16)
        self.up1, self.conv1 = nn.ConvTranspose2d(16, 8, 2, 2), TwoConvolutions(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        y = self.conv2(torch.cat([self.up2(self.bottom(self.pool(b))), b], 1))
        return self.head(self.conv1(torch.cat([self.up1(y), a], 1)))


def test_unet():
    model, x = UNet(), torch.randn(1, 3, 32, 32)
    # 3→8, 8→16, 16→32, 32→16, 16→8, each with 4·o of norms; up: 2064 and 520; head: 18
    blocks = sum(9 * i * o + 9 * o * o + 4 * o
                 for i, o in ((3, 8), (8, 16), (16, 32), (32, 16), (16, 8)))
    table = count_parameters(model, x)
    assert table.total == blocks + (32 * 16 * 4 + 16) + (16 * 8 * 4 + 8) + 18 == 29634
    assert table.explained == 1 and table.buffers == 10 + 4 * (8 + 16 + 32 + 16 + 8)
    depth = measure_depth(model, x)
    # through the bottom 6 + 1 + 2 + 1 + 2 + 1; over the second skip 4 + 2 + 1 + 2 + 1; first 2+2+1
    assert depth.weighted == 13 and depth.with_parameters == 13 + 10
    assert depth.path_lengths == {5: 1, 10: 1, 13: 1} and depth.nonlinear == 10 + 10 + 2


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
        self.compare = nn.Linear(4, 1)

    def forward(self, a, b):
        return self.compare((self.encoder(a) - self.encoder(b)).abs())


def test_a_shared_encoder_counts_once_and_runs_twice():
    model, inputs = Siamese(), (torch.randn(2, 10), torch.randn(2, 10))
    table = count_parameters(model, inputs)
    assert table.total == 88 + 36 + 5
    assert [row.calls for row in table.rows] == [2, 2, 1]
    assert count_flops(model, inputs).total == 2 * 2 * (2 * 80 + 2 * 32 + 4)
    depth = measure_depth(model, inputs)
    assert (depth.weighted, depth.paths) == (3, 2)


class TiedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.bias = nn.Linear(20, 5), nn.Parameter(torch.zeros(20))

    def forward(self, x):
        return F.linear(self.encoder(x).relu(), self.encoder.weight.t(), self.bias)


def test_a_decoder_that_borrows_the_encoders_matrix():
    model, x = TiedAutoencoder(), torch.randn(2, 20)
    assert count_parameters(model).total == 20 * 5 + 5 + 20
    assert count_flops(model, x).total == 2 * (2 * 2 * 100)
    assert measure_depth(model, x).weighted == 2


class Loop(nn.Module):
    """Three matrices, one after the other, then a vector added, then a matrix."""

    def __init__(self):
        super().__init__()
        self.steps = nn.ParameterList([nn.Parameter(torch.randn(4, 4)) for _ in range(3)])
        self.end = nn.ParameterDict({"a": nn.Parameter(torch.randn(4)),
                                     "b": nn.Parameter(torch.randn(4, 2))})

    def forward(self, x):
        for weight in self.steps:
            x = torch.relu(x @ weight)
        return (x + self.end["a"]) @ self.end["b"]


def test_parameter_lists_and_dictionaries():
    table = count_parameters(Loop(), torch.randn(2, 4))
    assert table.total == 3 * 16 + 4 + 8
    depth = measure_depth(Loop(), torch.randn(2, 4))
    assert depth.weighted == 4 and depth.witness == ["steps.0", "steps.1", "steps.2", "end.b"]


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(24, 7)

    def forward(self, ids):
        return self.tags(self.lstm(self.words(ids))[0])


def test_a_bidirectional_tagger():
    ids = torch.randint(0, 50, (2, 9))
    first, second = (2 * 4 * (12 * width + 12 * 12 + 2 * 12) for width in (16, 24))
    table = count_parameters(Tagger())
    assert table.total == 800 + first + second + 24 * 7 + 7 == 7503
    assert [row.role for row in table.rows] == ["input", "hidden", "output"]
    # two directions cannot share the T steps: T for each layer, and the two layers around them
    assert str(measure_depth(Tagger(), ids).credit_path) == "2·T + 2"


class ConvNeXtBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(d, d, 7, padding=3, groups=d), nn.LayerNorm(d)
        self.up, self.down, self.act = nn.Linear(d, 4 * d), nn.Linear(4 * d, d), nn.GELU()
        self.gamma = nn.Parameter(1e-6 * torch.ones(d))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(self.act(self.up(y)))).permute(0, 3, 1, 2)


def test_convnext_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 16, 4, 4), ConvNeXtBlock(16), ConvNeXtBlock(16),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    x = torch.randn(1, 3, 32, 32)
    block = 16 * 49 + 16 + 32 + (16 * 64 + 64) + (64 * 16 + 16) + 16
    assert count_parameters(model).total == (3 * 16 * 16 + 16) + 2 * block + 85 == 6821
    depth = measure_depth(model, x)
    assert (depth.weighted, depth.shortest, depth.paths, depth.blocks) == (1 + 2 * 3 + 1, 2, 4, 2)
    # 64 places: stem 48·16, in each block 16·49 and twice 16·64; then the head
    assert count_flops(model, x).total == 2 * (64 * 768 + 2 * 64 * (784 + 2048) + 80)


WRAPPED = {
    "data parallel": nn.DataParallel, "half": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(), "double": lambda model: model.double(),
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "meta": lambda model: model.to("meta"),
    "nested": lambda model: nn.Sequential(nn.Sequential(model)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRAPPED)
def test_one_network_in_many_wrappings(kind):
    model = WRAPPED[kind](mlp())
    x = torch.randn(2, 8, dtype=next(model.parameters()).dtype)
    table = count_parameters(model, x)
    assert (table.total, table.explained) == (144 + 68, 1)
    assert table.bytes == 212 * x.element_size()
    assert count_flops(model, x).total == 2 * 2 * (128 + 64)
    assert measure_depth(model, x).weighted == 2
    assert estimate_memory(model, x).gradients == 212 * x.element_size()


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_module_keeps_its_totals():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(mlp())
    assert count_parameters(model).total == 212
    assert measure_depth(model, torch.randn(2, 8)).weighted == 2


def test_nothing_to_count():
    assert count_parameters(nn.Sequential()).total == 0
    depth = measure_depth(nn.Identity(), torch.randn(1, 2))
    assert (depth.weighted, depth.hidden, depth.paths) == (0, 0, 1)


def test_two_thousand_layers_in_one_line():
    model, x = nn.Sequential(*[nn.Linear(8, 8) for _ in range(2000)]), torch.randn(1, 8)
    table = count_parameters(model)
    assert table.total == 2000 * 72 and len(str(table).splitlines()) < 10
    assert measure_depth(model, x).weighted == 2000


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))
        self.end = nn.Linear(4, 2, dtype=torch.cfloat)

    def forward(self, x):
        return self.end(torch.fft.fft(x) @ self.mix).abs()


def test_complex_numbers_count_once_and_take_eight_bytes():
    table = count_parameters(Fourier(), torch.randn(3, 4))
    assert table.total == 16 + 10 and table.bytes == 8 * 26
    assert measure_depth(Fourier(), torch.randn(3, 4)).weighted == 2


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.spare = mlp(), nn.Linear(4, 2), nn.Linear(3, 3)
        self.body.requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            y = self.body(x)
        return self.head(y)


def test_a_frozen_body_and_a_layer_never_called():
    model, x = Frozen(), torch.randn(2, 8)
    table = count_parameters(model, x)
    assert (table.total, table.trainable, table.frozen) == (212 + 10 + 12, 22, 212)
    assert "unused in the last forward: 12 parameters" in table.notes
    assert count_flops(model, x).total == 768 + 2 * 2 * 8
    assert measure_depth(model, x).weighted == 3
    assert estimate_memory(model, x).gradients == 4 * 22


def test_a_cell_in_a_loop_is_as_deep_as_the_loop_is_long():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.end = nn.GRUCell(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            state = x.new_zeros(x.shape[1], 4)
            for step in x:
                state = self.cell(step, state)
            return self.end(state)

    x = torch.randn(6, 2, 3)
    assert measure_depth(Loop(), x).weighted == 6 + 1
    # each step, for 2 samples: 3·4 rows of 3 and of 4; at the end 4
    assert count_flops(Loop(), x).total == 2 * 2 * (6 * 12 * (3 + 4) + 4)


def test_nothing_of_the_model_or_around_it_changes():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    model[1].eval()
    x = torch.randn(3, 4)
    model(x).sum().backward()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    for function in (count_parameters, count_flops, measure_depth, estimate_memory):
        function(model, x)
    assert torch.equal(random, torch.get_rng_state()) and torch.is_grad_enabled()
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert all(torch.equal(old, parameter.grad)
               for old, parameter in zip(grads, model.parameters()))
    assert not any(module._forward_hooks or module._forward_pre_hooks
                   for module in model.modules())


@pytest.mark.parametrize("function", [count_parameters, count_flops, estimate_memory])
def test_a_counter_of_the_models_own_stays(function):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.calls = nn.Linear(8, 2), 0

        def forward(self, x):
            self.calls += 1
            return self.layer(x)

    model = Counting()
    function(model, torch.randn(2, 8))
    assert model.calls == 0


def test_inside_inference_mode():
    model = mlp()
    with torch.inference_mode():
        x = torch.randn(2, 8)
        assert count_flops(model, x).total == 768
        assert measure_depth(model, x).weighted == 2
        # the input of each Linear is saved; ReLU's output is the second one
        assert estimate_memory(model, x).activations == 4 * 2 * (16 + 4)
