"""Much text as token ids with the bounds of its words, by looking up what was met before.

A text is parted into pieces whose tokens and words do not depend on what stands beside them. Pieces come back again and
again, so that most are found in a table. Runs of Chinese characters do not, but in them every character is a token.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from regard.text.chinese import FIRST, KNOWN, LAST
from regard.text.tokenizer import Tokenizer, clean
from regard.text.words import lattice, segmenter, words_of_all

REMEMBERED = 1 << 22  # characters of pieces
AT_ONCE = 1 << 19  # characters of text
ENDLESS = 1 << 30
_LINES, _SPACED = re.compile(r"\n|[^\n]+"), re.compile(r"\n|[^ \n]+")
_SCRIPTS = re.compile(rf"\n|[{KNOWN}]+|[^{KNOWN} \n]+")


class Numbered(NamedTuple):
    """The tokens of a text, without special tokens."""

    ids: NDArray[np.int64]  # (tokens,)
    words: NDArray[np.bool_]  # (tokens,): whether a word begins there
    lines: NDArray[np.int64]  # (lines,): the token that each begins with; of one without tokens that of the next


class Numbering:
    """From texts to ids by a tokenizer, with the words of a segmenter of `regard.text.words`.

    The outcome is that of `Tokenizer.encode` and `words_of` for each line alone. In memory are `REMEMBERED` characters
    of pieces and what `AT_ONCE` of text take, or a line that is longer.
    """

    def __init__(self, tokenizer: Tokenizer, words: str = "auto") -> None:
        self._tokenizer, self._segment = tokenizer, segmenter(words)
        self._recipe = tokenizer.definition(), words
        at_spaces, about_chinese = tokenizer.parts()
        self._spaced = at_spaces and words != "zh"  # jieba itself looks at spaces, and at letters beside Chinese
        self._scripts = self._spaced and about_chinese and words == "auto"
        self._pieces = _SCRIPTS if self._scripts else _SPACED if self._spaced else _LINES
        self._forget()

    def __call__(self, text: str) -> Numbered:
        """The tokens of a text, where its words begin and where its lines do."""
        found = [self._numbered(part) for part in _parts(clean(text))]
        before = np.cumsum([0, *(len(part.ids) for part in found)])
        return Numbered(
            np.concatenate([part.ids for part in found]),
            np.concatenate([part.words for part in found]),
            np.concatenate([part.lines + start for part, start in zip(found, before, strict=False)]),
        )

    def __reduce__(self) -> tuple[Callable[..., Numbering], tuple[str, str]]:
        """Other processes are told what to make one of, and keep it with all that it has met."""
        return _elsewhere, self._recipe

    def _numbered(self, text: str) -> Numbered:
        if self._size > REMEMBERED:
            self._forget()
        pieces = self._pieces.findall(text)
        self._learn({"\n", *pieces}.difference(self._rows))
        rows = np.fromiter(map(self._rows.get, pieces, itertools.repeat(-1)), np.int64, len(pieces))
        runs = [pieces[place] for place in np.flatnonzero(rows < 0).tolist()]
        if runs:
            sizes = np.ones(len(rows), np.int64)
            sizes[rows < 0] = [len(run) for run in runs]
            rows = np.repeat(rows, sizes)
            chinese = np.flatnonzero(rows < 0)
            codes = np.frombuffer("".join(runs).encode("utf-32-le"), np.uint32).astype(np.int64)
            rows[chinese] = codes - ord(FIRST) + self._rows[FIRST]
        counts = self._counts[rows]
        ends = counts.cumsum()
        # The tokens of a row lie end to end in the table: where the first of them is, and then one after another.
        places = np.repeat(self._starts[rows] - ends + counts, counts) + np.arange(counts.sum())
        words = self._words[places]
        if runs:
            words[ends[chinese] - 1] = lattice().begins(runs)
        return Numbered(self._ids[places], words, np.append(0, ends[rows == self._rows["\n"]]))

    def _forget(self) -> None:
        """Empties the table: the row of each piece, where its tokens start in it and how many there are."""
        self._rows: dict[str, int] = {}
        self._size = 0
        self._ids, self._words = np.empty(0, np.int64), np.empty(0, np.bool_)
        self._starts, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)

    def _learn(self, pieces: set[str]) -> None:
        """Adds a row for each piece: its tokens, and which of them begin a word.

        Not for runs of Chinese characters: the first one adds a row for each such character there is, in their order.
        """
        new = [piece for piece in pieces if not (self._scripts and FIRST <= piece[0] <= LAST)]
        if len(new) < len(pieces) and FIRST not in self._rows:
            new += map(chr, range(ord(FIRST), ord(LAST) + 1))
        if not new:
            return
        # Where spaces part pieces, one text of all takes a third of the time that a text of each does.
        texts = [" ".join(new)] if self._spaced else ["" if piece.isspace() else piece for piece in new]
        encodings = self._tokenizer.encode(texts, max_length=ENDLESS, detail=True)
        words = words_of_all(encodings, texts, self._segment)
        owners = np.repeat(np.arange(len(encodings)), [len(encoding.ids) for encoding in encodings])
        if self._spaced and (offsets := encodings[0].offsets) is not None:
            owners = np.searchsorted(np.cumsum([len(piece) + 1 for piece in new]), offsets[:, 0], "right")
        ids = np.concatenate([encoding.ids for encoding in encodings])
        ids, words, owners = ids[words >= 0], words[words >= 0], owners[words >= 0]  # without special tokens
        begins = np.ones(len(ids), np.bool_)
        begins[1:] = (words[1:] != words[:-1]) | (owners[1:] != owners[:-1])
        counts = np.bincount(owners, minlength=len(new))
        self._rows.update(zip(new, itertools.count(len(self._counts))))
        self._starts = np.append(self._starts, len(self._ids) + counts.cumsum() - counts)
        self._counts = np.append(self._counts, counts)
        self._ids, self._words = np.append(self._ids, ids), np.append(self._words, begins)
        self._size += sum(map(len, new))


def _parts(text: str) -> Iterator[str]:
    """A text parted at ends of lines, which are left out."""
    start = 0
    while start <= len(text):
        end = text.find("\n", start + AT_ONCE)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


@lru_cache(1)
def _elsewhere(definition: str, words: str) -> Numbering:
    return Numbering(Tokenizer(tokenizers.Tokenizer.from_str(definition)), words)
