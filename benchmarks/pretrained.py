"""What pre-training is worth: one shape fine-tuned from its trained weights and from random ones, over several seeds.

The tasks are sentiment of English sentences (SST-2) and of Chinese reviews (ChnSentiCorp), and the topic of Chinese
headlines (THUCNews, trained on its validation part). Both arms have the same vocabulary, rows, steps and settings;
random weights are as Devlin et al. 2019 have them, others for each seed. An accuracy is the mean over seeds; the
difference is paired, text by text, with its 95 % interval over texts. Finished runs are kept in `--runs`, and taken up.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import common
import numpy as np

TASKS = {
    "sst2": ("stsa.binary.train.gz", "stsa.binary.dev.gz", "stsa.binary.test.gz"),
    "zh_chnsenticorp": ("train.tsv.gz", "dev.tsv.gz", "test.tsv.gz"),
    "zh_thucnews_titles": ("dev.txt.gz", "", "test.txt.gz"),
}
ARMS = ("trained", "random")


def arguments() -> argparse.Namespace:
    parser = common.arguments(__doc__, "python benchmarks/pretrained.py --tasks sst2 --seeds 3")
    parser.add_argument("--model", default="regard-mini", help="whose weights and shape (default: regard-mini)")
    parser.add_argument("--tasks", nargs="*", choices=tuple(TASKS), default=list(TASKS), help="default: all three")
    parser.add_argument("--seeds", type=int, default=3, help="of each arm (default: 3)")
    parser.add_argument("--epochs", type=float, default=3.0, help="default: 3")
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate (default: 3e-4)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text at most (default: 128)")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrained.jsonl"), help="where finished runs are kept")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs, options.tasks = 1, 0.05, ["sst2"]
    return options


def main() -> None:
    """Runs the benchmark."""
    options = arguments()
    common.settle()
    for task in options.tasks:
        for seed in range(options.seeds):
            for arm in ARMS:
                _run(options, task, arm, seed)
    report = {"machine": common.machine()} | {task: compared(options, task) for task in options.tasks}
    common.deliver(report, render(options, report), options)


def _run(options: argparse.Namespace, task: str, arm: str, seed: int) -> None:
    key = _key(options, task, arm, seed)
    if key in (row["key"] for row in common.finished(options.runs)):
        common.say(f"  {task}, {arm}, seed {seed}: already in {options.runs}")
        return
    right = _right(options, task, arm, seed)
    common.keep(options.runs, {"key": key, "right": "".join(map(str, right))})
    common.say(f"  {task}, {arm}, seed {seed}: {np.mean(right):.4f}")


def _right(options: argparse.Namespace, task: str, arm: str, seed: int) -> list[int]:
    """For each text of the test set 1 where the trained model is right, else 0."""
    import torch

    from regard import load, toml
    from regard import recipe as recipes
    from regard.data.task import gather
    from regard.model.encoder import bert
    from regard.run import train

    with tempfile.TemporaryDirectory() as folder:
        name = options.model
        if arm == "random":
            system = load(options.model)
            torch.manual_seed(1000 + seed)
            system.model.encoder = bert(system.model.encoder.config)
            name = f"{folder}/random"
            system.save(Path(name))
        parts = [part and _file(task, part, Path(folder)) for part in TASKS[task]]
        changes = {
            **dict(zip(("data.train", "data.validation", "data.test"), parts, strict=True)),
            "data.format": "lines" if task == "sst2" else "auto", "data.max_length": options.length,
            "model.name": name, "model.pooling": "mean",
            "train.epochs": options.epochs, "train.learning_rate": options.rate, "seed": seed, "out": f"{folder}/run",
        }  # fmt: skip
        recipe = toml.override(recipes.Recipe(), changes)
        test = gather(recipe.data, seed=seed).test
        train(recipe)
        system = load(f"{folder}/run")
        said = [system.answer(row).label for row in system.predict(test.texts)]
        truth = [test.names[int(number)] for number in test.labels]
        return [int(one == other) for one, other in zip(said, truth, strict=True)]


def _file(task: str, part: str, folder: Path) -> str:
    """A part of the data; headlines as the csv that they are not."""
    path = common.data(task, part)
    if task != "zh_thucnews_titles":
        return str(path)
    made = folder / f"{part.partition('.')[0]}.csv"
    with made.open("w", encoding="utf-8", newline="") as file:
        rows = (line.rsplit("\t", 1) for line in common.lines(task, part))
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(made)


def _key(options: argparse.Namespace, task: str, arm: str, seed: int) -> list[Any]:
    return [*_identity(options.model, arm), task, arm, seed, options.epochs, options.rate, options.length]


@cache
def _identity(model: str, arm: str) -> tuple[str, ...]:
    """What the arm begins with: shape and tokenizer, and trained weights. A name says less: its run may be repeated."""
    from regard import load
    from regard.data.tokens import digest
    from regard.study.heads import fingerprint

    system = load(model, precision="float32")
    shape = repr(system.model.encoder.config), digest(system.tokenizer)
    return (*shape, fingerprint(system.model.encoder.state_dict())) if arm == "trained" else shape


def compared(options: argparse.Namespace, task: str) -> dict[str, Any]:
    """Accuracies by seed, and the difference of the arms with its interval."""
    rows = {tuple(row["key"]): [int(one) for one in row["right"]] for row in common.finished(options.runs)}
    right = {
        arm: np.array([rows[tuple(_key(options, task, arm, seed))] for seed in range(options.seeds)]) for arm in ARMS
    }
    gained = right["trained"].mean(0) - right["random"].mean(0)
    picks = np.random.default_rng(options.seed).integers(0, len(gained), (2000, len(gained)))
    low, high = np.percentile(gained[picks].mean(1), (2.5, 97.5))
    found = {arm: {"accuracy": float(own.mean()), "seeds": own.mean(1).tolist()} for arm, own in right.items()}
    return found | {"gained": float(gained.mean()), "low": float(low), "high": float(high), "texts": len(gained)}


def render(options: argparse.Namespace, report: dict[str, Any]) -> str:
    """The table in Markdown."""
    settings = {"epochs": options.epochs, "learning rate": options.rate, "tokens at most": options.length}
    title = common.heading(f"{options.model} beside random weights", report["machine"], settings)
    head = ["task", "texts", "random", "seeds", "trained", "seeds", "difference"]
    rows = []
    for task in options.tasks:
        own = report[task]
        cells = [task, f"{own['texts']:,}"]
        for arm in ("random", "trained"):
            cells += [f"{own[arm]['accuracy']:.3f}", " ".join(f"{value:.3f}" for value in own[arm]["seeds"])]
        rows.append([*cells, f"{own['gained']:+.3f} [{own['low']:+.3f}, {own['high']:+.3f}]"])
    return f"{title}\n{common.table(head, rows)}"


if __name__ == "__main__":
    main()
