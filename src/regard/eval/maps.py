"""Attention of a few texts as HTML: a card for each, with the viewer that `regard look` writes pages with."""

from __future__ import annotations

from collections.abc import Sequence

from regard.eval.findings import AttentionExample
from regard.lens.viewer import Level, article, doubts, needs_script, right_to_left
from regard.page.markup import caution, name, number, passage

BYTES = 3_000_000  # base64 that one report may spend on weights

CAUTION = (
    "Attention says where a head looked, not why the model decided: by itself it explains nothing. Where a text has "
    "more tokens than a head is wide, plus one, other weights would have given the very same output. Test a reading "
    "by taking the tokens away and scoring the text again."
)


def attention(examples: Sequence[AttentionExample]) -> str:
    """The standing caution, then one card for each example; they share what a report may spend on weights."""
    first = caution([CAUTION])
    if not examples:
        return first + '<p class="none">No example was kept.</p>'
    return first + "".join(_card(example, budget=BYTES // len(examples)) for example in examples) + needs_script()


def _card(example: AttentionExample, *, budget: int) -> str:
    said = name(example.predicted, style="wrong" if example.right is False else "")
    verdict = f"Predicted {said} at {number(example.confidence)}; true: {name(example.truth)}."
    known = f"<details><summary>What to know before believing it</summary>{doubts(example.guards)}</details>"
    layers, heads = example.weights.shape[:2]
    return article(
        f"<h3>{passage(example.text, pair=example.pair)}</h3><p>{verdict}</p>{known if example.guards else ''}",
        [Level(unit="tokens", names=example.tokens, maps=example.weights)],
        layers=range(layers),
        heads=range(heads),
        budget=budget,
        right_to_left=right_to_left(example.text),
    )
