"""The command line: one function for each verb; here is how the command starts and how it fails."""

from __future__ import annotations

import os
import sys

from regard.cli import corpora, edits, heads, look, pretrain, runs, vocabularies
from regard.cli.app import app
from regard.errors import Problem

__all__ = ["corpora", "edits", "heads", "look", "main", "pretrain", "runs", "vocabularies"]

INTERRUPTED = 130


def main() -> None:
    """The `regard` command: a `Problem` ends it with one paragraph and status 2; `--debug` shows the traceback."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        app()
    except Problem as problem:
        if debug:
            raise
        _fail(str(problem), 2)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # which is all that typer says of Ctrl-C
            _fail(
                "Stopped. A training run goes on with --resume, other long work when it is called again.", INTERRUPTED
            )
        raise
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _fail(
            f"Regard met something it did not expect: {type(error).__name__}: {error}. Add --debug for the details.", 1
        )


def _fail(message: str, status: int) -> None:
    from rich.console import Console

    Console(stderr=True).print(f"regard: {message}", markup=False, highlight=False, soft_wrap=False)
    sys.exit(status)
