"""Ctrl-C and a polite kill, held back until a step is done and what was learnt is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

SIGNALS = signal.SIGINT, signal.SIGTERM
SAID = "stopping when this step is done and saved; once more stops at once"


class Interrupts:
    """Within, the first of `SIGNALS` is only noted, and sent again at the end; a second one is not held back.

    `tell` is told of it. Signals reach the main thread alone: in any other nothing is held back.
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell, self._held = tell, 0
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether there was one."""
        return self._held > 0

    def obey(self) -> None:
        """Raises KeyboardInterrupt where there was one."""
        if self.asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hold) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
        if self.asked:
            signal.raise_signal(self._held)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held = number
        self._restore()
        self._tell(SAID)

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)
