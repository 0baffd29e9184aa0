"""The verb that edits attention and measures what follows; torch and its like are imported inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.app import Json, Model, app, print_json
from regard.cli.rows import (
    Column,
    FileEncoding,
    Format,
    LabelColumn,
    PairColumn,
    Precision,
    examples_of,
    skipped_lines,
)  # fmt: skip
from regard.errors import Problem
from regard.screen import Screen

if TYPE_CHECKING:
    from regard.study.edits import Effect
    from regard.study.ranking import Ranking

Heads = list[str] | None
SHOWN_HEADS = 15  # of a ranking; all of them are in --out and --json


@app.command(
    epilog='Example: regard edit runs/reviews test.csv --drop 3.5,4.0-2  |  --forbid "*.*:*->[SEP]" --save edits.json'
    "  |  regard edit runs/reviews test.csv --rank --out importance.parquet"
)
def edit(
    model: Model,
    data: Annotated[str, typer.Argument(help="Labelled rows: csv, tsv, jsonl or parquet.")],
    drop: Annotated[Heads, typer.Option(help="Heads that put out nothing: 3.5,7.1 or 3.* or *.5 or 3.0-4.")] = None,
    scale: Annotated[Heads, typer.Option(help="A factor on a head's output: 3.5=0.5.")] = None,
    uniform: Annotated[Heads, typer.Option(help="Equal weights to all positions: 3.5.")] = None,
    sharpen: Annotated[Heads, typer.Option(help="Weights to a power: 3.5=2, or flatter: 3.5=0.5.")] = None,
    forbid: Annotated[Heads, typer.Option(help="No weight from these positions to those: 3.5:[CLS]->[SEP].")] = None,
    force: Annotated[Heads, typer.Option(help="So much weight from these to those: 3.5:[CLS]->[SEP]=0.9.")] = None,
    patch: Annotated[Heads, typer.Option(help="Outputs from the text --with: 3.5:first (3.5.weights; 3).")] = None,
    source: Annotated[str, typer.Option("--with", help="The text that patches are taken from.")] = "",
    source_pair: Annotated[str, typer.Option("--with-pair", help="Its second text.")] = "",
    edits: Annotated[str, typer.Option(help="A file of edits; those of other options come after them.")] = "",
    save: Annotated[str, typer.Option(help="Where to keep these edits, as a file for --edits.")] = "",
    rank: Annotated[bool, typer.Option("--rank", help="Instead: rank all heads by how much they matter.")] = False,
    normalise: Annotated[bool, typer.Option("--normalise", help="Estimates divided by their layer's norm.")] = False,
    out: Annotated[str, typer.Option(help="Where the ranking goes: parquet, csv, tsv or jsonl.")] = "",
    column: Column = "",
    pair: PairColumn = "",
    label: LabelColumn = "",
    format: Format = "auto",  # noqa: A002 - the option's name
    encoding: FileEncoding = "utf-8",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Edit the attention of any layer, head and position, and see what it does to the task's metric."""
    from dataclasses import asdict

    from regard.data.sources import read, write
    from regard.lens import notation
    from regard.study.edits import compare
    from regard.study.ranking import rank as rank_heads
    from regard.system import load

    kinds = {
        "uniform": uniform, "sharpen": sharpen, "forbid": forbid, "force": force, "drop": drop, "scale": scale,
        "patch": patch,
    }  # fmt: skip
    typed = [(kind, words) for kind, several in kinds.items() for words in several or ()]
    if patch and not source:
        raise Problem('--patch takes its values from another text. Name it: --with "another text".')
    chosen = notation.read(edits) if edits else []
    chosen += [edit for kind, words in typed for edit in notation.parse(kind, words, source=source, pair=source_pair)]
    if rank == bool(chosen):
        raise Problem("Name edits, such as --drop 3.5 or --edits edits.json, or say --rank: one of the two.")
    if save and rank:
        raise Problem("--save keeps edits, and --rank makes none. Leave out one of the two.")
    target = _target(out, rank=rank)
    if save:
        notation.write(chosen, save)
    system = load(model, precision=precision)
    table = read(data, format=format, encoding=encoding)
    examples = examples_of(system, table, {"text": column, "pair": pair, "label": label})
    said = [*examples.said, *skipped_lines(examples)]
    with Screen(quiet=as_json) as screen:
        if rank:
            ranking = rank_heads(
                system, examples, normalise=normalise, advance=screen.counter("ranking heads", len(examples))
            )
        else:
            effect = compare(system, examples, chosen, advance=screen.counter("predicting", 2 * len(examples)))
    if target:
        write([asdict(row) for row in ranking.heads], target)
        said.append(f"{len(ranking.heads):,} rows are in {target}")
    if as_json:
        print_json(ranking.table() if rank else effect.table())
        return
    for line in said:
        typer.echo(line)
    if rank:
        _show_ranking(ranking)
    else:
        _show_effect(effect)


def _target(out: str, *, rank: bool) -> Path | None:
    """Where the ranking goes, if anywhere; what cannot be written is a problem now, before any work is done."""
    from regard.data.sources import known_kind, ready

    if out and not (rank and known_kind(Path(out))):
        raise Problem("--out is for --rank, and its name must end in .parquet, .csv, .tsv or .jsonl.")
    return ready(out) if out else None


def _show_effect(effect: Effect) -> None:
    typer.echo(f"{', '.join(effect.edits)} on {effect.n:,} rows, 95 % intervals")
    typer.echo(f"before      {effect.before}\nafter       {effect.after}")
    typer.echo(f"difference  {effect.before.name} {effect.difference}, loss {effect.loss} (paired)")
    if effect.flips:
        flips = effect.flips
        typer.echo(f"flipped     {flips.rows:,} answers: {flips.spoilt:,} spoilt, {flips.mended:,} mended")
    typer.echo(f"largest change of an output {effect.largest:.3g}")


def _show_ranking(ranking: Ranking) -> None:
    from rich.console import Console
    from rich.table import Table

    statistics = list(dict.fromkeys(row.statistic for row in ranking.heads))
    of_head = {(row.layer, row.head, row.statistic): row for row in ranking.heads}
    measured = [name for name in statistics if " " in name]
    heads = Table(title=f"heads by the change of loss on {ranking.n:,} rows, 95 % intervals", title_justify="left")
    for name in ("head", *measured, *(f"{name}: rank" for name in statistics if name not in measured)):
        heads.add_column(name, justify="right")
    first = sorted((row for row in ranking.heads if row.statistic == measured[0]), key=lambda row: row.rank)
    for row in first[:SHOWN_HEADS]:
        there = [of_head[row.layer, row.head, name] for name in statistics]
        values = [f"{r.mean:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in there if r.statistic in measured]
        ranks = [str(r.rank) for r in there if r.statistic not in measured]
        heads.add_row(f"{row.layer}.{row.head}", *values, *ranks)
    agreement = Table(title=f"do {len(first)} heads stand in the same order?", title_justify="left")
    for name in ("", "", "Spearman", "Kendall"):
        agreement.add_column(name)
    for pair in ranking.agreements:
        correlations = (pair.spearman, pair.spearman_interval), (pair.kendall, pair.kendall_interval)
        cells = [f"{value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]" for value, interval in correlations]
        agreement.add_row(pair.first, pair.second, *cells)
    console = Console()
    console.print(heads, agreement)
    halves = ", ".join(f"{name} {value:.2f}" for name, value in ranking.halves.items())
    console.print(f"Spearman correlation of one half of the rows with the other: {halves}", highlight=False)
