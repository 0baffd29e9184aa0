"""A recipe carried out: from labelled rows to a folder with a trained, measured and explained model.

The folder holds `recipe.toml`, `metrics.jsonl`, `model/` and `report.html`; until the end also `state.pt`, from which a
run that was killed goes on to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard import disk, toml
from regard import recipe as recipes
from regard.batch import Encoding
from regard.card import Card, build, default_pooling, read_card
from regard.data.examples import Examples
from regard.data.loader import Loader
from regard.data.task import Task, gather, labels_of
from regard.errors import Problem
from regard.eval.results import Result, check_metric, evaluation, finish
from regard.measure.scores import headline
from regard.recipe import Recipe
from regard.system import System, open_folder, warn_of_cuts
from regard.train import state as states
from regard.train.journal import Journal
from regard.train.loop import Outside, fit, in_bfloat16
from regard.train.objectives import OBJECTIVES
from regard.train.optim import Optimizer
from regard.train.plans import Limits, Progress

Tell = Callable[[str], None]
Watch = Callable[[dict[str, Any]], None]


def train(
    recipe: Recipe, *, resume: bool = False, tell: Tell = lambda line: None, watch: Watch = lambda row: None
) -> Result:
    """Carries out a recipe in its folder; `resume` goes on where a killed run was saved, or begins where none was."""
    folder = Path(recipe.out)
    recipes.check(recipe)
    with disk.alone(folder, "training"):
        _check_folder(recipe, folder, resume)
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        task = gather(recipe.data, seed=recipe.seed)
        for line in task.said:
            tell(line)
        system = prepare(recipe, task, tell)
        # Not before everything has been read and understood, so that a mistake leaves no half-made run behind.
        disk.make_folder(folder)
        with disk.alone(folder, "training"):
            _check_folder(recipe, folder, resume)  # another process may have trained here meanwhile
            if not (folder / "recipe.toml").exists():
                toml.write(recipe, folder / "recipe.toml")
            speed = learn(system, recipe, task, folder=folder, resume=resume, tell=tell, watch=watch)
            system.save(folder / "model")
            tell(f"the model is in {folder / 'model'}")
            result = finish(system, task, folder, tokens_per_second=speed, seconds=time.monotonic() - began)
            for name in ("state.pt", "best.pt"):
                (folder / name).unlink(missing_ok=True)
    return result


def prepare(recipe: Recipe, task: Task, tell: Tell = lambda line: None) -> System:
    """A system with the checkpoint's encoder and a fresh head for the task."""
    source, origin, tokenizer = open_folder(recipe.model.name, revision=recipe.model.revision)
    before = read_card(source, origin)
    if recipe.data.max_length > origin.config.positions:
        raise Problem(
            f"data.max_length is {recipe.data.max_length}, and {recipe.model.name} has positions for "
            f"{origin.config.positions} tokens. Lower it, or leave it out."
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
        max_length=recipe.data.max_length or before.max_length,
        stride=recipe.data.stride,
        scale=scale,
        columns=examples.chosen,
        lineage={
            "regard": version("regard"),
            "torch": torch.__version__,
            "recipe": recipes.digest(recipe),
            "model": recipe.model.name,
            "revision": recipe.model.revision,
            "parent": before.lineage,
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
    """Fine-tunes the system in place and gives the tokens per second; without a folder nothing is written."""
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
    plan = Limits(
        epochs=settings.epochs,
        steps=settings.steps,
        minutes=settings.minutes,
        accumulate=settings.accumulate,
        warmup=settings.warmup,
        schedule=settings.schedule,
        evaluations=settings.evaluations,
        patience=settings.patience,
        bfloat16=in_bfloat16(settings.precision, system.device),
        save_seconds=settings.save_minutes * 60,
    )
    saved = _saved(folder, task) if resume and folder else None
    best = _Best(folder)
    if saved is None:
        best.forget()
    journal = Journal(folder, saved["progress"]["step"] if saved else 0)
    metric = settings.metric if settings.metric != "auto" else headline(system.card.task)[0]
    check_metric(system.card.task, len(system.card.labels), metric)
    if settings.patience and not len(task.validation.texts):
        raise Problem("train.patience needs evaluations, and there are no validation texts. Give some, or set it to 0.")

    def log(row: dict[str, Any]) -> None:
        journal.add(row)
        watch(row)

    outside = Outside(
        log=log,
        evaluate=(lambda: evaluation(system, task.validation, metric)) if len(task.validation.texts) else None,
        save=(lambda state: states.write_whole(folder / "state.pt", state | {"data": task.origin})) if folder else None,
        keep_best=(lambda: best.keep(system)) if settings.patience else lambda: None,
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
    if progress.epochs < settings.epochs:
        tell(f"training ended after {progress.epochs:.2f} of {settings.epochs:g} epochs: {_why(progress, recipe)}")
    if settings.patience:
        best.restore(system)
    system.model.encoder.embeddings.sparse = False
    system.model.eval()
    tokens = sum(len(e.ids) for e in encodings) * progress.epochs
    return tokens / max(1e-9, progress.seconds)


def _why(progress: Progress, recipe: Recipe) -> str:
    if progress.stopped:
        return f"{recipe.train.patience} evaluations without progress; the best weights are kept"
    if recipe.train.steps and progress.step >= recipe.train.steps:
        return f"train.steps={recipe.train.steps}"
    return f"train.minutes={recipe.train.minutes:g}"


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
    warn_of_cuts(cut, len(found), card.max_length, cure="data.stride=64 reads them in windows instead.")
    if len(found) > len(examples.texts):
        tell(f"{len(found):,} windows for {len(examples.texts):,} texts")
    return found


class _Best:
    """The best weights so far: in the run's folder, or without one in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.path = folder / "best.pt" if folder else None
        self.weights: dict[str, torch.Tensor] = {}

    def keep(self, system: System) -> None:
        if self.path:
            states.write_whole(self.path, system.model.state_dict())
        else:
            self.weights = {name: weight.clone() for name, weight in system.model.state_dict().items()}

    def restore(self, system: System) -> None:
        if self.path and self.path.exists():
            self.weights = states.read(self.path)
        if self.weights:
            system.model.load_state_dict(self.weights)

    def forget(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)


def _saved(folder: Path, task: Task) -> dict[str, Any] | None:
    """The state that a killed run has left; raises `Problem` where it was made from other data."""
    if not (folder / "state.pt").exists():
        return None
    saved = states.read(folder / "state.pt")
    if sorted(saved.pop("data").values()) != sorted(task.origin.values()):
        raise Problem(
            f"The data has changed since the run in {folder} was begun, and half a run of each is neither. Bring the "
            "old files back, or name another --out."
        )
    return saved


def _check_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    if recipes.holds_run(recipe.out, resume=resume):
        if _is_finished(folder):
            raise Problem(
                f"The run in {folder} is finished: see {folder / 'report.html'}. For another, name another --out."
            )
        if _differs(recipe, folder / "recipe.toml"):
            raise Problem(
                f"The run in {folder} was begun with another recipe, and half a run of each is neither. "
                f"Resume it as it was (regard train --resume --out {folder}), or name another --out."
            )


def _is_finished(folder: Path) -> bool:
    return not (folder / "state.pt").exists() and any(row["kind"] == "result" for row in Journal(folder, None).rows())


def _differs(recipe: Recipe, path: Path) -> bool:
    return recipes.digest(recipes.read(path, Recipe)) != recipes.digest(recipe)
