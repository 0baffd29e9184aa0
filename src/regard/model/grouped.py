"""Attention with dropout for training: sequences of like length computed together, with a backward pass of its own.

Fused kernels draw dropout noise that nobody can reproduce, or do not take it at all. Here the weights are explicit for
one block of sequences at a time, and automatic differentiation sees one node for the whole batch instead of a dozen for
each block, which on a CPU is most of the cost for short texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.batch import Packed
from regard.model.dropout import Noise, keep_mask
from regard.model.groups import Group, Padding, groups

# Explicit weights should stay in a processor's cache between the passes over them. In half precision a softmax over
# rows that leave vector registers half empty is several times as slow, and oneDNN makes a kernel for every shape.
EXPLICIT = Padding(step=1, cost=4096, room=65536)
EXPLICIT_HALF = Padding(step=32, cost=4096, room=65536)
# While a processor starts the kernels of one block more, a GPU goes over about as many weights (by count, not timed).
EXPLICIT_GPU = Padding(step=8, cost=2**20, room=2**24)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where each head's row of a token stands in a group's (count, heads, longest) block, and back.

    One gather by these is half the cost of gathering tokens and transposing them; `all_` is for query, key and value in
    one go: (tokens, 3, heads) on one side, (3, count, heads, longest) on the other.
    """

    take: Tensor
    put: Tensor
    all_take: Tensor
    all_put: Tensor


@lru_cache(maxsize=4)  # for the layers of a step
@torch.inference_mode(False)
def _plan(
    lengths: tuple[int, ...], heads: int, device: torch.device, dtype: torch.dtype
) -> tuple[tuple[Group, _Rows], ...]:
    padding = EXPLICIT_GPU if device.type == "cuda" else EXPLICIT_HALF if dtype.itemsize == 2 else EXPLICIT
    return tuple((g, _rows(g, heads, device)) for g in groups(lengths, device, dtype, padding))


def _rows(group: Group, heads: int, device: torch.device) -> _Rows:
    every, head, part = (torch.arange(n, device=device) for n in (group.tokens, heads, 3))
    token = (every if group.gather is None else group.gather).view(group.count, 1, group.longest)
    place = every if group.scatter is None else group.scatter
    sequence, position = place // group.longest, place % group.longest
    take = token * heads + head[:, None]
    all_take = (token * 3 + part[:, None, None, None]) * heads + head[:, None]
    put = (sequence[:, None] * heads + head) * group.longest + position[:, None]
    all_put = put[:, None] + part[:, None] * take.numel()
    return _Rows(*(t.flatten().int() for t in (take, put, all_take, all_put)))


def _pick(x: Tensor, rows: Tensor, group: Group) -> Tensor:
    """Rows (..., d) of the group's tokens, as (.. * count * heads, longest, d) blocks."""
    x = x[group.start : group.start + group.tokens]
    return x.reshape(-1, x.shape[-1]).index_select(0, rows).view(-1, group.longest, x.shape[-1])


def _put(block: Tensor, rows: Tensor, out: Tensor, group: Group) -> None:
    """Rows of a block, without its padding, into the group's tokens of `out`."""
    target = out[group.start : group.start + group.tokens].view(-1, out.shape[-1])
    torch.index_select(block.view(-1, out.shape[-1]), 0, rows, out=target)


def _joined(parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(tokens, 3, heads, d): the joint projection that three are views of, or a copy where they are not."""
    tokens, heads, width = parts[0].shape
    size, first = heads * width, parts[0]
    side_by_side = all(
        part.stride() == (3 * size, width, 1)
        and part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and part.storage_offset() == first.storage_offset() + place * size
        for place, part in enumerate(parts)
    )
    if side_by_side:
        return first.as_strided((tokens, 3, heads, width), (3 * size, size, width, 1))
    return torch.stack(parts, 1)


def product(a: Tensor, b: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    """factor a b, for each matrix of a batch, in one pass."""
    return torch.baddbmm(_nothing(a.device, a.dtype), a, b, beta=0, alpha=factor, out=out)


@lru_cache
@torch.inference_mode(False)
def _nothing(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.empty(1, 1, 1, device=device, dtype=dtype)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packed: Packed, scale: float, noise: Noise | None
    ) -> Tensor:
        plan = _plan(packed.lengths, query.shape[1], query.device, query.dtype)
        joint = _joined((query, key, value))
        mixed = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        gain = 1.0 if noise is None else 1 / (1 - noise.probability)
        saved: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for group, rows in plan:
                qkv = _pick(joint, rows.all_take, group)
                q, k, v = qkv.chunk(3)
                score = product(q, k.transpose(1, 2), scale)
                if group.bias is not None:
                    score.view(group.count, -1, group.longest, group.longest).add_(group.bias)
                weight = dropped = torch.softmax(score, -1)
                kept = []
                if noise is not None:
                    keys = _pick(noise.keys.unsqueeze(-1), rows.take, group).squeeze(-1)
                    kept = [keep_mask(keys, group.longest, noise.probability, weight.dtype)]
                    dropped = weight * kept[0]
                _put(product(dropped, v, gain), rows.put, mixed, group)
                saved += [qkv, weight, *kept]
        ctx.save_for_backward(*saved)
        ctx.plan, ctx.scale, ctx.gain = plan, scale, gain
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        joint = gradient.new_empty(gradient.shape[0], 3, *gradient.shape[1:])
        each = len(ctx.saved_tensors) // len(ctx.plan)
        for place, (group, rows) in enumerate(ctx.plan):
            qkv, weight, *kept = ctx.saved_tensors[place * each : (place + 1) * each]
            q, k, v = qkv.chunk(3)
            d_mixed = _pick(gradient, rows.take, group)
            if group.shown is not None:  # what stands on padding reaches no result, so it has no gradient
                d_mixed.view(group.count, -1, *d_mixed.shape[1:]).mul_(group.shown)
            d_weight = product(d_mixed, v.transpose(1, 2), ctx.gain)
            dropped = weight
            if kept:
                d_weight, dropped = d_weight.mul_(kept[0]), weight * kept[0]
            # The softmax's Jacobian: dS = W * (dW - sum_j dW_j W_j)
            d_score = torch._softmax_backward_data(d_weight, weight, -1, weight.dtype)
            found = torch.empty_like(qkv)
            for out, left, right, factor in zip(
                found.chunk(3),
                (d_score, d_score.transpose(1, 2), dropped.transpose(1, 2)),
                (k, q, d_mixed),
                (ctx.scale, ctx.scale, ctx.gain),
                strict=True,
            ):
                product(left, right, factor, out=out)
            _put(found, rows.all_put, joint, group)
        return *joint.unbind(1), None, None, None


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, packed: Packed, scale: float, noise: Noise | None, lse: bool
) -> tuple[Tensor, Tensor | None]:
    """Attention within each sequence, group by group; the log-sum-exp is not on offer."""
    return _Attend.apply(query, key, value, packed, scale, noise), None
