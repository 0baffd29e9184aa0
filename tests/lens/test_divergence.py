"""Divergences from tiles are those of weights written out, by another library."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from regard.data.packing import pack
from regard.errors import Problem
from regard.lens import divergence as module
from regard.lens.capture import capture
from regard.lens.divergence import divergence, same_place

LENGTHS = [5, 30, 1, 17]


def captured(model, draw_encodings, lengths=LENGTHS, **more):
    return capture(model.encoder, pack(draw_encodings(lengths)), **more)


def by_scipy(first, second, sequence):
    """JS of all heads with all heads from whole matrices of weights."""
    rows = [
        torch.cat([found.weights(layer, sequence) for layer in found.layers]).double().numpy()
        for found in (first, second)
    ]
    return np.array([[np.mean(jensenshannon(p, q, axis=-1) ** 2) for q in rows[1]] for p in rows[0]])


@pytest.mark.parametrize("tile", [1, 700, 2**17])
def test_all_heads_of_two_models_of_any_shapes(draw_model, draw_encodings, monkeypatch, tile):
    monkeypatch.setattr(module, "TILE", tile)
    first = captured(draw_model(), draw_encodings)
    second = captured(draw_model(layers=3, heads=4), draw_encodings)
    for sequence in range(len(LENGTHS)):
        found = divergence(first, second, sequence)
        assert found.shape == (6, 12) and found.dtype == torch.float32
        np.testing.assert_allclose(found, by_scipy(first, second, sequence), atol=1e-5)


def test_one_model_with_itself_is_symmetric_and_zero_on_the_diagonal(draw_model, draw_encodings):
    own = captured(draw_model(), draw_encodings)
    found = divergence(own, own, 1)
    assert torch.equal(found, found.T) and not found.diagonal().any()
    np.testing.assert_allclose(found, by_scipy(own, own, 1), atol=1e-5)
    again = captured(draw_model(), draw_encodings)
    torch.testing.assert_close(divergence(own, again, 1), found, atol=1e-6, rtol=0)
    assert not divergence(own, again, 1).diagonal().any()


def test_heads_in_one_place_are_the_diagonal_of_all(draw_model, draw_encodings):
    first = captured(draw_model(), draw_encodings)
    changed = draw_model()
    with torch.no_grad():
        changed.encoder.blocks[0].attention.part.joint.weight.mul_(0.5)
    second = captured(changed, draw_encodings)
    for sequence in range(len(LENGTHS)):
        found = same_place(first, second, sequence)
        expected = divergence(first, second, sequence).diagonal().view(2, 3)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert same_place(first, second, 1).min() > 1e-4
    assert not same_place(first, first, 1).any()


def test_rows_with_zeros_that_share_nothing_are_ln_2_apart(draw_model, draw_encodings):
    first, second = (captured(draw_model(), draw_encodings, [6]) for _ in range(2))
    keys = torch.eye(6, 8).unsqueeze(1).expand(6, 3, 8)
    for found, places in ((first, torch.arange(6)), (second, torch.arange(6).roll(1))):
        for layer in (0, 1):  # each row attends to one key alone; all other weights are e^-1000
            found.trace.values[f"layer.{layer}.attention.query"] = 1000 * 8**0.5 * keys[places]
            found.trace.values[f"layer.{layer}.attention.key"] = keys
            found.trace.values[f"layer.{layer}.attention.lse"] = torch.full((6, 3), 1000.0)
    assert not first.weights(0, 0)[:, 0, 1:].any()
    torch.testing.assert_close(divergence(first, second, 0), torch.full((6, 6), np.log(2.0), dtype=torch.float32))
    torch.testing.assert_close(same_place(first, second, 0), torch.full((2, 3), np.log(2.0), dtype=torch.float32))
    assert not divergence(first, first, 0).any()


def test_a_subset_of_layers(draw_model, draw_encodings):
    whole, last = captured(draw_model(), draw_encodings), captured(draw_model(), draw_encodings, layers=[1])
    torch.testing.assert_close(divergence(last, whole, 3), divergence(whole, whole, 3)[3:], atol=1e-6, rtol=0)


def test_other_tokens_are_a_problem(draw_model, draw_encodings):
    first, second = (captured(draw_model(), draw_encodings, lengths) for lengths in ([5], [6]))
    for compared in (divergence, same_place):
        with pytest.raises(Problem, match="not of the same tokens"):
            compared(first, second, 0)
