"""How unlike two heads attend: the Jensen-Shannon divergence of their weights, a tile of rows of all heads at a time.

For the rows p and q of one token in two heads, and their mixture m = (p + q) / 2,

    JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m) = H(m) - 1/2 H(p) - 1/2 H(q)     nats, from 0 to ln 2

and with E(s) = sum_j s_j ln s_j it is E(2p) / 4 + E(2q) / 4 - E(p + q) / 2: one logarithm of each sum of two weights is
the whole cost, and equal rows give 0. Two heads are as unlike as the mean over the tokens of a text says (Clark et al.
2019, section 6, sum over all data; with the mean, lengths compare). Its root is a metric (Endres and Schindelin 2003).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from regard.errors import Problem
from regard.lens.capture import Capture

TILE = 2**17  # weights of all heads of a model at a time: with two buffers of that size they stay in a core's cache
TINY = 1e-30  # in place of weights that are 0 or next to it, whose logarithm would be none; moves nothing


def divergence(first: Capture, second: Capture, sequence: int) -> Tensor:
    """Mean divergence of every head of one capture from every head of the other, over the tokens of one sequence.

    (layers of the first * heads, layers of the second * heads) float32, heads by layer. The same capture twice gives
    all heads of one model with each other: symmetric, 0 on the diagonal, for half of the work. Raises `Problem` where
    the two are not of the same tokens.
    """
    size, same = _size(first, second, sequence), first is second
    parts = []
    for queries in _tiles(size, max(_heads(first, sequence), _heads(second, sequence))):
        p = _rows(first, first.layers, sequence, queries)
        q = p if same else _rows(second, second.layers, sequence, queries)
        parts.append((_entropic(p + p), _entropic(q + q), _of_sums(p, q, same=same)))
    of_first, of_second, of_sums = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
    return _divergence(of_first[:, None], of_second, of_sums, size)


def same_place(first: Capture, second: Capture, sequence: int) -> Tensor:
    """The same of each head and the one in its place alone: (layers, heads) float32, of models of one shape."""
    size, found = _size(first, second, sequence), []
    for here, there in zip(first.layers, second.layers, strict=True):
        parts = []
        for queries in _tiles(size, _heads(first, sequence)):
            p, q = _rows(first, [here], sequence, queries), _rows(second, [there], sequence, queries)
            parts.append((_entropic(p + p), _entropic(q + q), _entropic(p + q)))
        of_first, of_second, of_sums = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
        found.append(_divergence(of_first, of_second, of_sums, size))
    return torch.stack(found)


def _tiles(size: int, heads: int) -> Iterator[slice]:
    """Rows of a text so many at a time that a tile of all heads has at most `TILE` weights, or one row."""
    step = max(1, TILE // (size * heads))
    return (slice(start, start + step) for start in range(0, size, step))


def _divergence(of_first: Tensor, of_second: Tensor, of_sums: Tensor, size: int) -> Tensor:
    """Mean JS of rows out of sums of E(2p), E(2q) and E(p + q); rounding does not make it negative."""
    return ((of_first + of_second) / 4 - of_sums / 2).div_(size).clamp_min_(0).float()


def _of_sums(p: Tensor, q: Tensor, *, same: bool) -> Tensor:
    """E(p_a + q_b) for every head a and b: (heads, weights), (heads, weights) -> (heads, heads) float64."""
    out = torch.zeros(len(p), len(q), dtype=torch.float64, device=p.device)
    both, logarithm = torch.empty_like(q), torch.empty_like(q)
    for head, row in enumerate(p):
        rest = slice(head if same else 0, None)
        s = torch.add(q[rest], row, out=both[rest])
        out[head, rest] = torch.log(s, out=logarithm[rest]).mul_(s).sum(-1)
    return out.triu().add(out.triu(1).T) if same else out


def _entropic(s: Tensor) -> Tensor:
    """E(s) = sum_j s_j ln s_j of each row, float64."""
    return s.log().mul_(s).sum(-1).double()


def _rows(capture: Capture, layers: Sequence[int], sequence: int, queries: slice) -> Tensor:
    """Some rows of all heads of these layers, none of them 0: (layers * heads, rows * S)."""
    return (
        torch.cat([capture.weights(layer, sequence, queries=queries) for layer in layers]).flatten(1).clamp_min_(TINY)
    )


def _heads(capture: Capture, sequence: int) -> int:
    return len(capture.layers) * capture.part(capture.layers[0], "lse", sequence).shape[1]


def _size(first: Capture, second: Capture, sequence: int) -> int:
    """Tokens of the sequence, which must be the same in both."""
    ids = [capture.packed.ids[capture.spans[sequence]] for capture in (first, second)]
    if not torch.equal(*ids):
        raise Problem("The two captures are not of the same tokens. Pack the same encodings for both models.")
    return len(ids[0])
