"""Heads as parsers: each predicts what every word depends on (Clark et al. 2019, section 4.2; Voita et al. 2019).

For each layer, head and direction a word's predicted head is

    to the head      argmax_{i != j} A[j, i]      the dependent j attends to its head
    from the head    argmax_{i != j} A[i, j]      the head attends to its dependent

over the other words of the sentence: special tokens and the word itself are removed, and weights are merged to words.
The root, whose head is no word, and punctuation are not scored; punctuation may be predicted, as any word. Beside them
stand fixed offsets, head(j) = j + k. Only one batch's queries, keys and log-sum-exps are held at a time, and of the
weights a few layers of one sentence; what is kept are counts by sentence and relation, for texts are resampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.lens.capture import ROOM, Capture
from regard.lens.words import merged, units
from regard.measure.metrics import Array

DIRECTIONS = ("to the head", "from the head")
GOLDS = ("true", "shuffled heads", "shuffled relations")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What depends on what in one sentence; words count from 0."""

    heads: NDArray[np.int64]  # (words,) the word that each depends on; -1 for none: the root has no head among words
    relations: NDArray[np.int64]  # (words,) numbers of the relations' names
    punctuation: NDArray[np.bool_]  # (words,)

    def of(self, words: NDArray[np.int64]) -> Dependencies:
        """The same among some words only, ascending; a word whose head is not among them has none."""
        place = np.full(len(self.heads) + 1, -1)  # the last is that of -1
        place[words] = np.arange(len(words))
        return Dependencies(place[self.heads[words]], self.relations[words], self.punctuation[words])


@dataclass(slots=True)
class Tally:
    """How often each candidate was right, for each sentence and relation that occurs in it."""

    sentence: list[NDArray[np.int64]] = field(default_factory=list)
    relation: list[NDArray[np.int64]] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    hits: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, sentence: int, relations: Array, right: Array) -> None:
        """One sentence: the relation of each word (words,), and where each candidate is right (candidates, words)."""
        kinds, which = np.unique(relations, return_inverse=True)
        one = which[:, None] == np.arange(len(kinds))
        self.sentence.append(np.full(len(kinds), sentence))
        self.relation.append(kinds)
        self.counts.append(one.sum(0))
        self.hits.append((right.astype(np.float32) @ one.astype(np.float32)).T.astype(np.int16))

    def table(self, relations: Array, sentences: Array) -> tuple[Array, Array]:
        """Hits (texts, candidates) and counts (texts,) of some relations together, in those of some sentences with any.

        `relations` and `sentences` are true or false for each number.
        """
        sentence, relation = np.concatenate(self.sentence), np.concatenate(self.relation)
        rows = np.flatnonzero(relations[relation] & sentences[sentence])
        texts, which = np.unique(sentence[rows], return_inverse=True)
        hits = np.zeros((len(texts), self.hits[0].shape[1]), dtype=np.int64)
        counts = np.zeros(len(texts), dtype=np.int64)
        np.add.at(hits, which, np.concatenate(self.hits)[rows])
        np.add.at(counts, which, np.concatenate(self.counts)[rows])
        return hits, counts


class Parsers:
    """All heads of a model as parsers, given sentence after sentence.

    `tallies` has a candidate for each layer, head and direction, in this order, then for each of `offsets`; one tally
    holds the heads to the true trees, the others to trees that tell what a search among so many finds by chance: the
    sentence's heads dealt anew to its words, or its relations. `trees` has a candidate for each layer and head, and one
    for the chain of neighbours: edges of the maximum spanning tree over A o A^T (Ravishankar et al. 2021), undirected,
    among the words that are no punctuation (Hewitt and Manning 2019).
    """

    def __init__(self, *, reach: int = 5, seed: int = 0) -> None:
        self.offsets = np.array([k for k in range(-reach, reach + 1) if k])
        self.tallies = {name: Tally() for name in GOLDS}
        self.trees = Tally()
        self._seed = seed

    def add(self, found: Capture, sequence: int, *, sentence: int, words: NDArray[np.int64], gold: Dependencies) -> int:
        """One sentence of a captured batch; returns how many words it has that no token stands for.

        `sentence` is its number, `words` the word of each token, -1 for special tokens.
        """
        present = np.unique(words[words >= 0])
        lost = len(gold.heads) - len(present)
        if not len(present):
            return lost
        seen = gold.of(present)
        kept = np.flatnonzero(~seen.punctuation)
        guesses, trees = [], []
        for weights in word_weights(found, sequence, words):
            guesses.append(predicted(weights))
            trees.append(spanning((weights * weights.mT)[:, kept][:, :, kept]))
        self._compare(sentence, torch.cat(guesses).flatten(0, 1).cpu().numpy(), seen)
        self._measure(sentence, torch.cat(trees).cpu().numpy(), seen.of(kept))
        return lost

    def _compare(self, sentence: int, guesses: Array, gold: Dependencies) -> None:
        places = np.arange(len(gold.heads))
        guesses = np.concatenate([guesses, places + self.offsets[:, None]])
        counted = (gold.heads >= 0) & ~gold.punctuation
        heads, relations, guesses = gold.heads[counted], gold.relations[counted], guesses[:, counted]
        random = np.random.default_rng((self._seed, sentence))
        golds = ((heads, relations), (random.permutation(heads), relations), (heads, random.permutation(relations)))
        for name, (above, kinds) in zip(GOLDS, golds, strict=True):
            self.tallies[name].add(sentence, kinds, guesses == above)

    def _measure(self, sentence: int, parents: Array, gold: Dependencies) -> None:
        chain = np.arange(len(gold.heads)) - 1
        parents = np.concatenate([parents, chain[None]])
        below = np.flatnonzero(gold.heads >= 0)
        above = gold.heads[below]
        right = (parents[:, below] == above) | (parents[:, above] == below)
        self.trees.add(sentence, np.zeros_like(below), right)


def word_weights(found: Capture, sequence: int, words: NDArray[np.int64], *, special: bool = False) -> Iterator[Tensor]:
    """Weights between the words of one sentence, so many layers at once that few are held: (layers x heads, W, W).

    With `special`, special tokens keep their places among the words; without, rows no longer sum to one.
    """
    of = units(words)
    kept = np.unique(of[(words >= 0) | special])
    heads = found.part(found.layers[0], "lse", sequence).shape[1]
    step = max(1, ROOM // (heads * len(words) ** 2))
    for start in range(0, len(found.layers), step):
        weights = torch.cat([found.weights(layer, sequence) for layer in found.layers[start : start + step]])
        yield merged(weights, of)[:, kept][:, :, kept]


def predicted(weights: Tensor) -> Tensor:
    """The head that each word gets from each attention head, in both directions: (heads, W, W) -> (heads, 2, W)."""
    itself = torch.eye(weights.shape[-1], dtype=torch.bool, device=weights.device)
    others = weights.masked_fill(itself, -torch.inf)
    return torch.stack([others.argmax(-1), others.argmax(-2)], 1)


def spanning(weights: Tensor) -> Tensor:
    """Maximum spanning trees of symmetric weights (Prim 1957), all at once: (trees, W, W) -> parents (trees, W).

    A tree grows from word 0, whose parent is -1; another word's parent is the one it was joined to.
    """
    trees, size, _ = weights.shape
    every = torch.arange(trees, device=weights.device)
    parents = torch.zeros(trees, size, dtype=torch.long, device=weights.device)
    outside = torch.ones(trees, size, dtype=torch.bool, device=weights.device)
    outside[:, :1], parents[:, :1] = False, -1
    closest = weights[:, 0].clone() if size else weights.new_zeros(trees, 0)
    for _ in range(size - 1):
        joined = closest.masked_fill(~outside, -torch.inf).argmax(1)
        outside[every, joined] = False
        reach = weights[every, joined]
        nearer = outside & (reach > closest)
        closest = torch.where(nearer, reach, closest)
        parents = torch.where(nearer, joined.unsqueeze(1), parents)
    return parents
