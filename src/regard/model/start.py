"""Where a fresh encoder begins, when it is not to spend its first hour on what counting the text's words tells."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.model.encoder import Encoder
from regard.model.words import WordHead

SHARPNESS = 2.2  # of a head that looks at one place: twenty above the mean score, three above its neighbours
SHARE = 0.5  # of what heads see that a layer adds to a token; with all, six layers learn no more than frequencies
SHORTEST, LONGEST = 3.0, 1000.0  # waves, in tokens
ROUNDS, SPARE = 5, 32  # of the search for word vectors, and directions searched beyond those that are kept
OFFSETS = (-1, None, 1, None)  # of heads, which look at the token before, where they like, at the one behind, and so on


@torch.no_grad()
def look_nearby(encoder: Encoder) -> None:
    """Gives half of the fresh heads a neighbour to look at, and passes on what all heads see as it is.

    Position t begins as waves, sin(w t) and cos(w t) with w from 2 pi / 3 to 2 pi / 1000. Such a head's keys are the
    fastest of them and its queries the same, turned by an offset o, so that q_i . k_j is largest where j = i + o, and
    random weights beside them; other heads have these alone, and look at all places about alike. Values and output
    map are orthogonal and undo each other, W_o W_v = I / 2: a layer adds to each token what its heads see of others
    (after the mimetic start of Trockman and Kolter 2023, who copy it from trained models).
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
            offset = OFFSETS[head % len(OFFSETS)]
            if offset is not None:
                rows = slice(head * room, head * room + 2 * fastest)
                query[rows] += SHARPNESS * _turned(speed[:fastest] * offset * (-1) ** depth, width)
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

    Else the vectors of all words have to turn one way before anything else is learnt of them. An id beyond `counts`,
    as published heads have where their size is a round number, comes 0 times.
    """
    logs = (F.pad(counts, (0, len(head.bias) - len(counts))).double() + 1).log()
    head.bias.copy_(logs - logs.mean())


@torch.no_grad()
def know_neighbours(encoder: Encoder, words: Tensor, near: Tensor) -> None:
    """Gives n words vectors whose products tell how much more often they stand near one another than by chance.

    `words` are ids, (n,); `near` how much any two of them stand near one another, (n, n) float32, symmetric, which is
    overwritten. Of M_ij = max(0, log near_ij s / (r_i r_j)^(7/8)), r the sums of rows and s that of r^(3/4) (positive
    mutual information with the contexts smoothed, Levy, Goldberg and Dagan 2015, made symmetric), the eigenvectors of
    the largest eigenvalues are found by `ROUNDS` of subspace iteration (Halko, Martinsson and Tropp 2011), U L U^T, and
    a word's vector is its row of U |L|^(1/4), turned at random, as long as random vectors are.
    """
    table = encoder.embeddings.word
    width, length = table.shape[1], table.std() * math.sqrt(table.shape[1])
    sums = near.sum(1)
    scale = sums.clamp(min=1e-9).pow(0.875).reciprocal_()
    near.mul_(scale[:, None]).mul_(scale).mul_(sums.pow(0.75).sum()).log_().clamp_(min=0)
    size = min(len(words), width + SPARE)
    found = torch.randn(len(words), size)
    for _ in range(ROUNDS):
        found = torch.linalg.qr(near @ found)[0]
    values, turns = torch.linalg.eigh(found.T @ (near @ found))
    best = values.abs().argsort(descending=True)[:width]
    vectors = found @ turns[:, best] * values[best].abs().pow(0.25)
    vectors = vectors @ nn.init.orthogonal_(torch.empty(width, width))[: len(best)]
    long = vectors.norm(dim=1, keepdim=True)
    known = (long > 1e-6 * long.max()).squeeze(1)  # the rest have no neighbours, or by chance
    table[words[known]] = (vectors / long * length)[known].to(table)
