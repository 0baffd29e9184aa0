"""Objectives: (model, batch) -> (loss, log).

A training method is a function from objective to objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from regard.batch import Batch, Hidden
from regard.model.heads import Model

Objective = Callable[[Model, Any], tuple[Tensor, dict[str, float]]]  # of the batches that it is made for


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


def masked_words(languages: Sequence[str]) -> Objective:
    """Mean of -log softmax(z_i)_(x_i) over hidden places i, in nats (Devlin et al. 2019); logs accuracy by language."""

    def objective(model: Model, batch: Hidden) -> tuple[Tensor, dict[str, float]]:
        if model.words is None:
            raise ValueError("this objective needs a model with a head for hidden words")
        states = model.encoder.at(batch.packed, batch.places)
        total, _, right = model.words.loss(states, model.encoder.embeddings.word, batch.truth)
        log = {}
        for number, language in enumerate(languages):
            own = right[batch.languages == number]
            if len(own):
                log[f"accuracy_{language}"] = own.float().mean().item()
        return total / max(1, len(batch.places)), log

    return objective


OBJECTIVES: dict[str, Objective] = {"classify": classify, "multilabel": multilabel, "regress": regress}
