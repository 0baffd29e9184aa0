"""Attention in the terminal: all heads at a glance, one head as a matrix, one row, one column, or one cell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from regard.errors import Problem, nearest
from regard.lens.look import Look
from regard.lens.table import largest

Colour = tuple[int, int, int]  # red, green, blue
BLUE: tuple[Colour, Colour] = (222, 235, 247), (8, 48, 107)  # light, deep
RED: tuple[Colour, Colour] = (254, 224, 210), (103, 0, 13)
LETTERS = {"first": "C", "separator": "S", "previous": "<", "next": ">", "same": "=", "broad": "·"}
BESIDE = 26  # columns of a terminal that a matrix needs beside its cells
NAMED = 4  # other places of the same name that are listed
WIDEST = 14  # letters of a name beside a matrix


def picture(
    look: Look, *, row: int | None = None, column: int | None = None, top: int = 8, width: int = 100
) -> RenderableType:
    """The view that fits what was asked for, in a terminal of that width, and what to know before believing it."""
    if row is not None and column is not None:
        view = _cell(look, row, column)
    elif row is not None:
        view = _list(look, look.rows(row), f"{_called(look, row)} looks at", top)
    elif column is not None:
        view = _list(look, look.columns(column), f"who looks at {_called(look, column)}", top)
    elif len(look.layers) == len(look.heads) == 1:
        view = _matrix(look) if BESIDE + 3 * len(look.names) <= width else _edges(look, top)
    else:
        view = _heads(look)
    between = [] if look.pair is None else [_quadrants(look, top)]
    return Group(view, *between, *(_line(guard.text, guard.warns) for guard in look.guards))


def find(look: Look, word: str) -> int:
    """The position of a token or word, named by its number or as it reads; the first where there are several.

    Raises `Problem` where there is none.
    """
    names = [_plain(name) for name in look.names]
    size = len(names)
    is_number = re.fullmatch(r"-?\d+", word) is not None
    if is_number and -size <= int(word) < size:
        return int(word) % size
    if _plain(word) in names:
        return names.index(_plain(word))
    if is_number:
        raise Problem(f"There is no position {word}: this text has positions 0 to {size - 1}.")
    parts = _pieces(names, _plain(word))
    if parts:
        raise Problem(
            f"'{word}' is not one {look.unit} but several: {' '.join(look.names[parts])}. Name one of them or its "
            f"position ({parts.start} to {parts.stop - 1}){', or add --words' if look.words is None else ''}."
        )
    some = " ".join(look.names[:40]) + (" …" if size > 40 else "")
    raise Problem(f"No {look.unit} is '{word}'. {nearest(_plain(word), names)}The {look.unit}s are: {some}")


def _plain(name: str) -> str:
    return name.removeprefix("##").lower()


def _pieces(names: Sequence[str], word: str) -> slice | None:
    """Where a run of names put together reads like the word."""
    for start in range(len(names)):
        joined = ""
        for stop in range(start, len(names)):
            joined += names[stop]
            if joined == word:
                return slice(start, stop + 1)
            if not word.startswith(joined):
                break
    return None


def _line(text: str, warns: bool) -> Text:
    return Text(f"{'!' if warns else '·'} {text}", style="yellow" if warns else "dim")


def _which(look: Look) -> str:
    layer = f"layer {look.layers[0]}" if len(look.layers) == 1 else f"{len(look.layers)} layers"
    head = f"head {look.heads[0]}" if len(look.heads) == 1 else f"{len(look.heads)} heads"
    return f"{layer}, {head}" if len(look.layers) * len(look.heads) == 1 else f"mean of {layer}, {head}"


def _called(look: Look, place: int) -> str:
    """A place and its name, and where else it stands."""
    others = [str(other) for other, name in enumerate(look.names) if name == look.names[place] and other != place]
    more = ", ".join(others) if len(others) <= NAMED else f"{len(others)} more places"
    return f"{place} {look.names[place]}" + (f" (also at {more})" if others else "")


def _titled(title: str, table: Table) -> RenderableType:
    """A table under a line of its own, for a table's title is broken at the table's width."""
    return Group(Text(title, style="italic"), table)


def _grid(look: Look, title: str, cells: Sequence[Sequence[Text]]) -> RenderableType:
    """A cell for each head: layers down, heads across."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("layer", justify="right")
    for head in look.heads:
        table.add_column(str(head), justify="right")
    for layer, row in zip(look.layers, cells, strict=True):
        table.add_row(str(layer), *row)
    return _titled(title, table)


def _heads(look: Look) -> RenderableType:
    cells = [
        [
            Text(f"{LETTERS[name]} {share * 100:2.0f}", style=_shade(share if name != "broad" else 0.0))
            for name, share in row
        ]
        for row in look.patterns
    ]
    title = "what each head mostly looks at, and with what share of its attention, in percent; columns are heads"
    legend = "  ".join(f"{letter} {name}" for name, letter in LETTERS.items())
    return Group(_grid(look, title, cells), Text(f"{legend}    choose one with --layer and --head", style="dim"))


def _matrix(look: Look) -> RenderableType:
    weights = look.part(look.layers[0])[0]
    title = f"{_which(look)}: rows look at columns, in percent"
    table = Table(box=None, padding=(0, 0), pad_edge=False)
    table.add_column("")
    table.add_column("", max_width=WIDEST, no_wrap=True)
    for column in range(len(look.names)):
        table.add_column(str(column), justify="right", width=3)
    table.add_column(" mostly to", no_wrap=True)
    for row, name in enumerate(look.names):
        cells = [Text(f"{w * 100:3.0f}" if w >= 0.005 else "   ", style=_shade(float(w))) for w in weights[row]]
        best = int(weights[row].argmax())
        table.add_row(f"{row:3d} ", Text(f"{name} "), *cells, Text(f" {look.names[best]}"))
    return _titled(title, table)


def _edges(look: Look, top: int) -> RenderableType:
    weights = look.part(look.layers[0])[0]
    title = f"{_which(look)}: the strongest of {weights.size:,} weights"
    table = Table(box=None, pad_edge=False)
    for name in ("from", "to"):
        table.add_column(name)
    table.add_column("weight", justify="right")
    for i, j, weight in largest(weights, top):
        table.add_row(Text(f"{i} {look.names[i]}"), Text(f"{j} {look.names[j]}"), f"{weight:.3f}")
    return _titled(title, table)


def _list(look: Look, weights: NDArray[np.float32], title: str, top: int) -> RenderableType:
    """The largest of (layers, heads, S) weights, averaged over the heads shown."""
    mean = weights.mean((0, 1))
    table = Table(box=None, pad_edge=False)
    for name in ("", look.unit, "weight", ""):
        table.add_column(name)
    for place in np.argsort(-mean, kind="stable")[:top].tolist():
        bar = Text("█" * round(float(mean[place]) * 40), style="cyan")
        table.add_row(str(place), Text(look.names[place]), f"{mean[place]:.3f}", bar)
    shown = _titled(f"{title} ({_which(look)})", table)
    if weights.shape[:2] == (1, 1):
        return shown
    layer, head, place = (int(i) for i in np.unravel_index(weights.argmax(), weights.shape))
    line = f"strongest: layer {look.layers[layer]}, head {look.heads[head]}: "
    return Group(shown, Text(f"{line}{look.names[place]} {weights[layer, head, place]:.3f}", style="dim"))


def _cell(look: Look, row: int, column: int) -> RenderableType:
    weights = np.stack([look.part(layer, queries=[row], keys=[column])[:, 0, 0] for layer in look.layers])
    title = f"how much {_called(look, row)} looks at {_called(look, column)}, in percent"
    if weights.size == 1:
        return Text(f"{title}: {weights.item() * 100:.2f} ({_which(look)})")
    cells = [[Text(f"{w * 100:4.1f}", style=_shade(float(w))) for w in heads] for heads in weights]
    return _grid(look, f"{title}; columns are heads", cells)


def _quadrants(look: Look, top: int) -> RenderableType:
    """How much the two texts of a pair give to each other, of the heads that cross between them most."""
    found = look.quadrants.reshape(-1, 4)
    order = np.argsort(-(found[:, 1] + found[:, 2]), kind="stable")[:top]
    title = "between the texts, in percent; the rest goes to special tokens"
    if len(found) > top:
        title += f" ({top} of {len(found)} heads, those that cross most)"
    table = Table(box=None, pad_edge=False)
    for name in ("layer", "head", "A→A", "A→B", "B→A", "B→B"):
        table.add_column(name, justify="right")
    for place in order.tolist():
        layer, head = divmod(place, len(look.heads))
        cells = [Text(f"{share * 100:.1f}", style=_shade(float(share))) for share in found[place]]
        table.add_row(str(look.layers[layer]), str(look.heads[head]), *cells)
    return _titled(title, table)


def _shade(weight: float) -> Style:
    """A background from none to deep blue."""
    if weight < 0.05:
        return Style()
    return shade(weight, *BLUE)


def shade(share: float, light: Colour, deep: Colour) -> Style:
    """A background between two colours, with the text light on dark and dark on light; nothing for next to nothing."""
    depth = min(1.0, share) ** 0.7
    if depth < 0.1:
        return Style()
    red, green, blue = (round(start + (end - start) * depth) for start, end in zip(light, deep, strict=True))
    return Style(color="white" if depth > 0.45 else "black", bgcolor=f"rgb({red},{green},{blue})")
