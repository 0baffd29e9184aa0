"""Attention of a few texts as HTML: a strip that anyone can read, and the weights for the page's own viewer."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from regard.eval.findings import AttentionExample
from regard.page.markup import caution, count, escape, language, name, number, passage
from regard.page.shell import data

TOKENS = 48  # a text with more tokens shows its strip only: its weights would weigh too much
BYTES = 3_000_000  # base64 that one report may spend on weights

CAUTION = (
    "Attention says where a head looked, not why the model decided: by itself it explains nothing. Where a text has "
    "more tokens than a head is wide, plus one, other weights would have given the very same output. Test a reading "
    "by taking the tokens away and scoring the text again."
)


def attention(examples: Sequence[AttentionExample]) -> str:
    """The standing caution, then one card for each example; weights are embedded until the budget is spent."""
    parts, spent = [caution([CAUTION])], 0
    if not examples:
        return parts[0] + '<p class="none">No example was kept.</p>'
    for example in examples:
        cost = example.weights.size * 4 // 3
        fits = len(example.tokens) <= TOKENS and spent + cost <= BYTES
        spent += cost if fits else 0
        parts.append(_card(example, data=_data(example) if fits else ""))
    script = "With JavaScript on, a picker of layers and heads and the full matrix stand below each example."
    return "".join(parts) + f"<noscript><p class='soft script'>{script}</p></noscript>"


def _card(example: AttentionExample, *, data: str) -> str:
    row = example.weights[-1, :, 0].mean(0)  # from the first token, over the heads of the last layer
    top = float(row.max()) or 1.0
    strip = "".join(
        f'<li dir="auto"{language(token)} style="--w:{w / top:.3f}" title="{w:.3f}">{escape(token)}</li>'
        for token, w in zip(example.tokens, row.tolist(), strict=True)
    )
    layers, heads = example.weights.shape[:2]
    said = name(example.predicted, style="wrong" if example.right is False else "")
    verdict = f"Predicted {said} at {number(example.confidence)}; true: {name(example.truth)}."
    first, most = escape(example.tokens[0]), escape(example.tokens[int(row.argmax())])
    caption = f"From “{first}”, layer {layers}, mean of {heads} heads. Most, {number(top)}, goes to “{most}”."
    size = count(len(example.tokens), "token")
    limit = f"a page carries those of texts up to {TOKENS} tokens, {BYTES // 1_000_000} MB in all"
    short = f'<p class="soft">The weights of all heads of these {size} are left out: {limit}.</p>'
    full = "" if data else short
    return (
        f'<article class="attention"><h3>{passage(example.text, pair=example.pair)}</h3><p>{verdict}</p>'
        f'<p class="soft caption">{caption}</p><ol class="strip" aria-label="Tokens, shaded where attention is larger">'
        f"{strip}</ol>{full}{data}</article>\n"
    )


def _data(example: AttentionExample) -> str:
    layers, heads = example.weights.shape[:2]
    steps = np.rint(np.clip(example.weights, 0, 1) * 255).astype(np.uint8)
    fields = {
        "tokens": list(example.tokens),
        "layers": layers,
        "heads": heads,
        "weights": base64.b64encode(steps.tobytes()).decode("ascii"),
    }
    return data(fields)
