"""The encoder: attention and feed-forward, each with residual and normalisation, stacked from parts.

The residual stream stays in float32 whatever the precision of the weights: beside bfloat16 products it costs little,
and it keeps most of the accuracy that rounding the stream after every part would lose.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from regard.batch import Packed
from regard.model import attention, kernels
from regard.model.config import EncoderConfig
from regard.model.dropout import Dropout, Noise, random_keys
from regard.model.embeddings import Embeddings
from regard.model.linear import Linear, chain
from regard.model.pooling import firsts
from regard.model.taps import Tap, see

WEIGHTS = ("scores", "weights")


class SelfAttention(nn.Module):
    """Multi-head self-attention, Vaswani et al. 2017, section 3.2: heads attend side by side, are joined and projected.

    Query, key and value maps are the rows of one matrix, in that order, so that one product serves all three.
    """

    def __init__(self, config: EncoderConfig, *, kernel: str | None = None) -> None:
        super().__init__()
        self.heads, self.kernel = config.heads, kernel
        self.scale = config.head_width**-0.5
        self.dropout = config.attention_dropout
        self.joint = Linear(config.width, 3 * config.width)
        self.output = Linear(config.width, config.width)

    def forward(self, x: Tensor, packed: Packed, *, tap: Tap | None, name: str) -> Tensor:
        """(tokens, width) -> (tokens, width)."""
        parts = zip(("query", "key", "value"), self._parts(self.joint(x)), strict=True)
        q, k, v = (see(tap, f"{name}.{part}", value) for part, value in parts)
        noise = self._noise(q)
        wants_lse = tap is not None and tap.concerns(f"{name}.lse")
        if tap is not None and any(tap.concerns(f"{name}.{w}") for w in WEIGHTS):
            mixed, lse = attention.attend(
                q, k, v, packed=packed, scale=self.scale, noise=noise, lse=wants_lse,
                see=lambda part, value: tap(f"{name}.{part}", value),
            )  # fmt: skip
        elif tap is not None and tap.attend is not None:
            mixed, lse = tap.attend(name, q, k, v, packed=packed, scale=self.scale, noise=noise, lse=wants_lse)
        else:
            mixed, lse = self._run(q, k, v, packed, noise, wants_lse)
        if wants_lse:
            see(tap, f"{name}.lse", lse)
        mixed = see(tap, f"{name}.mixed", mixed)
        return see(tap, f"{name}.output", self.output(mixed.flatten(1)))  # type: ignore[no-any-return]

    def mix(self, asked: Tensor, packed: Packed) -> Tensor:
        """Values mixed by attention, heads side by side: what `joint` gave, (tokens, 3 width) -> (tokens, width)."""
        q, k, v = self._parts(asked)
        mixed, _ = self._run(q, k, v, packed, self._noise(q), False)
        return mixed.flatten(1)

    def mix_first(self, asked: Tensor, packed: Packed) -> Tensor:
        """What `mix` gives for the first tokens of the sequences: (tokens, 3 width) -> (sequences, width)."""
        q, k, v = self._parts(asked)
        q = firsts(q, packed)
        return attention.attend_first(q, k, v, packed=packed, scale=self.scale, noise=self._noise(q)).flatten(1)

    def _parts(self, asked: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values: (tokens, 3 width) -> (tokens, heads, head_width), three times."""
        return asked.unflatten(-1, (3, self.heads, -1)).unbind(1)  # type: ignore[no-any-return]

    def _run(
        self, query: Tensor, key: Tensor, value: Tensor, packed: Packed, noise: Noise | None, lse: bool
    ) -> kernels.Mixed:
        """The fastest kernel that fits."""
        kernel = kernels.choose(query, packed, noise, lse, name=self.kernel)
        return kernel.run(query, key, value, packed=packed, scale=self.scale, noise=noise, lse=lse)

    def _noise(self, query: Tensor) -> Noise | None:
        """A fresh key for each query and head, in training."""
        if not self.training or self.dropout == 0:
            return None
        return Noise(random_keys(*query.shape[:2], device=query.device), self.dropout)


class FeedForward(nn.Module):
    """y = W_2 activation(W_1 x + b_1) + b_2, position by position."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.inner = Linear(config.width, config.inner_width, config.activation)
        self.output = Linear(config.inner_width, config.width)

    def forward(self, x: Tensor, packed: Packed | None, *, tap: Tap | None, name: str) -> Tensor:
        """(tokens, width) -> (tokens, width)."""
        return see(tap, f"{name}.output", chain(x, self.inner, self.output))  # type: ignore[no-any-return]


class PostNorm(nn.Module):
    """x -> norm(x + dropout(part(x))): the residual as BERT was published.

    What stands in its place has a `part`, a `forward`, and around attention `ask` and `settle`.
    """

    part: Any

    def __init__(self, part: nn.Module, config: EncoderConfig) -> None:
        super().__init__()
        self.part = part
        self.dropout = Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)

    def forward(self, x: Tensor, packed: Packed | None, *, tap: Tap | None, name: str) -> Tensor:
        """(tokens, width) -> (tokens, width); the bounds of sequences are the part's affair."""
        total = self.dropout(self.part(x, packed, tap=tap, name=name), onto=x)
        return self.norm(see(tap, f"{name}.sum", total))  # type: ignore[no-any-return]

    def ask(self, x: Tensor) -> Tensor:
        """Queries, keys and values of an attention: (tokens, width) -> (tokens, 3 width)."""
        return self.part.joint(x)  # type: ignore[no-any-return]

    def settle(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What `forward` gives once attention has mixed: (tokens, width), (tokens, width) -> (tokens, width)."""
        return self.norm(self.dropout(self.part.output(mixed), onto=x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer: attention, then feed-forward, each in its residual."""

    attention: Any
    feedforward: Any

    def __init__(self, attention: nn.Module, feedforward: nn.Module) -> None:
        super().__init__()
        self.attention, self.feedforward = attention, feedforward

    def forward(self, x: Tensor, packed: Packed, *, tap: Tap | None, name: str) -> Tensor:
        """(tokens, width) -> (tokens, width)."""
        x = self.attention(x, packed, tap=tap, name=f"{name}.attention")
        x = self.feedforward(x, packed, tap=tap, name=f"{name}.feedforward")
        return see(tap, f"{name}.output", x)  # type: ignore[no-any-return]

    def settle(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What `forward` gives once attention has mixed: (tokens, width), (tokens, width) -> (tokens, width)."""
        x = self.attention.settle(x, mixed)
        return self.feedforward(x, None, tap=None, name="")  # type: ignore[no-any-return]


def between(block: Block, x: Tensor, mixed: Tensor, following: Block) -> tuple[Tensor, Tensor]:
    """All from what one layer's attention mixed to what the next one's is asked: no token sees another here."""
    x = block.settle(x, mixed)
    return x, following.attention.ask(x)


class Encoder(nn.Module):
    """Embeddings, then blocks."""

    def __init__(self, config: EncoderConfig, embeddings: Embeddings, blocks: list[Block]) -> None:
        super().__init__()
        self.config = config
        self.embeddings = embeddings
        self.blocks = nn.ModuleList(blocks)
        self._between, self._settle = between, Block.settle

    def compile_training(self, backend: str = "inductor") -> None:
        """Makes few kernels of what lies between attentions in `at`, in training: one compilation serves all layers.

        Attention has kernels of its own, and word vectors stay outside, for compiled ones add up their gradients in
        any order. Dropout draws other noise than it does plain. A module that is compiled cannot be pickled whole.
        """
        self._between = torch.compile(between, dynamic=True, backend=backend)
        self._settle = torch.compile(Block.settle, dynamic=True, backend=backend)

    def forward(self, packed: Packed, *, tap: Tap | None = None) -> Tensor:
        """The last layer's output: (tokens, width), float32.

        Raises `Problem` for a tap on a layer that is not there.
        """
        if tap is not None:
            tap.check(len(self.blocks))
        x: Tensor = self.embeddings(packed, tap=tap)
        for number, block in enumerate(self.blocks):
            x = block(x, packed, tap=tap, name=f"layer.{number}")
        return x

    def at(self, packed: Packed, places: Tensor | None = None) -> Tensor:
        """The last layer's output for some tokens of the batch: (places,) int64 -> (places, width), float32.

        Without `places` they are the first tokens of the sequences, in packed order. What the last layer does after
        attention it does for these tokens alone, which saves most of it. Layers are taken apart: no hooks of theirs are
        called.
        """
        x: Tensor = self.embeddings(packed)
        pass_on, settle = (self._between, self._settle) if self.training else (between, Block.settle)
        blocks: list[Any] = list(self.blocks)
        asked = blocks[0].attention.ask(x)
        for block, following in pairwise(blocks):
            mixed = block.attention.part.mix(asked, packed)
            del asked  # three times as wide as what came of it
            x, asked = pass_on(block, x, mixed, following)
        last = blocks[-1]
        if places is None:
            return settle(last, firsts(x, packed), last.attention.part.mix_first(asked, packed))
        # The kernel takes all queries: leaving some out would gain two hundredths of a pass (measured).
        mixed = last.attention.part.mix(asked, packed)
        return settle(last, x.index_select(0, places), mixed.index_select(0, places))


def bert(
    config: EncoderConfig,
    *,
    kernel: str | None = None,
    residual: Callable[[nn.Module, EncoderConfig], nn.Module] = PostNorm,
) -> Encoder:
    """BERT as published (Devlin et al. 2019), with fresh weights: normal with deviation 0.02, norms 1 and 0."""
    blocks = [
        Block(residual(SelfAttention(config, kernel=kernel), config), residual(FeedForward(config), config))
        for _ in range(config.layers)
    ]
    return Encoder(config, Embeddings(config), blocks)


def lower_precision(encoder: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
    """Rounds the matrices of all linear maps, in place; tables, norms and the residual stream keep float32."""
    for part in encoder.modules():
        if isinstance(part, Linear):
            part.to(dtype)
