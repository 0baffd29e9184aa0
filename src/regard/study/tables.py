"""What studies found, as tables in the terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from regard.study.heads import Heads
from regard.study.relations import CHANCES, Relations

FEW = 20  # words: relations with fewer have intervals too wide to show


def paths(out: str, *, probe: bool) -> list[Path]:
    """Where a study's files go: the heads' scores where the user says, the probes' beside it."""
    if not out:
        return []
    path = Path(out)
    first, *rest = path.name.split(".")
    return [path, path.with_name(".".join([first, "probes", *rest]))] if probe else [path]


def relations(found: Relations) -> RenderableType:
    """The best head of each relation that is frequent enough, beside the best offset and what chance finds."""
    table = Table(
        title="best heads as parsers, in percent of n words", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    names = ("relation", "n", "head", "way", "accuracy", "offset", "shuffled\nheads", "shuffled\nlabels")
    for name in (*names, "random\nweights"):
        table.add_column(name, justify="left" if name in ("relation", "way") else "right", no_wrap=True)
    for row in (row for row in found.best() if row["n"] >= FEW):
        better = "bold" if row["gain_low"] > 0 else ""
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
        f"model. Relations of fewer than {FEW} words are not shown."
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
    return Group(
        table,
        Text("Unlabelled attachment (UAS); ±: deviation over seeds; intervals over held-out sentences.", style="dim"),
    )


def _interval(value: float, row: dict[str, Any]) -> str:
    return f"{100 * value:.1f} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


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
