"""How much each token gives to another, measured on vectors and not on weights: Kobayashi et al. 2020 and 2021.

Token j gives token i, through the heads of one layer and past the residual,

    F_ij = sum_h alpha_ij^h f^h(x_j) + [i = j] x_i,      f^h(x_j) = v_j^h W_O^h,

and a normalisation that follows acts on it by its linear part, (F - mean(F)) gamma / sigma_i, sigma_i being that of the
whole sum. A large weight on a small vector gives little, so the norm of F_ij says more than the weight does. Biases
that belong to no token (of W_O, of normalisations) are left out.

No vector F_ij is ever written out, for they are S x S x width: every norm is a form c G_j c of the weights
c = (alpha_ij^1 .. alpha_ij^H, [i = j]) and one small matrix of inner products (a Gram matrix) for each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.lens.capture import ROOM, Capture, capture
from regard.model.encoder import Encoder

ROWS = 64  # tokens whose vectors, one for each head, are written out at a time
KINDS = {
    "Attn-W": (0, False),  # kind -> how many normalisations follow, and whether the residual counts
    "AttnRes-W": (0, True),
    "Attn-N": (0, False),
    "AttnRes-N": (0, True),
    "AttnResLn-N": (1, True),
    "N-Enc": (2, True),
    "ALTI": (1, True),
}


def vectors(encoder: Encoder, packed: Packed, *, layers: Sequence[int] | None = None) -> Capture:
    """Runs the encoder and keeps all that contributions are computed from, O(S x width) a layer."""
    more = ("attention.output", "attention.sum", "feedforward.sum", "output")
    return capture(encoder, packed, layers=layers, values=True, more=more)


def value_norms(encoder: Encoder, found: Capture, layer: int, sequence: int) -> Tensor:
    """The norm of what each head would add to the stream from each token of a sequence: (S, heads) float32."""
    return norms(encoder, layer, found.part(layer, "value", sequence))


def norms(encoder: Encoder, layer: int, value: Tensor) -> Tensor:
    """||v_j W_O^h|| of values (tokens, heads, d): (tokens, heads) float32.

    By ||v W||^2 = v (W W^T) v^T, with one (d, d) Gram matrix for each head: O(tokens d^2) and never tokens x heads x
    width. Times the weight alpha_ij^h it is the norm that token i gets from token j through head h (Kobayashi et al.
    2020).
    """
    value = value.float()
    output = projections(encoder, layer)
    gram = torch.einsum("hdw,hew->hde", output, output)
    squares = torch.einsum("jhd,hde,jhe->jh", value, gram, value)
    return squares.clamp_min_(0).sqrt_()  # rounding may leave a square just below zero


def projections(encoder: Encoder, layer: int) -> Tensor:
    """The output maps of a layer's heads, W_O^h: (heads, d, width) float32."""
    block: Any = encoder.blocks[layer]
    weight: Tensor = block.attention.part.output.weight.detach().float()
    return weight.T.unflatten(0, (encoder.config.heads, -1))  # type: ignore[no-any-return]


def contributions(
    encoder: Encoder, found: Capture, layer: int, sequence: int, kind: str, *, room: int = ROOM
) -> Iterator[tuple[slice, Tensor]]:
    """How much token j gives token i in one layer, some rows i at a time: yields their places and (rows, S) float32.

        Attn-W       mean_h alpha_ij^h                  AttnRes-W    half of it, and half of the identity
        Attn-N       ||sum_h alpha_ij^h f^h(x_j)||      AttnRes-N    ||F_ij||
        AttnResLn-N  ||F_ij|| after attention's normalisation (all above: Kobayashi et al. 2020 and 2021)
        N-Enc        ||F_ij|| after the feed-forward part's as well, that part itself left out (Modarressi et al. 2022)
        ALTI         max(0, ||y_i|| - ||y_i - T_ij||), T_ij being F_ij after attention's normalisation and y_i what it
                     puts out, biases included (Ferrando et al. 2022, whose norm is l1; here it is l2, a Gram form)

    `found` is of `vectors`.
    """
    if kind not in KINDS:
        raise Problem(f"There is no contribution '{kind}'. Known: {', '.join(KINDS)}.")
    follow, residual = KINDS[kind]
    tiles = found.tiles(layer, sequence, room=room)
    if kind.endswith("-W"):
        for rows, weights in tiles:
            tile = weights.mean(0)
            if residual:
                tile *= 0.5
                tile.diagonal(rows.start).add_(0.5)
            yield rows, tile
        return
    given = _given(encoder, found, layer, sequence, follow=follow, residual=residual)
    end = _end(encoder, found, layer, sequence) if kind == "ALTI" else None
    for rows, weights in tiles:
        squares = _squares(given, weights, rows)
        if end is None:
            yield rows, squares.clamp_min_(0).sqrt_()
        else:
            yield rows, _nearer(given, weights, rows, squares, end[rows])


def mixing_ratios(encoder: Encoder, found: Capture, layer: int, sequence: int) -> dict[str, Tensor]:
    """What share of each token's new vector comes from other tokens, by each way to measure it: kind -> (S,).

    r_i = ||sum_(j != i) F_ij|| / (||sum_(j != i) F_ij|| + ||F_ii||), Kobayashi et al. 2021, equation 13; of weights,
    1 - mean_h alpha_ii^h, and half of that with the residual. O(S x width): the sum is the layer's own output.
    """
    block: Any = encoder.blocks[layer]
    query, key, lse = (found.part(layer, name, sequence) for name in ("query", "key", "lse"))
    own_weights = torch.exp((query * key).sum(-1) * query.shape[-1] ** -0.5 - lse)  # (S, heads)
    own = torch.einsum("ih,ihd,hdw->iw", own_weights, found.part(layer, "value", sequence), projections(encoder, layer))
    output = found.part(layer, "output", sequence)
    others = output - block.attention.part.output.bias.detach().float() - own
    stream = found.part(layer, "sum", sequence) - output
    weight = 1 - own_weights.mean(1)
    norm = block.attention.norm
    return {
        "Attn-W": weight,
        "AttnRes-W": weight / 2,
        "Attn-N": _share(others, own),
        "AttnRes-N": _share(others, own + stream),
        "AttnResLn-N": _share(_linear_part(others, norm), _linear_part(own + stream, norm)),
    }


@dataclass(frozen=True, slots=True)
class _Given:
    """What the tokens of one sequence give through one layer, as the matrices that norms are forms of."""

    value: Tensor  # (S, heads, d)
    output: Tensor  # (heads, d, width): W_O^h, then the linear part of what follows
    stream: Tensor  # (S, width): the residual's share, treated alike
    gram: Tensor  # (S, heads + 1, heads + 1): inner products of each token's vectors, the residual's last
    shrink: Tensor  # (S,): one over the deviations that the receiving token is divided by


def _given(encoder: Encoder, found: Capture, layer: int, sequence: int, *, follow: int, residual: bool) -> _Given:
    block: Any = encoder.blocks[layer]
    value, output = found.part(layer, "value", sequence), projections(encoder, layer)
    total = found.part(layer, "sum", sequence)
    stream = total - found.part(layer, "output", sequence) if residual else torch.zeros_like(total)
    shrink = total.new_ones(len(total))
    sums = (total, found.trace.values[f"layer.{layer}.feedforward.sum"][found.spans[sequence]].float())
    for norm, whole in list(zip((block.attention.norm, block.feedforward.norm), sums, strict=True))[:follow]:
        output, stream = _linear_part(output, norm), _linear_part(stream, norm)
        shrink = shrink * torch.rsqrt(whole.var(-1, correction=0) + norm.eps)
    gram = []
    for start in range(0, len(value), ROWS):
        rows = slice(start, start + ROWS)
        each = torch.einsum("jhd,hdw->jhw", value[rows], output)
        each = torch.cat([each, stream[rows].unsqueeze(1)], 1)
        gram.append(each @ each.transpose(1, 2))
    return _Given(value, output, stream, torch.cat(gram), shrink)


def _squares(given: _Given, weights: Tensor, rows: slice) -> Tensor:
    """||F_ij||^2 of some rows, from their weights (heads, rows, S): (rows, S)."""
    gram = given.gram
    squares: Tensor = torch.einsum("hij,jhk,kij->ij", weights, gram[:, :-1, :-1], weights)
    own = weights.diagonal(rows.start, 1, 2).T  # (rows, heads)
    squares.diagonal(rows.start).add_(2 * (own * gram[rows, :-1, -1]).sum(-1) + gram[rows, -1, -1])
    return squares.mul_(given.shrink[rows, None] ** 2)


def _end(encoder: Encoder, found: Capture, layer: int, sequence: int) -> Tensor:
    """What attention's normalisation puts out: (S, width)."""
    block: Any = encoder.blocks[layer]
    with torch.no_grad():
        return block.attention.norm(found.part(layer, "sum", sequence))  # type: ignore[no-any-return]


def _nearer(given: _Given, weights: Tensor, rows: slice, squares: Tensor, end: Tensor) -> Tensor:
    """How much nearer to its end F_ij brings token i, max(0, ||y|| - ||y - F||), by ||y||^2 - 2 y.F + ||F||^2."""
    asked = torch.einsum("iw,hdw->ihd", end, given.output)
    inner = (weights * torch.einsum("ihd,jhd->hij", asked, given.value)).sum(0)
    inner.diagonal(rows.start).add_((end * given.stream[rows]).sum(-1))
    whole = end.square().sum(-1, keepdim=True)
    left = whole - 2 * inner * given.shrink[rows, None] + squares
    return (whole.sqrt() - left.clamp_min_(0).sqrt_()).clamp_min_(0)


def _linear_part(x: Tensor, norm: Any) -> Tensor:
    """The normalisation without its bias and its division: (x - mean(x)) gamma."""
    return (x - x.mean(-1, keepdim=True)) * norm.weight.detach()  # type: ignore[no-any-return]


def _share(others: Tensor, own: Tensor) -> Tensor:
    mixed, kept = others.norm(dim=-1), own.norm(dim=-1)
    return mixed / (mixed + kept)  # type: ignore[no-any-return]
