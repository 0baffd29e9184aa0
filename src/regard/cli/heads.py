"""Verbs that read heads over many texts; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, Model, app, print_json
from regard.cli.rows import Format, examples_of
from regard.cli.texts import running
from regard.errors import Problem

Pairs = Annotated[bool, typer.Option("--pairs", help="Read neighbouring lines as pairs of texts.")]
Paragraphs = Annotated[
    bool, typer.Option("--paragraphs", help="The corpus has a paragraph a line: take its sentences for lines.")
]


@app.command(
    epilog="Example: regard relations google-bert/bert-base-uncased en_ewt-ud-dev.conllu --out relations.parquet"
)
def relations(
    model: Model,
    treebank: Annotated[str, typer.Argument(help="Sentences with their trees in CoNLL-U; plain or packed.")],
    out: Annotated[str, typer.Option(help="A file for every head's scores: parquet, csv, tsv, jsonl or json.")] = "",
    probe: Annotated[bool, typer.Option("--probe", help="Also train probes, which read all heads together.")] = False,
    random_weights: Annotated[bool, typer.Option(help="Compare with the model before training.")] = True,
    subtypes: Annotated[bool, typer.Option(help="Tell subtypes of relations apart, such as nmod:poss.")] = True,
    sentences: Annotated[int, typer.Option(min=0, help="Read so many sentences from the start; 0: all.")] = 0,
    reach: Annotated[int, typer.Option(min=1, help="The farthest fixed offset to compare with.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Decides the halves, the intervals and all else by lot.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How often each probe is trained.")] = 3,
    as_json: Json = False,
) -> None:
    """Find which heads parse: all heads on each relation of a treebank, beside fixed offsets and chance."""
    from rich.console import Console

    from regard.data import sources
    from regard.data.treebank import read
    from regard.screen import Screen
    from regard.study import probes, tables
    from regard.study import relations as heads
    from regard.system import load

    targets = [sources.ready(path) for path in tables.paths(out, probe=probe)]
    bank = read(treebank, subtypes=subtypes).first(sentences)
    system = load(model, precision="float32")
    corpus = heads.read(system, bank)
    if probe:
        probes.parts(probes.whole(corpus), seed=seed)  # too few sentences are better said before the work
    runs = 1 + random_weights
    with Screen(quiet=as_json) as screen:
        advance = screen.counter("reading heads", len(corpus.sentences) * runs)
        found = heads.study(system, corpus, seed=seed, reach=reach, random_weights=random_weights, advance=advance)
        if targets:
            sources.write(found.rows, targets[0])
        rows = []
        if probe:
            advance = screen.counter("training probes", probes.steps(corpus, seeds=seeds) * runs)
            rows = probes.study(system, corpus, seed=seed, seeds=seeds, random_weights=random_weights, advance=advance)
            if targets:
                sources.write(rows, targets[1])
    written = [str(path) for path in targets]
    if as_json:
        print_json(
            {"sentences": found.sentences, "said": found.said, "best": found.best(), "probes": rows, "out": written}
        )
        return
    Console().print(tables.relations(found), *([tables.probes(rows)] if rows else []))
    for line in [*found.said, *(f"All scores are in {path}" for path in written)]:
        typer.echo(line)


@app.command(
    epilog="Example: regard heads google-bert/bert-base-uncased corpus.txt --out heads.parquet  |  regard heads query "
    "heads.parquet \"SELECT layer, head FROM heads WHERE statistic = 'entropy' ORDER BY mean LIMIT 5\""
)
def heads(
    model: Annotated[str, typer.Argument(help="The folder of a run or of a model, or a hub name; or the word query.")],
    corpus: Annotated[str, typer.Argument(help="Running text, a text a line, plain or packed. Or the table.")],
    sql: Annotated[str, typer.Argument(help="After query: what to ask the table, which is called heads.")] = "",
    out: Annotated[str, typer.Option(help="The table; after query, of the answer, in any format by its name.")] = "",
    pairs: Pairs = False,
    paragraphs: Paragraphs = False,
    length: Annotated[int, typer.Option(help="Tokens of a text at most; 0: as many as the model reads.")] = 0,
    texts: Annotated[int, typer.Option(min=0, help="Read so many texts; 0: all.")] = 0,
    words: Annotated[str, typer.Option(help="Weight on the own word, by a segmenter: auto, space or zh.")] = "",
    own: Annotated[list[str] | None, typer.Option("--class", help="Tokens of your own: negation=not,no,never")] = None,
    reach: Annotated[int, typer.Option(min=1, help="The largest offset.")] = 3,
    norms: Annotated[bool, typer.Option("--norms", help="Also shares by the norm of what a weight brings.")] = False,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: Json = False,
) -> None:
    """Measure what every head does over a corpus, or ask the table of an earlier pass.

    One pass, in memory that does not grow. Killed, it goes on where it was when it is called again.
    """
    if model == "query":
        _query(corpus, sql, out, as_json)
        return
    from rich.console import Console

    from regard.data import sources
    from regard.screen import Screen
    from regard.study import heads as study
    from regard.study import tables
    from regard.system import load

    target = sources.ready(out or "heads.parquet")
    text = running(corpus, paragraphs=paragraphs)
    plan = study.Plan(
        length=length or (128 if pairs else 0), pairs=pairs, texts=texts, words=words, classes=_classes(own or []),
        reach=reach, norms=norms,
    )  # fmt: skip
    system = load(model, precision=precision)
    state = target.with_name(target.name + ".state")
    with Screen(quiet=as_json) as screen:
        move = screen.share("reading heads")
        found = study.study(system, text, plan, state=state, advance=move)
    constant = {"model": model, "corpus": text.path.name}
    sources.write([constant | row for row in found.rows], target)
    state.unlink(missing_ok=True)
    if as_json:
        said = {"texts": found.texts, "tokens": found.tokens, "said": found.said, "rows": found.rows}
        print_json(said | {"out": str(target)})
        return
    Console().print(tables.heads(found))
    speed = found.tokens / max(found.seconds, 1e-9)
    for line in [*found.said, f"{found.texts:,} texts, {speed:,.0f} tokens a second; the table is {target}"]:
        typer.echo(line)


@app.command(
    epilog="Example: regard compare google-bert/bert-base-uncased runs/reviews corpus.txt --out compare.parquet"
)
def compare(
    model: Model,
    other: Annotated[str, typer.Argument(help="A second model with the same vocabulary.")],
    corpus: Annotated[str, typer.Argument(help="Running text, a text a line, plain or packed.")],
    texts: Annotated[int, typer.Option(min=0, help="Read so many texts; 0: all.")] = 200,
    pairs: Pairs = False,
    paragraphs: Paragraphs = False,
    length: Annotated[int, typer.Option(help="Tokens of a text at most; 0: as many as both models read.")] = 128,
    out: Annotated[str, typer.Option(help="A file for all heads: parquet, csv, tsv, jsonl or json.")] = "",
    match: Annotated[bool, typer.Option(help="Find which head of one model is which of the other.")] = True,
    data: Annotated[str, typer.Option(help="Labelled rows, on which to compare how much each head matters.")] = "",
    format: Format = "auto",  # noqa: A002 - the option's name
    encoding: Annotated[str, typer.Option(help="The character encoding of --data.")] = "utf-8",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Decides all that is by lot.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare two models head by head on the same texts: what changed, and which head is which."""
    from rich.console import Console

    from regard.data import sources
    from regard.screen import Screen
    from regard.study import compare as study
    from regard.study import tables
    from regard.study.texts import Reading
    from regard.system import load

    target = sources.ready(out) if out else None
    text = running(corpus, paragraphs=paragraphs)
    rows = sources.read(data, format=format, encoding=encoding) if data else None
    systems = load(model, precision=precision), load(other, precision=precision)
    examples = (examples_of(systems[0], rows, {}), examples_of(systems[1], rows, {})) if rows else None
    reading = Reading(length=length, pairs=pairs, texts=texts)
    with Screen(quiet=as_json) as screen:
        advance = screen.share("comparing heads")
        found = study.study(systems, text, reading, match=match, examples=examples, seed=seed, advance=advance)
    if target:
        constant = {"model": model, "other": other, "corpus": text.path.name}
        sources.write([constant | row for row in found.rows], target)
    if as_json:
        print_json(found.table() | {"out": str(target) if target else ""})
        return
    Console().print(tables.comparison(found))
    written = [f"{len(found.rows):,} rows are in {target}"] if target else []
    for line in [*found.said, *written]:
        typer.echo(line)


@app.command(
    epilog="Example: regard clark google-bert/bert-base-uncased --corpus wiki.txt --treebank en_ewt-ud-dev.conllu"
)
def clark(
    model: Model,
    corpus: Annotated[str, typer.Option(help="Running text, a sentence a line, plain or packed.")],
    treebank: Annotated[str, typer.Option(help="Sentences with their trees in CoNLL-U, for relations.")] = "",
    paragraphs: Paragraphs = False,
    texts: Annotated[int, typer.Option(min=0, help="Read so many pairs of texts; 0: all.")] = 1000,
    length: Annotated[int, typer.Option(help="Tokens of a pair at most.")] = 128,
    segments: Annotated[str, typer.Option(help="Segment ids of pairs: paired, or zero as in the original.")] = "paired",
    sentences: Annotated[int, typer.Option(min=0, help="Read so many sentences of the treebank; 0: all.")] = 0,
    probe: Annotated[bool, typer.Option("--probe", help="Also train probes, which takes longest.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides samples, halves and all else by lot.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How often each probe is trained.")] = 3,
    out: Annotated[str, typer.Option(help="The page.")] = "clark.html",
    as_json: Json = False,
) -> None:
    """Repeat every experiment of "What Does BERT Look At?" and write one page beside the paper's figures.

    Killed, it goes on behind the last finished part when it is called again.
    """
    if segments not in ("paired", "zero"):
        raise Problem(f"--segments is paired or zero, not '{segments}'.")
    from pathlib import Path

    from regard import disk
    from regard.data.treebank import read
    from regard.screen import Screen
    from regard.study.clark import experiments, report, verdicts
    from regard.system import load

    target = disk.make_place(out)
    text = running(corpus, paragraphs=paragraphs)
    bank = read(treebank).first(sentences) if treebank else None
    system = load(model, precision="float32")
    plan = experiments.Plan(
        texts=texts, length=length, segments=segments == "paired", probe=probe, seed=seed, seeds=seeds
    )
    names = {"model": Path(model).name, "corpus": text.path.name, "treebank": Path(treebank).name}
    state = target.with_name(target.name + ".state")
    with Screen(quiet=as_json) as screen:
        found = experiments.study(
            system, text, bank, plan, names=names, state=state, advance=screen.share("experiments")
        )
    report.write(found, target)
    state.unlink(missing_ok=True)
    if as_json:
        print_json(found.plain() | {"out": str(target)})
        return
    for line in verdicts.lines(found):
        typer.echo(line)
    typer.echo(f"\nThe page is {target}")


def _classes(own: list[str]) -> dict[str, list[str]]:
    out = {}
    for word in own:
        name, equals, tokens = word.partition("=")
        if not equals or not tokens:
            raise Problem(f"A class is a name and its tokens, as in negation=not,no,never; this is '{word}'.")
        if name in out:
            raise Problem(f"The class {name} is given twice. Name all its tokens at once: {name}=one,two.")
        out[name] = tokens.split(",")
    return out


def _query(path: str, sql: str, out: str, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from regard.data import sources
    from regard.study.store import query

    if not sql:
        raise Problem('Say what to ask, for example: regard heads query heads.parquet "SELECT * FROM heads LIMIT 5".')
    target = sources.ready(out) if out else None
    found = query(path, sql)
    rows = found.to_pylist()
    if target:
        sources.write(rows, target)
    if as_json:
        print_json({"columns": found.column_names, "rows": rows})
        return
    table = Table()
    for name in found.column_names:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
