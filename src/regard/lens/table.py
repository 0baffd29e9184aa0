"""A look as plain values, for JSON: all weights of what was asked for, or the strongest where all would be too many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.lens.look import Look

PLAIN = 2**16  # weights that are written whole


def table(look: Look, *, row: int | None = None, column: int | None = None, top: int = 8) -> dict[str, Any]:
    """Plain values of a look: of all of it, of one row, of one column, or of one cell.

    `weights` are (layers, heads, S, S), or (layers, heads, S) of a row or column, or (layers, heads) of a cell. Where
    they are more than 65,536 numbers, `edges` has the `top` largest of each head instead, as [from, to, weight].
    """
    out = {
        "unit": look.unit,
        "names": list(look.names),
        "tokens": list(look.tokens),
        "sides": look.sides.tolist(),
        "layers": list(look.layers),
        "heads": list(look.heads),
        "from": row,
        "to": column,
    }
    if row is not None:
        weights = look.rows(row)
        out["weights"] = _round(weights if column is None else weights[..., column])
    elif column is not None:
        out["weights"] = _round(look.columns(column))
    else:
        out |= _whole(look, top)
    if look.pair is not None:
        out["quadrants"] = _round(look.quadrants)
    return out | {
        "free_dimensions": look.free_dimensions,
        "dropped": look.dropped,
        "guards": [guard.table() for guard in look.guards],
    }


def largest(weights: NDArray[np.float32], top: int) -> list[tuple[int, int, float]]:
    """The largest cells of one head (S, S): from, to, weight, the largest first."""
    flat = weights.ravel()
    best = np.argpartition(-flat, min(top, flat.size - 1))[:top]
    best = best[np.argsort(-flat[best], kind="stable")]
    return [(*divmod(int(place), weights.shape[1]), float(flat[place])) for place in best]


def _whole(look: Look, top: int) -> dict[str, Any]:
    out: dict[str, Any] = {"patterns": [[[name, round(p, 6)] for name, p in row] for row in look.patterns]}
    if len(look.layers) * len(look.heads) * len(look.names) ** 2 <= PLAIN:
        return out | {"weights": _round(look.weights)}
    edges = [[[(i, j, round(w, 6)) for i, j, w in largest(one, top)] for one in layer] for layer in look.maps()]
    return out | {"edges": edges}


def _round(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), 6).tolist()
