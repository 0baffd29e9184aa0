"""What statistics of attention are made of: sums over the rows of each sequence and head, beside the fused kernel.

The kernel runs as ever and gives the log-sum-exps; the weights are then written out a tile at a time, small enough for
a core's own cache, and summed there. Memory is of the order of the tokens, whatever the length.

With s_ij the scaled scores and lse_i = log sum_j exp(s_ij), the product of two widened factors is the logarithm of the
weights, L_ij = s_ij - lse_i = [q_i / sqrt(d), -lse_i] . [k_j, 1], so that a tile takes one product and one exponential:

    A = exp(L)      entropy H_i = -sum_j A_ij L_ij      distance sum_j A_ij |i - j|      received c_j = sum_i A_ij
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.batch import Packed
from regard.model.groups import Group, Padding, groups, padded

# A tile and its logarithm should stay in the cores' own caches between the passes over them (measured).
TILE = 3 * 2**16  # weights of a tile, all heads together, for each thread
TILES = Padding(step=1, cost=4096)
HIDDEN = -80.0  # logarithm of a weight that counts for nothing; much lower, it would be no normal number, and slow


@dataclass(frozen=True, slots=True)
class Question:
    """What to sum up in a batch.

    `sources` are classes of few tokens, such as [CLS] and [SEP], whose rows are followed separately.
    """

    members: Tensor  # (tokens, classes) float32: 1 where a token belongs to a class
    sources: tuple[int, ...] = ()  # places among the classes
    reach: int = 3  # the largest offset
    confidence: bool = False  # whether the largest weight of each row is wanted, one more pass
    second: Tensor | None = None  # (tokens,) float32: 1 in the second text of a pair; None where there is no pair
    norms: Tensor | None = None  # (tokens, heads): what a token's value adds, for masses weighted by it


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over rows, for each sequence in packed order and each head; float32."""

    entropy: Tensor  # (sequences, heads, 1 + sources) nats: of all rows, then of each source's
    masses: Tensor  # (sequences, heads, 1 + sources, classes): what a class gets from all rows, from each source's
    distance: Tensor  # (sequences, heads) tokens
    received: Tensor  # (sequences, heads): the sum of all columns' places, each times what it gets
    offsets: Tensor  # (sequences, heads, 2 reach + 1): the weights at i + o, for o from -reach to reach
    confidence: Tensor  # (sequences, heads): the largest weights; 0 where they were not wanted
    own_text: Tensor  # (sequences, heads): what rows give to their own text of a pair; 0 where there is no pair
    weighted: Tensor  # (sequences, heads, classes + 1): masses times norms, the last of all columns; or 0


class Workspace:
    """Memory that the tiles of one pass share, so that the system need not find and clear it again for each."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised float32 tensor on the device of `like`; what had this name before is gone."""
        size = torch.Size(shape).numel()
        held = self._held.get(name)
        if held is None or held.numel() < size or held.device != like.device:
            held = self._held[name] = torch.empty(size, device=like.device)
        return held[:size].view(shape)


def tiles(
    query: Tensor, key: Tensor, lse: Tensor, *, packed: Packed, scale: float, question: Question, space: Workspace
) -> Sums:
    """The sums from queries and keys (tokens, heads, d) and log-sum-exps (tokens, heads); computed in float32."""
    room = TILE * torch.get_num_threads()
    padding = replace(TILES, room=room // query.shape[1])
    blocks = groups(packed.lengths, query.device, torch.float32, padding)
    parts = [_of_block(query, key, lse, scale, block, question, room, space) for block in blocks]
    return Sums(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Sums)))


def _of_block(
    query: Tensor, key: Tensor, lse: Tensor, scale: float, block: Group, question: Question, room: int, space: Workspace
) -> Sums:
    count, heads, size, reach = block.count, query.shape[1], block.longest, question.reach
    batch, wide = count * heads, size + 2 * reach
    q, k = _factors(query, key, lse, scale, block, reach, space)
    step = min(size, max(8, room // (batch * size)))
    gaps = _gaps(size, reach, q.device)
    second = None if question.second is None else _of_tokens(question.second[:, None], block).mT
    found = []
    for start in range(0, size, step):
        rows = slice(start, min(size, start + step))
        high = rows.stop - start
        log = torch.bmm(q[:, rows], k, out=space.take("log", q, batch, high, wide))
        weight = torch.exp(log, out=space.take("weight", q, batch, high, wide))
        band = weight.as_strided((batch, high, 2 * reach + 1), (high * wide, wide + 1, 1), start).sum(1)
        distance = torch.mv(weight.view(batch, -1), gaps[rows].view(-1))
        peak = weight.amax(-1).sum(-1) if question.confidence else torch.zeros_like(distance)
        columns = weight.view(count, heads, high, wide).sum(2)
        columns_second = columns if second is None else _from_rows(second[..., rows], weight)
        entropy = torch.mul(weight, log, out=log).view(batch, -1).sum(-1).neg_()
        found.append((entropy, distance, band, peak, columns, columns_second))
    sums = [torch.stack(each).sum(0) for each in zip(*found, strict=True)]
    entropy, distance, band, peak = (each.unflatten(0, (count, heads)) for each in sums[:4])
    columns, columns_second = (each[..., reach : reach + size] for each in sums[4:])
    members = _of_tokens(question.members, block)
    source_entropy, source_masses = _sources(q, k, members, question, block, heads)
    return Sums(
        entropy=torch.cat([entropy.unsqueeze(-1), source_entropy], -1),
        masses=torch.cat([(columns @ members).unsqueeze(2), source_masses], 2),
        distance=distance,
        received=columns @ torch.arange(size, device=q.device, dtype=torch.float32),
        offsets=band,
        confidence=peak,
        own_text=torch.zeros_like(distance) if second is None else _own_text(columns, columns_second, second),
        weighted=_weighted(columns, members, question, block),
    )


def _factors(
    query: Tensor, key: Tensor, lse: Tensor, scale: float, block: Group, reach: int, space: Workspace
) -> tuple[Tensor, Tensor]:
    """Two factors whose product is the logarithm of the weights, with `reach` hidden keys before and behind.

    [q / sqrt(d), -lse, 1] and [k, 1, 0]; for what is hidden, in the margins or as padding, [0, HIDDEN, 1] and
    [0, 0, HIDDEN]. (count * heads, S, d + 2) and (count * heads, d + 2, S + 2 reach).
    """
    count, heads, size, width = block.count, query.shape[1], block.longest, query.shape[2]
    q = space.take("query", query, count, heads, size, width + 2)
    k = space.take("key", query, count, heads, size + 2 * reach, width + 2)
    inner = k[:, :, reach : reach + size]
    q[..., :width] = padded(query, block)
    q[..., :width] *= scale
    q[..., width : width + 1] = padded(lse.unsqueeze(-1), block).neg()
    q[..., width + 1] = 1
    inner[..., :width] = padded(key, block)
    inner[..., width] = 1
    inner[..., width + 1] = 0
    for margin in (k[:, :, :reach], k[:, :, reach + size :]):
        margin[..., : width + 1] = 0
        margin[..., width + 1] = HIDDEN
    if block.shown is not None:
        hidden = (1 - block.shown) * HIDDEN
        q[..., : width + 1] *= block.shown
        q[..., width : width + 1] += hidden
        inner *= block.shown
        inner[..., width + 1 :] += hidden
    return q.flatten(0, 1), k.flatten(0, 1).mT


def _sources(
    q: Tensor, k: Tensor, members: Tensor, question: Question, block: Group, heads: int
) -> tuple[Tensor, Tensor]:
    """Entropies (count, heads, sources) and masses (count, heads, sources, classes) of the rows of few tokens."""
    chosen = members[..., list(question.sources)]  # (count, S, sources)
    if not question.sources:
        return members.new_zeros(block.count, heads, 0), members.new_zeros(block.count, heads, 0, members.shape[-1])
    most = max(1, int(chosen.amax(-1).sum(-1).max()))
    place = chosen.amax(-1).topk(most, 1).indices  # (count, most), those of the sources first
    of_source = chosen.gather(1, place.unsqueeze(-1).expand(-1, -1, chosen.shape[-1]))  # (count, most, sources)
    rows = q.view(block.count, heads, *q.shape[1:])
    rows = rows.gather(2, place.view(block.count, 1, most, 1).expand(-1, heads, -1, q.shape[-1]))
    log = torch.bmm(rows.flatten(0, 1), k).view(block.count, heads, most, -1)
    weight = log.exp()
    masses = weight[..., question.reach : question.reach + members.shape[1]] @ members.unsqueeze(1)
    entropy = (weight * log).sum(-1).neg_()
    return entropy @ of_source, of_source.mT.unsqueeze(1) @ masses


def _from_rows(of_row: Tensor, weight: Tensor) -> Tensor:
    """What columns get from some rows: (count, 1, rows) and (count * heads, rows, S) -> (count, heads, S)."""
    heads = len(weight) // len(of_row)
    return torch.bmm(of_row.repeat_interleave(heads, 0), weight).view(len(of_row), heads, -1)


def _own_text(columns: Tensor, columns_second: Tensor, second: Tensor) -> Tensor:
    """First text to first and second to second, from what columns get of all rows and of the second text's."""
    to_first = (columns - columns_second) * (1 - second)
    return (to_first + columns_second * second).sum(-1)


def _weighted(columns: Tensor, members: Tensor, question: Question, block: Group) -> Tensor:
    """Masses of classes, and of all, where each weight is multiplied with the norm of what it brings."""
    if question.norms is None:
        return columns.new_zeros(*columns.shape[:2], members.shape[-1] + 1)
    brought = columns * padded(question.norms.unsqueeze(-1), block).squeeze(-1)
    return torch.cat([brought @ members, brought.sum(-1, keepdim=True)], -1)


def _of_tokens(x: Tensor, block: Group) -> Tensor:
    """Values of the block's tokens, 0 where a place is padding: (tokens, n) -> (count, longest, n)."""
    rows = padded(x.unsqueeze(1), block).squeeze(1)
    return rows if block.shown is None else rows * block.shown.squeeze(1)


@lru_cache(maxsize=8)
def _gaps(size: int, reach: int, device: torch.device) -> Tensor:
    """|i - j|, and 0 in the margins: (size, size + 2 reach)."""
    place = torch.arange(size, device=device, dtype=torch.float32)
    return F.pad((place[:, None] - place).abs(), (reach, reach))
