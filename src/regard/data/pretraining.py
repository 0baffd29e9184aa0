"""Batches to pre-train on: sequences of a corpus in an order that a seed decides, with words hidden."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Encoding, Hidden
from regard.data.loader import Shuffled
from regard.data.masking import Alphabet, Masking, chance, hide_all
from regard.data.packing import pack
from regard.data.tokens import Tokens
from regard.errors import Problem
from regard.text.tokenizer import Tokenizer

SPECIAL = ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")


@dataclass(frozen=True, slots=True)
class Text:
    """A sequence as a model reads it, special tokens included."""

    ids: NDArray[np.int64]
    words: NDArray[np.int64]  # the number of each token's word in its part; -1 for special tokens
    segments: NDArray[np.int64]  # 1 in the second part, where there is one
    label: int  # of the pair: 0 where the second part follows the first, 1 where not, -1 where there is one part


class HiddenWords(Shuffled):
    """Shuffled sequences of at most `length` tokens of a corpus, with words hidden.

    Which words depends on the seed, the epoch and the sequence alone: they are the same in batches of any size.
    `documents` says which are read, all where it is None; `times` how often those of a (source, language) come in an
    epoch: one that comes 1.3 times comes once or, by lot, twice, each time with other words hidden. With `positions`
    a sequence begins at any of so many that leaves room for it, by lot (Kiyono et al. 2021): all of them are learnt by
    short texts, and a text means the same wherever it stands.
    """

    specials = 2  # tokens of a sequence beside its text, at most

    def __init__(
        self,
        tokens: Tokens,
        tokenizer: Tokenizer,
        rule: Masking,
        *,
        length: int,
        batch_tokens: int,
        seed: int = 0,
        documents: NDArray[np.bool_] | None = None,
        times: Mapping[tuple[str, str], float] | None = None,
        positions: int = 0,
    ) -> None:
        self.positions = positions
        self.first, self.last, self.alphabet = frame(tokenizer)
        self.tokens, self.rule = tokens, rule
        self.sequences = tokens.sequences(length - self.specials, documents)
        if not len(self.sequences):
            raise Problem("No document is left to learn from. Give a corpus with more of them, or hold out less.")
        owners = self.sequences[:, 2]
        self.languages = tokens.documents[owners, 1]
        self.times = tokens.drawn(times or {})[owners]
        lengths = self.sequences[:, 1] - self.sequences[:, 0] + 2
        super().__init__(lengths, batch_tokens=batch_tokens, seed=seed)

    def drawn(self, epoch: int) -> NDArray[np.int64]:
        """The sequences of an epoch, each as many times as the mix asks for."""
        lots = np.random.default_rng([self.seed, epoch, 1]).random(len(self.times))
        counts = np.floor(self.times + lots).astype(np.int64)
        again = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        rows: NDArray[np.int64] = np.repeat(np.arange(len(counts)), counts) + len(counts) * again
        return rows

    def batch(self, epoch: int, rows: NDArray[np.int64], *, cooled: float = 0.0) -> Hidden:
        """Some sequences with words hidden, at the rate that belongs to a share of the run's end."""
        return self.hidden(*self.texts(epoch, rows), cooled=cooled)

    def texts(
        self, epoch: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[Text], list[np.random.Generator]]:
        """Which of `sequences` these are, as they lie in their batch; each as it is read; and its source of chance."""
        chances = [chance(self.seed, epoch, int(row)) for row in rows]
        own = rows % len(self.lengths)
        texts = list(map(self.read, own.tolist(), chances))
        order = sorted(range(len(texts)), key=lambda place: len(texts[place].ids))
        return own[order], [texts[place] for place in order], [chances[place] for place in order]

    def hidden(
        self, own: NDArray[np.int64], texts: list[Text], chances: list[np.random.Generator], *, cooled: float = 0.0
    ) -> Hidden:
        """The batch of what `texts` gave."""
        sizes = [len(text.ids) for text in texts]
        ids, words = np.concatenate([text.ids for text in texts]), np.concatenate([text.words for text in texts])
        places, new = hide_all(self.rule, ids, words, sizes, self.alphabet, chances, cooled=cooled)
        truth = ids[places]
        ids[places] = new
        ends = np.cumsum(sizes)
        shown = [Encoding(part, text.segments) for part, text in zip(np.split(ids, ends[:-1]), texts, strict=True)]
        languages = self.languages[own][np.searchsorted(ends, places, "right")]
        parts = places, truth, languages, np.array([text.label for text in texts])
        packed = pack(shown)
        if self.positions:
            room = [max(0, self.positions - size) + 1 for size in sizes]
            begins = [int(chance.random() * free) for chance, free in zip(chances, room, strict=True)]
            shift = torch.from_numpy(np.repeat(begins, sizes))
            packed = dataclasses.replace(packed, positions=packed.positions + shift)
        return Hidden(packed, *map(torch.from_numpy, parts))

    def read(self, row: int, chance: np.random.Generator) -> Text:
        """A sequence with nothing hidden yet; `chance` is its own, by which words are hidden afterwards."""
        return self.framed(self.sequences[row, :2].tolist())

    def framed(self, *parts: Sequence[int], label: int = -1) -> Text:
        """[CLS] A [SEP], or [CLS] A [SEP] B [SEP], of parts of the corpus, given by where they begin and end."""
        return Text(*framed(self.tokens, self.first, self.last, *parts), label)


Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def framed(tokens: Tokens, first: int, last: int, *parts: Sequence[int]) -> Arrays:
    """Parts of a corpus behind `first`, each with `last` behind it: ids, word numbers and segments, as in `Text`."""
    ids, words, segments = [np.array([first])], [np.array([-1])], [np.array([0])]
    for segment, (start, stop) in enumerate(parts):
        own, numbers = tokens.read(start, stop)
        ids += [own, np.array([last])]
        words += [numbers, np.array([-1])]
        segments.append(np.full(len(own) + 1, segment))
    return np.concatenate(ids), np.concatenate(words), np.concatenate(segments)


def frame(tokenizer: Tokenizer) -> tuple[int, int, Alphabet]:
    """The ids of [CLS] and [SEP], and what the ids are to masking; raises `Problem` where one of them is missing."""
    numbers = [tokenizer.number(token) for token in SPECIAL]
    if None in numbers[:3]:
        raise Problem("Hiding words needs [CLS], [SEP] and [MASK], which this vocabulary lacks. Take one of a BERT.")
    first, last, mask = (int(number) for number in numbers[:3] if number is not None)
    special = tuple(sorted(number for number in numbers if number is not None))
    return first, last, Alphabet(tokenizer.size, mask, special)
