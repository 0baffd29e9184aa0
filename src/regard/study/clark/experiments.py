"""Every experiment of the paper on one model, one corpus and one treebank, in plain data.

What is finished is kept in a file, part by part, and a call that was killed goes on behind the last one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from regard import disk
from regard.batch import Encoding
from regard.data.corpus import Corpus
from regard.data.treebank import Treebank
from regard.errors import Problem
from regard.lens.clusters import behaviours, scale
from regard.lens.divergence import divergence
from regard.lens.guards import faithfulness, free_dimensions
from regard.lens.statistics import Values
from regard.study import heads, probes, relations
from regard.study.clark import antecedents, gradients
from regard.study.texts import NO_PAIRS, captures, chunks, room
from regard.system import System

STATISTICS = (
    "offset_-1", "offset_+0", "offset_+1", "to_cls", "to_sep", "to_stop", "sep_to_sep", "other_to_sep",
    "entropy", "entropy_share", "cls_entropy", "norm_to_sep",
)  # fmt: skip
CLASSES = gradients.COLUMNS
ASKED = 256  # texts whose gradients are taken
COMPARED = 64  # texts whose heads are compared with each other
OF_TREES = {"relations", "coreference", "probes"}  # parts that the treebank gives

Advance = Callable[[float], None]  # told the share of all the work that is done
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the experiments are made."""

    texts: int = 1000  # pairs of texts; 0: all
    length: int = 128  # tokens of a pair at the most
    segments: bool = True  # whether the model is told which text of a pair a token is of
    probe: bool = False
    seed: int = 0
    seeds: int = 3  # how often each probe is trained


@dataclass(frozen=True, slots=True)
class Experiments:
    """What was found; every field is plain, and `docs/lens.md` says what stands in it."""

    names: dict[str, str]  # of model, corpus, treebank
    plan: dict[str, Any]
    shape: dict[str, int]  # layers, heads, head_width
    setup: dict[str, Any]  # E1, E6
    heads: list[dict[str, Any]]  # E2, E3, E5
    gradients: dict[str, Any]  # E4
    relations: dict[str, Any]  # E7
    coreference: dict[str, Any]  # E8
    probes: list[dict[str, Any]]  # E9; empty where not asked for
    clusters: dict[str, Any]  # E10

    def means(self) -> dict[str, Values]:
        """The statistics of E2, E3 and E5: name -> (layers, heads)."""
        return table(self.heads, self.shape)

    def plain(self) -> dict[str, Any]:
        """All of it for JSON."""
        return asdict(self)


def study(
    system: System,
    corpus: Corpus,
    bank: Treebank | None,
    plan: Plan,
    *,
    names: Mapping[str, str],
    state: Path | None = None,
    advance: Advance = lambda share: None,
) -> Experiments:
    """Runs all experiments; without a treebank those that need none.

    Finished parts are kept in `state`, and the pass over the corpus beside it, until the caller deletes them.
    """
    if plan.length < 16:
        raise Problem(f"Pairs of {plan.length} tokens hold next to nothing. Say --length 128, as the paper has it.")
    config = system.model.encoder.config
    shape = {"layers": config.layers, "heads": config.heads, "head_width": config.head_width}
    reading = heads.Plan(length=plan.length, pairs=True, segments=plan.segments, texts=plan.texts, reach=1, norms=True)
    trees = None if bank is None else relations.read(system, bank)
    if trees is not None:  # too few sentences are better said before the corpus is read
        relations.parted(trees, relations.HALVES, seed=plan.seed)
        if plan.probe:
            probes.parts(probes.whole(trees), seed=plan.seed)
    setup, sample, asked = _segments(system, corpus, reading, plan)
    kept = _Kept(state, _marks(system, corpus, reading, bank, plan))
    work = _Work(advance, {"heads": 1, "gradients": 1, "clusters": 1, "relations": 3, "probes": 6 * plan.probe})

    passing = None if state is None else state.with_name(f"{state.name}.heads")

    def read_heads() -> list[dict[str, Any]]:
        found = heads.study(system, corpus, reading, state=passing)
        return gradients.plain(row for row in found.rows if row["statistic"] in STATISTICS)

    found_heads = kept("heads", read_heads)
    if passing is not None:
        passing.unlink(missing_ok=True)  # not before what it gave is kept
    work.done("heads")
    move = work.counter("gradients", len(asked))
    found_gradients = kept("gradients", lambda: gradients.study(system, asked, seed=plan.seed, advance=move))
    work.done("gradients")
    move = work.counter("clusters", len(sample))
    found_clusters = kept("clusters", lambda: _clusters(system, sample, found_heads, shape, plan, move))
    work.done("clusters")
    parsers: dict[str, Any] = {"missing": NO_TREES, "rows": [], "said": [], "sentences": 0}
    coreference: dict[str, Any] = {"missing": NO_TREES, "rows": [], "said": []}
    trained: list[dict[str, Any]] = []
    if bank is not None and trees is not None:
        setup |= _split(trees)
        move = work.counter("relations", len(trees.sentences))
        parsers = kept("relations", lambda: _parsers(system, trees, plan, move))
        length = min(plan.length, system.card.max_length)
        coreference = kept("coreference", lambda: antecedents.study(system, bank, length=length, seed=plan.seed))
        work.done("relations")
        if plan.probe:
            move = work.counter("probes", 2 * probes.steps(trees, seeds=plan.seeds))
            trained = kept(
                "probes", lambda: probes.study(system, trees, seed=plan.seed, seeds=plan.seeds, advance=move)
            )
    return Experiments(
        dict(names), asdict(plan), shape, setup, found_heads, found_gradients, parsers, coreference, trained,
        found_clusters,
    )  # fmt: skip


NO_TREES = "No treebank was given: say --treebank treebank.conllu."


def table(rows: Iterable[Mapping[str, Any]], shape: Mapping[str, int]) -> dict[str, Values]:
    """Rows of heads as arrays: statistic -> (layers, heads), nan where there is none."""
    out: dict[str, Values] = {}
    for row in rows:
        held = out.setdefault(row["statistic"], np.full((shape["layers"], shape["heads"]), np.nan))
        held[row["layer"], row["head"]] = row["mean"]
    return out


def _segments(
    system: System, corpus: Corpus, reading: heads.Plan, plan: Plan
) -> tuple[dict[str, Any], list[Encoding], list[Encoding]]:
    """What the texts are like, some of them to compare heads on, and some, parted in two, for the gradients."""
    names, of = heads.classes(system.tokenizer, {})
    chosen = of[:, [names.index(name) for name in CLASSES]]
    random = np.random.default_rng(plan.seed)
    held: list[Encoding] = []
    texts, tokens, logs, shares = 0, 0, 0.0, np.zeros(len(CLASSES))
    found = chunks(system.tokenizer, corpus, reading, room(system, reading))
    for e in (encoding for chunk in found for encoding in chunk.encodings):
        if texts < ASKED:
            held.append(e)
        elif (place := int(random.integers(texts + 1))) < ASKED:  # each text is as likely to be kept (reservoir)
            held[place] = e
        texts += 1
        tokens += len(e.ids)
        logs += math.log(len(e.ids))
        shares += chosen[e.ids].mean(0)
    if not texts:
        raise Problem(f"{corpus.path} has {NO_PAIRS}")
    held = [held[i] for i in random.permutation(len(held))]
    setup = {
        "texts": texts,
        "tokens": tokens,
        "uniform_entropy": logs / texts,
        "uniform": dict(zip(CLASSES, (shares / texts).tolist(), strict=True)),
        "free_dimensions": free_dimensions(round(tokens / texts), system.model.encoder.config.head_width),
        "undecodable": corpus.undecodable,
        "faithful": faithfulness(system.faithful).text,
    }
    return setup, held[:COMPARED], held


def _split(trees: relations.Corpus) -> dict[str, Any]:
    """How many words of the treebank are several tokens, for experiment 6."""
    sizes = np.concatenate([np.bincount(e.words[e.words >= 0]) for e in trees.encodings if e.words is not None])
    return {"words": int((sizes > 0).sum()), "split_words": float((sizes > 1).sum() / (sizes > 0).sum())}


def _parsers(system: System, trees: relations.Corpus, plan: Plan, move: Callable[[int], None]) -> dict[str, Any]:
    """The best head of each relation, chosen and scored apart, and as the paper does both: on the same sentences."""
    found = relations.study(system, trees, seed=plan.seed, random_weights=False, advance=move)
    both: dict[str, float] = {}
    for row in found.rows:
        if row["source"] == relations.MODEL and row["measure"] == "accuracy":
            right = row["choice_accuracy"] * row["choice_n"] + row["accuracy"] * row["n"]
            share = right / (row["choice_n"] + row["n"])
            both[row["relation"]] = max(share, both.get(row["relation"], 0.0))
    rows = [row | {"same_sentences": both[row["relation"]]} for row in found.best() if row["measure"] == "accuracy"]
    return {"missing": "", "rows": rows, "said": found.said, "sentences": found.sentences}


def _clusters(
    system: System, sample: list[Encoding], rows: list[dict[str, Any]], shape: Mapping[str, int], plan: Plan,
    move: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """How far all heads are from each other, their places on a map, and whether heads of one layer are neighbours."""
    count = shape["layers"] * shape["heads"]
    total = np.zeros((count, count))
    for found, _ in captures(system.model.encoder, sorted(sample, key=lambda e: len(e.ids))):
        for place in range(len(found.spans)):
            total += divergence(found, found, place).double().cpu().numpy()
            move(1)
    mean = total / len(sample)
    layer = np.repeat(np.arange(shape["layers"]), shape["heads"])
    same = layer[:, None] == layer
    itself = np.eye(count, dtype=bool)
    nearest = np.where(itself, np.inf, mean).argmin(1)
    placed = scale(mean, seed=plan.seed)
    # 3.8 nats are three quarters of what 128 tokens can have; shorter texts are held to the same share.
    labels = behaviours(table(rows, shape), relative=plan.length < 128).ravel()
    inside = mean[same & ~itself]
    return {
        "texts": len(sample),
        "stress": placed.stress_1,
        "within": float(inside.mean()) if len(inside) else math.nan,
        "between": float(mean[~same].mean()) if (~same).any() else math.nan,
        "neighbours": float((layer[nearest] == layer).mean()),
        "neighbours_by_chance": (shape["heads"] - 1) / max(1, count - 1),
        "rows": [
            {"layer": int(layer[i]), "head": i % shape["heads"], "x": float(x), "y": float(y), "behaviour": str(label)}
            for i, ((x, y), label) in enumerate(zip(placed.places, labels, strict=True))
        ],
    }


def _marks(system: System, corpus: Corpus, reading: heads.Plan, bank: Treebank | None, plan: Plan) -> dict[str, str]:
    """What must be the same for each finished part to be taken up."""
    texts = heads.signature(system, corpus, reading)
    trees = None if bank is None else [bank.origin, len(bank), Path(bank.origin).stat().st_mtime_ns]
    parts: dict[str, list[Any]] = {
        "heads": [],
        "gradients": [gradients.signature(system), plan.seed],
        "clusters": [plan.seed],
        "relations": [trees, plan.seed],
        "coreference": [trees, plan.seed],
        "probes": [trees, plan.seed, plan.seeds],
    }
    return {name: json.dumps([texts, *depends]) for name, depends in parts.items()}


class _Kept:
    """Finished parts, in a file if there is one, each with its mark; those of another treebank are made anew."""

    def __init__(self, path: Path | None, marks: Mapping[str, str]) -> None:
        self.path, self.marks = path, marks
        self.parts: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            try:
                held = json.loads(path.read_text(encoding="utf-8"))["parts"]
                self.parts = {name: {"mark": part["mark"], "found": part["found"]} for name, part in held.items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise Problem(f"{path} is damaged, so it cannot be gone on. Delete it to start anew.") from None
            others = {name for name, part in self.parts.items() if part["mark"] != marks.get(name)}
            if not others <= OF_TREES:
                raise Problem(
                    f"{path} is of another model, corpus or settings. Call it again as it was begun, delete that file "
                    "to start anew, or name another --out."
                )
            for name in others:
                del self.parts[name]

    def __call__(self, name: str, made: Callable[[], T]) -> T:
        """The part of that name, from the file or made now and kept."""
        if name not in self.parts:
            self.parts[name] = {"mark": self.marks[name], "found": made()}
            if self.path is not None:
                disk.write_text(self.path, json.dumps({"parts": self.parts}))
        return self.parts[name]["found"]  # type: ignore[no-any-return]


class _Work:
    """One share of the whole out of parts of unlike weight."""

    def __init__(self, advance: Advance, parts: Mapping[str, float]) -> None:
        self.advance, self.parts = advance, dict(parts)
        self.finished: dict[str, float] = {}

    def counter(self, name: str, total: int) -> Callable[[int], None]:
        """A function that is told how many steps more of a part are done."""

        def move(count: int) -> None:
            self._set(name, self.finished.get(name, 0.0) + count / max(1, total))

        return move

    def done(self, name: str) -> None:
        """A part is done, or was before."""
        self._set(name, 1.0)

    def _set(self, name: str, share: float) -> None:
        self.finished[name] = min(1.0, share)
        self.advance(sum(self.parts[n] * s for n, s in self.finished.items()) / sum(self.parts.values()))
