"""Statistics of every head over texts without end: named numbers of each text, then their moments.

A number is the mean over the rows of one text; texts are then averaged, each counting once (Clark et al. 2019).

    entropy              nats; H_i = -sum_j A_ij ln A_ij
    entropy_share        the same divided by ln N, the entropy of attention spread evenly: 0 to 1
    to_C                 weight on the tokens of class C; expected 1/N for each token of it
    S_to_C, S_entropy    the same of the rows of the tokens of class S alone, such as sep_to_sep
    other_to_S           weight on class S of the rows of all other tokens
    offset_-1            weight at the token before; rows where there is none count as 0
    distance             sum_j A_ij |i - j|, in tokens
    displacement         sum_j A_ij (j - i): below zero where a head looks back
    confidence           the largest weight of a row
    to_own_text          weight on tokens of the same text, of pairs alone
    to_own_word          weight on the other tokens of the same word, from words of several tokens alone
    norm_to_C            the share of C where each weight is multiplied with the norm of what it brings, if asked for
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.batch import Packed
from regard.lens import compiled
from regard.lens.contribution import norms
from regard.lens.sums import Question, Summing, Sums
from regard.lens.tiles import Tiles, Workspace
from regard.model.encoder import Encoder
from regard.model.taps import Enough, Tap

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Classes:
    """Named classes of a batch's tokens, and what else the statistics of it need."""

    names: tuple[str, ...]
    members: Tensor  # (tokens, classes) float32
    sources: tuple[str, ...] = ("cls", "sep")
    words: Tensor | None = None  # (2, cells): token i and another token j of the same word, in packed places


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which statistics beyond the cheap ones."""

    reach: int = 3
    norms: bool = False


def read(
    encoder: Encoder, packed: Packed, classes: Classes, *, wanted: Wanted | None = None, space: Workspace | None = None
) -> dict[str, Values]:
    """All statistics of each text, in the caller's order: name -> (texts, layers, heads), nan where it has none.

    Without the last layer's values and all that follows them, which no statistic needs.
    """
    reader = _Reader(encoder, packed, classes, wanted or Wanted(), space or Workspace())
    with torch.no_grad(), contextlib.suppress(Enough):
        encoder(packed, tap=reader)
    found = _named(reader, classes, packed)
    back = torch.argsort(packed.order)
    return {name: value.index_select(0, back).double().cpu().numpy() for name, value in found.items()}


class _Reader(Tap):
    """Computes attention in place of the kernels, keeps the sums of each layer and nothing else."""

    def __init__(self, encoder: Encoder, packed: Packed, classes: Classes, wanted: Wanted, space: Workspace) -> None:
        super().__init__(attend=self._attend)
        self.encoder, self.packed, self.classes, self.wanted = encoder, packed, classes, wanted
        self.pairs = bool(packed.segments.any())
        self.space = space
        self.summing: Summing | None = None
        self.sums: list[Sums] = []
        self.own_word: list[Tensor] = []

    def _attend(self, name: str, query: Tensor, key: Tensor, value: Tensor, **call: Any) -> tuple[Tensor, Tensor]:
        scale = call["scale"]
        brought = norms(self.encoder, len(self.sums), value) if self.wanted.norms else None
        if self.summing is None:  # the first layer shows what there is to sum up
            self.summing = self._summing(query)
        mixed, lse, sums = self.summing.attend(query, key, value, scale=scale, norms=brought)
        self.sums.append(sums)
        if self.classes.words is not None:
            self.own_word.append(_cells(query, key, lse, self.classes.words, scale, self.packed))
        if len(self.sums) == self.encoder.config.layers:
            raise Enough
        return mixed, lse

    def _summing(self, query: Tensor) -> Summing:
        question = Question(
            members=self.classes.members,
            sources=tuple(self.classes.names.index(name) for name in self.classes.sources),
            reach=self.wanted.reach,
            second=self.packed.segments.float() if self.pairs else None,
        )
        if compiled.serves(query):
            return compiled.Compiled(self.packed, question)
        return Tiles(self.packed, self.encoder.config.heads, question, self.space)


def _cells(query: Tensor, key: Tensor, lse: Tensor, cells: Tensor, scale: float, packed: Packed) -> Tensor:
    """The weights of single cells, from token to token, summed by sequence: (sequences, heads)."""
    i, j = cells
    weight = torch.exp((query[i].float() * key[j].float()).sum(-1) * scale - lse[i])
    return weight.new_zeros(len(packed.lengths), weight.shape[1]).index_add_(0, _owners(packed)[i], weight)


def _owners(packed: Packed) -> Tensor:
    """Which sequence each token is of."""
    return torch.repeat_interleave(packed.bounds.diff().long(), output_size=len(packed.ids))


def _named(reader: _Reader, classes: Classes, packed: Packed) -> dict[str, Tensor]:
    """Sums to means over rows, by name: (sequences, layers, heads)."""
    sums = {f.name: torch.stack([getattr(s, f.name) for s in reader.sums], 1) for f in fields(Sums)}
    size = torch.tensor(packed.lengths, device=packed.ids.device).float()[:, None, None]
    counts = _per_sequence(classes.members, packed)[:, None, None]  # (sequences, 1, 1, classes)
    out = {"entropy": sums["entropy"][..., 0] / size}
    out["entropy_share"] = torch.where(size > 1, out["entropy"] / size.log(), torch.nan)
    rows = {"": size} | {f"{name}_": counts[..., classes.names.index(name)] for name in classes.sources}
    for place, (source, many) in enumerate(rows.items()):
        if source:
            out[f"{source}entropy"] = sums["entropy"][..., place] / many
            column = classes.names.index(source.removesuffix("_"))
            others = sums["masses"][..., 0, column] - sums["masses"][..., place, column]
            out[f"other_to_{classes.names[column]}"] = torch.where(size > many, others / (size - many), torch.nan)
        for column, name in enumerate(classes.names):
            out[f"{source}to_{name}"] = sums["masses"][..., place, column] / many
    for column in range(2 * reader.wanted.reach + 1):
        out[f"offset_{column - reader.wanted.reach:+d}"] = sums["offsets"][..., column] / size
    out["distance"] = sums["distance"] / size
    out["displacement"] = sums["received"] / size - (size - 1) / 2
    out["confidence"] = sums["confidence"] / size
    if reader.pairs:
        in_pairs = _per_sequence(packed.segments[:, None].float(), packed)[:, None] > 0
        out["to_own_text"] = torch.where(in_pairs, sums["own_text"] / size, torch.nan)
    if reader.wanted.norms:
        for column, name in enumerate(classes.names):
            out[f"norm_to_{name}"] = sums["weighted"][..., column] / sums["weighted"][..., -1]
    if classes.words is not None:
        tokens = torch.zeros(len(packed.ids), device=size.device).index_fill_(0, classes.words[0], 1.0)
        out["to_own_word"] = torch.stack(reader.own_word, 1) / _per_sequence(tokens[:, None], packed)[:, None]
    return out


def _per_sequence(x: Tensor, packed: Packed) -> Tensor:
    """(tokens, n) -> (sequences, n), summed."""
    return x.new_zeros(len(packed.lengths), x.shape[1]).index_add_(0, _owners(packed), x)


@dataclass(slots=True)
class Moments:
    """How many texts gave a number, its mean and its spread, for each head: a stream of texts in a few numbers.

    Batches are merged as by Chan, Golub and LeVeque (1979), so that nothing cancels.
    """

    count: dict[str, Values] = field(default_factory=dict)  # (layers, heads), each
    mean: dict[str, Values] = field(default_factory=dict)
    squares: dict[str, Values] = field(default_factory=dict)  # summed squared differences from the mean

    def add(self, values: Mapping[str, Values]) -> None:
        """Takes in a batch: name -> (texts, layers, heads), nan where a text gives no number."""
        for name, found in values.items():
            there = ~np.isnan(found)
            count = there.sum(0).astype(np.float64)
            some = np.maximum(count, 1)
            mean = np.where(there, found, 0).sum(0) / some
            squares = np.where(there, (found - mean) ** 2, 0).sum(0)
            zero = np.zeros_like(mean)
            before, old = self.count.get(name, zero), self.mean.get(name, zero)
            total = np.maximum(before + count, 1)
            gap = mean - old
            self.mean[name] = old + gap * count / total
            self.squares[name] = self.squares.get(name, zero) + squares + gap**2 * before * count / total
            self.count[name] = before + count

    def summary(self, name: str) -> dict[str, Values]:
        """n, mean, deviation, and the mean's 95 % interval, mean -+ 1.96 s / sqrt(n), of each head; nan where none."""
        n = self.count[name]
        mean = np.where(n > 0, self.mean[name], np.nan)
        deviation = np.where(n > 1, np.sqrt(self.squares[name] / np.maximum(n - 1, 1)), np.nan)
        half = 1.96 * deviation / np.sqrt(np.maximum(n, 1))
        return {"n": n, "mean": mean, "deviation": deviation, "low": mean - half, "high": mean + half}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each head and statistic with its summary."""
        out = []
        for name in self.mean:
            found = self.summary(name)
            for layer, head in np.ndindex(*found["n"].shape):
                place = {"layer": layer, "head": head, "statistic": name, "n": int(found["n"][layer, head])}
                out.append(place | {key: float(found[key][layer, head]) for key in found if key != "n"})
        return out
