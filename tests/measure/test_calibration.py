"""Calibration by worked examples, against scikit-learn, and by laws."""

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from regard.measure import calibration


def test_worked_example():
    """Five answers in bins of 0.2: confidences .9 .9 .8 .7 .7, right 1 0 1 1 0.

    A bin holds its upper edge, so .8 goes with .7 and .7: mean 2.2/3, accuracy 2/3, gap 0.2/3.
    The last bin has mean 0.9, accuracy 1/2, gap 0.4.
    Expected: 3/5 * 0.2/3 + 2/5 * 0.4 = 0.2. Maximum: 0.4.
    """
    confidence = np.array([0.9, 0.9, 0.8, 0.7, 0.7])
    truth = np.array([0, 1, 0, 0, 1])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    table = calibration.reliability(*calibration.top_label(truth, probabilities), bins=5)
    np.testing.assert_array_equal(table.count, [0, 0, 0, 3, 2])
    np.testing.assert_allclose(table.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(table.confidence[3:], [2.2 / 3, 0.9])
    np.testing.assert_allclose(table.accuracy[3:], [2 / 3, 0.5])
    assert np.isnan(table.confidence[:3]).all() and np.isnan(table.accuracy[:3]).all()
    assert calibration.expected_calibration_error(truth, probabilities, bins=5) == pytest.approx(0.2)
    assert calibration.maximum_calibration_error(truth, probabilities, bins=5) == pytest.approx(0.4)


def test_outermost_confidences_and_rounding_have_a_bin():
    table = calibration.reliability(np.array([0.0, 1.0, 1.0 + 1e-7]), np.array([0, 1, 1]))
    assert table.count[0] == 1 and table.count[-1] == 2


def test_table_equals_scikit_learn():
    generator = np.random.default_rng(0)
    confidence = generator.random(500)
    correct = (generator.random(500) < confidence**2).astype(int)
    table = calibration.reliability(confidence, correct, bins=10)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    np.testing.assert_allclose(table.accuracy, accuracy)
    np.testing.assert_allclose(table.confidence, mean)


@pytest.mark.parametrize("classes", [2, 5])
def test_brier_equals_scikit_learn(classes):
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, classes, 200), generator.dirichlet(np.ones(classes), 200)
    expected = oracle.brier_score_loss(truth, probabilities, labels=range(classes), scale_by_half=False)
    assert calibration.brier(truth, probabilities) == pytest.approx(expected)


def test_brier_of_labels_is_the_mean_of_yes_or_no_questions():
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, 2, (50, 3)), generator.random((50, 3))
    expected = np.mean([oracle.brier_score_loss(truth[:, i], probabilities[:, i]) for i in range(3)])
    assert calibration.brier(truth, probabilities) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_error_lies_between_the_gap_of_the_means_and_the_widest_gap(answers, bins):
    confidence, correct = (np.array(column, dtype=float) for column in zip(*answers, strict=True))
    error = calibration.calibration_error(confidence, correct, bins=bins)
    widest = calibration.reliability(confidence, correct, bins=bins).gaps.max()
    assert abs(confidence.mean() - correct.mean()) - 1e-12 <= error <= widest + 1e-12 <= 1 + 2e-12


def test_one_bin_leaves_the_gap_of_the_means():
    confidence, correct = np.array([0.5, 0.9, 0.6]), np.array([1, 1, 0])
    assert calibration.calibration_error(confidence, correct, bins=1) == pytest.approx(0.0)
