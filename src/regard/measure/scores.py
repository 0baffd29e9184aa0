"""The report on one system: every score of a task with its interval, and one number a row for comparisons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from regard.errors import Problem
from regard.measure import metrics
from regard.measure.calibration import calibration_error, top_label
from regard.measure.metrics import Array, Tally
from regard.measure.resample import (
    Interval,
    Metric,
    Seed,
    bootstrap,
    draws,
    over_first,
    percentiles,
    reflected,
    resampled_sums,
    share_over_first,
    wilson,
)

THRESHOLD = 0.5  # a label is predicted from this probability on


@dataclass(frozen=True, slots=True)
class Score:
    """A value and its 95 % interval over `n` rows."""

    name: str
    value: float
    low: float
    high: float
    n: int

    @property
    def merit(self) -> float:
        """The value, or for an error minus it, so that more is better; minus infinity where it is undefined."""
        signed = -self.value if is_error(self.name) else self.value
        return signed if np.isfinite(signed) else -float("inf")

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share_of_documents(name: str, table: Array, *, seed: Seed = 0) -> Score:
    """A share with an interval that resamples documents: (documents, 2), how much is asked of each, and what is right.

    One document alone has none.
    """
    return Score(name, *share_over_first(table, 1, *over_first(table, seed=seed)), int(table[:, 0].sum()))


def is_error(name: str) -> bool:
    """Whether less of the score of this name is better."""
    return any(word in name.lower() for word in ("error", "loss", "brier", "perplexity"))


def names(task: str, outputs: int) -> list[str]:
    """What the scores of a task are called, for so many classes or labels."""
    eye = np.eye(max(2, outputs))
    example = {"classify": (np.arange(len(eye)), eye), "multilabel": (eye, eye), "regress": (eye[0], eye[0])}[task]
    return [score.name for score in scores(task, *example, resamples=1)]


def scores(task: str, truth: Array, output: Array, *, seed: Seed = 0, resamples: int = 1000) -> list[Score]:
    """The scores of a task, the one to quote first."""
    return _SCORES[task](truth, output, seed=seed, resamples=resamples)


def classification_scores(truth: Array, probabilities: Array, *, seed: Seed = 0, resamples: int = 1000) -> list[Score]:
    """Accuracy, macro-F1, F1 of class 1 where there are two, Matthews correlation, calibration error.

    `truth` (rows,) holds class ids, `probabilities` (rows, classes) their distribution.
    """
    truth, probabilities = _checked(truth, probabilities, axes=(1, 2))
    rows, classes = probabilities.shape
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(1), classes=classes)
    counts = metrics.tally_of(confusion)
    again = _resampled_tally(confusion, seed=seed, resamples=resamples)
    right = int(counts.hits.sum())
    found = [Score("accuracy", right / rows, *wilson(right, rows), rows)]
    found.append(_counted("macro-F1", partial(metrics.f1_of, average="macro"), counts, again, rows=rows))
    if classes == 2:
        found.append(_counted("F1", partial(metrics.f1_of, average="binary"), counts, again, rows=rows))
    found.append(_counted("Matthews correlation", metrics.matthews_of, counts, again, rows=rows))
    return [*found, _calibration_score(truth, probabilities, seed=seed, resamples=resamples)]


def multilabel_scores(
    truth: Array, probabilities: Array, *, seed: Seed = 0, resamples: int = 1000, threshold: float = THRESHOLD
) -> list[Score]:
    """Micro-F1, macro-F1, mean F1 of a row, and the share of rows with every label right.

    `truth` (rows, labels) holds 0 and 1; a label is predicted where its probability reaches the threshold.
    """
    truth, probabilities = _checked(truth, probabilities, axes=(2, 2))
    rows = len(truth)
    true, guess = truth.astype(bool), probabilities >= threshold
    hits = true & guess
    of_row = metrics.f1_of(Tally(hits.sum(1)[:, None], true.sum(1)[:, None], guess.sum(1)[:, None]), "micro")
    sums = resampled_sums(np.hstack([hits, true, guess, of_row[:, None]]), seed=seed, resamples=resamples)
    again = _split(sums[:, :-1], exclusive=False)
    counts = metrics.tally(true, guess)
    right = int((true == guess).all(1).sum())
    return [
        _counted("micro-F1", partial(metrics.f1_of, average="micro"), counts, again, rows=rows),
        _counted("macro-F1", partial(metrics.f1_of, average="macro"), counts, again, rows=rows),
        Score("samples-F1", float(of_row.mean()), *percentiles(sums[:, -1] / rows), rows),
        Score("subset accuracy", right / rows, *wilson(right, rows), rows),
    ]


def regression_scores(truth: Array, predictions: Array, *, seed: Seed = 0, resamples: int = 1000) -> list[Score]:
    """Pearson and Spearman correlation, mean absolute error; both columns (rows,) or (rows, 1)."""
    truth, predictions = _checked(np.ravel(truth), np.ravel(predictions), axes=(1, 1))
    columns = truth.astype(np.float64), predictions.astype(np.float64)
    ranked = metrics.dense(columns[0]), metrics.dense(columns[1])

    def score(name: str, metric: Callable[[Array, Array], float], columns: tuple[Array, Array]) -> Score:
        interval = bootstrap(metric, columns, seed=seed, resamples=resamples)
        return Score(name, metric(*columns), *interval, len(truth))

    return [
        score("Pearson", metrics.pearson, columns),
        score("Spearman", metrics.spearman, ranked),
        score("mean absolute error", metrics.mean_absolute_error, columns),
    ]


def per_example(task: str, truth: Array, output: Array) -> NDArray[np.float64]:
    """What each row earned, higher is better: 1 if right; share of labels right; minus the squared error."""
    if task == "classify":
        truth, output = _checked(truth, output, axes=(1, 2))
        return np.asarray(output.argmax(1) == truth, dtype=np.float64)
    if task == "multilabel":
        truth, output = _checked(truth, output, axes=(2, 2))
        return np.asarray(((output >= THRESHOLD) == truth.astype(bool)).mean(1))
    truth, output = _checked(np.ravel(truth), np.ravel(output), axes=(1, 1))
    return np.asarray(-np.square(np.subtract(truth, output, dtype=np.float64)))


def losses(task: str, truth: Array, output: Array) -> NDArray[np.float64]:
    """What each row cost, lower is better: -log p of the class; mean -log p of the labels, in nats; squared error."""
    if task == "classify":
        truth, output = _checked(truth, output, axes=(1, 2))
        return -np.log(_positive(output[np.arange(len(truth)), truth]))
    if task == "multilabel":
        truth, output = _checked(truth, output, axes=(2, 2))
        return np.asarray(-np.log(_positive(np.where(truth.astype(bool), output, 1 - output))).mean(1))
    return -per_example(task, truth, output)


def headline(task: str) -> tuple[str, Metric]:
    """The score of a task that is quoted first: its name, and a function (truth, output) -> value without the rest."""
    return _HEADLINES[task]


def _accuracy(truth: Array, output: Array) -> float:
    return float((output.argmax(1) == truth).mean())


def _micro_f1(truth: Array, output: Array) -> float:
    return metrics.f1(truth, output >= THRESHOLD, average="micro")


def _pearson(truth: Array, output: Array) -> float:
    return metrics.pearson(np.ravel(truth), np.ravel(output))


def _positive(probabilities: Array) -> NDArray[np.float64]:
    """Probabilities in float64, those that float32 has rounded to 0 as its least."""
    return np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny)


def _resampled_tally(confusion: Array, *, seed: Seed, resamples: int) -> Tally:
    """Counts of resampled rows: a row is one draw from the cells of the confusion matrix that are not empty."""
    true, guess = np.nonzero(confusion)
    one = np.eye(len(confusion))
    statistics = np.hstack([one[true] * (true == guess)[:, None], one[true], one[guess]])
    sums = resampled_sums(statistics, counts=confusion[true, guess], seed=seed, resamples=resamples)
    return _split(sums, exclusive=True)


def _split(sums: Array, *, exclusive: bool) -> Tally:
    """Sums (resamples, 3 x classes) as hits, truths and guesses."""
    hits, truths, guesses = np.split(sums, 3, axis=1)
    return Tally(hits, truths, guesses, exclusive)


def _counted(name: str, metric: Callable[[Tally], Array], counts: Tally, again: Tally, *, rows: int) -> Score:
    return Score(name, float(metric(counts)), *percentiles(metric(again)), rows)


def _calibration_score(truth: Array, probabilities: Array, *, seed: Seed, resamples: int) -> Score:
    columns = top_label(truth, probabilities)
    value = calibration_error(*columns)
    interval = reflected(draws(calibration_error, columns, seed=seed, resamples=resamples), value)
    bounded = Interval(max(interval.low, 0.0), min(interval.high, 1.0))
    return Score("calibration error", value, *bounded, len(truth))


def _checked(truth: Array, output: Array, *, axes: tuple[int, int]) -> tuple[Array, Array]:
    truth, output = metrics.aligned(truth, output)
    if (truth.ndim, output.ndim) != axes:
        raise Problem(
            f"Truth of shape {truth.shape} and output of shape {output.shape} do not fit the task, "
            f"which takes {axes[0]} and {axes[1]} axes. Name another task or reshape them."
        )
    if not np.isfinite(truth).all():
        raise Problem("A true answer is not a number. Leave its row out or mend it.")
    if not np.isfinite(output).all():
        raise Problem("An output is not a number. Look for a division by zero or a loss that has diverged.")
    return truth, output


_HEADLINES: dict[str, tuple[str, Metric]] = {
    "classify": ("accuracy", _accuracy),
    "multilabel": ("micro-F1", _micro_f1),
    "regress": ("Pearson", _pearson),
}
_SCORES: dict[str, Callable[..., list[Score]]] = {
    "classify": classification_scores,
    "multilabel": multilabel_scores,
    "regress": regression_scores,
}
