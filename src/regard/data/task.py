"""From the data part of a recipe to the examples of a task, split for training, validation and test."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard import hub
from regard.data.examples import Examples, balance, choose
from regard.data.sources import read
from regard.data.splits import split
from regard.disk import locate
from regard.errors import Problem
from regard.recipe import DataRecipe

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Task:
    """The examples of each split, and what was said on the way."""

    train: Examples
    validation: Examples
    test: Examples
    said: list[str]
    origin: dict[str, str]  # each file with the hash of its content


def gather(recipe: DataRecipe, *, seed: int) -> Task:
    """Reads, chooses columns, and cuts off the splits that were not given.

    Texts that occur more than once stay in one split. Raises `Problem` for data that cannot be trained on.
    """
    files = _files(recipe)
    if "train" not in files:
        raise Problem("There is no training data. Name a file with --data, or data.train in the recipe.")
    tables = {name: read(path, format=recipe.format, encoding=recipe.encoding) for name, path in files.items()}
    first = choose(tables["train"], text=recipe.text, pair=recipe.pair, label=recipe.label, task=recipe.task)
    parts, column = {"train": first}, first.chosen
    for name in SPLITS[1:]:
        if name in tables:
            parts[name] = choose(
                tables[name], text=column["text"], pair=column["pair"], label=column["label"],
                task=first.task, names=first.names,
            )  # fmt: skip
    said = [*first.said]
    missing = [name for name in SPLITS if name not in parts]
    if missing and not 0 < recipe.held_out * len(missing) < 1:
        raise Problem(
            f"data.held_out={recipe.held_out:g} does not leave rows for {' and '.join(['training', *missing])} alike. "
            f"Let it be above 0 and below {1 / len(missing):g}, or give files of their own: "
            f"{', '.join(f'data.{name}=' for name in missing)}."
        )
    if missing:
        shares = [1 - recipe.held_out * len(missing), *[recipe.held_out] * len(missing)]
        labels: Sequence[object] | int = first.labels if first.task == "classify" and first.labels else len(first.texts)
        rows = split(labels, shares, seed=seed, groups=list(zip(first.texts, first.pairs or first.texts, strict=True)))
        parts |= {name: take(first, part.tolist()) for name, part in zip(["train", *missing], rows, strict=True)}
        said.append(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} cut from the training file")
    said += [f"{name}: {len(parts[name].texts):,} rows{_skips(parts[name])}" for name in SPLITS]
    if first.task != "regress":
        said.append("labels: " + ", ".join(f"{n} {share:.0%}" for n, _, share in balance(parts["train"])[:12]))
    digests = {str(path): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files.values()}
    return Task(parts["train"], parts["validation"], parts["test"], said, digests)


def take(examples: Examples, rows: Sequence[int]) -> Examples:
    """Some of the examples; what was skipped and said is not repeated."""
    picked = {
        name: None if values is None else [values[i] for i in rows]
        for name, values in (
            ("texts", examples.texts),
            ("pairs", examples.pairs),
            ("labels", examples.labels),
            ("lines", examples.lines),
            ("rows", examples.rows),
        )
    }
    return dataclasses.replace(examples, **picked, skipped=[], said=[])  # type: ignore[arg-type]


def labels_of(examples: Examples) -> NDArray[Any]:
    """The labels as the measures take them."""
    if examples.labels is None:
        raise Problem("These rows have no labels. Name the column that holds them with data.label=...")
    return np.array(examples.labels, dtype=np.float64 if examples.task == "regress" else np.int64)


def _files(recipe: DataRecipe) -> dict[str, Path]:
    given = {name: getattr(recipe, name) for name in SPLITS if getattr(recipe, name)}
    if given.keys() == {"train"} and not Path(given["train"]).exists() and "/" in given["train"].removeprefix("hf://"):
        found = _from_hub(given["train"])
        if found:
            return found
    return {name: locate(path) for name, path in given.items()}


def _from_hub(name: str) -> dict[str, Path]:
    if not name.startswith("hf://") and (Path(name).suffix or name.startswith((".", "/", "~"))):
        return {}
    files = hub.data_files(name.removeprefix("hf://datasets/").removeprefix("hf://"))
    several = next((split for split, paths in files.items() if len(paths) > 1), None)
    if several:
        raise Problem(f"{name} holds its {several} rows in several files. Download them, join them, and name the file.")
    return {split: paths[0] for split, paths in files.items()}


def _skips(examples: Examples) -> str:
    if not examples.skipped:
        return ""
    first = examples.skipped[0]
    return f" ({len(examples.skipped):,} skipped, the first in line {first.line}: {first.reason})"
