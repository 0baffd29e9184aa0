"""What studies found, as tables in the terminal."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from regard.lens.compare import DIVERGENCE, MATCHED, NEAREST, SAME
from regard.measure.selection import FEWEST
from regard.study.compare import ENTROPY, IMPORTANCE, Comparison
from regard.study.heads import Heads
from regard.study.relations import CHANCES, Relations

FEW = 20  # words: relations with fewer have intervals too wide to show
SHOWN = 12  # heads that differ most between two models


def paths(out: str, *, probe: bool) -> list[Path]:
    """Where a study's files go: the heads' scores where the user says, the probes' beside it."""
    if not out:
        return []
    path = Path(out)
    first, *rest = path.name.split(".")
    return [path, path.with_name(".".join([first, "probes", *rest]))] if probe else [path]


def few_texts(kind: str) -> str:
    """What a legend says of scores without an interval; `kind` is what texts are here."""
    return f"A score without an interval is of fewer than {FEWEST} {kind}: too few texts for an interval."


def relations(found: Relations) -> RenderableType:
    """The best head of each relation that is frequent enough, beside the best offset and what chance finds."""
    table = Table(
        title="best heads as parsers, in percent of n words", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    names = ("relation", "n", "head", "way", "accuracy", "offset", "shuffled\nheads", "shuffled\nlabels")
    for name in (*names, "random\nweights"):
        table.add_column(name, justify="left" if name in ("relation", "way") else "right", no_wrap=True)
    for row in (row for row in found.best() if row["n"] >= FEW):
        better = "bold" if row["gain_low"] is not None and row["gain_low"] > 0 else ""
        table.add_row(
          "trees (UUAS)" if row["measure"] == "uuas" else row["relation"], str(row["n"]),
            f"{row['layer']}.{row['head']}", (row["direction"] or "").partition(" ")[0],
            Text(_interval(row["accuracy"], row), style=better),
            f"{row['offset']:+d} {100 * row['offset_accuracy']:.0f}",
            *("" if row[name] is None else f"{100 * row[name]:.0f}" for name in CHANCES),
        )  # fmt: skip
    legend = (
        f"Head (layer.head) and offset are chosen on half of {found.sentences:,} sentences and scored on the others, "
        "with 95 % intervals over sentences; bold: surely better than the offset. Way: from the dependent to its head, "
        "or from the head. Shuffled and random: what the best head reaches on shuffled trees, and in an untrained "
        f"model. Relations of fewer than {FEW} words are not shown. {few_texts('sentences')}"
    )
    return Group(table, Text(legend, style="dim"))


def probes(rows: list[dict[str, Any]]) -> RenderableType:
    """Attachment scores of the probes beside their control tasks."""
    title = f"probes of all heads together, in percent of {rows[0]['n']:,} held-out words"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("probe", "of", "accuracy", "control", "selectivity"):
        table.add_column(name, justify="left" if name in ("probe", "of") else "right", no_wrap=True)
    for row in rows:
        spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
        pairs = (("control", "control_deviation"), ("selectivity", "selectivity_deviation"))
        table.add_row(
            row["probe"], row["source"], _interval(row["uas"], row) + spread, *(_spread(row, *pair) for pair in pairs)
        )
    legend = "Unlabelled attachment (UAS); ±: deviation over seeds; intervals over held-out sentences."
    return Group(table, Text(f"{legend} {few_texts('sentences')}", style="dim"))


def _interval(value: float, row: dict[str, Any]) -> str:
    bounds = "" if row["low"] is None else f" [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    return f"{100 * value:.1f}{bounds}"


def _spread(row: dict[str, Any], name: str, deviation: str) -> str:
    if row[name] is None:
        return ""
    return f"{100 * row[name]:.1f}" + ("" if row[deviation] is None else f" ± {100 * row[deviation]:.1f}")


def heads(found: Heads) -> RenderableType:
    """The heads that stand out in each statistic of all rows: with the largest mean over texts, and with the least."""
    title = f"heads that stand out over {found.texts:,} texts: layer.head, mean [95 % interval]"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("statistic", "all", "most", "least"):
        table.add_column(name, no_wrap=True, justify="right" if name == "all" else "left")
    names = dict.fromkeys(row["statistic"] for row in found.rows)
    for statistic in (name for name in names if not re.match("(cls|sep)_to_(?!sep)", name)):
        rows = [row for row in found.rows if row["statistic"] == statistic and row["n"]]
        if rows:
            mean = sum(row["mean"] for row in rows) / len(rows)
            most, least = (f(rows, key=lambda row: row["mean"]) for f in (max, min))
            table.add_row(statistic, f"{mean:.3f}", _head(most), _head(least))
    return table


def _head(row: dict[str, Any]) -> str:
    place = f"{row['layer']}.{row['head']}"
    return f"{place:>5} {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def comparison(found: Comparison) -> RenderableType:
    """The heads that differ most, layer by layer, and how well heads of one model are known again in the other."""
    legend = (
        "Divergence: Jensen-Shannon, nats (0 to 0.693), mean over tokens, then texts, with 95 % intervals over texts. "
        "Changes are the second model's minus the first's."
    )
    parts = [_changed(found), _by_layer(found), *_importance(found)] if found.layers else [_across(found)]
    if found.matchings:
        parts.append(_matchings(found))
        legend += " Kept: heads that go with the one in their own place; again: pairs found again on texts drawn anew."
    return Group(*parts, Text(legend, style="dim"))


def _changed(found: Comparison) -> Table:
    of_head: dict[tuple[int, int], dict[str, Any]] = {}
    for row in (row for row in found.rows if row["pairing"] == SAME):
        of_head.setdefault((row["layer"], row["head"]), {})[row["statistic"]] = row
    title = f"the heads that differ most, of {len(of_head)}, on {found.texts:,} texts"
    table = _table(title, "head", DIVERGENCE, ENTROPY, "change")
    table.add_column("weight that changes most", justify="right")
    for (layer, head), rows in sorted(of_head.items(), key=lambda item: -item[1][DIVERGENCE]["mean"])[:SHOWN]:
        moved = [rows[name] for name in rows if re.match("to_|offset_", name)]
        most = max(moved, key=lambda row: abs(row["mean"]))
        table.add_row(
            f"{layer}.{head}", _with_interval(rows[DIVERGENCE]), f"{rows[ENTROPY]['of_model']:.2f}",
            _with_interval(rows[ENTROPY], "+.2f"),
            f"{most['statistic']} {most['of_model']:.2f} to {most['of_other']:.2f}",
        )  # fmt: skip
    return table


def _importance(found: Comparison) -> list[Table]:
    """The heads that matter more or less in the second model, where that was asked."""
    rows = [row for row in found.rows if row["statistic"] == IMPORTANCE]
    if not rows:
        return []
    table = _table(f"importance, on {rows[0]['n']:,} rows", "head", "first", "second", "change")
    for row in sorted(rows, key=lambda row: -abs(row["mean"]))[:SHOWN]:
        own = (f"{row[name]:.4f}" for name in ("of_model", "of_other"))
        table.add_row(f"{row['layer']}.{row['head']}", *own, _with_interval(row, "+.4f"))
    return [table]


def _by_layer(found: Comparison) -> Table:
    kept = [name for name in found.layers[0] if name.startswith("kept")]
    table = _table("layers", "layer", DIVERGENCE, "change of entropy", *(name.replace(", ", ",\n") for name in kept))
    for row in found.layers:
        values = (
            {"mean": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            for name in (DIVERGENCE, ENTROPY)
        )
        shares = (f"{100 * row[name]:.0f} %" for name in kept)
        table.add_row(str(row["layer"]), _with_interval(next(values)), _with_interval(next(values), "+.2f"), *shares)
    return table


def _across(found: Comparison) -> Table:
    """For models that differ in shape: in which layers of the second the heads of each layer of the first are."""
    table = _table("layers of the second model where heads of the first are found: layer x heads", "layer")
    kinds = (MATCHED, NEAREST)
    for kind in kinds:
        table.add_column(kind)
        table.add_column(DIVERGENCE, justify="right")
    for layer in range(found.shapes[0][0]):
        cells = []
        for kind in kinds:
            rows = [row for row in found.rows if row["pairing"] == kind and row["layer"] == layer]
            counts = sorted(Counter(row["other_layer"] for row in rows).items())
            mean = sum(row["mean"] for row in rows) / max(1, len(rows))
            cells += ["  ".join(f"{place} x{count}" for place, count in counts), f"{mean:.3f}" if rows else ""]
        table.add_row(str(layer), *cells)
    return table


def _matchings(found: Comparison) -> Table:
    names = ("", "pairs", DIVERGENCE, "at random", "kept", "again")
    table = _table("heads of the first model, each with one of the second", *names)
    for one in found.matchings:
        kept = "" if one.kept is None or one.kept_interval is None else _spanned(one.kept, *one.kept_interval, ".2f")
        table.add_row(
            one.kind, str(len(one.support)), _spanned(one.mean, *one.interval),
            "" if one.random is None else f"{one.random:.3f}", kept,
            "" if np.isnan(one.support).any() else f"{one.support.mean():.2f}",
        )  # fmt: skip
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _with_interval(row: dict[str, Any], form: str = ".3f") -> str:
    return _spanned(row["mean"], row["low"], row["high"], form)


def _spanned(value: float, low: float, high: float, form: str = ".3f") -> str:
    """The value with its interval, if it has one: a single text gives none."""
    return f"{value:{form}}" + ("" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]")
