"""Rows into splits: every class in its share, the same for the same seed, and equal texts never on two sides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from regard.errors import Problem


def split(
    labels: Sequence[Any] | int, shares: Sequence[float], *, seed: int, groups: Sequence[Hashable] | None = None
) -> list[np.ndarray]:
    """Ascending row indices for each share; every row is in exactly one split.

    With labels, each class is divided alike, and a class of as many rows as there are splits is in all of them; with
    a number of rows, they are divided as one class. Rows of equal `groups`, such as rows of one text, stay together,
    for a model must not be tested on what it has learnt by heart; a group counts for the class of its first row.
    """
    rows = labels if isinstance(labels, int) else len(labels)
    _check(rows, shares, groups)
    members: dict[Hashable, list[int]] = {}
    for row in range(rows):
        members.setdefault(row if groups is None else groups[row], []).append(row)
    classes: dict[Hashable, list[list[int]]] = {}
    for group in members.values():
        classes.setdefault(None if isinstance(labels, int) else _key(labels[group[0]]), []).append(group)

    out: list[list[int]] = [[] for _ in shares]
    owed = np.zeros(len(shares))  # what rounding took from each split so far, paid back by the next class
    order = _shuffled(len(members), seed)
    start = 0
    for units in classes.values():
        ranks = order[start : start + len(units)]
        start += len(units)
        shuffled = [units[i] for i in np.argsort(ranks, kind="stable")]
        owed = _deal(sorted(shuffled, key=len, reverse=True), np.asarray(shares, dtype=float), owed, out)
    for place, (share, part) in enumerate(zip(shares, out, strict=True), 1):
        if share > 0 and not part:
            raise Problem(
                f"{len(members)} different rows are too few for {len(shares)} splits: split {place}, a share of "
                f"{share:g}, is empty. Give more rows, a larger data.held_out, or files of their own for the splits."
            )
    return [np.array(sorted(part), dtype=np.int64) for part in out]


def _deal(units: list[list[int]], shares: np.ndarray, owed: np.ndarray, out: list[list[int]]) -> np.ndarray:
    """Gives the groups of one class to the splits, and returns what each split is still owed, at most a row.

    First one group to each split, the largest group to the largest share; then always to the split that lacks most.
    """
    lack = shares * sum(map(len, units)) + owed
    waiting = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    for unit in units:
        place = waiting.pop(0) if waiting else int(np.argmax(np.where(shares > 0, lack, -np.inf)))
        out[place] += unit
        lack[place] -= len(unit)
    still: np.ndarray = np.clip(lack, -1.0, 1.0)
    return still


def _shuffled(count: int, seed: int) -> np.ndarray:
    """Numbers whose order is the shuffle: raw bits, the one stream that numpy promises never to change."""
    return np.asarray(np.random.PCG64(seed).random_raw(count), dtype=np.uint64)


def _key(label: Any) -> Hashable:
    return tuple(label) if isinstance(label, (list, np.ndarray)) else label


def _check(rows: int, shares: Sequence[float], groups: Sequence[Hashable] | None) -> None:
    if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise Problem(f"Shares of splits must be 0 or more and add up to 1; {list(shares)} do not. Mend data.held_out.")
    if groups is not None and len(groups) != rows:
        raise ValueError(f"{len(groups)} groups for {rows} rows")
