"""Gradients of the answer by attention weights, and what is made of them, without the explicit path.

A head's output is o_i = sum_j A_ij v_j, so that dF/dA_ij = dF/do_i . v_j: the gradient by the heads' outputs, which the
fused kernel has, gives that by any weight in O(d). Weights and their gradients are written out tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.batch import Packed
from regard.lens.attribute.inputs import gauss_legendre
from regard.lens.attribute.paths import pull
from regard.lens.attribute.target import chosen, start
from regard.lens.capture import ALL, ROOM, Capture, Some, spans
from regard.model.heads import Model
from regard.model.taps import Tap

NODES = 8  # of the integral over one layer's attention, which is smoother than that over words
Objective = Callable[[Tap], Tensor]  # runs a model with this tap, and gives one number
NAMES = (*(f"attention.{name}" for name in ("query", "key", "value", "lse", "mixed")), "output")


@dataclass(frozen=True, slots=True)
class Slopes:
    """The weights of some layers of a packed batch, and a number's gradient by them, both on demand."""

    found: Capture
    mixed: dict[int, Tensor]  # layer -> the gradient by the heads' outputs, (tokens, heads, d)

    def slopes(self, layer: int, sequence: int, *, queries: Some = ALL, keys: Some = ALL) -> Tensor:
        """The gradient by any rows and columns of the weights: (heads, queries, keys)."""
        above = self.mixed[layer][self.found.spans[sequence]].float()[queries]
        return torch.einsum("ihd,jhd->hij", above, self.found.part(layer, "value", sequence)[keys])

    def products(self, layer: int, sequence: int, *, room: int = ROOM) -> Iterator[tuple[slice, Tensor]]:
        """Weight times gradient, some rows at a time: yields their places and (heads, rows, S)."""
        for rows, weights in self.found.tiles(layer, sequence, room=room):
            yield rows, weights.mul_(self.slopes(layer, sequence, queries=rows))


def slopes(objective: Objective, packed: Packed, layers: Sequence[int]) -> Slopes:
    """Runs a model once forward and once back, and keeps what the gradient by any weight is made of, O(S x width)."""
    tap = Tap(
        watch=[f"layer.{layer}.{name}" for layer in layers for name in NAMES],
        # What goes in asks for a gradient, so that there is one whatever weights of the model are frozen.
        edit={"embeddings.word": lambda words: words.detach().requires_grad_()},
    )
    with torch.enable_grad():
        number = objective(tap)
        mixed = torch.autograd.grad(number, [tap.trace.values[f"layer.{layer}.attention.mixed"] for layer in layers])
    for name, value in tap.trace.values.items():
        tap.trace.values[name] = value.detach()
    return Slopes(Capture(packed, tuple(layers), spans(packed), tap.trace), dict(zip(layers, mixed, strict=True)))


def weight_gradient(
    objective: Objective, packed: Packed, *, columns: Sequence[Sequence[int]], layers: Sequence[int]
) -> list[list[Tensor]]:
    """A number's gradient by all weights that lead to certain tokens: [layer][sequence] -> (heads, S, columns).

    `objective` runs a model with the tap that it is given and returns the number, such as a loss; `columns` names
    tokens of each sequence, in the caller's order. For [SEP] this is Clark et al. 2019, figure 3. O(S columns d).
    """
    found = slopes(objective, packed, layers)
    return [[found.slopes(layer, i, keys=list(some)) for i, some in enumerate(columns)] for layer in layers]


def gradient_attention(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """The last layer's attention times the answer's gradient by it over all heads and rows (Serrano and Smith 2019)."""
    last = model.encoder.config.layers - 1
    return _columns(_answer_slopes(model, packed, target, [last]), last)


def relevance(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """Attention times its gradient where that is positive, carried down all layers (Chefer et al. 2021).

    R <- R + Ā R with Ā = mean_h (A dF/dA)^+, of which one row is carried from the top; what the pooled tokens have of
    themselves from the outset is left out.
    """
    layers = range(model.encoder.config.layers)
    found = _answer_slopes(model, packed, target, layers)
    out = []
    for sequence in range(len(packed.lengths)):
        row = top = start(model, found.found, sequence)
        for layer in reversed(layers):
            positive = ((rows, tile.clamp_min_(0).mean(0)) for rows, tile in found.products(layer, sequence))
            row = row + pull(row, positive)
        out.append(row - top)
    return out


def attention_integrated(model: Model, packed: Packed, target: Tensor, *, nodes: int = NODES) -> list[Tensor]:
    """The last layer's attention times its gradient, integrated from none of it to all (Hao et al. 2021).

    A integral_0^1 dF/dA (a A) da, added over heads and rows. Weights that are a times as large make heads put out a
    times as much, so that it is `mixed` that grows. Scores add to F(A) - F(0).
    """
    last = model.encoder.config.layers - 1
    name = f"layer.{last}.attention.mixed"
    found = _answer_slopes(model, packed, target, [last])
    total = torch.zeros_like(found.mixed[last], dtype=torch.float32)
    for place, weight in gauss_legendre(nodes):
        leaves: list[Tensor] = []

        def lessen(mixed: Tensor, place: float = place, leaves: list[Tensor] = leaves) -> Tensor:
            leaves.append((mixed.detach() * place).requires_grad_())
            return leaves[0]

        with torch.enable_grad():
            answers = chosen(model(packed, tap=Tap(edit={name: lessen})), target)
            total += weight * torch.autograd.grad(answers.sum(), leaves)[0]
    return _columns(Slopes(found.found, {last: total}), last)


def _answer_slopes(model: Model, packed: Packed, target: Tensor, layers: Sequence[int]) -> Slopes:
    return slopes(lambda tap: chosen(model(packed, tap=tap), target).sum(), packed, layers)


def _columns(found: Slopes, layer: int) -> list[Tensor]:
    """The sums over heads and rows of weight times gradient: (S,) for each sequence."""
    return [
        torch.stack([tile.sum((0, 1)) for _, tile in found.products(layer, i)]).sum(0)
        for i in range(len(found.found.spans))
    ]
