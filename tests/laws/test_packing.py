"""Packing has an inverse, and what a model says of a text does not depend on its neighbours."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.packing import cut, pack, unpack
from regard.model.kernels import KERNELS

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)
ON_CPU = ("sdpa", "grouped", "reference")


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS)
def test_unpack_is_the_inverse_of_pack(lengths, draw_encodings):
    encodings = draw_encodings(lengths)
    packed = pack(encodings)
    for rows, field in ((packed.ids, "ids"), (packed.segments, "segments")):
        for found, encoding in zip(unpack(rows, packed), encodings, strict=True):
            assert np.array_equal(found, getattr(encoding, field))


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS)
def test_a_packed_batch_is_whole_and_ascends(lengths, draw_encodings):
    packed = pack(draw_encodings(lengths))
    assert list(packed.lengths) == sorted(lengths)
    assert [lengths[i] for i in packed.order] == list(packed.lengths)
    assert packed.bounds.dtype == torch.int32
    assert packed.bounds.tolist() == [0, *np.cumsum(packed.lengths)]
    assert packed.positions.tolist() == [place for length in packed.lengths for place in range(length)]


def test_equal_lengths_keep_their_order(draw_encodings):
    assert pack(draw_encodings([3, 2, 3, 2, 3])).order.tolist() == [1, 3, 0, 2, 4]


def test_rows_of_any_shape_unpack(draw_encodings):
    packed = pack(draw_encodings([3, 1, 2]))
    parts = unpack(torch.arange(6 * 2 * 5).view(6, 2, 5), packed)
    assert [tuple(part.shape) for part in parts] == [(3, 2, 5), (1, 2, 5), (2, 2, 5)]


@pytest.mark.parametrize("lengths", [[], [0], [3, 0]])
def test_nothing_cannot_be_packed(lengths, draw_encodings):
    with pytest.raises(ValueError, match="at least one"):
        pack(draw_encodings(lengths))


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 120))
def test_batches_keep_to_the_budget_and_waste_none(lengths, budget):
    parts = [lengths[span] for span in cut(lengths, budget)]
    assert [length for part in parts for length in part] == lengths
    assert all(part and (len(part) == 1 or sum(part) <= budget) for part in parts)
    assert all(sum(part) + following[0] > budget for part, following in pairwise(parts))


def test_every_kernel_is_tried():
    assert set(KERNELS) == {*ON_CPU, "varlen"}


@pytest.mark.parametrize("kernel", [None, *ON_CPU])
@pytest.mark.parametrize("pooling", ["first", "mean", "max"])
def test_packed_equals_one_by_one(kernel, pooling, draw_model, draw_encodings):
    model, encodings = draw_model(kernel=kernel, pooling=pooling), draw_encodings([7, 1, 33, 7, 2, 40, 7, 33, 12, 1])
    with torch.no_grad():
        packed = pack(encodings)
        together = model(packed)
        for place, (encoding, hidden) in enumerate(zip(encodings, unpack(together.hidden, packed), strict=True)):
            alone = model(pack([encoding]))
            torch.testing.assert_close(hidden, alone.hidden, atol=1e-5, rtol=0)
            torch.testing.assert_close(together.pooled[place], alone.pooled[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(together.logits[place], alone.logits[0], atol=1e-5, rtol=0)
