"""Word, position and segment vectors, added and normalised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.batch import Packed
from regard.model.config import EncoderConfig
from regard.model.dropout import Dropout
from regard.model.taps import Tap, see


class Embeddings(nn.Module):
    """x_t = norm(word[id_t] + position[t] + segment[s_t]), Devlin et al. 2019, section 3.

    The gradient of the word table has rows for the batch's words alone (`sparse`), for in fine-tuning a small encoder
    the rest of the vocabulary would cost as much as the layers.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = nn.Parameter(torch.empty(config.vocabulary, config.width))
        self.position = nn.Parameter(torch.empty(config.positions, config.width))
        self.segment = nn.Parameter(torch.empty(config.segments, config.width))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)
        self.sparse = False
        for table in (self.word, self.position, self.segment):
            nn.init.normal_(table, std=0.02)

    def forward(self, packed: Packed, *, tap: Tap | None = None) -> Tensor:
        """(tokens, width)."""
        word = see(tap, "embeddings.word", F.embedding(packed.ids, self.word, sparse=self.sparse))
        x = word + self.place_vectors(packed)
        return see(tap, "embeddings.output", self.dropout(self.norm(x)))  # type: ignore[no-any-return]

    def place_vectors(self, packed: Packed) -> Tensor:
        """position[t] + segment[s_t]: looked up as one, which has the same bits, where that is less to add up.

        What pays is the gradient of one lookup instead of two; that of `segment` has thousands of terms for a row.
        """
        position, segment = self.position, self.segment
        if len(packed.ids) < len(position) * len(segment):
            return F.embedding(packed.positions, position) + F.embedding(packed.segments, segment)
        both = (segment[:, None] + position).flatten(0, 1)
        return F.embedding(packed.segments * len(position) + packed.positions, both)
