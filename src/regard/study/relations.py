"""Which heads parse: all heads of a model against a treebank, chosen on half of its sentences, scored on the others.

What a search among so many heads finds by chance stands beside it: with the sentence's heads or relations dealt anew to
its words, and with the same model before training, its weights drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from regard.batch import Encoding
from regard.data.splits import split
from regard.data.treebank import Sentence, Treebank
from regard.errors import Problem
from regard.lens.relations import DIRECTIONS, GOLDS, Dependencies, Parsers, Tally
from regard.measure.metrics import Array
from regard.measure.selection import best, known, shares
from regard.model.encoder import Encoder, bert
from regard.study.store import Results
from regard.study.texts import captures
from regard.system import System

MODEL = "model"  # the source of a row that is no chance
ALL = "all"  # every relation together
PUNCTUATION = ("punct", "PUNCT")  # as relation, as part of speech
HALVES = (0.5, 0.5)  # shares of the sentences that choose, and that score
CHANCES = (*GOLDS[1:], "random weights")

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Sentences of a treebank that a model can read whole, as tokens and as trees."""

    sentences: tuple[Sentence, ...]
    encodings: tuple[Encoding, ...]  # the i-th has source i
    golds: tuple[Dependencies, ...]
    names: tuple[str, ...]  # of relations, by number
    said: list[str]  # what is left out, in sentences


@dataclass(frozen=True, slots=True)
class Relations(Results):
    """What a study of relations found: rows for a table, `docs/lens.md` has their columns."""

    rows: list[dict[str, Any]]
    sentences: int
    said: list[str] = field(default_factory=list)

    def best(self) -> list[dict[str, Any]]:
        """The chosen head of each relation, most frequent first, with what chance gives beside it."""
        chosen = [row for row in self.rows if row["chosen"]]
        chances = {(r["measure"], r["relation"], r["source"]): r["accuracy"] for r in chosen}
        return [
            row | {name: chances.get((row["measure"], row["relation"], name)) for name in CHANCES}
            for row in chosen
            if row["source"] == MODEL
        ]


def study(
    system: System,
    corpus: Corpus,
    *,
    seed: int = 0,
    reach: int = 5,
    random_weights: bool = True,
    advance: Advance = lambda sentences: None,
) -> Relations:
    """Scores every layer, head and direction on every relation, and every head's trees.

    Half of the sentences, equal ones together, choose the best head and the best of the offsets -`reach` to `reach`;
    the other half scores them, with intervals over its sentences.
    """
    first, _ = parted(corpus, HALVES, seed=seed)
    half = np.isin(np.arange(len(corpus.sentences)), first)
    encoder = system.model.encoder
    parsers, lost = _parsers(encoder, corpus, reach=reach, seed=seed, advance=advance)
    shape = (encoder.config.layers, encoder.config.heads)
    sources = {MODEL if name == GOLDS[0] else name: tally for name, tally in parsers.tallies.items()}
    trees = {MODEL: parsers.trees}
    if random_weights:
        fresh, _ = _parsers(untrained(encoder, seed), corpus, reach=reach, seed=seed, advance=advance)
        sources[CHANCES[2]], trees[CHANCES[2]] = fresh.tallies[GOLDS[0]], fresh.trees
    said = list(corpus.said)
    if lost:
        said.append(f"{lost} words became no token; they, and what depends on them, are not scored.")
    rows: list[dict[str, Any]] = []
    for relation in (ALL, *corpus.names):
        kind = np.array([relation in (ALL, name) for name in corpus.names])
        for source, tally in sources.items():
            found = _rows(tally, kind, half, shape, offsets=parsers.offsets, seed=seed, every=source == MODEL)
            rows += [{"measure": "accuracy", "source": source, "relation": relation, **row} for row in found]
    for source, tally in trees.items():
        found = _rows(
            tally, np.ones(1, dtype=bool), half, shape, offsets=np.array([1]), seed=seed, every=source == MODEL
        )
        rows += [{"measure": "uuas", "source": source, "relation": ALL, **row} for row in found]
    if rare := set(corpus.names) - {row["relation"] for row in rows}:
        said.append(f"Left out, for they are not in both halves: {', '.join(sorted(rare))}.")
    return Relations(rows, len(corpus.sentences), said)


def read(system: System, treebank: Treebank) -> Corpus:
    """The treebank as the model reads it; sentences that do not fit, or have no two words with tokens, are left out."""
    encodings = system.tokenizer.encode_words([s.forms for s in treebank.sentences], max_length=system.card.max_length)
    said = list(treebank.said)
    if bad := treebank.skipped:
        said.append(f"{len(bad)} sentences cannot be read; the first for line {bad[0].line}: {bad[0].reason}.")
    long = sum(e.dropped > 0 for e in encodings)
    if long:
        said.append(f"{long} sentences are longer than {system.card.max_length} tokens, and are left out.")
    kept = [i for i, e in enumerate(encodings) if not e.dropped and seen(e) > 1]
    if len(kept) < 2:
        raise Problem(
            f"{treebank.origin} has fewer than two sentences that the model can read. Name a larger treebank."
        )
    single = sum(not e.dropped and len(treebank.sentences[i].forms) == 1 for i, e in enumerate(encodings))
    if single:
        said.append(f"{single} sentences are one word, and are left out.")
    if bare := len(encodings) - long - single - len(kept):
        said.append(f"{bare} sentences have fewer than two words that become tokens, and are left out.")
    sentences = tuple(treebank.sentences[i] for i in kept)
    counted = [r for s in sentences for r, h, p in zip(s.relations, s.heads, marks(s), strict=True) if h >= 0 and not p]
    if not counted:
        raise Problem(f"{treebank.origin} has no word with a head to score, but punctuation. Name another treebank.")
    names = sorted(set(counted), key=lambda name: (-counted.count(name), name))
    number = {name: place for place, name in enumerate(names)}
    golds = tuple(
        Dependencies(np.array(s.heads), np.array([number.get(r, 0) for r in s.relations]), np.array(marks(s)))
        for s in sentences
    )
    tokens = tuple(
        Encoding(e.ids, e.segments, place, words=e.words) for place, e in enumerate(encodings[i] for i in kept)
    )
    return Corpus(sentences, tokens, golds, tuple(names), said)


def parted(corpus: Corpus, shares: tuple[float, float], *, seed: int) -> list[Array]:
    """Numbers of the sentences that choose or learn, and of those that score; equal sentences stay together."""
    texts = [" ".join(s.forms) for s in corpus.sentences]
    try:
        return list(split(len(texts), shares, seed=seed, groups=texts))
    except Problem:
        raise Problem(
            f"The treebank has too few different sentences that the model can read whole, {len(set(texts))}: some are "
            "to choose or learn, others to score. Name a treebank with more sentences, or read more of this one."
        ) from None


def seen(encoding: Encoding) -> int:
    """How many words of a sentence have a token."""
    assert encoding.words is not None
    return len(np.unique(encoding.words[encoding.words >= 0]))


def marks(sentence: Sentence) -> list[bool]:
    """Which words are punctuation, by relation or by part of speech."""
    kinds = zip(sentence.relations, sentence.tags, strict=True)
    return [relation.partition(":")[0] == PUNCTUATION[0] or tag == PUNCTUATION[1] for relation, tag in kinds]


def untrained(encoder: Encoder, seed: int) -> Encoder:
    """An encoder of the same shape whose weights are drawn at random, as before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = bert(encoder.config)
    return fresh.to(next(encoder.parameters()).device).eval()


def _parsers(encoder: Encoder, corpus: Corpus, *, reach: int, seed: int, advance: Advance) -> tuple[Parsers, int]:
    parsers, lost = Parsers(reach=reach, seed=seed), 0
    ordered = sorted(corpus.encodings, key=lambda e: len(e.ids))
    for found, encodings in captures(encoder, ordered):
        for place, e in enumerate(encodings):
            assert e.words is not None
            lost += parsers.add(found, place, sentence=e.source, words=e.words, gold=corpus.golds[e.source])
            advance(1)
    return parsers, lost


def _rows(
    tally: Tally, kind: Array, half: Array, shape: tuple[int, int], *, offsets: Array, seed: int, every: bool
) -> list[dict[str, Any]]:
    """A row for each layer, head and direction, or for the chosen one; none where a half has no item.

    The last candidates of the tally are the offsets.
    """
    (choice, items), (hits, counts) = tally.table(kind, half), tally.table(kind, ~half)
    if not len(items) or not len(counts):
        return []
    heads = hits.shape[1] - len(offsets)
    chosen, offset = best(choice[:, :heads]), heads + best(choice[:, heads:])
    wanted = range(heads) if every else [chosen]
    columns = [*wanted, offset]
    found = shares(hits[:, columns], counts, baseline=-1, seed=seed)
    directions = DIRECTIONS if heads > shape[0] * shape[1] else (None,)
    rows = []
    for place, candidate in enumerate(wanted):
        layer, head, direction = np.unravel_index(candidate, (*shape, len(directions)))
        rows.append(
            {
                "layer": int(layer),
                "head": int(head),
                "direction": directions[int(direction)],
                "chosen": candidate == chosen,
                "choice_n": int(items.sum()),
                "choice_accuracy": float(choice[:, candidate].sum() / items.sum()),
                "n": int(counts.sum()),
                "accuracy": float(found.value[place]),
                "low": known(found.low[place]),
                "high": known(found.high[place]),
                "offset": int(offsets[offset - heads]),
                "offset_accuracy": float(found.value[-1]),
                "offset_low": known(found.low[-1]),
                "offset_high": known(found.high[-1]),
                "gain": float(found.gain[place]),
                "gain_low": known(found.gain_low[place]),
                "gain_high": known(found.gain_high[place]),
            }
        )
    return rows
