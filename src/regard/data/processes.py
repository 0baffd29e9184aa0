"""Work on all cores, its outcomes in the order in which it was named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from regard.errors import Problem

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

PATIENCE = 3.0  # seconds of work in this process before others are started, which takes about as long
UNGUARDED = (
    "Other processes could not start: each runs the script that called this once more. Put what the script does under "
    '`if __name__ == "__main__":`, or ask for one process.'
)

Work = Callable[[], Any]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Here(partial):  # type: ignore[type-arg]
    """Work for this process, when all that was named before it is done."""


def in_turn(todo: Iterable[Work], send: Callable[[Work], Work], room: Callable[[], int]) -> Iterator[Any]:
    """The outcome of each piece of work in turn, of which at most `room()` are under way.

    `send` has one begun and gives what waits for its outcome; it is not given what is to be done here.
    """
    under_way: deque[Work] = deque()
    for work in todo:
        under_way.append(work if isinstance(work, Here) else send(work))
        while len(under_way) > room():
            yield under_way.popleft()()
    while under_way:
        yield under_way.popleft()()


class Workers:
    """This process, and others as soon as there was work for more than `PATIENCE`; in the end they are gone.

    `processes` is how many others, 0 as many as there are cores; where it is 1 there are none, nor where `alone` says
    so when they are needed. One that dies is a `Problem`, to which `cure` adds what to do then.
    """

    def __init__(self, processes: int, *, cure: str, alone: Callable[[], bool] = lambda: False) -> None:
        self._processes, self._cure, self._alone = processes or cores(), cure, alone
        self._pool: ProcessPoolExecutor | None = None
        self._begun: Event | None = None  # set as soon as one of them has come so far

    def __enter__(self) -> Self:
        # Python's own mark of a process that runs the script of its parent before any work: this is that script.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise Problem(UNGUARDED)
        self._until = time.monotonic() + PATIENCE
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            lost = f"A process was ended by the system, likely for want of memory. {self._cure}"
            raise Problem(lost if self._begun and self._begun.is_set() else UNGUARDED) from None

    def ordered(self, todo: Iterable[Work]) -> Iterator[Any]:
        """The outcome of each piece of work in turn; twice as many as there are other processes are under way.

        What goes to another process is pickled; what it raises is raised here.
        """
        return in_turn(todo, self._send, lambda: 2 * self._processes if self._pool else 0)

    def streamed(self, streams: Iterable[Callable[[], Iterable[Work]]]) -> Iterator[Any]:
        """The outcomes of all streams of work, one stream after the other, which are told in this process."""
        return self.ordered(work for stream in streams for work in stream())

    def _send(self, work: Work) -> Work:
        pool = self._others()
        return pool.submit(work).result if pool else work

    def _others(self) -> ProcessPoolExecutor | None:
        """The other processes, started when it is time for them."""
        if not self._pool and self._processes > 1 and time.monotonic() >= self._until:
            if self._alone():
                self._processes = 1
            else:
                context = multiprocessing.get_context("spawn")
                self._begun = context.Event()
                self._pool = ProcessPoolExecutor(self._processes, context, _begin, (self._begun,))
        return self._pool


def _begin(begun: Event) -> None:
    """Makes a process leave interrupts to its parent, keep to one core, and end when its parent has, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    begun.set()
