"""A corpus as token ids on disk: one long row, with marks where words, sentences and documents begin.

    ids.bin         the ids of all documents without special tokens, 16 bits each where that is enough, else 32
    marks.bin       a byte each: 1 where a word begins, 2 a sentence, 4 a document, added
    documents.npy   (documents, 3) int64: where each begins, and the numbers of its language and its source
    tokens.json     names of the languages and sources, counts, and which tokenizer numbered the tokens

The files are read where they lie (mapped). While sequences are made, some 48 bytes a sentence and a byte a token are
held: with all that Python takes 700 MB for 40 million tokens.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard import disk
from regard.data.processes import Workers
from regard.errors import Problem
from regard.text.numbering import Numbering
from regard.text.tokenizer import Tokenizer
from regard.text.words import altered

WORD, SENTENCE, DOCUMENT = 1, 2, 4
CHUNK = 1_000_000  # characters of documents that a process numbers at once
ROWS = 1_000_000  # sentences that are numbers of Python at once, which take ten times as much memory
CURE = "Free some memory, or number tokens by fewer processes, and call again."


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a sentence a line, its language, and which source of a corpus it is of."""

    text: str
    language: str
    source: str = ""


def write(
    folder: str | Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    words: str = "auto",
    processes: int = 0,
    advance: Callable[[int], None] = lambda documents: None,
) -> Tokens:
    """Numbers the tokens of documents; the folder is there whole or not at all, and killed, a call begins anew.

    `words` names the segmenter by which words are found (`regard.text.words`), `processes` is how many number at once,
    0 as many as there are cores: the same files for any number of them. Raises `Problem` for no token at all.
    """
    kind = np.dtype(np.uint16 if tokenizer.size <= 1 << 16 else np.uint32)
    numbering = Numbering(tokenizer, words)
    languages: dict[str, int] = {}
    sources: dict[str, int] = {}
    table: list[tuple[int, int, int]] = []
    tokens = 0
    chunks: deque[list[Document]] = deque()  # under way

    def todo() -> Iterator[Callable[[], _Numbered]]:
        for chunk in _chunks(documents):
            chunks.append(chunk)
            yield partial(_numbered, numbering, kind, [document.text for document in chunk])

    with Workers(processes, cure=CURE, alone=altered) as workers, disk.folder_whole(folder) as place:
        with (place / "ids.bin").open("wb") as ids, (place / "marks.bin").open("wb") as marks:
            for found in workers.ordered(todo()):
                chunk = chunks.popleft()
                ids.write(found.ids)
                marks.write(found.marks)
                for document, size in zip(chunk, found.sizes, strict=True):
                    if size:
                        language = languages.setdefault(document.language, len(languages))
                        table.append((tokens, language, sources.setdefault(document.source, len(sources))))
                        tokens += size
                advance(len(chunk))
        if not table:
            raise Problem("There is not one token in these documents. Name a corpus with text.")
        with (place / "documents.npy").open("wb") as file:
            np.save(file, np.array(table, dtype=np.int64))
        about = {
            "languages": [*languages], "sources": [*sources], "tokens": tokens, "bits": 8 * kind.itemsize,
            "tokenizer": digest(tokenizer),
        }  # fmt: skip
        disk.write_text(place / "tokens.json", json.dumps(about, ensure_ascii=False, indent=2) + "\n")
    return Tokens(folder, tokenizer)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text) + 1
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Numbered(NamedTuple):
    """The tokens of some documents as the files have them, and how many each document has."""

    ids: bytes
    marks: bytes
    sizes: list[int]


def _numbered(numbering: Numbering, kind: np.dtype[Any], texts: list[str]) -> _Numbered:
    found = numbering("\n".join(texts))
    marks = found.words * np.uint8(WORD)
    marks[found.lines[found.lines < len(marks)]] |= SENTENCE
    lines = np.cumsum([0, *(text.count("\n") + 1 for text in texts)])[:-1]
    starts = found.lines[lines]
    marks[starts[starts < len(marks)]] |= DOCUMENT
    sizes = np.diff(starts, append=len(marks)).tolist()
    return _Numbered(found.ids.astype(kind).tobytes(), marks.tobytes(), sizes)


class Tokens:
    """The tokens of a corpus; raises `Problem` where the folder is damaged or of another tokenizer."""

    def __init__(self, folder: str | Path, tokenizer: Tokenizer) -> None:
        folder = Path(folder)
        try:
            about: dict[str, Any] = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
            kind = np.dtype(f"u{about['bits'] // 8}")
            self.languages: list[str] = about["languages"]
            self.sources: list[str] = about["sources"]
            self.ids = np.memmap(folder / "ids.bin", kind, "r")
            self.marks = np.memmap(folder / "marks.bin", np.uint8, "r")
            self.documents: NDArray[np.int64] = np.load(folder / "documents.npy")
            whole = len(self.ids) == len(self.marks) == about["tokens"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Problem(
                f"{folder} holds no tokens that can be read ({error}). Delete it, and make it anew."
            ) from None
        if not whole:
            raise Problem(
                f"{folder} is truncated: it should hold {about['tokens']:,} tokens. Delete it, and make it anew."
            )
        if about["tokenizer"] != digest(tokenizer):
            raise Problem(f"The tokens in {folder} were numbered by another tokenizer. Delete it, and make it anew.")
        if len(self.ids) and int(self.ids.max()) >= tokenizer.size:
            raise Problem(f"{folder} is damaged: an id is beyond the vocabulary. Delete it, and make it anew.")
        self.vocabulary = tokenizer.size

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many tokens each document has."""
        return np.diff(self.documents[:, 0], append=len(self.ids))

    def sequences(self, room: int, documents: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """As many neighbouring sentences of a document as fit in `room` tokens, and where longer ones are parted.

        (sequences, 3): where each begins and ends, and the number of its document (the full sentences of one document
        of Liu et al. 2019). `documents` says which are read, such as those of `held_out`; all where it is None.
        """
        begins = np.flatnonzero(self.marks & SENTENCE)
        ends = np.append(begins[1:], len(self.ids))
        owners = np.searchsorted(self.documents[:, 0], begins, "right") - 1
        rows = np.stack([begins, ends, owners], axis=1)
        if documents is not None:
            rows = rows[documents[owners]]
        out = array("q")
        start = stop = own = -1
        for begin, end, owner in (row for at in range(0, len(rows), ROWS) for row in rows[at : at + ROWS].tolist()):
            if owner != own or end - start > room:
                if stop > start:
                    out.extend((start, stop, own))
                start, own = begin, owner
            while end - start > room:
                out.extend((start, start + room, own))
                start += room
            stop = end
        if stop > start:
            out.extend((start, stop, own))
        return np.array(out, dtype=np.int64).reshape(-1, 3)

    def held_out(self, share: float, most: int, *, seed: int = 0) -> NDArray[np.bool_]:
        """Which documents to hold out: of each language some by lot, until `share` of its tokens or `most` of them.

        One more would be too many. Where each alone is too long it is the shortest; a language's only document is never
        held out.
        """
        sizes = self.sizes
        out = np.zeros(len(sizes), dtype=bool)
        if share == 0 or most == 0:
            return out
        order = np.random.default_rng(seed).permutation(len(sizes))
        for number in range(len(self.languages)):
            every = order[self.documents[order, 1] == number]
            room = min(share * sizes[every].sum(), most)
            fitting = every[:-1][sizes[every[:-1]] <= room]
            own = fitting[sizes[fitting].cumsum() <= room]
            if not len(own) and len(every) > 1:
                own = every[sizes[every].argmin(keepdims=True)]
            out[own] = True
        return out

    def drawn(self, times: Mapping[tuple[str, str], float]) -> NDArray[np.float64]:
        """How often each document comes in an epoch, by its source and language; once where nothing is said of them."""
        table = [[times.get((source, language), 1.0) for language in self.languages] for source in self.sources]
        return np.array(table)[self.documents[:, 2], self.documents[:, 1]]

    def counts(self, documents: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """How often each id comes in some documents, each times its weight: (vocabulary,)."""
        out = np.zeros(self.vocabulary)
        for start, stop in self._pieces(documents):
            out += np.bincount(self.ids[start:stop], weights[self._owners(start, stop)], len(out))
        return out

    def neighbours(
        self,
        documents: NDArray[np.bool_],
        chosen: NDArray[np.int64],
        *,
        weights: NDArray[np.float64],
        reach: int = 5,
        advance: Callable[[float], object] = lambda share: None,
    ) -> NDArray[np.float32]:
        """How much any two of n chosen ids stand near one another in some documents: (n, n), symmetric.

        Two that are d <= `reach` tokens apart in a document count (reach + 1 - d) / reach, on either side of the
        diagonal, times the document's weight; a word that is not chosen keeps its place between others. `advance` is
        told the share of the tokens read. Takes 8 n^2 bytes, and no more for more tokens; a sum is exact up to 2^22.
        """
        rows = np.full(self.vocabulary, size := len(chosen))
        rows[chosen] = np.arange(size)
        out = np.zeros((size + 1) ** 2, dtype=np.float32)  # the last row and column are of all others
        for start, stop in self._pieces(documents):
            beyond = min(stop + reach, len(self.ids))
            own = rows[self.ids[start:beyond]]
            owners = self._owners(start, beyond)
            for apart in range(1, reach + 1):
                most = min(stop - start, len(own) - apart)
                inside = owners[:most] == owners[apart : apart + most]
                one, other = own[:most][inside], own[apart : apart + most][inside]
                worth = weights[owners[:most][inside]] * ((reach + 1 - apart) / reach)
                # Above the diagonal alone: half of the places are half of the memory's work.
                np.add.at(out, np.minimum(one, other) * (size + 1) + np.maximum(one, other), worth.astype(np.float32))
            advance(stop / len(self.ids))
        near = out.reshape(size + 1, size + 1)[:-1, :-1]
        return near + near.T

    def _owners(self, start: int, stop: int) -> NDArray[np.int64]:
        """Whose each of some neighbouring tokens is."""
        return np.searchsorted(self.documents[:, 0], np.arange(start, stop), "right") - 1

    def _pieces(self, documents: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Where all tokens of some documents lie, no more than a chunk at a time."""
        bounds = np.append(self.documents[:, 0], len(self.ids))
        # Neighbouring documents that are both read are one piece.
        edges = np.flatnonzero(np.diff(documents.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        for start, stop in bounds[edges].tolist():
            for first in range(start, stop, CHUNK):
                yield first, min(stop, first + CHUNK)

    def read(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids of some tokens, and the number of each one's word among them."""
        words = (self.marks[start:stop] & WORD).cumsum(dtype=np.int64)
        return self.ids[start:stop].astype(np.int64), words


def digest(tokenizer: Tokenizer) -> str:
    """Changes with anything that decides which tokens a text becomes."""
    return hashlib.blake2b(tokenizer.definition().encode(), digest_size=16).hexdigest()
