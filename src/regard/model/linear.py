"""Linear maps with the activations that follow them, on the fastest path that computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # x Phi(x), exact (Hendrycks and Gimpel 2016)
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
# The gradient by what went in, from the gradient by what came out.
_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_backward,
    "gelu_new": lambda g, x: torch.ops.aten.gelu_backward(g, x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda g, x: torch.ops.aten.gelu_backward(g, x, approximate="tanh"),
    "relu": lambda g, x: torch.ops.aten.threshold_backward(g, x, 0),
    "silu": torch.ops.aten.silu_backward,
    "tanh": lambda g, x: torch.ops.aten.tanh_backward(g, torch.tanh(x)),
}
# What oneDNN computes in the same pass as the product, by its own names.
_FUSED = {None: ("none", ""), "gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "relu": ("relu", "")}
# oneDNN makes a kernel for every shape that it meets, which takes longer than the product itself: packed batches, each
# of another number of tokens, are filled up so that shapes recur: to a multiple of the first, and, where there are no
# more rows than the second says and filling up would cost as much as it saves, of the third.
ROWS, FEW, FEW_ROWS = 64, 256, 16


def linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None = None) -> Tensor:
    """activation(x W^T + b); x is (tokens, inputs), W is (outputs, inputs).

    Outside training on a CPU the product, bias and activation are one oneDNN call: in float32 that is about twice as
    fast as the default BLAS on processors that are not Intel's, and it saves a pass over the activations in bfloat16.
    """
    if torch.is_autocast_enabled(x.device.type):
        y = F.linear(x, weight, bias)
    elif _fusable(x, weight, activation):
        attribute, algorithm = _FUSED[activation]
        return torch.ops.mkldnn._linear_pointwise(x.to(weight.dtype), weight, bias, attribute, [], algorithm)  # type: ignore[no-any-return]
    else:
        y = F.linear(x.to(weight.dtype), weight, bias)
    return y if activation is None else ACTIVATIONS[activation](y)


def _fusable(x: Tensor, weight: Tensor, activation: str | None) -> bool:
    return (
        activation in _FUSED
        and x.device.type == "cpu"
        and (weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _has_kernels_in_bfloat16()))
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and x.ndim == 2
        and x.shape[0] > 0
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.is_available()
    )


def _has_kernels_in_bfloat16() -> bool:
    """Whether oneDNN has products in bfloat16 for this processor; PyTorch's own, which are slow there, are for any."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear(nn.Module):
    """x -> activation(x W^T + b), computed in the weights' precision unless autocast says otherwise."""

    def __init__(self, inputs: int, outputs: int, activation: str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.activation = activation
        nn.init.normal_(self.weight, std=0.02)  # BERT's own (Devlin et al. 2019), untruncated

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, inputs) -> (tokens, outputs)."""
        return chain(x, self)


def chain(x: Tensor, *maps: Linear) -> Tensor:
    """One linear map after another: (tokens, inputs of the first) -> (tokens, outputs of the last)."""
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and x.ndim == 2 and x.shape[0]:
        weights = [tensor for part in maps for tensor in (part.weight, part.bias)]
        return _Chain.apply(x, [part.activation for part in maps], torch.get_autocast_dtype("cpu"), *weights)  # type: ignore[no-any-return]
    rows = x
    if maps[0].weight.dtype.itemsize == 2 and _fusable(x, maps[0].weight, maps[0].activation):
        rows = _filled(x, maps[0].weight.dtype)
    for part in maps:
        rows = linear(rows, part.weight, part.bias, part.activation)
    return rows[: len(x)]


class _Chain(torch.autograd.Function):
    """Linear maps under autocast as one node, over rows filled up once for all of them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activations: list[str | None], precision: torch.dtype, *parameters: Tensor
    ) -> Tensor:
        kept: list[Tensor | None] = []
        rows = _filled(x, precision)
        with torch.autocast("cpu", enabled=False):
            for activation, weight, bias in zip(activations, parameters[::2], parameters[1::2], strict=True):
                short = weight.to(precision)
                y = F.linear(rows, short, bias.to(precision))
                kept += [rows, short, None if activation is None else y]
                rows = y if activation is None else ACTIVATIONS[activation](y)
        ctx.save_for_backward(*kept)
        ctx.activations, ctx.input = activations, (len(x), x.dtype)
        return rows[: len(x)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        kept, (tokens, dtype) = ctx.saved_tensors, ctx.input
        found: list[Tensor | None] = []
        g = _filled(gradient, kept[0].dtype)
        for place in reversed(range(len(ctx.activations))):
            activation, (rows, weight, y) = ctx.activations[place], kept[3 * place : 3 * place + 3]
            if activation is not None:
                g = _SLOPES[activation](g, y)
            moves = ctx.needs_input_grad[3 + 2 * place]  # a frozen map gets no gradient, and costs none
            found = [g.t().mm(rows).float() if moves else None, g.sum(0).float() if moves else None, *found]
            g = g.mm(weight)
        return g[:tokens].to(dtype), None, None, *found


def _filled(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows in a precision, and rows of zeros up to a multiple, which add nothing to any gradient."""
    missing = -len(x) % (ROWS if len(x) > FEW else FEW_ROWS)
    if not missing:
        return x.to(dtype).contiguous()
    rows = x.new_empty(len(x) + missing, x.shape[1], dtype=dtype)
    rows[: len(x)].copy_(x)
    rows[len(x) :].zero_()
    return rows
