"""Batches to pre-train on: sequences of a corpus in an order that a seed decides, with words hidden."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Encoding, Hidden
from regard.data.loader import Place
from regard.data.masking import Alphabet, Masking, chance, hide_all
from regard.data.packing import cut, pack
from regard.data.tokens import Tokens
from regard.errors import Problem
from regard.text.tokenizer import Tokenizer


class HiddenWords:
    """Batches of at most `batch_tokens` tokens, of sequences of at most `length`, shuffled each epoch.

    Order and hidden words depend on the seed, the epoch and the sequence alone, so that a run is taken up anywhere, and
    a sequence has the same words hidden in batches of any size.
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
        self.tokens, self.rule, self.seed, self.batch_tokens = tokens, rule, seed, batch_tokens
        self.sequences = tokens.sequences(length - 2)
        self.lengths = self.sequences[:, 1] - self.sequences[:, 0] + 2

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sequences of each batch of an epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.sequences))
        return [order[span] for span in cut(self.lengths[order].tolist(), self.batch_tokens)]

    def batch(self, epoch: int, rows: NDArray[np.int64], *, progress: float = 0.0) -> Hidden:
        """Some sequences with words hidden; `progress` is the share of the run that is done."""
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]  # as they are packed
        sizes = self.lengths[rows]
        ids, words = (np.concatenate(parts) for parts in zip(*map(self._read, rows), strict=True))
        chances = [chance(self.seed, epoch, int(row)) for row in rows]
        places, new = hide_all(self.rule, ids, words, sizes.tolist(), self.alphabet, chances, progress=progress)
        truth = ids[places]
        ids[places] = new
        ends = sizes.cumsum()
        texts = [Encoding(part, np.zeros_like(part)) for part in np.split(ids, ends[:-1])]
        languages = self.sequences[rows, 2][np.searchsorted(ends, places, "right")]
        return Hidden(pack(texts), *(torch.from_numpy(part) for part in (places, truth, languages)))

    def __call__(self, place: Place) -> Iterator[tuple[Place, float, Hidden]]:
        """Endless batches from a place on, each with the place after it and the epochs done by then."""
        epoch, skip = place
        while True:
            plan = self.plan(epoch)
            seen = sum(len(rows) for rows in plan[:skip])
            for number, rows in enumerate(plan[skip:], skip + 1):
                seen += len(rows)
                after = (epoch, number) if number < len(plan) else (epoch + 1, 0)
                yield after, epoch + seen / len(self.sequences), self.batch(epoch, rows)
            epoch, skip = epoch + 1, 0

    def _read(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[CLS] sequence [SEP], and word numbers, -1 for both."""
        ids, words = self.tokens.read(*self.sequences[row, :2].tolist())
        return np.concatenate([[self.first], ids, [self.last]]), np.concatenate([[-1], words, [-1]])
