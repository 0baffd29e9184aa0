"""Attention from tokens to words, Clark et al. 2019, section 4.1: to a word the sum, from a word the mean.

    A'[u, w] = 1/|u| sum_{i in u} sum_{j in w} A[i, j]

Rows that sum to one still do.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def units(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which unit each token is of, from 0 and ascending: (tokens,) -> (tokens,).

    `words` are word numbers, -1 for special tokens (`Encoding.words`). Neighbours of one word are a unit; each special
    token is one by itself, so that the words of a pair's two texts, which both count from 0, stay apart.
    """
    begins = np.ones(len(words), dtype=bool)
    begins[1:] = (words[1:] != words[:-1]) | (words[1:] < 0)
    return begins.cumsum() - 1


def merged(weights: Tensor, units: NDArray[np.int64]) -> Tensor:
    """Weights between units: (..., S, S) -> (..., U, U)."""
    of = torch.as_tensor(units, device=weights.device).unsqueeze(1)
    members = (of == torch.arange(int(units.max()) + 1, device=weights.device)).to(weights.dtype)  # 1 or 0: (S, U)
    return (members / members.sum(0)).T @ weights @ members
