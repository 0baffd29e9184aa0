"""How much each head matters: estimated from one backward pass, and measured by dropping it.

A gate xi_h on the output o^h of a head, which is 1, has the slope dL/dxi_h = sum_i o_i^h . dL/do_i^h: all estimates are
made of it, per example L(x) and per token i of one forward and one backward pass, on the fused kernel:

    michel   mean over examples of |sum_i o_i . dL/do_i|        Michel, Levy and Neubig 2019, as published
    token    sum over all tokens of |o_i . dL/do_i| / tokens    as their code has it
    batch    mean over batches of |mean over the batch of sum_i o_i . dL/do_i|, which is |sum of W_O * dL/dW_O| over the
             head's columns: as TextPruner has it; it depends on how large a batch is
    taylor   mean over examples of (sum_i o_i . dL/do_i)^2      Molchanov et al. 2017 and 2019

Michel's code divides `token` in the last layer by examples, as there the first token alone has a gradient: a factor for
a layer, which `normalised` takes away. Estimates are of first order, at the gate's 1; `dropped` goes down to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem
from regard.lens.bind import MIXED, bound
from regard.lens.edit import Drop
from regard.model.heads import Model
from regard.model.pooling import in_order
from regard.model.taps import Tap

Array = NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]  # (logits, labels) -> (sequences,)
BATCH = 32  # examples of a batch in the estimate of that name


@dataclass(frozen=True, slots=True)
class Slopes:
    """What the loss of each example says of a gate on each head; all that the estimates are made of."""

    gate: Array  # (examples, layers, heads): sum_i o_i . dL/do_i
    absolute: Array  # (examples, layers, heads): sum_i |o_i . dL/do_i|
    tokens: Array  # (examples,)

    def __getitem__(self, rows: Any) -> Slopes:
        """Those of some examples."""
        return Slopes(self.gate[rows], self.absolute[rows], self.tokens[rows])


def slopes(model: Model, packed: Packed, labels: Tensor, loss: Loss) -> Slopes:
    """One forward and one backward pass; examples and labels in the caller's order.

    `loss` is of each example by itself, so that no example's slopes depend on its company. Weights get no gradient and
    need none. Raises `Problem` for a model in training, whose dropout would be in every number.
    """
    _check(model)
    names = [f"layer.{layer}.{MIXED}" for layer in range(model.encoder.config.layers)]
    # The lowest heads' outputs are where the graph begins: what lies below them has no part in it.
    tap = Tap(names, {names[0]: lambda mixed: mixed.detach().requires_grad_()})
    with torch.enable_grad():
        total = loss(model(packed, tap=tap, hidden=False).logits, labels).sum()
    mixed = [tap.trace.values[name] for name in names]
    found = torch.autograd.grad(total, mixed)
    with torch.no_grad():
        of_token = torch.stack([(o.float() * d.float()).sum(-1) for o, d in zip(mixed, found, strict=True)], 1)
    return Slopes(
        _summed(of_token, packed),
        _summed(of_token.abs(), packed),
        in_order(packed.bounds.diff(), packed).double().cpu().numpy(),
    )


def michel(slopes: Slopes) -> Array:
    """|dL(x)/dxi| of each example: (examples, layers, heads); here and below, importance is the mean over the rows."""
    return np.abs(slopes.gate)


def token(slopes: Slopes) -> Array:
    """sum_i |o_i . dL/do_i| of each example, divided by the mean number of tokens: (examples, layers, heads)."""
    return slopes.absolute / float(slopes.tokens.mean())


def batch(slopes: Slopes, size: int = BATCH) -> Array:
    """|mean of dL(x)/dxi| over each batch of so many consecutive examples: (batches, layers, heads)."""
    starts = np.arange(0, len(slopes.gate), size)
    counts = np.diff([*starts, len(slopes.gate)])
    return np.asarray(np.abs(np.add.reduceat(slopes.gate, starts) / counts[:, None, None]))


def taylor(slopes: Slopes) -> Array:
    """(dL(x)/dxi)^2 of each example: (examples, layers, heads)."""
    return np.square(slopes.gate)


ESTIMATES: dict[str, Callable[[Slopes], Array]] = {"michel": michel, "token": token, "batch": batch, "taylor": taylor}


def normalised(importance: Array) -> Array:
    """Divided by the l2 norm of its layer, as Michel et al. do before they compare heads of different layers."""
    norms = np.linalg.norm(importance, axis=-1, keepdims=True)
    return np.asarray(importance / np.where(norms > 0, norms, 1))


def dropped(model: Model, packed: Packed) -> tuple[Tensor, Tensor]:
    """Logits as they are, (sequences, outputs), and with each head dropped by itself, (layers, heads, ...).

    What lies below a head is computed once for all: about half of what as many forward passes would take.
    """
    _check(model)
    config, blocks, answer = model.encoder.config, model.encoder.blocks, model.head
    assert answer is not None
    into = Tap(["embeddings.output", *(f"layer.{layer}.output" for layer in range(config.layers))])
    rows = []
    with torch.no_grad():
        plain = model(packed, tap=into, hidden=False).logits
        below = list(into.trace.values.values())
        for layer in range(config.layers):
            for head in range(config.heads):
                x, tap = below[layer], Tap(edit=bound([Drop(layer, head)], packed, config))
                for number in range(layer, config.layers):
                    x = blocks[number](x, packed, tap=tap if number == layer else None, name=f"layer.{number}")
                rows.append(answer(model.pooling(x, packed)))
    return plain, torch.stack(rows).unflatten(0, (config.layers, config.heads))


def _check(model: Model) -> None:
    if model.head is None:
        raise Problem("Importance is of an answer, and this model has no head. Train one: regard train --model ...")
    if model.training:
        raise Problem("The model is in training, and dropout would be in every number. Call model.eval() first.")


def _summed(of_token: Tensor, packed: Packed) -> Array:
    """Sums over the tokens of each sequence, in the caller's order."""
    lengths = packed.bounds.diff().long()
    sums = torch.segment_reduce(of_token.double(), "sum", lengths=lengths, axis=0, unsafe=True)
    return in_order(sums, packed).cpu().numpy()
