"""The head that guesses hidden words, and its loss, which never holds tokens times the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from regard.model.config import EncoderConfig
from regard.model.linear import Linear

# Bytes of logits made at a time. On a CPU memory of less than 2**25 is used again without asking the system for pages,
# and products of fewer rows are slower (measured).
ROOM, GPU_ROOM = 2**25 - 2**12, 2**29


class WordHead(nn.Module):
    """Logits over the vocabulary, E norm(activation(W h + b)) + c, Devlin et al. 2019.

    E are the encoder's own word vectors, or with `apart` others. `states` are those of the places asked about alone.
    """

    def __init__(self, config: EncoderConfig, *, apart: bool = False) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.width, activation=config.activation)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.table = nn.Parameter(torch.empty(config.vocabulary, config.width).normal_(std=0.02)) if apart else None
        self._losses = _losses

    def compile_training(self, backend: str = "inductor") -> None:
        """Makes few kernels of what `loss` does with logits in training, which are read a dozen times otherwise."""
        self._losses = torch.compile(_losses, backend=backend)  # rows alone change: kernels may know the vocabulary

    def forward(self, states: Tensor, word: Tensor) -> Tensor:
        """(places, width), the encoder's (vocabulary, width) -> (places, vocabulary) float32."""
        rows, words = self._to_multiply(states, word)
        with torch.autocast(states.device.type, enabled=False):
            return _logits(rows, words, self.bias)

    def loss(self, states: Tensor, word: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cross entropy with the true words: its sum in nats, that of each place, and whether no word is likelier.

        The latter two, (places,), have no gradient. No more than `ROOM` bytes of logits, or `GPU_ROOM`, are made at a
        time.
        """
        compared, table = self._compared(states), self._table(word)
        losses = self._losses if self.training else _losses
        return _CrossEntropy.apply(compared, table, self.bias, truth, _precision(table), losses)  # type: ignore[no-any-return]

    @torch.no_grad()
    def rank(self, states: Tensor, word: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The cross entropy with the true word of each place, in nats, and how many other words are no less likely.

        Both (places,), without gradient; the true word is among the k likeliest where its rank is below k. In float32
        whatever the precision around, for bfloat16 has too few numbers to tell the likeliest words apart; logits that
        are all alike, or nan, thus rank the true word last. No more than `ROOM` bytes of logits, or `GPU_ROOM`, are
        made at a time.
        """
        compared, table = self._compared(states), self._table(word).float()
        losses, ranks = torch.empty_like(compared[:, 0]), torch.empty_like(truth)
        with torch.autocast(states.device.type, enabled=False):
            for span in _spans(compared, table):
                logits = _logits(compared[span], table, self.bias)
                own = logits.gather(1, truth[span].unsqueeze(1))
                losses[span] = (logits.logsumexp(-1, keepdim=True) - own).squeeze(1)
                ranks[span] = (~(logits < own)).sum(-1) - 1
        return losses, ranks

    @torch.no_grad()
    def sample(self, states: Tensor, word: Tensor, *, chance: torch.Generator | None = None) -> Tensor:
        """A word for each place by lot, with the probability that `loss` sees: (places,) int64.

        The shares of all words are laid end to end, and a lot from 0 to 1 falls into one: noise for each word would
        cost more than the logits. No more than `ROOM` bytes of logits, or `GPU_ROOM`, are made at a time.
        """
        rows, words = self._to_multiply(states, word)
        drawn = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
        lots = torch.rand(len(rows), 1, generator=chance, device=rows.device)
        with torch.autocast(states.device.type, enabled=False):
            for span in _spans(rows, words):
                shares = _logits(rows[span], words, self.bias).softmax(-1).cumsum_(-1)
                found = torch.searchsorted(shares, lots[span] * shares[:, -1:], right=True)
                drawn[span] = found.squeeze(1).clamp_(max=len(words) - 1)  # rounding may lead past the last
        return drawn

    def _table(self, word: Tensor) -> Tensor:
        return word if self.table is None else self.table

    def _to_multiply(self, states: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared and every word vector, in the precision of products."""
        table = self._table(word)
        return self._compared(states).to(_precision(table)), table.to(_precision(table))

    def _compared(self, states: Tensor) -> Tensor:
        """What is compared with every word vector: (places, width) float32."""
        norm = self.norm
        return F.layer_norm(self.dense(states).float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _precision(table: Tensor) -> torch.dtype:
    """That of products: what autocast says, or the table's own."""
    kind = table.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else table.dtype


def _spans(places: Tensor, words: Tensor) -> Iterator[slice]:
    """As many places at a time as there is room for."""
    each = 4 if words.dtype == torch.float32 else 8  # beside float32 what the product gives, and what the next two take
    step = max(1, (GPU_ROOM if places.is_cuda else ROOM) // (each * len(words)))
    return (slice(start, start + step) for start in range(0, len(places), step))


def _logits(rows: Tensor, words: Tensor, bias: Tensor) -> Tensor:
    """Those of each row, in float32; the bias is added in the product, or where that has fewer bits, in place after."""
    if words.dtype == bias.dtype == torch.float32:
        return F.linear(rows, words, bias)
    return F.linear(rows, words).float().add_(bias)


def _losses(rows: Tensor, words: Tensor, bias: Tensor, truth: Tensor, wanted: bool) -> tuple[Tensor, ...]:
    """The loss of each row and whether no word is likelier; where wanted, the sum's gradients by rows, words, bias."""
    logits, target = _logits(rows, words, bias), truth.unsqueeze(1)
    own, most = logits.gather(1, target), logits.amax(-1, keepdim=True)
    shares = logits.sub_(most).exp_()  # each pass over logits takes time, so that none is made twice
    total = shares.sum(-1, keepdim=True)
    losses, right = (most + total.log() - own).squeeze(1), (own >= most).squeeze(1)
    if not wanted:
        return losses, right
    slope = shares.div_(total)  # softmax - [word = truth]
    slope.scatter_add_(1, target, slope.new_full(target.shape, -1.0))
    short = slope.to(words.dtype)
    return losses, right, short @ words, short.T @ rows, slope.sum(0)


class _CrossEntropy(torch.autograd.Function):
    """The loss of some places at a time, and at once its gradients by what is compared, by table and by bias."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, bias: Tensor, truth: Tensor, precision: torch.dtype, losses_of: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[:3])
        words, rows = table.to(precision), states.to(precision)
        losses, right = torch.empty_like(states[:, 0]), torch.empty_like(truth, dtype=torch.bool)
        grown = [torch.zeros_like(t, dtype=torch.float32) for t in (states, table, bias)] if wanted else []
        with torch.autocast(states.device.type, enabled=False):
            for span in _spans(rows, words):
                losses[span], right[span], *slopes = losses_of(rows[span], words, bias, truth[span], wanted)
                if wanted:
                    grown[0][span] = slopes[0]
                    grown[1] += slopes[1]
                    grown[2] += slopes[2]
        ctx.save_for_backward(*grown)
        ctx.types = states.dtype, table.dtype, bias.dtype
        ctx.mark_non_differentiable(losses, right)
        return losses.sum(), losses, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Any, ...]:
        found = (
            (grown * gradient).to(kind) if needed else None
            for grown, kind, needed in zip(ctx.saved_tensors, ctx.types, ctx.needs_input_grad, strict=False)
        )
        return *found, None, None, None
