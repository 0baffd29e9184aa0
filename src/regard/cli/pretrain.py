"""Verbs of pre-training; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.app import Json, Model, app, print_json
from regard.cli.recipes import recipe_of
from regard.cli.rows import Precision
from regard.cli.texts import Files, documents, first
from regard.errors import Problem

if TYPE_CHECKING:
    from regard.eval.words import Guesses


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
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="A built corpus, its plan (.toml), a file of running text, where an empty line ends a document, or a "
            "pattern in quotes: 'text/*.txt'."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A published BERT to go on from; left out: fresh weights.")] = "",
    out: Annotated[str, typer.Option(help="The folder of the run; by default runs/ and the recipe's name.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on: with a killed run, or with a larger budget.")] = False,
    as_json: Json = False,
) -> None:
    """Pre-train an encoder on running text within a budget of minutes, steps, tokens or epochs, or go on with one.

    Killed, it goes on with --resume. A finished run goes on with --resume and a larger budget, to the same bits as if
    it had had that budget from the start.

    Where other programs keep the processor busy, set OMP_WAIT_POLICY=PASSIVE, or each step may take many times as long.
    """
    from regard import pretrain as run
    from regard import recipe as recipes
    from regard.screen import Screen

    if corpus and len(corpus) > 1:
        raise Problem(
            f"--corpus names {len(corpus)} texts. Name several files by a pattern in quotes, for example --corpus "
            "'text/*.txt', or by a plan (.toml)."
        )
    given = {"text.corpus": corpus[0] if corpus else "", "model.name": model, "out": out}
    recipe = recipe_of(recipes.Pretraining, changes or (), given, resume=resume, source="text.corpus")
    with Screen(quiet=as_json) as screen:
        made = run.pretrain(recipe, resume=resume, tell=screen.tell, watch=screen.watch, share=screen.share)
    if as_json:
        print_json(made.table())


@app.command(epilog="Example: regard perplexity google-bert/bert-base-chinese zh.txt.xz --texts 500 --pseudo 5000")
def perplexity(
    model: Model,
    files: Files,
    texts: Annotated[
        int, typer.Option(min=0, help="Read so many lines, or documents of a corpus, of each language; 0: all.")
    ] = 1000,
    length: Annotated[int, typer.Option(min=8, help="Tokens of a passage; longer texts are parted.")] = 128,
    unit: Annotated[str, typer.Option(help="What is hidden: token, word, ngram or span.")] = "token",
    rate: Annotated[float, typer.Option(min=0.01, max=1, help="The share of tokens that is hidden.")] = 0.15,
    pseudo: Annotated[
        int,
        typer.Option(min=0, help="Tokens of each language to hide one by one, for pseudo-perplexity; 0: none."),
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is hidden.")] = 0,
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Measure how well a model guesses hidden words: accuracy, loss and pseudo-perplexity, by language."""
    from operator import attrgetter

    from regard.data.masking import Masking
    from regard.data.passages import of_documents
    from regard.eval.words import check, guesses
    from regard.screen import Screen
    from regard.system import load

    Masking(rate, unit)  # what is wrong with it is said before anything is read
    system = load(model, precision=precision)
    check(system.model, length)
    with Screen(quiet=as_json) as screen:
        rows = first(documents(files, screen.share("reading")), texts, attrgetter("language"))
        # Only words need a segmenter.
        words = "space" if unit == "token" else "auto"
        passages = of_documents(rows, system.tokenizer, length=length, words=words)
        move = screen.share("guessing")
        found = guesses(
            system.model, system.tokenizer, passages, unit=unit, rate=rate, seed=seed, pseudo=pseudo, advance=move
        )
    if as_json:
        print_json({"model": model, "unit": unit, "rate": rate, "languages": [own.table() for own in found]})
        return
    _show(found)


def _show(found: list[Guesses]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), title="95 % intervals over texts", title_justify="left")
    for column in ("", "texts", "passages", "hidden", "top-1", "top-5", "loss,\nnats", "pseudo-\nperplexity"):
        table.add_column(column, justify="right" if column else "left")
    for own in found:
        shares = [f"{s.value:.1%}\n" + _interval(100 * s.low, 100 * s.high, ".1f") for s in (own.top1, own.top5)]
        loss = f"{own.loss.value:.3f}\n" + _interval(own.loss.low, own.loss.high, ".3f")
        single = own.pseudo and f"{own.pseudo.value:,.1f}\n" + _interval(own.pseudo.low, own.pseudo.high, ",.1f")
        counts = [f"{number:,}" for number in (own.documents, own.passages, own.places)]
        table.add_row(own.language, *counts, *shares, loss, single or "")
    Console().print(table)
    for own in found:
        if own.unknown:
            typer.echo(f"{own.language}: {own.unknown:,} of the hidden tokens are [UNK], words this vocabulary lacks.")


def _interval(low: float, high: float, form: str) -> str:
    return "of one text" if math.isnan(low) else f"{low:{form}}-{high:{form}}"
