"""What a pass sums up of each head's attention, and who does it: a compiled kernel where there can be one, else tiles.

For the rows i and columns j of a sequence, with scores s_ij, E_ij = exp(s_ij - max_j s_ij), t_i = sum_j E_ij and the
weights A_ij = E_ij / t_i:

    entropy     H_i = -sum_j A_ij ln A_ij = ln t_i - sum_j E_ij (s_ij - max_j s_ij) / t_i
    confidence  max_j A_ij = 1 / t_i
    a column    gets sum_i A_ij
    distance    sum_ij A_ij |i - j|
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Question:
    """What to sum up in a batch.

    `sources` are classes of few tokens, such as [CLS] and [SEP], whose rows are followed separately.
    """

    members: Tensor  # (tokens, classes) float32: 1 where a token belongs to a class
    sources: tuple[int, ...] = ()  # places among the classes
    reach: int = 3  # the largest offset
    second: Tensor | None = None  # (tokens,) float32: 1 in the second text of a pair; None where there is no pair


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over rows, for each sequence in packed order and each head; float32."""

    entropy: Tensor  # (sequences, heads, 1 + sources) nats: of all rows, then of each source's
    masses: Tensor  # (sequences, heads, 1 + sources, classes): what a class gets from all rows, from each source's
    distance: Tensor  # (sequences, heads) tokens
    received: Tensor  # (sequences, heads): the sum of all columns' places, each times what it gets
    offsets: Tensor  # (sequences, heads, 2 reach + 1): the weights at i + o, for o from -reach to reach
    confidence: Tensor  # (sequences, heads): the largest weights of rows
    own_text: Tensor  # (sequences, heads): what rows give to their own text of a pair; 0 where there is no pair
    weighted: Tensor  # (sequences, heads, classes + 1): masses times norms, the last of all columns; or 0


class Summing(Protocol):
    """A batch laid out; stands in for the attention of one layer after the other (`Tap.attend`)."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, scale: float, norms: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Sums]:
        """The mixed values, the log-sum-exps (tokens, heads) and the sums of one layer.

        query, key, value and mixed are (tokens, heads, d). `norms` (tokens, heads) of what the tokens' values add are
        for masses weighted by them.
        """
        ...
