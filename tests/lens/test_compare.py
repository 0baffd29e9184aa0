"""Matching of heads: the least sum, found again after a permutation, beside what is random; doubt from texts."""

import itertools
import sys

import numpy as np
import pytest

from regard.errors import Problem
from regard.lens import compare
from regard.lens.compare import Divergences, matched, matched_in_layers, matchings, nearest, random_means


def drawn(random, rows, columns, texts=30):
    """Texts' divergences of pairs of heads, and all of them taken in."""
    matrices = random.uniform(0.1, 0.6, (rows, columns)) + random.normal(0, 0.02, (texts, rows, columns))
    found = Divergences()
    for number, matrix in enumerate(matrices):
        found.add(number, matrix)
    return matrices, found


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5), (5, 3)])
def test_no_other_assignment_has_a_smaller_sum(rows, columns):
    divergence = np.random.default_rng(0).uniform(size=(rows, columns))
    one, other = matched(divergence)
    few, many = sorted((rows, columns))
    wide = divergence if rows <= columns else divergence.T
    least = min(wide[np.arange(few), list(places)].sum() for places in itertools.permutations(range(many), few))
    assert divergence[one, other].sum() == pytest.approx(least)
    assert len(set(one)) == len(set(other)) == few


def test_a_permutation_is_found_again_over_all_layers_and_within_each():
    random = np.random.default_rng(1)
    _, found = drawn(random, 6, 6)
    own = found.summary()["mean"] + 1 - 2 * np.eye(6)  # every head nearest to itself
    across = random.permutation(6)
    one, other = matched(own[:, across])
    assert np.array_equal(across[other], one)
    within = np.array([1, 0, 3, 2, 5, 4])  # layers of two heads
    one, other = matched_in_layers(own[:, within], (3, 2), (3, 2))
    assert np.array_equal(within[other], one)
    assert np.array_equal(nearest(own[:, within])[1], np.argsort(within))


def test_heads_of_a_layer_are_matched_within_it_even_where_others_are_nearer():
    divergence = np.full((4, 4), 0.5)
    divergence[[0, 1, 2, 3], [2, 3, 0, 1]] = 0.1  # layers change places
    divergence[[0, 1, 2, 3], [1, 0, 3, 2]] = 0.4
    assert matched(divergence)[1].tolist() == [2, 3, 0, 1]
    assert matched_in_layers(divergence, (2, 2), (2, 2))[1].tolist() == [1, 0, 3, 2]


def test_layers_may_have_other_numbers_of_heads():
    divergence = np.random.default_rng(2).uniform(size=(4, 6))
    one, other = matched_in_layers(divergence, (2, 2), (2, 3))
    assert one.tolist() == [0, 1, 2, 3] and set(other[:2]) <= {0, 1, 2} and set(other[2:]) <= {3, 4, 5}
    kinds = matchings(drawn(np.random.default_rng(2), 4, 6)[1], (2, 2), (2, 3))
    assert [one.kind for one in kinds] == [compare.MATCHED, compare.IN_LAYER, compare.NEAREST]
    assert all(one.kept is None for one in kinds)


def test_moments_are_those_of_all_texts_and_resamples_lie_about_the_mean():
    matrices, found = drawn(np.random.default_rng(3), 3, 4, texts=90)
    summary = found.summary()
    np.testing.assert_allclose(summary["mean"], matrices.mean(0))
    np.testing.assert_allclose(summary["deviation"], matrices.std(0, ddof=1))
    again = np.array(list(found.resampled(resamples=4000)))
    np.testing.assert_allclose(again.mean(0), matrices.mean(0), atol=2e-4)
    folds = np.array([matrices[fold :: compare.FOLDS].mean(0) for fold in range(compare.FOLDS)])
    np.testing.assert_allclose(again.std(0), folds.std(0) / np.sqrt(compare.FOLDS), rtol=0.15)


def test_one_text_has_no_interval():
    found = matchings(drawn(np.random.default_rng(4), 4, 4, texts=1)[1], (2, 2), (2, 2))
    assert all(np.isnan(one.interval.low) and np.isnan(one.support).all() for one in found)


def test_matchings_are_those_of_the_mean_with_support_from_other_texts():
    random = np.random.default_rng(5)
    matrices = np.tile(1 - 0.9 * np.eye(6), (40, 1, 1)) + random.normal(0, 0.001, (40, 6, 6))
    matrices[:, 4:, 4:] = 0.5 + random.normal(0, 0.2, (40, 2, 2))  # two heads that may be either
    found = Divergences()
    for number, matrix in enumerate(matrices):
        found.add(number, matrix)
    kinds = {one.kind: one for one in matchings(found, (3, 2), (3, 2))}
    assert list(kinds) == [compare.SAME, compare.MATCHED, compare.IN_LAYER, compare.NEAREST]
    mean = matrices.mean(0)
    for kind in (compare.MATCHED, compare.IN_LAYER):
        one = kinds[kind]
        assert one.mean == pytest.approx(mean[matched(mean)].mean())
        assert one.interval.low < one.mean < one.interval.high
        assert one.support[:4].tolist() == [1, 1, 1, 1] and 0.3 < one.support[4:].mean() < 1
        assert one.kept == (matched(mean)[1] == np.arange(6)).mean()
    assert kinds[compare.SAME].mean == pytest.approx(mean.diagonal().mean())
    assert kinds[compare.SAME].mean >= kinds[compare.MATCHED].mean >= kinds[compare.NEAREST].mean
    assert kinds[compare.MATCHED].random == pytest.approx(mean.mean(), abs=0.01)
    within = np.mean([mean[2 * layer : 2 * layer + 2, 2 * layer : 2 * layer + 2].mean() for layer in range(3)])
    assert kinds[compare.IN_LAYER].random == pytest.approx(within, abs=0.02)
    low, high = kinds[compare.MATCHED].random_range
    assert low < kinds[compare.MATCHED].random < high


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3)])
def test_random_assignments_have_the_mean_of_all_pairs(rows, columns):
    divergence = np.random.default_rng(6).uniform(size=(rows, columns))
    assert random_means(divergence, draws=4000).mean() == pytest.approx(divergence.mean(), abs=0.01)


def test_without_scipy_the_cure_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(Problem, match=r"pip install 'regard\[lens\]'"):
        matched(np.zeros((2, 2)))
