"""The experiments as one page that needs no network, figure by figure beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard import disk
from regard.page.markup import bullets, count, escape, name, number, table
from regard.page.shell import page
from regard.study.clark import figures, published
from regard.study.clark.experiments import Experiments
from regard.study.clark.gradients import LOSSES
from regard.study.clark.notes import DIFFERENTLY, differently, guards
from regard.study.clark.verdicts import Verdict, verdicts
from regard.study.tables import FEW, few_texts

SAID = {True: "same", False: "differs", None: "–"}


def write(found: Experiments, path: Path) -> None:
    """Writes the page; equal findings give equal bytes."""
    disk.write_text(path, render(found))


def render(found: Experiments) -> str:
    """The whole page."""
    means, told = found.means(), verdicts(found)
    largest = found.setup["uniform_entropy"]
    sections = {
        "glance": ("At a glance", _glance(told)),
        "data": ("Texts and words", _data(found) + _told(told["words"])),
        "position": ("Neighbours", _paper(POSITION) + _charts(figures.position(means)) + _told(told["position"])),
        "special": (
            "Special tokens",
            _paper(SPECIAL) + _charts(figures.special(means), figures.separators(means))
            + _told(told["special"]),
        ),
        "gradient": ("What the loss depends on", _gradient(found) + _told(told["gradient"])),
        "entropy": (
            "Entropy",
            _paper(ENTROPY)
            + _charts(figures.entropy(means, largest, cls=False), figures.entropy(means, largest, cls=True))
            + _told(told["entropy"]),
        ),
        "parsers": ("Heads as parsers", _paper(PARSERS) + _parsers(found.relations) + _told(told["parsers"])),
        "coreference": (
            "Coreference",
            _paper(COREFERENCE) + _coreference(found.coreference) + _told(told["coreference"]),
        ),
        "probes": ("Probes", _paper(PROBES) + _probes(found) + _told(told["probes"])),
        "clusters": ("Which heads are alike", _clusters(found) + _told(told["clusters"])),
        "differently": ("What this reproduction does differently", _pairs(differently(found))),
        "guards": ("What to know before believing it", bullets(guards(found))),
        "numbers": ("All heads in figures", _numbers(found)),
    }  # fmt: skip
    title = f"What does {found.names['model']} look at?"
    return page(title, sections, kind="The experiments of Clark et al. 2019", lead=_lead(found, told))


POSITION = (
    "Section 3.1. Most heads of bert-base put little weight on the token itself. Four, in layers 1, 3, 6 and 7, give "
    "over half of it to the previous token, and five, in layers 0, 1, 1, 2 and 5, to the next."
)
SPECIAL = (
    "Section 3.2, figure 2. Early heads attend to [CLS], middle heads to [SEP], deep heads to full stops and commas. "
    "In layers 5 to 9 over half of all attention goes to [SEP]; from [SEP] itself over 0.9."
)
GRADIENT = (
    "Section 3.2, figure 3. From layer 4 on the gradient of the loss by attention to [SEP] is very small: more or less "
    "of it changes little. Attention to [SEP] may be what a head does that has nothing to do."
)
ENTROPY = (
    "Section 3.3, figure 4. Some heads of low layers attend to everything, near the 4.75 nats of attention spread "
    "evenly. From [CLS] alone, the last layer's 3.89 nats are broad: it gathers the whole text."
)
PARSERS = (
    "Section 4.2, table 1. No head finds all dependencies (34.7 % against 26.7 % for the best offset), but some find "
    "one relation: direct objects by head 7.9 with 86.8 %, determiners by 7.10 with 94.3 %. The paper's figures are "
    "of the Penn Treebank in Stanford Dependencies, whose relations are not the same by the same name."
)
COREFERENCE = (
    "Section 4.3, table 2, CoNLL-2012. Head 4.3 attends to the right antecedent in 65 % of mentions (pronouns 64, "
    "proper nouns 73, nominals 58); the nearest mention is right in 27 %, the nearest with the same head word in 52 "
    "%, rules in four sieves in 69 %."
)
PROBES = (
    "Section 5, table 3. From all heads together a probe gets 61 % of dependencies right, with GloVe vectors 77 %; "
    "distance and words alone 58 %, the attention of an untrained model with words 30 %."
)
CLUSTERS = (
    "Section 6, figure 6. Heads of one layer are often near each other, and so are heads that do the same: those of "
    "[SEP], of broad attention, of the next and the previous token."
)


def _lead(found: Experiments, told: dict[str, list[Verdict]]) -> str:
    every = [v.same for section in told.values() for v in section if v.same is not None]
    shape = f"{found.shape['layers']} layers of {found.shape['heads']} heads"
    lead = (
        f'<p class="lead">Of {len(every)} findings of the paper on bert-base, <strong>{sum(every)}</strong> hold for '
        f"{name(found.names['model'])} ({shape}).</p>"
    )
    where = f"{count(found.setup['texts'], 'pair')} of texts from {name(found.names['corpus'])}"
    if found.names["treebank"]:
        where += f"; {count(found.relations['sentences'], 'sentence')} of {name(found.names['treebank'])}"
    return (
        f"{lead}<p>{where}. Layers and heads count from 0, also where the paper counts from 1: 3.5 is head 5 of layer "
        "3. An average is taken within each text first, then over texts.</p>"
    )


def _glance(told: dict[str, list[Verdict]]) -> str:
    rows = [
        [escape(v.finding), escape(v.paper), f'<div class="text">{name(v.here)}</div>', _mark(v)]
        for section in told.values()
        for v in section
    ]
    caption = "The paper's findings on bert-base, and this model's; what counts as the same is a rule and no test."
    return table(["finding", "the paper", "this model", ""], rows, caption=caption)


def _mark(verdict: Verdict) -> str:
    style = "wrong" if verdict.same is False else "soft"
    return f'<span class="{style}">{SAID[verdict.same]}</span>'


def _told(found: Sequence[Verdict]) -> str:
    """The same findings as sentences, under a section's figures."""
    says = {True: "As in the paper", False: "Not as in the paper", None: "For comparison"}
    items = "".join(
        f'<li><span class="{"wrong" if v.same is False else "soft"}">{says[v.same]}.</span> {name(v.finding)}. '
        f"Here: {name(v.here)}; in the paper: {escape(v.paper)}.</li>"
        for v in found
    )
    return f"<ul>{items}</ul>" if items else ""


def _paper(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _charts(*parts: str) -> str:
    return f'<div class="charts">{"".join(parts)}</div>'


def _none(reason: str) -> str:
    return f'<p class="none">{name(reason)}</p>'


def _data(found: Experiments) -> str:
    setup, plan = found.setup, found.plan
    mean = setup["tokens"] / setup["texts"]
    told = "segment ids 0 and 1" if plan["segments"] else "all segment ids 0, as the paper's own extraction has them"
    lines = [
        (
            f"{count(setup['texts'], 'pair')} of neighbouring lines as [CLS] A [SEP] B [SEP], at most {plan['length']} "
            f"tokens each, {mean:.0f} on average, with {told}; nothing masked. The paper: about 1,000 such of "
            "Wikipedia."
        ),
        (
            f"Attention spread evenly would have an entropy of {setup['uniform_entropy']:.2f} nats (mean of ln N; the "
            f"paper: {published.UNIFORM})."
        ),
        "A split word's weights are added where it is attended to, and averaged where it attends (section 4.1).",
    ]
    if setup["undecodable"]:
        lines.append(f"{setup['undecodable']:,} lines have bytes that are no UTF-8.")
    return bullets(lines)


def _gradient(found: Experiments) -> str:
    loss, texts = found.gradients["loss"], found.gradients["texts"]
    if not texts:
        return _paper(GRADIENT) + _none("There are too few texts for this loss.")
    words = f"The loss here is {LOSSES[loss]}. {count(texts, 'pair')}; means over rows, heads and texts."
    return f"{_paper(GRADIENT)}<p>{escape(words)}</p>{_charts(figures.gradient(found))}"


def _parsers(found: dict[str, Any]) -> str:
    if found["missing"]:
        return _none(found["missing"])
    rows = []
    for row in (row for row in found["rows"] if row["n"] >= FEW):
        told = published.RELATIONS.get(row["relation"])
        rows.append(
            [
                name(row["relation"]), f"{row['n']:,}",
                f"{row['layer']}.{row['head']} {row['direction'].partition(' ')[0]}",
                _bracket(row["accuracy"], row["low"], row["high"]),
                f"{row['offset']:+d} {100 * row['offset_accuracy']:.1f}",
                _gain(row), f"{100 * row['same_sentences']:.1f}", _percent(row["shuffled relations"]),
                "" if told is None else f"{told[0]} {told[4]} · {told[5]}",
            ]
        )  # fmt: skip
    caption = (
        f"In percent of n words. Head and offset are chosen on half of {found['sentences']:,} sentences and scored on "
        "the others, with 95 % intervals over sentences. To: the dependent attends to its head; from: the head "
        "attends to it. Gain: over the offset. Same: the best where all sentences choose and score, as the paper does "
        "it. Shuffled: what the best head gets where relations are dealt anew. Relations of fewer than "
        f"{FEW} words are not shown. {few_texts('sentences')}"
    )
    head = [
        "relation", "n", "head", "accuracy", "best offset", "gain", "same", "shuffled",
        "the paper:<br>accuracy · offset",
    ]  # fmt: skip
    shown = table(head, rows, caption=caption, numbers=range(1, 9))
    return f'<div class="tight">{shown}</div>{bullets(found["said"])}'


def _coreference(found: dict[str, Any]) -> str:
    if found["missing"]:
        return _none(found["missing"]) + (bullets(found["said"]) if found["said"] else "")
    rows = []
    for row in found["rows"]:
        nearest, match, rules, ours = published.COREFERENCE[row["kind"]]
        cells = (_bracket(*row[key]) for key in ("accuracy", "nearest", "same head word"))
        paper = f"{ours} · {nearest} · {match} ({rules} by rules)"
        rows.append(
            [row["kind"], f"{row['n']:,}", f"{row['documents']:,}", f"{row['layer']}.{row['head']}", *cells, paper]
        )
    caption = (
        "Antecedents right, in percent of n mentions that have one. Candidates are the earlier mentions of the same "
        "stretch of text with another head word. The head is chosen on half of the documents and scored on the others, "
        f"with 95 % intervals over documents. {few_texts('documents')}"
    )
    head = [
        "kind",
        "n",
        "documents",
        "head",
        "accuracy",
        "nearest",
        "same head word",
        "the paper: head · nearest · match",
    ]
    return table(head, rows, caption=caption, numbers=range(1, 8)) + bullets(found["said"])


def _probes(found: Experiments) -> str:
    if not found.probes:
        return _none("Not asked for: --probe trains them." if found.names["treebank"] else found.relations["missing"])
    rows = []
    for row in found.probes:
        paper = published.PROBES.get((row["probe"], row["source"]))
        rows.append(
            [
                escape(row["probe"]), escape(row["source"]), _bracket(row["uas"], row["low"], row["high"]),
                _percent(row["deviation"]), _percent(row["control"]), _percent(row["selectivity"], sign="+"),
                "" if paper is None else str(paper),
            ]
        )  # fmt: skip
    n, seeds = found.probes[0]["n"], found.plan["seeds"]
    caption = (
        f"Unlabelled attachment in percent of {n:,} held-out words, means of {seeds} seeds with their deviation; "
        "control: trees that the form of a word decides by lot; selectivity: what is better on real trees. Words are "
        f"the model's own word vectors, where the paper has GloVe. {few_texts('sentences')}"
    )
    head = ["probe", "weights of", "attachment", "±", "control", "selectivity", "the paper"]
    return table(head, rows, caption=caption, numbers=range(2, 7))


def _clusters(found: Experiments) -> str:
    held = found.clusters
    words = (
        f"Places by multidimensional scaling of the mean Jensen-Shannon divergence over "
        f"{count(held['texts'], 'text')}; stress {held['stress']:.2f} (0 fits, 0.2 is poor)."
    )
    return f"{_paper(CLUSTERS)}<p>{escape(words)}</p>{_charts(figures.clusters(found))}"


def _pairs(items: Mapping[str, str]) -> str:
    body = "".join(f"<dt>{escape(a)}</dt><dd>{name(b)}</dd>" for a, b in items.items())
    return f'<p>{escape(DIFFERENTLY)}</p><dl class="doubts">{body}</dl>'


NUMBERS = {
    "offset_-1": "previous", "offset_+1": "next", "offset_+0": "itself", "to_cls": "[CLS]", "to_sep": "[SEP]",
    "to_stop": "stops", "sep_to_sep": "[SEP] to [SEP]", "other_to_sep": "others to [SEP]",
    "norm_to_sep": "[SEP] by norm", "entropy": "entropy", "cls_entropy": "of [CLS]",
}  # fmt: skip


def _numbers(found: Experiments) -> str:
    means = found.means()
    asked = np.full_like(means["to_sep"], np.nan)
    for row in found.gradients["heads"]:
        if row["statistic"] == "sep":
            asked[row["layer"], row["head"]] = row["mean"]
    labels = {(row["layer"], row["head"]): row["behaviour"] for row in found.clusters["rows"]}
    rows = [
        [
            f"{layer}.{head}", *(number(float(means[key][layer, head]), digits=2) for key in NUMBERS),
            "–" if math.isnan(asked[layer, head]) else f"{asked[layer, head]:.1e}", escape(labels[layer, head]),
        ]
        for layer, head in np.ndindex(*asked.shape)
    ]  # fmt: skip
    titles = ["head", *NUMBERS.values(), "gradient by [SEP]", "behaviour"]
    held = table(titles, rows, caption="Means over texts; entropies in nats.", numbers=range(1, len(titles) - 1))
    return f"<details><summary>{count(len(rows), 'head')}</summary>{held}</details>"


def _bracket(value: float, low: float | None, high: float | None) -> str:
    bounds = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}{bounds}"


def _gain(row: dict[str, Any]) -> str:
    low, high = row["gain_low"], row["gain_high"]
    bounds = "" if low is None or high is None else f" [{100 * low:+.0f}, {100 * high:+.0f}]"
    return f"{100 * row['gain']:+.0f}{bounds}"


def _percent(value: float | None, *, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"
