"""Sequences of like length, computed together as padded blocks: the only place where sequences are padded."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Padding:
    """How much of it the blocks may have; which figures are best is a matter of the kernel."""

    step: int  # lengths are filled up to a multiple of this
    cost: int  # one more block costs about as much as this many attention weights of padding, for each head
    room: int = sys.maxsize  # most weights of a block, for each head, unless one sequence alone has more


NONE = Padding(step=1, cost=0)  # a block is a run of one length


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
    found: list[list[int]] = []
    waste, longest = 0, 0
    for length in reversed(lengths):
        place = filled(length, padding)
        waste += longest**2 - place**2
        if not found or waste > padding.cost or (len(found[-1]) + 1) * longest**2 > padding.room:
            found.append([])
            waste, longest = 0, place
        found[-1].insert(0, length)
    out, start = [], 0
    for own in reversed(found):
        out.append(_group(own, filled(own[-1], padding), start, device, dtype))
        start += sum(own)
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


def padded(x: Tensor, group: Group) -> Tensor:
    """All tokens -> the group's block: (tokens, heads, d) -> (count, heads, longest, d)."""
    return block(x[group.start : group.start + group.tokens], group)


def block(x: Tensor, group: Group) -> Tensor:
    """The group's own tokens -> its block, the padding filled with copies of real tokens."""
    if group.gather is not None:
        x = x.index_select(0, group.gather)
    return x.view(group.count, group.longest, *x.shape[1:]).transpose(1, 2)


def unpadded(x: Tensor, group: Group) -> Tensor:
    """The group's tokens of a block, without its padding: (count, longest, ...) -> (tokens, ...)."""
    x = x.flatten(0, 1)
    return x if group.scatter is None else x.index_select(0, group.scatter)
