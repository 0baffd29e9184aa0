"""What training costs in floating-point operations, and how many of them a machine does in a second."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from regard.model.config import EncoderConfig

SIZES = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is timed


def training_operations(config: EncoderConfig, lengths: NDArray[np.int64], rate: float) -> float:
    """Operations of a forward and a backward pass over sequences of which a share `rate` of the tokens is hidden.

    Products alone count, each multiplication and addition, the backward pass twice the forward one: of a token
    6 (4 width^2 + 2 width inner_width) in each layer, and in attention 12 width times the length of its sequence; of a
    hidden one 6 (width^2 + width vocabulary). In the last layer only hidden tokens go on from the attention.
    """
    width, tokens = config.width, float(lengths.sum())
    joint, rest = 3 * width**2, width**2 + 2 * width * config.inner_width
    layers = config.layers * (joint + rest) - (1 - rate) * rest
    attention = 12 * width * config.layers * float((lengths.astype(np.float64) ** 2).sum())
    return 6 * tokens * (layers + rate * (width**2 + width * config.vocabulary)) + attention


def peak(device: torch.device, precision: torch.dtype, *, rounds: int = 5) -> float:
    """Operations a second that this machine reaches in products of large square matrices, best of some rounds."""
    size = SIZES.get(device.type, 2048)
    a, b = (torch.randn(size, size, device=device).to(precision) for _ in range(2))

    def once() -> float:
        began = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        return time.perf_counter() - began

    once()
    return 2.0 * size**3 / min(once() for _ in range(rounds))
