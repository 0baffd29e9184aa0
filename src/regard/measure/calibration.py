"""Calibration: whether a confidence of 0.8 is right eight times out of ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.measure.metrics import Array, aligned

BINS = 15  # as Guo et al. 2017


@dataclass(frozen=True, slots=True)
class Reliability:
    """Answers sorted by confidence into bins of equal width; the means of an empty bin are nan."""

    edges: NDArray[np.float64]  # (bins + 1,); a bin holds its upper edge
    count: NDArray[np.int64]  # (bins,)
    confidence: NDArray[np.float64]  # (bins,) mean
    accuracy: NDArray[np.float64]  # (bins,) mean

    @property
    def gaps(self) -> NDArray[np.float64]:
        """|accuracy - confidence| of each bin, 0 where it is empty."""
        return np.where(self.count > 0, np.abs(self.accuracy - self.confidence), 0.0)


def top_label(truth: Array, probabilities: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of the most probable class of each row, and whether that class is right."""
    truth, probabilities = aligned(truth, probabilities)
    return probabilities.max(1).astype(np.float64), probabilities.argmax(1) == truth


def reliability(confidence: Array, correct: Array, *, bins: int = BINS) -> Reliability:
    """The table behind a reliability diagram, from the confidence and the correctness of each answer."""
    confidence, correct = aligned(confidence, correct)
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Inner edges only: whatever rounding puts just outside 0 to 1 falls into the outer bins.
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(place, minlength=bins)
    empty = np.full(bins, np.nan)
    means = [
        np.divide(np.bincount(place, weights=column, minlength=bins), count, out=empty.copy(), where=count > 0)
        for column in (confidence, correct)
    ]
    return Reliability(edges, count, means[0], means[1])


def calibration_error(confidence: Array, correct: Array, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy, each bin weighed by its rows: sum of n_b / n |acc_b - conf_b|."""
    table = reliability(confidence, correct, bins=bins)
    return float(table.count @ table.gaps / table.count.sum())


def expected_calibration_error(truth: Array, probabilities: Array, *, bins: int = BINS) -> float:
    """Calibration error of the most probable class (Guo et al. 2017); noise alone keeps it above 0 on few rows."""
    return calibration_error(*top_label(truth, probabilities), bins=bins)


def maximum_calibration_error(truth: Array, probabilities: Array, *, bins: int = BINS) -> float:
    """The widest gap of any bin that holds a row (Guo et al. 2017)."""
    return float(reliability(*top_label(truth, probabilities), bins=bins).gaps.max())


def brier(truth: Array, probabilities: Array) -> float:
    """Squared error of probabilities, from 0 to 2 for classes (Brier 1950).

    For classes the mean over rows of sum_k (p_k - y_k)^2; for labels the mean over rows and labels of (p - y)^2.
    """
    truth, probabilities = aligned(truth, probabilities)
    if truth.ndim == 2:
        return float(np.square(probabilities - truth).mean())
    wanted = np.arange(probabilities.shape[1]) == truth[:, None]
    return float(np.square(probabilities - wanted).sum(1).mean())
