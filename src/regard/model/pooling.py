"""From the tokens of a sequence to one vector: (tokens, width) -> (sequences, width), in the caller's order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regard.batch import Packed
from regard.model.linear import Linear


class First(nn.Module):
    """The first token's vector, through BERT's pooler tanh(W x + b) where the checkpoint has one."""

    def __init__(self, width: int, *, dense: bool = True) -> None:
        super().__init__()
        self.dense = Linear(width, width, "tanh") if dense else nn.Identity()

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """(tokens, width) -> (sequences, width)."""
        return self.of_firsts(firsts(x, packed), packed)

    def of_firsts(self, rows: Tensor, packed: Packed) -> Tensor:
        """The same where only the first tokens' rows are at hand, in packed order: (sequences, width), twice."""
        return self.dense(in_order(rows, packed)).float()  # type: ignore[no-any-return]


class Mean(nn.Module):
    """The mean over all tokens, special tokens included, as sentence encoders are trained."""

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """(tokens, width) -> (sequences, width)."""
        return in_order(_reduce(x, packed, "mean"), packed)


class Max(nn.Module):
    """The largest value of each column over the tokens."""

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """(tokens, width) -> (sequences, width)."""
        return in_order(_reduce(x, packed, "max"), packed)


def _reduce(x: Tensor, packed: Packed, how: str) -> Tensor:
    lengths = packed.bounds.diff().long()
    return torch.segment_reduce(x.float(), how, lengths=lengths, axis=0, unsafe=True)


def firsts(x: Tensor, packed: Packed) -> Tensor:
    """The rows of the sequences' first tokens, in packed order: (tokens, ...) -> (sequences, ...)."""
    return x.index_select(0, packed.bounds[:-1].long())


def in_order(rows: Tensor, packed: Packed) -> Tensor:
    """Rows of packed sequences, back in the caller's order."""
    return rows.index_select(0, torch.argsort(packed.order))


def pooler(name: str, width: int, *, dense: bool = True) -> nn.Module:
    """The pooling of that name: first, mean or max."""
    return First(width, dense=dense) if name == "first" else {"mean": Mean, "max": Max}[name]()
