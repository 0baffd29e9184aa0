"""How much syntax all heads of a model hold together: probes trained on one part of a treebank, scored on another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from regard.errors import Problem
from regard.lens.probe import PROBES, TASKS, Example, Trial, example, fit
from regard.measure.metrics import Array
from regard.measure.selection import known, shares
from regard.model.encoder import Encoder
from regard.study.relations import CHANCES, MODEL, Advance, Corpus, parted, seen, untrained
from regard.study.texts import captures
from regard.system import System

HELD = 0.25  # the share of sentences that score
READERS = ("attention", "attention and words")  # probes that read attention, and are tried on untrained weights too
CONTROL_HEADS = 3  # what a form's head may be in the control task: itself, the first word, the last


@dataclass(frozen=True, slots=True)
class _Kind:
    """One probe on one encoder."""

    probe: str
    source: str


def study(
    system: System,
    corpus: Corpus,
    *,
    seed: int = 0,
    seeds: int = 3,
    random_weights: bool = True,
    advance: Advance = lambda sentences: None,
) -> list[dict[str, Any]]:
    """A row for each probe and baseline: unlabelled attachment without punctuation on held-out sentences.

    Each is trained `seeds` times, with other first weights, another order of sentences and another control task;
    `advance` is told of every sentence read; `steps` says how many there will be.
    """
    corpus = whole(corpus)
    learn, held = parts(corpus, seed=seed)
    encoders = {MODEL: system.model.encoder}
    if random_weights:
        encoders[CHANCES[2]] = untrained(system.model.encoder, seed)
    trials: dict[tuple[_Kind, str], list[Trial]] = {}
    table = system.model.encoder.embeddings.word.detach().float()
    table = table / table.std()
    for source, encoder in encoders.items():
        for number in range(seed, seed + seeds):
            controls = control_heads(corpus, number)
            fresh = _trials(encoder, source, number)
            order = np.random.default_rng(number).permutation(learn)
            fit(list(fresh.values()), _examples(encoder, corpus, order, controls, table, advance))
            for one in _examples(encoder, corpus, held, controls, table, advance):
                for trial in fresh.values():
                    trial.score(one)
            for key, trial in fresh.items():
                trials.setdefault(key, []).append(trial)
    kinds = dict.fromkeys(kind for kind, _ in trials)
    rows = [_row(kind, trials[kind, TASKS[0]], trials[kind, TASKS[1]], seed) for kind in kinds]
    return [*rows, _right_branching(corpus, held, seed)]


def steps(corpus: Corpus, *, seeds: int) -> int:
    """How many sentences `study` reads with one set of weights."""
    return len(whole(corpus).sentences) * seeds


def parts(corpus: Corpus, *, seed: int) -> tuple[Array, Array]:
    """Numbers of the sentences that train, and of those that score, of a corpus that is `whole`."""
    learn, held = parted(corpus, (1 - HELD, HELD), seed=seed)
    if all(corpus.golds[i].punctuation.all() for i in held):
        raise Problem("The held-out sentences have no word to score, but punctuation alone. Name a larger treebank.")
    return learn, held


def whole(corpus: Corpus) -> Corpus:
    """The sentences all of whose words have tokens; for a probe a word that is not there cannot be a head."""
    kept = [place for place, e in enumerate(corpus.encodings) if seen(e) == len(corpus.golds[place].heads)]
    return replace(
        corpus,
        sentences=tuple(corpus.sentences[i] for i in kept),
        encodings=tuple(replace(corpus.encodings[i], source=place) for place, i in enumerate(kept)),
        golds=tuple(corpus.golds[i] for i in kept),
    )


def control_heads(corpus: Corpus, seed: int) -> list[Array]:
    """Heads that the form alone decides, by lot: the word itself, the first or the last (Hewitt and Liang 2019)."""
    random = np.random.default_rng(seed)
    forms = sorted({form.lower() for sentence in corpus.sentences for form in sentence.forms})
    lots = dict(zip(forms, random.integers(CONTROL_HEADS, size=len(forms)).tolist(), strict=True))
    out = []
    for sentence in corpus.sentences:
        size = len(sentence.forms)
        out.append(np.array([(j, 0, size - 1)[lots[form.lower()]] for j, form in enumerate(sentence.forms)]))
    return out


def _trials(encoder: Encoder, source: str, seed: int) -> dict[tuple[_Kind, str], Trial]:
    """Fresh probes of every kind, one for each task, from the same first weights."""
    out = {}
    config, device = encoder.config, encoder.embeddings.word.device
    for name in PROBES if source == MODEL else READERS:
        for task in TASKS:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                probe = PROBES[name](config.layers * config.heads, config.width).to(device)
            out[_Kind(name, source), task] = Trial(probe, task)
    return out


def _examples(
    encoder: Encoder, corpus: Corpus, order: Sequence[int] | Array, controls: list[Array], table: Any, advance: Advance
) -> Iterator[Example]:
    for found, encodings in captures(encoder, [corpus.encodings[i] for i in order]):
        for place, e in enumerate(encodings):
            assert e.words is not None
            yield example(
                found, place, words=e.words, gold=corpus.golds[e.source], control=controls[e.source],
                table=table, sentence=e.source,
            )  # fmt: skip
            advance(1)


def _row(kind: _Kind, trees: list[Trial], control: list[Trial], seed: int) -> dict[str, Any]:
    """Means over seeds with their deviation; the interval is of the mean, over held-out sentences."""
    real, made = ([sum(t.right.values()) / sum(t.counts.values()) for t in trials] for trials in (trees, control))
    places = list(trees[0].counts)
    hits = np.mean([[t.right[place] for place in places] for t in trees], 0)
    gaps = np.subtract(real, made)
    row = _scored(hits, np.array([trees[0].counts[place] for place in places]), seed)
    return {"probe": kind.probe, "source": kind.source, "seeds": len(trees), **row} | {
        "deviation": _deviation(real),
        "control": float(np.mean(made)),
        "control_deviation": _deviation(made),
        "selectivity": float(np.mean(gaps)),
        "selectivity_deviation": _deviation(gaps),
    }


def _right_branching(corpus: Corpus, held: Sequence[int] | Array, seed: int) -> dict[str, Any]:
    """Every word's head is the next, and the last word is the root."""
    hits, counts = [], []
    for gold in (corpus.golds[i] for i in held):
        size = len(gold.heads)
        guess = np.append(np.arange(1, size), -1)
        hits.append(int((guess == gold.heads)[~gold.punctuation].sum()))
        counts.append(int((~gold.punctuation).sum()))
    row = _scored(np.array(hits), np.array(counts), seed)
    nothing = ("deviation", "control", "control_deviation", "selectivity", "selectivity_deviation")
    return {"probe": "right-branching", "source": "no model", "seeds": 1, **row, **dict.fromkeys(nothing)}


def _scored(hits: Array, counts: Array, seed: int) -> dict[str, Any]:
    found = shares(hits[counts > 0, None], counts[counts > 0], baseline=0, seed=seed)
    return {
        "n": int(counts.sum()),
        "uas": float(found.value[0]),
        "low": known(found.low[0]),
        "high": known(found.high[0]),
    }


def _deviation(values: Sequence[float] | Array) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
