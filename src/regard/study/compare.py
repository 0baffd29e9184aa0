"""Two models on the same texts, head by head: how differently they attend, and which head is which of the other's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from regard.batch import Encoding
from regard.data.corpus import Corpus
from regard.data.examples import Examples
from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.capture import capture
from regard.lens.compare import DIVERGENCE, IN_LAYER, MATCHED, SAME, Divergences, Matching, Shape, matchings, solver
from regard.lens.divergence import divergence, same_place
from regard.lens.importance import michel
from regard.lens.statistics import Classes, Moments, Values, read
from regard.lens.tiles import Workspace
from regard.study.heads import classes
from regard.study.ranking import estimated
from regard.study.store import Results
from regard.study.texts import CAPTURE_TOKENS, Reading, alike, chunks, remarks, room
from regard.system import System

ENTROPY, IMPORTANCE = "entropy", "importance"

Systems = tuple[System, System]
Advance = Callable[[float], None]  # told the share of the texts that have been read


@dataclass(frozen=True, slots=True)
class Comparison(Results):
    """What a comparison has found: `rows` are those of the table, `docs/lens.md` has their columns."""

    rows: list[dict[str, Any]]
    layers: list[dict[str, Any]]  # of models of one shape
    matchings: list[Matching]  # none where heads were not matched
    shapes: tuple[Shape, Shape]
    texts: int
    tokens: int
    said: list[str]

    def table(self) -> dict[str, Any]:
        """Plain values for JSON; which head goes with which stands in the rows."""
        own, parts = (
            [f.name for f in fields(kind) if f.name not in ("pairs", "support")] for kind in (Comparison, Matching)
        )
        found = [{name: getattr(one, name) for name in parts} for one in self.matchings]
        return {name: getattr(self, name) for name in own} | {"matchings": found}


def study(
    systems: Systems,
    corpus: Corpus,
    reading: Reading,
    *,
    match: bool = True,
    examples: tuple[Examples, Examples] | None = None,
    seed: int = 0,
    advance: Advance = lambda share: None,
) -> Comparison:
    """Reads the same texts with both models; differences are the second's minus the first's, paired by text.

    Without `match` only heads in the same place are compared, in memory of the order of a text's length. `examples` are
    the same labelled rows, as each model numbers their labels, for the difference of Michel's importance. Raises
    `Problem` where the models do not read the same tokens, or differ in shape and the same place is asked for.
    """
    shapes = _shape(systems[0]), _shape(systems[1])
    if shapes[0] != shapes[1] and (examples or not match):
        raise Problem(
            f"The models have {_said(shapes[0])} and {_said(shapes[1])} heads, so that none stands in another's place: "
            "they can be matched and no more. Leave out --no-match and --data."
        )
    share_vocabulary(*systems)
    if match:
        solver()  # what is missing is told before the work
    tokens = min(room(system, reading) for system in systems)
    total = _Total(systems, match=match, one_shape=shapes[0] == shapes[1])
    for chunk in chunks(systems[0].tokenizer, corpus, reading, tokens):
        _check_tokens(systems, chunk.encodings, chunk.texts, tokens)
        before = total.texts
        for places in alike(chunk.encodings, CAPTURE_TOKENS):
            total.read([chunk.encodings[i] for i in places], [before + i for i in places])
            advance(total.texts / reading.texts if reading.texts else corpus.share)
    said = remarks(corpus, reading, texts=total.texts, cut=total.cut, tokens=tokens)
    found = matchings(total.pairs, *shapes, seed=seed) if match else []
    rows = _same_place_rows(total.differences, total.own)
    if examples:
        rows += _same_place_rows(*_importance(systems, examples))
    for one in found:
        rows += _matched_rows(one, total.pairs, shapes) if one.kind != SAME else []
    return Comparison(rows, _layers(total.layers, found), found, shapes, total.texts, total.tokens, said)


def share_vocabulary(first: System, second: System) -> None:
    """Raises `Problem` with what differs where the two models do not number the same tokens alike."""
    one, other = first.tokenizer, second.tokenizer
    cure = "Heads are compared on the same tokens: take two models of one vocabulary."
    if one.size != other.size:
        raise Problem(f"The models have vocabularies of {one.size:,} and {other.size:,} tokens. {cure}")
    for number in range(one.size):
        if one.token(number) != other.token(number):
            raise Problem(
                f"The models differ in their vocabularies: token {number:,} is '{one.token(number)}' in the first and "
                f"'{other.token(number)}' in the second. {cure}"
            )


def _check_tokens(systems: Systems, encodings: list[Encoding], texts: list[tuple[str, ...]], tokens: int) -> None:
    """Raises `Problem` for the first text that the second tokenizer cuts otherwise: in lower case, for example."""
    first, second = (system.tokenizer for system in systems)
    pairs = [text[1] for text in texts] if len(texts[0]) > 1 else None
    others = second.encode([text[0] for text in texts], pairs, max_length=tokens)
    for own, other, text in zip(encodings, others, texts, strict=True):
        if not (np.array_equal(own.ids, other.ids) and np.array_equal(own.segments, other.segments)):
            raise Problem(
                f"The models share a vocabulary and read a text differently: '{text[0][:60]}' is "
                f"{' '.join(first.tokens(own)[:12])} in the first and {' '.join(second.tokens(other)[:12])} in the "
                "second. Give both the same tokenizer.json."
            )


class _Total:
    """What the texts read so far have summed up to."""

    def __init__(self, systems: Systems, *, match: bool, one_shape: bool) -> None:
        self.systems, self.match, self.one_shape = systems, match, one_shape
        self.names, table = classes(systems[0].tokenizer, {})
        self.of_token = torch.from_numpy(table).to(systems[0].device)
        self.space = Workspace()
        self.differences, self.layers, self.own = Moments(), Moments(), (Moments(), Moments())
        self.pairs = Divergences()
        self.texts = self.tokens = self.cut = 0

    def read(self, encodings: list[Encoding], numbers: list[int]) -> None:
        """Takes in a batch of texts with their places in the corpus."""
        packed = pack(encodings).to(self.systems[0].device)
        first, second = (capture(system.model.encoder, packed) for system in self.systems)
        apart = []
        for sequence, number in enumerate(numbers):
            if self.match:
                matrix = divergence(first, second, sequence).double().cpu().numpy()
                self.pairs.add(number, matrix)
                apart.append(matrix.diagonal())
            else:
                apart.append(same_place(first, second, sequence).double().cpu().numpy())
        if self.one_shape:
            found = Classes(self.names, self.of_token[packed.ids])
            one, other = (read(system.model.encoder, packed, found, space=self.space) for system in self.systems)
            self._add(one, other, np.stack(apart).reshape(one[ENTROPY].shape))
        self.texts += len(encodings)
        self.tokens += len(packed.ids)
        self.cut += sum(encoding.dropped > 0 for encoding in encodings)

    def _add(self, one: dict[str, Values], other: dict[str, Values], apart: Values) -> None:
        """Statistics of both models and divergences in the same place: (texts, layers, heads), each."""
        self.own[0].add(one)
        self.own[1].add(other)
        found = {DIVERGENCE: apart} | {name: other[name] - one[name] for name in one}
        self.differences.add(found)
        self.layers.add({name: found[name].mean(-1, keepdims=True) for name in (DIVERGENCE, ENTROPY)})


def _importance(systems: Systems, examples: tuple[Examples, Examples]) -> tuple[Moments, tuple[Moments, Moments]]:
    """Differences of Michel's importance over the same rows of data, and each model's own."""
    if examples[0].rows != examples[1].rows:
        raise Problem(
            "The models can use different rows of the labelled file, for they know other labels. Compare importance "
            "between models of one task."
        )
    one, other = (michel(estimated(system, own)) for system, own in zip(systems, examples, strict=True))
    found = Moments(), Moments(), Moments()
    for moments, values in zip(found, (other - one, one, other), strict=True):
        moments.add({IMPORTANCE: values})
    return found[0], found[1:]


def _same_place_rows(differences: Moments, own: tuple[Moments, Moments]) -> list[dict[str, Any]]:
    """A row for each head and statistic, of models of one shape."""
    out = []
    for row in differences.rows():
        place, name = (row["layer"], row["head"]), row["statistic"]
        means = [float(one.mean[name][place]) if name in one.mean else None for one in own]
        out.append(_row(SAME, place, place, name, means, row))
    return out


def _matched_rows(found: Matching, pairs: Divergences, shapes: tuple[Shape, Shape]) -> list[dict[str, Any]]:
    """A row for each pair of heads that go together."""
    summary, out = pairs.summary(), []
    for one, other, support in zip(*found.pairs, found.support, strict=True):
        values = {name: float(value[one, other]) for name, value in summary.items()}
        place, place_other = divmod(int(one), shapes[0][1]), divmod(int(other), shapes[1][1])
        out.append(_row(found.kind, place, place_other, DIVERGENCE, [None, None], values, support=float(support)))
    return out


def _row(
    pairing: str,
    place: tuple[int, int],
    other: tuple[int, int],
    statistic: str,
    means: list[float | None],
    values: dict[str, Any],
    *,
    support: float | None = None,
) -> dict[str, Any]:
    """One row of the table."""
    return {
        "pairing": pairing, "layer": place[0], "head": place[1], "other_layer": other[0], "other_head": other[1],
        "statistic": statistic, "n": int(values["n"]), "of_model": means[0], "of_other": means[1],
        **{name: values[name] for name in ("mean", "deviation", "low", "high")}, "support": support,
    }  # fmt: skip


def _layers(summed: Moments, found: list[Matching]) -> list[dict[str, Any]]:
    """For each layer its mean divergence and change of entropy, and the share of its heads matched to themselves."""
    out: dict[int, dict[str, Any]] = {}
    for row in summed.rows():
        name = row["statistic"]
        values = {name: row["mean"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
        out.setdefault(row["layer"], {"layer": row["layer"]}).update(values)
    for one in (one for one in found if one.kind in (MATCHED, IN_LAYER)):
        kept = np.array_split(one.pairs[0] == one.pairs[1], max(1, len(out)))  # as many heads in each layer
        for row, share in zip(out.values(), kept, strict=False):
            row[f"kept, {one.kind}"] = float(share.mean())
    return list(out.values())


def _shape(system: System) -> Shape:
    config = system.model.encoder.config
    return config.layers, config.heads


def _said(shape: Shape) -> str:
    return f"{shape[0]} x {shape[1]}"
