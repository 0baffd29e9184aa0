"""What edits of attention do to a system's answers: its metric before and after, on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from regard.data.examples import Examples
from regard.data.task import labels_of
from regard.lens.edit import Edit
from regard.lens.notation import said
from regard.measure.metrics import Array
from regard.measure.resample import Difference, paired_difference, row_mean
from regard.measure.scores import THRESHOLD, Score, headline, losses, scores
from regard.system import System

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Flips:
    """How many rows are answered differently, and in which direction; a row with several labels is right in all."""

    rows: int
    mended: int  # wrong before, right after
    spoilt: int  # right before, wrong after


@dataclass(frozen=True, slots=True)
class Effect:
    """A system without and with edits; differences are after minus before, with paired 95 % intervals."""

    edits: tuple[str, ...]
    n: int
    before: Score
    after: Score
    difference: Difference  # of the metric
    loss: Difference  # mean over rows; nats, or squared units of a number
    flips: Flips | None  # none where the answer is a number
    largest: float  # change of any output: a probability, or the number

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(
    system: System, examples: Examples, edits: Sequence[Edit], *, advance: Advance = lambda texts: None
) -> Effect:
    """The task's metric on labelled rows without and with the edits; `advance` counts texts, twice as many as rows."""
    task, truth = system.card.task, labels_of(examples)
    after, before = (  # in this order, so that an edit that cannot be is told at once
        system.predict(examples.texts, examples.pairs, edits=some, advance=advance) for some in (edits, ())
    )
    costs = [losses(task, truth, output) for output in (after, before)]
    return Effect(
        edits=tuple(map(said, edits)),
        n=len(truth),
        before=scores(task, truth, before)[0],
        after=scores(task, truth, after)[0],
        difference=paired_difference(headline(task)[1], truth, first=after, second=before),
        loss=paired_difference(row_mean, truth, first=costs[0], second=costs[1]),
        flips=_flips(task, truth, before, after),
        largest=float(np.abs(after - before).max()),
    )


def _flips(task: str, truth: Array, before: Array, after: Array) -> Flips | None:
    if task == "regress":
        return None
    if task == "classify":
        said_before, said_after, truth = before.argmax(1)[:, None], after.argmax(1)[:, None], truth[:, None]
    else:
        said_before, said_after = before >= THRESHOLD, after >= THRESHOLD
    right_before, right_after = ((answers == truth).all(1) for answers in (said_before, said_after))
    return Flips(
        rows=int((said_before != said_after).any(1).sum()),
        mended=int((~right_before & right_after).sum()),
        spoilt=int((right_before & ~right_after).sum()),
    )
