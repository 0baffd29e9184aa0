"""The paper's figures 2, 3, 4 and 6 of this model, beside what can be read off the paper's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from regard.lens.statistics import Values
from regard.page import charts
from regard.study.clark import published
from regard.study.clark.experiments import Experiments
from regard.study.clark.verdicts import layers_of

LAYER = "layer"
STYLES = (("main", "circle"), ("second", "square"), ("third", "triangle"))
BEHAVIOURS = {
    "": ("none of these", "circle"),
    "[SEP]": ("[SEP]: over 0.6 of the weight", "square"),
    "[CLS]": ("[CLS]: over 0.6", "down"),
    "punctuation": ("full stops and commas: over 0.6", "plus"),
    "next": ("next token: over 0.5", "triangle"),
    "previous": ("previous token: over 0.5", "cross"),
    "broad": ("broad: over 3.8 nats of 128 tokens", "diamond"),
}


def position(means: Mapping[str, Values]) -> str:
    """Where heads look by place; the paper has this in its notebook, with two names swapped."""
    names = {"previous token": "offset_-1", "next token": "offset_+1", "the token itself": "offset_+0"}
    title = "Mean attention of each head to its neighbours; lines: means of layers"
    return _of_heads({name: means[key] for name, key in names.items()}, title=title)


def special(means: Mapping[str, Values]) -> str:
    """Figure 2, above: what heads give to special tokens."""
    names = {"[CLS]": "to_cls", "[SEP]": "to_sep", "full stops and commas": "to_stop"}
    title = "Mean attention of each head to special tokens; lines: means of layers"
    marks = {"the paper's layers, [SEP]": published.TO_SEP, "the paper's layers, stops": published.TO_STOP}
    return _of_heads({name: means[key] for name, key in names.items()}, title=title, paper=marks)


def separators(means: Mapping[str, Values]) -> str:
    """Figure 2, below: what [SEP] and other tokens give to [SEP]."""
    names = {"other tokens to [SEP]": "other_to_sep", "[SEP] to [SEP]": "sep_to_sep"}
    title = "Mean attention of each head to [SEP], by who attends; lines: means of layers"
    return _of_heads({name: means[key] for name, key in names.items()}, title=title)


def gradient(found: Experiments) -> str:
    """Figure 3: how much the loss depends on attention to a class of tokens."""
    names = {"[SEP]": "sep", "[CLS]": "cls", "full stops and commas": "stop", "other tokens": "other"}
    styles = ("second", "main", "third", "other")
    lines = []
    series = []
    for (name, key), style in zip(names.items(), styles, strict=True):
        rows = sorted((r for r in found.gradients["layers"] if r["statistic"] == key), key=lambda r: r["layer"])
        x, y, low, high = (np.array([row[k] for row in rows], dtype=float) for k in ("layer", "mean", "low", "high"))
        lines.append(charts.Line(x=x, y=y, style=style))
        titles = [
            f"{name}, layer {int(a)}: {b:.2g} [{c:.2g}, {d:.2g}]" for a, b, c, d in zip(x, y, low, high, strict=True)
        ]
        series.append(charts.Dots(name=name, x=x, y=y, style=style, mark=GRADIENT_MARKS[key], titles=titles))
    title = "Mean size of the loss's gradient by a weight to these tokens"
    return charts.dots([], title=title, across=LAYER, lines=lines, exact=series)


GRADIENT_MARKS = {"sep": "square", "cls": "circle", "stop": "triangle", "other": "diamond"}


def entropy(means: Mapping[str, Values], largest: float, *, cls: bool) -> str:
    """Figure 4: how broadly heads attend, of all rows above, of [CLS] alone below."""
    level = (largest, "attention spread evenly")
    bounds = (0.0, max(largest, published.UNIFORM if cls else largest) * 1.08)
    if cls:
        marks = {"the paper's last layer": {published.LAYERS - 1: published.CLS_ENTROPY}}
        title = "Entropy of each head's attention from [CLS], nats; line: means of layers"
        return _of_heads({"heads": means["cls_entropy"]}, title=title, paper=marks, level=level, bounds=bounds)
    title = "Entropy of each head's attention, nats; line: means of layers"
    return _of_heads({"heads": means["entropy"]}, title=title, level=level, bounds=bounds)


def clusters(found: Experiments) -> str:
    """Figure 6: heads on a map, near where they attend alike."""
    rows = found.clusters["rows"]
    deep = max(1, found.shape["layers"] - 1)
    series = []
    for label, (name, mark) in BEHAVIOURS.items():
        own = [row for row in rows if row["behaviour"] == label]
        if own:
            x, y = (np.array([row[key] for row in own]) for key in ("x", "y"))
            titles = [f"{row['layer']}.{row['head']}" + (f" {label}" if label else "") for row in own]
            shades = [row["layer"] / deep for row in own]
            series.append(charts.Dots(name=name, x=x, y=y, style="shade", mark=mark, titles=titles, shades=shades))
    title = "All heads, near each other where they attend alike; from blue, the first layer, to orange, the last"
    return charts.plane(series, title=title)


def _of_heads(
    values: Mapping[str, Values],
    *,
    title: str,
    paper: Mapping[str, Mapping[int, float]] | None = None,
    level: tuple[float, str] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> str:
    """Dots for heads over their layers, lines for the layers' means, and the paper's layers at the same depth."""
    series, lines = [], []
    for (name, means), (style, mark) in zip(values.items(), STYLES, strict=False):
        layer, head = np.indices(means.shape)
        titles = [f"{a}.{b} {name} {v:.2f}" for a, b, v in zip(layer.flat, head.flat, means.flat, strict=True)]
        x = layer.ravel().astype(float)
        series.append(charts.Dots(name=name, x=x, y=means.ravel(), style=style, mark=mark, titles=titles))
        lines.append(charts.Line(x=np.arange(len(means), dtype=float), y=layers_of(means), style=style))
    count = len(next(iter(values.values())))
    marks = _of_paper(paper or {}, count)
    return charts.dots(series, title=title, across=LAYER, lines=lines, bounds=bounds, level=level, exact=marks)


def _of_paper(paper: Mapping[str, Mapping[int, float]], count: int) -> Sequence[charts.Dots]:
    """Layers of the paper's model, where as deep a layer of this one stands."""
    out = []
    for place, (name, points) in enumerate(paper.items()):
        x = np.array([layer / (published.LAYERS - 1) * (count - 1) for layer in points])
        titles = [f"{published.MODEL}, layer {layer}: {value}" for layer, value in points.items()]
        y = np.array([*points.values()])
        out.append(charts.Dots(name=name, x=x, y=y, style="paper", mark=("diamond", "triangle")[place], titles=titles))
    return out
