"""Batches to pre-train on: sequences of a corpus in an order that a seed decides, with words hidden."""

from __future__ import annotations

from collections.abc import Mapping

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


class HiddenWords(Shuffled):
    """Shuffled sequences of at most `length` tokens of a corpus, with words hidden.

    Which words depends on the seed, the epoch and the sequence alone: they are the same in batches of any size.
    `documents` says which are read, all where it is None; `times` how often those of a (source, language) come in an
    epoch: one that comes 1.3 times comes once or, by lot, twice, each time with other words hidden.
    """

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
    ) -> None:
        self.first, self.last, self.alphabet = frame(tokenizer)
        self.tokens, self.rule = tokens, rule
        rows = tokens.sequences(length - 2)
        self.sequences = rows if documents is None else rows[documents[rows[:, 2]]]
        if not len(self.sequences):
            raise Problem("No document is left to learn from. Give a corpus with more of them, or hold out less.")
        self.languages, sources = tokens.documents[self.sequences[:, 2], 1:].T
        table = [[(times or {}).get((s, language), 1.0) for language in tokens.languages] for s in tokens.sources]
        self.times = np.array(table)[sources, self.languages]
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
        count = len(self.lengths)
        rows = rows[np.argsort(self.lengths[rows % count], kind="stable")]  # as they are packed
        own = rows % count
        sizes = self.lengths[own]
        ids, words = (np.concatenate(parts) for parts in zip(*map(self._read, own), strict=True))
        chances = [chance(self.seed, epoch, int(row)) for row in rows]
        places, new = hide_all(self.rule, ids, words, sizes.tolist(), self.alphabet, chances, cooled=cooled)
        truth = ids[places]
        ids[places] = new
        ends = sizes.cumsum()
        texts = [Encoding(part, np.zeros_like(part)) for part in np.split(ids, ends[:-1])]
        languages = self.languages[own][np.searchsorted(ends, places, "right")]
        return Hidden(pack(texts), *(torch.from_numpy(part) for part in (places, truth, languages)))

    def _read(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[CLS] sequence [SEP], and word numbers, -1 for both."""
        ids, words = self.tokens.read(*self.sequences[row, :2].tolist())
        return np.concatenate([[self.first], ids, [self.last]]), np.concatenate([[-1], words, [-1]])


def frame(tokenizer: Tokenizer) -> tuple[int, int, Alphabet]:
    """The ids of [CLS] and [SEP], and what the ids are to masking; raises `Problem` where one of them is missing."""
    numbers = [tokenizer.number(token) for token in SPECIAL]
    if None in numbers[:3]:
        raise Problem("Hiding words needs [CLS], [SEP] and [MASK], which this vocabulary lacks. Take one of a BERT.")
    first, last, mask = (int(number) for number in numbers[:3] if number is not None)
    special = tuple(sorted(number for number in numbers if number is not None))
    return first, last, Alphabet(tokenizer.size, mask, special)
