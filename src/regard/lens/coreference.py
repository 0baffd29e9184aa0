"""Heads that find antecedents: which earlier mention a mention attends to (Clark et al. 2019, section 4.3).

For each layer and head the antecedent of a mention m with head word h(m) is

    argmax A[h(m), h(c)]      over the mentions c that end before m begins and have another head word

with weights merged to words; it is right where m and c name the same entity. Scored are mentions that have such a c.
Beside the heads stand the nearest c, and the nearest c whose head word is spelt the same, wrong where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from regard.lens.capture import Capture
from regard.lens.relations import Tally, word_weights

BASELINES = ("nearest", "same head word")


@dataclass(frozen=True, slots=True)
class Mentions:
    """The mentions of one text in order; words count from 0."""

    start: NDArray[np.int64]  # (mentions,) each
    end: NDArray[np.int64]  # behind the last word
    head: NDArray[np.int64]
    entity: NDArray[np.int64]
    kind: NDArray[np.int64]  # what scores are told apart by
    form: NDArray[np.int64]  # the same number where head words are spelt the same


def add(
    tally: Tally, found: Capture, sequence: int, *, words: NDArray[np.int64], mentions: Mentions, document: int
) -> None:
    """Counts one text of a captured batch: a candidate for each layer and head, then for each of `BASELINES`.

    `words` is the word of each token, -1 for special tokens; a mention whose head word has no token is left out.
    """
    present = np.unique(words[words >= 0])
    place = np.full(int(max(mentions.head.max(initial=0), present.max(initial=0))) + 1, -1)
    place[present] = np.arange(len(present))
    seen = place[mentions.head] >= 0
    scored = []
    for m in np.flatnonzero(seen).tolist():
        earlier = np.flatnonzero(seen & (mentions.end <= mentions.start[m]) & (mentions.head != mentions.head[m]))
        same = mentions.entity[earlier] == mentions.entity[m]
        if same.any():
            scored.append((m, earlier, same))
    if not scored:
        return
    weights = torch.cat(list(word_weights(found, sequence, words)))
    right = np.zeros((len(weights) + len(BASELINES), len(scored)), dtype=bool)
    for column, (m, earlier, same) in enumerate(scored):
        row = weights[:, place[mentions.head[m]]].cpu().numpy()[:, place[mentions.head[earlier]]]
        guess = mentions.head[earlier][row.argmax(1)]
        right[:-2, column] = np.isin(guess, mentions.head[earlier[same]])
        right[-2, column] = same[-1]
        alike = same[mentions.form[earlier] == mentions.form[m]]
        right[-1, column] = bool(alike[-1:].any())
    tally.add(document, mentions.kind[[m for m, _, _ in scored]], right)
