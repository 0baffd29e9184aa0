"""What a trained system is worth: its scores beside baselines, and what it looked at, gathered into a report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.data.examples import Examples
from regard.data.task import Task, labels_of
from regard.errors import Problem
from regard.eval import report
from regard.eval.baselines import BagOfWords, Majority
from regard.eval.findings import AttentionExample, Findings
from regard.measure.scores import Score, names, per_example, scores
from regard.system import System
from regard.train.journal import Journal
from regard.train.loop import Evaluation

SHOWN_TOKENS = 40  # texts longer than this make no readable picture of attention


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has found."""

    folder: Path
    task: str
    scores: list[Score]
    baselines: dict[str, list[Score]]
    tokens_per_second: float
    seconds: float
    looks: list[AttentionExample]

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": str(self.folder),
            "task": self.task,
            "scores": [dataclasses.asdict(s) for s in self.scores],
            "baselines": {name: [dataclasses.asdict(s) for s in found] for name, found in self.baselines.items()},
            "tokens_per_second": self.tokens_per_second,
            "seconds": self.seconds,
            "report": str(self.folder / "report.html"),
        }


def evaluation(system: System, examples: Examples, metric: str) -> Evaluation:
    """The metric on some examples, with its interval."""
    output = system.predict(examples.texts, examples.pairs)
    found = scores(system.card.task, labels_of(examples), output, resamples=200)
    score = next(s for s in found if s.name.lower() == metric.lower())
    earned = per_example(system.card.task, labels_of(examples), output)
    return Evaluation(score.name, score.value, score.low, score.high, score.merit, earned)


def check_metric(task: str, outputs: int, metric: str) -> None:
    """Raises `Problem` for a metric that the task does not have."""
    known = names(task, outputs)
    if metric.lower() not in map(str.lower, known):
        raise Problem(f"There is no metric '{metric}' for this task. Known: {', '.join(known)}.")


def baselines(task: str, train: Examples, test: Examples) -> dict[str, list[Score]]:
    """What one reaches without reading: the majority (or mean), and a bag of words."""
    outputs = max(1, len(train.names))
    found = {}
    for name, kind in (("majority", Majority), ("bag of words", BagOfWords)):
        guess = kind(task, outputs).fit(_joined(train), labels_of(train)).predict(_joined(test))
        found[name] = scores(task, labels_of(test), guess[:, 0] if task == "regress" else guess)
    return found


def _joined(examples: Examples) -> list[str]:
    pairs = examples.pairs
    return examples.texts if pairs is None else [f"{a} {b}" for a, b in zip(examples.texts, pairs, strict=True)]


def finish(system: System, task: Task, folder: Path, *, tokens_per_second: float, seconds: float) -> Result:
    """Measures a trained system on its test split, adds the result to the journal, and writes the report."""
    test = task.test
    output = system.predict(test.texts, test.pairs)
    found = scores(test.task, labels_of(test), output)
    simple = baselines(test.task, task.train, test)
    looks = _looks(system, test, output)
    result = Result(folder, test.task, found, simple, tokens_per_second, seconds, looks)
    journal = Journal(folder, None)
    journal.add({"kind": "result", **result.table()})
    report.write(
        Findings(
            title=folder.name,
            task=test.task,
            recipe=(folder / "recipe.toml").read_text(encoding="utf-8"),
            history=journal.rows(),
            scores=found,
            baselines=simple,
            labels=test.names,
            truth=labels_of(test),
            output=output,
            texts=test.texts,
            pairs=test.pairs,
            lines=test.lines,
            attention=looks,
            notes=task.said,
        ),
        folder / "report.html",
    )
    return result


def _looks(system: System, test: Examples, output: NDArray[Any]) -> list[AttentionExample]:
    """Two of the best answers and two of the worst, the surest first, of texts short enough to be read."""
    truth = labels_of(test)
    earned = per_example(test.task, truth, output)
    sure = output.max(1) if test.task == "classify" else np.zeros(len(earned))
    best, worst = np.lexsort((-sure, -earned))[:200], np.lexsort((-sure, earned))[:200]
    short = _readable(system, test, sorted({*best.tolist(), *worst.tolist()}))
    chosen = [row for row in best.tolist() if row in short][:2]
    chosen += [row for row in worst.tolist() if row in short and row not in chosen][:2]
    rights = [None if test.task == "regress" else bool(earned[row] == 1) for row in chosen]
    return [_example(system, test, output[row], row, right) for row, right in zip(chosen, rights, strict=True)]


def _readable(system: System, test: Examples, rows: list[int]) -> set[int]:
    """Those of the rows whose tokens make a readable picture."""
    pairs = None if test.pairs is None else [test.pairs[row] for row in rows]
    found = system.tokenizer.encode([test.texts[row] for row in rows], pairs, max_length=system.card.max_length)
    return {row for row, encoding in zip(rows, found, strict=True) if 4 <= len(encoding.ids) <= SHOWN_TOKENS}


def _example(system: System, test: Examples, output: NDArray[Any], row: int, right: bool | None) -> AttentionExample:
    pair = None if test.pairs is None else test.pairs[row]
    labels = test.labels or []
    look, answer = system.look(test.texts[row], pair), system.answer(output)
    return AttentionExample(
        text=test.texts[row],
        pair=pair,
        tokens=list(look.tokens),
        weights=look.weights,
        truth=_word(test, labels[row]),
        predicted=f"{answer.label:.3g}" if isinstance(answer.label, float) else str(answer.label),
        right=right,
        confidence=answer.probability if answer.probability is not None else float("nan"),
        guards=look.guards,
    )


def _word(examples: Examples, label: Any) -> str:
    if examples.task == "classify":
        return examples.names[int(label)]
    if examples.task == "multilabel":
        return str([name for name, on in zip(examples.names, label, strict=True) if on])
    return f"{float(label):.3g}"
