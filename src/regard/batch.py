"""The carriers: small, slotted, no logic.

This file never imports torch when it runs, so `text` can use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, slots=True)
class Encoding:
    """One sequence of token ids, as a tokenizer made it, special tokens included.

    `offsets` and `words` are None where the caller asked for ids alone.
    """

    ids: np.ndarray  # (tokens,) int64
    segments: np.ndarray  # (tokens,) int64: 0 for the first text, 1 for the second
    source: int = 0  # place of the text in the caller's list; windows of one text share it
    dropped: int = 0  # tokens cut off by truncation
    offsets: np.ndarray | None = None  # (tokens, 2) character span in the token's own text
    words: np.ndarray | None = None  # (tokens,) index of the word in the token's own text; -1 for special tokens


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences lying end to end, shortest first, without padding.

    Sequence `i` owns the tokens from `bounds[i]` to `bounds[i + 1]`, and was number `order[i]` in the caller's list.
    """

    ids: torch.Tensor  # (tokens,) int64
    segments: torch.Tensor  # (tokens,) int64
    positions: torch.Tensor  # (tokens,) int64, from 0 in each sequence
    bounds: torch.Tensor  # (sequences + 1,) int32, on the device of ids
    lengths: tuple[int, ...]  # the same on the host, ascending, so that nothing waits for the device
    order: torch.Tensor  # (sequences,) int64

    def to(self, device: torch.device | str) -> Packed:
        """The same sequences on another device."""
        parts = self.ids, self.segments, self.positions, self.bounds, self.order
        ids, segments, positions, bounds, order = (moved(part, device) for part in parts)
        return Packed(ids, segments, positions, bounds, self.lengths, order)


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed texts and what is to be said of them, in the caller's order."""

    packed: Packed
    labels: torch.Tensor  # (sequences,) class ids, or (sequences, labels) 0/1, or (sequences,) numbers

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(self.packed.to(device), moved(self.labels, device))


@dataclass(frozen=True, slots=True)
class Hidden:
    """Packed texts of which some tokens are hidden, and what stood there."""

    packed: Packed
    places: torch.Tensor  # (hidden,) int64: which tokens of the batch, ascending
    truth: torch.Tensor  # (hidden,) int64: their ids
    languages: torch.Tensor  # (hidden,) int64: the number of each one's language
    pairs: torch.Tensor  # (sequences,) int64: 0 where the second part follows the first, 1 where not, -1 without one

    def to(self, device: torch.device | str) -> Hidden:
        """The same batch on another device."""
        parts = self.places, self.truth, self.languages, self.pairs
        return Hidden(self.packed.to(device), *(moved(part, device) for part in parts))


@dataclass(frozen=True, slots=True)
class Output:
    """What a model says of a packed batch; rows of `pooled` and `logits` stand in the caller's order."""

    hidden: torch.Tensor | None  # (tokens, width), packed; None where it was not asked for
    pooled: torch.Tensor | None = None  # (sequences, width)
    logits: torch.Tensor | None = None  # (sequences, outputs)


@dataclass(slots=True)
class Trace:
    """Interior values by name, packed like the batch they came from: what a tap has watched."""

    values: dict[str, torch.Tensor] = field(default_factory=dict)


def moved(part: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The same tensor on another device; on its way to a GPU nothing waits for what the GPU has still to do."""
    if str(device).startswith("cuda") and part.device.type == "cpu":
        part = part.pin_memory()  # of other memory a copy begins when the GPU is done with all before it
    return part.to(device, non_blocking=True)
