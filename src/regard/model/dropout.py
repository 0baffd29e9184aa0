"""Dropout whose mask is a function of a key: the same in every layout, on every device, and cheap to draw again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

# Odd constants with well-spread bits: two multipliers of a 32-bit mixer and the golden ratio, as signed integers; the
# distance of two columns is the golden ratio after the first multiplication.
_FIRST, _SECOND, _STEP = 0x7FEB352D, 0x846CA68B - 2**32, 0x9E3779B1 - 2**32


@dataclass(frozen=True, slots=True)
class Noise:
    """Which attention weights to drop: one random key for each query token and head, and the share to drop."""

    keys: Tensor  # (tokens, heads) int32
    probability: float


def random_keys(*shape: int, device: torch.device) -> Tensor:
    """Uniform int32 keys from torch's generator of the device, whose state a checkpoint keeps."""
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, device=device)


def keep_mask(keys: Tensor, width: int, probability: float, dtype: torch.dtype = torch.bool) -> Tensor:
    """True, or 1, with probability 1 - p, independently for each key and column; (...) int32 -> (..., width).

    Each 32-bit word, mixed by multiplication, xor-shift and multiplication, decides two columns, so p is met to
    1/65536. A mask of fewer columns is a prefix of a wider one: kernels of different layouts agree to the bit.
    """
    columns = _columns.__wrapped__ if torch.compiler.is_compiling() else _columns  # a compiler warns of caches
    mixed = (keys * _FIRST).unsqueeze(-1) + columns(width, keys.device)
    mixed ^= mixed >> 16  # the shift keeps the sign, which costs one bit of 32 and saves a pass
    mixed *= _SECOND
    words = mixed.view(torch.int16)[..., :width]
    # Written in the precision it is needed in, for on a CPU a boolean mask costs several times as much to make and use.
    return torch.ge(
        words, round(probability * 65536) - 32768, out=torch.empty(words.shape, dtype=dtype, device=keys.device)
    )


@lru_cache(maxsize=1024)
@torch.inference_mode(False)
def _columns(width: int, device: torch.device) -> Tensor:
    return torch.arange((width + 1) // 2, dtype=torch.int32, device=device) * _STEP


def scaled_mask(keys: Tensor, width: int, probability: float, dtype: torch.dtype) -> Tensor:
    """0 where dropped, 1 / (1 - p) where kept."""
    return keep_mask(keys, width, probability, dtype).mul_(1 / (1 - probability))


class Dropout(nn.Module):
    """x -> x * mask / (1 - p) in training, x otherwise; x is (tokens, width)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Drops columns of rows independently; what is left is added to `onto` where that is given."""
        if not self.training or self.probability == 0:
            return x if onto is None else onto + x
        mask = keep_mask(random_keys(*x.shape[:-1], device=x.device), x.shape[-1], self.probability, x.dtype)
        gain = 1 / (1 - self.probability)
        return (x * mask).mul_(gain) if onto is None else _Add.apply(onto, x, mask, gain)


class _Add(torch.autograd.Function):
    """onto + gain * mask * x as one node, whose backward pass works in the precision of x and does not keep x."""

    @staticmethod
    def forward(ctx: Any, onto: Tensor, x: Tensor, mask: Tensor, gain: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.gain = gain
        return torch.add(onto, x * mask, alpha=gain)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        return gradient, gradient.to(mask.dtype).mul(mask).mul_(ctx.gain), None, None
