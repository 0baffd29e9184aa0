"""A finished corpus, document by document, as its shards have it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from regard.data.corpora import build, counts
from regard.data.corpus import Corpus
from regard.data.tokens import Document
from regard.errors import Problem


def documents(folder: str | Path, advance: Callable[[float], object] = lambda share: None) -> Iterator[Document]:
    """Every document with its language and source, in the order of the shards; `advance` is told the share read.

    Raises `Problem` for a corpus that is empty or not finished, and for a shard that is missing, damaged or not whole.
    """
    found = build.read(folder)
    counts.refuse_empty(found, folder)
    shards, behind = found["shards"], 0
    total = max(1, sum(shard["documents"] for shard in shards))
    for shard in shards:
        path = Path(folder).expanduser() / shard["name"]
        if not path.is_file():
            raise Problem(f"The corpus in {folder} has lost {shard['name']}. Build it again, or copy the whole folder.")
        number = 0
        for number, line in enumerate(Corpus(path).lines(), 1):
            try:
                row = json.loads(line)
                document = Document(row["text"], row["language"], shard["source"])
            except (ValueError, KeyError, TypeError):
                raise Problem(f"Line {number:,} of {path} is no document. Build the corpus again.") from None
            yield document
            if number % 256 == 0:
                advance((behind + number) / total)
        if number != shard["documents"]:
            raise Problem(
                f"{path} has {number:,} documents where {folder} says {shard['documents']:,}. Build the corpus again, "
                "or copy the whole folder."
            )
        behind += number
    advance(1.0)


def times(folder: str | Path) -> dict[tuple[str, str], float]:
    """How many times the documents of a source and language are drawn in an epoch, by the mix of a corpus."""
    return {(row["source"], row["language"]): float(row["times"]) for row in build.read(folder)["mix"]}
