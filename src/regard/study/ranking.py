"""Heads ranked by how much they matter, by estimate and by measurement, and whether the two agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regard.batch import Output, Packed
from regard.data.examples import Examples
from regard.data.task import labels_of
from regard.lens.importance import ESTIMATES, Loss, Slopes, dropped, normalised, slopes
from regard.measure.metrics import Array, kendall, spearman
from regard.measure.resample import Interval, draws, percentiles
from regard.measure.scores import headline, losses
from regard.system import System, warn_of_cuts

CHANGE, RISE = "change of loss", "rise of loss"  # mean over rows of |L' - L|, and of L' - L
Advance = Callable[[int], None]
HALVES = 100  # random halves of the rows, for how well a measurement agrees with itself


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One statistic of one head, with its 95 % interval over rows of data, and its rank: 1 matters most."""

    layer: int
    head: int
    statistic: str
    n: int
    mean: float
    low: float
    high: float
    rank: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Rank correlations of two statistics over all heads, with 95 % intervals over rows of data."""

    first: str
    second: str
    spearman: float
    spearman_interval: Interval
    kendall: float
    kendall_interval: Interval


@dataclass(frozen=True, slots=True)
class Ranking:
    """All heads by every statistic, and how the rankings agree."""

    n: int
    metric: str
    heads: list[HeadRow]
    agreements: list[Agreement]
    halves: dict[str, float]  # mean Spearman correlation of each statistic on one half of the rows with the other half

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measured:
    """All that the ranking is made of, row by row."""

    slopes: Slopes
    truth: Array
    plain: Array  # outputs (rows, ...) as `System.predict` gives them
    without: Array  # (rows, layers, heads, ...): the same with each head dropped
    rise: NDArray[np.float64]  # (rows, layers, heads): loss with the head dropped, minus loss


def rank(
    system: System,
    examples: Examples,
    *,
    normalise: bool = False,
    resamples: int = 1000,
    advance: Advance = lambda texts: None,
) -> Ranking:
    """Ranks all heads by each estimate of importance, and by what changes where the head is dropped.

    Measured are the mean change of an example's loss, |L' - L|, the mean rise, L' - L, and the drop of the metric. One
    backward pass gives the estimates; one pass for each head, begun at its layer, the measurements. Intervals are over
    resampled rows, on which everything is computed again: estimate and measurement share rows, and part of their noise.
    """
    measured = measure(system, examples, advance=advance)
    rows, layers, heads = measured.rise.shape
    name, metric = headline(system.card.task)
    names = [*ESTIMATES, CHANGE, RISE, f"drop of {name}"]
    pairs = [(i, j) for j in range(len(ESTIMATES), len(names)) for i in range(j)]

    def statistics(index: Array) -> Array:
        """(statistics, heads) of some rows."""
        slopes, rise = measured.slopes[index], measured.rise[index]
        estimates = [estimate(slopes).mean(0) for estimate in ESTIMATES.values()]
        truth, without = measured.truth[index], measured.without[index]
        whole = metric(truth, measured.plain[index])
        drop = [whole - metric(truth, without[:, layer, head]) for layer, head in np.ndindex(layers, heads)]
        estimates = [normalised(e) for e in estimates] if normalise else estimates
        return np.stack([np.ravel(value) for value in (*estimates, np.abs(rise).mean(0), rise.mean(0), drop)])

    def everything(index: Array) -> Array:
        found = statistics(index)
        correlations = [correlate(found[i], found[j]) for i, j in pairs for correlate in (spearman, kendall)]
        return np.concatenate([found.ravel(), correlations])

    again = draws(everything, (np.arange(rows),), resamples=resamples)
    values, intervals = everything(np.arange(rows)), [percentiles(column) for column in again.T]
    count = layers * heads
    spans = [slice(i * count, (i + 1) * count) for i in range(len(names))]
    of_pairs = iter(zip(values[len(names) * count :].tolist(), intervals[len(names) * count :], strict=True))
    return Ranking(
        n=rows,
        metric=name,
        heads=[
            row
            for statistic, span in zip(names, spans, strict=True)
            for row in _of_heads(statistic, values[span], intervals[span], measured.rise.shape)
        ],
        agreements=[Agreement(names[i], names[j], *next(of_pairs), *next(of_pairs)) for i, j in pairs],
        halves=_halves(statistics, names, rows),
    )


def measure(system: System, examples: Examples, *, advance: Advance = lambda texts: None) -> Measured:
    """Slopes of all heads' gates and outputs without each head, row by row; windows of a text are averaged."""
    task, config, truth = system.card.task, system.model.encoder.config, labels_of(examples)

    def read(packed: Packed, labels: Tensor) -> tuple[Array, ...]:
        slope = slopes(system.model, packed, labels, _loss(system))
        plain, without = (
            system.outputs(Output(None, None, logits)).double().cpu().numpy()
            for logits in dropped(system.model, packed)
        )
        return slope.gate, slope.absolute, slope.tokens, plain, np.moveaxis(without, 2, 0)

    gate, absolute, tokens, plain, without = _by_row(system, examples, read, advance)
    if task == "regress":
        plain, without = plain[..., 0], without[..., 0]
    cost = losses(task, truth, plain)
    places = np.ndindex(config.layers, config.heads)
    rise = np.stack([losses(task, truth, without[:, layer, head]) - cost for layer, head in places], 1)
    return Measured(Slopes(gate, absolute, tokens), truth, plain, without, rise.reshape(gate.shape))


def estimated(system: System, examples: Examples, *, advance: Advance = lambda texts: None) -> Slopes:
    """Slopes of all heads' gates alone, row by row: one backward pass, nothing is dropped."""

    def read(packed: Packed, labels: Tensor) -> tuple[Array, ...]:
        slope = slopes(system.model, packed, labels, _loss(system))
        return slope.gate, slope.absolute, slope.tokens

    return Slopes(*_by_row(system, examples, read, advance))


def _by_row(
    system: System, examples: Examples, read: Callable[[Packed, Tensor], tuple[Array, ...]], advance: Advance
) -> list[Array]:
    """What is read of each sequence, for each row of data: the mean over the windows of its text."""
    card, truth = system.card, labels_of(examples)
    encodings = system.tokenizer.encode(examples.texts, examples.pairs, max_length=card.max_length, stride=card.stride)
    cut = [e.dropped for e in encodings if e.dropped]
    warn_of_cuts(cut, len(truth), card.max_length, cure="A model trained with data.stride reads them in windows.")
    sums: list[Array] = []
    for batch, packed in system.packs(encodings):
        sources = [e.source for e in batch]
        found = read(packed, torch.from_numpy(truth[sources]).to(system.device))
        sums = sums or [np.zeros((len(truth), *part.shape[1:])) for part in found]
        for total, part in zip(sums, found, strict=True):
            np.add.at(total, sources, part)
        advance(len(set(sources)))
    windows = np.bincount([e.source for e in encodings], minlength=len(truth))
    return [total / windows.reshape(-1, *(1,) * (total.ndim - 1)) for total in sums]


def _loss(system: System) -> Loss:
    """The task's loss of each sequence, in the units of `measure.scores.losses`."""

    def classify(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    def multilabel(logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(1)

    def regress(logits: Tensor, labels: Tensor) -> Tensor:
        return (system.outputs(Output(None, None, logits)).squeeze(-1) - labels.float()).square()

    return {"classify": classify, "multilabel": multilabel, "regress": regress}[system.card.task]


def _of_heads(name: str, values: Array, intervals: list[Interval], shape: tuple[int, ...]) -> list[HeadRow]:
    """A row for each head."""
    rows, layers, heads = shape
    ranks = np.argsort(np.argsort(-values, kind="stable")) + 1
    found = zip(np.ndindex(layers, heads), values.tolist(), intervals, ranks.tolist(), strict=True)
    return [HeadRow(layer, head, name, rows, mean, *interval, rank) for (layer, head), mean, interval, rank in found]


def _halves(statistics: Callable[[Array], Array], names: list[str], rows: int) -> dict[str, float]:
    """How well each statistic on one half of the rows agrees with itself on the other: mean over random halves."""
    if rows < 2:
        return {}
    generator = np.random.default_rng(0)
    found = []
    for _ in range(HALVES):
        order = generator.permutation(rows)
        first, second = (statistics(half) for half in (order[: rows // 2], order[rows // 2 :]))
        found.append([spearman(a, b) for a, b in zip(first, second, strict=True)])
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
