"""Objectives: (model, batch) -> (loss, log).

The log's values are tensors, so that no batch waits for a GPU, but for `with_detection`, which asks for plain tokens.
A training method is a function from objective to objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.batch import Batch, Hidden, Packed
from regard.model.electra import Electra
from regard.model.heads import Model
from regard.model.pooling import First

Objective = Callable[[Any, Any], tuple[Tensor, dict[str, Tensor]]]  # of the models and batches that it is made for


class OfPlaces(Protocol):
    """An objective that asks the last layer for hidden places alone.

    `states` (hidden, width) are its rows where they are at hand, so that what else is asked of the batch needs no pass
    of its own.
    """

    def __call__(self, model: Model, batch: Hidden, states: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the log."""


def _logits(model: Model, batch: Batch) -> Tensor:
    logits: Tensor | None = model(batch.packed, hidden=False).logits
    if logits is None:
        raise ValueError("this objective needs a model with a head")
    return logits


def classify(model: Model, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of one class of several: -log softmax(z)_y, in nats."""
    return F.cross_entropy(_logits(model, batch), batch.labels), {}


def multilabel(model: Model, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean binary cross-entropy over independent labels, in nats."""
    return F.binary_cross_entropy_with_logits(_logits(model, batch), batch.labels.float()), {}


def regress(model: Model, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared error, in squared units of the label."""
    return F.mse_loss(_logits(model, batch).squeeze(-1), batch.labels.float()), {}


def masked_words(languages: Sequence[str]) -> OfPlaces:
    """Mean of -log softmax(z_i)_(x_i) over hidden places i, in nats (Devlin et al. 2019); logs accuracy by language."""

    def objective(model: Model, batch: Hidden, states: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        if model.words is None:
            raise ValueError("this objective needs a model with a head for hidden words")
        if states is None:
            states = model.encoder.at(batch.packed, batch.places)
        total, _, right = model.words.loss(states, model.encoder.embeddings.word, batch.truth)
        owners = {language: batch.languages == number for number, language in enumerate(languages)}
        log = {f"accuracy_{language}": _share(right, own) for language, own in owners.items()}
        return total / max(1, len(batch.places)), log

    return objective


def with_pairs(objective: OfPlaces) -> Objective:
    """Adds the mean of -log softmax(z)_y over pairs, in nats (Devlin et al. 2019; Lan et al. 2020); logs accuracy.

    z are the logits of the first token, out of the same pass as the states of hidden places; y is 0 for a true pair and
    1 for none, and texts of one part, labelled -1, do not count.
    """

    def both(model: Model, batch: Hidden) -> tuple[Tensor, dict[str, Tensor]]:
        if model.pairs is None or not isinstance(model.pooling, First):
            raise ValueError("this objective needs a model with a head for pairs on its first token")
        firsts = batch.packed.bounds[:-1].long()
        states = model.encoder.at(batch.packed, torch.cat([batch.places, firsts]))
        hidden, first = states.split([len(batch.places), len(firsts)])
        loss, log = objective(model, batch, hidden)
        logits, asked = model.pairs(model.pooling.of_firsts(first, batch.packed)), batch.pairs >= 0
        log = log | {"accuracy_pairs": _share(logits.argmax(-1) == batch.pairs, asked)}
        total = F.cross_entropy(logits, batch.pairs, ignore_index=-1, reduction="sum")
        return loss + total / asked.sum().clamp(min=1), log

    return both


def with_detection(objective: OfPlaces, *, special: Sequence[int], weight: float = 50.0) -> Objective:
    """From the objective of a generator to that of a generator and a discriminator: L_G + weight L_D, in nats.

    L_D is the mean over tokens of -log sigmoid(z_t) where the generator's word is wrong, and of -log(1 - sigmoid(z_t))
    elsewhere, `special` ids aside (Clark et al. 2020, who count these too). No gradient goes through the words that are
    drawn. Logs the share of tokens taken for what they are, of replaced and of original ones.
    """

    def both(model: Electra, batch: Hidden) -> tuple[Tensor, dict[str, Tensor]]:
        generator, discriminator = model.generator, model.discriminator
        if generator.words is None or discriminator.detector is None:
            raise ValueError("this objective needs a generator of words and a discriminator with a detector")
        states = generator.encoder.at(batch.packed, batch.places)
        loss, log = objective(generator, batch, states)
        drawn = generator.words.sample(states, generator.encoder.embeddings.word)
        shown, replaced, plain = deceived(batch, drawn, special)
        logits, truth = discriminator.detector(discriminator.encoder.at(shown, plain)), replaced[plain]
        right = (logits > 0) == truth
        log = log | {"accuracy_replaced": _share(right, truth), "accuracy_original": _share(right, ~truth)}
        detection = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="sum") / max(1, len(plain))
        return loss + weight * detection, log

    return both


def deceived(batch: Hidden, drawn: Tensor, special: Sequence[int]) -> tuple[Packed, Tensor, Tensor]:
    """A batch with other words, (hidden,), at its hidden places; which tokens are wrong now; and which are not special.

    (tokens,) bool and (plain tokens,) int64.
    """
    ids = batch.packed.ids.clone()
    ids[batch.places] = batch.truth
    plain = torch.stack([ids != number for number in special]).all(0).nonzero().squeeze(1)
    shown = ids.index_copy(0, batch.places, drawn)
    return replace(batch.packed, ids=shown), shown != ids, plain


def _share(right: Tensor, own: Tensor) -> Tensor:
    """How much of its own is right; nan where it has nothing."""
    return (right & own).sum() / own.sum()


OBJECTIVES: dict[str, Objective] = {"classify": classify, "multilabel": multilabel, "regress": regress}
