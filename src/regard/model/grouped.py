"""Sequences of like length computed together, as padded blocks; and attention with dropout over them, for training.

Fused kernels draw dropout noise that nobody can reproduce, or do not take it at all. Here the weights are explicit for
one group of sequences at a time, and automatic differentiation sees one node for the whole batch instead of a dozen for
each group, which on a CPU is most of the cost for short texts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.batch import Packed
from regard.model.dropout import Noise, keep_mask


@dataclass(frozen=True, slots=True)
class Padding:
    """How much of it the blocks may have; the figures below were measured on CPUs."""

    step: int  # lengths are filled up to a multiple of this
    cost: int  # one more block costs about as much as this many attention weights of padding, for each head
    room: int = sys.maxsize  # most weights of a block, for each head, unless one sequence alone has more


NONE = Padding(step=1, cost=0)  # a block is a run of one length
# Explicit weights should stay in a processor's cache between the passes over them. In half precision a softmax over
# rows that leave vector registers half empty is several times as slow, and oneDNN makes a kernel for every shape.
EXPLICIT = Padding(step=1, cost=4096, room=65536)
EXPLICIT_HALF = Padding(step=32, cost=4096, room=65536)


@dataclass(frozen=True, slots=True)
class Group:
    """Adjacent sequences computed as one padded block."""

    count: int
    longest: int
    start: int  # first token
    tokens: int
    gather: Tensor | None  # (count * longest,) tokens from start on; None where nothing is padded
    scatter: Tensor | None  # (tokens,) places in the padded block
    shown: Tensor | None  # (count, 1, longest, 1) 1 where a token is real, 0 where it is padding
    bias: Tensor | None  # (count, 1, 1, longest) what to add to a score: 0, and minus infinity where a key is padding


def filled(length: int, padding: Padding) -> int:
    """The length at which a sequence is computed."""
    return -(-length // padding.step) * padding.step


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept here serves training too
def groups(lengths: tuple[int, ...], device: torch.device, dtype: torch.dtype, padding: Padding) -> tuple[Group, ...]:
    """Ascending lengths in padded blocks, greedily from the longest while padding costs less than another call."""
    blocks: list[list[int]] = []
    waste, longest = 0, 0
    for length in reversed(lengths):
        place = filled(length, padding)
        waste += longest**2 - place**2
        if not blocks or waste > padding.cost or (len(blocks[-1]) + 1) * longest**2 > padding.room:
            blocks.append([])
            waste, longest = 0, place
        blocks[-1].insert(0, length)
    out, start = [], 0
    for block in reversed(blocks):
        out.append(_group(block, filled(block[-1], padding), start, device, dtype))
        start += sum(block)
    return tuple(out)


def _group(lengths: list[int], longest: int, start: int, device: torch.device, dtype: torch.dtype) -> Group:
    count, tokens = len(lengths), sum(lengths)
    if tokens == count * longest:
        return Group(count, longest, start, tokens, None, None, None, None)
    length = torch.tensor(lengths)[:, None]
    column = torch.arange(longest)
    inside = column < length
    first = length.cumsum(0) - length
    gather = (first + torch.minimum(column, length - 1)).flatten()
    scatter = inside.flatten().nonzero().squeeze(1)
    shown = inside.to(dtype)[:, None, :, None]
    bias = torch.zeros(count, 1, 1, longest, dtype=dtype).masked_fill_(~inside[:, None, None], -torch.inf)
    return Group(count, longest, start, tokens, *(t.to(device) for t in (gather, scatter, shown, bias)))


def block(x: Tensor, group: Group) -> Tensor:
    """(tokens, heads, d) -> (count, heads, longest, d): a block, its padding filled with copies of real tokens."""
    x = x[group.start : group.start + group.tokens]
    if group.gather is not None:
        x = x.index_select(0, group.gather)
    return x.view(group.count, group.longest, *x.shape[1:]).transpose(1, 2)


def rows(x: Tensor, group: Group) -> Tensor:
    """The group's tokens of a block, without its padding: (count, longest, ...) -> (tokens, ...)."""
    x = x.flatten(0, 1)
    return x if group.scatter is None else x.index_select(0, group.scatter)


def _take(x: Tensor, group: Group) -> Tensor:
    """(tokens, heads, d) -> (count * heads, longest, d), a block as batched products want it."""
    return block(x, group).flatten(0, 1)


def _put(found: Tensor, out: Tensor, group: Group) -> None:
    """The inverse of `_take`, into the group's tokens of `out`; what stands on padding is left behind."""
    heads = out.shape[1]
    x = found.view(group.count, heads, group.longest, -1).transpose(1, 2)
    target = out[group.start : group.start + group.tokens]
    if group.scatter is None:
        target.view(x.shape).copy_(x)
    else:
        target.copy_(rows(x, group))


def _kept(group: Group, noise: Noise, dtype: torch.dtype) -> Tensor:
    """1 where a weight of a block is kept, 0 where it is dropped: (count * heads, longest, longest)."""
    keys = _take(noise.keys.unsqueeze(-1), group).squeeze(-1)
    return keep_mask(keys, group.longest, noise.probability, dtype)


def _product(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """factor a b, for each matrix of a batch, in one pass."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=factor)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: tuple[Group, ...], scale: float, noise: Noise | None
    ) -> Tensor:
        mixed = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        gain = 1.0 if noise is None else 1 / (1 - noise.probability)
        blocks: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for group in plan:
                q, k, v = (_take(t, group) for t in (query, key, value))
                score = _product(q, k.transpose(1, 2), scale)
                if group.bias is not None:
                    score.view(group.count, -1, group.longest, group.longest).add_(group.bias)
                weight = dropped = torch.softmax(score, -1)
                kept = []
                if noise is not None:
                    kept = [_kept(group, noise, weight.dtype)]
                    dropped = weight * kept[0]
                _put(_product(dropped, v, gain), mixed, group)
                blocks += [q, k, v, weight, *kept]
        ctx.save_for_backward(*blocks)
        ctx.plan, ctx.scale, ctx.gain, ctx.shape = plan, scale, gain, query.shape
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # One buffer, laid out like the joint projection of query, key and value, which then takes it without a copy.
        joint = gradient.new_empty(ctx.shape[0], 3, *ctx.shape[1:])
        each = len(ctx.saved_tensors) // len(ctx.plan)
        for place, group in enumerate(ctx.plan):
            q, k, v, weight, *kept = ctx.saved_tensors[place * each : (place + 1) * each]
            d_mixed = _take(gradient, group)
            if group.shown is not None:  # what stands on padding reaches no result, so it has no gradient
                d_mixed.view(group.count, -1, *d_mixed.shape[1:]).mul_(group.shown)
            d_weight = _product(d_mixed, v.transpose(1, 2), ctx.gain)
            dropped = weight
            if kept:
                d_weight, dropped = d_weight.mul_(kept[0]), weight * kept[0]
            # The softmax's Jacobian: dS = W * (dW - sum_j dW_j W_j)
            d_score = torch._softmax_backward_data(d_weight, weight, -1, weight.dtype)
            _put(_product(d_score, k, ctx.scale), joint[:, 0], group)
            _put(_product(d_score.transpose(1, 2), q, ctx.scale), joint[:, 1], group)
            _put(_product(dropped.transpose(1, 2), d_mixed, ctx.gain), joint[:, 2], group)
        return *joint.unbind(1), None, None, None


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, packed: Packed, scale: float, noise: Noise | None, lse: bool
) -> tuple[Tensor, Tensor | None]:
    """Attention within each sequence, group by group; the log-sum-exp is not on offer."""
    padding = EXPLICIT_HALF if query.dtype.itemsize == 2 else EXPLICIT
    plan = groups(packed.lengths, query.device, query.dtype, padding)
    return _Attend.apply(query, key, value, plan, scale, noise), None
