"""Verbs that look at texts and explain answers; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from regard.cli.app import Json, Model, app, print_json
from regard.cli.rows import Column, FileEncoding, Format, PairColumn


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


@app.command(epilog='Example: regard explain runs/reviews "A film to forget." --method relevance')
def explain(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text whose answer is to be explained.")],
    pair: Annotated[str, typer.Argument(help="A second text.")] = "",
    method: Annotated[str, typer.Option(help="One of those that regard faithful measures.")] = "relevance",
    label: Annotated[str, typer.Option(help="The label to explain; by default the likeliest.")] = "",
    as_json: Json = False,
) -> None:
    """Show how much each token speaks for an answer, and whether that has been measured."""
    from rich.console import Console
    from rich.text import Text

    from regard.lens.attribute.explanation import picture
    from regard.lens.attribute.methods import described
    from regard.study.faithful import guard
    from regard.system import load

    system = load(model, precision="float32")
    found = system.explain(text, pair or None, method=method, label=label or None)
    line = guard(system.faithful, method)
    if as_json:
        print_json(found.table() | {"guard": line})
        return
    console = Console()
    console.print(picture(found))
    console.print(Text(f"{described(method)}\n{line}", style="dim"))


@app.command(epilog="Example: regard faithful runs/reviews test.csv --methods relevance,rollout --texts 100")
def faithful(
    model: Model,
    data: Annotated[str, typer.Argument(help="Rows of texts: csv, tsv, jsonl or parquet.")],
    methods: Annotated[str, typer.Option(help="Methods with commas between them; by default all.")] = "",
    texts: Annotated[int, typer.Option(help="How many texts are drawn.")] = 200,
    deletion: Annotated[str, typer.Option(help="mask: [MASK] in its place; drop: removed; pad: not seen.")] = "mask",
    level: Annotated[str, typer.Option(help="What is taken away at a time: token or word.")] = "token",
    column: Column = "",
    pair: PairColumn = "",
    format: Format = "auto",  # noqa: A002 - the option's name
    encoding: FileEncoding = "utf-8",
    out: Annotated[str, typer.Option(help="Where the table goes; by default faithful.json beside the model.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Which texts, and which random rankings.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure whether methods of attribution find the tokens that answers depend on."""
    from regard.lens.attribute.methods import METHODS
    from regard.screen import Screen
    from regard.study.faithful import measure

    names = [name.strip() for name in methods.split(",") if name.strip()] or list(METHODS)
    with Screen(quiet=as_json) as screen:
        table = measure(
            model, data, methods=names, texts=texts, deletion=deletion, level=level,
            columns={"text": column, "pair": pair}, format=format, encoding=encoding, out=out, seed=seed,
            counter=lambda total: screen.counter("measuring", total),
        )  # fmt: skip
    if as_json:
        print_json(table)
    else:
        _show_faithful(table)


def _show_faithful(table: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{table['texts']:,} texts of {table['data']}, deletion: {table['deletion']}, 95 % intervals"
    shown = Table(title=title, title_justify="left")
    shown.add_column("method", no_wrap=True)
    names = ("comprehensiveness", "sufficiency", "against random", "tau, leave one out", "seconds a text")
    for name in names:
        shown.add_column(name, justify="right")
    rows = sorted(table["methods"].items(), key=lambda row: -row[1]["comprehensiveness"][0])
    for name, one in [*rows, ("random", table["random"])]:
        keys = ("comprehensiveness", "sufficiency", "against_random", "leave_one_out")
        seconds = f"{one['seconds']:.4f}" if "seconds" in one else ""
        shown.add_row(name, *(_figure(one[key]) if key in one else "" for key in keys), seconds)
    console = Console()
    console.print(shown)
    for name, reason in table["refused"].items():
        console.print(f"{name} was left out: {reason}", markup=False, highlight=False)
    console.print("Good methods have a large comprehensiveness and a small sufficiency.")
    console.print(f"table  {table['out']}", highlight=False, soft_wrap=True)


def _figure(cell: list[float]) -> str:
    value, low, high = cell
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
