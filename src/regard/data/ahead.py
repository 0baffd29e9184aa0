"""Batches that other processes read while a GPU works on those before them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from regard.data.loader import Place, Shuffled
from regard.data.processes import cores
from regard.errors import Problem

MOST = 4  # processes, which read a million tokens a second each
GRACE = 30  # seconds that a process which is to end still reads, while its parent finishes a step and saves
HELD = signal.SIGINT, signal.SIGTERM
EACH = 2  # batches that each process reads ahead; what waits is in shared memory, of which a container has little


def ahead(source: Shuffled, device: torch.device) -> Shuffled | Ahead:
    """A source read ahead for a GPU, which would wait for it, where processes can be forked and there is a core."""
    processes = min(MOST, cores() - 1)
    forks = "fork" in multiprocessing.get_all_start_methods()
    return Ahead(source, processes) if device.type == "cuda" and forks and processes else source


class _Epoch(Dataset[Any]):
    """The batches of an epoch by their numbers."""

    def __init__(self, source: Shuffled, epoch: int) -> None:
        self.source, self.epoch = source, epoch

    def __getitem__(self, number: int) -> Any:
        try:
            return self.source.at((self.epoch, number), 0.0)
        except Problem as problem:  # raised here, it would come out among the words of another process
            return problem


def _outlast(number: int) -> None:
    """Ctrl-C goes to all processes of a terminal, a scheduler's kill to all of a job: the parent has a step to save."""

    def end_later(number: int, frame: object) -> None:
        signal.alarm(GRACE)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_later)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


class Ahead:
    """What `source` gives, for sources that do not ask how much of the run's end is done.

    `processes` are forked, so that they share what the source holds. A call for another place than the next begins the
    reading anew.
    """

    def __init__(self, source: Shuffled, processes: int) -> None:
        self.source, self.processes = source, processes
        self._expected: Place | None = None
        self._batches: Iterator[Any] = iter(())

    def __call__(self, place: Place, cooled: float = 0.0) -> tuple[Place, float, Any]:
        """The batch at a place, with the place after it and the epochs done by then."""
        after, done = self.source.after(place)
        if place != self._expected or place[1] == 0:  # each epoch has an order of its own
            self._batches = self._from(place)
        self._expected = after
        batch = next(self._batches)
        if isinstance(batch, Problem):
            raise batch
        return after, done, batch

    def _from(self, place: Place) -> Iterator[Any]:
        epoch, number = place
        numbers = range(number, len(self.source.planned(epoch)[0]))  # planned once, before there are processes
        loader = DataLoader(
            _Epoch(self.source, epoch), batch_size=None, sampler=numbers, num_workers=self.processes,
            prefetch_factor=EACH, multiprocessing_context="fork", generator=torch.Generator(),
            worker_init_fn=_outlast,
        )  # fmt: skip
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # until each process knows what to do with them
        try:
            return iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
