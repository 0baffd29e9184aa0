"""Rows of a file as a model reads them."""

from __future__ import annotations

from regard.data.examples import Examples, choose
from regard.data.sources import Table
from regard.errors import Problem
from regard.system import System


def examples(system: System, table: Table, columns: dict[str, str], *, labelled: bool = True) -> Examples:
    """Rows by the columns that were named, or that the model was trained on, or that can be guessed."""
    card = system.card
    known = {k: v for k, v in card.columns.items() if v in table.columns and (labelled or k != "label")}
    named = known | {k: v for k, v in columns.items() if v}
    found = choose(
        table, text=named.get("text", ""), pair=named.get("pair", ""), label=named.get("label", ""),
        task=card.task, names=card.labels, labelled=labelled,
    )  # fmt: skip
    if card.columns.get("pair") and not found.chosen["pair"]:
        raise Problem(
            f"This model was trained on pairs, and no column of {table.origin} is the second text. Say --pair."
        )
    return found
