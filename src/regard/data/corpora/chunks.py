"""A run of documents cleaned by one process: what is kept, what is dropped, and the numbers about both, on disk."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard import disk
from regard.data.corpora.clean import cleaned
from regard.data.corpora.duplicates import VALUES, digest, signature, units
from regard.data.corpora.markup import plain
from regard.data.corpora.plan import Clean, Source
from regard.data.corpora.sources import Document
from regard.errors import Problem

LANGUAGES = ("en", "zh")
SCRIPTS = ("", "simplified", "traditional")
NUMBERS = ("digest", "bytes", "characters", "sentences", "lines_out", "language", "script")


class Task(NamedTuple):
    """What a process is given: documents of one file, and where the outcome goes."""

    target: Path
    source: Source
    markup: bool  # whether texts are in Wikipedia's markup
    clean: Clean
    documents: list[Document]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The numbers about a cleaned run of documents: arrays by document that is kept, and lists of what is dropped."""

    path: Path
    kept: dict[str, NDArray[Any]]
    signatures: NDArray[np.uint32]
    places: Sequence[str]
    reasons: Sequence[str]  # of each document that is dropped
    sizes: NDArray[np.int64]  # bytes of its text


def work(task: Task) -> Path:
    """Cleans documents and writes the outcome; its index comes last and says that all of it is there."""
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    numbers: dict[str, list[int]] = {name: [] for name in NUMBERS}
    signatures = []
    for document in task.documents:
        reason, text = document.reason, document.text
        if not reason and task.markup:
            text, reason = _plain(text)
        found = None if reason else cleaned(text, task.source.language, task.clean)
        if found is None or found.reason:
            reason = found.reason if found else reason
            dropped.append({"reason": reason, "source": task.source.name, "place": document.place, "text": text})
            continue
        kept.append({"text": found.text, "source": task.source.name, "language": found.language})
        kept[-1]["place"] = document.place
        of = units(found.text, found.language)
        signatures.append(signature(of))
        size = len(found.text.encode())
        sizes = (digest(of), size, len(found.text), found.sentences, found.lines_out)
        row = (*sizes, LANGUAGES.index(found.language), SCRIPTS.index(found.script))
        for name, value in zip(NUMBERS, row, strict=True):
            numbers[name].append(value)
    write_rows(kept, _rows(task.target, "kept"), 1)
    write_rows(dropped, _rows(task.target, "dropped"), 1)
    arrays: dict[str, Any] = {
        **{name: np.array(values, np.uint64 if name == "digest" else np.int64) for name, values in numbers.items()},
        "signatures": np.array(signatures, np.uint32).reshape(-1, VALUES),
        "places": np.array([row["place"] for row in kept], np.str_),
        "reasons": np.array([row["reason"] for row in dropped], np.str_),
        "sizes": np.array([len(row["text"].encode()) for row in dropped], np.int64),
    }
    buffer = io.BytesIO()  # a full disk under an archive that is being written would raise it knows not what
    np.savez(buffer, **arrays)
    disk.write_bytes(task.target, buffer.getvalue(), shared=True)
    return task.target


def read(path: Path, *, signatures: bool = True) -> Chunk:
    """The numbers about a chunk."""
    with np.load(path) as table:
        kept = {name: table[name] for name in NUMBERS}
        found = table["signatures"] if signatures else np.empty((0, VALUES), np.uint32)
        return Chunk(path, kept, found, table["places"].tolist(), table["reasons"].tolist(), table["sizes"])


def rows(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The documents of a chunk that are kept, or those that are dropped."""
    return read_rows(_rows(path, kind))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a packed file of JSON lines that was written whole."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        yield from map(json.loads, file)


def write_rows(found: Iterable[dict[str, Any]], path: Path, level: int = 6) -> None:
    """Writes objects as packed JSON lines: the same bytes whenever and wherever.

    A machine that a cluster has given up may still be writing while another does its work again.
    """

    def write(file: BinaryIO) -> None:
        with gzip.GzipFile("", "wb", level, file, mtime=0) as packed:
            for row in found:
                packed.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    disk.write_whole(path, write, shared=True)


def _rows(target: Path, kind: str) -> Path:
    return target.with_suffix(f".{kind}.jsonl.gz")


def _plain(markup: str) -> tuple[str, str]:
    try:
        return plain(markup), ""
    except Problem:
        raise
    except Exception as error:  # a page that a foreign parser cannot bear is one document less, not the end
        return markup, f"markup ({type(error).__name__})"
