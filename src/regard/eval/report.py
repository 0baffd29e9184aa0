"""The report of one fine-tuning run: one HTML file that needs no network, and JavaScript only to browse attention.

Whatever comes from data is escaped, and the page allows no script but its own, by the hash of its text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regard import disk
from regard.eval import maps, panels
from regard.eval.findings import Findings
from regard.lens.viewer import script
from regard.measure.scores import Score, is_error
from regard.page import charts
from regard.page.markup import bullets, caution, count, escape, name, number
from regard.page.shell import page

FEW = 10  # values that are better seen one by one than smoothed
_TASKS = {"classify": "one class a text", "multilabel": "any labels a text", "regress": "one number a text"}
_STEP_KEYS = {"kind", "step", "epoch", "low", "high", "seconds", "learning_rate", "tokens_per_second"}


def write(findings: Findings, path: Path) -> None:
    """Writes the report; equal findings give equal bytes on every system."""
    disk.write_text(path, render(findings))


def render(findings: Findings) -> str:
    """The whole page."""
    sections = {
        "headline": ("Scores", _scores(findings)),
        "curves": ("Training", training(findings.history)),
        **_predictions(findings),
        "attention": ("Attention", maps.attention(findings.attention)),
        "data": ("Data", _data(findings)),
        "recipe": ("Recipe", f"<pre><code>{escape(findings.recipe)}</code></pre>"),
    }
    kind = f"Fine-tuning report, {_TASKS[findings.task]}"
    lead = _lead(findings) + caution(findings.cautions)
    return page(findings.title, sections, kind=kind, lead=lead, script=script())


def _lead(findings: Findings) -> str:
    if not findings.scores:
        return '<p class="lead">Nothing was scored.</p>'
    score = findings.scores[0]
    sentence = f"{name(score.name)} <strong>{number(score.value)}</strong>{_bracket(score)} on {count(score.n, 'text')}"
    rivals = {rival: _named(found, score.name) for rival, found in findings.baselines.items()}
    ranked = sorted(((s.value * _sign(s.name), rival, s) for rival, s in rivals.items() if s), key=lambda r: -r[0])
    if not ranked:
        return f'<p class="lead">{sentence}.</p>'
    best, rival, found = ranked[0]
    doubt = ""
    # the end of the interval that lies towards the rival
    near = min(score.low * _sign(score.name), score.high * _sign(score.name))
    if not near > best:
        doubt = caution([f"This is no clear gain over {rival}: the interval of the model reaches what {rival} does."])
    return f'<p class="lead">{sentence}; {name(rival)} reaches {number(found.value)}.</p>{doubt}'


def _scores(findings: Findings) -> str:
    if not findings.scores:
        return '<p class="none">Nothing was scored.</p>'
    groups = "".join(_score_group(score, findings.baselines) for score in findings.scores)
    head = "".join(f'<th scope="col">{cell}</th>' for cell in ("score", "system"))
    head += "".join(f'<th scope="col" class="number">{cell}</th>' for cell in ("value", "95 % interval"))
    caption = "Dots: values. Whiskers: 95 % intervals. Each score has a scale of its own."
    return (
        f'<div class="scroll"><table class="wide scores"><caption>{caption}</caption><thead><tr>{head}'
        f'<th scope="col">as a picture</th><th scope="col" class="number">texts</th></tr></thead>{groups}</table></div>'
    )


def _score_group(score: Score, baselines: Mapping[str, list[Score]]) -> str:
    rivals = [(rival, found) for rival, all_ in baselines.items() if (found := _named(all_, score.name))]
    systems = [("this model", score), *rivals]
    bounds = charts.span(*(np.array([s.value, s.low, s.high], dtype=np.float64) for _, s in systems))
    rows = ""
    for place, (system, s) in enumerate(systems):
        first = f'<th scope="rowgroup" rowspan="{len(systems)}">{name(score.name)}</th>' if place == 0 else ""
        picture = charts.interval(s.value, s.low, s.high, bounds=bounds, style="other" if place else "main")
        rows += (
            f'<tr{"" if place else " class=own"}>{first}<th scope="row">{name(system)}</th>'
            f'<td class="number value">{number(s.value)}</td><td class="number">{_bracket(s).strip() or "–"}</td>'
            f'<td class="plot">{picture}</td><td class="number">{s.n:,}</td></tr>'
        )
    return f"<tbody>{rows}</tbody>\n"


def training(history: list[dict[str, Any]]) -> str:
    """The rows of a run's log as curves: loss, learning rate, and what was measured."""
    steps = [row for row in history if row.get("kind") == "step"]
    tests = [row for row in history if row.get("kind") == "evaluation"]
    parts, words = [], ""
    if steps:
        at, loss, rate = (_column(steps, key) for key in ("step", "loss", "learning_rate"))
        parts.append(_losses(at, loss))
        parts.append(charts.curves([charts.Line(x=at, y=rate, style="second")], title="Learning rate", zero=True))
        speed = _column(steps, "tokens_per_second")
        if np.isfinite(speed).any():
            words = f"; {float(np.nanmedian(speed)):,.0f} tokens a second in the median"
        words = f"<p>{count(int(at[-1]), 'step') if np.isfinite(at[-1]) else 'Steps'}{words}.</p>"
    parts += _evaluations(tests)
    return (
        f'{words}<div class="charts">{"".join(parts)}</div>' if parts else '<p class="none">No step was recorded.</p>'
    )


def _losses(at: np.ndarray, loss: np.ndarray) -> str:
    if len(loss) < FEW:
        title = f"Training loss; {number(float(loss[-1]))} at the end"
        return charts.curves([charts.Line(x=at, y=loss, dots=True)], title=title)
    gentle = charts.smooth(loss, window=max(5, len(loss) // 25))
    title = f"Training loss, smoothed over the raw values; {number(float(gentle[-1]))} at the end"
    return charts.curves([charts.Line(x=at, y=loss, style="raw"), charts.Line(x=at, y=gentle)], title=title)


def _evaluations(rows: list[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(k for row in rows for k, v in row.items() if k not in _STEP_KEYS and _is_number(v))
    at, low, high = (_column(rows, key) for key in ("step", "low", "high"))
    out = []
    for key in keys:
        values = _column(rows, key)
        # one interval stands in a row: it belongs to the first metric that it holds
        holds = bool(np.isfinite(low).any()) and not ((values < low) | (values > high)).any()
        line = charts.Line(x=at, y=values, dots=True, low=low if holds else None, high=high if holds else None)
        if holds:
            low = high = np.full(len(rows), np.nan)
        title = (
            f"Evaluation: {key}{', with its 95 % interval' if holds else ''}; {number(float(values[-1]))} at the end"
        )
        out.append(charts.curves([line], title=title))
    return out


def _predictions(findings: Findings) -> dict[str, tuple[str, str]]:
    """The sections that set output against truth: what they are depends on the task."""
    truth, output, labels = findings.truth, findings.output, findings.labels
    if not len(truth):
        return {"calibration": ("Predictions", '<p class="none">There were no texts to predict.</p>')}
    if findings.task == "regress":
        predicted = output.ravel()
        held = panels.residuals(truth, predicted)
        return {
            "calibration": ("Predicted and true", held),
            "mistakes": ("Largest errors", _mistakes(findings, *panels.wrong_numbers(truth, predicted))),
        }
    if findings.task == "multilabel":
        given = output >= findings.threshold
        stated, right = np.where(given, output, 1 - output).ravel(), (given == truth.astype(bool)).ravel()
        wrong = panels.wrong_labels(truth, output, labels, threshold=findings.threshold)
        return {
            "calibration": ("Calibration", panels.confidence(stated, right, of="decision")),
            "mistakes": ("Worst mistakes", _mistakes(findings, *wrong)),
            "classes": ("Labels", panels.classes(truth, given, labels)),
        }
    predicted = output.argmax(1)
    right = predicted == truth
    return {
        "confusion": ("Confusion", panels.confusion(truth, predicted, labels)),
        "calibration": ("Calibration", panels.confidence(output.max(1), right, of="text")),
        "mistakes": ("Worst mistakes", _mistakes(findings, *panels.wrong_classes(truth, output, labels))),
        "classes": ("Classes", panels.classes(truth, predicted, labels)),
    }


def _mistakes(findings: Findings, order: np.ndarray, columns: list[tuple[str, list[str]]]) -> str:
    texts, pairs, lines = findings.texts, findings.pairs, findings.lines
    return panels.mistakes(order, texts=texts, pairs=pairs, lines=lines, columns=columns)


def _data(findings: Findings) -> str:
    return bullets(findings.notes) if findings.notes else '<p class="none">There is nothing to say about the data.</p>'


def _column(rows: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([float(row[key]) if _is_number(row.get(key)) else np.nan for row in rows], dtype=np.float64)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _named(scores: list[Score], wanted: str) -> Score | None:
    return next((score for score in scores if score.name == wanted), None)


def _bracket(score: Score) -> str:
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return ""
    return f" [{number(score.low)}, {number(score.high)}]"


def _sign(metric: str) -> int:
    """-1 for what is better when smaller."""
    return -1 if is_error(metric) else 1
