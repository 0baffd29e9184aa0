"""Verbs of pre-training; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, Model, app, print_json
from regard.cli.recipes import recipe_of


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


@app.command(
    epilog="Example: regard pretrain recipes/mini-enzh.toml budget=25min"
    "  |  regard pretrain --model google-bert/bert-base-chinese --corpus my.txt budget=1h"
    "  |  regard pretrain --resume --out runs/mini-enzh budget=2h"
)
def pretrain(
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe (.toml), and changes such as budget=25min."),
    ] = None,
    corpus: Annotated[str, typer.Option(help="A built corpus, its plan (.toml), or files of running text.")] = "",
    model: Annotated[str, typer.Option(help="A published BERT to go on from; left out: fresh weights.")] = "",
    out: Annotated[str, typer.Option(help="The folder of the run; by default runs/ and the recipe's name.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on: with a killed run, or with a larger budget.")] = False,
    as_json: Json = False,
) -> None:
    """Pre-train an encoder on running text within a budget of minutes, steps, tokens or epochs, or go on with one.

    Killed, it goes on with --resume. A finished run goes on with --resume and a larger budget, to the same bits as if
    it had had that budget from the start.
    """
    from regard import pretrain as run
    from regard import recipe as recipes
    from regard.screen import Screen

    given = {"text.corpus": corpus, "model.name": model, "out": out}
    recipe = recipe_of(recipes.Pretraining(), changes or (), given, resume=resume, source="text.corpus")
    with Screen(quiet=as_json) as screen:
        made = run.pretrain(recipe, resume=resume, tell=screen.tell, watch=screen.watch, share=screen.share)
    if as_json:
        print_json(made.table())
