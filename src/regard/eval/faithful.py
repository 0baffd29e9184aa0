"""Whether scores of tokens tell what an answer depends on: the tokens are taken away and the model is asked again.

For the likeliest label j of a text x, a ranking of its tokens, and shares k of 1, 5, 10, 20 and 50 % of them (rounded
up), after ERASER (DeYoung et al. 2020):

    comprehensiveness(k) = p(j|x) - p(j|x without its first k)       large where the first tokens matter
    sufficiency(k)       = p(j|x) - p(j|the first k alone)           small where they are enough

Both are averaged over the shares (the area over the perturbation curve), for each text first, then over texts. Beside
them: how often the likeliest label changes, Kendall's tau-b and Spearman's correlation of the scores with what the loss
of each single token does (leave one out), the same of random rankings, and of the ranking turned round. All methods are
asked the same questions, and an input that several rankings ask for is run once.

What "away" means is a choice with a name. A model that never saw texts with gaps may answer to the gap: no deletion is
free of that, and a figure is of a method, a model and a deletion together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Encoding
from regard.data.packing import cut, pack
from regard.errors import Problem
from regard.lens.attribute.methods import method
from regard.measure.metrics import kendall, spearman
from regard.measure.resample import percentiles, resampled_sums
from regard.system import BATCH_TOKENS, System

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
DELETIONS = {
    "mask": "[MASK] stands in the token's place",
    "drop": "the token is removed and what follows moves up",
    "pad": "no other token sees it, as if it were padding, and all keep their positions",
}
RANDOM = 5  # random rankings of each text
SCORED_TOKENS = 2048  # whose scores are computed at a time
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Curves:
    """What one kind of ranking did to each text: means over the shares, a row a text."""

    comprehensiveness: list[float] = field(default_factory=list)
    sufficiency: list[float] = field(default_factory=list)
    flips: list[float] = field(default_factory=list)  # share of the deletions that change the likeliest label
    reversed: list[float] = field(default_factory=list)  # comprehensiveness of the ranking turned round
    leave_one_out: list[float] = field(default_factory=list)  # tau-b with it; nan where either has no order
    spearman: list[float] = field(default_factory=list)
    seconds: float = 0.0  # for the scores of all texts

    def table(self) -> dict[str, Any]:
        """The mean over texts of each measure, with its 95 % interval: [value, low, high]."""
        names = ("comprehensiveness", "sufficiency", "leave_one_out", "spearman", "flips", "reversed")
        return {name: interval(getattr(self, name)) for name in names if getattr(self, name)}


@dataclass(slots=True)
class Measured:
    """The curves of every method and of random rankings on the same texts."""

    deletion: str
    methods: dict[str, Curves]
    random: Curves = field(default_factory=Curves)
    refused: dict[str, str] = field(default_factory=dict)  # method -> why it could not score these texts

    @property
    def texts(self) -> int:
        """How many texts had something to take away."""
        return len(self.random.comprehensiveness)

    def table(self) -> dict[str, Any]:
        """Plain values for JSON.

        A method beats random rankings where its comprehensiveness is larger on the same texts, and the whole interval
        of that difference lies above 0.
        """
        methods = {}
        for name, curves in self.methods.items():
            gain = interval(np.subtract(curves.comprehensiveness, self.random.comprehensiveness))
            methods[name] = {
                **curves.table(),
                "against_random": gain,
                "beats_random": gain[1] > 0,
                "seconds": curves.seconds / self.texts,
            }
        return {
            "deletion": self.deletion,
            "texts": self.texts,
            "methods": methods,
            "random": self.random.table(),
            "refused": self.refused,
        }


def interval(values: Sequence[float] | Floats) -> list[float]:
    """The mean of what is defined, and its bootstrap interval over texts: [value, low, high]."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return [math.nan] * 3
    return [float(defined.mean()), *percentiles(resampled_sums(defined[:, None])[:, 0] / len(defined))]


def units(encodings: Sequence[Encoding], *, level: str = "token") -> list[Integers]:
    """Which unit each token belongs to, (S,) from 0, and -1 for special tokens, which are always kept.

    A unit is a token, or with `level="word"` a word; encodings are made with `detail=True`.
    """
    out = []
    for encoding in encodings:
        assert encoding.words is not None
        inside = encoding.words >= 0
        names = np.stack([encoding.segments, encoding.words if level == "word" else np.arange(len(inside))], 1)
        number = np.full(len(inside), -1, dtype=np.int64)
        number[inside] = np.unique(names[inside], axis=0, return_inverse=True)[1].reshape(-1)
        out.append(number)
    return out


def faithful(
    system: System,
    encodings: Sequence[Encoding],
    unit_of: Sequence[Integers],
    methods: Sequence[str],
    *,
    deletion: str = "mask",
    seed: int = 0,
    advance: Callable[[int], None] = lambda texts: None,
) -> Measured:
    """Measures methods of attribution on texts; a unit's score is the sum of its tokens'.

    A method that refuses a text, as one does that is too slow for long ones, is left out of the whole comparison with
    its reason. `advance` is told how many texts are done.
    """
    harness = _Harness(system, Measured(deletion, {name: Curves() for name in methods}), _blank(system, deletion), seed)
    kept = [i for i, number in enumerate(unit_of) if number.max() > 0]  # of a single unit there is no ranking
    advance(len(encodings) - len(kept))
    for span in cut([len(encodings[i].ids) for i in kept], SCORED_TOKENS):
        group = [encodings[i] for i in kept[span]]
        before = _answers(system, group, [np.arange(len(encoding.ids)) for encoding in group])
        scores = harness.scores(group, before.argmax(1))
        for place, i in enumerate(kept[span]):
            ours = {name: _of_units(each[place], unit_of[i]) for name, each in scores.items()}
            harness.add(encodings[i], unit_of[i], before[place], ours)
            advance(1)
    found = harness.found
    for name in found.refused:
        del found.methods[name]
    if not found.texts:
        raise Problem("No text has two tokens that could be taken away. Give longer texts.")
    if not found.methods:
        raise Problem(" ".join(dict.fromkeys(found.refused.values())))
    return found


def _of_units(scores: Floats, unit_of: Integers) -> Floats:
    """The sums of the tokens' scores: (S,) -> (units,)."""
    out = np.zeros(int(unit_of.max()) + 1)
    np.add.at(out, unit_of[unit_of >= 0], scores[unit_of >= 0])
    return out


def _blank(system: System, deletion: str) -> int:
    """The id that takes a token's place; raises `Problem` for what cannot be measured."""
    if system.card.task not in ("classify", "multilabel"):
        raise Problem("Faithfulness is measured on the probability of a label, and this model has none to give.")
    if deletion not in DELETIONS:
        known = "; ".join(f"{name}: {what}" for name, what in DELETIONS.items())
        raise Problem(f"There is no deletion '{deletion}'. Known: {known}.")
    blank = system.tokenizer.number("[MASK]")
    if blank is None and deletion == "mask":
        raise Problem("This model's vocabulary has no [MASK]. Say --deletion drop, or pad.")
    return blank or 0


class _Harness:
    """What all texts are measured with, and what has been found."""

    def __init__(self, system: System, found: Measured, blank: int, seed: int) -> None:
        self.system, self.found, self.blank = system, found, blank
        self.generator = np.random.default_rng(seed)

    def scores(self, group: list[Encoding], labels: Integers) -> dict[str, list[Floats]]:
        """The scores of each method that takes these texts: (S,) for each text."""
        device, out = self.system.device, {}
        packed, target = pack(group).to(device), torch.from_numpy(labels).to(device)
        for name in [name for name in self.found.methods if name not in self.found.refused]:
            began = time.perf_counter()
            try:
                out[name] = [s.double().cpu().numpy() for s in method(name)(self.system.model, packed, target)]
            except Problem as problem:
                self.found.refused[name] = str(problem)
            self.found.methods[name].seconds += time.perf_counter() - began
        return out

    def add(self, encoding: Encoding, unit_of: Integers, before: Floats, scores: dict[str, Floats]) -> None:
        """Asks the model all that the rankings of one text need, in one go, and adds what it says to the curves."""
        size, label, deletion = int(unit_of.max()) + 1, int(before.argmax()), self.found.deletion
        asked = _Asked(size)
        single = [asked.place(row) for row in np.eye(size, dtype=bool)]
        orders = {name: np.argsort(-score, kind="stable") for name, score in scores.items()}
        plans = {name: asked.curve(order) for name, order in orders.items()}
        turned = {name: asked.curve(order[::-1]) for name, order in orders.items()}
        chance = [self.generator.permutation(size) for _ in range(RANDOM)]
        chances = [asked.curve(order) for order in chance]

        away = [np.isin(unit_of, np.flatnonzero(gone)) for gone in asked.gone]
        inputs = [perturbed(encoding, tokens, deletion, self.blank) for tokens in away]
        said = _answers(self.system, [one for one, _ in inputs], [positions for _, positions in inputs])
        loss, changed = before[label] - said[:, label], said.argmax(1) != label

        for name, plan in plans.items():
            _enter(self.found.methods[name], [plan], [turned[name]], loss, changed)
            _agree(self.found.methods[name], loss[single], scores[name])
        _enter(self.found.random, chances, [], loss, changed)
        _agree(self.found.random, loss[single], chance[0].astype(np.float64))


def _enter(curves: Curves, plans: list[Integers], turned: list[Integers], loss: Floats, changed: Flags) -> None:
    """Adds a row to the curves: means over the rankings, and over the shares."""
    curves.comprehensiveness.append(float(np.mean([loss[plan[0]] for plan in plans])))
    curves.sufficiency.append(float(np.mean([loss[plan[1]] for plan in plans])))
    curves.flips.append(float(np.mean([changed[plan[0]] for plan in plans])))
    curves.reversed += [float(np.mean(loss[plan[0]])) for plan in turned]


def _agree(curves: Curves, single: Floats, scores: Floats) -> None:
    curves.leave_one_out.append(kendall(single, scores))
    curves.spearman.append(spearman(single, scores))


class _Asked:
    """Which units are gone in each input of one text; equal inputs are asked for once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.gone: list[Flags] = []
        self.places: dict[bytes, int] = {}

    def place(self, gone: Flags) -> int:
        """The number of this input."""
        key = gone.tobytes()
        if key not in self.places:
            self.places[key] = len(self.gone)
            self.gone.append(gone)
        return self.places[key]

    def curve(self, order: Integers) -> Integers:
        """The inputs without the first of an order, and with the first alone, for each share: (2, shares)."""
        rows = []
        for share in SHARES:
            first = np.zeros(self.size, dtype=bool)
            first[order[: int(np.ceil(share * self.size))]] = True
            rows.append((self.place(first), self.place(~first)))
        return np.array(rows).T


def perturbed(encoding: Encoding, gone: Flags, deletion: str, blank: int) -> tuple[Encoding, Integers]:
    """The text without some tokens, (S,) bool, and the positions of what is left.

    A token that nobody sees and that is not pooled might as well not be there, so that padding is left out like what is
    dropped, and only the others' positions tell the two apart.
    """
    everywhere = np.arange(len(encoding.ids))
    if deletion == "mask":
        return Encoding(np.where(gone, blank, encoding.ids), encoding.segments), everywhere
    left = Encoding(encoding.ids[~gone], encoding.segments[~gone])
    return left, everywhere[~gone] if deletion == "pad" else everywhere[: len(left.ids)]


def _answers(system: System, encodings: Sequence[Encoding], positions: Sequence[Integers]) -> Floats:
    """Probabilities for encodings with positions of their own, in batches of like length: (texts, labels)."""
    lengths = np.array([len(e.ids) for e in encodings])
    order = np.argsort(lengths, kind="stable")
    rows = np.zeros((len(encodings), len(system.card.labels)))
    for span in cut(lengths[order].tolist(), BATCH_TOKENS):
        places = order[span]
        packed = pack([encodings[i] for i in places])
        packed = replace(packed, positions=torch.from_numpy(np.concatenate([positions[i] for i in places])))
        with torch.no_grad():
            said = system.outputs(system.model(packed.to(system.device), hidden=False))
        rows[places] = said.double().cpu().numpy()
    return rows
