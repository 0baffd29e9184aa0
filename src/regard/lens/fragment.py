"""A look in a notebook: HTML that needs neither script nor style sheet, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regard.lens.labels import LABELS
from regard.lens.look import Look
from regard.lens.table import largest
from regard.lens.viewer import right_to_left
from regard.page.markup import escape, language

LISTED = 8
STRIP = 200  # tokens that a strip shows
CELL = "padding:2px 8px;text-align:left;border:0"
TOKEN = "display:inline-block;margin:1px;padding:0 5px;border-radius:3px"


def fragment(look: Look) -> str:
    """The strip of the first token's row, one head's strongest weights or all heads at a glance, and what to know."""
    line = look.rows(0).mean((0, 1))
    one = len(look.layers) == len(look.heads) == 1
    shown = _strongest(look) if one else _heads(look)
    known = "".join(
        f'<li style="{"font-weight:600" if guard.warns else ""}">{escape(guard.text)}</li>' for guard in look.guards
    )
    which = (
        f"layer {look.layers[0]}, head {look.heads[0]}"
        if one
        else f"mean of {len(look.layers) * len(look.heads)} heads"
    )
    said = f"Where “{escape(look.names[0])}” looks, {which}"
    return (
        f'<div style="max-width:60rem;line-height:1.6"><div style="opacity:.75">{said}</div>{_strip(look, line)}{shown}'
        f'<ul style="opacity:.75;margin:.6rem 0;padding-left:1.2rem">{known}</ul></div>'
    )


def _strip(look: Look, line: NDArray[np.float32]) -> str:
    top = float(line.max()) or 1.0
    tokens = "".join(
        f'<bdi{language(name)} title="{i}: {w:.3f}" style="{TOKEN};{_shade(w / top)}">{escape(name)}</bdi>'
        for i, (name, w) in enumerate(zip(look.names[:STRIP], line.tolist(), strict=False))
    )
    more = f" and {len(look.names) - STRIP} more" if len(look.names) > STRIP else ""
    return (
        f'<div dir="{"rtl" if right_to_left(look.text) else "ltr"}" style="margin:.3rem 0 .8rem">{tokens}{more}</div>'
    )


def _strongest(look: Look) -> str:
    weights = look.part(look.layers[0])[0]
    rows = [
        [f"{i} <bdi>{escape(look.names[i])}</bdi>", f"{j} <bdi>{escape(look.names[j])}</bdi>", f"{w:.3f}"]
        for i, j, w in largest(weights, LISTED)
    ]
    return _table(["from", "to", "weight"], [[(cell, CELL) for cell in row] for row in rows])


def _heads(look: Look) -> str:
    """A cell for each head: what it mostly does, and with what share of its attention."""
    rows = []
    for layer, heads in zip(look.layers, look.patterns, strict=True):
        cells = [(str(layer), CELL)]
        for kind, share in heads:
            words = LABELS[kind] if kind == "broad" else f"{LABELS[kind]} {share * 100:.0f}"
            cells.append((words, f"{CELL};{_shade(share if kind != 'broad' else 0.0)}"))
        rows.append(cells)
    return _table(["layer", *(str(head) for head in look.heads)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    top = "".join(f'<th style="{CELL}">{cell}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell, style in row) + "</tr>" for row in rows
    )
    table = f'<table style="border-collapse:collapse;font-size:.85em"><tr>{top}</tr>{body}</table>'
    return f'<div style="overflow-x:auto">{table}</div>'


def _shade(share: float) -> str:
    """A background that lets the notebook's own, light or dark, show through."""
    return f"background:rgba(52,120,170,{0.6 * min(1.0, share):.3f})"
