"""Pairs to pre-train on: sequences in two parts, of which half are no true pairs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from regard.data.pretraining import HiddenWords, Text
from regard.data.tokens import SENTENCE
from regard.errors import Problem

Span = tuple[int, int]  # where a part begins and ends in the corpus


class Pairs(HiddenWords):
    """Sequences of two parts, [CLS] A [SEP] B [SEP], with words hidden in both.

    A sequence is parted where one of its sentences begins, which one by lot, and by another lot half of the pairs are
    made false ones, with label 1. Both lots are the sequence's own, as that of hidden words. A sequence of one sentence
    is read as one text, without a label. Raises `Problem` where that is all there are.
    """

    specials = 3

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        starts, ends = self.sequences[:, :2].T
        sentences = np.flatnonzero(self.tokens.marks & SENTENCE)
        owners = np.searchsorted(starts, sentences, "right") - 1
        inside = (owners >= 0) & (sentences > starts[owners]) & (sentences < ends[owners])
        # Where sequences can be parted, one sequence after another; whose each place is; and where each one's begin.
        self.cuts, self.owners = sentences[inside], owners[inside]
        self.offsets = np.searchsorted(self.owners, np.arange(len(starts) + 1))
        self.lengths += np.diff(self.offsets) > 0
        if not len(self.cuts):
            raise Problem(
                "No sequence holds two sentences, so there are no pairs to learn from. Give longer documents, raise "
                "text.length, or set text.pairs=none."
            )

    def read(self, row: int, chance: np.random.Generator) -> Text:
        """A sequence in two parts, where it has two sentences."""
        first, past = self.offsets[row : row + 2].tolist()
        if first == past:
            return super().read(row, chance)
        place, fate, lot = chance.random(3).tolist()
        number = first + int(place * (past - first))
        false = self.false(number, lot) if fate < 0.5 else None
        return self.framed(*(false or self.true(number)), label=int(false is not None))

    def true(self, number: int) -> tuple[Span, Span]:
        """The two parts of a sequence at one of `cuts`."""
        start, end, _ = self.sequences[self.owners[number]].tolist()
        return (start, int(self.cuts[number])), (int(self.cuts[number]), end)

    @abstractmethod
    def false(self, number: int, lot: float) -> tuple[Span, Span] | None:
        """Two parts that are no true pair, no longer than those at one of `cuts`, or None; `lot` is from 0 to 1."""


class SentenceOrder(Pairs):
    """Pairs of which half are swapped (Lan et al. 2020)."""

    def false(self, number: int, lot: float) -> tuple[Span, Span]:
        """The two parts the other way round."""
        first, second = self.true(number)
        return second, first


class NextSentence(Pairs):
    """Pairs of which half have a second part from another document of the same language (Devlin et al. 2019).

    It is drawn among the second parts that are just as long, each as often as it is one in a true pair: so neither a
    part's length nor a second part by itself tells anything. Where no other document has one, as in small corpora, it
    is of the next length below; where there is no other document at all, the pair stays true. Raises
    `Problem` where that is so of every language.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        _, ends, documents = self.sequences[self.owners].T
        if not (np.bincount(self.tokens.documents[np.unique(documents), 1]) > 1).any():
            raise Problem(
                "Of no language are there two documents, so no second part is of another one. In files of text an "
                "empty line ends a document; text.document=line makes each line one. Or set text.pairs=order."
            )
        keys = self._key(self.languages[self.owners], ends - self.cuts, documents)
        self.ranks = np.argsort(keys, kind="stable")
        self.keys = keys[self.ranks]
        shares = self.times[self.owners] / np.diff(self.offsets)[self.owners]
        self.shares = np.concatenate([[0.0], shares[self.ranks].cumsum()])  # how often each comes, added up

    def false(self, number: int, lot: float) -> tuple[Span, Span] | None:
        """The first part, and a second one of another document."""
        first, (start, end) = self.true(number)
        language, document = self.languages[self.owners[number]], self.sequences[self.owners[number], 2]
        for length in range(end - start, 0, -1):
            rank = self._other(language, length, document, lot)
            if rank is not None:
                return first, self.true(int(self.ranks[rank]))[1]
        return None

    def _other(self, language: int, length: int, document: int, lot: float) -> int | None:
        """The rank of a second part of this length that another document has, by lot."""
        begin, own = self._key(language, length, 0), self._key(language, length, document)
        # Parts of a length stand together, and among them those of a document.
        edges = np.searchsorted(self.keys, [begin, own, own + 1, begin + len(self.tokens.documents)])
        sums = self.shares[edges]
        before, after = sums[1] - sums[0], sums[3] - sums[2]
        if not before + after > 0:
            return None
        lot *= before + after
        sum_, last = (sums[0] + lot, edges[1]) if lot < before else (sums[2] + lot - before, edges[3])
        # Rounding may not lead out of the parts that are asked for.
        return int(min(np.searchsorted(self.shares, sum_, "right"), last) - 1)

    def _key(self, languages: Any, lengths: Any, documents: Any) -> Any:
        """Orders second parts by language, length and document."""
        return (languages * int(self.lengths.max()) + lengths) * len(self.tokens.documents) + documents


READERS: dict[str, type[HiddenWords]] = {"none": HiddenWords, "next": NextSentence, "order": SentenceOrder}
