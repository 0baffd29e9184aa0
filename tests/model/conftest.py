"""A small random BERT and sequences for it."""

import numpy as np
import pytest
import torch

from regard.batch import Encoding, Packed
from regard.data.packing import pack
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.heads import Model
from regard.model.pooling import First


@pytest.fixture(scope="session")
def draw_packed():
    """A function from lengths to a packed batch of random ids."""

    def draw(lengths, seed: int = 0) -> Packed:
        random = np.random.default_rng(seed)
        return pack([Encoding(random.integers(30, size=n), random.integers(2, size=n)) for n in lengths])

    return draw


@pytest.fixture
def small_model() -> Model:
    torch.manual_seed(1)
    config = EncoderConfig(vocabulary=30, width=16, layers=2, heads=2, inner_width=24, positions=64)
    return Model(bert(config), First(config.width)).eval()
