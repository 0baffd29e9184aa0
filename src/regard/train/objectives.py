"""Objectives: (model, batch) -> (loss, log).

A training method is a function from objective to objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.batch import Batch, Hidden
from regard.model.heads import Model
from regard.model.pooling import First

Objective = Callable[[Any, Any], tuple[Tensor, dict[str, float]]]  # of the models and batches that it is made for


class OfPlaces(Protocol):
    """An objective that asks the last layer for hidden places alone.

    `states` (hidden, width) are its rows where they are at hand, so that what else is asked of the batch needs no pass
    of its own.
    """

    def __call__(self, model: Model, batch: Hidden, states: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """The loss and the log."""


def _logits(model: Model, batch: Batch) -> Tensor:
    logits: Tensor | None = model(batch.packed, hidden=False).logits
    if logits is None:
        raise ValueError("this objective needs a model with a head")
    return logits


def classify(model: Model, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of one class of several: -log softmax(z)_y, in nats."""
    return F.cross_entropy(_logits(model, batch), batch.labels), {}


def multilabel(model: Model, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Mean binary cross-entropy over independent labels, in nats."""
    return F.binary_cross_entropy_with_logits(_logits(model, batch), batch.labels.float()), {}


def regress(model: Model, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Mean squared error, in squared units of the label."""
    return F.mse_loss(_logits(model, batch).squeeze(-1), batch.labels.float()), {}


def masked_words(languages: Sequence[str]) -> OfPlaces:
    """Mean of -log softmax(z_i)_(x_i) over hidden places i, in nats (Devlin et al. 2019); logs accuracy by language."""

    def objective(model: Model, batch: Hidden, states: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        if model.words is None:
            raise ValueError("this objective needs a model with a head for hidden words")
        if states is None:
            states = model.encoder.at(batch.packed, batch.places)
        total, _, right = model.words.loss(states, model.encoder.embeddings.word, batch.truth)
        log = {}
        for number, language in enumerate(languages):
            own = right[batch.languages == number]
            if len(own):
                log[f"accuracy_{language}"] = own.float().mean().item()
        return total / max(1, len(batch.places)), log

    return objective


def with_pairs(objective: OfPlaces) -> Objective:
    """Adds the mean of -log softmax(z)_y over pairs, in nats (Devlin et al. 2019; Lan et al. 2020); logs accuracy.

    z are the logits of the first token, out of the same pass as the states of hidden places; y is 0 for a true pair and
    1 for none, and texts of one part, labelled -1, do not count.
    """

    def both(model: Model, batch: Hidden) -> tuple[Tensor, dict[str, float]]:
        if model.pairs is None or not isinstance(model.pooling, First):
            raise ValueError("this objective needs a model with a head for pairs on its first token")
        firsts = batch.packed.bounds[:-1].long()
        states = model.encoder.at(batch.packed, torch.cat([batch.places, firsts]))
        hidden, first = states.split([len(batch.places), len(firsts)])
        loss, log = objective(model, batch, hidden)
        asked = batch.pairs >= 0
        logits, truth = model.pairs(model.pooling.of_firsts(first, batch.packed))[asked], batch.pairs[asked]
        if len(truth):
            log = log | {"accuracy_pairs": (logits.argmax(-1) == truth).float().mean().item()}
        return loss + F.cross_entropy(logits, truth, reduction="sum") / max(1, len(truth)), log

    return both


OBJECTIVES: dict[str, Objective] = {"classify": classify, "multilabel": multilabel, "regress": regress}
