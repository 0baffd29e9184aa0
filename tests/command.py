"""`regard` as a user types it, in a process of its own.

The process is forked from one that has loaded what the verbs load, for which each new interpreter takes seconds. Tests
of what is loaded, of full disks and of clusters, and those that change the program, start an interpreter.
"""

import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["regard.run", "regard.pretrain", "regard.views", "regard.study.heads"])


class Running:
    """A command typed in a terminal of so many columns, under way; a strict one takes warnings for errors."""

    def __init__(self, *words: object, cwd: Path | None = None, columns: int = 200, strict: bool = False) -> None:
        with mock.patch.dict(os.environ, OFFLINE):
            forkserver.ensure_running()
        self.words, self.folder = [*map(str, words)], TemporaryDirectory()
        self.shown = [Path(self.folder.name) / name for name in ("out", "errors")]
        self.process = CONTEXT.Process(target=_type, args=(self.words, cwd, columns, strict, *self.shown))
        self.process.start()

    def until(self, happened: Callable[[], bool]) -> None:
        """Waits until something has happened, or the command has ended."""
        while self.process.is_alive() and not happened():
            time.sleep(0.005)

    def until_new(self, path: Path) -> None:
        """Waits until a file has been written, or written again, or the command has ended."""
        before = path.stat().st_mtime_ns if path.exists() else 0
        self.until(lambda: path.exists() and path.stat().st_mtime_ns != before)

    def send(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def end(self) -> subprocess.CompletedProcess:
        """Waits for it."""
        self.process.join()
        with self.folder:
            out, errors = (path.read_text(encoding="utf-8") if path.exists() else "" for path in self.shown)
        return subprocess.CompletedProcess(["regard", *self.words], self.process.exitcode, out, errors)


def typed(*words: object, **how: Any) -> subprocess.CompletedProcess:
    """What a command comes to."""
    return Running(*words, **how).end()


def _type(command: list[str], cwd: Path | None, columns: int, strict: bool, out: Path, errors: Path) -> None:
    for path, number in ((out, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.environ["COLUMNS"] = str(columns)
    os.chdir(cwd or ".")
    if strict:
        warnings.simplefilter("error")
    sys.argv = ["regard", *command]
    from regard.cli import main

    main()
