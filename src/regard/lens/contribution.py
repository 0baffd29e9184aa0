"""How much each token gives to another, measured on vectors and not on weights: Kobayashi et al. 2020 and 2021.

A head adds alpha_ij f(x_j) to token i, with f(x_j) = v_j W_O. A large weight on a small vector gives little, so the
norm of the product says more than the weight does. No vector f(x_j) is ever written out: norms are forms of small
matrices of inner products (Gram matrices).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.lens.capture import Capture
from regard.model.encoder import Encoder


def value_norms(encoder: Encoder, found: Capture, layer: int, sequence: int) -> Tensor:
    """The norm of what each head would add to the stream from each token, ||v_j^h W_O^h||: (S, heads) float32.

    By ||v W||^2 = v (W W^T) v^T, with one (d, d) Gram matrix for each head: O(S d^2) and never S x heads x width.
    Times the weight alpha_ij^h it is the norm that token i gets from token j through head h (Kobayashi et al. 2020).
    """
    value = found.part(layer, "value", sequence)  # (S, heads, d)
    output = projections(encoder, layer)
    gram = torch.einsum("hdw,hew->hde", output, output)
    squares = torch.einsum("jhd,hde,jhe->jh", value, gram, value)
    return squares.clamp_min_(0).sqrt_()  # rounding may leave a square just below zero


def projections(encoder: Encoder, layer: int) -> Tensor:
    """The output maps of a layer's heads, W_O^h: (heads, d, width) float32."""
    block: Any = encoder.blocks[layer]
    weight: Tensor = block.attention.part.output.weight.detach().float()
    return weight.T.unflatten(0, (encoder.config.heads, -1))  # type: ignore[no-any-return]
