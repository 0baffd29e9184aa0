"""Rows to texts, pairs and labels; which column holds what is guessed where nobody names it, and always said."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from regard.data.cells import Skipped
from regard.data.columns import as_number, choose_columns, is_missing, listed
from regard.data.sources import Table
from regard.errors import Problem

FEW_FRACTIONS = 10  # so many different fractions may still be classes
FEW_CLASSES = 20  # more different values than this, each of them rare, are no classes


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts with what is to be learnt of them, row by row; `lines` says where each row stands in its file."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any] | None  # class: its number; multilabel: a 0 or 1 for each name; regress: a float
    names: tuple[str, ...]  # words of the classes, in the order of their numbers
    task: str  # classify, multilabel or regress; without labels: what was asked
    lines: list[int]
    rows: list[int]  # and in its table, from 0: several rows may share a line
    skipped: list[Skipped]  # bad rows of the file included
    said: list[str]  # what was decided, in sentences
    chosen: dict[str, str]  # the columns that text, pair and label came from; "" for none

    def __len__(self) -> int:
        return len(self.texts)


class _BadRowError(ValueError):
    """The row at hand is of no use; the message says why."""


def choose(
    table: Table,
    *,
    text: str = "",
    pair: str = "",
    label: str = "",
    task: str = "auto",
    names: Sequence[str] | None = None,
    labelled: bool = True,
) -> Examples:
    """The examples in a table; columns, task and classes that are not given are guessed and said.

    A pair is guessed only where the text is: who names one column means that one. `names` are the classes of a model
    that exists already (none for a regression): a label beyond them makes a skipped row, not a new class.
    """
    chosen, sentence = choose_columns(
        table.columns, table.origin, {"text": text, "pair": pair, "label": label}, labelled=labelled
    )
    skipped, said = list(table.skipped), [*table.said, sentence]

    firsts = _kept(table.columns[chosen["text"]], range(len(table)), _text(chosen["text"]), table.lines, skipped)
    seconds = dict.fromkeys(firsts, "")
    if chosen["pair"]:
        seconds = _kept(table.columns[chosen["pair"]], firsts, _text(chosen["pair"]), table.lines, skipped)
    rows = list(seconds)

    classes, labels = tuple(names or ()), None
    if labelled:
        values = [table.columns[chosen["label"]][row] for row in rows]
        task = _settle_task(values, task, classes, chosen["label"], said)
        read, classes = _reader(values, task, names, f"column '{chosen['label']}' of {table.origin}")
        labels = _kept(table.columns[chosen["label"]], rows, read, table.lines, skipped)
        rows = list(labels)

    skipped.sort(key=lambda bad: bad.line)
    if not rows:
        first = "; ".join(f"line {bad.line}: {bad.reason}" for bad in skipped[:3])
        raise Problem(f"No row of {table.origin} can be used ({first}). Name other columns: {listed(table.columns)}.")
    return Examples(
        texts=[firsts[row] for row in rows],
        pairs=[seconds[row] for row in rows] if chosen["pair"] else None,
        labels=None if labels is None else list(labels.values()),
        names=classes,
        task=task,
        lines=[table.lines[row] for row in rows],
        rows=rows,
        skipped=skipped,
        said=said,
        chosen=chosen,
    )


def balance(examples: Examples) -> list[tuple[str, int, float]]:
    """Name, rows and share of the rows of each class; a row with several labels counts for each of them."""
    if examples.labels is None or examples.task == "regress":
        return []
    if examples.task == "multilabel":
        counts = Counter(i for flags in examples.labels for i, flag in enumerate(flags) if flag)
    else:
        counts = Counter(examples.labels)
    return [(name, counts[i], counts[i] / len(examples)) for i, name in enumerate(examples.names)]


def _settle_task(values: list[Any], task: str, names: Sequence[str], column: str, said: list[str]) -> str:
    """The task that was asked or that the labels suggest: lists, many different fractions, or a few words."""
    if task != "auto":
        return task
    present = [value for value in values if not is_missing(value)]
    numbers = [number for number in map(as_number, present) if number is not None]
    kinds, rare = len(set(map(str, present))), 2 * len(set(map(str, present))) > len(present)
    task = "classify"
    if any(isinstance(value, list) or (isinstance(value, str) and "|" in value) for value in present):
        task = "multilabel"
    elif not names and numbers and len(numbers) == len(present):
        whole = all(number.is_integer() for number in numbers)
        many = (rare and kinds > FEW_CLASSES) if whole else (rare or kinds > FEW_FRACTIONS)
        task = "regress" if many else "classify"
    elif not names and rare and kinds > FEW_CLASSES:
        raise Problem(
            f"Column '{column}' holds {kinds} different values in {len(present)} rows: these are no classes. Name "
            "another column with data.label=, or say data.task=classify if they are."
        )
    said.append(f"task is {task} (guessed; name it with data.task=).")
    return task


def _reader(
    values: list[Any], task: str, names: Sequence[str] | None, where: str
) -> tuple[Callable[[Any], Any], tuple[str, ...]]:
    """What turns a cell into a label, or finds it bad, and the classes: those given, or those that there are."""
    if task == "regress":
        numbers = {as_number(value) for value in values} - {None}
        if names is None and len(numbers) == 1:
            raise Problem(
                f"Every label in {where} is {numbers.pop()}: nothing can be learnt. Name another data.label=."
            )
        return _graded, ()
    several = task == "multilabel"
    split = _flags if several and _are_flags(values) else _several if several else _one
    if names is None:
        found = {word for value in values if not is_missing(value) for word in split(value)}
        names = sorted(found, key=_in_order(found))
        if len(names) == 1 and not several:
            raise Problem(
                f"There is one class only in {where}: '{names[0]}'. A classifier needs two or more: add rows of "
                "others, or name another column with data.label=."
            )
    places = {name: place for place, name in enumerate(names)}

    def read(value: Any) -> Any:
        words = [] if is_missing(value) else split(value)
        if not words and not (several and isinstance(value, list)):  # an empty list says: none of them
            raise _BadRowError("no label")
        if unknown := [word for word in words if word not in places]:
            raise _BadRowError(f"label '{unknown[0]}' is none of the classes ({listed(places)})")
        return [int(name in words) for name in places] if several else places[words[0]]

    return read, tuple(names)


def _kept(
    values: list[Any], rows: Iterable[int], read: Callable[[Any], Any], lines: list[int], skipped: list[Skipped]
) -> dict[int, Any]:
    """What is read from the cells of these rows, by row; a bad one goes to `skipped`."""
    good = {}
    for row in rows:
        try:
            good[row] = read(values[row])
        except _BadRowError as bad:
            skipped.append(Skipped(lines[row], str(bad)))
    return good


def _text(column: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise _BadRowError(f"no text in column '{column}'")
        if not isinstance(value, (str, int, float)):
            raise _BadRowError(f"column '{column}' holds a {type(value).__name__}, not text")
        if not str(value).strip():
            raise _BadRowError(f"no text in column '{column}'")
        return str(value)

    return read


def _one(value: Any) -> list[str]:
    """The word of a label, the same for 1, 1.0, "1" and "1.0", which files use for one class."""
    if isinstance(value, bool):
        return [str(value).lower()]
    word = str(value).strip()
    return [word.split(".")[0]] if re.fullmatch(r"[+-]?\d+\.0+", word) else [word]


def _several(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else value.split("|") if isinstance(value, str) else [value]
    return [word for part in parts if not is_missing(part) for word in _one(part)]


def _flags(value: Any) -> list[str]:
    return [str(place) for place, flag in enumerate(value) if flag]


def _are_flags(values: list[Any]) -> bool:
    """Whether lists hold a 0 or 1 for each class, not the classes: equally long, and with a value twice."""
    lists = [value for value in values if not is_missing(value)]
    if not all(isinstance(value, list) and len(value) == len(lists[0]) for value in lists):
        return False
    plain = all(isinstance(flag, (int, float)) and flag in (0, 1) for value in lists for flag in value)
    return plain and any(len(value) > len(set(value)) for value in lists)


def _graded(value: Any) -> float:
    if is_missing(value):
        raise _BadRowError("no label")
    number = as_number(value)
    if number is None:
        raise _BadRowError(f"label '{value}' is no number")
    return number


def _in_order(words: Iterable[str]) -> Callable[[str], Any]:
    """How to sort classes: numbers by size, words by their letters."""
    return (lambda word: (as_number(word), word)) if all(as_number(word) is not None for word in words) else str
