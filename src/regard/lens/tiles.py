"""Attention that sums up its own weights by stock operations, a tile at a time; on any device.

Weights are written out for some rows at a time, few enough for the cores' own caches, summed there and forgotten:
memory is of the order of the tokens, whatever the length. Beside what `sums.py` says, with columns that get
c_j = sum_i A_ij with the moment m_j = sum_i A_ij i from the rows of a tile, the distance is |m_j - c_j j| at each
column before or behind those rows, where it is linear, and summed cell by cell among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from regard.batch import Packed
from regard.lens.sums import Question, Sums
from regard.model.grouped import product
from regard.model.groups import Group, Padding, groups, padded, unpadded

# A tile and its logarithm should stay in the cores' own caches between the passes over them (measured).
TILE = 3 * 2**16  # weights of a tile, all heads together, for each thread
TILES = Padding(step=1, cost=4096)
FLUSH = 16  # tiles whose columns are kept until they are summed
LOWEST = -80.0  # of a logarithm: an exponential much lower is no normal number, and slow; this one counts for nothing


class Workspace:
    """Memory that passes share, so that the system need not find and clear it again for each."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, size: int, device: torch.device) -> Tensor:
        """Uninitialised float32 numbers; what had this name before is gone."""
        held = self._held.get(name)
        if held is None or held.numel() < size or held.device != device:
            held = self._held[name] = torch.empty(size, device=device)
        return held[:size]


class Tiles:
    """A batch laid out for its tiles: what is the same in every layer is made once."""

    def __init__(self, packed: Packed, heads: int, question: Question, space: Workspace) -> None:
        room = TILE * torch.get_num_threads()
        blocks = groups(packed.lengths, packed.ids.device, torch.float32, replace(TILES, room=room // heads))
        self.blocks = [_Block(block, heads, question, room, space) for block in blocks]

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, scale: float, norms: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Sums]:
        """One layer, as `Summing.attend`; computed in float32."""
        mixed = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        found = [block.attend(query, key, value, scale, norms, mixed) for block in self.blocks]
        sums = Sums(*(torch.cat([getattr(part, field.name) for _, part in found]) for field in fields(Sums)))
        return mixed, torch.cat([lse for lse, _ in found]), sums


class _Tile:
    """Some rows of a block: the views and constants that they need."""

    def __init__(self, block: _Block, start: int, stop: int, log: Tensor, weight: Tensor) -> None:
        batch, rows, size, reach = block.batch, stop - start, block.block.longest, block.question.reach
        self.rows = slice(start, stop)
        self.log, self.weight = (t[: batch * rows * size].view(batch, rows, size) for t in (log, weight))
        near = slice(max(0, start - reach), min(size, stop + reach))
        self.near = self.weight[:, :, near]  # the rows' own columns, and `reach` more on either side
        i, j = block.place[self.rows, None], block.place[near]
        own = torch.where((j >= start) & (j < stop), (i - j).abs(), 0)
        at = [(j - i == offset).float() for offset in range(-reach, reach + 1)]
        self.cells = torch.stack([own, *at], -1).flatten(0, 1)  # (cells, 1 + offsets)


class _Block:
    """Sequences of like length and their tiles."""

    def __init__(self, block: Group, heads: int, question: Question, room: int, space: Workspace) -> None:
        self.block, self.heads, self.question = block, heads, question
        device, size = question.members.device, block.longest
        self.batch = block.count * heads
        self.members = _of_tokens(question.members, block)
        self.place = torch.arange(size, device=device, dtype=torch.float32)
        self.shown = None
        if block.shown is not None:
            self.shown = block.shown.view(block.count, 1, size).expand(-1, heads, -1).flatten(0, 1)
        step = min(size, max(8, room // (self.batch * size)))
        log, weight = (space.take(name, self.batch * step * size, device) for name in ("log", "weight"))
        self.tiles = [_Tile(self, start, min(size, start + step), log, weight) for start in range(0, size, step)]
        self.from_rows = self._row_weights()
        self.source_rows, self.of_source = self._sources()

    def _row_weights(self) -> Tensor:
        """How columns weigh rows, by 1, by their place, and for pairs by 1 in the second text: (batch, 2 or 3, S)."""
        weights = torch.stack([torch.ones_like(self.place), self.place]).expand(self.block.count, -1, -1)
        if self.question.second is not None:
            weights = torch.cat([weights, _of_tokens(self.question.second[:, None], self.block).mT], 1)
        return weights.repeat_interleave(self.heads, 0)

    def _sources(self) -> tuple[Tensor, Tensor]:
        """Rows of the sources' tokens among all rows of the batch, and the source of each: (count, most, sources)."""
        chosen = self.members[..., list(self.question.sources)]  # (count, S, sources)
        some = chosen.amax(-1) if self.question.sources else chosen.sum(-1)
        place = some.topk(max(1, int(some.sum(-1).max())), 1).indices  # as many as the sequence with most has
        of_source = chosen.gather(1, place.unsqueeze(-1).expand(-1, -1, chosen.shape[-1]))
        first = torch.arange(self.batch, device=place.device)[:, None] * self.block.longest
        return (first + place.repeat_interleave(self.heads, 0)).flatten(), of_source

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, norms: Tensor | None, mixed: Tensor
    ) -> tuple[Tensor, Sums]:
        """Writes its tokens' rows of `mixed`, and gives their log-sum-exps and the sums; see `Tiles.attend`."""
        q, k, v = (padded(t, self.block).float().flatten(0, 1).contiguous() for t in (query, key, value))
        keys, own = k.mT, mixed[self.block.start : self.block.start + self.block.tokens]
        # Where nothing is padded the products are written to where they belong, without a copy.
        out = self._by_head(torch.empty_like(v)) if self.block.scatter is not None else padded(mixed, self.block)
        found, totals = [], torch.zeros(self.batch, self.from_rows.shape[1], self.block.longest, device=q.device)
        distance, columns = torch.zeros(self.batch, device=q.device), []
        for number, tile in enumerate(self.tiles, 1):
            log, weight = self._scores(q[:, tile.rows], keys, scale, out=tile.log), tile.weight
            peak = log.amax(-1)
            log.sub_(peak.unsqueeze(-1)).clamp_min_(LOWEST)
            torch.exp(log, out=weight)
            total = weight.sum(-1)
            share = total.reciprocal() if self.shown is None else self.shown[:, tile.rows] / total
            torch.mul(self._by_head(torch.bmm(weight, v)), self._by_head(share).unsqueeze(-1), out=out[:, :, tile.rows])
            columns.append(torch.bmm(self.from_rows[..., tile.rows] * share.unsqueeze(1), weight))
            cells = (tile.near * share.unsqueeze(-1)).view(self.batch, -1) @ tile.cells
            found.append((total, peak, torch.mul(weight, log, out=log).sum(-1), cells))
            if number % FLUSH == 0 or number == len(self.tiles):
                totals += torch.stack(columns).sum(0)
                distance += self._beyond(columns, self.tiles[number - len(columns) : number])
                columns = []
        if self.block.scatter is not None:
            own.copy_(unpadded(out.transpose(1, 2), self.block))
        total, peak, spread = (torch.cat(each, 1) for each in list(zip(*found, strict=True))[:3])
        share = total.reciprocal() if self.shown is None else self.shown / total
        rows = self._by_head(share * (total * total.log() - spread)), self._by_head(share)
        cells = torch.stack([each[3] for each in found]).sum(0)
        near = self._by_head(distance + cells[:, 0]), self._by_head(cells[:, 1:])
        sums = self._sums(rows, near, totals, self._of_sources(q, keys, scale), norms)
        return unpadded(self._by_head(peak + total.log()).transpose(1, 2), self.block), sums

    def _scores(self, q: Tensor, keys: Tensor, scale: float, *, out: Tensor | None = None) -> Tensor:
        score = product(q, keys, scale, out=out)
        if self.block.bias is not None:
            score.view(self.block.count, self.heads, -1, self.block.longest).add_(self.block.bias)
        return score

    def _of_sources(self, q: Tensor, keys: Tensor, scale: float) -> Tensor:
        """What classes get from the sources' rows: (count, heads, sources, classes)."""
        rows = q.flatten(0, 1).index_select(0, self.source_rows).view(self.batch, -1, q.shape[-1])
        weight = self._by_head(torch.softmax(self._scores(rows, keys, scale), -1))
        return self.of_source.mT.unsqueeze(1) @ (weight @ self.members.unsqueeze(1))

    def _beyond(self, columns: list[Tensor], tiles: list[_Tile]) -> Tensor:
        """Distances from tiles' rows to the columns before and behind them: (batch,)."""
        mass, moment, *_ = torch.stack(columns).unbind(2)  # (tiles, batch, S)
        ends = torch.tensor([[tile.rows.start, tile.rows.stop] for tile in tiles], device=mass.device)[:, None]
        side = (self.place < ends[..., :1]).float() - (self.place >= ends[..., 1:]).float()
        return ((moment - mass * self.place) * side).sum((0, 2))

    def _sums(
        self,
        rows: tuple[Tensor, Tensor],
        near: tuple[Tensor, Tensor],
        totals: Tensor,
        sources: Tensor,
        norms: Tensor | None,
    ) -> Sums:
        entropy, confidence = rows  # (count, heads, S)
        distance, offsets = near
        received, _, *second = self._by_head(totals).unbind(2)  # (count, heads, S)
        chosen = self.members[..., list(self.question.sources)]
        return Sums(
            entropy=torch.cat([entropy.sum(-1, keepdim=True), entropy @ chosen], -1),
            masses=torch.cat([(received @ self.members).unsqueeze(2), sources], 2),
            distance=distance,
            received=received @ self.place,
            offsets=offsets,
            confidence=confidence.sum(-1),
            own_text=self._own_text(received, second) if second else torch.zeros_like(distance),
            weighted=self._weighted(received, norms),
        )

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(self.block.count, self.heads, *x.shape[1:])

    def _own_text(self, received: Tensor, of_second: Sequence[Tensor]) -> Tensor:
        """First text to first and second to second, from what columns get of all rows and of the second text's."""
        assert self.question.second is not None
        from_second = of_second[0]
        is_second = _of_tokens(self.question.second[:, None], self.block).mT
        own: Tensor = (received - from_second) * (1 - is_second) + from_second * is_second
        return own.sum(-1)

    def _weighted(self, received: Tensor, norms: Tensor | None) -> Tensor:
        """Masses of classes, and of all, where each weight is multiplied with the norm of what it brings."""
        if norms is None:
            return received.new_zeros(*received.shape[:2], self.members.shape[-1] + 1)
        brought = received * padded(norms.unsqueeze(-1), self.block).squeeze(-1)
        return torch.cat([brought @ self.members, brought.sum(-1, keepdim=True)], -1)


def _of_tokens(x: Tensor, block: Group) -> Tensor:
    """Values of the block's tokens, 0 where a place is padding: (tokens, n) -> (count, longest, n)."""
    rows = padded(x.unsqueeze(1), block).squeeze(1)
    return rows if block.shown is None else rows * block.shown.squeeze(1)
