"""Verbs that train, measure and use a model; torch and its like are imported inside the verb that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.app import Json, Model, app, print_json
from regard.cli.recipes import recipe_of
from regard.cli.rows import (
    Column,
    FileEncoding,
    Format,
    LabelColumn,
    PairColumn,
    Precision,
    examples_of,
    predicted,
    skipped_lines,
)  # fmt: skip
from regard.errors import Problem
from regard.screen import Screen, show_result

if TYPE_CHECKING:
    from regard.data.sources import Table
    from regard.system import System

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe (.toml), and changes such as train.epochs=2."),
]


@app.command(
    epilog="Example: regard train --data reviews.csv --model google-bert/bert-base-uncased --out runs/reviews"
    "  |  regard train recipes/sst2.toml train.epochs=2 seed=3"
)
def train(
    changes: Changes = None,
    data: Annotated[str, typer.Option(help="Labelled rows: csv, tsv, jsonl, parquet, or a hub data set.")] = "",
    model: Annotated[str, typer.Option(help="A published BERT: a folder or a hub name.")] = "",
    out: Annotated[str, typer.Option(help="The folder of the run; by default runs/ and the data's name.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on with a run that was killed; only --out is needed.")] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a published BERT on labelled rows: a measured, explained model in a folder."""
    from regard import recipe as recipes
    from regard import run

    given = {"data.train": data, "model.name": model, "out": out}
    recipe = recipe_of(recipes.Recipe, changes or (), given, resume=resume, source="data.train")
    with Screen(quiet=as_json) as screen:
        result = run.train(recipe, resume=resume, tell=screen.tell, watch=screen.watch)
    if as_json:
        print_json(result.table())
    else:
        show_result(result)


@app.command(epilog='Example: regard predict runs/reviews "A film to forget."  |  regard predict runs/reviews new.csv')
def predict(
    model: Model,
    texts: Annotated[list[str], typer.Argument(help="Texts, or one file: csv, tsv, jsonl or parquet.")],
    pair: Annotated[str, typer.Option(help="The second text of a pair; for a file, its column.")] = "",
    column: Annotated[str, typer.Option(help="The file's column of texts.")] = "",
    out: Annotated[str, typer.Option(help="Where a file's predictions go; by default NAME.predicted.EXT here.")] = "",
    format: Format = "auto",  # noqa: A002 - the option's name
    encoding: FileEncoding = "utf-8",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Predict the label of texts, or of each row of a file, which is written again with the predictions added."""
    from regard.data.sources import read
    from regard.system import load

    if len(texts) == 1 and _names_a_file(texts[0]):
        target = _target(Path(texts[0]), out)
        table = read(texts[0], format=format, encoding=encoding)
        _predict_table(load(model, precision=precision), table, target, {"text": column, "pair": pair}, as_json)
        return
    system = load(model, precision=precision)
    answers = [system.answer(row) for row in system.predict(texts, [pair] * len(texts) if pair else None)]
    if as_json:
        fields = ("label", "probability", "probabilities")
        rows = [{"text": t, **{f: getattr(a, f) for f in fields}} for t, a in zip(texts, answers, strict=True)]
        print_json({"answers": rows})
        return
    for text, answer in zip(texts, answers, strict=True):
        sure = "" if answer.probability is None else f"  {answer.probability:.1%}"
        typer.echo(f"{answer.label}{sure}  {text if len(text) < 100 else text[:99] + '…'}")


@app.command("eval", epilog="Example: regard eval runs/reviews test.csv")
def evaluate(
    model: Model,
    data: Annotated[str, typer.Argument(help="Labelled rows: csv, tsv, jsonl or parquet.")],
    column: Column = "",
    pair: PairColumn = "",
    label: LabelColumn = "",
    format: Format = "auto",  # noqa: A002 - the option's name
    encoding: FileEncoding = "utf-8",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Measure a model on labelled rows: every score with its 95 % interval."""
    from dataclasses import asdict

    from regard.data.sources import read
    from regard.data.task import labels_of
    from regard.measure.scores import scores
    from regard.system import load

    system = load(model, precision=precision)
    table = read(data, format=format, encoding=encoding)
    examples = examples_of(system, table, {"text": column, "pair": pair, "label": label})
    output = predicted(system, examples, quiet=as_json)
    found = scores(system.card.task, labels_of(examples), output)
    if as_json:
        skipped = [{"line": s.line, "reason": s.reason} for s in examples.skipped]
        print_json({"rows": len(examples.texts), "skipped": skipped, "scores": [asdict(s) for s in found]})
        return
    for line in [*examples.said, *skipped_lines(examples)]:
        typer.echo(line)
    for score in found:
        typer.echo(str(score))


@app.command(epilog="Example: regard demo --out runs/demo")
def demo(
    out: Annotated[str, typer.Option(help="The folder of the run; an earlier demo there is replaced.")] = "runs/demo",
    as_json: Json = False,
) -> None:
    """Fine-tune the encoder that comes with Regard on rated movie snippets, and show what was learned."""
    from regard import demo as demonstration
    from regard import run

    with Screen(quiet=as_json) as screen:
        recipe = demonstration.recipe(out, tell=screen.tell)
        result = run.train(recipe, tell=screen.tell, watch=screen.watch)
    if as_json:
        print_json(result.table())
    else:
        show_result(result)


def _target(path: Path, out: str) -> Path:
    """Where predictions for a file go; what cannot be written is a problem now, before any work is done."""
    from regard.data.sources import KINDS, known_kind, ready

    first, *rest = path.name.split(".")
    beside = Path(".".join([first, "predicted", *rest]))
    target = Path(out) if out else beside if known_kind(beside) else Path(f"{first}.predicted.csv")
    if not known_kind(target):
        raise Problem(f"The name {target} does not say in which format to write. Let it end in {', '.join(KINDS)}.")
    return ready(target)


def _predict_table(system: System, table: Table, target: Path, columns: dict[str, str], as_json: bool) -> None:
    from regard.data.sources import write

    examples = examples_of(system, table, columns, labelled=False)
    output = predicted(system, examples, quiet=as_json)
    answers = dict(zip(examples.rows, (system.answer(row) for row in output), strict=True))
    rows = []
    for number in range(len(table)):
        answer = answers.get(number)  # none for a row that was skipped
        row = {name: values[number] for name, values in table.columns.items()}
        row["predicted"] = None if answer is None else answer.label
        if system.card.task == "classify":
            row["probability"] = None if answer is None else round(answer.probability or 0.0, 6)
        rows.append(row)
    write(rows, target)
    if as_json:
        skipped = [{"line": s.line, "reason": s.reason} for s in examples.skipped]
        print_json({"rows": len(rows), "predicted": len(answers), "skipped": skipped, "out": str(target)})
        return
    for line in [*examples.said, *skipped_lines(examples), f"{len(answers):,} predictions are in {target}"]:
        typer.echo(line)


def _names_a_file(word: str) -> bool:
    """Whether the word is a file, or is meant to be one: a name without spaces that ends as a file of rows does."""
    from regard.data.sources import known_kind

    try:
        return Path(word).is_file() or (bool(known_kind(Path(word))) and not any(map(str.isspace, word)))
    except OSError:  # a text too long to be a name
        return False
