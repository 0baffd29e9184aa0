"""The attention of any layer, head and position, read beside the fused kernel and never through it.

A weight is exp(q_i . k_j / sqrt(d) - lse_i): queries, keys and the log of the softmax's denominator are watched, and
only the heads that are asked for are ever written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Packed, Trace
from regard.model.heads import Model
from regard.model.taps import Tap

Weights = NDArray[np.float32]
NAMES = ("query", "key", "lse")


@dataclass(frozen=True, slots=True)
class Look:
    """Attention weights of one text: `weights[layer, head, i, j]` is how much position i attends to position j."""

    tokens: tuple[str, ...]
    weights: Weights  # (layers shown, heads shown, S, S); each row sums to one
    layers: tuple[int, ...]  # which layers and heads these are, from 0
    heads: tuple[int, ...]
    head_width: int
    dropped: int = 0  # tokens cut off

    @property
    def free_dimensions(self) -> int:
        """In how many directions rows could change, still sum to one, and leave the head's output as it is.

        At least max(0, S - (d_head + 1)), Brunner et al. 2020: above zero the weights are not identifiable.
        """
        return max(0, len(self.tokens) - self.head_width - 1)

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tokens": list(self.tokens),
            "layers": list(self.layers),
            "heads": list(self.heads),
            "weights": np.round(self.weights, 6).tolist(),
            "free_dimensions": self.free_dimensions,
            "dropped": self.dropped,
        }


def attention(
    model: Model, packed: Packed, *, layers: list[int] | None = None, heads: list[int] | None = None
) -> list[Weights]:
    """The weights of each sequence, in the caller's order: (layers, heads, S, S) float32."""
    config = model.encoder.config
    layers = list(range(config.layers)) if layers is None else layers
    heads = list(range(config.heads)) if heads is None else heads
    tap = Tap(watch=[f"layer.{i}.attention.{name}" for i in layers for name in NAMES])
    with torch.no_grad():
        model.encoder(packed, tap=tap)
    out: list[Weights] = [np.empty(0, np.float32)] * len(packed.lengths)
    start = 0
    for length, place in zip(packed.lengths, packed.order.tolist(), strict=True):
        rows = slice(start, start + length)
        out[place] = torch.stack([_weights(tap.trace, i, rows, heads) for i in layers]).cpu().numpy()
        start += length
    return out


def _weights(trace: Trace, layer: int, rows: slice, heads: list[int]) -> torch.Tensor:
    query, key, lse = (trace.values[f"layer.{layer}.attention.{name}"][rows].float() for name in NAMES)
    score = torch.einsum("ihd,jhd->hij", query[:, heads], key[:, heads]) * query.shape[-1] ** -0.5
    return torch.exp(score - lse[:, heads].T.unsqueeze(-1))


def pattern(weights: Weights, tokens: tuple[str, ...]) -> tuple[str, float]:
    """What one head mostly does on one text, and the share of its attention that does it; (S, S) weights.

    One of: first ([CLS]), separator, previous, next, same, or broad where none of these takes 30 %.
    """
    size = len(tokens)
    separators = [j for j, token in enumerate(tokens) if token == "[SEP]"]
    shares = {
        "first": weights[:, 0].mean(),
        "separator": weights[:, separators].sum(1).mean() if separators else 0.0,
        "previous": np.trace(weights, -1) / max(1, size - 1),
        "next": np.trace(weights, 1) / max(1, size - 1),
        "same": np.trace(weights) / size,
    }
    name = max(shares, key=lambda n: shares[n])
    return (name, float(shares[name])) if shares[name] >= 0.3 else ("broad", float(shares[name]))
