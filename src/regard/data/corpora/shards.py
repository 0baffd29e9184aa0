"""From cleaned chunks to the corpus: which document goes into which shard, and the shards themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.corpora import chunks
from regard.data.corpora.sources import digest
from regard.errors import Problem

SIZE = 64_000_000  # bytes of text in a shard
DUPLICATE, NEAR = "duplicate", "near duplicate"
NAMES = ("shard-*.jsonl.gz", "dropped-*.jsonl.gz")  # of all that is written


class Rows(NamedTuple):
    """Documents of one chunk; of duplicates also where those are that they are duplicates of."""

    chunk: Path
    kind: str  # kept or dropped, as the chunk has them
    numbers: list[int]
    originals: list[tuple[Path, int]]


@dataclass(slots=True)
class Shard:
    """One file of the corpus: documents of one source in one language, or dropped for one reason."""

    name: str
    source: str = ""
    language: str = ""
    reason: str = ""
    documents: int = 0
    bytes: int = 0
    rows: list[Rows] = field(default_factory=list)


class Table:
    """The documents of all chunks by number, in the order of sources, files and places."""

    def __init__(self, paths: Sequence[Path], sources: Sequence[int]) -> None:
        """`sources` has the number of each chunk's source."""
        self.paths, self.sources = paths, sources
        found = [chunks.read(path, signatures=False) for path in paths]
        self.starts = np.cumsum([0, *(len(chunk.kept["bytes"]) for chunk in found)])
        self.kept: dict[str, NDArray[Any]] = {
            name: np.concatenate([chunk.kept[name] for chunk in found] or [np.empty(0, np.int64)]).astype(
                np.uint64 if name == "digest" else np.int64
            )
            for name in chunks.NUMBERS
        }
        self.source = np.repeat(np.array(sources, dtype=np.int64), np.diff(self.starts))
        self.dropped = [(chunk.reasons, chunk.sizes) for chunk in found]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def signatures(self) -> Iterator[bytes]:
        """The signatures of all documents, chunk by chunk."""
        for path in self.paths:
            yield chunks.read(path).signatures.tobytes()

    def place(self, number: int) -> tuple[Path, int]:
        """Which chunk a document is in, and where in it."""
        chunk = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.paths[chunk], number - int(self.starts[chunk])


def planned(table: Table, names: Sequence[str], same: NDArray[np.int64], near: NDArray[np.int64]) -> list[Shard]:
    """Which documents go into which file, one source and language in each, none beyond `SIZE` if it can."""
    open_: dict[tuple[str, ...], Shard] = {}
    out: list[Shard] = []
    for number, path in enumerate(table.paths):
        start, end = int(table.starts[number]), int(table.starts[number + 1])
        name = names[table.sources[number]]
        for place in range(start, end):
            language = chunks.LANGUAGES[table.kept["language"][place]]
            original = max(int(same[place]), int(near[place]))
            reason = DUPLICATE if same[place] >= 0 else NEAR if original >= 0 else ""
            key = (name, language, "") if original < 0 else ("", "", reason)
            origin = [table.place(original)] if original >= 0 else []
            _put(open_, out, key, (path, "kept"), place - start, int(table.kept["bytes"][place]), origin)
        for place, (reason, size) in enumerate(zip(*table.dropped[number], strict=True)):
            _put(open_, out, ("", "", reason), (path, "dropped"), place, int(size), [])
    out.sort(key=lambda shard: (shard.reason, names.index(shard.source) if shard.source else 0, shard.language))
    counts: dict[str, int] = {}
    for shard in out:
        stem = "dropped-" + shard.reason.replace(" ", "-") if shard.reason else "shard"
        shard.name = f"{stem}-{counts.get(stem, 0):05d}.jsonl.gz"
        counts[stem] = counts.get(stem, 0) + 1
    return out


def _put(
    open_: dict[tuple[str, ...], Shard], out: list[Shard], key: tuple[str, ...], chunk: tuple[Path, str], place: int,
    size: int, origin: list[tuple[Path, int]],
) -> None:  # fmt: skip
    shard = open_.get(key)
    if shard is None or (shard.documents and shard.bytes + size > SIZE):
        shard = open_[key] = Shard("", key[0], key[1], key[2])
        out.append(shard)
    if not shard.rows or (shard.rows[-1].chunk, shard.rows[-1].kind) != chunk:
        shard.rows.append(Rows(*chunk, [], []))
    shard.rows[-1].numbers.append(place)
    shard.rows[-1].originals.extend(origin)
    shard.documents += 1
    shard.bytes += size


def write(shard: Shard, folder: Path) -> str:
    """Writes a shard and returns its digest."""
    chunks.write_rows(_filled(shard), folder / shard.name)
    return digest(folder / shard.name)


def _filled(shard: Shard) -> Iterator[dict[str, Any]]:
    for part in shard.rows:
        wanted: dict[int, Any] = dict.fromkeys(part.numbers)
        wanted.update(zip(part.numbers, part.originals, strict=bool(part.originals)))
        for number, row in enumerate(chunks.rows(part.chunk, part.kind)):
            if number not in wanted:
                continue
            if not shard.reason:
                del row["place"]
                yield row
                continue
            told = {"reason": shard.reason, "source": row["source"], "place": row["place"], "text": row["text"]}
            if original := wanted[number]:
                told["of"] = _places(original[0])[original[1]]
            yield told


@lru_cache(maxsize=64)
def _places(path: Path) -> Sequence[str]:
    return chunks.read(path, signatures=False).places


def clear(folder: Path, wanted: Sequence[str]) -> None:
    """Takes away what a build that was killed has left: shards that this one does not write, and halves of some."""
    for path in [path for form in NAMES for end in ("", ".*partial") for path in folder.glob(form + end)]:
        if path.name not in wanted:
            try:
                path.unlink(missing_ok=True)  # a machine that was given up may be at it
            except OSError as error:
                raise Problem(f"{path} is left over and cannot be removed: {error.strerror}. Remove it.") from None
