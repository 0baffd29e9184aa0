"""Heads of one model beside heads of another: how far apart over many texts, and which is which.

Heads are matched so that the sum of their divergences is the least (Kuhn 1955), every head to another one; where one
model has more heads, some of them stay alone. All is of mean divergences over texts (`lens.divergence`), a matrix
(heads of the first, heads of the second), heads by layer; its doubt comes from texts drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regard.errors import Problem
from regard.lens.statistics import Moments
from regard.measure.resample import Interval, percentiles

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Pairs = tuple[Places, Places]  # places among the heads of the first, and of the second model
Shape = tuple[int, int]  # layers, heads of a layer

SAME, MATCHED, IN_LAYER, NEAREST = "same place", "matched", "matched in layer", "nearest"
FOLDS = 20  # groups of texts, which are drawn anew together
DIVERGENCE = "divergence"


@dataclass(slots=True)
class Divergences:
    """A stream of texts' divergences in few matrices: their moments, and sums of groups of texts to draw from."""

    moments: Moments = field(default_factory=Moments)
    sums: dict[int, Array] = field(default_factory=dict)  # by group
    counts: dict[int, int] = field(default_factory=dict)  # of texts, by group

    def add(self, number: int, matrix: Array) -> None:
        """Takes in the text of this number, from 0: (heads of the first, heads of the second)."""
        group = number % FOLDS
        self.sums[group] = self.sums.get(group, 0.0) + matrix
        self.counts[group] = self.counts.get(group, 0) + 1
        self.moments.add({DIVERGENCE: matrix[None]})

    def summary(self) -> dict[str, Array]:
        """n, mean, deviation and interval over texts of every pair of heads, a matrix each."""
        return self.moments.summary(DIVERGENCE)

    def resampled(self, *, seed: int = 0, resamples: int = 200) -> Iterator[Array]:
        """Mean divergences of texts drawn anew with replacement, by groups; nothing where there is but one."""
        many = len(self.sums)
        if many < 2:
            return
        sums, counts = (np.array([part[group] for group in sorted(part)]) for part in (self.sums, self.counts))
        for drawn in np.random.default_rng(seed).multinomial(many, np.full(many, 1 / many), size=resamples):
            yield np.tensordot(drawn, sums, 1) / (drawn @ counts)


@dataclass(frozen=True, slots=True)
class Matching:
    """Which head of the second model goes with which of the first, in one manner; 95 % intervals over texts."""

    kind: str
    pairs: Pairs
    support: Array  # of each pair: in which share of texts drawn anew the two go together as well
    mean: float  # divergence of a pair
    interval: Interval
    random: float | None  # the same of random assignments of that kind, and where 95 % of them lie
    random_range: Interval | None
    kept: float | None  # share of pairs whose heads stand in the same place; of models of one shape
    kept_interval: Interval | None


def matchings(found: Divergences, shape: Shape, other: Shape, *, seed: int = 0) -> list[Matching]:
    """All manners that there are for models of these shapes, the same place first if they are of one."""
    blocks = (shape, other)
    assign: dict[str, Callable[[Array], Pairs]] = {SAME: same} if shape == other else {}
    assign[MATCHED] = matched
    if shape[0] == other[0]:
        assign[IN_LAYER] = lambda divergence: matched_in_layers(divergence, *blocks)
    assign[NEAREST] = nearest
    mean = found.summary()["mean"]
    at_random = {MATCHED: random_means(mean, seed=seed)}
    if IN_LAYER in assign:
        at_random[IN_LAYER] = random_means_in_layers(mean, *blocks, seed=seed)
    again: dict[str, list[tuple[Pairs, float]]] = {kind: [] for kind in assign}
    for drawn in found.resampled(seed=seed):
        for kind, function in assign.items():
            pairs = function(drawn)
            again[kind].append((pairs, float(drawn[pairs].mean())))
    return [
        _matching(kind, function(mean), mean, again[kind], at_random.get(kind), one_shape=shape == other)
        for kind, function in assign.items()
    ]


def _matching(
    kind: str,
    pairs: Pairs,
    mean: Array,
    again: list[tuple[Pairs, float]],
    at_random: Array | None,
    *,
    one_shape: bool,
) -> Matching:
    partners = np.full((len(again), len(mean)), -1)
    for drawn, ((rows, columns), _) in zip(partners, again, strict=True):
        drawn[rows] = columns
    kept = np.array([(rows == columns).mean() for (rows, columns), _ in again])
    return Matching(
        kind=kind,
        pairs=pairs,
        support=(partners[:, pairs[0]] == pairs[1]).mean(0) if again else np.full(len(pairs[0]), np.nan),
        mean=float(mean[pairs].mean()),
        interval=percentiles(np.array([value for _, value in again])),
        random=None if at_random is None else float(at_random.mean()),
        random_range=None if at_random is None else percentiles(at_random),
        kept=float((pairs[0] == pairs[1]).mean()) if one_shape else None,
        kept_interval=percentiles(kept) if one_shape else None,
    )


def same(divergence: Array) -> Pairs:
    """Every head with the one in its place, of models of one shape."""
    places = np.arange(len(divergence))
    return places, places


def solver() -> Callable[[Array], Pairs]:
    """SciPy's solver of the assignment problem; raises `Problem` where it is not installed."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise Problem("Matching heads needs SciPy: pip install 'regard[lens]'.") from None
    return linear_sum_assignment  # type: ignore[no-any-return]


def matched(divergence: Array) -> Pairs:
    """The assignment of the least sum, as places among the heads of the first and of the second model."""
    return solver()(divergence)


def matched_in_layers(divergence: Array, shape: Shape, other: Shape) -> Pairs:
    """The same within each layer, of models of as many layers."""
    blocks = divergence.reshape(*shape, *other)
    found = [matched(blocks[layer, :, layer]) for layer in range(shape[0])]
    rows = [rows + layer * shape[1] for layer, (rows, _) in enumerate(found)]
    columns = [columns + layer * other[1] for layer, (_, columns) in enumerate(found)]
    return np.concatenate(rows), np.concatenate(columns)


def nearest(divergence: Array) -> Pairs:
    """To each head of the first model the nearest of the second, which several may share."""
    return np.arange(len(divergence)), divergence.argmin(1)


def random_means(divergence: Array, *, seed: int = 0, draws: int = 1000) -> Array:
    """Mean divergences of random assignments, as many heads matched as can be: (draws,)."""
    wide = divergence if len(divergence) <= divergence.shape[1] else divergence.T
    random, rows = np.random.default_rng(seed), np.arange(len(wide))
    return np.array([wide[rows, random.permutation(wide.shape[1])[: len(rows)]].mean() for _ in range(draws)])


def random_means_in_layers(divergence: Array, shape: Shape, other: Shape, *, seed: int = 0) -> Array:
    """The same within each layer, of models of as many layers: (draws,)."""
    blocks = divergence.reshape(*shape, *other)
    of_layers = [random_means(blocks[layer, :, layer], seed=seed + layer) for layer in range(shape[0])]
    return np.asarray(np.mean(of_layers, axis=0))
