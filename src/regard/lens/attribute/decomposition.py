"""Every vector of the model as a sum of what came from each token, down to the logit: DecompX, Modarressi et al. 2023.

x_i = sum_k x_(i<-k). Linear maps act on the parts; a normalisation divides them all by the deviation of their sum; an
activation a(z) multiplies them by its slope from zero, a(z) / z; a bias b is shared out among the parts in the measure
of |b . x_(i<-k)|. The parts of a logit add to the logit.

One layer holds S x S x width parts, and three of these at once: a text for which that is more than LIMIT numbers each
is a `Problem`. Rows of receiving tokens go through the feed-forward part some at a time, and where the first token is
pooled only its row goes through the last layer. Time O(L S^2 (S + inner_width) width).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.lens.attribute.target import chosen
from regard.lens.capture import Capture, capture
from regard.model.heads import Model
from regard.model.linear import ACTIVATIONS, Linear
from regard.model.pooling import First, Max

LIMIT = 2**26  # numbers that the parts of one layer may have: 256 MB, three times
ROOM = 2**23  # numbers inside the feed-forward part at a time


def decompose(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """What of the logit came from each token, vectors followed through every layer (DecompX, Modarressi et al. 2023).

    Scores add to the logit.
    """
    config = model.encoder.config
    if max(packed.lengths) ** 2 * config.width > LIMIT:
        raise Problem(
            f"A text has {max(packed.lengths)} tokens, and decompx, which holds {LIMIT:,} numbers at most, takes up to "
            f"{int((LIMIT / config.width) ** 0.5)} of this model. Use another method, such as relevance, or a shorter "
            "text."
        )
    with torch.no_grad():
        chosen(model(packed, hidden=False), target)  # says at once where there is no head
        found = capture(model.encoder, packed, more=("output",))
        words = model.encoder.embeddings(packed)
        return [_decomposed(model, found, i, words[span], int(target[i])) for i, span in enumerate(found.spans)]


def logit_gap(model: Model, packed: Packed, target: Tensor, scores: list[Tensor]) -> Tensor:
    """How far the parts miss the logit, by rounding alone: (sequences,)."""
    with torch.no_grad():
        return chosen(model(packed, hidden=False), target) - torch.stack([score.sum() for score in scores])


def _decomposed(model: Model, found: Capture, sequence: int, words: Tensor, target: int) -> Tensor:
    """The parts of one sequence's logit: (S,)."""
    parts = torch.diag_embed(words.T).permute(1, 2, 0).contiguous()  # (S to, S from, width): each from itself alone
    for layer, block in enumerate(model.encoder.blocks):
        last = layer == len(model.encoder.blocks) - 1
        rows = 1 if last and isinstance(model.pooling, First) else len(words)
        parts = _through_layer(block, parts, found, layer, sequence, rows)
    pooled = _pooled(model, parts)
    assert model.head is not None
    weight, bias = model.head.linear.weight[target].float(), model.head.linear.bias[target].float()
    logit = (pooled @ weight).unsqueeze(-1)  # (S, 1)
    return with_bias(logit, bias[None]).squeeze(-1)


def _through_layer(block: Any, parts: Tensor, found: Capture, layer: int, sequence: int, rows: int) -> Tensor:
    """The parts of the first so many tokens after one layer: (S, S, width) -> (rows, S, width)."""
    attention, feedforward = block.attention.part, block.feedforward.part
    width, size = parts.shape[-1], len(parts)
    joint, output = attention.joint, attention.output
    heads = attention.heads
    value = parts @ joint.weight[2 * width :].float().T  # (S, S, width): what each token puts forward, without its bias
    value = value.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3).flatten(2)  # (heads, S, S d)
    # Weights of a row add to 1, so that the values' bias arrives whole, and is one with the output's.
    bias = output.bias.float() + output.weight.float() @ joint.bias[2 * width :].float()
    step = max(1, ROOM // (size * feedforward.inner.weight.shape[0]))
    out = []
    for start in range(0, rows, step):
        some = slice(start, min(rows, start + step))
        weights = found.weights(layer, sequence, queries=some)
        mixed = (weights @ value).unflatten(2, (size, -1)).permute(1, 2, 0, 3).flatten(2)  # (rows, S, width)
        x = with_bias(mixed @ output.weight.float().T + parts[some], bias)
        x = normalised(x, block.attention.norm)
        x = normalised(x + through(through(x, feedforward.inner), feedforward.output), block.feedforward.norm)
        out.append(x)
    return torch.cat(out)


def _pooled(model: Model, parts: Tensor) -> Tensor:
    """The parts of the pooled vector: (rows, S, width) -> (S, width)."""
    if isinstance(model.pooling, First):
        dense = model.pooling.dense
        return through(parts[0], dense) if isinstance(dense, Linear) else parts[0]
    if isinstance(model.pooling, Max):
        winner = parts.sum(1).argmax(0)  # (width,)
        return parts.gather(0, winner.expand(1, parts.shape[1], -1)).squeeze(0)
    return parts.mean(0)


def through(parts: Tensor, part: Linear) -> Tensor:
    """Parts through a linear map, its bias and its activation: (..., S, inputs) -> (..., S, outputs)."""
    parts = with_bias(parts @ part.weight.float().T, part.bias.float())
    if part.activation is None:
        return parts
    whole = parts.sum(-2, keepdim=True)
    # Next to zero the slope from zero is taken at one side of it, for there it would be 0 / 0.
    whole = torch.where(whole.abs() < 1e-6, torch.full_like(whole, 1e-6), whole)
    return parts * (ACTIVATIONS[part.activation](whole) / whole)


def normalised(parts: Tensor, norm: Any) -> Tensor:
    """Parts through a layer normalisation: centred, divided by the deviation of their sum, scaled, biased."""
    whole = parts.sum(-2, keepdim=True)
    deviation = torch.sqrt(whole.var(-1, correction=0, keepdim=True) + norm.eps)
    return with_bias((parts - parts.mean(-1, keepdim=True)) / deviation * norm.weight, norm.bias)


def with_bias(parts: Tensor, bias: Tensor) -> Tensor:
    """A bias shared out among the parts, each in the measure of |b . part|: (..., S, width) -> the same."""
    # The least number makes equal shares where no part has anything of the bias.
    share = (parts @ bias).abs_().add_(torch.finfo(parts.dtype).tiny)
    return parts + (share / share.sum(-1, keepdim=True)).unsqueeze(-1) * bias
