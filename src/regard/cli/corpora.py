"""Verbs that make corpora for pre-training and tell what is in them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, app, print_json
from regard.errors import Problem

corpus = typer.Typer(
    help="Gather, clean and count text to pre-train on.",
    epilog="Example: regard corpus build corpora.toml --out corpus/  |  regard corpus stats corpus/",
    no_args_is_help=True,
)
app.add_typer(corpus, name="corpus")


@corpus.command(
    epilog="Example: regard corpus build corpora.toml --out corpus/"
    "  |  regard corpus build corpora.toml --out /shared/corpus --cluster auto"
)
def build(
    plan: Annotated[str, typer.Argument(help="Sources, cleaning, duplicates and mix in TOML: docs/pretraining.md.")],
    out: Annotated[str, typer.Option(help="The folder of the corpus.")],
    processes: Annotated[int, typer.Option(min=0, help="How many clean at once; 0: one for each core.")] = 0,
    cluster: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Clean on all machines of a Ray cluster, which share the disk of --out: auto, for the one that this "
            "machine belongs to, or host:port.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Gather sources, clean them, drop duplicates, and write shards with a manifest; what is dropped can be read.

    Killed, it goes on where it was when it is called again.
    """
    import time

    from regard.data.corpora import build as making
    from regard.data.corpora import counts
    from regard.data.corpora.plan import read
    from regard.screen import Screen

    if cluster and processes:
        raise Problem("--cluster takes all cores of its machines. Leave --processes out.")
    begun = time.monotonic()
    with Screen(quiet=as_json) as screen:
        made = making.build(
            read(plan), out, processes=processes, cluster=cluster, advance=screen.share("building the corpus")
        )
    if as_json:
        print_json(made | {"out": out})
    else:
        _show(made)
        typer.echo(f"{len(made['shards'])} shards in {out}, {time.monotonic() - begun:,.0f} s")
    counts.refuse_empty(made, out)


@corpus.command(epilog='Example: regard corpus stats corpus/ --dropped "near duplicate"')
def stats(
    folder: Annotated[str, typer.Argument(help="The folder of a corpus.")],
    dropped: Annotated[str, typer.Option(help="Show documents that were dropped for this reason.")] = "",
    examples: Annotated[int, typer.Option(min=0, help="How many of them; 0: all.")] = 5,
    as_json: Json = False,
) -> None:
    """Tell what is in a corpus, and what was dropped for which reason."""
    from pathlib import Path

    from regard.data.corpora import build as making
    from regard.data.corpora import counts

    found = making.read(folder)
    if not dropped:
        print_json(found) if as_json else _show(found)
        return
    rows = list(counts.dropped(Path(folder).expanduser(), found, dropped, examples))
    if as_json:
        print_json({"reason": dropped, "examples": rows})
        return
    for row in rows:
        again = f" (of {row['of']})" if "of" in row else ""
        typer.echo(f"\n{row['source']}, {row['place']}{again}\n  " + _short(row["text"]).replace("\n", "\n  "))


def _short(text: str) -> str:
    return text if len(text) <= 600 else f"{text[:400]}\n… {len(text) - 600:,} characters …\n{text[-200:]}"


def _show(found: dict) -> None:  # type: ignore[type-arg]
    """Prints the sources with their counts, and a second table of what was dropped for which reason."""
    from rich.console import Console
    from rich.table import Table

    from regard.data.corpora import counts

    names = ("source", "language", "documents", "characters", "sentences", "share", "drawn")
    kept = Table(*names, title="kept", title_justify="left")
    gone = Table("source", "documents, by reason", title="dropped", title_justify="left")
    for row, reasons in counts.columns(found):
        kept.add_row(*row)
        if reasons:
            gone.add_row(row[0], reasons)
    for column in kept.columns[2:]:
        column.justify, column.no_wrap = "right", True  # no number is ever cut
    console = Console()
    console.print(kept, *([gone] if found["dropped"] else []))
    if scripts := found["scripts"]:
        typer.echo("Chinese: " + ", ".join(f"{count:,} documents {script}" for script, count in scripts.items()))
    typer.echo(f"{found['boilerplate_lines']:,} lines of boilerplate were taken out of kept documents.")
