"""How well a model tells pairs of sentences from what is no pair, by language."""

from __future__ import annotations

import numpy as np

from regard.data.packing import cut
from regard.data.pairs import Pairs
from regard.data.passages import drawn
from regard.errors import Problem
from regard.measure.resample import wilson
from regard.measure.scores import Score
from regard.model.heads import Model, at_rest
from regard.system import BATCH_TOKENS


def told_apart(model: Model, pairs: Pairs, *, most: int, seed: int = 0) -> dict[str, Score]:
    """The share of pairs that are taken for what they are, with Wilson's interval; half of them are true.

    Of each language sequences are drawn by the seed until they have `most` tokens or just more. The model sees them as
    they come in the first epoch of `pairs`, and is left as it was found. A language is left out where all its pairs are
    true ones. Raises `Problem` for a model that has no head for pairs.
    """
    if model.pairs is None:
        raise Problem("This model has no head that tells pairs of sentences. Pre-train one with text.pairs=order.")
    device, found = next(model.parameters()).device, {}
    rows = drawn(pairs.lengths, pairs.languages, most, seed)
    with at_rest(model):
        for number, language in enumerate(pairs.tokens.languages):
            own = rows[pairs.languages[rows] == number]
            truth, guesses = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
            for span in cut(pairs.lengths[own].tolist(), BATCH_TOKENS):
                batch = pairs.batch(0, own[span])
                pooled = model(batch.packed.to(device), hidden=False).pooled
                truth.append(batch.pairs.numpy())
                guesses.append(model.pairs(pooled).argmax(-1).cpu().numpy())
            labels, said = np.concatenate(truth), np.concatenate(guesses)
            if (labels == 1).any():
                right = int((said == labels).sum())
                asked = int((labels >= 0).sum())
                found[language] = Score("accuracy of pairs", right / asked, *wilson(right, asked), asked)
    return found
