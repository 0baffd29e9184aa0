"""The tokens of one text with how much each speaks for an answer, and how they look in a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from regard.lens.picture import BLUE, RED, shade


@dataclass(frozen=True, slots=True)
class Explanation:
    """Scores of one text's tokens for one answer, by one method; the larger, the more a token speaks for the answer."""

    tokens: tuple[str, ...]
    scores: NDArray[np.float32]  # (S,)
    method: str
    label: str  # of the answer that is explained; empty for a model without a head
    probability: float | None
    gap: float | None = None  # how far the scores miss what they must add to, by methods of which that is known
    dropped: int = 0  # tokens cut off

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "method": self.method,
            "label": self.label,
            "probability": self.probability,
            "tokens": list(self.tokens),
            "scores": [float(f"{score:.6g}") for score in self.scores.tolist()],
            "gap": self.gap,
            "dropped": self.dropped,
        }


def picture(found: Explanation) -> RenderableType:
    """The text, its tokens blue where they speak for the answer and red where against, and the strongest in figures."""
    sure = "" if found.probability is None else f" ({found.probability:.1%})"
    answer = f" for '{found.label}'{sure}" if found.label else ""
    most = float(np.abs(found.scores).max()) or 1.0
    line = Text()
    for token, score in zip(found.tokens, found.scores.tolist(), strict=True):
        line.append(token, style=shade(abs(score) / most, *(BLUE if score > 0 else RED)))
        line.append(" ")
    strongest = np.argsort(-np.abs(found.scores), kind="stable")[:8].tolist()
    figures = "  ".join(f"{found.tokens[i]} {found.scores[i]:+.3g}" for i in strongest)
    notes = [figures]
    if found.gap is not None:
        notes.append(
            f"The scores add to {found.scores.sum():+.3f}, and miss what they must add to by {found.gap:+.3f}."
        )
    if found.dropped:
        notes.append(f"The text was cut: {found.dropped} tokens were not read.")
    return Group(Text(f"{found.method}{answer}"), Text(), line, Text(), *(Text(note, style="dim") for note in notes))
