"""Work on all machines of a Ray cluster, its outcomes in the order in which it was named.

Ray (Moritz et al. 2018) decides where each piece is done, and does one again whose machine is lost.
"""

from __future__ import annotations

import logging
import platform
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

from regard.data.processes import Work, in_turn
from regard.errors import Problem

FED = 8  # cores that one reader can feed: it tells 19 to 41 million characters a second, of which a core cleans 1.2


class Cluster:
    """The machines of the cluster at `address`, which share the disk that `folder` is on and have Regard installed.

    `address` is `auto` for the cluster that this machine belongs to, or `host:port` of its head. Raises `Problem` where
    there is none.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder.resolve()

    def __enter__(self) -> Self:
        try:
            import ray
        except ImportError:
            raise Problem("A cluster is reached by Ray. Run: pip install 'regard[scale]'") from None
        try:
            _knock(self._address)
            ray.init(address=self._address, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise Problem(
                f"There is no Ray cluster at {self._address} ({str(error).splitlines()[0]}). Name it as `auto` or "
                "host:port; `ray start --head` begins one, `ray start --address=...` on every other machine joins it."
            ) from None
        self._ray = ray
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def ordered(self, todo: Iterable[Work]) -> Iterator[Any]:
        """The outcome of each piece of work in turn; twice as many as the cluster has cores are under way."""
        send = _sender(self._folder)
        return in_turn(todo, lambda work: partial(self._outcome, send(work)), lambda: 2 * self._cores())

    def streamed(self, streams: Iterable[Callable[[], Iterable[Work]]]) -> Iterator[Any]:
        """The outcomes of all streams of work, as they come: machines go through several streams at once."""
        go_through, waiting, under_way = self._ray.remote(_go_through), iter(streams), list[Any]()
        while True:
            cores = self._cores()
            readers = max(1, cores // FED)
            for stream in islice(waiting, max(0, readers - len(under_way))):
                under_way.append(go_through.remote(stream, self._folder, 2 * cores // readers))
            if not under_way:
                return
            ready: Any = self._ray.wait(under_way)[0][0]
            try:
                answer = next(ready)
            except StopIteration:
                under_way.remove(ready)
            else:
                yield self._outcome(answer)

    def _cores(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))  # which may grow

    def _outcome(self, answer: Any) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            cause = error
            while isinstance(cause, self._ray.exceptions.RayTaskError):  # of one task within another
                cause = cause.cause
            if not isinstance(cause, self._ray.exceptions.RayError):
                raise cause from None
            raise Problem(
                f"The cluster has lost work, and has begun it again in vain ({type(cause).__name__}: {cause}). Mend it "
                "and call again: what is done is kept."
            ) from None


def _sender(folder: Path) -> Callable[[Work], Any]:
    """What has work done by any machine that can, and gives the reference to its outcome."""
    import ray

    task = ray.remote(_do)
    return lambda work: task.remote(work, folder)


def _go_through(stream: Callable[[], Iterable[Work]], folder: Path, room: int) -> Iterator[Any]:
    """The outcomes of a stream that this machine goes through, and whose work all do."""
    import ray

    _check(folder)
    send = _sender(folder)
    yield from in_turn(stream(), lambda work: partial(ray.get, send(work)), lambda: room)


def _do(work: Work, folder: Path) -> Any:
    _check(folder)
    return work()


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise Problem(
            f"The machine {platform.node()} has no folder {folder}. Name one on a disk that all machines of the "
            "cluster share."
        )


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody or a web server answers, which Ray itself would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as door:
            door.settimeout(2)
            door.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with suppress(OSError):  # a head hangs up on this, or is silent
                if door.recv(5) == b"HTTP/":
                    raise ValueError("a web server answers there, such as Ray's dashboard; heads listen at 6379")
