"""Random networks, written three times: as a graph by hand, in torch, and in Keras.

The graph is made here by the definitions alone, never by the code under test.
"""

import random

from course_lib.anatomy.depth import LayerGraph

WIDTH = 4


def program(seed, steps=10):
    """A list of (operation, indices of earlier values); value 0 is the input."""
    rng = random.Random(seed)
    lines = []
    for step in range(1, steps + 1):
        kind = rng.choice(["linear", "linear", "relu", "norm", "add", "add", "gate", "cat", "same"])
        many = {"add": 2, "gate": 2, "cat": 2}.get(kind, 1)
        lines.append((kind, [rng.randrange(max(0, step - 4), step) for _ in range(many)]))
    return [*lines, ("add", [steps, steps - 1]), ("linear", [steps + 1])]


def as_graph(lines):
    """Weighted 1 for a linear layer; a concatenation is followed by a linear layer of its own."""
    graph = LayerGraph()
    values = [graph.add("x", "Input")]
    for kind, parts in lines:
        inputs = [values[i] for i in parts]
        if kind == "cat":
            inputs, kind = [graph.add("cat", "Concatenate", inputs)], "linear"
        if kind == "same":
            values.append(inputs[0])
            continue
        values.append(graph.add(
            kind, kind, inputs, weighted=int(kind == "linear"),
            with_parameters=int(kind in ("linear", "norm")),
            nonlinear=int(kind in ("relu", "norm", "gate"))))
    graph.outputs = (values[-1],)
    return graph


def in_torch(lines):
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            for index, (kind, _) in enumerate(lines):
                if kind in ("linear", "cat"):
                    self.layers[str(index)] = nn.Linear(WIDTH * (1 + (kind == "cat")), WIDTH)
                elif kind == "norm":
                    self.layers[str(index)] = nn.LayerNorm(WIDTH)

        def apply(self, index, kind, x, y):
            if kind in ("linear", "norm", "cat"):
                return self.layers[str(index)](torch.cat([x, y], -1) if kind == "cat" else x)
            if kind == "relu":
                return torch.relu(x)
            if kind == "same":
                return x.unsqueeze(0).transpose(0, 1)[:, 0]
            return x + y if kind == "add" else x * y

        def forward(self, x):
            values = [x]
            for index, (kind, parts) in enumerate(lines):
                values.append(self.apply(index, kind, values[parts[0]], values[parts[-1]]))
            return values[-1]
    return Network()


def in_keras(lines):
    import keras
    from keras import layers

    def apply(kind, x, y):
        if kind in ("linear", "cat"):
            return layers.Dense(WIDTH)(layers.Concatenate()([x, y]) if kind == "cat" else x)
        if kind == "norm":
            return layers.LayerNormalization()(x)
        if kind == "relu":
            return keras.ops.relu(x)
        if kind == "same":
            return layers.Reshape((WIDTH,))(x)
        return layers.Add()([x, y]) if kind == "add" else x * y
    values = [keras.Input((WIDTH,))]
    for kind, parts in lines:
        values.append(apply(kind, values[parts[0]], values[parts[-1]]))
    return keras.Model(values[0], values[-1])
