"""Metrics: truth against output, in numpy; each answers where its formula has no value.

A class that has no rows scores 0 in precision, recall and F1; a correlation with a constant is nan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regard.errors import Problem

Array = NDArray[Any]
Average = Literal["binary", "macro", "micro", "weighted", "samples"]


@dataclass(frozen=True, slots=True)
class Tally:
    """All that precision, recall, F1, accuracy and Matthews need to know: three counts a class, over any leading axes.

    As the counts are sums over rows, tallies of resampled rows come by the thousand (`resample.resampled_sums`).
    """

    hits: Array  # (..., classes) rows whose truth and prediction are both this class
    truths: Array  # (..., classes) rows whose truth is this class
    guesses: Array  # (..., classes) rows whose prediction is this class
    exclusive: bool = True  # one class a row; False: labels, any number a row


@dataclass(frozen=True, slots=True)
class PerClass:
    """Precision, recall, F1 and the number of true rows of every class."""

    precision: Array  # (classes,)
    recall: Array  # (classes,)
    f1: Array  # (classes,)
    support: Array  # (classes,) int


def aligned(truth: Array, output: Array) -> tuple[Array, Array]:
    """Both as arrays; raises `Problem` where they are empty or do not speak of the same rows."""
    truth, output = np.asarray(truth), np.asarray(output)
    if not truth.size or not output.size:
        raise Problem("There are no rows to measure. Give at least one row.")
    if len(truth) != len(output):
        raise Problem(f"{len(truth)} true answers against {len(output)} outputs. Give one output for every row.")
    return truth, output


def confusion_matrix(truth: Array, predicted: Array, *, classes: int | None = None) -> NDArray[np.int64]:
    """How often each class was taken for each: rows are the truth, columns the prediction."""
    truth, predicted = aligned(truth, predicted)
    size = classes or int(max(truth.max(), predicted.max())) + 1
    if min(truth.min(), predicted.min()) < 0 or max(truth.max(), predicted.max()) >= size:
        raise Problem(f"A class id lies outside 0 to {size - 1}. Number the classes from 0 and give their full count.")
    # Only integers become integers here: a score of 0.7 must not pass for class 0.
    cells = truth.astype(np.int64, casting="same_kind") * size + predicted.astype(np.int64, casting="same_kind")
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)


def tally(truth: Array, predicted: Array, *, classes: int | None = None) -> Tally:
    """The counts of class ids (rows,), or of labels 0 and 1 (rows, labels)."""
    truth, predicted = aligned(truth, predicted)
    if truth.ndim == 2:
        return _label_tally(truth, predicted, axis=0)
    confusion = confusion_matrix(truth, predicted, classes=classes)
    return tally_of(confusion)


def tally_of(confusion: Array) -> Tally:
    """The counts in a confusion matrix: its diagonal and the sums of its rows and columns."""
    return Tally(confusion.diagonal(), confusion.sum(1), confusion.sum(0))


def accuracy(truth: Array, predicted: Array) -> float:
    """Share of rows that are right; a row of labels is right when all of them are."""
    truth, predicted = aligned(truth, predicted)
    equal = truth == predicted
    return float((equal.all(1) if equal.ndim == 2 else equal).mean())


def precision(truth: Array, predicted: Array, *, average: Average = "macro") -> float:
    """Share of the predictions of a class that are right: hits / guesses."""
    return float(precision_of(*_arranged(truth, predicted, average)))


def recall(truth: Array, predicted: Array, *, average: Average = "macro") -> float:
    """Share of the rows of a class that were found: hits / truths."""
    return float(recall_of(*_arranged(truth, predicted, average)))


def f1(truth: Array, predicted: Array, *, average: Average = "macro") -> float:
    """Harmonic mean of precision and recall: 2 hits / (truths + guesses)."""
    return float(f1_of(*_arranged(truth, predicted, average)))


def per_class(truth: Array, predicted: Array, *, classes: int | None = None) -> PerClass:
    """Precision, recall and F1 of every class or label, without an average."""
    counts = tally(truth, predicted, classes=classes)
    hits, truths, guesses = counts.hits, counts.truths, counts.guesses
    return PerClass(_share(hits, guesses), _share(hits, truths), _share(2 * hits, truths + guesses), truths)


def matthews(truth: Array, predicted: Array) -> float:
    """Correlation of truth and prediction as class memberships, 0 where either is constant (Gorodkin 2004, R_K)."""
    return float(matthews_of(tally(truth, predicted)))


def accuracy_of(counts: Tally) -> Array:
    """Accuracy of exclusive classes: hits / rows."""
    return _share(counts.hits.sum(-1), counts.truths.sum(-1))


def precision_of(counts: Tally, average: Average = "macro") -> Array:
    """Precision from counts, over their leading axes."""
    return _averaged(counts.hits, counts.guesses, counts, average)


def recall_of(counts: Tally, average: Average = "macro") -> Array:
    """Recall from counts, over their leading axes."""
    return _averaged(counts.hits, counts.truths, counts, average)


def f1_of(counts: Tally, average: Average = "macro") -> Array:
    """F1 from counts, over their leading axes."""
    return _averaged(2 * counts.hits, counts.truths + counts.guesses, counts, average)


def matthews_of(counts: Tally) -> Array:
    """(s c - t.p) / sqrt((s^2 - t.t) (s^2 - p.p)): s rows, c hits, t truths and p guesses of each class."""
    truths, guesses = counts.truths.astype(np.float64), counts.guesses.astype(np.float64)
    rows, hits = truths.sum(-1), counts.hits.sum(-1)
    spread = (rows**2 - (truths**2).sum(-1)) * (rows**2 - (guesses**2).sum(-1))
    return _share(rows * hits - (truths * guesses).sum(-1), np.sqrt(spread))


def log_loss(truth: Array, probabilities: Array) -> float:
    """Mean of -log p(truth); for labels, the mean over rows and labels of the loss of each yes-or-no question."""
    truth, probabilities = aligned(truth, probabilities)
    smallest = np.finfo(probabilities.dtype).eps
    safe = np.clip(probabilities, smallest, 1 - smallest).astype(np.float64)
    if truth.ndim == 2:
        return float(-np.log(np.where(truth == 1, safe, 1 - safe)).mean())
    return float(-np.log(safe[np.arange(len(truth)), truth]).mean())


def pearson(truth: Array, predicted: Array) -> float:
    """Cosine of the two centred columns; nan where either is constant."""
    truth, predicted = (column.astype(np.float64) for column in aligned(truth, predicted))
    # A constant is recognised by its values: its variance in floating point need not be exactly 0.
    if (truth == truth[0]).all() or (predicted == predicted[0]).all():
        return float("nan")
    first, second = truth - truth.mean(), predicted - predicted.mean()
    # Divided by the norms one after the other, so that tiny numbers do not vanish in a product.
    cosine = (first / np.linalg.norm(first)) @ (second / np.linalg.norm(second))
    return float(np.clip(cosine, -1.0, 1.0))


def spearman(truth: Array, predicted: Array) -> float:
    """Pearson correlation of the ranks, equal values sharing their mean rank; nan where either is constant."""
    truth, predicted = aligned(truth, predicted)
    return pearson(average_ranks(truth), average_ranks(predicted))


def kendall(truth: Array, predicted: Array) -> float:
    """Kendall's tau-b: pairs in the same order minus pairs in opposite order, over pairs not tied in either column.

    The geometric mean of the two columns' untied pairs is the divisor (Kendall 1945); nan where either is constant. All
    pairs are written out, so that it is meant for hundreds of rows, not for millions.
    """
    truth, predicted = aligned(truth, predicted)
    first, second = (np.sign(column[:, None] - column[None, :]) for column in (truth, predicted))
    untied = float(np.sqrt((first != 0).sum()) * np.sqrt((second != 0).sum()))
    return float((first * second).sum() / untied) if untied else float("nan")


def average_ranks(values: Array) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of the ranks that they occupy."""
    # Dense ids (see `dense`) are counted, everything else is sorted first.
    ids = values if values.dtype == np.int64 and 0 <= values.min() <= values.max() <= len(values) else dense(values)
    counts = np.bincount(ids)
    return (np.cumsum(counts) - (counts - 1) / 2)[ids]


def dense(values: Array) -> NDArray[np.int64]:
    """The place of each value among the distinct values, from 0: the same ranks, and cheap to rank again and again."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def mean_absolute_error(truth: Array, predicted: Array) -> float:
    """Mean of |truth - predicted|."""
    truth, predicted = aligned(truth, predicted)
    return float(np.abs(np.subtract(truth, predicted, dtype=np.float64)).mean())


def mean_squared_error(truth: Array, predicted: Array) -> float:
    """Mean of (truth - predicted)^2."""
    truth, predicted = aligned(truth, predicted)
    return float(np.square(np.subtract(truth, predicted, dtype=np.float64)).mean())


def _label_tally(truth: Array, predicted: Array, *, axis: int) -> Tally:
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    return Tally((truth & predicted).sum(axis), truth.sum(axis), predicted.sum(axis), exclusive=False)


def _arranged(truth: Array, predicted: Array, average: Average) -> tuple[Tally, Average]:
    """The counts that an average needs; the mean over samples is the macro mean of the table turned on its side."""
    truth, predicted = aligned(truth, predicted)
    if average == "samples":
        if truth.ndim != 2:
            raise Problem("The average 'samples' is for rows of labels. For one class a row use macro or micro.")
        return _label_tally(truth, predicted, axis=1), "macro"
    counts = tally(truth, predicted, classes=2 if average == "binary" and truth.ndim == 1 else None)
    return counts, average


def _averaged(part: Array, whole: Array, counts: Tally, average: Average) -> Array:
    if average == "binary":
        return _share(part[..., 1], whole[..., 1])
    if average == "micro":
        return _share(part.sum(-1), whole.sum(-1))
    rates = _share(part, whole)
    if average == "weighted":
        return _share((rates * counts.truths).sum(-1), counts.truths.sum(-1))
    # Of exclusive classes, one that is neither true nor predicted anywhere is not part of the question.
    present = (counts.truths + counts.guesses > 0) if counts.exclusive else np.ones(rates.shape)
    return _share((rates * present).sum(-1), present.sum(-1))


def _share(part: Array, whole: Array) -> NDArray[np.float64]:
    """Part / whole, and 0 of nothing."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)
