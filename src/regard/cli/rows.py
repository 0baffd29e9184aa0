"""What verbs that take a file of rows share: how it is read for a model, and how far predicting has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.errors import Problem
from regard.screen import Screen

if TYPE_CHECKING:
    from regard.data.examples import Examples
    from regard.data.sources import Table
    from regard.system import System

Format = Annotated[
    str,
    typer.Option(help="The file's format: auto (by its name), csv, tsv, jsonl, parquet or lines (a label, the text)."),
]
Column = Annotated[str, typer.Option(help="The column of texts.")]
PairColumn = Annotated[str, typer.Option(help="The column of second texts.")]
LabelColumn = Annotated[str, typer.Option(help="The column of labels.")]
FileEncoding = Annotated[str, typer.Option(help="The file's character encoding.")]
Precision = Annotated[str, typer.Option(help="float32, bfloat16 or auto.")]


def examples_of(system: System, table: Table, columns: dict[str, str], *, labelled: bool = True) -> Examples:
    """Rows of a file for a model that has a head: see `study.rows.examples`."""
    from regard.study.rows import examples

    if not system.card.task:
        raise Problem("This model has no head. Train one first: regard train --model ... --data ...")
    return examples(system, table, columns, labelled=labelled)


def predicted(system: System, examples: Examples, *, quiet: bool) -> Any:
    """What the system predicts of each row, under a progress bar."""
    with Screen(quiet=quiet) as screen:
        advance = screen.counter("predicting", len(examples.texts))
        return system.predict(examples.texts, examples.pairs, advance=advance)


def skipped_lines(examples: Examples) -> list[str]:
    """The first rows of a file that were of no use, each with its line and why, and how many more."""
    lines = [f"line {s.line} skipped: {s.reason}" for s in examples.skipped[:5]]
    rest = len(examples.skipped) - len(lines)
    return [*lines, f"and {rest:,} more rows skipped"] if rest else lines
