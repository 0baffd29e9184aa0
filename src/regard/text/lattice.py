"""The Chinese words of many runs of characters at once, in arrays: those that jieba finds.

Every word of the dictionary that stands in a run is an edge from where it begins to where it ends. The best path is
found for all runs side by side, from their ends, and so are the words that jieba's model makes of single characters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.text.chinese import FIRST, Cutter

FEW = 10_000  # characters that are not worth a table of the dictionary
LONGEST = 1_000  # characters of a run: of longer ones there are few, and they would be alone side by side
BITS = 15  # of a character, numbered from the first one
NONE = (1 << BITS) - 1  # what stands behind each run, and is no character
# A character begins, ends or lies within a word, or is one by itself. Before each may stand one of two, of which jieba
# takes the one that is later in the alphabet where they are equally likely.
STATES = "BEMS"
LATER, EARLIER = np.array([3, 2, 2, 3]), np.array([1, 0, 0, 1])

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Lattice:
    """Finds the words of runs of characters within `KNOWN` as a `Cutter` finds those of one."""

    def __init__(self, jieba: Any, cut: Cutter) -> None:
        from jieba import finalseg

        self._cut, self._dictionary, self._model = cut, jieba.dt, finalseg
        self._trie, self._stamp = _Trie({}, 1), (0, 0)
        self._begin = np.array([[finalseg.start_P[state]] for state in STATES])
        step = np.array([[finalseg.trans_P[a].get(b, finalseg.MIN_FLOAT) for b in STATES] for a in STATES])
        self._steps = step[LATER, range(4), None], step[EARLIER, range(4), None]
        self._emit = np.full((4, NONE + 1), finalseg.MIN_FLOAT)
        for row, state in zip(self._emit, STATES, strict=True):
            for character, value in finalseg.emit_P[state].items():
                if 0 <= (code := ord(character) - ord(FIRST)) < NONE:
                    row[code] = value

    def begins(self, runs: Sequence[str]) -> Flags:
        """Whether a word begins at each character of all runs, end to end: (characters,)."""
        sizes = np.array([len(run) for run in runs], np.int64)
        together = (sizes <= LONGEST) & (sizes.sum() > FEW) & (not self._model.Force_Split_Words)
        out = np.zeros(sizes.sum(), np.bool_)
        chosen = list(itertools.compress(runs, together))
        if chosen:
            out[np.repeat(together, sizes)] = self._together(chosen)
        before = sizes.cumsum() - sizes
        for place in np.flatnonzero(~together).tolist():
            out[[before[place] + start for start, _ in self._cut(runs[place])]] = True
        return out

    def _together(self, runs: list[str]) -> Flags:
        stamp = (self._dictionary.total, len(self._dictionary.FREQ))
        if stamp != self._stamp:  # the first time, and where words were added since
            self._trie, self._stamp = _Trie(self._dictionary.FREQ, self._dictionary.total), stamp
        text = "\n".join([*runs, ""])
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64) - ord(FIRST)
        inner = codes >= 0
        codes[~inner] = NONE
        ends = np.flatnonzero(~inner)
        out, sizes = np.zeros(len(codes), np.bool_), self._path(codes, ends)
        at = np.append(0, ends[:-1] + 1)
        while len(at):
            out[at] = True
            at = at + sizes[at]
            at = at[inner[at]]
        # Single characters in a row are left to the model, but not where all together are a word passed over.
        single = np.diff(out & (sizes == 1) & inner, prepend=False, append=False)
        rows = np.flatnonzero(single).reshape(-1, 2)
        rows = rows[rows[:, 1] - rows[:, 0] > 1]
        known = self._dictionary.FREQ.get
        unknown = [not known(text[start:stop]) for start, stop in rows.tolist()]
        self._join(codes, rows[np.array(unknown, np.bool_)], out)
        return out[inner]

    def _path(self, codes: Numbers, ends: Numbers) -> Numbers:
        """How long the word is that begins at each character, on the best path from there to the end of its run."""
        starts, sizes, logs = self._trie.words(codes)
        left = (np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(codes))).astype(np.uint16)
        order = np.argsort(left[starts], kind="stable")  # from the end of a run; short words first, as they came
        starts, sizes, logs = starts[order], sizes[order], logs[order]
        stops = starts + sizes
        changes = np.flatnonzero((np.diff(left[starts]) != 0) | (np.diff(sizes) != 0)) + 1
        best, out = np.full(len(codes), -np.inf), np.zeros(len(codes), np.int64)
        best[ends] = 0
        for first, last in itertools.pairwise([0, *changes.tolist(), len(starts)]):
            here = logs[first:last] + best[stops[first:last]]
            at = starts[first:last]
            better = here >= best[at]
            at = at[better]
            best[at], out[at] = here[better], sizes[first:last][better]
        return out

    def _join(self, codes: Numbers, rows: Numbers, out: Flags) -> None:
        """Marks where words begin from the start to the stop of each row, by the likeliest states (Viterbi)."""
        starts, sizes = rows[:, 0], rows[:, 1] - rows[:, 0]
        order = np.argsort(-sizes, kind="stable")
        starts, sizes = starts[order], sizes[order]
        alive = np.searchsorted(-sizes, -np.arange(sizes.max(initial=0))).tolist()  # which are longer than each step
        value = self._begin + self._emit[:, codes[starts]]
        turns = [value[:, :0] > 0]
        for step, count in enumerate(alive[1:], 1):
            emit = self._emit[:, codes[starts[:count] + step]]
            later = value[LATER, :count] + self._steps[0] + emit
            earlier = value[EARLIER, :count] + self._steps[1] + emit
            turns.append(earlier > later)
            value[:, :count] = np.where(turns[-1], earlier, later)
        state = np.where(value[1] > value[3], 1, 3)
        for step in range(len(alive) - 1, 0, -1):
            own = state[: alive[step]]
            out[starts[: alive[step]] + step] = (own == 0) | (own == 3)
            state[: alive[step]] = np.where(turns[step][own, np.arange(len(own))], EARLIER[own], LATER[own])


class _Trie:
    """The words of a dictionary: a node for each beginning of one, found by the node before and the next character."""

    def __init__(self, frequencies: dict[str, int], total: int) -> None:
        self._bits = max(4, (3 * len(frequencies)).bit_length())
        self._keys = np.full(1 << self._bits, -1, np.int64)  # of each node, whose number is its place here
        self._logs = np.full(1 << self._bits, -np.inf)  # -inf where the beginning is no word itself
        whole = math.log(total)
        logs = {count: math.log(count) - whole if count else -np.inf for count in {1, *frequencies.values()}}
        # jieba's dictionary holds every beginning of a word, so that shorter ones lead to longer ones.
        for size, group in itertools.groupby(sorted(frequencies, key=len), len):
            words = list(group)
            codes = np.array(words, f"U{size}").view(np.uint32).reshape(-1, size).astype(np.int64) - ord(FIRST)
            nodes = np.full(len(words), len(self._keys))  # what all begin with
            for column in codes.T[:-1]:
                nodes = self._find(nodes, column)
            held = (nodes >= 0) & ((codes >= 0) & (codes < NONE)).all(1)  # no other characters stand in a run
            self._logs[self._add(nodes[held] << BITS | codes[held, -1])] = [
                logs[frequencies[word]] for word in itertools.compress(words, held)
            ]
        every = np.arange(NONE + 1)
        self._first = self._find(np.full(len(every), len(self._keys)), every)
        self._single = self._logs[self._first]
        self._single[(self._first < 0) | (self._single == -np.inf)] = logs[1]

    def words(self, codes: Numbers) -> tuple[Numbers, Numbers, NDArray[np.float64]]:
        """Where words begin in text, their lengths and log-likelihoods, short ones first; every character is one."""
        starts = np.flatnonzero(codes != NONE)
        nodes = self._first[codes[starts]]
        found = [(starts, np.ones_like(starts), self._single[codes[starts]])]
        for size in itertools.count(2):
            begun = nodes >= 0
            if not begun.any():
                break
            starts = starts[begun]
            nodes = self._find(nodes[begun], codes[starts + (size - 1)])
            word = np.flatnonzero((nodes >= 0) & (self._logs[nodes] > -np.inf))
            found.append((starts[word], np.full(len(word), size), self._logs[nodes[word]]))
        starts, sizes, logs = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return starts, sizes, logs

    def _places(self, keys: Numbers) -> Numbers:
        """Where to look for keys first: bits of their product with a large odd number (Knuth's golden ratio)."""
        mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(64 - self._bits)).astype(np.int64)

    def _find(self, nodes: Numbers, codes: Numbers) -> Numbers:
        """The node that each character leads to from a node, or -1."""
        keys = nodes << BITS | codes
        places = self._places(keys)
        there = self._keys[places]
        left = np.flatnonzero((there != keys) & (there >= 0))
        while len(left):  # another key lies there: the next place
            places[left] = (places[left] + 1) % len(self._keys)
            there[left] = self._keys[places[left]]
            left = left[(there[left] != keys[left]) & (there[left] >= 0)]
        places[(there != keys) | (keys < 0)] = -1
        return places

    def _add(self, keys: Numbers) -> Numbers:
        """The places of new keys, each the first that is free."""
        places = self._places(keys)
        left = np.arange(len(keys))
        while len(left):
            free = left[self._keys[places[left]] < 0]
            self._keys[places[free]] = keys[free]
            left = left[self._keys[places[left]] != keys[left]]
            places[left] = (places[left] + 1) % len(self._keys)
        return places
