"""Where words begin and end: by letters and punctuation, in Chinese by a segmenter, and which word each token is of."""

from __future__ import annotations

import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.batch import Encoding
from regard.errors import Problem, nearest

Span = tuple[int, int]
Segmenter = Callable[[str], list[Span]]  # character spans of words: ascending, apart, none with a space, none empty

# Chinese characters: the unified ideographs with their extensions, the iteration mark and the zero.
CHINESE = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


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


def _by_space(text: str) -> list[Span]:
    return [found.span() for found in _pattern().finditer(text)]


def _by_script(text: str) -> list[Span]:
    out: list[Span] = []
    for found in re.finditer(f"[{CHINESE}]+|[^{CHINESE}]+", text):
        segment = _by_jieba if re.match(f"[{CHINESE}]", found[0]) else _by_space
        out += [(found.start() + start, found.start() + end) for start, end in segment(found[0])]
    return out


def _by_jieba(text: str) -> list[Span]:
    return [(start, end) for word, start, end in _jieba().tokenize(text) if not word.isspace()]


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
