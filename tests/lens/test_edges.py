"""What a page embeds is what was kept, within the steps of a byte; what is kept is the largest."""

import numpy as np
import pytest

from regard.lens.edges import as_bytes, fit, narrowed, strongest


def draw(layers, heads, size, *, peaked=1.0):
    random = np.random.default_rng(0)
    return random.dirichlet(np.full(size, peaked), size=(layers, heads, size)).astype(np.float32)


def test_where_everything_is_kept_every_weight_is_within_half_a_step(decode):
    weights = draw(2, 3, 17)
    edges, found = fit(weights, rows=2 * 3 * 17, budget=100_000)
    assert (edges.kept, edges.shown) == (17, 1.0)
    out, rest = decode(found, rows=102, kept=17, size=17)
    rows = weights.reshape(102, 17)
    assert (np.abs(out - rows) <= rows.max(1, keepdims=True) / 510 + 2e-5).all()
    assert (rest == 0).all()


@pytest.mark.parametrize("size", [300, 512])
def test_the_largest_weights_are_kept_and_the_rest_is_accounted_for(decode, size):
    weights = draw(1, 2, size, peaked=0.05)
    edges, found = fit(weights, rows=2 * size, budget=40_000)
    assert 1 < edges.kept < size and len(found) <= 40_000
    out, rest = decode(found, rows=2 * size, kept=edges.kept, size=size)
    rows = weights.reshape(-1, size)
    least = np.sort(rows, -1)[:, -edges.kept][:, None]
    expected = np.where(rows >= least, rows, 0)
    assert (np.abs(out - expected) <= rows.max(1, keepdims=True) / 510 + 2e-5).all()
    np.testing.assert_allclose(rest, 1 - expected.sum(1), atol=2e-5)
    assert edges.shown == pytest.approx(expected.sum(1).mean(), abs=1e-5)


def test_fewer_of_many_are_the_same_as_few_from_the_start():
    weights = draw(2, 2, 40)
    few, many = strongest(weights, 5), narrowed(strongest(weights, 20), 5)
    np.testing.assert_array_equal(few.places, many.places)
    np.testing.assert_allclose(few.rest, many.rest, atol=1e-6)
    assert as_bytes(few)[:2] == as_bytes(many)[:2]


def test_a_budget_that_is_too_small_still_keeps_the_largest_of_each_row():
    edges, _ = fit(draw(1, 1, 30), rows=30, budget=1)
    assert edges.kept == 1


def test_rows_of_one_place_and_of_nothing_but_one_weight(decode):
    edges, found = fit(np.ones((1, 2, 1, 1), np.float32), rows=2, budget=100)
    out, _ = decode(found, rows=2, kept=edges.kept, size=1)
    assert (out == 1).all()
