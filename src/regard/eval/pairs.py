"""How well a model tells pairs of sentences from what is no pair, by language."""

from __future__ import annotations

import numpy as np
import torch

from regard.data.packing import cut
from regard.data.pairs import Pairs
from regard.data.passages import drawn
from regard.errors import Problem
from regard.measure.scores import Score, share_of_documents
from regard.model.heads import Model, at_rest
from regard.system import room


def told_apart(model: Model, pairs: Pairs, *, most: int, seed: int = 0) -> dict[str, Score]:
    """The share of pairs that are taken for what they are, half of them true ones; intervals by resampling documents.

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
            table, false = np.zeros((len(pairs.tokens.documents), 2)), False  # pairs of a document, and those told
            for span in cut(pairs.lengths[own].tolist(), room(device)):
                read = pairs.texts(0, own[span])
                batch = pairs.hidden(*read)
                said = model.pairs(model(batch.packed.to(device), hidden=False).pooled).argmax(-1).cpu()
                facts = torch.stack([batch.pairs >= 0, said == batch.pairs], 1).numpy()
                np.add.at(table, pairs.sequences[read[0], 2], facts)
                false |= bool((batch.pairs == 1).any())
            if false:
                found[language] = share_of_documents("accuracy of pairs", table[table[:, 0] > 0], seed=seed)
    return found
