"""A random model whose normalisations do something, a batch of unlike lengths, and its explicit weights."""

import pytest
import torch

from regard.data.packing import pack
from regard.model.taps import Tap

LENGTHS = [5, 12, 1, 9, 5]
TARGET = [0, 3, 1, 2, 2]


@pytest.fixture(params=["first", "mean", "max"])
def model(request, draw_model):
    return unlike(draw_model(pooling=request.param))


@pytest.fixture
def first(draw_model):
    return unlike(draw_model(pooling="first"))


@pytest.fixture
def packed(draw_encodings):
    return pack(draw_encodings(LENGTHS))


@pytest.fixture
def target():
    return torch.tensor(TARGET)


def unlike(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 2)
            if name.endswith("norm.bias"):
                parameter.normal_()
    return model


@pytest.fixture
def tapped():
    """A function to all interior values of a batch, and to the rows of each sequence."""

    def run(model, packed):
        tap = Tap(watch=["*"])
        with torch.no_grad():
            model(packed, tap=tap)
        return tap.trace.values, [packed.order.tolist().index(i) for i in range(len(packed.lengths))]

    return run


@pytest.fixture
def tops():
    """A function to the share of each token in the pooled vector of one sequence, by the definition of each pooling."""

    def run(model, hidden):
        size, width = hidden.shape
        name = type(model.pooling).__name__
        if name == "First":
            return torch.tensor([1.0] + [0.0] * (size - 1))
        if name == "Mean":
            return torch.ones(size) / size
        return torch.tensor([sum(int(hidden[:, w].argmax()) == i for w in range(width)) / width for i in range(size)])

    return run
