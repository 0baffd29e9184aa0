"""Verbs that read heads over many texts; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.cli.app import Json, Model, app, print_json


@app.command(
    epilog="Example: regard relations google-bert/bert-base-uncased en_ewt-ud-dev.conllu --out relations.parquet"
)
def relations(
    model: Model,
    treebank: Annotated[str, typer.Argument(help="Sentences with their trees in CoNLL-U; plain, .gz or .xz.")],
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
