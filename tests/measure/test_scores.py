"""The report on a system: its values, its intervals, and what each row earned."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as oracle

from regard.errors import Problem
from regard.measure import resample
from regard.measure.scores import (
    Score,
    classification_scores,
    headline,
    losses,
    multilabel_scores,
    per_example,
    regression_scores,
    scores,
    share_of_documents,
)


def system(rows=600, classes=4, seed=0):
    """A classifier that says what it knows: truth is drawn from its own probabilities."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.3), rows)
    truth = (probabilities.cumsum(1) > generator.random((rows, 1))).argmax(1)
    return truth, probabilities


def labeller(rows=300, labels=5, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.random((rows, labels))
    return (generator.random((rows, labels)) < probabilities).astype(int), probabilities


def test_a_score_speaks_with_its_doubt():
    assert str(Score("accuracy", 0.9119, 0.897, 0.9262, 872)) == "accuracy 0.912 [0.897, 0.926]"


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_values_equal_scikit_learn(classes):
    truth, probabilities = system(classes=classes)
    predicted = probabilities.argmax(1)
    found = {score.name: score for score in classification_scores(truth, probabilities, resamples=200)}
    expected = {
        "accuracy": oracle.accuracy_score(truth, predicted),
        "macro-F1": oracle.f1_score(truth, predicted, average="macro"),
        "Matthews correlation": oracle.matthews_corrcoef(truth, predicted),
    } | ({"F1": oracle.f1_score(truth, predicted)} if classes == 2 else {})
    assert set(found) == {*expected, "calibration error"}
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value)


@pytest.mark.parametrize(
    ("task", "data"),
    [
        ("classify", system()),
        ("classify", system(classes=2)),
        ("multilabel", labeller()),
        ("regress", np.random.default_rng(0).random((2, 90))),
    ],
)
def test_intervals_hold_their_value_and_seeds_reproduce(task, data):
    found = scores(task, *data, seed=3, resamples=300)
    assert all(score.low <= score.value <= score.high and score.low < score.high for score in found)
    assert all(score.n == len(data[0]) for score in found)
    assert found == scores(task, *data, seed=3, resamples=300)
    assert found != scores(task, *data, seed=4, resamples=300)


def test_intervals_of_counts_agree_with_the_general_bootstrap():
    truth, probabilities = system()
    found = {score.name: score for score in classification_scores(truth, probabilities, resamples=4000)}
    columns = truth, probabilities.argmax(1)
    for name, metric in (
        ("accuracy", oracle.accuracy_score),
        ("macro-F1", lambda t, p: oracle.f1_score(t, p, average="macro")),
        ("Matthews correlation", oracle.matthews_corrcoef),
    ):
        expected = resample.bootstrap(metric, columns, resamples=400)
        assert (found[name].low, found[name].high) == pytest.approx(expected, abs=0.012)


def test_macro_f1_counts_a_class_that_is_never_seen_in_no_resample():
    """Of ten possible classes two occur and both are always right: every resample scores 1, as with scikit-learn."""
    truth = np.array([0, 1] * 20)
    found = {score.name: score for score in classification_scores(truth, np.eye(10)[truth], resamples=200)}
    assert (found["macro-F1"].value, found["macro-F1"].low) == (1.0, 1.0)
    assert found["accuracy"].low == pytest.approx(resample.wilson(40, 40).low)


def test_calibration_error_of_a_calibrated_system_reaches_down_to_zero():
    truth, probabilities = system(rows=400)
    found = classification_scores(truth, probabilities)[-1]
    assert found.name == "calibration error"
    assert 0 <= found.low < 0.01 < found.high < 0.1


def test_multilabel_values_equal_scikit_learn():
    truth, probabilities = labeller()
    predicted = (probabilities >= 0.5).astype(int)
    expected = {
        f"{a}-F1": oracle.f1_score(truth, predicted, average=a, zero_division=0) for a in ("micro", "macro", "samples")
    }
    expected["subset accuracy"] = oracle.accuracy_score(truth, predicted)
    found = multilabel_scores(truth, probabilities, resamples=100)
    assert {score.name: score.value for score in found} == pytest.approx(expected)


def test_intervals_of_labels_agree_with_the_general_bootstrap():
    truth, probabilities = labeller()
    found = {score.name: score for score in multilabel_scores(truth, probabilities, resamples=4000)}
    for average in ("micro", "macro", "samples"):

        def metric(truth, output, average=average):
            return oracle.f1_score(truth, output >= 0.5, average=average, zero_division=0)

        expected = resample.bootstrap(metric, (truth, probabilities), resamples=300)
        assert (found[f"{average}-F1"].low, found[f"{average}-F1"].high) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("column", [False, True])
def test_regression_values_equal_scipy(column):
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 6, 200) / 2
    predicted = truth + generator.normal(size=200)
    found = regression_scores(truth, predicted[:, None] if column else predicted, resamples=100)
    expected = {
        "Pearson": scipy.stats.pearsonr(truth, predicted)[0],
        "Spearman": scipy.stats.spearmanr(truth, predicted)[0],
        "mean absolute error": oracle.mean_absolute_error(truth, predicted),
    }
    assert {score.name: score.value for score in found} == pytest.approx(expected)


def test_interval_of_a_rank_correlation_agrees_with_the_general_bootstrap():
    truth, predicted = np.random.default_rng(0).normal(size=(2, 150)).round(1)
    found = regression_scores(truth, truth + predicted, resamples=300)[1]
    expected = resample.bootstrap(
        lambda t, p: scipy.stats.spearmanr(t, p)[0], (truth, truth + predicted), resamples=300
    )
    assert (found.low, found.high) == pytest.approx(expected)  # the same rows were drawn, so to rounding


def test_what_each_row_earned():
    """Right or wrong; 2 of 2 and 1 of 2 labels; errors 0.5 and 2 squared."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    np.testing.assert_array_equal(per_example("classify", np.array([0, 1]), probabilities), [1, 0])
    np.testing.assert_array_equal(per_example("multilabel", np.array([[1, 0], [1, 1]]), probabilities), [1, 0.5])
    np.testing.assert_array_equal(per_example("regress", np.array([1.0, 3.0]), np.array([[1.5], [1.0]])), [-0.25, -4])


def test_what_each_row_cost_is_the_log_loss_or_the_squared_error():
    truth, probabilities = system()
    assert losses("classify", truth, probabilities).mean() == pytest.approx(oracle.log_loss(truth, probabilities))
    truth, probabilities = labeller()
    expected = [oracle.log_loss(t, p, labels=[0, 1]) for t, p in zip(truth, probabilities, strict=True)]
    np.testing.assert_allclose(losses("multilabel", truth, probabilities), expected)
    np.testing.assert_array_equal(losses("regress", np.array([1.0, 3.0]), np.array([1.5, 1.0])), [0.25, 4])
    assert np.isfinite(losses("classify", np.array([0]), np.array([[0.0, 1.0]], dtype=np.float32))).all()


@pytest.mark.parametrize("task", ["classify", "multilabel", "regress"])
def test_the_headline_is_the_first_score(task):
    numbers = np.random.default_rng(0).random((2, 90))
    truth, output = {"classify": system(), "multilabel": labeller(), "regress": numbers}[task]
    name, metric = headline(task)
    first = scores(task, truth, output, resamples=2)[0]
    assert (name, metric(truth, output)) == (first.name, pytest.approx(first.value))


def test_what_rows_earned_compares_two_systems():
    truth, probabilities = system()
    worse = np.roll(probabilities, 1, axis=0)
    earned = [per_example("classify", truth, output) for output in (probabilities, worse)]
    found = resample.paired_difference(resample.row_mean, truth, first=earned[0], second=earned[1], resamples=200)
    assert found.value == pytest.approx(earned[0].mean() - earned[1].mean())
    assert found.low > 0


@pytest.mark.parametrize("task", ["classify", "multilabel", "regress"])
def test_one_row_is_measured_without_a_word(task):
    data = {"classify": ([1], [[0.2, 0.8]]), "multilabel": ([[0, 1]], [[0.2, 0.8]]), "regress": ([1.0], [2.0])}[task]
    assert all(score.n == 1 for score in scores(task, *map(np.array, data), resamples=20))


@pytest.mark.parametrize(
    ("task", "truth", "output", "what"),
    [
        ("classify", [], [], "no rows"),
        ("classify", [0, 1], [0.1, 0.9], "do not fit the task"),
        ("classify", [0, 2], [[0.1, 0.9], [0.5, 0.5]], "outside 0 to 1"),
        ("classify", [0], [[np.nan, 1.0]], "output is not a number"),
        ("regress", [np.nan], [1.0], "true answer is not a number"),
        ("multilabel", [[0, 1]], [0.1], "do not fit the task"),
    ],
)
def test_what_a_user_can_mend_is_named(task, truth, output, what):
    with pytest.raises(Problem, match=what):
        scores(task, np.array(truth), np.array(output))


def test_a_share_of_documents_resamples_them_and_is_never_quite_sure():
    table = np.array([[4, 1], [2, 2], [0, 0], [6, 3]])
    score = share_of_documents("share", table, seed=1)
    assert (score.value, score.n) == (0.5, 12) and score.low < 0.5 < score.high
    copies = share_of_documents("share", 3 * table, seed=1)
    assert (copies.low, copies.high, copies.n) == (score.low, score.high, 36)
    asked = table[:, 0]
    none, all_ = (share_of_documents("share", np.stack([asked, right], 1)) for right in (0 * asked, asked))
    assert (none.value, none.low, all_.value, all_.high) == (0, 0, 1, 1)
    assert none.high == pytest.approx(1 - all_.low) == resample.wilson(0, 3).high
    assert np.isnan(share_of_documents("share", table[:1]).low)
