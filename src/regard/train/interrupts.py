"""Ctrl-C and a polite kill, held back until a step is done and what was learnt is saved."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = signal.SIGINT, signal.SIGTERM
PLAIN = signal.SIG_DFL, signal.default_int_handler  # a signal that is ignored, or that someone else answers, stays so
SAID = b"\nstopping when this step is done and saved; once more stops at once\n"


class Interrupts:
    """Within, the first of `SIGNALS` is only noted; a second one is not held back.

    It is sent again at the end of what is left by KeyboardInterrupt. Nothing is held back without `hold`, nor in other
    threads than the main one, which alone signals reach.
    """

    def __init__(self, *, hold: bool = True) -> None:
        self._hold_back, self._held = hold, 0
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether there was one."""
        return self._held > 0

    def __enter__(self) -> Self:
        if self._hold_back and threading.current_thread() is threading.main_thread():
            plain = [number for number in SIGNALS if signal.getsignal(number) in PLAIN]
            self._before = {number: signal.signal(number, self._hold) for number in plain}
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._restore()
        if self.asked and isinstance(error, KeyboardInterrupt):
            signal.raise_signal(self._held)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held = number
        self._restore()
        with contextlib.suppress(OSError):  # whoever read this may be gone, and what prints may be at work just now
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, SAID)

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)
