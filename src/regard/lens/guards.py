"""What a reader should know before believing a picture of attention, in numbers, beside every view of it.

Attention shows where a head looks. Whether the weights are the only ones that give the same output, whether what is
looked at has anything to give, and whether an answer depends on it, are other questions, and each has a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from regard.lens.look import Look

ROWS = 64  # of each head at most, evenly spread, that are weighed by norms: ranks of all rows of a long text take long
MOVED = 0.1  # share of the attention that norms may move before a reader is warned

CUT = "The text was cut: {dropped} tokens were not read, {tokens} were."
READ = "The whole text was read."
FREE = (
    "With {tokens} tokens and heads {head_width} wide the weights are not identifiable: each row could move in at "
    "least {free_dimensions} directions and the head would put out the same."
)
BOUND = (
    "{tokens} tokens and heads {head_width} wide: {free_dimensions} free dimensions follow from these lengths; weights "
    "may still not be the only ones that give this output."
)
NORMS = (
    "Times the norm of what a token gives, ||v W_O||, the attention on special tokens goes from {special:.0%} to "
    "{special_weighted:.0%}, and {moved:.0%} of all attention moves elsewhere; weights and products rank tokens with a "
    "correlation of {correlation:.2f} (heads: {heads})."
)
NOISE = (
    "The model is in training mode, with dropout {hidden} and {attention} in attention: these are the weights of one "
    "noisy pass."
)
STILL = "The model is in evaluation mode: no dropout."
FAITHFUL = "Attention shows where a head looks, not what an answer depends on; {found}"
UNMEASURED = "that was not measured on this model: regard faithful MODEL data.csv"
MEASURED = (
    "removing tokens ({deletion}) in the order of {best} moves this model's by {value:.3f} [{low:.3f}, {high:.3f}] on "
    "{texts} texts of {data}. More than in a random order: {more}; no more: {rest}."
)
SENTENCES = {  # where it warns, and where it does not
    "length": (CUT, READ),
    "identifiability": (FREE, BOUND),
    "norms": (NORMS, NORMS),
    "dropout": (NOISE, STILL),
    "faithfulness": (FAITHFUL, FAITHFUL),
}


@dataclass(frozen=True, slots=True)
class Guard:
    """One thing to know: its name, whether it is a warning, and its numbers, from which the sentence is made."""

    name: str
    warns: bool
    numbers: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The sentence."""
        return SENTENCES[self.name][0 if self.warns else 1].format(**self.numbers)

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "warns": self.warns, "numbers": dict(self.numbers), "text": self.text}


def guards(look: Look) -> tuple[Guard, ...]:
    """All there is to know about a look."""
    size, free = len(look.tokens), free_dimensions(len(look.tokens), look.head_width)
    numbers = {"tokens": size, "head_width": look.head_width, "free_dimensions": free}
    before, after, moved, correlation = (float(v) for v in np.mean(look.weighting, axis=(0, 1)))
    norms = {
        "special": before,
        "special_weighted": after,
        "moved": moved,
        "correlation": correlation,
        "heads": len(look.layers) * len(look.heads),
        "rows": min(size, ROWS),
    }
    hidden, attention = look.dropout
    return (
        Guard("length", look.dropped > 0, {"dropped": look.dropped, "tokens": size}),
        Guard("identifiability", free > 0, numbers),
        Guard("norms", moved > MOVED, norms),
        Guard("dropout", hidden + attention > 0, {"hidden": hidden, "attention": attention}),
        faithfulness(look.faithful),
    )


def free_dimensions(tokens: int, head_width: int) -> int:
    """In how many directions a row can change, still sum to one, and leave the head's output as it is.

    At least max(0, S - (d_head + 1)), Brunner et al. 2020: the values are of rank d_head at most, and one more
    equation holds the sum.
    """
    return max(0, tokens - (head_width + 1))


def evenly(tokens: int) -> list[int]:
    """The places of at most 64 tokens that lie evenly spread over a text, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, tokens - 1, min(tokens, ROWS)).tolist()})


def weighting(weights: Tensor, norms: Tensor, special: Tensor) -> NDArray[np.float64]:
    """What becomes of weights when each is multiplied by the norm of what it lets through.

    The product w_ij = a_ij ||v_j W_O|| (Kobayashi et al. 2020), each row divided by its sum, is set beside a_ij.
    weights (heads, rows, S), norms (S, heads), special (S,) of truth values -> (heads, 4): the share on special tokens
    before and after, half the sum of |a - w| in a row, and Spearman's correlation within a row, all means over rows.
    """
    product = weights * norms.T.unsqueeze(1)
    product /= product.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    before, after = (x[..., special].sum(-1) for x in (weights, product))
    moved = (weights - product).abs().sum(-1) / 2
    return (
        torch.stack([x.mean(-1) for x in (before, after, moved, _correlation(weights, product))], -1).double().numpy()
    )


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation along the last axis; equal weights, which floating point hardly leaves, rank by place."""
    ranks = [x.argsort(dim=-1, stable=True).argsort(-1).float() for x in (first, second)]
    size = first.shape[-1]
    return 1 - 6 * (ranks[0] - ranks[1]).square().sum(-1) / max(1, size * (size**2 - 1))


def faithfulness(found: Mapping[str, Any] | None) -> Guard:
    """What `regard faithful` has measured on this model, or that nobody has; `found` is what its file holds."""
    methods = verdicts(found)
    if not methods:
        return Guard("faithfulness", True, {"found": UNMEASURED})
    best = max(methods, key=lambda name: methods[name][0])
    common = {name: (found or {}).get(name, "?") for name in ("texts", "data", "deletion")}
    more, rest = (
        ", ".join(n for n, verdict in methods.items() if verdict[3] == beats) or "none" for beats in (True, False)
    )
    value, low, high, _ = methods[best]
    told = MEASURED.format(**common, best=best, value=value, low=low, high=high, more=more, rest=rest)
    return Guard("faithfulness", rest != "none", {**common, "methods": methods, "found": told})


def verdicts(found: Mapping[str, Any] | None) -> dict[str, tuple[float, float, float, bool]]:
    """Comprehensiveness, its interval and whether it beats chance, of each method in a table of `regard faithful`.

    Empty where nothing was measured, or where another hand has written what cannot be read.
    """
    try:
        return {name: _verdict(**said) for name, said in (found or {})["methods"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _verdict(
    comprehensiveness: tuple[float, float, float], beats_random: bool, **_: Any
) -> tuple[float, float, float, bool]:
    value, low, high = (float(number) for number in comprehensiveness)
    return value, low, high, bool(beats_random)
