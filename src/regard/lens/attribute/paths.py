"""Attention as a graph from the answer down to the tokens: looked at, multiplied, or filled with flow.

Every layer is a matrix of shares, token i's of token j, and what the answer has of each token is a product of matrices.
Only one row of the product is ever asked for, so a row vector is multiplied from the top, layer by layer and tile by
tile: time of the order of the weights, memory of the order of the tokens, where the whole product needs S x S and S^3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.lens.attribute.target import start
from regard.lens.capture import Capture
from regard.lens.contribution import contributions, vectors
from regard.model.heads import Model

FLOW_TOKENS = 128  # a longer text has more edges than flows are found through in a minute
UNITS = 10**7  # flows are found in whole numbers: so many are a capacity of 1


def last_attention(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """The last layer's attention, mean of its heads, from the tokens that are pooled."""
    layer = model.encoder.config.layers - 1
    found = vectors(model.encoder, packed, layers=[layer])
    return [
        pull(start(model, found, i), contributions(model.encoder, found, layer, i, "Attn-W"))
        for i in range(len(packed.lengths))
    ]


def rollout(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """The attention of all layers multiplied, half of each being the residual (Abnar and Zuidema 2020).

    A row of R = Â_L .. Â_1 with Â = ½ mean_h A_h + ½ I.
    """
    return _multiplied(model, packed, "AttnRes-W")


def globenc(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """Norms of what tokens give each other past both normalisations, rolled out (GlobEnc, Modarressi et al. 2022).

    The feed-forward part itself is left out, and rows add to 1 before they are multiplied.
    """
    return _multiplied(model, packed, "N-Enc")


def alti(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """How much nearer each token brings another to its end, rolled out (ALTI, Ferrando et al. 2022, in l2).

    Rows add to 1 before they are multiplied.
    """
    return _multiplied(model, packed, "ALTI")


def flow(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """The largest flow from the pooled tokens to each token through all layers' attention (Abnar and Zuidema 2020).

    Capacities are those of rollout, scores add to 1. One flow for each token: O(L S^3) at the best, so texts of more
    than FLOW_TOKENS tokens are a `Problem`.
    """
    if max(packed.lengths) > FLOW_TOKENS:
        raise Problem(
            f"A text has {max(packed.lengths)} tokens, and flow takes minutes beyond {FLOW_TOKENS}. Use rollout, or a "
            "shorter text."
        )
    found = vectors(model.encoder, packed)
    out = []
    for sequence in range(len(packed.lengths)):
        layers = [
            torch.cat([tile for _, tile in contributions(model.encoder, found, layer, sequence, "AttnRes-W")])
            for layer in found.layers
        ]
        flows = largest_flows(
            start(model, found, sequence).cpu().numpy(), [layer.cpu().numpy() for layer in reversed(layers)]
        )
        out.append(torch.from_numpy(flows / flows.sum()).float())
    return out


def pull(row: Tensor, tiles: Iterable[tuple[slice, Tensor]]) -> Tensor:
    """A row vector times a matrix that comes some rows at a time: (S,)."""
    out = torch.zeros_like(row)
    for rows, tile in tiles:
        out += row[rows] @ tile
    return out


def largest_flows(
    start: np.ndarray[tuple[int], np.dtype[np.float32]], layers: list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The largest flow to each bottom token: `start` (S,) feeds the top, `layers` (S, S), from the top, are capacities.

    Node (l, i) is l S + i, the source comes last; edges are the layers' cells.
    """
    try:
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow
    except ImportError:
        raise Problem("Attention flow needs scipy. Run: pip install 'regard[lens]'") from None
    size = len(start)
    nodes = (len(layers) + 1) * size + 1
    above, below = np.divmod(np.arange(size * size), size)
    tails = [above + depth * size for depth in range(len(layers))]
    heads = [below + (depth + 1) * size for depth in range(len(layers))]
    capacity = np.concatenate([start, *(layer.ravel() for layer in layers)])
    whole = np.rint(capacity.astype(np.float64) * UNITS).astype(np.int32)
    places = (np.concatenate([np.full(size, nodes - 1), *tails]), np.concatenate([np.arange(size), *heads]))
    graph = csr_array((whole, places), shape=(nodes, nodes))
    ends = range(len(layers) * size, nodes - 1)
    return np.array([maximum_flow(graph, nodes - 1, end).flow_value for end in ends]) / UNITS


def _multiplied(model: Model, packed: Packed, kind: str) -> list[Tensor]:
    found = vectors(model.encoder, packed)
    out = []
    for sequence in range(len(packed.lengths)):
        row = start(model, found, sequence)
        for layer in reversed(found.layers):
            row = pull(row, _shares(model, found, layer, sequence, kind))
        out.append(row)
    return out


def _shares(model: Model, found: Capture, layer: int, sequence: int, kind: str) -> Iterator[tuple[slice, Tensor]]:
    for rows, tile in contributions(model.encoder, found, layer, sequence, kind):
        yield rows, tile / tile.sum(1, keepdim=True).clamp_min(torch.finfo(tile.dtype).tiny)
