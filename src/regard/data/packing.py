"""Encodings to a packed batch and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.batch import Encoding, Packed


def pack(encodings: Sequence[Encoding]) -> Packed:
    """Lays sequences end to end, shortest first, so that those of one length are neighbours.

    Raises ValueError for no sequence at all, or an empty one.
    """
    lengths = np.array([len(e.ids) for e in encodings], dtype=np.int64)
    if not len(lengths) or not lengths.all():
        raise ValueError("pack needs at least one sequence, and each sequence at least one token")
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    bounds = np.concatenate([[0], lengths.cumsum()])
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
    return Packed(
        ids=torch.from_numpy(np.concatenate([encodings[i].ids for i in order])),
        segments=torch.from_numpy(np.concatenate([encodings[i].segments for i in order])),
        positions=torch.from_numpy(positions),
        bounds=torch.from_numpy(bounds.astype(np.int32)),
        lengths=tuple(lengths.tolist()),
        order=torch.from_numpy(order),
    )


def unpack(rows: Tensor, packed: Packed) -> list[Tensor]:
    """Token rows (tokens, ...) as one tensor for each sequence, in the caller's order: the inverse of `pack`."""
    parts = rows.split(packed.lengths)
    out: list[Tensor] = [rows] * len(parts)
    for part, place in zip(parts, packed.order.tolist(), strict=True):
        out[place] = part
    return out


def cut(lengths: Sequence[int], budget: int) -> list[slice]:
    """Consecutive batches of at most `budget` tokens each; a longer sequence is a batch of its own."""
    out, start, tokens = [], 0, 0
    for place, length in enumerate(lengths):
        if place > start and tokens + length > budget:
            out.append(slice(start, place))
            start, tokens = place, 0
        tokens += length
    return [*out, slice(start, len(lengths))] if len(lengths) else out


def batches(encodings: Sequence[Encoding], budget: int) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    """Sequences of like length packed together, at most `budget` tokens each time, and their places in the list."""
    lengths = np.array([len(e.ids) for e in encodings], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    for span in cut(lengths[order].tolist(), budget):
        yield order[span], pack([encodings[i] for i in order[span]])
