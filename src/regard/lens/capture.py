"""What a batch's attention was computed from, kept in O(S): any weight can be written out of it, and no S x S need be.

A weight is exp(q_i . k_j / sqrt(d) - lse_i): queries, keys and the log of the softmax's denominator, watched beside the
fused kernel, hold all weights of all heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.batch import Packed, Trace
from regard.errors import Problem
from regard.model.encoder import Encoder
from regard.model.taps import Tap

Some = slice | Sequence[int]
ALL = slice(None)
ROOM = 2**21  # weights of a tile, all heads together: what fits a processor's cache


@dataclass(frozen=True, slots=True)
class Capture:
    """Queries, keys, log-sum-exps, and values if asked for, of some layers of one packed batch."""

    packed: Packed
    layers: tuple[int, ...]
    spans: tuple[slice, ...]  # the tokens of each sequence, in the caller's order
    trace: Trace

    def part(self, layer: int, name: str, sequence: int) -> Tensor:
        """One watched value of one sequence, float32: query, key, value (S, heads, d) or lse (S, heads)."""
        return self.trace.values[f"layer.{layer}.attention.{name}"][self.spans[sequence]].float()

    def weights(self, layer: int, sequence: int, *, heads: Some = ALL, queries: Some = ALL, keys: Some = ALL) -> Tensor:
        """Any rows, columns or cells of the weights: (heads, queries, keys) float32, of those alone that are named."""
        queries, keys, heads = (some if isinstance(some, slice) else list(some) for some in (queries, keys, heads))
        query = self.part(layer, "query", sequence)[queries][:, heads]
        key = self.part(layer, "key", sequence)[keys][:, heads]
        lse = self.part(layer, "lse", sequence)[queries][:, heads]
        score: Tensor = torch.einsum("ihd,jhd->hij", query, key) * query.shape[-1] ** -0.5
        return score.sub_(lse.T.unsqueeze(-1)).exp_()

    def tiles(self, layer: int, sequence: int, *, room: int = ROOM) -> Iterator[tuple[slice, Tensor]]:
        """The weights of all heads, so many whole rows at a time that a tile has at most `room` weights, or one row.

        Yields the rows' places and (heads, rows, S) float32.
        """
        size, heads = self.part(layer, "lse", sequence).shape
        rows = max(1, room // (heads * size))
        for start in range(0, size, rows):
            queries = slice(start, min(size, start + rows))
            yield queries, self.weights(layer, sequence, queries=queries)


def capture(
    encoder: Encoder,
    packed: Packed,
    *,
    layers: Sequence[int] | None = None,
    values: bool = False,
    more: Sequence[str] = (),
) -> Capture:
    """Runs the encoder and keeps what the attention of these layers, or of all, was computed from.

    `more` names further values of each layer to keep, such as `attention.sum`.
    """
    count = encoder.config.layers
    chosen = tuple(range(count)) if layers is None else tuple(layers)
    if wrong := [layer for layer in chosen if not 0 <= layer < count]:
        raise Problem(f"There is no layer {wrong[0]}: this model's are numbered from 0 to {count - 1}.")
    names = [f"attention.{name}" for name in ("query", "key", "lse", *(("value",) if values else ()))]
    tap = Tap(watch=[f"layer.{layer}.{name}" for layer in chosen for name in (*names, *more)])
    with torch.no_grad():
        encoder(packed, tap=tap)
    return Capture(packed, chosen, spans(packed), tap.trace)


def spans(packed: Packed) -> tuple[slice, ...]:
    """The tokens of each sequence, in the caller's order."""
    out = [slice(0)] * len(packed.lengths)
    start = 0
    for length, place in zip(packed.lengths, packed.order.tolist(), strict=True):
        out[place] = slice(start, start + length)
        start += length
    return tuple(out)
