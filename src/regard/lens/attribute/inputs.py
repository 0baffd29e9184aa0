"""Gradients of the answer by the word vectors that go in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regard.batch import Packed
from regard.lens.attribute.target import by_sequence, chosen
from regard.model.heads import Model
from regard.model.taps import Tap

NODES = 32  # of the integral


def gradient_input(model: Model, packed: Packed, target: Tensor) -> list[Tensor]:
    """Each word vector's product with the answer's gradient by it, x . dF/dx (Shrikumar et al. 2016)."""
    words, slope = _slope(model, packed, target, 1.0)
    return by_sequence((words * slope).sum(-1), packed)


def integrated_gradients(model: Model, packed: Packed, target: Tensor, *, nodes: int = NODES) -> list[Tensor]:
    """Gradients by the word vectors, integrated on the way from none to all of them (Sundararajan et al. 2017).

    x . integral_0^1 dF/dx (a x) da, by Gauss and Legendre's rule with so many nodes. The way starts where every word
    vector is zero; positions and segments stay. Scores add to F(x) - F(0) but for the integral's error, see
    `completeness_gap`.
    """
    scores = torch.zeros(len(packed.ids), device=packed.ids.device)
    for place, weight in gauss_legendre(nodes):
        words, slope = _slope(model, packed, target, place)
        scores += weight * (words * slope).sum(-1)
    return by_sequence(scores, packed)


def completeness_gap(model: Model, packed: Packed, target: Tensor, scores: list[Tensor]) -> Tensor:
    """How far integrated gradients miss what they must add to, F(x) - F(0) - sum of scores: (sequences,)."""
    with torch.no_grad():
        full = chosen(model(packed, hidden=False), target)
        none = chosen(model(packed, tap=Tap(edit={"embeddings.word": torch.zeros_like})), target)
    return full - none - torch.stack([score.sum() for score in scores])


def gauss_legendre(nodes: int) -> list[tuple[float, float]]:
    """Places and weights of an integral from 0 to 1, exact for polynomials up to degree 2 nodes - 1."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return [(float(place), float(weight)) for place, weight in zip((places + 1) / 2, weights / 2, strict=True)]


def _slope(model: Model, packed: Packed, target: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The word vectors, and the answers' gradient by them where a share of them goes in: (tokens, width), twice."""
    leaves: list[Tensor] = []

    def lessen(words: Tensor) -> Tensor:
        leaves.append(words.detach())
        leaves.append((words.detach() * share).requires_grad_())
        return leaves[1]

    with torch.enable_grad():
        answers = chosen(model(packed, tap=Tap(edit={"embeddings.word": lessen})), target)
        (slope,) = torch.autograd.grad(answers.sum(), leaves[1:])
    return leaves[0].float(), slope.float()
