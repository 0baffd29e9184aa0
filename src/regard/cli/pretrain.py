"""Verbs of pre-training; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, Model, app, print_json


@app.command(epilog='Example: regard fill google-bert/bert-base-chinese "他是一名[MASK]生，在医院工作。"')
def fill(
    model: Model,
    text: Annotated[str, typer.Argument(help="A text with [MASK] for each hidden word.")],
    pair: Annotated[str, typer.Argument(help="A second text.")] = "",
    top: Annotated[int, typer.Option(min=1, max=100, help="How many words are shown for each.")] = 5,
    as_json: Json = False,
) -> None:
    """Guess hidden words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from regard.system import load

    found = load(model, precision="float32").fill(text, pair or None, top=top)
    if as_json:
        print_json({"masks": [[{"token": token, "probability": p} for token, p in mask] for mask in found]})
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for number in range(1, len(found) + 1):
        table.add_column(Text(f"{number}. [MASK]", style="bold"))
    for row in zip(*found, strict=True):
        table.add_row(*(Text(f"{token} {p:.3f}") for token, p in row))
    Console().print(table)
