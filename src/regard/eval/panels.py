"""Sections of the report that set predictions against truth: confusion, classes, calibration, worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regard.measure import calibration, metrics
from regard.measure.metrics import Array
from regard.page import charts
from regard.page.markup import count, escape, meter, name, number, passage, table

SQUARE = 30  # classes that a confusion matrix can show; beyond it, the most confused pairs
WORST = 20  # mistakes that are listed
OPEN = 30  # rows of a table of classes that stand open


def confusion(truth: Array, predicted: Array, labels: Sequence[str]) -> str:
    """Which class was taken for which: the whole matrix, or its largest cells where the classes are many."""
    cells = metrics.confusion_matrix(truth, predicted, classes=len(labels))
    return _matrix(cells, labels) if len(labels) <= SQUARE else _confused(cells, labels)


def classes(truth: Array, predicted: Array, labels: Sequence[str]) -> str:
    """Precision, recall and F1 of every class, the weakest first; `truth` holds class ids, or labels 0 and 1."""
    found = metrics.per_class(truth, predicted, classes=len(labels))
    guesses = metrics.tally(truth, predicted, classes=len(labels)).guesses
    rows = [
        [
            name(labels[i], style="label"),
            # metrics score 0 where nothing was predicted or nothing was there; a reader should see that it is undefined
            number(found.precision[i]) if guesses[i] else "–",
            number(found.recall[i]) if found.support[i] else "–",
            number(found.f1[i]) if guesses[i] + found.support[i] else "–",
            meter(float(found.f1[i])),
            f"{int(guesses[i]):,}",
            f"{int(found.support[i]):,}",
        ]
        for i in np.argsort(found.f1, kind="stable")
    ]
    head = ["class", "precision", "recall", "F1", '<span class="soft">F1 as a bar</span>', "predicted", "true"]
    caption = "The weakest first. A dash: the class was never predicted, or never there."
    numbers = (1, 2, 3, 5, 6)
    first = table(head, rows[:OPEN], caption=caption, numbers=numbers)
    if len(rows) <= OPEN:
        return first
    rest = table(head, rows[OPEN:], caption="The stronger classes.", numbers=numbers)
    return f"{first}<details><summary>The other {count(len(rows) - OPEN, 'class')}</summary>{rest}</details>"


def confidence(stated: Array, right: Array, *, of: str) -> str:
    """A reliability diagram with its counts, and the expected calibration error; `of` names what is counted."""
    bins = calibration.reliability(stated, right)
    error = calibration.calibration_error(stated, right)
    gap = float(stated.mean() - right.mean())
    side = "more" if gap > 0 else "less"
    words = (
        f"<p>Expected calibration error <strong>{number(error)}</strong> over {len(bins.count)} bins. On average the "
        f"model states {number(float(stated.mean()))} and is right {number(float(right.mean()))} of the time: it "
        f"claims {number(abs(gap))} {side} than it holds. On the dashed line, it would hold what it claims.</p>"
    )
    title = f"Share that is right against stated confidence; bars: how many of {len(stated):,} {of}s"
    chart = charts.reliability(bins.confidence, bins.accuracy, bins.count, title=title)
    rows = [
        [f"{low:.2f} to {high:.2f}", f"{size:,}", number(said), number(held)]
        for low, high, size, said, held in zip(
            bins.edges, bins.edges[1:], bins.count.tolist(), bins.confidence, bins.accuracy, strict=False
        )
        if size
    ]
    figures = table(["confidence", f"{of}s", "stated", "right"], rows, caption="The bins in figures", numbers=(1, 2, 3))
    fold = f"<details><summary>The bins in figures</summary>{figures}</details>"
    return f'<div class="charts">{chart}<div>{words}{fold}</div></div>'


def residuals(truth: Array, predicted: Array) -> str:
    """Predicted against true, and how far off the predictions are."""
    off = predicted - truth
    words = (
        f"<p>Predictions are off by <strong>{number(float(np.abs(off).mean()))}</strong> on average; their mean stands "
        f"{number(abs(float(off.mean())))} {'above' if off.mean() > 0 else 'below'} the mean of the truth. "
        f"On the dashed line, they would equal it.</p>"
    )
    kept = (
        f"; {charts.DOTS:,} of {len(truth):,} texts" if len(truth) > charts.DOTS else f"; {count(len(truth), 'text')}"
    )
    cloud = charts.scatter(truth, predicted, title=f"Predicted against true{kept}")
    bars = charts.histogram(off, title="Predicted minus true", across="predicted minus true")
    return f'{words}<div class="charts">{cloud}{bars}</div>'


def mistakes(
    order: Array,
    *,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    lines: Sequence[int] | None,
    columns: Sequence[tuple[str, Sequence[str]]],
) -> str:
    """The texts at the places in `order`, each with its line in the file and the cells of more columns."""
    if not len(order):
        return '<p class="none">There is no mistake to show.</p>'
    rows = [
        [
            f"{lines[i] if lines is not None else i + 1}",
            passage(texts[i], pair=None if pairs is None else pairs[i]),
            *(cells[place] for _, cells in columns),
        ]
        for place, i in enumerate(order.tolist())
    ]
    head = ["line" if lines is not None else "row", "text", *(escape(title) for title, _ in columns)]
    return table(head, rows, caption=f"The {count(len(rows), 'text')} where the model was furthest off", numbers=(0,))


def wrong_classes(truth: Array, output: Array, labels: Sequence[str]) -> tuple[Array, list[tuple[str, list[str]]]]:
    """The most confident mistakes of one class a text."""
    predicted, stated = output.argmax(1), output.max(1)
    wrong = np.flatnonzero(predicted != truth)
    order = wrong[np.argsort(-stated[wrong], kind="stable")][:WORST]
    return order, [
        ("true", [name(labels[int(truth[i])]) for i in order]),
        ("predicted", [name(labels[int(predicted[i])], style="wrong") for i in order]),
        ("confidence", [number(stated[i]) for i in order]),
    ]


def wrong_labels(
    truth: Array, output: Array, labels: Sequence[str], *, threshold: float
) -> tuple[Array, list[tuple[str, list[str]]]]:
    """The texts whose wrong label was held with most conviction."""
    given, real = output >= threshold, truth.astype(bool)
    conviction = np.where(given != real, np.where(given, output, 1 - output), 0.0)
    most = conviction.max(1, initial=0.0)
    wrong = np.flatnonzero((given != real).any(1))
    order = wrong[np.argsort(-most[wrong], kind="stable")][:WORST]

    def names(row: Array) -> str:
        return ", ".join(name(labels[k]) for k in np.flatnonzero(row).tolist()) or "none"

    def worst(i: int) -> str:
        k = int(conviction[i].argmax())
        verb = "given" if given[i, k] else "missed"
        return f"{name(labels[k], style='wrong')} {verb} at {number(output[i, k])}"

    return order, [
        ("true", [names(real[i]) for i in order]),
        ("predicted", [names(given[i]) for i in order]),
        ("worst", [worst(i) for i in order]),
    ]


def wrong_numbers(truth: Array, predicted: Array) -> tuple[Array, list[tuple[str, list[str]]]]:
    """The largest errors of a regression."""
    off = predicted - truth
    order = np.argsort(-np.abs(off), kind="stable")[:WORST]
    order = order[off[order] != 0]
    return order, [
        ("true", [number(truth[i]) for i in order]),
        ("predicted", [number(predicted[i]) for i in order]),
        ("error", [f'<span class="wrong">{number(off[i])}</span>' for i in order]),
    ]


def _matrix(cells: Array, labels: Sequence[str]) -> str:
    shares = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    top = "".join(f'<th scope="col">{name(label)}</th>' for label in labels)
    body = "".join(
        f'<tr><th scope="row">{name(label)}</th>'
        + "".join(_cell(int(n), float(shares[i, j]), i == j) for j, n in enumerate(cells[i]))
        + "</tr>\n"
        for i, label in enumerate(labels)
    )
    style = "matrix many" if len(labels) > 8 else "matrix"
    caption = "Rows: the true class. Columns: the predicted one. Colour: share of the row."
    return (
        f'<div class="scroll"><table class="{style}"><caption>{caption}</caption>'
        f"<thead><tr><td></td>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _cell(size: int, share: float, right: bool) -> str:
    style = "right" if right else "" if size else "none"
    return f'<td class="{style}" style="--w:{share:.3f}" title="{100 * share:.1f} % of the row">{size:,}</td>'


def _confused(cells: Array, labels: Sequence[str]) -> str:
    off = cells * (1 - np.eye(len(cells), dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:SQUARE]
    pairs = [(int(k) // len(cells), int(k) % len(cells)) for k in order]
    rows = [
        [name(labels[i]), name(labels[j]), f"{int(off[i, j]):,}", f"{100 * off[i, j] / cells[i].sum():.1f} %"]
        for i, j in pairs
        if off[i, j]
    ]
    if not rows:
        return '<p class="none">No class was taken for another.</p>'
    caption = f"The most confused pairs of {len(labels):,} classes; {int(off.sum()):,} texts are confused in all."
    return table(["true", "taken for", "texts", "share of the class"], rows, caption=caption, numbers=(2, 3))
