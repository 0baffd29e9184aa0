"""Weights written out of queries, keys and log-sum-exps are the weights of the explicit path."""

import pytest
import torch

from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.capture import capture
from regard.model.taps import Tap


@pytest.fixture
def encoder(draw_model):
    return draw_model().encoder


@pytest.fixture
def packed(draw_encodings):
    return pack(draw_encodings([5, 30, 1, 17, 5]))


def test_all_weights_are_those_of_the_explicit_path(encoder, packed):
    found = capture(encoder, packed)
    tap = Tap(watch=["layer.*.attention.weights"])
    with torch.no_grad():
        encoder(packed, tap=tap)
    for layer in range(2):
        explicit = tap.trace.values[f"layer.{layer}.attention.weights"]
        for place, source in enumerate(packed.order.tolist()):
            torch.testing.assert_close(found.weights(layer, source), explicit[place], atol=1e-6, rtol=1e-5)


def test_any_cell_is_a_cell_of_the_whole(encoder, packed):
    found = capture(encoder, packed, layers=[1])
    whole = found.weights(1, 1)
    torch.testing.assert_close(
        found.weights(1, 1, heads=[2], queries=[3, 7], keys=[0]), whole[[2]][:, [3, 7]][..., [0]]
    )
    torch.testing.assert_close(found.weights(1, 1, queries=slice(4, 6)), whole[:, 4:6])


def test_tiles_put_together_are_the_whole_and_none_is_larger_than_its_room(encoder, packed):
    found = capture(encoder, packed)
    tiles = list(found.tiles(0, 1, room=400))
    assert all(tile.numel() <= 400 for _, tile in tiles) and len(tiles) > 2
    torch.testing.assert_close(torch.cat([tile for _, tile in tiles], 1), found.weights(0, 1))
    assert [rows.stop - rows.start for rows, _ in found.tiles(0, 1, room=1)] == [1] * 30


def test_a_layer_that_is_not_there(encoder, packed):
    with pytest.raises(Problem, match="no layer 2"):
        capture(encoder, packed, layers=[2])
