"""Doubt by resampling: bootstrap intervals, paired differences, and the test by exchanging answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.measure.metrics import Array, aligned

Seed = int | np.random.Generator
Metric = Callable[[Array, Array], float]  # (truth, output) -> a number

_BLOCK = 64  # resamples drawn at once: enough for fast products, small enough for memory


class Interval(NamedTuple):
    """Where the value would lie in most samples of this size."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The first system minus the second, on the same rows."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap(
    metric: Callable[..., float],
    columns: Sequence[Array],
    *,
    seed: Seed = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of any metric of columns, their rows drawn together with replacement (Efron 1979)."""
    return percentiles(draws(metric, columns, seed=seed, resamples=resamples), level=level)


def draws(
    metric: Callable[..., float | Array], columns: Sequence[Array], *, seed: Seed = 0, resamples: int = 1000
) -> NDArray[np.float64]:
    """The metric, or a row of several, on each resample: the general path, one call for each."""
    indices = _indices(len(columns[0]), seed, resamples)
    return np.array([metric(*(column[index] for column in columns)) for index in indices])


def resampled_sums(
    statistics: Array, *, counts: Array | None = None, seed: Seed = 0, resamples: int = 1000
) -> NDArray[np.float64]:
    """Sums over resampled rows, (resamples, statistics): the fast path for every metric that is a function of sums.

    Row i of `statistics` (rows, statistics) stands for `counts[i]` equal rows of data, or for one. Rows that fall into
    few kinds, as cells of a confusion matrix, are thus drawn as one multinomial, however many they are.
    """
    table = np.asarray(statistics, dtype=np.float64)
    generator = np.random.default_rng(seed)
    starts = range(0, resamples, _BLOCK)
    sizes = [min(_BLOCK, resamples - start) for start in starts]
    if counts is None:
        return np.concatenate([_multiplicities(len(table), size, generator) @ table for size in sizes])
    rows = int(counts.sum())
    return np.concatenate([generator.multinomial(rows, counts / rows, size=size) @ table for size in sizes])


def over_first(table: Array, *, seed: Seed = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each column sums up to over the first: (columns,), and the same of resampled rows, (resamples, columns).

    It is nan where the first column sums up to nothing, and of resamples also where one row has all of it.
    """
    sums, again = np.asarray(table, dtype=np.float64).sum(0), resampled_sums(table, seed=seed)
    if np.count_nonzero(table[:, 0]) < 2:
        again[:] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / sums[0], again / again[:, :1]


def share_over_first(table: Array, column: int, means: Array, again: Array) -> tuple[float, float, float]:
    """What `over_first` found of a column that is a share of the first, with its interval, which one row alone has not.

    Where nothing is right, or all, resamples are as sure: then it is Wilson's, of as many rows as have any of it.
    """
    value, rows = float(means[column]), int(np.count_nonzero(table[:, 0]))
    sure = rows > 1 and value in (0, 1)
    return value, *(wilson(value * rows, rows) if sure else percentiles(again[:, column]))


def percentiles(values: Array, *, level: float = 0.95) -> Interval:
    """The middle share of the values; those that are undefined (nan) do not count, and none at all give nan."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def reflected(values: Array, value: float, *, level: float = 0.95) -> Interval:
    """The basic interval [2 v - high, 2 v - low], stretched to hold v (Davison and Hinkley 1997, section 5.2).

    For a statistic that noise pushes one way only, as the calibration error: resamples are pushed once more, so that
    their percentiles lie beyond the truth, and their reflection does not.
    """
    low, high = percentiles(values, level=level)
    return Interval(min(2 * value - high, value), max(2 * value - low, value))


def wilson(successes: float, rows: int, *, level: float = 0.95) -> Interval:
    """Interval of a share of rows (Wilson 1927).

    It stays open where every row is right, and a bootstrap would shrink to a point.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / rows
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * float(np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2)))
    # The bounds hold the share by construction; rounding must not push it out.
    return Interval(max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def paired_difference(
    metric: Metric,
    truth: Array,
    *,
    first: Array,
    second: Array,
    seed: Seed = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Difference:
    """How much better the first system is, with a percentile interval over rows that both systems answered.

    Both are measured on the same resample, so that the difficulty of its rows cancels.
    """
    _paired(truth, first, second)

    def gap(truth: Array, first: Array, second: Array) -> float:
        return metric(truth, first) - metric(truth, second)

    low, high = bootstrap(gap, (truth, first, second), seed=seed, resamples=resamples, level=level)
    return Difference(gap(truth, first, second), low, high)


def permutation_test(
    metric: Metric, truth: Array, *, first: Array, second: Array, seed: Seed = 0, resamples: int = 1000
) -> float:
    """Two-sided p: how often systems that exchange answers by the toss of a coin differ as much (Noreen 1989).

    p = (1 + exchanges that differ at least as much) / (1 + resamples), so that it is never 0.
    """
    _paired(truth, first, second)
    generator = np.random.default_rng(seed)
    observed = abs(metric(truth, first) - metric(truth, second))
    extreme = 0
    for _ in range(resamples):
        swap = generator.random(len(truth)) < 0.5
        swap = swap.reshape(-1, *(1,) * (first.ndim - 1))
        gap = metric(truth, np.where(swap, second, first)) - metric(truth, np.where(swap, first, second))
        extreme += abs(gap) >= observed - 1e-12  # equal up to rounding is equal
    return (1 + extreme) / (1 + resamples)


def row_mean(_: Array, output: Array) -> float:
    """Mean of what each row earned: the metric with which `scores.per_example` enters a paired comparison."""
    return float(output.mean())


def _paired(truth: Array, first: Array, second: Array) -> None:
    aligned(truth, first)
    aligned(truth, second)


def _indices(rows: int, seed: Seed, resamples: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    return (generator.integers(0, rows, rows) for _ in range(resamples))


def _multiplicities(rows: int, size: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each row was drawn in each of `size` resamples, (size, rows)."""
    drawn = [np.bincount(index, minlength=rows) for index in _indices(rows, generator, size)]
    return np.array(drawn, dtype=np.float64)
