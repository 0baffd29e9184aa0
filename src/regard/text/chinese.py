"""Chinese words as jieba finds them, about twice as fast.

jieba takes the path of words through a run of characters whose dictionary frequencies have the greatest product, and
parts what is left of single characters by a hidden Markov model. Here the search is one loop, logarithms are taken
once, and what the model said of a few characters is remembered. Tests hold the words to be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Span = tuple[int, int]
FIRST, LAST = "\u4e00", "\u9fd5"  # the characters that jieba's own search takes; the rest it gives back one by one
KNOWN = f"{FIRST}-{LAST}"
REMEMBERED = 1 << 16  # answers of the model


class Cutter:
    """Words of runs of characters within `KNOWN`, with the dictionary of a jieba, also after words were added to it."""

    def __init__(self, jieba: Any) -> None:
        from jieba import finalseg

        self._jieba = jieba
        self._logs: dict[int, float] = {}  # of frequencies, of which there are few
        self._total = 0
        self._forced: set[str] = finalseg.Force_Split_Words  # which deleting a word adds to
        self._model: Callable[[str, int], tuple[int, ...]] = lru_cache(REMEMBERED)(
            lambda run, forced: tuple(map(len, finalseg.cut(run)))
        )

    def __call__(self, run: str) -> list[Span]:
        """The spans of the words of a run, end to end."""
        ends = self._path(run)
        out: list[Span] = []
        place, singles = 0, -1  # where single characters in a row began, or -1
        while place < len(run):
            end = ends[place]
            if end - place == 1:
                if singles < 0:
                    singles = place
            else:
                if singles >= 0:
                    self._part(run, singles, place, out)
                    singles = -1
                out.append((place, end))
            place = end
        if singles >= 0:
            self._part(run, singles, place, out)
        return out

    def _path(self, run: str) -> list[int]:
        """Where the word that begins at each character ends, on the best path from there to the end."""
        dictionary = self._jieba.dt
        if dictionary.total != self._total:
            total = math.log(dictionary.total)
            self._total, self._logs = (
                dictionary.total,
                {n: math.log(n) - total for n in {1, *dictionary.FREQ.values()} if n},
            )
        known, logs, count = dictionary.FREQ.get, self._logs, len(run)
        best, ends = [0.0] * (count + 1), [0] * count
        for start in range(count - 1, -1, -1):
            end = start + 1
            frequency = known(run[start])  # 0: the beginning of a word, but no word; None: not even that
            most, last = logs[frequency or 1] + best[end], end
            while frequency is not None and end < count:
                end += 1
                frequency = known(run[start:end])
                if frequency and (here := logs[frequency] + best[end]) >= most:
                    most, last = here, end
            best[start], ends[start] = most, last
        return ends

    def _part(self, run: str, start: int, end: int, out: list[Span]) -> None:
        """Words of single characters in a row: by the model, but not where all together are a word passed over."""
        if end - start == 1 or self._jieba.dt.FREQ.get(run[start:end]):
            out.extend((place, place + 1) for place in range(start, end))
            return
        for length in self._model(run[start:end], len(self._forced)):
            out.append((start, start + length))
            start += length
