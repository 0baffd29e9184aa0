"""Separated lines to rows of cells: what separates them, whether quotes enclose them, where their names stand."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from regard.data.columns import distinct, has_header
from regard.data.decoding import LONE, numbered
from regard.errors import Problem

QUOTED = re.compile(r'(?:(?<=[\t\r\n])|\A)"([^"]*(?:""[^"]*)*)"(?=[\t\r\n]|\Z)')

Row = tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is not used, and why."""

    line: int  # counted from 1 in the file
    reason: str


def separated(text: str, kind: str, undecodable: str, said: list[str]) -> tuple[list[str], list[Row], list[Skipped]]:
    """Names of the columns, rows of as many cells, and rows of no use; what is decided of the text goes to `said`.

    `undecodable` is the reason to give for rows with bytes that are no text, empty where there are none.
    """
    rows, skipped = _cut(text, kind, said)
    while rows and not rows[-1][1]:  # empty lines at the end are no rows
        rows.pop()
    skipped += [Skipped(line, "an empty line") for line, row in rows if not row]
    rows = [row for row in rows if row[1]]
    names = ["label", "text"] if kind == "lines" else []
    if not names and rows and has_header([row for _, row in rows]):
        line, header = rows.pop(0)
        said.append(f"line {line} holds the names of the columns.")
        names = distinct(header, said)
    elif not names and rows:
        width = Counter(len(row) for _, row in rows).most_common(1)[0][0]
        names = [str(i) for i in range(width)]
        said.append(f"no line holds names: the columns are called {', '.join(names)}.")
    good: list[Row] = []
    for line, row in rows:
        if len(row) != len(names):
            skipped.append(Skipped(line, f"{len(row)} cells where there are {len(names)} columns"))
        elif undecodable and any(LONE.search(cell) for cell in row):
            skipped.append(Skipped(line, undecodable))
        else:
            good.append((line, row))
    return names, good, skipped


def _cut(text: str, kind: str, said: list[str]) -> tuple[list[Row], list[Skipped]]:
    """The cells of each line, and the rows that could not be cut into cells."""
    if kind == "csv":
        separator = _separator(text)
        if separator != ",":
            said.append(f"cells are separated by {'tabs' if separator == chr(9) else repr(separator)}.")
        return _quoted(text, separator)
    lines = numbered(text)
    if kind == "lines":
        parts = [(line, content.split(None, 1)) for line, content in lines]
        bad = [Skipped(line, "no text after the label") for line, cut in parts if len(cut) == 1]
        return [(line, cut) for line, cut in parts if len(cut) != 1], bad
    if kind == "txt" and 2 * sum("\t" in content for _, content in lines) <= len(lines):
        said.append("each line is one text, for most lines have no tab.")
        return [(line, [content] if content else []) for line, content in lines], []
    if kind not in ("tsv", "txt"):
        raise Problem(f"'{kind}' is no format. Say auto, csv, tsv, jsonl, parquet or lines.")
    if _is_quoted(text):
        rows, bad = _quoted(text, "\t")
        if not bad:
            return rows, bad
    return [(line, content.split("\t") if content else []) for line, content in lines], []


def _separator(text: str) -> str:
    """The sign that cuts the first line into cells, and later lines into as many."""
    lines = [line for _, line in zip(range(100), io.StringIO(text, newline=""), strict=False)]

    def agreement(sign: str) -> float:
        widths = [len(cells) for cells in csv.reader(lines, delimiter=sign) if cells]
        return widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0

    with _long_cells(text):
        return max(",;\t", key=agreement)


def _is_quoted(text: str) -> bool:
    """Whether quotes in a tab-separated file are a writer's, or part of the texts, as in many published files.

    A writer leaves no quote outside quoted cells, and quotes either only where it must or a whole column.
    """
    bodies = QUOTED.findall(text)
    if not bodies or '"' in QUOTED.sub("", text):
        return False
    return all(not body or re.search(r'[\t\r\n",]', body) for body in bodies) or len(bodies) >= text.count("\n") - 1


def _quoted(text: str, separator: str) -> tuple[list[Row], list[Skipped]]:
    """Rows of a file whose cells may be quoted, and may then hold separators and line ends.

    A stray quote would swallow the lines after it: such a line is given up alone, and reading goes on behind it.
    """
    lines = list(io.StringIO(text, newline=""))
    rows: list[Row] = []
    bad: list[Skipped] = []
    start = 0
    with _long_cells(text):
        while start < len(lines):
            first = start
            reader = csv.reader((lines[i] for i in range(first, len(lines))), delimiter=separator, strict=True)
            try:
                for cells in reader:
                    if first + reader.line_num > start + 1 and rows and len(cells) != len(rows[0][1]):
                        raise csv.Error("an open quote swallows the lines after it")
                    rows.append((start + 1, cells))
                    start = first + reader.line_num
            except csv.Error as error:
                bad.append(Skipped(start + 1, f"quotes are not closed or not doubled ({error})"))
                start += 1
    return rows, bad


@contextlib.contextmanager
def _long_cells(text: str) -> Iterator[None]:
    """Lets the csv module take cells of any length; its limit is one for the whole process, so it is put back."""
    before = csv.field_size_limit(len(text) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
