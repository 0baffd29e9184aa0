"""Verbs that look inside a model; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, Model, app, print_json


@app.command(
    epilog='Example: regard look runs/reviews "The quick brown fox jumps over the lazy dog" --layer 3 --head 5'
)
def look(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text to look at.")],
    pair: Annotated[str, typer.Argument(help="A second text.")] = "",
    layer: Annotated[int | None, typer.Option(help="One layer, counted from 0.")] = None,
    head: Annotated[int | None, typer.Option(help="One head, counted from 0.")] = None,
    position: Annotated[str, typer.Option("--from", help="One position: its number, or its token.")] = "",
    as_json: Json = False,
) -> None:
    """Look at the attention of any layer, head and position."""
    from rich.console import Console

    from regard.lens.picture import find, picture
    from regard.system import load

    found = load(model, precision="float32").look(text, pair or None, layer=layer, head=head)
    place = find(found, position) if position else None
    if as_json:
        table = found.table()
        if place is not None:
            table |= {"position": place, "weights": found.weights[:, :, place].round(6).tolist()}
        print_json(table)
        return
    Console().print(picture(found, position=place))
