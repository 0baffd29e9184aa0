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


def examples_of(system: System, table: Table, columns: dict[str, str], *, labelled: bool = True) -> Examples:
    """Rows of a file, by the columns that were named, or that the model was trained on, or that can be guessed."""
    from regard.data.examples import choose

    if not system.card.task:
        raise Problem("This model has no head. Train one first: regard train --model ... --data ...")
    known = {k: v for k, v in system.card.columns.items() if v in table.columns and (labelled or k != "label")}
    named = known | {k: v for k, v in columns.items() if v}
    card = system.card
    found = choose(
        table, text=named.get("text", ""), pair=named.get("pair", ""), label=named.get("label", ""),
        task=card.task, names=card.labels, labelled=labelled,
    )  # fmt: skip
    if card.columns.get("pair") and not found.chosen["pair"]:
        raise Problem(
            f"This model was trained on pairs, and no column of {table.origin} is the second text. Say --pair."
        )
    return found


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
