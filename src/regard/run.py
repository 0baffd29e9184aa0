"""A recipe carried out: from labelled rows to a folder with a trained, measured and explained model.

The folder holds `recipe.toml`, `metrics.jsonl`, `model/` and `report.html`; until the end also `state.pt`, from which a
run that was killed goes on to the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import regard
from regard import hub
from regard import recipe as recipes
from regard.batch import Encoding
from regard.data.examples import Examples
from regard.data.loader import Loader
from regard.data.task import Task, gather
from regard.errors import Problem
from regard.eval import report
from regard.eval.baselines import BagOfWords, Majority
from regard.measure.scores import Score, per_example, scores
from regard.model import checkpoint as checkpoints
from regard.recipe import Recipe
from regard.system import Card, System, build, default_pooling, read_card
from regard.text.tokenizer import Tokenizer
from regard.train import state as states
from regard.train.loop import Evaluation, Outside, Plan, fit
from regard.train.objectives import OBJECTIVES
from regard.train.optim import Optimizer

Tell = Callable[[str], None]
Watch = Callable[[dict[str, Any]], None]
METRICS = {"classify": "accuracy", "multilabel": "micro-F1", "regress": "Pearson"}
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
    looks: list[report.AttentionExample]

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


def train(
    recipe: Recipe, *, resume: bool = False, tell: Tell = lambda line: None, watch: Watch = lambda row: None
) -> Result:
    """Carries out a recipe in its folder; `resume` goes on where a killed run was saved, or begins where none was."""
    folder = Path(recipe.out)
    _open_folder(recipe, folder, resume)
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        task = gather(recipe.data, seed=recipe.seed)
        for line in task.said:
            tell(line)
        system = prepare(recipe, task, tell)
        speed = learn(system, recipe, task, folder=folder, resume=resume, tell=tell, watch=watch)
        system.save(folder / "model")
        tell(f"the model is in {folder / 'model'}")
        result = _finish(system, recipe, task, folder, speed, began)
    (folder / "state.pt").unlink(missing_ok=True)
    (folder / "best.pt").unlink(missing_ok=True)
    return result


def prepare(recipe: Recipe, task: Task, tell: Tell = lambda line: None) -> System:
    """A system with the checkpoint's encoder and a fresh head for the task."""
    source = hub.model_folder(recipe.model.name, revision=recipe.model.revision)
    source = source / "model" if (source / "model" / "config.json").exists() else source
    origin, tokenizer = checkpoints.load(source), Tokenizer.load(source)
    if recipe.data.max_length > origin.config.positions:
        raise Problem(
            f"data.max_length is {recipe.data.max_length}, and {recipe.model.name} has positions for "
            f"{origin.config.positions} tokens. Lower it, or set data.stride to read long texts in windows."
        )
    pooling = recipe.model.pooling if recipe.model.pooling != "auto" else default_pooling(source, origin)
    examples = task.train
    scale = (0.0, 1.0)
    if examples.task == "regress":
        scale = (float(np.mean(labels_of(examples))), float(np.std(labels_of(examples))) or 1.0)
    card = Card(
        task=examples.task,
        labels=examples.names if examples.task != "regress" else (),
        pooling=pooling,
        max_length=recipe.data.max_length,
        stride=recipe.data.stride,
        scale=scale,
        columns=examples.chosen,
        lineage={
            "regard": regard.__version__,
            "torch": torch.__version__,
            "recipe": recipes.digest(recipe),
            "model": recipe.model.name,
            "revision": recipe.model.revision,
            "parent": read_card(source, origin).lineage,
            "data": task.origin,
            "seed": recipe.seed,
        },
    )
    model = build(origin, card, dropout=(recipe.model.dropout, recipe.model.attention_dropout), old_head=False)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    tell(
        f"model: {recipe.model.name}, {origin.config.layers} layers of {origin.config.heads} heads, "
        f"{sum(p.numel() for p in model.parameters()):,} weights, {pooling} pooling, on {place}"
    )
    return System(tokenizer, model.to(place), origin, card)


def learn(
    system: System,
    recipe: Recipe,
    task: Task,
    *,
    folder: Path | None = None,
    resume: bool = False,
    tell: Tell = lambda line: None,
    watch: Watch = lambda row: None,
) -> float:
    """Fine-tunes the system in place; gives the tokens per second. Without a folder nothing is written."""
    settings = recipe.train
    encodings = _encode(system, task.train, tell)
    loader = Loader(
        encodings,
        _targets(system, task.train),
        batch_tokens=settings.batch_tokens,
        batch_size=settings.batch_size,
        seed=recipe.seed,
    )
    system.model.encoder.embeddings.sparse = True
    optimizer = Optimizer(
        system.model,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        layer_decay=settings.layer_decay,
        clip=settings.clip,
    )
    plan = Plan(
        epochs=settings.epochs,
        steps=settings.steps,
        minutes=settings.minutes,
        accumulate=settings.accumulate,
        warmup=settings.warmup,
        schedule=settings.schedule,
        evaluations=settings.evaluations,
        patience=settings.patience,
        bfloat16=_bfloat16(settings.precision, system.device),
        save_seconds=settings.save_minutes * 60,
    )
    saved = states.read(folder / "state.pt") if resume and folder and (folder / "state.pt").exists() else None
    journal = Journal(folder, saved["progress"]["step"] if saved else 0)
    metric = settings.metric if settings.metric != "auto" else METRICS[system.card.task]

    def log(row: dict[str, Any]) -> None:
        journal.add(row)
        watch(row)

    outside = Outside(
        log=log,
        evaluate=(lambda: evaluation(system, task.validation, metric)) if len(task.validation.texts) else None,
        save=(lambda state: states.write_whole(folder / "state.pt", state)) if folder else None,
        keep_best=(lambda: _keep_best(system, folder)) if folder and settings.patience else lambda: None,
    )
    progress = fit(
        system.model,
        OBJECTIVES[system.card.task],
        loader,
        optimizer=optimizer,
        plan=plan,
        outside=outside,
        resume=saved,
    )
    if folder and settings.patience and (folder / "best.pt").exists():
        system.model.load_state_dict(states.read(folder / "best.pt"))
    system.model.encoder.embeddings.sparse = False
    system.model.eval()
    tokens = sum(len(e.ids) for e in encodings) * progress.epochs
    return tokens / max(1e-9, progress.seconds)


def evaluation(system: System, examples: Examples, metric: str) -> Evaluation:
    """The metric on some examples, with its interval."""
    output = system.predict(examples.texts, examples.pairs)
    found = scores(system.card.task, labels_of(examples), output, resamples=200)
    named = {s.name.lower(): s for s in found}
    if metric.lower() not in named:
        raise Problem(f"There is no metric '{metric}' for this task. Known: {', '.join(s.name for s in found)}.")
    score = named[metric.lower()]
    better = per_example(system.card.task, labels_of(examples), output)
    return Evaluation(score.name, score.value, score.low, score.high, better)


def labels_of(examples: Examples) -> NDArray[Any]:
    """The labels as the measures take them."""
    if examples.labels is None:
        raise Problem("These rows have no labels. Name the column that holds them with data.label=...")
    return np.array(examples.labels, dtype=np.float64 if examples.task == "regress" else np.int64)


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


def _targets(system: System, examples: Examples) -> NDArray[Any]:
    labels = labels_of(examples)
    if system.card.task != "regress":
        return labels
    mean, deviation = system.card.scale
    return ((labels - mean) / deviation).astype(np.float32)


def _encode(system: System, examples: Examples, tell: Tell) -> list[Encoding]:
    card = system.card
    found = system.tokenizer.encode(examples.texts, examples.pairs, max_length=card.max_length, stride=card.stride)
    lengths = [len(e.ids) for e in found]
    tell(f"tokens: {sum(lengths):,} in training, {np.mean(lengths):.0f} a text, at most {max(lengths)}")
    cut = [e.dropped for e in found if e.dropped]
    if cut:
        tell(
            f"{len(cut):,} of {len(found):,} texts are longer than {card.max_length} tokens and were cut "
            f"({sum(cut):,} tokens lost; data.stride=64 reads them in windows instead)"
        )
    if len(found) > len(examples.texts):
        tell(f"{len(found):,} windows for {len(examples.texts):,} texts")
    return found


def _bfloat16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    # On processors without the instructions bfloat16 is emulated, and slower than float32.
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _keep_best(system: System, folder: Path | None) -> None:
    assert folder is not None
    states.write_whole(folder / "best.pt", system.model.state_dict())


def _open_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    if not recipe.out:
        raise Problem("The run has no folder. Name one with --out runs/name.")
    if folder.exists() and not folder.is_dir():
        raise Problem(f"{folder} is a file, and a run needs a folder. Name another with --out.")
    if (folder / "recipe.toml").exists() and not resume:
        raise Problem(f"{folder} already holds a run. Go on with it (--resume), name another --out, or delete it.")
    folder.mkdir(parents=True, exist_ok=True)
    recipes.write(recipe, folder / "recipe.toml")


def _finish(system: System, recipe: Recipe, task: Task, folder: Path, speed: float, began: float) -> Result:
    test = task.test
    output = system.predict(test.texts, test.pairs)
    found = scores(test.task, labels_of(test), output)
    simple = baselines(test.task, task.train, test)
    looks = _looks(system, test, output)
    result = Result(folder, test.task, found, simple, speed, time.monotonic() - began, looks)
    journal = Journal(folder, None)
    journal.add({"kind": "result", **result.table()})
    report.write(
        report.Findings(
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


def _looks(system: System, test: Examples, output: NDArray[Any]) -> list[report.AttentionExample]:
    """Two right answers and two wrong ones, of texts short enough to be read."""
    right = per_example(test.task, labels_of(test), output)
    order = np.argsort(right, kind="stable")
    truth = labels_of(test)
    found: list[report.AttentionExample] = []
    for rows, most in ((order[::-1], 2), (order, 4)):
        for row in rows[:200].tolist():
            if len(found) == most:
                break
            look = system.look(test.texts[row], None if test.pairs is None else test.pairs[row])
            if 4 <= len(look.tokens) <= SHOWN_TOKENS:
                answer = system.answer(output[row])
                found.append(
                    report.AttentionExample(
                        text=test.texts[row],
                        pair=None if test.pairs is None else test.pairs[row],
                        tokens=list(look.tokens),
                        weights=look.weights,
                        truth=_word(test, truth[row]),
                        predicted=str(answer.label),
                        confidence=answer.probability if answer.probability is not None else float("nan"),
                    )
                )
    return found


def _word(examples: Examples, label: Any) -> str:
    if examples.task == "classify":
        return examples.names[int(label)]
    if examples.task == "multilabel":
        return str([name for name, on in zip(examples.names, label, strict=True) if on])
    return f"{float(label):g}"


class Journal:
    """`metrics.jsonl`: a row for whatever happened, kept in step with the state that a run resumes from."""

    def __init__(self, folder: Path | None, step: int | None) -> None:
        """Opens a folder's journal and forgets rows after a step (None: keeps all); without a folder, writes none."""
        self.path = folder / "metrics.jsonl" if folder else None
        if self.path and step is not None:
            kept = [row for row in self.rows() if step and row.get("step", 0) <= step and row["kind"] != "result"]
            self.path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row."""
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows; a line that a kill cut short is left out."""
        out = []
        if self.path and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    out.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return out
