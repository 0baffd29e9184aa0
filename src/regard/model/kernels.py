"""Scaled dot-product attention over packed sequences: four kernels behind one signature, held equal by one test.

    kernel(query, key, value, packed=..., scale=..., noise=..., lse=...) -> (mixed, log-sum-exp or None)

query, key, value and mixed are (tokens, heads, head_width); the log-sum-exp is (tokens, heads), float32.
`noise` drops attention weights (training only). `reference` is the law; `choose` takes the fastest that fits a call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.model import attention, grouped
from regard.model.dropout import Noise
from regard.model.groups import NONE, Padding, block, groups, unpadded

Mixed = tuple[Tensor, Tensor | None]


class Run(Protocol):
    """The one signature."""

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, *, packed: Packed, scale: float, noise: Noise | None, lse: bool
    ) -> Mixed:
        """Mixes values by attention within each sequence."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to compute attention, what it can take, and where it is the fastest of those that can."""

    name: str
    run: Run
    supports: Callable[[Tensor, Noise | None, bool], bool]
    excels: Callable[[Tensor, Packed], bool] = lambda query, packed: False


# On a CPU the tail of a row of scores that fills no vector register is computed number by number, which in bfloat16
# takes longer than padding does, and a mask costs nothing; in float32 the two are even (all measured).
FUSED = Padding(step=16, cost=1024)


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, *, packed: Packed, scale: float, noise: Noise | None, lse: bool
) -> Mixed:
    """PyTorch's fused kernel, once for each group of sequences of like length."""
    mixed, denominators = [], []
    padding = FUSED if _is_half(query) and not query.is_cuda else NONE
    found = groups(packed.lengths, query.device, query.dtype, padding)
    # Parted at once: the gradient of each part by itself would be filled up with zeros to all tokens, and added.
    parts = zip(*(t.split([group.tokens for group in found]) for t in (query, key, value)), strict=True)
    for group, own in zip(found, parts, strict=True):
        q, k, v = (block(t, group) for t in own)
        if lse:
            out, denominator = _with_lse(q, k, v, group.bias, scale)
            denominators.append(unpadded(denominator.transpose(1, 2), group))
        else:
            out = F.scaled_dot_product_attention(q, k, v, group.bias, scale=scale)
        mixed.append(unpadded(out.transpose(1, 2), group))
    return torch.cat(mixed), torch.cat(denominators) if lse else None


def _with_lse(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    if q.device.type == "cpu":
        out, denominator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=bias, scale=scale
        )
    else:
        out, denominator, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            *map(_filled, (q, k, v)), bias, True, scale=scale
        )
    return out[..., : v.shape[-1]], denominator[..., : q.shape[2]]


def varlen(
    query: Tensor, key: Tensor, value: Tensor, *, packed: Packed, scale: float, noise: Noise | None, lse: bool
) -> Mixed:
    """Flash attention over packed sequences in one call (Dao 2023), on CUDA in half precision."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    longest, width = max(packed.lengths), query.shape[-1]
    found = varlen_attn(
        _filled(query), _filled(key), _filled(value), packed.bounds, packed.bounds, longest, longest,
        scale=scale, return_aux=AuxRequest(lse=True) if lse else None,
    )  # fmt: skip
    if not lse:
        return found[..., :width], None  # type: ignore[call-overload]
    out, denominator = found
    out = out[..., :width]
    return out, denominator.transpose(0, 1) if denominator.shape[0] == query.shape[1] else denominator


def _filled(part: Tensor) -> Tensor:
    """Heads filled up with zeros to a width that a GPU's kernels take, a multiple of 8: no product changes."""
    return F.pad(part, (0, -part.shape[-1] % 8)) if part.shape[-1] % 8 else part


def _is_half(query: Tensor) -> bool:
    return query.dtype in (torch.bfloat16, torch.float16)


AMPERE = 8, 0  # compute capability


def _flash_takes(query: Tensor) -> bool:
    """Whether there is flash attention for it: from the Ampere generation on, and for heads of at most 256."""
    fits = query.is_cuda and _is_half(query) and query.shape[-1] <= 256
    return fits and torch.cuda.get_device_capability(query.device) >= AMPERE


# On a CPU without matrix instructions (AMX) the explicit products of bfloat16 outrun PyTorch's fused kernel until the
# weights outgrow the cache; with them the fused kernel is the faster at every length (both measured).
EXPLICIT_TOKENS = 384


def _explicit_is_faster(query: Tensor, packed: Packed) -> bool:
    short = max(packed.lengths) <= EXPLICIT_TOKENS
    return not query.is_cuda and _is_half(query) and short and not torch.cpu._is_amx_tile_supported()


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("varlen", varlen, lambda query, noise, lse: noise is None and _flash_takes(query)),
        Kernel("sdpa", sdpa, lambda query, noise, lse: noise is None),
        Kernel(
            "grouped",
            grouped.attend,
            lambda query, noise, lse: not lse,
            _explicit_is_faster,
        ),
        Kernel("reference", attention.attend, lambda query, noise, lse: True),
    )
}


def choose(query: Tensor, packed: Packed, noise: Noise | None, lse: bool, *, name: str | None = None) -> Kernel:
    """The kernel of that name, or the best that supports the call; raises `Problem` where the named one does not."""
    if name is None:
        able = [kernel for kernel in KERNELS.values() if kernel.supports(query, noise, lse)]
        return next((kernel for kernel in able if kernel.excels(query, packed)), able[0])
    if name not in KERNELS:
        raise Problem(f"There is no attention kernel '{name}'. Known: {', '.join(KERNELS)}.")
    if not KERNELS[name].supports(query, noise, lse):
        raise Problem(
            f"The kernel '{name}' does not support {query.dtype} on {query.device.type}"
            f"{' with attention dropout' if noise else ''}{' and log-sum-exp' if lse else ''}. "
            "Leave the choice open, or use 'reference', which supports everything."
        )
    return KERNELS[name]
