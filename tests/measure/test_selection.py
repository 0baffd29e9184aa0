"""The best candidate on one half is scored on the other: luck does not carry over."""

import numpy as np
import pytest

from regard.measure.resample import wilson
from regard.measure.selection import FEWEST, best, known, shares


def test_shares_and_gains_with_intervals_that_hold_them():
    random = np.random.default_rng(0)
    counts = random.integers(1, 6, size=200)
    hits = random.binomial(counts[:, None], [0.5, 0.7, 0.2])
    found = shares(hits, counts, baseline=0)
    np.testing.assert_allclose(found.value, hits.sum(0) / counts.sum())
    assert (found.low < found.value).all() and (found.value < found.high).all()
    assert (found.low < [0.5, 0.7, 0.2]).all() and (found.high > [0.5, 0.7, 0.2]).all()
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / counts.sum())  # items are independent here
    np.testing.assert_allclose((found.high - found.low) / 2, half, rtol=0.15)
    np.testing.assert_allclose(found.gain, found.value - found.value[0])
    assert (found.gain_low[0], found.gain[0], found.gain_high[0]) == (0, 0, 0)
    assert found.gain_low[1] > 0 and found.gain_high[2] < 0
    assert best(hits) == 1


def test_texts_are_resampled_and_not_items():
    """Items of one text that are right or wrong together say less than as many alone."""
    hits = np.repeat([[0], [10]], 20, axis=0)
    found = shares(hits, np.full(40, 10), baseline=0)
    assert found.high[0] - found.low[0] > 0.25


def test_all_right_is_not_certain():
    found = shares(np.full((6, 1), 2), np.full(6, 2), baseline=0)
    assert (found.low[0], found.high[0]) == pytest.approx(wilson(12, 12))


@pytest.mark.parametrize("right", [1, 2])
def test_few_texts_give_no_interval(right):
    """One text drawn again is always itself, so that all its resamples are one point."""
    for texts in (1, FEWEST - 1):
        found = shares(np.tile([[right, 0]], (texts, 1)), np.full(texts, 2), baseline=1)
        assert found.value.tolist() == [right / 2, 0] and found.gain.tolist() == [right / 2, 0]
        for bounds in (found.low, found.high, found.gain_low, found.gain_high):
            assert [known(bound) for bound in bounds] == [None, None]
    found = shares(np.tile([[right, 0]], (FEWEST, 1)), np.full(FEWEST, 2), baseline=1)
    assert np.isfinite([found.low, found.high, found.gain_low, found.gain_high]).all()
