"""Small random models and sequences, on which the laws are tried."""

import numpy as np
import pytest
import torch

from regard.batch import Encoding
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.heads import Head, Model
from regard.model.pooling import pooler

VOCABULARY = 50


@pytest.fixture(scope="session")
def draw_encodings():
    """A function from lengths to sequences of random ids, in random segments."""

    def draw(lengths, seed: int = 0) -> list[Encoding]:
        random = np.random.default_rng(seed)
        return [Encoding(random.integers(VOCABULARY, size=n), random.integers(2, size=n)) for n in lengths]

    return draw


@pytest.fixture(scope="session")
def draw_model():
    """A function to a random classifier of two layers with three heads, far enough from zero to attend unevenly."""

    def draw(*, kernel: str | None = None, pooling: str = "mean", **changes) -> Model:
        settings = {"vocabulary": VOCABULARY, "width": 24, "layers": 2, "heads": 3, "inner_width": 40, "positions": 128}
        config = EncoderConfig(**settings | changes)
        torch.manual_seed(7)
        model = Model(bert(config, kernel=kernel), pooler(pooling, config.width), Head(config.width, 4, config.dropout))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.normal_(std=0.3)
        return model.eval()

    return draw
