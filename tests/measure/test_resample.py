"""Intervals that hold what they promise, tests that reject as often as they may, seeds that reproduce."""

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import Problem
from regard.measure import metrics, resample


def two_systems(rows, first_right, second_right, seed=0):
    """Truth, and two systems that are right by chance, each on its own."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, rows)
    wrong = generator.random((2, rows)) >= [[first_right], [second_right]]
    return truth, truth ^ wrong[0], truth ^ wrong[1]


def test_interval_of_accuracy_matches_the_normal_approximation():
    """900 right of 1000: 0.9 -+ 1.96 sqrt(0.9 * 0.1 / 1000) = 0.9 -+ 0.0186."""
    truth = np.ones(1000, int)
    predicted = (np.arange(1000) < 900).astype(int)
    low, high = resample.bootstrap(metrics.accuracy, (truth, predicted), resamples=4000)
    assert low == pytest.approx(0.9 - 0.0186, abs=0.002)
    assert high == pytest.approx(0.9 + 0.0186, abs=0.002)


def test_interval_covers_the_truth_as_often_as_it_says():
    """Of 300 samples about 285 intervals hold the true mean, with a standard deviation of 3.8."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        right = (generator.random((200, 1)) < 0.8).astype(float)
        low, high = resample.percentiles(resample.resampled_sums(right, seed=generator, resamples=400)[:, 0] / 200)
        held += low <= 0.8 <= high
    assert 270 <= held <= 298


def test_sums_of_counted_kinds_are_distributed_as_sums_of_rows():
    """Rows of three kinds: both paths have the multinomial's mean n p and variance n p (1 - p)."""
    counts = np.array([50, 30, 20])
    rows = np.repeat(np.eye(3), counts, axis=0)
    share = counts / 100
    for sums in (
        resample.resampled_sums(np.eye(3), counts=counts, resamples=20_000),
        resample.resampled_sums(rows, resamples=20_000),
    ):
        np.testing.assert_array_equal(sums.sum(1), 100)
        np.testing.assert_allclose(sums.mean(0), counts, atol=0.2)
        np.testing.assert_allclose(sums.var(0), 100 * share * (1 - share), rtol=0.05)


def test_the_fast_path_agrees_with_the_general_path():
    truth, predicted, _ = two_systems(500, 0.8, 0.5)
    confusion = metrics.confusion_matrix(truth, predicted)
    cells = resample.resampled_sums(np.eye(4), counts=confusion.ravel(), resamples=4000).reshape(-1, 2, 2)
    again = metrics.Tally(cells.diagonal(axis1=1, axis2=2), cells.sum(2), cells.sum(1))
    fast = resample.percentiles(metrics.f1_of(again))
    general = resample.bootstrap(metrics.f1, (truth, predicted), resamples=4000)
    np.testing.assert_allclose(fast, general, atol=0.005)


@pytest.mark.parametrize("resamples", [1, 63, 64, 65])
def test_as_many_resamples_as_asked(resamples):
    assert resample.resampled_sums(np.ones((3, 2)), resamples=resamples).shape == (resamples, 2)
    assert resample.draws(metrics.accuracy, (np.ones(3), np.ones(3)), resamples=resamples).shape == (resamples,)


def test_seeds_reproduce():
    columns = two_systems(100, 0.8, 0.5)[:2]
    same = [
        resample.bootstrap(metrics.f1, columns, seed=seed, resamples=50) for seed in (1, 1, np.random.default_rng(1))
    ]
    assert same[0] == same[1] == same[2] != resample.bootstrap(metrics.f1, columns, seed=2, resamples=50)


def test_identical_systems_do_not_differ():
    truth, first, _ = two_systems(80, 0.8, 0.5)
    difference = resample.paired_difference(metrics.f1, truth, first=first, second=first, resamples=100)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert resample.permutation_test(metrics.f1, truth, first=first, second=first, resamples=100) == 1.0


def test_systems_that_differ_are_told_apart_and_the_sign_follows_the_order():
    truth, first, second = two_systems(400, 0.9, 0.7)
    ahead = resample.paired_difference(metrics.accuracy, truth, first=first, second=second)
    behind = resample.paired_difference(metrics.accuracy, truth, first=second, second=first)
    assert 0 < ahead.low < ahead.value < ahead.high
    assert (behind.value, behind.low, behind.high) == pytest.approx((-ahead.value, -ahead.high, -ahead.low))
    p = resample.permutation_test(metrics.accuracy, truth, first=first, second=second)
    assert p == pytest.approx(1 / 1001)
    assert str(resample.Difference(0.0123, -0.001, 0.02)) == "+0.012 [-0.001, +0.020]"


def test_pairing_cancels_the_difficulty_of_rows():
    """Two systems fail on the same 30 % of rows and differ in 2 %: paired, the doubt is of the 2 % alone."""
    row = np.arange(1000)
    truth = np.ones(1000, int)
    second = (row >= 300).astype(int)
    first = (row >= 280).astype(int)
    difference = resample.paired_difference(metrics.accuracy, truth, first=first, second=second)
    alone = resample.bootstrap(metrics.accuracy, (truth, first))
    assert difference.value == pytest.approx(0.02)
    assert difference.low > 0
    assert difference.high - difference.low < (alone.high - alone.low) / 2


def test_exchange_test_equals_the_exact_sign_test():
    """On 1 or 0 a row only the disagreements count: 15 for, 5 against; two-sided P(|X - 10| >= 5), X ~ B(20, 1/2)."""
    first = np.array([1.0] * 15 + [0.0] * 5 + [1.0] * 80)
    second = np.array([0.0] * 15 + [1.0] * 5 + [1.0] * 80)
    p = resample.permutation_test(resample.row_mean, first, first=first, second=second, resamples=20_000)
    assert p == pytest.approx(scipy.stats.binomtest(15, 20).pvalue, abs=0.004)


def test_exchange_test_rejects_equal_systems_as_rarely_as_it_says():
    """Under no difference p <= 0.1 happens at most 20 times in 200 on average, with a standard deviation of 4.2."""
    rejected = 0
    for seed in range(200):
        truth, first, second = two_systems(100, 0.8, 0.8, seed)
        p = resample.permutation_test(metrics.accuracy, truth, first=first, second=second, seed=seed, resamples=99)
        rejected += p <= 0.1
    assert rejected < 36


def test_exchange_test_takes_rows_of_probabilities():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 60)
    first, second = generator.dirichlet(np.ones(3), (2, 60))
    first[np.arange(60), truth] += 1

    def metric(truth, output):
        return metrics.accuracy(truth, output.argmax(1))

    assert resample.permutation_test(metric, truth, first=first, second=second, resamples=200) < 0.05


def test_undefined_resamples_do_not_count():
    """Of two rows half of the resamples are one row twice, whose correlation is nan; the others give 1."""
    column = np.array([1.0, 2.0])
    assert resample.bootstrap(metrics.pearson, (column, column)) == pytest.approx((1.0, 1.0))
    assert all(math.isnan(x) for x in resample.bootstrap(metrics.pearson, (column[:1], column[:1])))


def test_wilson_worked_example():
    """All of 10 right: centre (1 + z^2/20) / (1 + z^2/10), half z^2/20 / (1 + z^2/10): 1 / 1.38415 = 0.7225 to 1."""
    assert resample.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@given(st.integers(1, 200).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_wilson_equals_scipy_and_holds_the_share(counts):
    successes, rows = counts
    low, high = resample.wilson(successes, rows)
    expected = scipy.stats.binomtest(successes, rows).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / rows <= high <= 1


def test_reflection_turns_the_percentiles_over_and_holds_the_value():
    values = np.linspace(1, 3, 1001)
    assert resample.reflected(values, 1.5) == pytest.approx((3 - 2.95, 3 - 1.05))
    assert resample.reflected(values, 0.5) == pytest.approx((1 - 2.95, 0.5))  # 1 - 1.05 would leave 0.5 outside


def test_rows_must_match():
    with pytest.raises(Problem, match="one output for every row"):
        resample.paired_difference(metrics.f1, np.ones(3), first=np.ones(3), second=np.ones(2))


def test_ten_thousand_rows_take_well_under_a_second():
    truth, predicted, _ = two_systems(10_000, 0.8, 0.5)
    start = time.process_time()
    counts = metrics.confusion_matrix(truth, predicted).ravel()
    cells = resample.resampled_sums(np.eye(4), counts=counts).reshape(-1, 2, 2)
    again = metrics.Tally(cells.diagonal(axis1=1, axis2=2), cells.sum(2), cells.sum(1))
    resample.percentiles(metrics.accuracy_of(again))
    resample.percentiles(metrics.f1_of(again))
    assert time.process_time() - start < 0.5
