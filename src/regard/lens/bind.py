"""Edits made into what a tap takes: each applied to its own rows of each sequence of a packed batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.lens.edit import Drop, Edit, Forbid, Force, Patch, Recording, Scale, Sharpen, Uniform
from regard.lens.places import Places, find, numbers
from regard.model import taps
from regard.model.config import EncoderConfig
from regard.model.encoder import Encoder

MIXED, QUERY, SCORES = "attention.mixed", "attention.query", "attention.scores"
SITES = {"mixed": MIXED, "weights": SCORES, "output": "output"}  # patched scores are patched weights


def record(
    encoder: Encoder,
    packed: Packed,
    edit: Patch,
    *,
    tokens: Sequence[Sequence[str]] | None = None,
    tap: taps.Tap | None = None,
) -> Recording:
    """Runs the encoder, and keeps what the patch takes from it; with a `tap` of edits, of the run as they make it."""
    layers = numbers(edit.layer, encoder.config.layers, "layer")
    watch = taps.Tap([f"layer.{layer}.{SITES[edit.value]}" for layer in layers], tap.edit if tap else None)
    with torch.no_grad():
        encoder(packed, tap=watch)
    return Recording(packed, watch.trace.values, tokens)


def bound(
    edits: Sequence[Edit], packed: Packed, config: EncoderConfig, *, tokens: Sequence[Sequence[str]] | None = None
) -> dict[str, taps.Edit]:
    """The edits as `Tap(edit=...)` takes them, for this batch.

    `tokens` are those of each sequence, in the caller's order; they are needed where positions are named by tokens.
    Raises `Problem` for a layer or head that is not there; the forward pass does for a row that is left without weight.
    """
    texts = _Texts(packed, tokens)
    steps: dict[str, list[taps.Edit]] = {}
    for layer in range(config.layers):
        here = [edit for edit in edits if layer in numbers(edit.layer, config.layers, "layer")]
        explicit = any(edit.explicit for edit in here)
        for edit in here:
            site, step = _step(edit, layer, explicit, texts, config)
            steps.setdefault(f"layer.{layer}.{site}", []).append(step)
        if explicit:
            steps[f"layer.{layer}.{SCORES}"].append(partial(_checked, layer))
    return {name: _chained(found) for name, found in steps.items()}


class _Texts:
    """The sequences of a batch, and which of their positions are meant."""

    def __init__(self, packed: Packed, tokens: Sequence[Sequence[str]] | None) -> None:
        self.lengths, self.order, self.device = packed.lengths, packed.order.tolist(), packed.ids.device
        self.tokens = [None if tokens is None else tokens[place] for place in self.order]
        self.starts = [0, *accumulate(self.lengths)]

    def places(self, which: Places, sequence: int) -> list[int]:
        """Positions within a sequence, which is counted in packed order."""
        return find(which, self.lengths[sequence], self.tokens[sequence])

    def rows(self, which: Places, sequence: int) -> list[int]:
        """The same among the tokens of the batch."""
        return [self.starts[sequence] + place for place in self.places(which, sequence)]

    def mask(self, which: Places, sequence: int) -> Tensor:
        """The same as (S,) of true and false."""
        return _flags(self.places(which, sequence), self.lengths[sequence], self.device)


def _step(edit: Edit, layer: int, explicit: bool, texts: _Texts, config: EncoderConfig) -> tuple[str, taps.Edit]:
    """The value that an edit changes, and how."""
    heads = list(numbers(edit.head, config.heads, "head"))
    if isinstance(edit, Patch) and edit.value != "weights":
        return SITES[edit.value], _patched(edit, layer, heads, texts)
    if isinstance(edit, (Drop, Scale)):
        return MIXED, _multiplied(edit, edit.factor if isinstance(edit, Scale) else 0.0, heads, texts, config)
    if isinstance(edit, (Uniform, Sharpen)) and not explicit:
        return QUERY, _multiplied(edit, edit.power if isinstance(edit, Sharpen) else 0.0, heads, texts, config)
    chosen, change = _flags(heads, config.heads, texts.device)[:, None, None], _of_scores(edit, layer, texts)
    return SCORES, lambda scores: [
        torch.where(chosen & texts.mask(edit.queries, i)[:, None], change(score, i), score)
        for i, score in enumerate(scores)
    ]


def _multiplied(edit: Edit, gain: float, heads: list[int], texts: _Texts, config: EncoderConfig) -> taps.Edit:
    """Rows of heads times a number; the value is (tokens, heads, d)."""
    rows = [row for i in range(len(texts.lengths)) for row in texts.rows(edit.queries, i)]
    gains = torch.ones(sum(texts.lengths), config.heads, 1)
    gains[torch.tensor(rows, dtype=torch.long)[:, None], torch.tensor(heads)] = gain
    gains = gains.to(texts.device)
    return lambda value: value * gains.to(value.dtype)


def _of_scores(edit: Edit, layer: int, texts: _Texts) -> Callable[[Tensor, int], Tensor]:
    """From the scores of a sequence, (heads, S, S), to what the edit would have in the rows that it concerns."""
    if isinstance(edit, Uniform):
        return lambda score, i: torch.zeros_like(score)
    if isinstance(edit, Sharpen):
        return lambda score, i: score * edit.power
    if isinstance(edit, Forbid):
        return lambda score, i: score.masked_fill(texts.mask(edit.keys, i), -torch.inf)
    if isinstance(edit, Force):
        return lambda score, i: _forced(score, texts.mask(edit.keys, i), edit.weight)
    assert isinstance(edit, Patch)
    return _patched_scores(edit, layer, texts)


def _forced(score: Tensor, keys: Tensor, weight: float) -> Tensor:
    """Scores whose weights on the keys sum to `weight`: s - log sum_K e^s + log w there, and the same of the rest."""
    if not keys.any() or (keys.all() and weight == 1):
        return score
    if keys.all():
        raise Problem(
            f"A weight of {weight:g} cannot be forced on all positions of a text together, for a row sums to one. Name "
            "fewer keys, or a weight of 1."
        )
    wide = score.to(torch.promote_types(score.dtype, torch.float32))
    for part, share in ((keys, weight), (~keys, 1 - weight)):
        total = torch.logsumexp(wide.masked_fill(~part, -torch.inf), -1, keepdim=True)
        wide = torch.where(part, wide - total + (math.log(share) if share else -torch.inf), wide)
    return wide.to(score.dtype)


def _patched(edit: Patch, layer: int, heads: list[int], texts: _Texts) -> taps.Edit:
    """Rows of a head's or a layer's output from a recording."""
    taken, there = _taken(edit, layer, texts)
    into, out = [], []
    for i in range(len(texts.lengths)):
        source = _source(i, texts, there)
        rows = texts.rows(edit.queries, i), there.rows(edit.queries, source)
        if len(rows[0]) != len(rows[1]):
            raise Problem(
                f"A patch goes from {len(rows[1])} positions ({edit.queries}) of its source to {len(rows[0])} of a "
                "text. Name positions that are as many in both, such as first, or a source of as many tokens."
            )
        into += rows[0]
        out += rows[1]
    rows_into, rows_out = (torch.tensor(rows, dtype=torch.long, device=texts.device) for rows in (into, out))
    if edit.value == "output":
        return lambda value: value.index_put((rows_into,), taken[rows_out].to(value.dtype))
    which = torch.tensor(heads, device=texts.device)
    new = taken[rows_out][:, which]
    return lambda value: value.index_put((rows_into[:, None], which), new.to(value.dtype))


def _patched_scores(edit: Patch, layer: int, texts: _Texts) -> Callable[[Tensor, int], Tensor]:
    """Scores from a recording."""
    taken, there = _taken(edit, layer, texts)
    sources = [_source(i, texts, there) for i in range(len(texts.lengths))]
    for length, source in zip(texts.lengths, sources, strict=True):
        if there.lengths[source] != length:
            raise Problem(
                f"Patched weights go from {there.lengths[source]} tokens to {length}, and they speak of all positions. "
                "Take a source of the same number of tokens, or patch the head's output (mixed) instead."
            )
    return lambda score, i: taken[sources[i]].to(score.dtype)


def _taken(edit: Patch, layer: int, texts: _Texts) -> tuple[Any, _Texts]:
    """The recorded value of a layer, and the sequences that it is of."""
    recording, name = edit.source, f"layer.{layer}.{SITES[edit.value]}"
    if not isinstance(recording, Recording):
        raise Problem("A patch still names its source by a text. Record it first, or give the edit to System.predict.")
    if name not in recording.values:
        raise Problem(f"The recording holds no {name}. Record it with this very patch.")
    if len(recording.packed.lengths) not in (1, len(texts.lengths)):
        raise Problem(
            f"A recording of {len(recording.packed.lengths)} sequences cannot be patched into {len(texts.lengths)}. "
            "Record one for all, or as many."
        )
    return recording.values[name], _Texts(recording.packed, recording.tokens)


def _source(sequence: int, texts: _Texts, there: _Texts) -> int:
    """Which recorded sequence, in packed order, serves this one."""
    return 0 if len(there.lengths) == 1 else there.order.index(texts.order[sequence])


def _checked(layer: int, scores: list[Tensor]) -> list[Tensor]:
    """The scores, if every row has some weight to give."""
    for score in scores:
        empty = ~torch.logsumexp(score.float(), -1).isfinite()
        if empty.any():
            head, row = (int(i) for i in empty.nonzero()[0])
            raise Problem(
                f"The edits leave position {row} of a text of {score.shape[-1]} tokens nothing to attend to in layer "
                f"{layer}, head {head}. Forbid fewer keys, or name fewer queries."
            )
    return scores


def _chained(steps: list[taps.Edit]) -> taps.Edit:
    def change(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return change


def _flags(places: list[int], size: int, device: torch.device) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[places] = True
    return flags.to(device)
