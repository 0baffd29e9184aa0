"""Passages to measure on: neighbouring sentences as a model reads them in pre-training, of a corpus or of any texts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.batch import Encoding
from regard.data.pretraining import frame, framed
from regard.data.tokens import Document, Tokens, write
from regard.text.tokenizer import Tokenizer


class Passage(NamedTuple):
    """A sequence to measure on, and whose it is."""

    language: str
    encoding: Encoding  # [CLS] ... [SEP] with the number of each token's word, -1 for these two
    document: int  # what one document says of a model is no news in its next passage


def of_tokens(
    tokens: Tokens,
    tokenizer: Tokenizer,
    *,
    length: int,
    documents: NDArray[np.bool_] | None = None,
    most: int | None = None,
    seed: int = 0,
) -> list[Passage]:
    """Passages of at most `length` tokens, special ones included, in the order of the corpus.

    `documents` says which are read, such as those of `Tokens.held_out`; all where it is None. Where `most` is given,
    passages of each language are drawn by lot until they have `most` tokens together or just more.
    """
    first, last, _ = frame(tokenizer)
    rows = tokens.sequences(length - 2, documents)
    languages = tokens.documents[rows[:, 2], 1]
    chosen = range(len(rows)) if most is None else drawn(rows[:, 1] - rows[:, 0], languages, most, seed)
    found: list[Passage] = []
    for row in chosen:
        ids, words, segments = framed(tokens, first, last, rows[row, :2].tolist())
        encoding = Encoding(ids, segments, words=words)
        found.append(Passage(tokens.languages[languages[row]], encoding, int(rows[row, 2])))
    return found


def of_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    length: int,
    most: int | None = None,
    seed: int = 0,
    words: str = "auto",
    advance: Callable[[int], None] = lambda documents: None,
) -> list[Passage]:
    """The same of texts that are not tokens yet, which are numbered by way of a folder that is gone afterwards.

    So they are parted as a corpus is, and memory holds the passages drawn alone. `words` names the segmenter by which
    words are found. Raises `Problem` for no token at all.
    """
    # The files are mapped until the passages are read; a system that keeps mapped files keeps the folder.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        tokens = write(Path(place) / "tokens", documents, tokenizer, words=words, advance=advance)
        return of_tokens(tokens, tokenizer, length=length, most=most, seed=seed)


def drawn(sizes: NDArray[np.int64], kinds: NDArray[np.generic], most: int, seed: int) -> NDArray[np.int64]:
    """Which of some sequences, ascending: of each kind by lot, until they have `most` tokens together or just more."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen = [np.empty(0, np.int64)]
    for kind in np.unique(kinds):
        own = order[kinds[order] == kind]
        chosen.append(own[sizes[own].cumsum() - sizes[own] < most])
    return np.sort(np.concatenate(chosen))
