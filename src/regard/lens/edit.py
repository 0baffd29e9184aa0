"""Edits of attention: what any layer, head and position computes, changed through an argument of the forward pass.

    Drop(3, 5)                            head 5 of layer 3 puts out nothing: o_i = 0
    Scale(3, 5, 0.5)                      o_i -> factor * o_i
    Uniform(3, 5)                         weights 1 / N over the sequence
    Sharpen(3, 5, 2)                      weights a_ij^power / sum_j a_ij^power, that is scores times power
    Forbid(3, 5, "[CLS]", "[SEP]")        from these queries no weight to these keys: scores of minus infinity
    Force(3, 5, "[CLS]", "[SEP]", 0.9)    from these queries this much weight to these keys together
    Patch(3, 5, "another text")           a head's output, its weights, or a layer's output, taken from another run

Layers, heads and positions are named as in `places`; only the rows of `queries` are changed. Several edits compose: in
each layer those that concern weights act in the order given, then those of heads' outputs in theirs, then those of the
layer's output. A sequence of a packed batch is edited as it would be alone: `bind.bound` makes a tap's edits of them.

Drop, scale, uniform and sharpen are products, of a head's output or of its queries (s_ij = q_i . k_j / sqrt(d), and
queries of zero give equal scores), and stay on the fused kernel. Forbid, force and patched weights take the explicit
path, in their layer alone. All of them work in training, with gradients, and under the noise of dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.batch import Packed
from regard.errors import Problem
from regard.lens.places import ALL, Number, Places, are_places, each, is_number, token_of

VALUES = ("mixed", "weights", "output")  # what can be patched


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of some heads of some layers, in the rows of some queries."""

    layer: Number
    head: Number = ALL
    queries: Places = field(default=ALL, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("layer", "head"):
            self._check(name, is_number(getattr(self, name)), "a number from 0, a range such as 0-4, or *")
        for name in ("queries", "keys"):
            places = getattr(self, name, ALL)
            self._check(name, are_places(places), "a position, a token, first, last or *, or a list of these")
            if isinstance(places, list):
                object.__setattr__(self, name, tuple(places))  # so that edits are equal and can be counted

    @property
    def explicit(self) -> bool:
        """Whether it needs the scores of its layer written out."""
        return False

    def _check(self, name: str, is_good: bool, meant: str) -> None:
        if not is_good:
            kind = type(self).__name__.lower()
            raise Problem(f"The field '{name}' of {kind} must be {meant}; it is {getattr(self, name)!r}. Mend it.")

    def _check_finite(self, name: str, low: float, high: float, meant: str) -> None:
        number = getattr(self, name)
        is_real = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
        self._check(name, is_real and low <= number <= high, meant)


@dataclass(frozen=True, slots=True)
class Drop(Edit):
    """The head puts out nothing."""


@dataclass(frozen=True, slots=True)
class Scale(Edit):
    """The head's output times a factor."""

    factor: float = math.nan  # no default: which one is for the caller to say

    def __post_init__(self) -> None:
        Edit.__post_init__(self)
        self._check_finite("factor", -math.inf, math.inf, "a number")


@dataclass(frozen=True, slots=True)
class Uniform(Edit):
    """Equal weights, 1 / N to each of the N positions of the sequence."""


@dataclass(frozen=True, slots=True)
class Sharpen(Edit):
    """Weights to a power, and again summing to one: above 1 sharper, below 1 flatter."""

    power: float = math.nan

    def __post_init__(self) -> None:
        Edit.__post_init__(self)
        self._check_finite("power", math.ulp(0.0), math.inf, "a number above 0")


@dataclass(frozen=True, slots=True)
class Forbid(Edit):
    """No weight from these queries to these keys; what the rest of a row has is divided as before."""

    queries: Places = ALL
    keys: Places = ALL

    @property
    def explicit(self) -> bool:
        """It does."""
        return True


@dataclass(frozen=True, slots=True)
class Force(Edit):
    """So much weight from each of these queries to these keys together.

    Among the keys, as among the rest of the row, weight is divided as before: the row is told its share and nothing
    else. A text that has none of the keys stays as it is.
    """

    queries: Places = ALL
    keys: Places = ALL
    weight: float = math.nan

    def __post_init__(self) -> None:
        Edit.__post_init__(self)
        self._check_finite("weight", 0.0, 1.0, "a number from 0 to 1")

    @property
    def explicit(self) -> bool:
        """It does."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What a run has computed, for `Patch`: one sequence that serves all, or as many as the batch, in its order."""

    packed: Packed
    values: Mapping[str, Any]  # by the names of `taps`
    tokens: Sequence[Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class Patch(Edit):
    """A value taken from another run, of another text or of the same one: activation patching (Vig et al. 2020).

    `value` is mixed (a head's output), weights (a head's), or output (a layer's, all of it). The positions are named in
    both texts, must be as many in both, and go one to one: all of them only between texts of one length, the first or
    the last between any. Weights speak of all positions, and always need one length.
    """

    source: str | Recording = ""
    pair: str = ""  # the second text, where the source is a pair
    value: str = "mixed"

    def __post_init__(self) -> None:
        Edit.__post_init__(self)
        self._check("value", self.value in VALUES, "mixed, weights or output")
        self._check("source", isinstance(self.source, (str, Recording)) and self.source != "", "a text or a recording")
        self._check("pair", isinstance(self.pair, str), "a text")
        self._check("head", self.value != "output" or self.head == ALL, "*, as a layer's output is of all its heads")

    @property
    def explicit(self) -> bool:
        """Patched weights do."""
        return self.value == "weights"


def tokens_named(edits: Iterable[Edit]) -> list[str]:
    """The tokens by which the edits name positions."""
    places = [p for edit in edits for name in ("queries", "keys") for p in each(getattr(edit, name, ALL))]
    return [token for token in map(token_of, places) if token is not None]
