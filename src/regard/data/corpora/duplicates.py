"""Documents that say the same: exact ones by a digest, near ones by MinHash (Broder 1997) in bands.

Of two sets of phrases the least value of a random order is the same with probability J, what they share over what they
have together. So the share of equal places in two signatures of 128 such values estimates J, with an error of about
sqrt(J (1 - J) / 128). Documents are compared if 8 values in a row, one of 16 bands, are equal, which happens with
probability 1 - (1 - J^8)^16: .95 at J = .8, .9999 at .9, .06 at .5. Of all that are alike in a band each is compared
with the first alone, so that of many texts of one form some pairs may be passed over: of 287 in the 200,989 documents
of regard-mini's corpus none is. A document is a duplicate only of one that is kept.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VALUES, BANDS = 128, 16
PHRASE = 5  # words, or Chinese characters
BLOCK = 2048  # phrases at once, so that what is computed stays in the cache
NONE = -1

_RANDOM = np.random.default_rng(1997)
_MIX = _RANDOM.integers(2**64, size=16, dtype=np.uint64) | np.uint64(1)
_TIMES = _RANDOM.integers(2**32, size=(VALUES, 1), dtype=np.uint32) | np.uint32(1)
_PLUS = _RANDOM.integers(2**32, size=(VALUES, 1), dtype=np.uint32)
_BAND = _RANDOM.integers(2**64, size=VALUES // BANDS, dtype=np.uint64) | np.uint64(1)


def units(text: str, language: str) -> NDArray[np.uint32]:
    """What phrases are made of, as numbers: words, or in Chinese characters; marks and capitals do not count.

    A foreign word in Chinese text is one unit, which a character for private use stands for.
    """
    if language == "zh":
        text = re.sub("[a-z0-9]+", lambda word: chr(0xF0000 + zlib.crc32(word[0].encode()) % 0x1FFFE), text.casefold())
        text = re.sub("[^\\w\U000f0000-\U0010ffff]+|_+", "", text)
        return np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4")
    words = re.findall(r"[^\W_]+", text.casefold())
    return np.fromiter((zlib.crc32(word.encode("utf-8", "replace")) for word in words), np.uint32, len(words))


def phrases(found: NDArray[np.uint32], length: int = PHRASE) -> NDArray[np.uint64]:
    """A number for every run of so many units; a shorter text is one phrase."""
    count = max(1, len(found) - length + 1)
    out = np.zeros(count, dtype=np.uint64)
    for place, factor in enumerate(_MIX[: min(length, len(found))]):
        out += (found[place : place + count].astype(np.uint64) + np.uint64(1)) * factor
    out ^= out >> np.uint64(31)
    out *= _MIX[-1]
    return out ^ (out >> np.uint64(29))


def digest(found: NDArray[np.uint32]) -> int:
    """64 bits of what a text is made of; in 100 million texts, two unlike ones are alike with odds of 1 to 3,700."""
    return int.from_bytes(hashlib.blake2b(found.tobytes(), digest_size=8).digest(), "little")


def signature(found: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The least of all phrases in each of 128 random orders."""
    numbers = (phrases(found) >> np.uint64(32)).astype(np.uint32)
    out = np.full(VALUES, 2**32 - 1, dtype=np.uint32)
    for start in range(0, len(numbers), BLOCK):
        np.minimum(out, (_TIMES * numbers[None, start : start + BLOCK] + _PLUS).min(axis=1), out=out)
    return out


def exact(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each document the first one with the same digest, or -1 where it is the first itself."""
    out = np.full(len(digests), NONE, dtype=np.int64)
    later, first = _alike(digests)
    out[later] = first
    return out


def near(path: Path, same: NDArray[np.int64], similarity: float) -> NDArray[np.int64]:
    """For each document the kept one that it is a near duplicate of, or -1.

    `path` holds all signatures, end to end, and is read band by band; `same` names exact duplicates, which are passed
    over.
    """
    count = len(same)
    out = np.full(count, NONE, dtype=np.int64)
    left = np.flatnonzero(same == NONE)
    if len(left) < 2:
        return out
    pairs = np.empty(0, dtype=np.int64)
    for band in range(BANDS):
        later, first = _alike(np.concatenate(list(_keys(path, band)))[left])
        pairs = np.union1d(pairs, left[later] * count + left[first])
    table = np.memmap(path, dtype=np.uint32, mode="r", shape=(count, VALUES))
    for later, first in zip(*(part.tolist() for part in divmod(pairs, count)), strict=True):  # in order of the later
        keeper = first if out[first] == NONE else int(out[first])
        if out[later] == NONE and np.count_nonzero(table[later] == table[keeper]) >= similarity * VALUES:
            out[later] = keeper
    return out


def _keys(path: Path, band: int) -> Iterator[NDArray[np.uint64]]:
    wide = VALUES // BANDS
    with path.open("rb") as file:
        while len(rows := np.fromfile(file, dtype=np.uint32, count=VALUES * 65_536)):
            values = rows.reshape(-1, VALUES)[:, band * wide : (band + 1) * wide].astype(np.uint64)
            keys = ((values + np.uint64(1)) * _BAND).sum(axis=1, dtype=np.uint64)
            yield keys ^ (keys >> np.uint64(32))


def _alike(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places whose key stood before, and for each of them the first place of that key."""
    order = np.argsort(keys, kind="stable")
    begins = np.append(True, keys[order][1:] != keys[order][:-1])[: len(keys)]
    starts = np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))
    return order[~begins], order[starts[~begins]]
