"""A pre-training recipe carried out under its budget: from running text to an encoder that guesses hidden words.

The folder holds `recipe.toml`, `metrics.jsonl`, `model/`, `report.html`, and what was made of the text where that has
no folder of its own. `state.pt` is what a killed run goes on from, to the same bits; `trunk.pt` what a larger budget
goes on from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regard import disk, toml
from regard import recipe as recipes
from regard.card import Card, build, read_card
from regard.data.ahead import ahead
from regard.data.examples import choose
from regard.data.masking import Masking
from regard.data.passages import drawn
from regard.data.running_text import RunningText, Share, gather
from regard.data.sources import read
from regard.errors import Problem
from regard.eval import pretraining as pages
from regard.eval.held_out import HeldOut, Rows
from regard.eval.words import Guesses
from regard.lessons import Words, lesson_of
from regard.measure.scores import Score
from regard.model import checkpoint as checkpoints
from regard.model.config import EncoderConfig
from regard.model.cost import peak
from regard.model.precision import has_bfloat16
from regard.model.start import know_neighbours, look_nearby
from regard.recipe import Pretraining, ShapeRecipe
from regard.system import System, open_folder
from regard.text.tokenizer import Tokenizer
from regard.train import state as states
from regard.train.compile import compile_training
from regard.train.journal import Journal
from regard.train.loop import Evaluation, Outside, fit, in_bfloat16
from regard.train.optim import BETAS, Optimizer
from regard.train.plans import Budget, Progress

STATES = "state.pt", "trunk.pt"  # what a run goes on from, the first that is there
RATES = 1e-3, 1e-4  # of fresh weights; of a model that is gone on with, which larger steps make forget what it knows
SIZES = "layers", "width", "heads", "inner_width", "positions"
COUNTED = 100_000_000  # tokens of which neighbours are counted, by lot of documents: more say little more
FEWEST, MOST = 10, 2**15  # times that a word comes whose neighbours are counted; words, for 8 bytes of memory a pair

Parent = tuple[Path, checkpoints.Checkpoint, Tokenizer]
Tell = Callable[[str], None]
Watch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a run came to."""

    folder: Path
    guesses: list[Guesses]
    probes: dict[str, Score]
    scores: dict[str, Score]  # of what else was learnt
    tokens: int
    seconds: float

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": str(self.folder), "tokens": self.tokens, "seconds": self.seconds,
            "languages": [found.table() for found in self.guesses],
            "probes": {name: score.value for name, score in self.probes.items()},
            "scores": {name: score.value for name, score in self.scores.items()},
        }  # fmt: skip


def pretrain(
    recipe: Pretraining,
    *,
    resume: bool = False,
    tell: Tell = lambda line: None,
    watch: Watch = lambda row: None,
    share: Share = lambda what: lambda done: None,
) -> Pretrained:
    """Carries out a recipe in its folder.

    `resume` goes on where a killed run was saved, or from the trunk of a finished one to a larger budget. Raises
    `Problem` for a folder that holds another run.
    """
    recipes.check(recipe)
    _rule(recipe)  # what is wrong with it is said before anything is read
    parent = _parent(recipe)
    folder = Path(recipe.out)
    with disk.alone(folder, "training"):
        _check_folder(recipe, folder, resume)
    probes = {made.name: _rows(made) for made in recipe.probe}
    disk.make_folder(folder)
    with disk.alone(folder, "training"), torch.random.fork_rng():
        _check_folder(recipe, folder, resume)  # another process may have trained here meanwhile
        torch.manual_seed(recipe.seed)
        text = gather(recipe.text, parent and parent[2], folder, share)
        for line in (*recipes.idle(recipe), *text.said):
            tell(line)
        held = text.tokens.held_out(recipe.text.held_out, recipe.text.held_out_tokens)
        tell(f"held out: {text.tokens.sizes[held].sum():,} tokens in {held.sum():,} of {len(held):,} documents")
        if not held.any():
            said = "hidden words are not measured, for nothing is held out"
            if recipe.text.held_out and recipe.text.held_out_tokens:
                said += ": in files of text an empty line ends a document (text.document=line: each line is one)"
            tell(said)
        lesson = prepare(recipe, text, held, tell, parent)
        return learn(lesson, held, probes, folder=folder, resume=resume, tell=tell, watch=watch, share=share)


def _parent(recipe: Pretraining) -> Parent | None:
    """The checkpoint to go on from, if any; raises `Problem` for one, or a shape, with which no run can be carried out.

    It is asked for before text is read, which may take an hour.
    """
    shape = recipe.model
    found = open_folder(shape.name, revision=shape.revision) if shape.name else None
    if found is None and shape.width % shape.heads:
        raise Problem(f"model.width={shape.width} cannot be shared by model.heads={shape.heads}. Change one.")
    positions = found[1].config.positions if found else shape.positions or recipe.text.length
    if recipe.text.length > positions:
        raise Problem(
            f"text.length is {recipe.text.length}, and the model has positions for {positions} tokens. Lower it."
        )
    return found


def prepare(
    recipe: Pretraining, text: RunningText, held: NDArray[np.bool_], tell: Tell, parent: Parent | None
) -> Words:
    """The encoder to go on with, or a fresh one, with all that the recipe's lesson adds to it."""
    shape, length, kind = recipe.model, recipe.text.length, lesson_of(recipe)
    before = Card(max_length=length)
    if parent is not None:
        source, origin, own = parent
        before = read_card(source, origin)
        if text.tokenizer.size > origin.config.vocabulary:
            raise Problem(
                f"The vocabulary has {text.tokenizer.size:,} ids and {shape.name} has vectors for "
                f"{origin.config.vocabulary:,}. Leave text.vocabulary out, and it is the model's own."
            )
        other = next((n for n in range(text.tokenizer.size) if text.tokenizer.token(n) != own.token(n)), None)
        if other is not None:
            raise Problem(
                f"Token {other:,} is '{text.tokenizer.token(other)}' in the vocabulary and '{own.token(other)}' in "
                f"{shape.name}, whose vectors would stand for other words. Leave text.vocabulary out, and it is the "
                "model's own."
            )
        sizes = {key: (getattr(shape, key), getattr(ShapeRecipe(), key), getattr(origin.config, key)) for key in SIZES}
        if aside := [f"model.{key}={asked}" for key, (asked, *same) in sizes.items() if asked not in same]:
            tell(f"{', '.join(aside)}: left aside, for {shape.name} has a shape of its own")
    else:
        origin = checkpoints.blank(
            EncoderConfig(
                vocabulary=text.tokenizer.size, width=shape.width, layers=shape.layers, heads=shape.heads,
                inner_width=shape.inner_width, positions=shape.positions or length,
            )
        )  # fmt: skip
    # Positions beyond have learnt nothing, unless texts began anywhere: then texts twice as long are read no worse.
    reach = min(2 * length, origin.config.positions) if recipe.text.begin == "any" else length
    card = Card(
        pooling=kind.pooling,
        max_length=max(reach, before.max_length),
        lineage={
            "regard": version("regard"), "torch": torch.__version__, "recipe": recipes.digest(recipe),
            "model": shape.name, "parent": before.lineage, "text": text.origin, "budget": recipe.budget,
            "seed": recipe.seed,
        },
    )  # fmt: skip
    model = build(origin, card, dropout=(shape.dropout, shape.attention_dropout))
    place = "cuda" if torch.cuda.is_available() else "cpu"
    config = origin.config
    blank = checkpoints.blank(config, stored=getattr(torch, shape.stored))
    kept = {key: value for key, value in origin.settings.items() if key not in checkpoints.DTYPES}
    origin = replace(blank, settings=blank.settings | kept | {"architectures": [kind.architecture]})
    lesson = kind(System(text.tokenizer, model.to(place), origin, card), recipe, text, held)
    for line in lesson.said:
        tell(line)
    tell(
        f"model: {shape.name or 'fresh weights'}, {config.layers} layers of {config.heads} heads, width "
        f"{config.width}, {sum(p.numel() for p in lesson.trained.parameters()):,} weights, on {place}"
    )
    return lesson


def start_near(lesson: Words, share: Share) -> None:
    """Fresh heads look nearby, and words that come often enough begin with vectors that know their neighbours."""
    encoder, tokens = lesson.model.encoder, lesson.text.tokens
    device = lesson.system.device
    encoder.to("cpu")  # where text is counted, and whose lots are the same wherever the encoder learns
    look_nearby(encoder)
    words = lesson.counts.argsort(stable=True)[::-1][:MOST]
    words = np.sort(words[lesson.counts[words] >= FEWEST])
    if len(words):
        learnt, some = np.flatnonzero(~lesson.held), np.zeros_like(lesson.held)
        some[learnt[drawn(tokens.sizes[learnt], np.zeros(len(learnt)), COUNTED, lesson.recipe.seed)]] = True
        near = tokens.neighbours(
            some, words, weights=tokens.drawn(lesson.text.times), advance=share("counting neighbours")
        )
        know_neighbours(encoder, torch.from_numpy(words), torch.from_numpy(near))
    encoder.to(device)


def _plan(recipe: Pretraining, device: torch.device) -> Budget:
    """When the run ends, how fast it learns, and when it looks up."""
    amount, unit = recipes.budget(recipe.budget)
    settings = recipe.train
    return Budget(
        amount=amount, unit=unit, warmup=settings.warmup, cooldown=settings.cooldown,
        batch_tokens=settings.batch_tokens, most=settings.step_tokens, ramp=settings.ramp,
        evaluations=recipe.evaluation.times, bfloat16=in_bfloat16(settings.precision, device),
        save_seconds=settings.save_minutes * 60,
    )  # fmt: skip


def _optimizer(recipe: Pretraining, trained: nn.Module) -> Optimizer:
    settings = recipe.train
    return Optimizer(
        trained, learning_rate=settings.learning_rate or RATES[bool(recipe.model.name)],
        weight_decay=settings.weight_decay, layer_decay=1.0,
        clip=settings.clip, muon=settings.optimizer == "muon", muon_decay=settings.muon_decay,
        embedding_rate=settings.embedding_rate, betas=(BETAS[0], settings.beta2), epsilon=settings.epsilon,
    )  # fmt: skip


def _rule(recipe: Pretraining) -> Masking:
    """Which tokens are hidden; raises `Problem` for what cannot be asked."""
    masking = recipe.masking
    last = masking.rate if masking.last_rate < 0 else masking.last_rate
    return Masking((masking.rate, last), masking.unit, masking.mask, masking.random, masking.keep)


def learn(
    lesson: Words,
    held: NDArray[np.bool_],
    probes: dict[str, tuple[Rows, Rows]],
    *,
    folder: Path,
    resume: bool,
    tell: Tell,
    watch: Watch,
    share: Share,
) -> Pretrained:
    """Trains until the budget is spent, and measures on what was held out."""
    system, recipe, text = lesson.system, lesson.recipe, lesson.text
    loader = lesson.batches(_rule(recipe), ~held, anywhere=recipe.text.begin == "any")
    plan, optimizer = _plan(recipe, system.device), _optimizer(recipe, lesson.trained)
    if plan.bfloat16 and not has_bfloat16(system.device):
        tell("bfloat16 is emulated on this device, and slower than train.precision=float32")
    if recipe.train.compile == "on":
        compile_training(lesson.trained)
        tell("layers are compiled in the first steps, which takes up to a minute")
    saved = _saved(folder, recipe, text, plan) if resume else None
    if saved:
        tell(f"goes on from step {saved['progress']['step']:,}, after {saved['progress']['tokens']:,} tokens")
    toml.write(recipe, folder / "recipe.toml")  # now that nothing has refused it
    if saved is None and recipe.model.start == "near" and not recipe.model.name:
        start_near(lesson, share)
    journal = Journal(folder, saved["progress"]["step"] if saved else 0)
    measure = HeldOut(system, recipe, text, held, probes)
    precision = torch.bfloat16 if plan.bfloat16 else torch.float32
    most = peak(system.device, precision)
    each = lesson.operations(loader.lengths, recipe.masking.rate) / loader.lengths.sum()
    tell(
        f"budget: {recipe.budget}; {each / 1e6:,.1f} million operations a token; this machine does "
        f"{most / 1e9:,.0f} billion a second in {str(precision).removeprefix('torch.')}"
    )

    def log(row: dict[str, Any]) -> None:
        if row["kind"] == "step":
            speed = row["tokens_per_second"] * each
            left = row["seconds"] * (1 / max(1e-9, row["progress"]) - 1)
            row |= {"operations_per_second": speed, "share_of_peak": speed / most, "seconds_left": left}
        journal.add(row)
        watch(row)

    def keep(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda state: states.write_whole(folder / name, state | {"text": text.origin, "ending": _ending(recipe)})

    def evaluate() -> Evaluation:
        found = measure(lesson.guesser, lesson.scores, bfloat16=plan.bfloat16)
        lesson.save(folder)
        return found

    progress = fit(
        lesson.trained,
        lesson.objective(),
        ahead(loader, system.device) if recipe.masking.last_rate < 0 else loader,  # else the rate is known here alone
        optimizer=optimizer,
        plan=plan,
        outside=Outside(
            log=log,
            evaluate=evaluate if plan.evaluations and measure.something else None,
            save=keep("state.pt"),
            branch=keep("trunk.pt"),
        ),
        resume=saved,
    )
    if not (measure.guesses or measure.probes):  # no evaluation was asked for, or a kill came after the last
        evaluate()
    return _finish(lesson, measure, progress, journal, folder, tell)


def _finish(
    lesson: Words, measure: HeldOut, progress: Progress, journal: Journal, folder: Path, tell: Tell
) -> Pretrained:
    """Writes what the run came to."""
    recipe = lesson.recipe
    if progress.step < recipe.train.warmup:
        tell(
            f"the budget ended in step {progress.step:,} of {recipe.train.warmup:,} in which the learning rate rises: "
            "what is learnt so is little. Give more, or a smaller train.warmup"
        )
    shown = pages.samples(lesson.guesser, lesson.system.tokenizer, measure.passages, unit=recipe.masking.unit)
    pages.write(
        folder / "report.html", title=folder.name, found=measure.guesses, scores=measure.scores, probes=measure.probes,
        shown=shown, guesser=lesson.who, history=journal.rows(), said=lesson.text.said,
        recipe=(folder / "recipe.toml").read_text(encoding="utf-8"),
    )  # fmt: skip
    row = {"kind": "result", "step": progress.step, "tokens": progress.tokens, "seconds": progress.seconds}
    journal.add(row | measure.more | {"ending": _ending(recipe)})
    (folder / "state.pt").unlink(missing_ok=True)
    tell(f"the model is in {folder / 'model'}, what it learnt in {folder / 'report.html'}")
    return Pretrained(folder, measure.guesses, measure.probes, measure.scores, progress.tokens, progress.seconds)


def _rows(made: recipes.Probe) -> tuple[Rows, Rows]:
    """The rows to train and to test a probe on."""
    out = []
    for path in (made.train, made.test):
        table = read(path, format=made.format, encoding=made.encoding)
        examples = choose(table, text=made.text, pair="", label=made.label, task="classify")
        out.append((examples.texts, [examples.names[int(number)] for number in examples.labels or ()]))
    return out[0], out[1]


def _ending(recipe: Pretraining) -> str:
    """What decides a run's cooldown, where its trunk is given."""
    amount, unit = recipes.budget(recipe.budget)
    return f"{amount:g} {unit}, cooldown {recipe.train.cooldown:g}"


def _saved(folder: Path, recipe: Pretraining, text: RunningText, plan: Budget) -> dict[str, Any] | None:
    """The state to go on from: of the killed run, or where its end had begun under another budget, of its trunk."""
    for name in STATES:
        if not (folder / name).exists():
            continue
        saved = states.read(folder / name)
        if saved.pop("text") != text.origin:
            raise Problem(
                f"The text has changed since the run in {folder} was begun, and half a run of each is neither. Bring "
                "the old files back, or name another --out."
            )
        same, now = saved.pop("ending") == _ending(recipe), saved["progress"]
        if same or not now["cooling"]:
            if not same and plan.cooled(plan.progress(Progress(**now))) > 0:
                raise Problem(
                    f"The run in {folder} has gone on for {now['step']:,} steps, {now['tokens']:,} tokens and "
                    f"{now['seconds'] / 60:,.1f} minutes before its end, too long for this budget. Give a larger one."
                )
            return saved
    return None


def _check_folder(recipe: Pretraining, folder: Path, resume: bool) -> None:
    if not recipes.holds_run(recipe.out, resume=resume):
        return
    before = recipes.read(folder / "recipe.toml", Pretraining)
    # Not by the recipe: one with a larger budget is written before its run has begun.
    endings = [row["ending"] for row in Journal(folder, None).rows() if row["kind"] == "result"]
    if _ending(recipe) in endings and not (folder / "state.pt").exists():
        raise Problem(
            f"The run in {folder} is finished: its model is in {folder / 'model'}. To go on, give a larger budget, for "
            f"example regard pretrain --resume --out {folder} budget=2h."
        )
    if endings and not any((folder / name).exists() for name in STATES):
        raise Problem(f"The run in {folder} is finished, and its trunk.pt is gone: nothing is left to go on from.")
    if recipes.digest(before) != recipes.digest(recipe):
        raise Problem(
            f"The run in {folder} was begun with another recipe ({recipes.difference(before, recipe)}), and half a run "
            f"of each is neither. Change its budget alone (regard pretrain --resume --out {folder} budget=2h), or name "
            "another --out."
        )
