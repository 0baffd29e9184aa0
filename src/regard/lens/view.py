"""Who may attend to whom, as rules: hidden from view is every position that a rule does not allow.

    same_text() & ~of_class([sep])                no weight to [SEP], nor from one text of a pair to the other
    causal() & window(8)                          from each position to itself and the 8 before it
    same_text() | of_class([cls])

A rule says of a query and a key whether the weight between them may be above zero; `&`, `|` and `~` make rules of
rules. `hidden` turns one into what a tap takes, for the layers that are asked for: the scores that it does not allow
become minus infinity, in evaluation and in training. `Forbid` (`edit.py`) is for places that are named one by one, in
single heads; a rule speaks of how two places lie to each other, in all heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.model import taps


@dataclass(frozen=True, slots=True)
class Text:
    """What rules know of a sequence: three rows of S numbers."""

    ids: Tensor
    segments: Tensor
    positions: Tensor


@dataclass(frozen=True, slots=True)
class Rule:
    """Whether each query may attend to each key: a function from a text to (S, S) of true and false."""

    allows: Callable[[Text], Tensor]

    def __and__(self, other: Rule) -> Rule:
        return Rule(lambda text: self.allows(text) & other.allows(text))

    def __or__(self, other: Rule) -> Rule:
        return Rule(lambda text: self.allows(text) | other.allows(text))

    def __invert__(self) -> Rule:
        return Rule(lambda text: ~self.allows(text))


def itself() -> Rule:
    """A position to itself."""
    return window(0)


def same_text() -> Rule:
    """Within the first text or within the second, by segments; [CLS] and the first [SEP] are of the first."""
    return Rule(lambda text: text.segments[:, None] == text.segments)


def causal() -> Rule:
    """To itself and what stands before it."""
    return Rule(lambda text: text.positions[:, None] >= text.positions)


def window(reach: int) -> Rule:
    """To positions at most `reach` away, itself included."""
    if reach < 0:
        raise Problem(f"A window reaches 0 positions or more to each side; this one reaches {reach}. Mend it.")
    return Rule(lambda text: (text.positions[:, None] - text.positions).abs() <= reach)


def of_class(ids: Iterable[int]) -> Rule:
    """To tokens of these ids, from anywhere."""
    wanted = torch.tensor(sorted(ids), dtype=torch.long)
    return Rule(lambda text: torch.isin(text.ids, wanted.to(text.ids.device)).expand(len(text.ids), -1))


def not_class(ids: Iterable[int]) -> Rule:
    """To all tokens but those of these ids."""
    return ~of_class(ids)


def allowed(rule: Rule, packed: Packed) -> list[Tensor]:
    """Of each sequence, in packed order, whom each position may attend to: (S, S) of true and false.

    Raises `Problem` where a position may attend to nobody.
    """
    parts = zip(*(x.split(packed.lengths) for x in (packed.ids, packed.segments, packed.positions)), strict=True)
    masks = [rule.allows(Text(*part)) for part in parts]
    for number, mask in enumerate(masks):
        if not mask.any(-1).all():
            place = int((~mask.any(-1)).nonzero()[0])
            raise Problem(
                f"By this rule position {place} of text {int(packed.order[number])} may attend to nobody, and weights "
                "must sum to one. Add `| itself()` to the rule."
            )
    return masks


def hidden(rule: Rule, packed: Packed, *, layers: Iterable[int] | None = None) -> dict[str, taps.Edit]:
    """The rule as `Tap(edit=...)` takes it for this batch, in these layers, counted from 0, or in all."""
    layers = None if layers is None else list(layers)
    if layers is not None and min(layers, default=0) < 0:
        raise Problem(f"Layers count from 0, so that there is no layer {min(layers)}.")
    masks = allowed(rule, packed)

    def change(scores: list[Tensor]) -> list[Tensor]:
        return [score.masked_fill(~mask, -torch.inf) for score, mask in zip(scores, masks, strict=True)]

    names = ["*"] if layers is None else [str(layer) for layer in layers]
    return {f"layer.{name}.attention.scores": change for name in names}
