"""The attention of one text: any layer, head, row, column or cell, written out when it is asked for.

A look holds queries, keys and the log of the softmax's denominator, O(S) for each head, watched beside the fused
kernel. Weights are exp(q_i . k_j / sqrt(d) - lse_i), and no more than a layer of them is written out at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.errors import Problem
from regard.lens.capture import ALL, Capture, Some
from regard.lens.guards import Guard, evenly, free_dimensions, guards, weighting
from regard.lens.words import merged

Weights = NDArray[np.float32]
MOST = 2**26  # weights that `weights` gives at once: 256 MB
KINDS = ("first", "separator", "previous", "next", "same")
PLAIN = 0.3  # a head whose commonest place takes less of its attention is called broad


@dataclass(frozen=True, slots=True)
class Words:
    """Tokens merged to words: weights to a word are summed, weights from a word are averaged."""

    names: tuple[str, ...]
    units: NDArray[np.int64]  # of each token, its word; special tokens are words of their own


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Look:
    """How much each token of a text, or each of its words, attends to each other."""

    text: str
    pair: str | None = None
    tokens: tuple[str, ...]
    owners: tuple[int, ...]  # of each token: 0 the first text, 1 the second, -1 none, for it is a special token
    capture: Capture  # of this text alone
    layers: tuple[int, ...]  # which layers and heads are shown, from 0
    heads: tuple[int, ...]
    head_width: int
    norms: NDArray[np.float32]  # (layers, S, heads): ||v_j W_O||, what a token has to give
    dropped: int = 0  # tokens cut off
    dropout: tuple[float, float] = (0.0, 0.0)  # in force: of hidden states, of attention
    faithful: Mapping[str, Any] | None = None  # what `regard faithful` has measured on the model
    words: Words | None = None

    @property
    def unit(self) -> str:
        """What rows and columns are: token or word."""
        return "token" if self.words is None else "word"

    @property
    def names(self) -> tuple[str, ...]:
        """The tokens, or the words where they are merged."""
        return self.tokens if self.words is None else self.words.names

    @property
    def sides(self) -> NDArray[np.intp]:
        """Of each token or word: 0 the first text, 1 the second, -1 neither."""
        owners = np.array(self.owners, dtype=np.intp)
        return owners if self.words is None else owners[np.unique(self.words.units, return_index=True)[1]]

    @property
    def free_dimensions(self) -> int:
        """In how many directions a row could change and leave the head's output as it is, at least."""
        return free_dimensions(len(self.tokens), self.head_width)

    @property
    def weights(self) -> Weights:
        """All weights of the layers and heads shown, each row summing to one: (layers, heads, S, S).

        Raises `Problem` where they would take more than 256 MB.
        """
        size = len(self.layers) * len(self.heads) * len(self.tokens) ** 2
        if size > MOST:
            raise Problem(
                f"All weights of {len(self.tokens)} tokens are {size:,} numbers. Look at one layer or head, or ask for "
                "rows with look.part(layer, queries=[0])."
            )
        return np.stack(list(self.maps()))

    def maps(self) -> Iterator[Weights]:
        """The weights of one layer after another: (heads, S, S)."""
        return (self.part(layer) for layer in self.layers)

    def part(self, layer: int, *, queries: Some = ALL, keys: Some = ALL) -> Weights:
        """Any rows, columns or cells of a layer, of the heads shown: (heads, queries, keys)."""
        if layer not in self.layers:
            raise Problem(f"Layer {layer} was not looked at. Those here are {', '.join(map(str, self.layers))}.")
        if self.words is None:
            found = self.capture.weights(layer, 0, heads=self.heads, queries=queries, keys=keys)
        else:
            found = merged(self.capture.weights(layer, 0, heads=self.heads), self.words.units)
            found = found[:, queries][..., keys]
        return found.cpu().numpy()

    def rows(self, place: int) -> Weights:
        """Where a token or word looks: (layers, heads, S)."""
        return np.stack([self.part(layer, queries=[place])[:, 0] for layer in self.layers])

    def columns(self, place: int) -> Weights:
        """How much each looks at a token or word: (layers, heads, S)."""
        return np.stack([self.part(layer, keys=[place])[..., 0] for layer in self.layers])

    def of_tokens(self) -> Look:
        """The same look, its words taken apart again."""
        return replace(self, words=None)

    @cached_property
    def patterns(self) -> list[list[tuple[str, float]]]:
        """What each head of each layer mostly does, and with what share of its attention."""
        return [patterns(weights, self.names) for weights in self.maps()]

    @cached_property
    def weighting(self) -> NDArray[np.float64]:
        """What becomes of each head's weights times the norm of what they let through: (layers, heads, 4).

        See `guards.weighting`; of a long text, 64 rows that lie evenly spread.
        """
        special = torch.tensor(self.owners) < 0
        rows = evenly(len(self.tokens))
        return np.stack(
            [
                weighting(
                    self.capture.weights(layer, 0, heads=self.heads, queries=rows).cpu(),
                    torch.from_numpy(norms),
                    special,
                )
                for layer, norms in zip(self.layers, self.norms, strict=True)
            ]
        )

    @cached_property
    def quadrants(self) -> NDArray[np.float64]:
        """The mean share that tokens of one text give to each text, for a pair: (layers, heads, 2, 2), [from, to].

        What is missing in a row goes to special tokens.
        """
        sides = self.sides
        return np.stack(
            [
                [[m[np.ix_(sides == i, sides == j)].sum(-1).mean(dtype=np.float64) for j in (0, 1)] for i in (0, 1)]
                for weights in self.maps()
                for m in weights
            ]
        ).reshape(len(self.layers), len(self.heads), 2, 2)

    @cached_property
    def guards(self) -> tuple[Guard, ...]:
        """What to know before believing any of it."""
        return guards(self)

    def __repr__(self) -> str:
        return f"<Look: {len(self.names)} {self.unit}s, {len(self.layers)} layers, {len(self.heads)} heads>"

    def _repr_html_(self) -> str:
        from regard.lens.fragment import fragment

        return fragment(self)


def patterns(weights: Weights, names: tuple[str, ...]) -> list[tuple[str, float]]:
    """What each head of a layer mostly does on one text, and the share of its attention; (heads, S, S) weights.

    One of: first ([CLS]), separator, previous, next, same, or broad where none of these takes 30 %.
    """
    size = len(names)
    separators = [j for j, name in enumerate(names) if name == "[SEP]"]
    diagonals = [np.trace(weights, offset, 1, 2) / max(1, size - abs(offset)) for offset in (-1, 1, 0)]
    shares = np.stack([weights[..., 0].mean(-1), weights[..., separators].sum(-1).mean(-1), *diagonals], -1)
    best = shares.argmax(-1)
    found = [(KINDS[kind], float(share)) for kind, share in zip(best, shares.max(-1), strict=True)]
    return [(name if share >= PLAIN else "broad", share) for name, share in found]
