"""What training costs in floating-point operations, and how many of them a machine does in a second."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from regard.model.config import EncoderConfig

SIZES = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is timed, at most
SLOW = 0.1  # seconds: matrices whose product takes longer are large enough, as where bfloat16 is emulated


def encoder_operations(config: EncoderConfig, lengths: NDArray[np.int64], asked: float) -> float:
    """Operations of a forward and a backward pass over sequences of which `asked` tokens in all are asked about.

    Products alone count, each multiplication and addition, the backward pass twice the forward one: of a token
    6 (4 width^2 + 2 width inner_width) in each layer, and in attention 12 width times the length of its sequence. In
    the last layer only tokens that are asked about go on from the attention.
    """
    width, tokens = config.width, float(lengths.sum())
    joint, rest = 3 * width**2, width**2 + 2 * width * config.inner_width
    attention = 12 * width * config.layers * float((lengths.astype(np.float64) ** 2).sum())
    return 6 * (tokens * config.layers * (joint + rest) - (tokens - asked) * rest) + attention


def word_operations(config: EncoderConfig, places: float) -> float:
    """The same of guessing the words at some places: 6 (width^2 + width vocabulary) for each."""
    return 6 * places * (config.width**2 + config.width * config.vocabulary)


def pair_operations(config: EncoderConfig, pairs: float) -> float:
    """The same of telling pairs apart, pooler and head: 6 (width^2 + 2 width) for each."""
    return 6 * pairs * (config.width**2 + 2 * config.width)


def sample_operations(config: EncoderConfig, places: float) -> float:
    """The same of drawing words at some places, which has no backward pass: a third of guessing them."""
    return word_operations(config, places) / 3


def borrow_operations(config: EncoderConfig, wide: int, tokens: float, batches: float) -> float:
    """The same of a generator's vectors, brought from a width of `wide` to its own.

    6 width wide for each token, and in each batch 8 width wide for each word of the vocabulary: the head's table is
    made twice, once to draw by, without a gradient.
    """
    return config.width * wide * (6 * tokens + 8 * batches * config.vocabulary)


def detector_operations(config: EncoderConfig, tokens: float) -> float:
    """The same of telling which tokens were replaced: 6 (width^2 + width) for each."""
    return 6 * tokens * (config.width**2 + config.width)


@cache  # it takes seconds
def peak(device: torch.device, precision: torch.dtype, *, rounds: int = 5) -> float:
    """Operations a second that this machine reaches in products of large square matrices, best of some rounds."""
    size, most = 256, SIZES.get(device.type, 2048)
    own = torch.Generator(device).manual_seed(0)  # what is learnt takes nothing from this
    a, b = (torch.randn(most, most, device=device, generator=own).to(precision) for _ in range(2))
    # The first product of a size may wait for its kernel to be loaded or made.
    while (seconds := min(_seconds(a[:size, :size], b[:size, :size]) for _ in range(2))) < SLOW and size < most:
        size *= 2
    times = max(1, int(SLOW / seconds))  # so that waiting for the device counts for nothing
    return 2.0 * size**3 / min(_seconds(a[:size, :size], b[:size, :size], times) for _ in range(rounds))


def _seconds(a: torch.Tensor, b: torch.Tensor, times: int = 1) -> float:
    """How long a product takes, the mean of some."""
    began = time.perf_counter()
    for _ in range(times):
        product = a @ b
    product[0, 0].item()  # waits for the device
    return (time.perf_counter() - began) / times
