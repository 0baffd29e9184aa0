"""Training batches in an order that a seed decides and that can be taken up again anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Batch, Encoding
from regard.data.packing import cut, pack

Place = tuple[int, int]  # an epoch, and how many of its batches lie behind


class Shuffled(ABC):
    """Batches of at most `batch_tokens` tokens, or of `batch_size` sequences where that is given, shuffled each epoch.

    The order depends on the seed and the epoch alone, so that it can be taken up anywhere.
    """

    def __init__(self, lengths: NDArray[np.int64], *, batch_tokens: int, batch_size: int = 0, seed: int = 0) -> None:
        self.lengths, self.seed = lengths, seed
        self.batch_tokens, self.batch_size = batch_tokens, batch_size
        self._plan: tuple[int, list[NDArray[np.int64]], NDArray[np.int64]] | None = None

    @abstractmethod
    def batch(self, epoch: int, rows: NDArray[np.int64], *, cooled: float = 0.0) -> Any:
        """Some sequences as what a model learns from; `cooled` is the share of the run's end that is done."""

    def drawn(self, epoch: int) -> NDArray[np.int64]:
        """The sequences of an epoch: each once; what comes again has its number plus that of all sequences."""
        return np.arange(len(self.lengths))

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sequences of each batch of an epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.drawn(epoch))
        if self.batch_size:
            spans = [slice(i, i + self.batch_size) for i in range(0, len(order), self.batch_size)]
        else:
            spans = cut(self.lengths[order % len(self.lengths)].tolist(), self.batch_tokens)
        return [order[span] for span in spans]

    def __call__(self, place: Place, cooled: float = 0.0) -> tuple[Place, float, Any]:
        """The batch at a place, with the place after it and the epochs done by then."""
        after, done = self.after(place)
        return after, done, self.at(place, cooled)

    def after(self, place: Place) -> tuple[Place, float]:
        """The place after one, and the epochs done by then."""
        epoch, number = place
        plan, seen = self.planned(epoch)
        after = (epoch, number + 1) if number + 1 < len(plan) else (epoch + 1, 0)
        return after, epoch + int(seen[number]) / int(seen[-1])

    def planned(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """The plan of an epoch, and how many sequences there are up to each batch."""
        if self._plan is None or self._plan[0] != epoch:
            plan = self.plan(epoch)
            self._plan = epoch, plan, np.cumsum([len(rows) for rows in plan])
        return self._plan[1:]

    def at(self, place: Place, cooled: float) -> Any:
        """The batch at a place."""
        epoch, number = place
        return self.batch(epoch, self.planned(epoch)[0][number], cooled=cooled)


class Loader(Shuffled):
    """Shuffled texts with their labels; windows of one text count as sequences."""

    def __init__(
        self,
        encodings: Sequence[Encoding],
        labels: NDArray[np.generic],
        *,
        batch_tokens: int = 1024,
        batch_size: int = 0,
        seed: int = 0,
    ) -> None:
        if not len(encodings):
            raise ValueError("a loader needs at least one sequence")
        lengths = np.array([len(e.ids) for e in encodings])
        super().__init__(lengths, batch_tokens=batch_tokens, batch_size=batch_size, seed=seed)
        self.encodings = encodings
        self.labels = torch.from_numpy(np.asarray(labels)[[e.source for e in encodings]])

    def batch(self, epoch: int, rows: NDArray[np.int64], *, cooled: float = 0.0) -> Batch:
        """Some texts with their labels, the same in every epoch."""
        return Batch(pack([self.encodings[i] for i in rows]), self.labels[torch.from_numpy(rows)])
