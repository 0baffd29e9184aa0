"""Batches to pre-train on: sequences of a corpus in an order that a seed decides, with words hidden."""

from __future__ import annotations

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


class HiddenWords(Shuffled):
    """Shuffled sequences of at most `length` tokens of a corpus, with words hidden.

    Which words depends on the seed, the epoch and the sequence alone: they are the same in batches of any size.
    """

    def __init__(
        self, tokens: Tokens, tokenizer: Tokenizer, rule: Masking, *, length: int, batch_tokens: int, seed: int = 0
    ) -> None:
        numbers = [tokenizer.number(token) for token in ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")]
        if None in numbers[:3]:
            raise Problem(
                "Hiding words needs [CLS], [SEP] and [MASK], which this vocabulary lacks. Take one of a BERT."
            )
        self.first, self.last, mask = (int(number) for number in numbers[:3] if number is not None)
        special = tuple(sorted(number for number in numbers if number is not None))
        self.alphabet = Alphabet(tokenizer.size, mask, special)
        self.tokens, self.rule = tokens, rule
        self.sequences = tokens.sequences(length - 2)
        lengths = self.sequences[:, 1] - self.sequences[:, 0] + 2
        super().__init__(lengths, batch_tokens=batch_tokens, seed=seed)

    def batch(self, epoch: int, rows: NDArray[np.int64], *, cooled: float = 0.0) -> Hidden:
        """Some sequences with words hidden, at the rate that belongs to a share of the run's end."""
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]  # as they are packed
        sizes = self.lengths[rows]
        ids, words = (np.concatenate(parts) for parts in zip(*map(self._read, rows), strict=True))
        chances = [chance(self.seed, epoch, int(row)) for row in rows]
        places, new = hide_all(self.rule, ids, words, sizes.tolist(), self.alphabet, chances, cooled=cooled)
        truth = ids[places]
        ids[places] = new
        ends = sizes.cumsum()
        texts = [Encoding(part, np.zeros_like(part)) for part in np.split(ids, ends[:-1])]
        languages = self.sequences[rows, 2][np.searchsorted(ends, places, "right")]
        return Hidden(pack(texts), *(torch.from_numpy(part) for part in (places, truth, languages)))

    def _read(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[CLS] sequence [SEP], and word numbers, -1 for both."""
        ids, words = self.tokens.read(*self.sequences[row, :2].tolist())
        return np.concatenate([[self.first], ids, [self.last]]), np.concatenate([[-1], words, [-1]])
