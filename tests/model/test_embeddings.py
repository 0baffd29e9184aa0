"""A batch of many tokens looks its places up otherwise than one of few, and nothing shows it."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from regard.model.config import EncoderConfig
from regard.model.embeddings import Embeddings

CONFIG = EncoderConfig(vocabulary=30, width=16, layers=1, heads=2, inner_width=24, positions=12)
FEW, MANY = [5, 9], [1, 4, *[12] * 8]  # tokens: fewer than there are places in segments, and more


@pytest.fixture
def embeddings():
    torch.manual_seed(1)
    return Embeddings(CONFIG)


@pytest.mark.parametrize("lengths", [FEW, MANY])
def test_bits_are_those_of_two_lookups_and_gradients_are_theirs(lengths, embeddings, draw_packed):
    packed = draw_packed(lengths)
    slope = torch.randn(len(packed.ids), CONFIG.width)
    tables = embeddings.position, embeddings.segment
    apart = F.embedding(packed.positions, tables[0]) + F.embedding(packed.segments, tables[1])
    found = embeddings.place_vectors(packed)
    assert torch.equal(found, apart)
    for one, other in zip(*(torch.autograd.grad(x, tables, slope) for x in (found, apart)), strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("lengths", [FEW, MANY])
def test_a_segment_that_there_is_not_is_refused(lengths, draw_packed):
    alone = Embeddings(dataclasses.replace(CONFIG, segments=1))
    with pytest.raises(IndexError):
        alone(draw_packed(lengths))
