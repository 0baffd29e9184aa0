"""How well replaced tokens are detected, by language: those a generator puts into passages, and all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Hidden
from regard.data.masking import Masking
from regard.data.passages import Passage
from regard.data.pretraining import frame
from regard.errors import Problem
from regard.eval.words import blanked, by_language, check, hidden
from regard.measure.scores import Score, share_of_documents
from regard.model.heads import Model, at_rest
from regard.system import room
from regard.text.tokenizer import Tokenizer
from regard.train.objectives import deceived


def detected(
    discriminator: Model,
    generator: Model,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    *,
    unit: str = "token",
    rate: float = 0.15,
    seed: int = 0,
) -> dict[str, Score]:
    """The shares of replaced and of original tokens that are taken for what they are; intervals resample documents.

    One alone says little: who takes all tokens for original ones is right of nine in ten. Hidden from the generator is
    what `eval.words.guesses` hides of the passages; its words are drawn by the seed, the same on each call. Both models
    are left as they were found. Raises `Problem` for a discriminator without a head that detects, for a generator that
    guesses no words, and for passages longer than it reads.
    """
    if discriminator.detector is None:
        raise Problem(
            "This model has no head that detects replaced tokens. Pre-train one with train.objective=replaced."
        )
    check(generator, max((len(p.encoding.ids) for p in passages), default=0))
    first, last, alphabet = frame(tokenizer)
    encodings, device = [p.encoding for p in passages], next(discriminator.parameters()).device
    places = hidden(encodings, alphabet, Masking(rate, unit, 1.0, 0.0, 0.0), seed=seed)
    chance = torch.Generator(device).manual_seed(seed)  # none of the training's own
    table = np.zeros((len(passages), 4))  # replaced tokens, and those found; original ones, and those left as they are
    with at_rest(discriminator), at_rest(generator):
        for rows, packed, at, truth in blanked(encodings, places, alphabet.mask, room(device)):
            batch = Hidden(packed, at, truth, torch.zeros_like(at), torch.full((len(rows),), -1)).to(device)
            states = generator.encoder.at(batch.packed, batch.places)
            assert generator.words is not None
            drawn = generator.words.sample(states, generator.encoder.embeddings.word, chance=chance)
            shown, replaced, plain = deceived(batch, drawn, (first, last))
            said = discriminator.detector(discriminator.encoder.at(shown, plain)) > 0
            owners = rows[np.repeat(np.arange(len(rows)), packed.lengths)[plain.cpu().numpy()]]
            wrong = replaced[plain]
            facts = torch.stack([wrong, wrong & said, ~wrong, ~wrong & ~said], 1).cpu().numpy()
            np.add.at(table, owners, facts)
    found: dict[str, Score] = {}
    for language, _, (own,) in by_language(passages, table):
        found |= _scored(language, own, seed)
    return found


def _scored(language: str, table: NDArray[np.float64], seed: int) -> dict[str, Score]:
    """The two shares of a language, but for one that has no such token."""
    found = {}
    for name, column in (("replaced", 0), ("original", 2)):
        if table[:, column].any():
            own = table[:, column : column + 2]
            score = share_of_documents(f"accuracy of {name} tokens", own, seed=seed)
            found[f"{name} tokens in {language}"] = score
    return found
