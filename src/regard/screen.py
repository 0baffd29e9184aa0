"""What the command line shows: progress on standard error, results on standard output."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard.eval.results import Result


def show_result(result: Result) -> None:
    """Prints scores beside baselines, what the model looked at, and where things lie."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=f"{result.scores[0].n:,} held-out texts, 95 % intervals", title_justify="left")
    table.add_column("")
    for name in (result.folder.name, *result.baselines):
        table.add_column(name)
    for row in zip(result.scores, *result.baselines.values(), strict=True):
        table.add_row(row[0].name, *(f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in row))
    console.print(table)
    console.print(f"{result.tokens_per_second:,.0f} tokens a second in training, {result.seconds:.0f} s in all")
    for example in result.looks[:3]:
        mark = {True: "right: ", False: "wrong: ", None: ""}[example.right]
        console.print(Text(f"\n{mark}said {example.predicted}, labelled {example.truth}"))
        words = Text("  ")
        received = example.weights[-1].mean(0)[0]
        for token, weight in zip(example.tokens, received / received.max(), strict=True):
            words.append(token, style="bold reverse" if weight > 0.66 else "bold" if weight > 0.33 else "dim")
            words.append(" ")
        console.print(words)
    console.print(Text("  (the brighter, the more the last layer's [CLS] attends to it)", style="dim"))
    console.print(f"\nreport  {result.folder / 'report.html'}\nmodel   {result.folder / 'model'}", highlight=False)


class Screen:
    """A progress bar and lines above it, on standard error, so that standard output holds results alone."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self.console = Console(stderr=True, quiet=quiet)
        # Where there is little room the words are parted, and the time left is not cut.
        words = TextColumn("{task.description}", table_column=Column(no_wrap=False))
        parts = (words, BarColumn(bar_width=20), TaskProgressColumn(), TimeRemainingColumn())
        self.bar = Progress(*parts, console=self.console, transient=True)
        self.task: Any = None

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def tell(self, line: str) -> None:
        """Prints a line."""
        self.console.print(line, highlight=False, markup=False)

    def watch(self, row: dict[str, Any]) -> None:
        """Shows a row of a run's log."""
        if row["kind"] == "evaluation":
            fixed = ("kind", "step", "epoch", "low", "high")
            name, value = next((k, v) for k, v in row.items() if k not in fixed)
            when = f"step {row['step']:,}" if "languages" in row else f"epoch {row['epoch']:.1f}"
            self.tell(
                f"{when}: validation {name} {_with_doubt(value, row['low'], row['high'], '.3f', 'a language has')}"
            )
            for found in row.get("languages", ()):
                self.tell("  " + _guesses(found))
            for name, (value, low, high) in row.get("probes", {}).items():
                self.tell(f"  probe {name}: accuracy {_with_doubt(value, low, high, '.3f')}")
            for name, (value, low, high) in row.get("scores", {}).items():
                self.tell(f"  {name}: {_with_doubt(value, low, high, '.1%')}")
            return
        if row["kind"] != "step":
            return
        said = f"loss {row['loss']:.3f}, {row['tokens_per_second']:,.0f} tokens/s"
        if "share_of_peak" in row:
            rights = [
                f"{key.removeprefix('accuracy_')} {value:.1%}" for key, value in row.items() if "accuracy_" in key
            ]
            speed = f"{row['operations_per_second'] / 1e9:,.0f} GFLOP/s, {row['share_of_peak']:.0%} of peak"
            said = ", ".join([said, speed, *rights])
        if self.task is None:
            self.task = self._next(said, 1.0)
        self.bar.update(self.task, completed=row["progress"], description=said)

    def _next(self, description: str, total: float) -> Any:
        """A new bar, below those of what is done."""
        for task in self.bar.tasks:
            self.bar.update(task.id, completed=task.total)
        return self.bar.add_task(description, total=total)

    def counter(self, description: str, total: int) -> Any:
        """A function that moves a bar on by so many."""
        task = self._next(description, total)
        return lambda count: self.bar.advance(task, count)

    def share(self, description: str) -> Any:
        """A function that moves a bar to a share of the whole."""
        task = self._next(description, 1.0)
        return lambda share: self.bar.update(task, completed=share)


def _guesses(found: dict[str, Any]) -> str:
    """How well the hidden words of a language are guessed, in a line."""

    def of(name: str) -> str:
        score, form = found[name], ".2f" if name in ("loss", "pseudo") else ".1%"
        return _with_doubt(score["value"], score["low"], score["high"], form)

    said = f"{found['language']}: top-1 {of('top1')}, top-5 {of('top5')}, loss {of('loss')}"
    said += f", pseudo-perplexity {of('pseudo')}" if found["pseudo"] else ""
    unknown = found["unknown"] / max(1, found["places"])
    return said + (f"; {unknown:.0%} of these tokens are [UNK], which is easy to guess" if unknown > 0.005 else "")


def _with_doubt(value: float, low: float, high: float, form: str, whose: str = "of") -> str:
    doubt = f"({whose} one document)" if math.isnan(low) else f"[{low:{form}}, {high:{form}}]"
    return f"{value:{form}} {doubt}"
