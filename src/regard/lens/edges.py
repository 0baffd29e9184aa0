"""The strongest weights of each row, as bytes for a page: 144 heads of 512 tokens in the room of a photograph.

A page cannot carry layers x heads x S x S weights, and need not: most rows rest on few of them. Kept of each row are
its largest weights, their places, and how much of the row they leave out; where everything fits, everything is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Maps = Iterable[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Edges:
    """The largest weights of rows of `size` places; rows stand in the order layer, head, query."""

    size: int
    places: NDArray[np.intp]  # (rows, kept), ascending in each row
    weights: NDArray[np.float32]  # (rows, kept)
    rest: NDArray[np.float32]  # (rows,): what a row gives to the places that are left out

    @property
    def kept(self) -> int:
        """How many weights of each row there are."""
        return int(self.places.shape[1])

    @property
    def shown(self) -> float:
        """The share of all attention that lies on the kept weights."""
        return float(1 - self.rest.mean(dtype=np.float64))


def strongest(maps: Maps, keep: int) -> Edges:
    """The `keep` largest weights of each row of maps (heads, S, S), one map for each layer, read one at a time."""
    places, weights, rest = [], [], []
    size = 0
    for layer in maps:
        size = layer.shape[-1]
        rows = layer.reshape(-1, size)
        most = min(keep, size)
        best = np.sort(np.argpartition(-rows, most - 1, axis=-1)[:, :most], -1)
        places.append(best)
        weights.append(np.take_along_axis(rows, best, -1))
        rest.append(np.clip(rows.sum(-1) - weights[-1].sum(-1), 0, 1) if most < size else np.zeros(len(rows)))
    return Edges(size, np.concatenate(places), np.concatenate(weights), np.concatenate(rest).astype(np.float32))


def narrowed(edges: Edges, keep: int) -> Edges:
    """The same rows with fewer weights each."""
    if keep >= edges.kept:
        return edges
    best = np.sort(np.argpartition(-edges.weights, keep - 1, axis=-1)[:, :keep], -1)
    weights = np.take_along_axis(edges.weights, best, -1)
    lost = edges.weights.sum(-1) - weights.sum(-1)
    return Edges(edges.size, np.take_along_axis(edges.places, best, -1), weights, np.clip(edges.rest + lost, 0, 1))


def as_bytes(edges: Edges) -> bytes:
    """Edges as zlib bytes; numbers of two bytes have the lower one first.

    tops     2 x rows         each row's largest weight, in 65535ths
    rest     2 x rows         what each row leaves out, in 65535ths
    weights  1 x rows x kept  in 255ths of the row's largest: a weight is off by top / 510 + 2e-5 at most
    steps    2 x rows x kept  from kept place to kept place, from 0 on: the lower bytes of all, then the upper ones;
                              not there where all places are kept

    Steps rather than places, and bytes of a kind side by side, because so they compress best.
    """
    tops = edges.weights.max(-1, keepdims=True)
    shares = np.rint(255 * edges.weights / np.maximum(tops, np.finfo(np.float32).tiny)).astype(np.uint8)
    parts = [_parts_of_one(tops[:, 0]), _parts_of_one(edges.rest), shares]
    if edges.kept < edges.size:
        steps = np.diff(edges.places, axis=1, prepend=0)
        parts += [(steps & 255).astype(np.uint8), (steps >> 8).astype(np.uint8)]
    return zlib.compress(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def fit(maps: Maps, *, rows: int, budget: int) -> tuple[Edges, bytes]:
    """As many of each row's largest weights as `budget` bytes hold, one at least, and the bytes.

    `rows` says how many rows the maps have, so that not much more is read of them than could fit.
    """
    edges = strongest(maps, max(1, 2 * budget // max(1, rows)))  # a weight rarely takes less than half a byte
    while len(found := as_bytes(edges)) > budget and edges.kept > 1:
        edges = narrowed(edges, max(1, min(edges.kept - 1, int(edges.kept * budget / len(found)))))
    return edges, found


def _parts_of_one(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint(np.clip(values, 0, 1) * 65535).astype("<u2")
