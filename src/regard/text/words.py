"""Where words begin and end: by letters and punctuation, in Chinese by a segmenter, and which word each token is of."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.batch import Encoding
from regard.errors import Problem, nearest
from regard.text.chinese import KNOWN, Cutter
from regard.text.lattice import Lattice

Span = tuple[int, int]
Segmenter = Callable[[str], list[Span]]  # character spans of words: ascending, apart, none with a space, none empty

# Chinese characters: the unified ideographs with their extensions, the iteration mark and the zero.
CHINESE = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Characters that jieba's dictionary is searched for, those that it would give back one by one, and all else.
_SCRIPTS = re.compile(f"(?P<known>[{KNOWN}]+)|(?P<other>[{CHINESE}])|[^{CHINESE}]+")


def segmenter(name: str = "auto") -> Segmenter:
    """The segmenter of that name: `space`, `zh` or `auto`; every character but space lies in exactly one word of it.

    `space` takes runs of letters and digits, with the apostrophes inside them, and any other character by itself.
    `zh` is jieba, from the extra [zh]. `auto` cuts runs of Chinese characters by jieba and all else as `space` does;
    it needs jieba only once it meets Chinese. Raises `Problem` for another name, or where jieba is missing.
    """
    if name == "space":
        return _by_space
    if name == "zh":
        _jieba()
        return _by_jieba
    if name == "auto":
        return _by_script
    known = ("auto", "space", "zh")
    raise Problem(f"There is no segmenter '{name}'. {nearest(name, known)}Known: {', '.join(known)}.")


def words_of(encoding: Encoding, texts: Sequence[str], segment: Segmenter) -> NDArray[np.int64]:
    """The number of each token's word in the token's own text, -1 for special tokens: (tokens,).

    `encoding` has offsets and words (`Tokenizer.encode` with `detail`); `texts` is its text, or its text and its pair.
    A token that begins in one word and ends in another counts to the first.
    """
    if encoding.offsets is None or encoding.words is None:
        raise ValueError("words are found by offsets: encode with detail=True")
    out = np.full(len(encoding.ids), -1, dtype=np.int64)
    for number, text in enumerate(texts):
        ends = np.array([end for _, end in segment(text)], dtype=np.int64)
        own = (encoding.words >= 0) & (encoding.segments == number)
        out[own] = np.searchsorted(ends, encoding.offsets[own, 0], side="right")
    return out


def words_of_all(encodings: Sequence[Encoding], texts: Sequence[str], segment: Segmenter) -> NDArray[np.int64]:
    """The same for a text of each encoding, end to end: (tokens of all,)."""
    if any(encoding.offsets is None or encoding.words is None for encoding in encodings):
        raise ValueError("words are found by offsets: encode with detail=True")
    if not encodings:
        return np.empty(0, dtype=np.int64)
    # All texts laid end to end, a character apart, so that one search finds the words of all.
    bases = np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
    spans = [segment(text) for text in texts]
    counts = np.array([len(found) for found in spans])
    ends = np.array([end for found in spans for _, end in found], dtype=np.int64) + np.repeat(bases, counts)
    sizes = [len(encoding.ids) for encoding in encodings]
    starts = np.concatenate([e.offsets[:, 0] for e in encodings if e.offsets is not None]) + np.repeat(bases, sizes)
    out: NDArray[np.int64] = np.searchsorted(ends, starts, side="right") - np.repeat(counts.cumsum() - counts, sizes)
    out[np.concatenate([e.words for e in encodings if e.words is not None]) < 0] = -1
    return out


def _by_space(text: str) -> list[Span]:
    return [found.span() for found in _pattern().finditer(text)]


def _by_script(text: str) -> list[Span]:
    out: list[Span] = []
    for found in _SCRIPTS.finditer(text):
        start, end = found.span()
        if found.lastgroup == "known":
            out += [(start + first, start + last) for first, last in _cutter()(found[0])]
        elif found.lastgroup == "other":
            out.append((start, end))
        else:
            out += [word.span() for word in _pattern().finditer(text, start, end)]
    return out


def _by_jieba(text: str) -> list[Span]:
    return [(start, end) for word, start, end in _jieba().tokenize(text) if not word.isspace()]


def altered() -> bool:
    """Whether jieba's dictionary was altered in this process, of which others would not know."""
    if sys.modules.get("jieba") is None:
        return False
    jieba = _jieba()
    plain = jieba.Tokenizer()
    plain.initialize()
    own, plain = ((found.total, len(found.FREQ)) for found in (jieba.dt, plain))
    return own != plain or bool(jieba.finalseg.Force_Split_Words)


@lru_cache
def lattice() -> Lattice:
    """What finds the words of many runs of Chinese characters; raises `Problem` where jieba is missing."""
    return Lattice(_jieba(), _cutter())


@lru_cache
def _cutter() -> Cutter:
    return Cutter(_jieba())


@lru_cache
def _pattern() -> re.Pattern[str]:
    """A run of letters and digits, apostrophes inside it; or one other character.

    Accents that are characters by themselves, and marks that only join, belong to the character before them.
    """
    after = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf"))
    run = rf"(?:[^\W_][\u00ad{re.escape(after)}]*)+"
    return re.compile(rf"{run}(?:['’]{run})*|\S[{re.escape(after)}]*")


@lru_cache
def _jieba() -> Any:
    """The library, loaded without its messages and without the warnings of its old code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import jieba
        except ImportError:
            raise Problem("Chinese words are found by jieba. Run: pip install 'regard[zh]'") from None
        jieba.setLogLevel(logging.CRITICAL)
        jieba.initialize()
    return jieba
