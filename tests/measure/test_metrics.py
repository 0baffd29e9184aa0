"""Metrics against scikit-learn and scipy, worked examples, and laws."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regard.errors import Problem
from regard.measure import metrics

RATES = [
    (metrics.precision, oracle.precision_score),
    (metrics.recall, oracle.recall_score),
    (metrics.f1, oracle.f1_score),
]
# Rows, classes drawn from, classes left out of the predictions: ordinary, many classes, a single row, absent classes.
SHAPES = [(200, 2, ()), (500, 7, ()), (1, 3, ()), (30, 20, ()), (60, 5, (0, 3)), (40, 4, (1, 2, 3))]


def draw(rows, classes, left_out, seed=0):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(0, classes, (2, rows))
    kept = [c for c in range(classes) if c not in left_out]
    return truth, np.where(np.isin(predicted, left_out), kept[0], predicted)


def draw_labels(rows, labels, seed=0):
    """Labels of every frequency, some never true, some never predicted, and rows without any."""
    generator = np.random.default_rng(seed)
    truth, predicted = generator.random((2, rows, labels)) < np.linspace(0, 0.8, labels)
    predicted[:, -1] = False
    return truth.astype(int), predicted.astype(int)


@pytest.mark.parametrize(("ours", "theirs"), RATES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("shape", SHAPES)
def test_averages_of_classes_equal_scikit_learn(ours, theirs, average, shape):
    truth, predicted = draw(*shape)
    expected = theirs(truth, predicted, average=average, zero_division=0)
    assert ours(truth, predicted, average=average) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), RATES)
@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("constant", [None, 0, 1])
def test_binary_rates_equal_scikit_learn(ours, theirs, rows, constant):
    truth, predicted = draw(rows, 2, ())
    predicted = predicted if constant is None else np.full(rows, constant)
    assert ours(truth, predicted, average="binary") == pytest.approx(theirs(truth, predicted, zero_division=0))


@pytest.mark.parametrize(("ours", "theirs"), RATES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
@pytest.mark.parametrize(("rows", "labels"), [(1, 4), (100, 2), (200, 9)])
def test_averages_of_labels_equal_scikit_learn(ours, theirs, average, rows, labels):
    truth, predicted = draw_labels(rows, labels)
    expected = theirs(truth, predicted, average=average, zero_division=0)
    assert ours(truth, predicted, average=average) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_per_class_equals_scikit_learn(shape):
    truth, predicted = draw(*shape)
    found = metrics.per_class(truth, predicted, classes=shape[1])
    expected = oracle.precision_recall_fscore_support(truth, predicted, labels=range(shape[1]), zero_division=0)
    for ours, theirs in zip((found.precision, found.recall, found.f1, found.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_per_class_of_labels_equals_scikit_learn():
    truth, predicted = draw_labels(80, 6)
    found = metrics.per_class(truth, predicted)
    expected = oracle.precision_recall_fscore_support(truth, predicted, zero_division=0)
    for ours, theirs in zip((found.precision, found.recall, found.f1, found.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_accuracy_confusion_and_matthews_equal_scikit_learn(shape):
    truth, predicted = draw(*shape)
    labels = np.arange(shape[1])
    assert metrics.accuracy(truth, predicted) == oracle.accuracy_score(truth, predicted)
    expected = oracle.confusion_matrix(truth, predicted, labels=labels)
    np.testing.assert_array_equal(metrics.confusion_matrix(truth, predicted, classes=shape[1]), expected)
    if shape[0] > 1:  # of one row scikit-learn warns
        assert metrics.matthews(truth, predicted) == pytest.approx(oracle.matthews_corrcoef(truth, predicted))


def test_accuracy_of_labels_wants_the_whole_row():
    truth, predicted = draw_labels(100, 3)
    assert metrics.accuracy(truth, predicted) == oracle.accuracy_score(truth, predicted)


def test_worked_example():
    """Truth 0 0 0 1 1 2, predicted 0 0 1 1 2 2.

    Class 0: 2 hits of 2 guesses and 3 truths, F1 = 4/5. Class 1: 1 of 2 and 2, F1 = 2/4.
    Class 2: 1 of 2 and 1, F1 = 2/3.
    Macro: (4/5 + 1/2 + 2/3) / 3 = 59/90. Micro = accuracy = 4/6. Weighted: (3 * 4/5 + 2 * 1/2 + 1 * 2/3) / 6 = 61/90.
    Matthews: s = 6, c = 4, t = (3, 2, 1), p = (2, 2, 2), t.p = 12, t.t = 14, p.p = 12:
    (24 - 12) / sqrt((36 - 14) (36 - 12)) = 12 / sqrt(528).
    """
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    assert metrics.f1(truth, predicted) == pytest.approx(59 / 90)
    assert metrics.f1(truth, predicted, average="micro") == pytest.approx(4 / 6) == metrics.accuracy(truth, predicted)
    assert metrics.f1(truth, predicted, average="weighted") == pytest.approx(61 / 90)
    assert metrics.matthews(truth, predicted) == pytest.approx(12 / math.sqrt(528))


def test_what_has_no_value_has_a_documented_answer():
    constant, rising = np.ones(4), np.arange(4.0)
    assert metrics.f1(np.zeros(3, int), np.zeros(3, int), average="binary") == 0.0
    assert metrics.matthews(np.ones(3, int), np.ones(3, int)) == 0.0
    for correlation in (metrics.pearson, metrics.spearman, metrics.kendall):
        assert math.isnan(correlation(constant, rising))
        assert math.isnan(correlation(rising, constant))
        assert math.isnan(correlation(np.array([1.0]), np.array([2.0])))
    # 0.1 seven times has a mean that is not exactly 0.1, so that its variance is not exactly 0.
    assert math.isnan(metrics.pearson(np.full(7, 0.1), np.arange(7.0)))


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("rows", [2, 3, 400])
def test_correlations_equal_scipy_with_ties(rows, levels):
    generator = np.random.default_rng(rows + levels)
    truth = generator.integers(0, levels, rows) / 3
    predicted = truth + generator.integers(-levels, levels, rows)
    truth[:2], predicted[:2] = (0, 1), (2, 1)  # never constant
    assert metrics.pearson(truth, predicted) == pytest.approx(scipy.stats.pearsonr(truth, predicted)[0], abs=1e-12)
    assert metrics.spearman(truth, predicted) == pytest.approx(scipy.stats.spearmanr(truth, predicted)[0], abs=1e-12)
    assert metrics.kendall(truth, predicted) == pytest.approx(scipy.stats.kendalltau(truth, predicted)[0], abs=1e-12)
    np.testing.assert_array_equal(metrics.average_ranks(truth), scipy.stats.rankdata(truth))


def test_ranks_share_their_mean():
    """3 and 3 occupy ranks 2 and 3, so that each has 2.5."""
    np.testing.assert_array_equal(metrics.average_ranks(np.array([3, 1, 3, 7])), [2.5, 1.0, 2.5, 4.0])


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1.0, 1e6])
def test_pearson_of_very_small_and_large_numbers(scale):
    truth, predicted = np.random.default_rng(0).normal(size=(2, 50))
    assert metrics.pearson(truth * scale, predicted * scale) == pytest.approx(metrics.pearson(truth, predicted))


@given(arrays(np.int64, st.integers(1, 30), elements=st.integers(-5, 5)))
def test_ranks_equal_scipy_and_survive_dense_ids(values):
    np.testing.assert_array_equal(metrics.average_ranks(values), scipy.stats.rankdata(values))
    np.testing.assert_array_equal(metrics.average_ranks(metrics.dense(values)), scipy.stats.rankdata(values))


@given(
    arrays(np.int64, st.tuples(st.just(2), st.integers(1, 30)), elements=st.integers(0, 4)), st.permutations(range(5))
)
def test_names_of_classes_and_order_of_rows_do_not_matter(pair, names):
    names = np.array(names)
    for metric in (metrics.accuracy, metrics.f1, metrics.matthews):
        value = metric(pair[0], pair[1])
        assert metric(names[pair[0]], names[pair[1]]) == pytest.approx(value, abs=1e-12)
        assert metric(pair[0][::-1], pair[1][::-1]) == pytest.approx(value, abs=1e-12)


@given(arrays(np.int64, st.tuples(st.just(2), st.integers(1, 30)), elements=st.integers(0, 4)))
def test_micro_f1_of_classes_is_accuracy(pair):
    assert metrics.f1(*pair, average="micro") == pytest.approx(metrics.accuracy(*pair))


def test_losses_and_errors_equal_scikit_learn():
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, 4, 100), generator.dirichlet(np.ones(4), 100)
    expected = oracle.log_loss(truth, probabilities, labels=range(4))
    assert metrics.log_loss(truth, probabilities) == pytest.approx(expected)
    labels, chances = draw_labels(50, 3)[0], generator.random((50, 3))
    expected = np.mean([oracle.log_loss(labels[:, i], chances[:, i], labels=[0, 1]) for i in range(3)])
    assert metrics.log_loss(labels, chances) == pytest.approx(expected)
    first, second = generator.normal(size=(2, 100))
    assert metrics.mean_absolute_error(first, second) == pytest.approx(oracle.mean_absolute_error(first, second))
    assert metrics.mean_squared_error(first, second) == pytest.approx(oracle.mean_squared_error(first, second))


def test_log_loss_of_certainty_is_finite():
    assert metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-math.log(np.finfo(float).eps))
    assert math.isfinite(metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]], dtype=np.float32)))


def test_errors_of_unsigned_integers_do_not_wrap():
    assert metrics.mean_absolute_error(np.array([1], np.uint8), np.array([2], np.uint8)) == 1.0


def test_counts_are_measured_over_leading_axes():
    truth, predicted = draw(90, 4, ())
    halves = [metrics.tally(truth[part], predicted[part], classes=4) for part in (slice(45), slice(45, 90))]
    joined = metrics.Tally(*(np.stack([getattr(h, f) for h in halves]) for f in ("hits", "truths", "guesses")))
    for function in (metrics.accuracy_of, metrics.f1_of, metrics.precision_of, metrics.recall_of, metrics.matthews_of):
        np.testing.assert_array_equal(function(joined), [function(half) for half in halves])


@pytest.mark.parametrize(
    ("truth", "predicted", "what"),
    [
        ([], [], "no rows"),
        ([1, 2], [1], "2 true answers"),
        ([0, -100], [0, 1], "lies outside"),
        ([0, 3], [0, 1], "outside"),
    ],
)
def test_what_a_user_can_mend_is_named(truth, predicted, what):
    with pytest.raises(Problem, match=what):
        metrics.confusion_matrix(np.array(truth, int), np.array(predicted, int), classes=3)


def test_scores_do_not_pass_for_classes():
    with pytest.raises(TypeError):
        metrics.accuracy_of(metrics.tally(np.array([0, 1]), np.array([0.2, 0.7])))


def test_samples_are_for_labels():
    with pytest.raises(Problem, match="samples"):
        metrics.f1(np.array([0, 1]), np.array([0, 1]), average="samples")
