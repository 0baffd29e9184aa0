"""`regard` as a user types it, in a process of its own.

The process is forked from one that has loaded what the verbs load, for which each new interpreter takes seconds. Tests
of signals, of what is loaded and of warnings start an interpreter.
"""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["regard.run", "regard.pretrain", "regard.views", "regard.study.heads"])


def typed(*words: object, cwd: Path | None = None, columns: int = 200) -> subprocess.CompletedProcess:
    """What the command comes to, in a terminal of so many columns."""
    with mock.patch.dict(os.environ, OFFLINE):
        forkserver.ensure_running()
    command = [*map(str, words)]
    with TemporaryDirectory() as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        process = CONTEXT.Process(target=_type, args=(command, cwd, columns, out, errors))
        process.start()
        process.join()
        shown = (path.read_text(encoding="utf-8") for path in (out, errors))
        return subprocess.CompletedProcess(["regard", *command], process.exitcode, *shown)


def _type(command: list[str], cwd: Path | None, columns: int, out: Path, errors: Path) -> None:
    for path, number in ((out, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.environ["COLUMNS"] = str(columns)
    os.chdir(cwd or ".")
    sys.argv = ["regard", *command]
    from regard.cli import main

    main()
