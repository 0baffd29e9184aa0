"""The shape of an encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """The sizes and rates that, with the weights, determine what a BERT computes."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner_width: int
    positions: int = 512
    segments: int = 2
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1

    @property
    def head_width(self) -> int:
        """Columns of one head's queries, keys and values."""
        return self.width // self.heads
