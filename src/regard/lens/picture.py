"""Attention in the terminal: all heads at a glance, one head as a matrix, one position as a list."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from regard.errors import Problem
from regard.lens.look import Look, pattern

MATRIX_TOKENS = 48  # wider matrices do not fit a terminal; they are shown as a list
LETTERS = {"first": "C", "separator": "S", "previous": "<", "next": ">", "same": "=", "broad": "·"}


def picture(look: Look, *, position: int | None = None) -> RenderableType:
    """The view that fits what was asked for: one position, one head, or all of them; with what to be careful about."""
    if position is not None:
        view: RenderableType = _position(look, position)
    elif look.weights.shape[:2] == (1, 1):
        view = _matrix(look) if len(look.tokens) <= MATRIX_TOKENS else _edges(look)
    else:
        view = _heads(look)
    return Group(view, *(Text(line, style="dim") for line in cautions(look)))


def find(look: Look, word: str) -> int:
    """The position of a token, named by its number or by its text; raises `Problem` where there is none."""
    if word.lstrip("-").isdigit():
        number = int(word)
        if not -len(look.tokens) <= number < len(look.tokens):
            raise Problem(f"There is no position {number}: this text has positions 0 to {len(look.tokens) - 1}.")
        return number % len(look.tokens)
    plain = [token.removeprefix("##").lower() for token in look.tokens]
    if word.lower() not in plain:
        raise Problem(f"No token is '{word}'. The tokens are: {' '.join(look.tokens)}")
    return plain.index(word.lower())


def cautions(look: Look) -> list[str]:
    """What a reader should know before believing a picture of attention."""
    out = []
    if look.dropped:
        out.append(f"The text was cut: {look.dropped} tokens are not shown.")
    if look.free_dimensions:
        out.append(
            f"With {len(look.tokens)} tokens and heads of width {look.head_width} the weights are not identifiable: "
            f"each row can move in {look.free_dimensions} directions without changing what the head puts out."
        )
    return [*out, "Attention shows where a head looks, not what the model's answer depends on."]


def _heads(look: Look) -> RenderableType:
    table = Table(title="what each head mostly looks at, and with what share of its attention", title_justify="left")
    table.add_column("layer", justify="right")
    for head in look.heads:
        table.add_column(f"head {head}", justify="center")
    for layer, row in zip(look.layers, look.weights, strict=True):
        cells = []
        for weights in row:
            name, share = pattern(weights, look.tokens)
            cells.append(Text(f"{LETTERS[name]} {share:3.0%}", style=_shade(share if name != "broad" else 0.0)))
        table.add_row(str(layer), *cells)
    legend = "  ".join(f"{letter} {name}" for name, letter in LETTERS.items())
    return Group(table, Text(f"{legend}    choose one with --layer and --head", style="dim"))


def _matrix(look: Look) -> RenderableType:
    weights = look.weights[0, 0]
    title = f"layer {look.layers[0]}, head {look.heads[0]}: rows attend to columns"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 0), pad_edge=False)
    table.add_column("")
    table.add_column("")
    for column in range(len(look.tokens)):
        table.add_column(str(column), justify="right", width=3)
    table.add_column("  mostly to")
    for row, token in enumerate(look.tokens):
        cells = [Text(f"{w * 100:3.0f}" if w >= 0.005 else "   ", style=_shade(float(w))) for w in weights[row]]
        best = int(weights[row].argmax())
        table.add_row(f"{row:3d} ", f"{token} ", *cells, f"  {look.tokens[best]} {weights[row, best]:.0%}")
    return table


def _edges(look: Look, most: int = 30) -> RenderableType:
    weights = look.weights[0, 0]
    table = Table(title=f"layer {look.layers[0]}, head {look.heads[0]}: the strongest of {weights.size:,} weights")
    for name in ("from", "to", "weight"):
        table.add_column(name)
    for flat in np.argsort(-weights, axis=None)[:most]:
        i, j = divmod(int(flat), len(look.tokens))
        table.add_row(f"{i} {look.tokens[i]}", f"{j} {look.tokens[j]}", f"{weights[i, j]:.3f}")
    return table


def _position(look: Look, position: int, most: int = 12) -> RenderableType:
    rows = look.weights[:, :, position]  # (layers, heads, S)
    one = rows.shape[:2] == (1, 1)
    mean = rows.mean((0, 1))
    which = f"layer {look.layers[0]}, head {look.heads[0]}" if one else f"mean of {rows.shape[0] * rows.shape[1]} heads"
    table = Table(title=f"{position} {look.tokens[position]} attends to ({which})", title_justify="left", box=None)
    for name in ("", "token", "weight", ""):
        table.add_column(name)
    for place in np.argsort(-mean)[:most].tolist():
        bar = "█" * round(float(mean[place]) * 40)
        cells = [str(place), look.tokens[place], f"{mean[place]:.3f}", Text(bar, style="cyan")]
        table.add_row(*cells)
    if one:
        return table
    strongest = np.unravel_index(rows.argmax(), rows.shape)
    layer, head, key = (int(i) for i in strongest)
    line = f"strongest: layer {look.layers[layer]}, head {look.heads[head]} to {look.tokens[key]} {rows[strongest]:.0%}"
    return Group(table, Text(line, style="dim"))


def _shade(weight: float) -> Style:
    """A background from none to deep blue, with the text light on dark and dark on light."""
    if weight < 0.05:
        return Style()
    depth = min(1.0, weight) ** 0.7
    red, green, blue = (round(start + (end - start) * depth) for start, end in ((222, 8), (235, 48), (247, 107)))
    return Style(color="white" if depth > 0.45 else "black", bgcolor=f"rgb({red},{green},{blue})")
