"""Orthogonal steps for matrices, those of one shape together: a GPU is given a few products, not hundreds."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from regard.model.precision import has_bfloat16

MOMENTUM = 0.95
QUINTIC = 3.4445, -4.7750, 2.0315  # brings singular values to about 1 in so many rounds (Jordan et al. 2024)
ROUNDS = 5
ALIKE = 0.2  # the root mean square of AdamW's steps, as Liu et al. 2025 measured it


class Muon(torch.optim.Optimizer):
    """W <- (1 - lr decay) W - lr 0.2 max(rows, columns)^(1/2) U V^T, Jordan et al. 2024, as long as AdamW's steps.

    U S V^T is the gradient ahead of its momentum (Nesterov), m <- .95 m + .05 g and .95 m + .05 g again; U V^T is
    found to within a third in each singular value. Parameters are matrices.
    """

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all matrices that have a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append((matrix, matrix.grad))
            for shape, pairs in alike.items():
                matrices, gradients = [matrix for matrix, _ in pairs], [gradient for _, gradient in pairs]
                momenta = [self._momentum(matrix) for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
                ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
                steps = orthogonal(torch.stack(ahead)).to(matrices[0].dtype)
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, steps.unbind(), alpha=-group["lr"] * ALIKE * math.sqrt(max(shape)))

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)  # under torch's own name, as older runs have it
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T for each U S V^T: (n, rows, columns).

    In bfloat16 where that is fast: it is enough for what is about right anyway.
    """
    a, b, c = QUINTIC
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x.bfloat16() if has_bfloat16(x.device) else x.float()
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
