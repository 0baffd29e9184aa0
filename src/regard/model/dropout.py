"""Dropout whose mask is a function of a key: the same in every layout, on every device, and cheap to draw again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Odd constants with well-spread bits: two multipliers of a 32-bit mixer and the golden ratio, as signed integers.
_FIRST, _SECOND, _GOLDEN = 0x7FEB352D, 0x846CA68B - 2**32, 0x9E3779B1 - 2**32


@dataclass(frozen=True, slots=True)
class Noise:
    """Which attention weights to drop: one random key for each query token and head, and the share to drop."""

    keys: Tensor  # (tokens, heads) int32
    probability: float


def random_keys(*shape: int, device: torch.device) -> Tensor:
    """Uniform int32 keys from torch's generator of the device, whose state a checkpoint keeps."""
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, device=device)


def keep_mask(keys: Tensor, width: int, probability: float) -> Tensor:
    """True with probability 1 - p, independently for each key and column; (...) int32 -> (..., width) bool.

    Each 32-bit word, mixed by xor-shifts and multiplications, decides two columns, so p is met to 1/65536. A mask of
    fewer columns is a prefix of a wider one, which lets kernels of different layouts agree to the bit.
    """
    columns = torch.arange((width + 1) // 2, dtype=torch.int32, device=keys.device) * _GOLDEN
    mixed = keys.unsqueeze(-1) ^ columns
    for shift, factor in ((16, _FIRST), (15, _SECOND)):
        mixed = (mixed ^ ((mixed >> shift) & ((1 << (32 - shift)) - 1))).mul_(factor)
    mixed ^= (mixed >> 16) & 0xFFFF
    return mixed.view(torch.int16)[..., :width] >= round(probability * 65536) - 32768


def scaled_mask(keys: Tensor, width: int, probability: float, dtype: torch.dtype) -> Tensor:
    """0 where dropped, 1 / (1 - p) where kept."""
    return keep_mask(keys, width, probability).to(dtype).mul_(1 / (1 - probability))


class Dropout(nn.Module):
    """x -> x * mask / (1 - p) in training, x otherwise; x is (tokens, width)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Drops columns of rows independently."""
        if not self.training or self.probability == 0:
            return x
        keys = random_keys(*x.shape[:-1], device=x.device)
        return x * scaled_mask(keys, x.shape[-1], self.probability, x.dtype)
