"""A small generator and the discriminator it is to deceive, trained together (Clark et al. 2020).

The generator's vectors of words, positions and segments are the discriminator's, brought to its own width:
e = M (word + position + segment), and its head compares with the rows of word M^T. So each word learns wherever one is
hidden, where a discriminator alone teaches only the words that it sees (section 3.2 of the paper).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.batch import Packed
from regard.model.config import EncoderConfig
from regard.model.dropout import Dropout
from regard.model.embeddings import Embeddings
from regard.model.encoder import bert
from regard.model.heads import Model
from regard.model.pooling import Mean
from regard.model.taps import Tap
from regard.model.words import WordHead

TABLES = ("word", "position", "segment")


class Borrowed(nn.Module):
    """x_t = norm(M (word[id_t] + position[t] + segment[s_t])), the tables being those of a wider encoder."""

    def __init__(self, lender: Embeddings, config: EncoderConfig) -> None:
        super().__init__()
        self.lender = lender
        wide = lender.word.shape[1]
        self.map = nn.Parameter(torch.empty(config.width, wide).normal_(std=wide**-0.5))  # keeps the tables' deviation
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)

    @property
    def word(self) -> Tensor:
        """The word vectors in the generator's width: (vocabulary, width)."""
        return F.linear(self.lender.word, self.map)

    def forward(self, packed: Packed, *, tap: Tap | None = None) -> Tensor:
        """(tokens, width)."""
        lender = self.lender
        x = F.linear(F.embedding(packed.ids, lender.word) + lender.place_vectors(packed), self.map)
        return self.dropout(self.norm(x.float()))  # type: ignore[no-any-return]


class Electra(nn.Module):
    """Both, as one thing to train."""

    def __init__(self, discriminator: Model, generator: Model) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator


def smaller(config: EncoderConfig, *, width: float, layers: float) -> EncoderConfig:
    """The shape of a generator that has these shares of a shape: whole heads of the same width, whole layers."""
    heads = max(1, round(width * config.heads))
    inner = max(1, round(config.inner_width * heads / config.heads))
    count = max(1, round(layers * config.layers))
    return replace(config, width=heads * config.head_width, heads=heads, inner_width=inner, layers=count)


def guesser(config: EncoderConfig) -> Model:
    """A model of this shape that guesses words, with fresh weights."""
    return Model(bert(config), Mean(), words=WordHead(config))


def generator_for(discriminator: Model, config: EncoderConfig) -> Model:
    """A generator of this shape, with fresh weights, that borrows the tables of a discriminator."""
    model = guesser(config)
    model.encoder.embeddings = Borrowed(discriminator.encoder.embeddings, config)  # type: ignore[assignment]
    return model


@torch.no_grad()
def multiply_out(generator: Model, model: Model) -> Model:
    """Copies a generator that borrows into a `guesser` of its shape, which computes the same with tables of its own."""
    borrowed = generator.encoder.embeddings
    assert isinstance(borrowed, Borrowed)
    own = {name: part for name, part in generator.state_dict().items() if ".lender." not in name}
    wide = own.pop("encoder.embeddings.map").float()
    tables = {f"encoder.embeddings.{name}": F.linear(getattr(borrowed.lender, name).float(), wide) for name in TABLES}
    model.load_state_dict(own | tables)
    return model
