"""Strangers' files to rows, and results back to files: every row is kept or reported with its line, never lost."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regard import disk
from regard.data.cells import Skipped, separated
from regard.data.compression import ENDINGS, Progress, kind_by_name, opened, packed
from regard.data.decoding import LONE, decoded, numbered
from regard.disk import locate
from regard.errors import Problem

KINDS = {".csv": "csv", ".tsv": "tsv", ".txt": "txt", ".jsonl": "jsonl", ".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by column; cells are text, except from json and parquet, which have kinds of their own."""

    columns: dict[str, list[Any]]
    lines: list[int]  # where each row begins, counted from 1; in parquet the row's number
    skipped: list[Skipped]
    origin: str
    said: list[str] = field(default_factory=list)  # what was decided about the file, in sentences

    def __len__(self) -> int:
        return len(self.lines)


def read(path: str | Path, *, format: str = "auto", encoding: str = "utf-8") -> Table:  # noqa: A002
    """All rows of a csv, tsv, txt, jsonl, json or parquet file, plain or packed.

    `format="lines"` reads a label, a space and the text from each line. A bad row is skipped and reported; a file
    where most rows are bad is a `Problem`. NUL characters, which nothing downstream can carry, become U+FFFD.
    """
    path = locate(path)
    if path.is_dir():
        inside = [p.name for p in sorted(path.iterdir()) if any(ending in p.name.lower() for ending in KINDS)]
        raise Problem(f"{path} is a folder. Name one file{' in it: ' + ', '.join(inside[:8]) if inside else ''}.")
    kind = _kind(path) if format == "auto" else format
    data = unpacked(path)
    if kind == "parquet":
        return _parquet(data, path)
    text, said, undecodable = decoded(data, encoding, path)
    if kind in ("json", "jsonl"):
        table = _from_objects(_objects(text, path), undecodable, str(path), said)
    else:
        names, rows, skipped = separated(text, kind, undecodable, said)
        columns = {name: [row[i] for _, row in rows] for i, name in enumerate(names)}
        table = Table(columns, [line for line, _ in rows], skipped, str(path), said)
    return _checked(table)


def write(rows: Table | Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes rows in the format that the name's ending asks for, so that `read` gives the same rows again.

    Text formats have one kind of value: there a list of words is joined by "|", and nothing is an empty cell. JSON has
    no NaN, no infinity and no dates: what stands for them is said at `disk.to_json`.
    """
    path = Path(path).expanduser()
    columns = rows.columns if isinstance(rows, Table) else _columns(rows)
    kind = _kind(path)
    if kind == "parquet":
        data = _parquet_bytes(columns, path)
    elif kind in ("json", "jsonl"):
        data = _json_text(columns, array=kind == "json").encode()
    else:
        values = [list(columns), *zip(*columns.values(), strict=True)]
        data = "".join(_line(row, "," if kind == "csv" else "\t") for row in values).encode()
    disk.make_folder(path.parent)
    disk.write_bytes(path, packed(data, path))


def ready(path: str | Path) -> Path:
    """The path, if rows can be written there; a `Problem` now is better than one after the work."""
    path = Path(path).expanduser()
    if _kind(path) == "parquet":
        arrow()
    return disk.make_place(path)


def known_kind(path: Path) -> str:
    """What the name's ending says is in the file; nothing where it says nothing."""
    return kind_by_name(path, KINDS)


def _kind(path: Path) -> str:
    if kind := known_kind(path):
        return kind
    raise Problem(
        f"The name {path.name} does not tell what is in the file. Known endings: {', '.join(KINDS)}, each also with "
        f"{', '.join(ENDINGS)}. Rename it, or say data.format=csv, tsv, jsonl, parquet or lines (a label, a space, the "
        "text)."
    )


def unpacked(path: Path) -> bytes:
    """The bytes of a file, unpacked; raises `Problem` where it is damaged or empty."""
    with opened(path, Progress()) as stream:
        data: bytes = stream.read()
    if not data.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
        raise Problem(f"{path} is empty. Name a file that has rows.")
    return data


def _objects(text: str, path: Path) -> Iterator[tuple[int, str, Any]]:
    """Line, raw text and value of each json object, one a line or all in one array; what is none comes as Skipped."""
    lines = numbered(text)
    if text.lstrip().startswith("[") and (len(lines) == 1 or isinstance(_parsed(*lines[0]), Skipped)):
        yield from _elements(text, path)
        return
    for line, content in numbered(text.rstrip()):
        yield line, content, _parsed(line, content)


def _parsed(line: int, content: str) -> Any:
    if not content.strip():
        return Skipped(line, "an empty line")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Skipped(line, f"not valid json ({error})")
    return value if isinstance(value, dict) else Skipped(line, "not a json object")


def _elements(text: str, path: Path) -> Iterator[tuple[int, str, Any]]:
    """The elements of one json array; they are decoded one by one, for only so their lines are known."""
    decoder, space = json.JSONDecoder(), re.compile(r"[\s,]*")
    place, line = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while True:
        start = space.match(text, place).end()  # type: ignore[union-attr]
        line += text.count("\n", place, start)
        if text[start : start + 1] == "]":
            return
        try:
            value, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise Problem(f"The json array in {path} breaks on line {line}: {error}. Mend it there.") from None
        yield line, text[start:place], value if isinstance(value, dict) else Skipped(line, "not a json object")
        line += text.count("\n", start, place)


def _from_objects(objects: Iterable[tuple[int, str, Any]], undecodable: str, origin: str, said: list[str]) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    skipped: list[Skipped] = []
    replaced = 0
    for line, raw, value in objects:
        if undecodable and LONE.search(raw):
            skipped.append(Skipped(line, undecodable))
        elif isinstance(value, Skipped):
            skipped.append(value)
        else:
            cleaned = _clean(value) if "\\u" in raw and re.search(r"\\u(0000|[dD][89a-fA-F])", raw) else value
            replaced += cleaned != value
            rows.append(cleaned)
            lines.append(line)
    if replaced:
        said.append(f"{replaced} rows held escaped NUL or half characters, which are replaced by U+FFFD.")
    return Table(_columns(rows), lines, skipped, origin, said)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return LONE.sub("\ufffd", value.replace("\0", "\ufffd"))
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return {_clean(key): _clean(item) for key, item in value.items()} if isinstance(value, dict) else value


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns by every key that any row has; a row without it has None."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _checked(table: Table) -> Table:
    """The table with its skipped rows in order, unless too few rows are good."""
    skipped = sorted(table.skipped, key=lambda bad: bad.line)
    if len(skipped) > len(table):
        first = "; ".join(f"line {bad.line}: {bad.reason}" for bad in skipped[:3])
        raise Problem(
            f"{len(skipped)} of {len(skipped) + len(table)} rows of {table.origin} cannot be read ({first}). "
            "Mend them, or say what the file is with data.format= and data.encoding=."
        )
    if not len(table):
        raise Problem(
            f"{table.origin} has no rows{' below its header' if table.columns else ''}. Name a file with rows."
        )
    return dataclasses.replace(table, skipped=skipped)


def arrow() -> Any:
    """The pyarrow package, or the problem that it is missing."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise Problem("Parquet files need pyarrow. Run: pip install 'regard[parquet]'") from None
    return pyarrow


def _parquet(data: bytes, path: Path) -> Table:
    pyarrow = arrow()
    try:
        columns = pyarrow.parquet.read_table(io.BytesIO(data)).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise Problem(f"{path} is no parquet file, or a damaged one ({error}). Fetch it again.") from None
    rows = len(next(iter(columns.values()), []))
    return _checked(Table(columns, list(range(1, rows + 1)), [], str(path)))


def _parquet_bytes(columns: Mapping[str, list[Any]], path: Path) -> bytes:
    pyarrow = arrow()
    buffer = io.BytesIO()
    try:
        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), buffer)
    except pyarrow.ArrowException as error:
        raise Problem(
            f"{path} cannot hold these columns, for each must be of one kind ({error}). Write a .jsonl instead."
        ) from None
    return buffer.getvalue()


def _json_text(columns: Mapping[str, list[Any]], *, array: bool) -> str:
    values = zip(*columns.values(), strict=True)
    lines = [disk.to_json(dict(zip(columns, row, strict=True))) for row in values]
    return "[\n" + ",\n".join(lines) + "\n]\n" if array else "".join(line + "\n" for line in lines)


def _line(row: Iterable[Any], separator: str) -> str:
    """One line of cells; quoted where they must be, carriage returns too, which the csv module leaves bare."""
    cells = [_cell(value) for value in row]
    cells = [f'"{c.replace(chr(34), chr(34) * 2)}"' if re.search(f'["\r\n{separator}]', c) else c for c in cells]
    return (separator.join(cells) if cells != [""] else '""') + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, (dict, list)):
        words = isinstance(value, list) and all(isinstance(word, str) for word in value)
        return "|".join(value) if words else disk.to_json(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
