"""What of the paper holds for this model, in sentences made from the numbers: finding by finding, the same or not.

What counts as the same is a rule, the last value of each `Verdict` below, and no test of significance: the paper gives
no intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.lens.statistics import Values
from regard.measure.selection import FEWEST
from regard.page.markup import count
from regard.study.clark import published
from regard.study.clark.experiments import Experiments

HALF = 0.5
BROAD = 0.85  # of the largest entropy: about where the broadest heads of the paper's figure 4 stand
SHOWN = 6  # heads that a sentence names
FEW_TEXTS = "too few texts for an interval"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding of the paper and what was found here; `same` is None where there is nothing to compare."""

    finding: str
    paper: str
    here: str
    same: bool | None


def verdicts(found: Experiments) -> dict[str, list[Verdict]]:
    """All findings by section of the report."""
    means = found.means()
    return {
        "position": _position(means),
        "special": _special(means, found.setup),
        "gradient": _gradient(found.gradients),
        "entropy": _entropy(means, found.setup),
        "words": _words(found.setup),
        "parsers": _parsers(found.relations),
        "coreference": _coreference(found.coreference),
        "probes": _probes(found.probes),
        "clusters": _clusters(found.clusters),
    }


def layers_of(means: Values) -> Values:
    """Means over the heads of each layer; a head without a number is left out, and a layer without any is nan."""
    there = np.isfinite(means)
    count = there.sum(-1)
    total = np.where(there, means, 0).sum(-1)
    return np.asarray(np.divide(total, count, out=np.full(len(means), np.nan), where=count > 0))


def over(means: Values, least: float) -> list[tuple[int, int, float]]:
    """Layer, head and mean of the heads above a mean, the largest first."""
    places = [(int(a), int(b), float(means[a, b])) for a, b in np.argwhere(means > least)]
    return sorted(places, key=lambda place: -place[2])


def listed(heads: Sequence[tuple[int, int, float]]) -> str:
    """Heads as a sentence names them: how many, and the first few with their means."""
    if not heads:
        return "none"
    some = ", ".join(f"{layer}.{head} ({mean:.2f})" for layer, head, mean in heads[:SHOWN])
    rest = len(heads) - SHOWN
    return f"{count(len(heads), 'head')}, {some}{f' and {rest} more' if rest > 0 else ''}"


def lines(found: Experiments) -> list[str]:
    """The findings for the terminal, two lines each."""
    marks = {True: "same   ", False: "differs", None: "       "}
    return [
        f"{marks[v.same]}  {v.finding}\n         here: {v.here}; the paper: {v.paper}"
        for section in verdicts(found).values()
        for v in section
    ]


def _position(means: dict[str, Values]) -> list[Verdict]:
    out = []
    for name, key, paper in (("previous", "offset_-1", published.PREVIOUS), ("next", "offset_+1", published.NEXT)):
        heads = over(means[key], HALF)
        told = f"{len(paper)}, in layers {', '.join(map(str, paper))}"
        out.append(
            Verdict(f"Heads with over half of their weight on the {name} token", told, listed(heads), bool(heads))
        )
    heads = over(means["offset_+0"], HALF)
    here = f"{mean_of(means['offset_+0']):.2f} of the weight on average; over half: {listed(heads)}"
    return [*out, Verdict("Little attention to the token itself", "little", here, not heads)]


def _special(means: dict[str, Values], setup: dict[str, Any]) -> list[Verdict]:
    sep, cls, stop = (layers_of(means[f"to_{name}"]) for name in ("sep", "cls", "stop"))
    depth = len(sep)
    third = max(1, depth // 3)
    held = [layer for layer in range(depth) if sep[layer] > HALF]
    most = _largest(sep)
    first, last = published.SEPARATED
    even = setup["uniform"]
    out = [
        Verdict(
            "Over half of all attention goes to [SEP] in middle and deep layers",
            f"layers {first} to {last}",
            f"{'layers ' + ', '.join(map(str, held)) if held else 'in no layer'}; the most is {_at(sep, most)}, where "
            f"attention spread evenly would give {even['sep']:.2f}",
            bool(held),
        )
    ]
    if depth > 1:
        early, rest = mean_of(cls[:third]), mean_of(cls[third:])
        here = f"{early:.2f} in the first third of the layers, {rest:.2f} in the others (evenly: {even['cls']:.2f})"
        out.append(Verdict("Early heads attend to [CLS]", "early more than late", here, early > rest))
        late = max(1, round(depth / 6))
        deep, rest = mean_of(stop[-late:]), mean_of(stop[:-late])
        here = f"{deep:.2f} in the last {late}, {rest:.2f} in the others (evenly: {even['stop']:.2f})"
        same = None if math.isnan(deep - rest) else deep > rest
        paper = f"{published.TO_STOP[10]:.2f} and {published.TO_STOP[11]:.2f} in the last two layers"
        out.append(Verdict("Deep heads attend to full stops and commas", paper, here, same))
    own, other = layers_of(means["sep_to_sep"]), layers_of(means["other_to_sep"])
    here = f"in layer {most}, where [SEP] gets most: {own[most]:.2f} from [SEP], {other[most]:.2f} from other tokens"
    paper = f"over {published.SEP_TO_SEP} in layers {first} to {last}"
    out.append(Verdict("[SEP] attends to [SEP] even more", paper, here, bool(own[most] > other[most])))
    return out


def _gradient(found: dict[str, Any]) -> list[Verdict]:
    rows = {(row["statistic"], row["layer"]): row["mean"] for row in found["layers"]}
    depth = 1 + max((layer for _, layer in rows), default=-1)
    from_ = max(1, round(depth * published.QUIET / published.LAYERS))
    if depth < 2:
        return []
    sep = np.array([rows.get(("sep", layer), math.nan) for layer in range(depth)])
    ratio = mean_of(sep[from_:]) / mean_of(sep[:from_])
    here = f"from layer {from_} on it is {ratio:.2f} times what it is below ({found['loss']} loss)"
    finding = "The loss hardly depends on attention to [SEP] in deep layers: a way to do nothing"
    return [Verdict(finding, f"very small from layer {published.QUIET} on", here, bool(ratio < HALF))]


def _entropy(means: dict[str, Values], setup: dict[str, Any]) -> list[Verdict]:
    share, cls = means["entropy_share"], layers_of(means["cls_entropy"])
    third = max(1, len(share) // 3)
    heads = over(share[:third], BROAD)
    here = f"over {BROAD} of the largest entropy in the first third of the layers: {listed(heads)}"
    largest = setup["uniform_entropy"]
    paper = f"{published.CLS_ENTROPY} nats of {published.UNIFORM}"
    told = f"{cls[-1]:.2f} nats of {largest:.2f}; {mean_of(cls):.2f} on average over layers"
    return [
        Verdict("Some heads of low layers attend very broadly", "near the uniform line", here, bool(heads)),
        Verdict("[CLS] attends broadly in the last layer", paper, told, bool(cls[-1] > 0.7 * largest)),
    ]


def _words(setup: dict[str, Any]) -> list[Verdict]:
    if "words" not in setup:
        return []
    here = f"{100 * setup['split_words']:.1f} % of {setup['words']:,}"
    return [Verdict("Words that are several tokens", f"about {100 * published.SPLIT_WORDS:.0f} %", here, None)]


def _parsers(found: dict[str, Any]) -> list[Verdict]:
    rows = {row["relation"]: row for row in found["rows"]}
    if "all" not in rows:
        return []
    whole = rows.pop("all")
    _, _, layer, head, accuracy, offset, _ = published.RELATIONS["all"]
    paper = f"head {layer}.{head} {accuracy} %, best offset {offset} %"
    here = _head(whole)
    same = None if whole["low"] is None else whole["accuracy"] < HALF
    out = [Verdict("No single head parses well", paper, here, same)]
    frequent = [row for row in rows.values() if row["n"] >= 50 and row["gain_low"] is not None]
    surely = [row for row in frequent if _surely(row["gain_low"])]
    if frequent:
        here = (
            f"in {len(surely)} of {len(frequent)} relations with 50 words or more, in {FEWEST} sentences or more, the "
            "chosen head surely does"
        )
        same = 2 * len(surely) > len(frequent)
        out.append(
            Verdict(
                "Most relations have a head that beats every offset",
                "in all of 33 relations but one; no intervals",
                here,
                same,
            )
        )
    for name in ("obj", "det"):
        if name in rows:
            _, _, layer, head, accuracy, offset, _ = published.RELATIONS[name]
            row = rows[name]
            paper = f"head {layer}.{head} {accuracy} %, best offset {offset} %"
            out.append(Verdict(f"A head finds {name}", paper, _head(row), _surely(row["gain_low"])))
    return out


def _coreference(found: dict[str, Any]) -> list[Verdict]:
    row = next((row for row in found["rows"] if row["kind"] == "all"), None)
    if row is None:
        return []
    accuracy, alike = 100 * row["accuracy"][0], 100 * row["same head word"][0]
    doubt = f" ({FEW_TEXTS})" if row["gain"][1] is None else ""
    here = f"head {row['layer']}.{row['head']} {accuracy:.0f} %, same head word {alike:.0f} %{doubt}"
    _, match, _, head = published.COREFERENCE["all"]
    finding = "A head finds antecedents better than matching head words"
    return [Verdict(finding, f"head 4.3 {head} %, same head word {match} %", here, _surely(row["gain"][1]))]


def _probes(rows: list[dict[str, Any]]) -> list[Verdict]:
    scores = {(row["probe"], row["source"]): row["uas"] for row in rows}
    if not scores:
        return []
    few = any(row["low"] is None for row in rows)
    doubt = f" ({FEW_TEXTS})" if few else ""
    both, alone, words = (("attention and words", "model"), ("attention", "model"), ("distance and words", "model"))
    fresh = ("attention and words", "random weights")
    told = published.PROBES
    out = [
        Verdict(
            "Attention and words together hold more than distance and words",
            f"{told[both]} against {told[words]}",
            f"{100 * scores[both]:.1f} against {100 * scores[words]:.1f}{doubt}",
            None if few else scores[both] > scores[words],
        )
    ]
    if fresh in scores:
        here = (
            f"{100 * scores[alone]:.1f} and, with words, {100 * scores[both]:.1f}; untrained "
            f"{100 * scores[fresh]:.1f}{doubt}"
        )
        paper = f"{told[alone]} and, with words, {told[both]}; untrained {told[fresh]}"
        same = None if few else scores[both] > scores[fresh] + 0.1
        out.append(Verdict("Far above an untrained model's attention", paper, here, same))
    return out


def _clusters(found: dict[str, Any]) -> list[Verdict]:
    if math.isnan(found["between"]):
        return []
    here = (
        f"the nearest head is of the same layer for {100 * found['neighbours']:.0f} % of heads, by chance "
        f"{100 * found['neighbours_by_chance']:.0f} %; mean divergence {found['within']:.3f} within layers, "
        f"{found['between']:.3f} between"
    )
    same = found["neighbours"] > found["neighbours_by_chance"] and found["within"] < found["between"]
    return [Verdict("Heads of one layer attend alike", "often near each other on the map", here, same)]


def _head(row: dict[str, Any]) -> str:
    accuracy, offset, low, high = 100 * row["accuracy"], 100 * row["offset_accuracy"], row["low"], row["high"]
    found = (
        f"{accuracy:.1f} % ({FEW_TEXTS})" if low is None else f"{accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}] %"
    )
    return f"head {row['layer']}.{row['head']} {found}, best offset {offset:.1f} %"


def _surely(low: float | None) -> bool | None:
    """Whether a gain with this lower bound is one; None where there are too few texts to say."""
    return None if low is None else low > 0


def mean_of(values: Values) -> float:
    """The mean of what is finite, or nan."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def _largest(values: Values) -> int:
    return int(np.where(np.isfinite(values), values, -1).argmax())


def _at(values: Values, layer: int) -> str:
    return f"{values[layer]:.2f} in layer {layer}"
