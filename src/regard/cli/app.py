"""The `regard` command, to which verbs are added, and what they share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(
    help="BERT with its attention in the open: fine-tune it on your file, measure it, look inside it.",
    epilog='Example: regard train --data reviews.csv --model regard-mini  |  regard fill regard-mini "A [MASK] film."'
    "  |  regard VERB --help. With --debug behind a verb an error shows where in the code it came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output, and nothing else there.")]
Model = Annotated[str, typer.Argument(help="The folder of a run or of a model, or a hub name.")]


def print_json(table: dict[str, Any]) -> None:
    """Prints one line of JSON to standard output."""
    from regard.disk import to_json

    typer.echo(to_json(table))
