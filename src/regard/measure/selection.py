"""The best of many candidates: chosen on one part of the data, scored on another, which the choice never saw.

The best of 288 heads looks good by luck on the data it was chosen on; on other data luck does not last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.measure.metrics import Array
from regard.measure.resample import resampled_sums, wilson

FEWEST = 5  # texts: resamples of fewer are hardly more than those texts again, and one is always itself


@dataclass(frozen=True, slots=True)
class Shares:
    """What share of all items each candidate got right, with 95 % intervals; each (candidates,).

    Bounds are nan where the items are of fewer than `FEWEST` texts, which say too little of others.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    gain: NDArray[np.float64]  # over the baseline, on the same items
    gain_low: NDArray[np.float64]
    gain_high: NDArray[np.float64]


def best(hits: Array) -> int:
    """The candidate with most hits, the first of equals: `hits` (rows, candidates), a row for each text."""
    return int(hits.sum(0).argmax())


def shares(hits: Array, counts: Array, *, baseline: int, seed: int = 0, resamples: int = 1000) -> Shares:
    """Hits over items, summed over texts, and what they have over those of the candidate that is the baseline.

    `hits` (texts, candidates) of `counts` (texts,) items, one or more each. Texts are resampled, for items of one text
    are alike (percentile bootstrap). Where a share is 0 or 1 resamples cannot differ: its interval is Wilson's.
    """
    total = counts.sum()
    value = hits.sum(0) / total
    if len(counts) < FEWEST:
        none = np.full(len(value), np.nan)
        return Shares(value, none, none, value - value[baseline], none, none)
    drawn = resampled_sums(np.column_stack([hits, counts]), seed=seed, resamples=resamples)
    again = drawn[:, :-1] / drawn[:, -1:]
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    for place in np.flatnonzero((value == 0) | (value == 1)):
        low[place], high[place] = wilson(float(value[place] * total), int(total))
    gains = np.quantile(again - again[:, [baseline]], [0.025, 0.975], axis=0)
    return Shares(value, low, high, value - value[baseline], gains[0], gains[1])


def known(value: float) -> float | None:
    """A number as a row of a table has it: None where it is nan, for JSON has no nan."""
    return None if np.isnan(value) else float(value)
