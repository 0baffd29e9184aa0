"""Verbs that look at one text; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, Model, app, print_json


@app.command(
    epilog='Example: regard look runs/reviews "The quick brown fox jumps over the lazy dog" --layer 3 --head 5'
    '  |  regard look runs/reviews "The quick brown fox" --from fox --to quick  |  --words --html fox.html'
)
def look(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text to look at.")],
    pair: Annotated[str, typer.Argument(help="A second text.")] = "",
    layer: Annotated[int | None, typer.Option(help="One layer, counted from 0.")] = None,
    head: Annotated[int | None, typer.Option(help="One head, counted from 0.")] = None,
    source: Annotated[
        str, typer.Option("--from", help="Where this token or word looks, named so or by position.")
    ] = "",
    target: Annotated[
        str, typer.Option("--to", help="Who looks at this one; with --from, one cell of every head.")
    ] = "",
    words: Annotated[bool, typer.Option("--words", help="Merge tokens to words.")] = False,
    segmenter: Annotated[str, typer.Option(help="What finds the words: auto, space, or zh for Chinese.")] = "auto",
    top: Annotated[int, typer.Option(min=1, help="How many of the strongest are listed.")] = 8,
    html: Annotated[str, typer.Option(help="Write one offline page in which to look around.")] = "",
    as_json: Json = False,
) -> None:
    """Look at the attention of any layer, head and position."""
    from rich.console import Console

    from regard.lens.picture import find, picture
    from regard.lens.table import table
    from regard.system import load

    found = load(model, precision="float32").look(
        text, pair or None, layer=layer, head=head, words=segmenter if words else None
    )
    row, column = (find(found, name) if name else None for name in (source, target))
    if html:
        from pathlib import Path

        from regard.lens.viewer import write

        write(found, Path(html), model=model, row=row, column=column)
    if as_json:
        print_json(table(found, row=row, column=column, top=top) | ({"html": html} if html else {}))
        return
    console = Console()
    console.print(picture(found, row=row, column=column, top=top, width=console.width))
    if html:
        typer.echo(f"The page is {html}")
