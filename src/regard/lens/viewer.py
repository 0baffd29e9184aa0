"""Attention as HTML to look around in: one viewer, for a page about one text and for the examples of a report.

Without a script the strip of tokens can be read; with it, every head, row, column and cell. `viewer.js` shows what this
file embeds, and says what `labels.py` says.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard import disk
from regard.lens.edges import Edges, Maps, fit
from regard.lens.guards import Guard
from regard.lens.labels import LABELS
from regard.lens.look import Look, patterns
from regard.page.markup import caution, escape, language, name, passage, table, writable
from regard.page.shell import asset, data, page

BUDGET = 2_900_000  # bytes of base64 that the weights of one page may take
TITLE = 80  # letters of a text that make its page's title
CROSSING = 12  # heads of a pair that stand in the open table


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What a viewer can show of one text: the weights between its tokens, or between its words."""

    unit: str
    names: Sequence[str]
    maps: Maps  # (heads, S, S) of each layer, read once
    patterns: Sequence[Sequence[tuple[str, float]]] | None = None  # found in the maps where they are not given


def article(
    heading: str,
    levels: Sequence[Level],
    *,
    layers: Sequence[int],
    heads: Sequence[int],
    budget: int,
    start: tuple[int, int] = (0, 0),
    extra: Mapping[str, Any] | None = None,
    right_to_left: bool = False,
) -> str:
    """One text: `heading` in HTML, the strip, and the weights of its levels in at most `budget` bytes of base64.

    `start` is the row and column that are read first; `extra` are more values for the script.
    """
    sizes = [len(level.names) for level in levels]
    found = [
        _level(level, layers=layers, heads=heads, budget=budget * size // sum(sizes))
        for level, size in zip(levels, sizes, strict=True)
    ]
    shown = found[0][1]
    which = f"layer {layers[-1]}, " + (f"mean of {len(heads)} heads" if len(heads) > 1 else f"head {heads[0]}")
    line = _line(shown, heads=len(heads), row=start[0])
    top, names = float(line.max()), levels[0].names
    best = int(line.argmax())
    called = [f"\u2068{name}\u2069" for name in (names[start[0]], names[best])]  # isolated, as the script has them
    fill = {"from": called[0], "i": start[0], "which": which, "direction": LABELS["outgoing"]}
    caption = LABELS["caption"].format(**fill, top=f"{top:.3f}", best=called[1], j=best)
    items = "".join(
        f'<li dir="auto"{language(token)} style="--w:{w / (top or 1.0):.3f}" title="{w:.3f}">{escape(token)}</li>'
        for token, w in zip(names, line.tolist(), strict=True)
    )
    fields = {
        "labels": LABELS,
        "layers": list(layers),
        "heads": list(heads),
        "from": start[0],
        "to": start[1],
        "levels": [fields for fields, _ in found],
        **(extra or {}),
    }
    return (
        f'<article class="attention">{heading}<p class="soft caption">{escape(caption)}</p>'
        f'<ol class="strip" dir="{"rtl" if right_to_left else "ltr"}" aria-label="{LABELS["strip"]}">{items}</ol>'
        f"{data(fields)}</article>\n"
    )


def render(look: Look, *, model: str, row: int | None = None, column: int | None = None) -> str:
    """A whole page about one text."""
    title = look.text if len(look.text) <= TITLE else look.text[: TITLE - 1] + "…"
    levels = []
    if look.words is not None:
        levels.append(Level(unit="words", names=look.names, maps=look.maps(), patterns=look.patterns))
        tokens = look.of_tokens()
        levels.append(Level(unit="tokens", names=tokens.names, maps=tokens.maps()))
    else:
        levels.append(Level(unit="tokens", names=look.names, maps=look.maps(), patterns=look.patterns))
    extra = {"norms": np.round(look.weighting.reshape(-1, 4), 4).tolist()}
    view = article(
        f"<h3>{passage(look.text, pair=look.pair)}</h3>" if title != look.text or look.pair is not None else "",
        levels,
        layers=look.layers,
        heads=look.heads,
        budget=BUDGET,
        start=(row or 0, column or 0),
        extra=extra,
        right_to_left=right_to_left(look.text),
    )
    sections = {"view": ("Attention", view + needs_script())}
    if look.pair is not None:
        sections["pair"] = ("Between the two texts", _crossing(look))
    sections["care"] = ("What to know before believing it", doubts(look.guards))
    said = caution([guard.text for guard in look.guards if guard.warns])
    return page(title, sections, kind=f"Attention of {Path(model).name or model}", lead=said, script=script())


def write(look: Look, path: Path, *, model: str, row: int | None = None, column: int | None = None) -> None:
    """Writes the page."""
    disk.write_text(path, render(look, model=model, row=row, column=column))


def script() -> str:
    """The viewer's script, which a page with articles carries once."""
    return asset("regard.lens", "canvas.js") + asset("regard.lens", "viewer.js")


def needs_script() -> str:
    """What stands on the page where scripts are off."""
    return f"<noscript><p class='soft script'>{LABELS['script']}</p></noscript>"


def doubts(guards: Iterable[Guard]) -> str:
    """Everything to know about a look, with its numbers, as a list of terms."""
    rows = "".join(
        f'<dt class="{"wrong" if guard.warns else "soft"}">{escape(guard.name)}</dt><dd>{name(guard.text)}</dd>'
        for guard in guards
    )
    return f'<dl class="doubts">{rows}</dl>'


def right_to_left(text: str) -> bool:
    """Whether the first letter that has a direction is of a script that runs to the left."""
    return next((kind for c in text if (kind := unicodedata.bidirectional(c)) in ("L", "R", "AL")), "L") != "L"


def _level(level: Level, *, layers: Sequence[int], heads: Sequence[int], budget: int) -> tuple[dict[str, Any], Edges]:
    found: list[Sequence[tuple[str, float]]] = []

    def watched() -> Iterable[NDArray[np.float32]]:
        for weights in level.maps:
            if level.patterns is None:
                found.append(patterns(weights, tuple(level.names)))
            yield weights

    rows = len(layers) * len(heads) * len(level.names)
    edges, packed = fit(watched(), rows=rows, budget=budget * 3 // 4)
    fields = {
        "unit": level.unit,
        "names": [writable(token) for token in level.names],
        "kept": edges.kept,
        "shown": round(edges.shown, 6),
        "patterns": [[kind, round(share, 4)] for row in (level.patterns or found) for kind, share in row],
        "weights": base64.b64encode(packed).decode("ascii"),
    }
    return fields, edges


def _line(edges: Edges, *, heads: int, row: int) -> NDArray[np.float64]:
    """Where one row looks in the last layer, mean of its heads; what is left out counts as nothing."""
    out = np.zeros(edges.size)
    for place in range(len(edges.weights) - heads * edges.size + row, len(edges.weights), edges.size):
        out[edges.places[place]] += edges.weights[place] / heads
    return out


def _crossing(look: Look) -> str:
    found = look.quadrants.reshape(-1, 4)
    order = np.argsort(-(found[:, 1] + found[:, 2]), kind="stable").tolist()
    rows = [
        [
            f"{look.layers[place // len(look.heads)]}.{look.heads[place % len(look.heads)]}",
            *(f"{share * 100:.1f}" for share in found[place]),
            f"{100 * (1 - found[place, :2].sum()):.1f}",
            f"{100 * (1 - found[place, 2:].sum()):.1f}",
        ]
        for place in order
    ]
    head = ["layer.head", "A → A", "A → B", "B → A", "B → B", "A → special", "B → special"]
    said = "In percent of what a token of the first text (A) or the second (B) gives."
    first = table(head, rows[:CROSSING], caption=f"{said} Those first that cross most.", numbers=range(7))
    if len(rows) <= CROSSING:
        return first
    rest = table(head, rows[CROSSING:], caption=said, numbers=range(7))
    return f"{first}<details><summary>The other {len(rows) - CROSSING} heads</summary>{rest}</details>"
