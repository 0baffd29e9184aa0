"""What is to be explained: one output of each sequence, and the tokens that its pooled vector is made of.

A method of attribution is a function

    method(model, packed, target) -> [scores of sequence 0, scores of sequence 1, ...]

`target` (sequences,) says which output of each sequence is to be explained; sequences stand in the caller's order, and
scores are (S,) float32, the larger the more a token speaks for that output. Methods that look at attention alone ask
only which tokens are pooled: they give the same scores for every output.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from regard.batch import Output, Packed
from regard.errors import Problem
from regard.lens.capture import Capture, spans
from regard.model.heads import Model
from regard.model.pooling import First, Max

Attribution = Callable[[Model, Packed, Tensor], list[Tensor]]


def chosen(output: Output, target: Tensor) -> Tensor:
    """The logits that are to be explained: (sequences,)."""
    if output.logits is None:
        raise Problem(
            "This model has no head, so there is no answer to explain. Train one: regard train --model ... --data ..., "
            "or take a method that looks at attention alone, such as rollout."
        )
    return output.logits.gather(1, target[:, None]).squeeze(1)


def start(model: Model, found: Capture, sequence: int) -> Tensor:
    """The share of each token of one sequence in its pooled vector: (S,), adding to 1.

    The first token alone, 1 / S for each token where the mean is pooled, and for the maximum the share of columns that
    each token wins. Attention that is traced from the top to the tokens starts here.
    `found` has watched `output` of the last layer.
    """
    last = model.encoder.config.layers - 1
    hidden = found.trace.values[f"layer.{last}.output"][found.spans[sequence]]
    size, width = hidden.shape
    if isinstance(model.pooling, First):
        return torch.eye(1, size, device=hidden.device)[0]
    if isinstance(model.pooling, Max):
        return torch.bincount(hidden.argmax(0), minlength=size).float() / width
    return torch.full((size,), 1 / size, device=hidden.device)


def by_sequence(rows: Tensor, packed: Packed) -> list[Tensor]:
    """The rows of tokens, packed, as one tensor for each sequence in the caller's order."""
    return [rows[span] for span in spans(packed)]
