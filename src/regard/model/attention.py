"""Attention as mathematics: pure functions, one sequence at a time, written like the formula.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V        (Vaswani et al. 2017, equation 1), for each head

This is the law that every kernel is held to, and the path that edits of scores and weights take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regard.batch import Packed
from regard.model.dropout import Noise, scaled_mask

See = Callable[[str, Any], Any]


def scores(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """How well each query fits each key: (S, heads, d), (S, heads, d) -> (heads, S, S)."""
    return torch.einsum("ihd,jhd->hij", query, key) * scale


def weigh(score: Tensor) -> Tensor:
    """Scores to weights that sum to one over the keys; the softmax is taken in float32 at least."""
    return torch.softmax(score, -1, dtype=_wide(score)).to(score.dtype)


def mix(weights: Tensor, value: Tensor) -> Tensor:
    """The weighted sums of values: (heads, S, S), (S, heads, d) -> (S, heads, d)."""
    return torch.einsum("hij,jhd->ihd", weights, value)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    packed: Packed,
    scale: float,
    noise: Noise | None = None,
    lse: bool = False,
    see: See = lambda name, value: value,
) -> tuple[Tensor, Tensor | None]:
    """Attention within each sequence of a packed batch, one sequence after another.

    `see` may watch or replace `scores` and `weights`, lists with a (heads, S, S) tensor for each sequence.
    """
    spans = [slice(end - n, end) for n, end in zip(packed.lengths, packed.bounds.tolist()[1:], strict=True)]
    score = see("scores", [scores(query[s], key[s], scale) for s in spans])
    weights = see("weights", [weigh(s) for s in score])
    if noise is not None:
        masks = [
            scaled_mask(noise.keys[s].T, w.shape[-1], noise.probability, w.dtype)
            for s, w in zip(spans, weights, strict=True)
        ]
        weights = [w * m for w, m in zip(weights, masks, strict=True)]
    mixed = torch.cat([mix(w, value[s]) for w, s in zip(weights, spans, strict=True)])
    return mixed, torch.cat([torch.logsumexp(s.to(_wide(s)), -1).T for s in score]) if lse else None


def attend_first(
    query: Tensor, key: Tensor, value: Tensor, *, packed: Packed, scale: float, noise: Noise | None = None
) -> Tensor:
    """What the first token of each sequence gets, in time and memory of the order of the tokens.

    query (sequences, heads, d), key and value (tokens, heads, d) -> (sequences, heads, d); `noise` has a key for each
    query. The same numbers as the first rows of `attend`.
    """
    lengths = packed.bounds.diff().long()
    owner = torch.repeat_interleave(lengths, output_size=len(key))
    score = (query.to(_wide(key))[owner] * key).sum(-1) * scale
    peak = torch.segment_reduce(score.detach(), "max", lengths=lengths, axis=0, unsafe=True)
    weights = torch.exp(score - peak[owner])
    total = torch.zeros_like(peak).index_add_(0, owner, weights)
    weights = weights / total[owner]
    if noise is not None:
        mask = scaled_mask(noise.keys, max(packed.lengths), noise.probability, weights.dtype)
        weights = weights * mask[owner, :, packed.positions]
    mixed = weights.new_zeros(query.shape).index_add_(0, owner, weights.unsqueeze(-1) * value)
    return mixed.to(value.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
