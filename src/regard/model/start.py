"""Where a fresh encoder begins, when it is not to spend its first million tokens on finding out what text is."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from regard.model.encoder import Encoder
from regard.model.words import WordHead

SHARPNESS = 2.2  # of a head that looks at one place: twenty above the mean score, three above its neighbours
SHARE = (
    0.5  # of what a head sees that a layer adds to a token; with all of it six layers learn no more than frequencies
)
SHORTEST, LONGEST = 3.0, 1000.0  # waves, in tokens
OFFSETS = (-1, 1, -2, 2, -3, 3, 0, 0)  # of the heads of a layer; the next layer has them the other way round


@torch.no_grad()
def look_nearby(encoder: Encoder) -> None:
    """Gives fresh heads a place to look at, and passes on what they see as it is.

    Position t begins as waves, sin(w t) and cos(w t) with w from 2 pi / 3 to 2 pi / 1000. A head's keys are the
    fastest of them and its queries the same, turned by an offset o, so that q_i . k_j is largest where j = i + o, and
    random weights beside them. Values and output map are orthogonal and undo each other, W_o W_v = I / 2: a layer adds
    to each token those nearby (after the mimetic start of Trockman and Kolter 2023, who copy it from trained models).
    """
    embeddings, config = encoder.embeddings, encoder.config
    width, room = config.width, config.width // config.heads
    waves, fastest = width // 2, room // 2
    speed = 2 * math.pi / SHORTEST * (SHORTEST / LONGEST) ** (torch.arange(waves) / max(1, waves - 1))
    angle = torch.arange(config.positions)[:, None] * speed
    # As long as word vectors are: half of what the first layer reads is where a token stands.
    embeddings.position[:, : 2 * waves] = (
        embeddings.word.std() * math.sqrt(2) * torch.cat([angle.sin(), angle.cos()], 1)
    )
    block: Any
    for depth, block in enumerate(encoder.blocks):
        attention = block.attention.part
        query, key, value = attention.joint.weight.split(width)
        attention.output.weight.copy_(nn.init.orthogonal_(value).T)
        value *= SHARE
        for head in range(config.heads):
            rows = slice(head * room, head * room + 2 * fastest)
            offset = (-1) ** depth * OFFSETS[head % len(OFFSETS)]
            query[rows] += SHARPNESS * _turned(speed[:fastest] * offset, width)
            key[rows] += SHARPNESS * _turned(speed[:fastest] * 0, width)


def _turned(angle: Tensor, width: int) -> Tensor:
    """(2 n, width): from the first n sines and cosines of x to those of x + angle."""
    n, sine, cosine = len(angle), angle.sin().diag(), angle.cos().diag()
    turn = torch.zeros(2 * n, width)
    turn[:n, :n], turn[:n, width // 2 : width // 2 + n] = cosine, sine
    turn[n:, :n], turn[n:, width // 2 : width // 2 + n] = -sine, cosine
    return turn


@torch.no_grad()
def know_frequencies(head: WordHead, counts: Tensor) -> None:
    """Begins with the guess log((n + 1) / (N + V)) for a word that comes n times, not with all alike.

    Else the vectors of all words have to turn one way before anything else is learnt of them.
    """
    logs = (counts.double() + 1).log()
    head.bias.copy_(logs - logs.mean())
