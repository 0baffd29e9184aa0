"""A run as a frozen dataclass, read from TOML, with the ranges of its numbers and a stable hash.

There are two kinds: `Recipe` fine-tunes on labelled rows, `Pretraining` learns from running text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from regard import toml
from regard.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """Where the rows are and which columns hold what; an empty name means: guess, and say so."""

    train: str = ""  # csv, tsv, jsonl, parquet (also packed: .gz, .xz, .bz2, .zst), or a hub dataset's name
    validation: str = ""  # empty: a stratified share of train
    test: str = ""  # empty: a stratified share of train
    text: str = ""
    pair: str = ""
    label: str = ""
    task: Literal["auto", "classify", "multilabel", "regress"] = "auto"
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "lines"] = "auto"  # lines: a label, a space, the text
    encoding: str = "utf-8"
    max_length: int = 0  # tokens of a text, special ones included; 0: as many as the checkpoint has read
    stride: int = 0  # 0: cut what is longer; more: windows that overlap by this many tokens
    held_out: float = 0.1  # share of train for each split that is not given


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """Which checkpoint, and how its tokens become one vector."""

    name: str = "google-bert/bert-base-uncased"
    revision: str = "main"
    pooling: Literal["auto", "first", "mean", "max"] = "auto"
    dropout: float = -1.0  # -1: what the checkpoint's config says
    attention_dropout: float = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """How the weights move, until the first of epochs, steps and minutes is used up; 0 means no limit."""

    epochs: float = 3.0
    steps: int = 0
    minutes: float = 0.0
    batch_tokens: int = 1024
    batch_size: int = 0  # texts a batch; 0: as many as batch_tokens allows
    accumulate: int = 1
    learning_rate: float = 5e-5
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the run
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip: float = 1.0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    evaluations: int = 1  # per epoch
    patience: int = 0  # evaluations without progress before the run stops; 0: never
    metric: str = "auto"
    save_minutes: float = 1.0  # between saves of the state that --resume goes on from


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides a run."""

    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    seed: int = 0
    out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecipe:
    """What is read, as which tokens."""

    corpus: str = ""  # a folder of `regard corpus build`, its plan (.toml), or files of running text
    format: Literal["auto", "text", "jsonl", "parquet", "squad", "wikipedia"] = "auto"  # of files, as the next three
    text: str = "text"  # which column of jsonl or parquet
    document: Literal["blank line", "line", "file"] = "blank line"  # of format text: what ends a document
    encoding: str = "utf-8"
    vocabulary: str = ""  # a folder of `regard vocab train`, a published model; empty: the model's, or learnt here
    size: int = 24_000  # ids of a vocabulary that is learnt here
    words: Literal["auto", "space", "zh"] = "auto"  # what finds words: by the script, spaces, jieba
    length: int = 128  # tokens of a sequence, special ones included
    begin: Literal["first", "any"] = "first"  # position of a sequence; any: by lot, so that short ones teach all
    pairs: Literal["none", "next", "order"] = "none"  # parted in two; half have a part of another text, or are swapped
    held_out: float = 0.01  # share of each language's tokens that is measured on, never learnt from
    held_out_tokens: int = 100_000  # but so many of a language at most


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRecipe:
    """The checkpoint to go on from, or the shape of a new encoder."""

    name: str = ""  # empty: fresh weights in the shape below
    revision: str = "main"
    layers: int = 6
    width: int = 256
    heads: int = 4
    inner_width: int = 1024
    positions: int = 0  # 0: as many as a sequence has tokens
    start: Literal["near", "random"] = "near"  # what counting tells of fresh words; random: Devlin et al. 2019
    dropout: float = 0.0  # while it pre-trains: a text that is seen once or twice is not learnt by heart
    attention_dropout: float = 0.0
    stored: Literal["float32", "float16"] = "float32"  # precision of the weights on disk


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingRecipe:
    """Which share of tokens is hidden, in which units, and what stands in their place."""

    rate: float = 0.15
    last_rate: float = -1.0  # which the rate goes to over the cooldown; -1: it stays
    unit: Literal["token", "word", "ngram", "span"] = "word"
    mask: float = 0.8  # becomes [MASK]
    random: float = 0.1  # becomes another token
    keep: float = 0.1  # stays


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecipe:
    """What is learnt, and how the weights move: nothing here depends on the budget but the cooldown."""

    objective: Literal["words", "replaced"] = "words"  # hidden words are guessed, or replaced tokens are detected
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: orthogonal steps for the matrices of the layers
    batch_tokens: int = 4096  # read at once; a step sums up as many of these as make its size
    step_tokens: int = 16_384  # of a step, in the end
    ramp: int = 1_000_000  # tokens: a step has batch_tokens (1 + read / ramp)^(1/2); 0: step_tokens from the start
    learning_rate: float = 0.0  # 0: 1e-3 for fresh weights, 1e-4 where a model is gone on with
    embedding_rate: float = 1.0  # times the learning rate; below 1, words stay nearer to where they began
    beta2: float = 0.999  # of AdamW: what the mean of squared gradients keeps; the less, the less far rare words go
    epsilon: float = 1e-8  # of AdamW: words with smaller gradients (all have length 1 or `clip`) move less
    warmup: int = 100  # steps
    cooldown: float = 0.2  # share of the budget over which the rate falls to nothing
    weight_decay: float = 0.01
    muon_decay: float = 1.0  # of the matrices that muon moves: all that it adds without need, it adds at full length
    clip: float = 1.0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    compile: Literal["off", "on"] = "off"  # on: fewer kernels between attentions, for large steps on a GPU
    save_minutes: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedRecipe:
    """Where replaced tokens are to be detected: the generator's size, and what detection counts (Clark et al. 2020)."""

    width: float = 0.25  # of the encoder's heads, width and inner width, as published for small and large models
    layers: float = 1.0  # of its layers
    weight: float = 50.0  # of the discriminator's loss beside the generator's


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecipe:
    """How often the model is measured on what was held out, and on how much of it."""

    times: int = 4  # in the whole run, the last at its end
    tokens: int = 20_000  # of each language, hidden as by `regard perplexity --unit` with masking.unit
    pseudo: int = 500  # tokens of each language for pseudo-perplexity, each of which costs a passage; 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Labelled rows on which the frozen vectors are tried at each evaluation."""

    name: str
    language: str = ""
    train: str
    test: str
    format: str = "auto"
    encoding: str = "utf-8"
    text: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """All that decides a pre-training run."""

    text: TextRecipe = field(default_factory=TextRecipe)
    model: ShapeRecipe = field(default_factory=ShapeRecipe)
    masking: MaskingRecipe = field(default_factory=MaskingRecipe)
    train: BudgetRecipe = field(default_factory=BudgetRecipe)
    replaced: ReplacedRecipe = field(default_factory=ReplacedRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    probe: tuple[Probe, ...] = ()
    budget: str = ""  # 25min, 2h, 3000steps, 50Mtokens, 2epochs
    seed: int = 0
    out: str = ""


Kind = TypeVar("Kind", Recipe, Pretraining)


def read(path: str | Path, kind: type[Kind]) -> Kind:
    """The recipe of a kind in a TOML file; raises `Problem` for a key or a value that it lacks."""
    table = toml.load(path, "recipe", "What is read is named by an option, and several files by a pattern in quotes.")
    if "source" in table:
        raise Problem(
            f"{path} is the plan of a corpus, and no recipe. Name it with regard pretrain --corpus {path}, or build "
            f"it: regard corpus build {path} --out corpus/."
        )
    return toml.made(kind, table, str(path))


# Least value; whether it may itself be taken; most value, which may not.
RANGES: dict[type, dict[str, tuple[float, bool, float]]] = {
    Recipe: {
        **dict.fromkeys(("train.batch_tokens", "train.accumulate"), (1, True, math.inf)),
        **dict.fromkeys(("train.learning_rate", "train.layer_decay"), (0, False, math.inf)),
        **dict.fromkeys(("train.epochs", "train.steps", "train.minutes", "train.batch_size"), (0, True, math.inf)),
        **dict.fromkeys(("train.weight_decay", "train.clip", "train.patience"), (0, True, math.inf)),
        **dict.fromkeys(("train.evaluations", "data.max_length", "data.stride", "seed"), (0, True, math.inf)),
        **dict.fromkeys(("train.warmup", "data.held_out"), (0, True, 1)),
        **dict.fromkeys(("model.dropout", "model.attention_dropout"), (-1, True, 1)),
        "train.save_minutes": (0, True, math.inf),
    },
    Pretraining: {
        **dict.fromkeys(("train.batch_tokens", "train.step_tokens", "model.layers"), (1, True, math.inf)),
        **dict.fromkeys(("model.width", "model.heads", "model.inner_width"), (1, True, math.inf)),
        **dict.fromkeys(("train.ramp", "train.warmup", "train.weight_decay", "train.clip"), (0, True, math.inf)),
        **dict.fromkeys(("train.save_minutes", "evaluation.times", "model.positions"), (0, True, math.inf)),
        **dict.fromkeys(("model.dropout", "model.attention_dropout", "text.held_out"), (0, True, 1)),
        **dict.fromkeys(("text.held_out_tokens", "evaluation.pseudo", "seed"), (0, True, math.inf)),
        **dict.fromkeys(("replaced.width", "replaced.layers", "replaced.weight"), (0, False, math.inf)),
        "evaluation.tokens": (1, True, math.inf),
        "text.length": (8, True, math.inf),
        "text.size": (10, True, 1_000_001),
        **dict.fromkeys(("train.embedding_rate", "train.epsilon"), (0, False, math.inf)),
        "train.beta2": (0.9, False, 1),  # beta1: below it, rows that rest go on faster and faster
        **dict.fromkeys(("train.learning_rate", "train.muon_decay"), (0, True, math.inf)),
        "train.cooldown": (0, True, 1),
        "masking.rate": (0, False, 1),
        "masking.last_rate": (-1, True, 1),
    },
}
FREE = {  # what decides no weight: where and when to save and to look up, and when to stop
    Recipe: ("out", "train.save_minutes"),
    Pretraining: ("out", "budget", "evaluation", "probe", "train.save_minutes", "train.cooldown"),
}


def check(recipe: Recipe | Pretraining) -> None:
    """Raises `Problem` for numbers with which no run could be carried out."""
    for key, (least, included, most) in RANGES[type(recipe)].items():
        value: Any = recipe
        for name in key.split("."):
            value = getattr(value, name)
        if not (least <= value < most) or (value == least and not included):
            above = f"at least {least}" if included else f"above {least}"
            raise Problem(f"{key} must be {above}{'' if most == math.inf else f' and below {most}'}; it is {value}.")
    if isinstance(recipe, Pretraining):
        budget(recipe.budget)
        if recipe.masking.rate * recipe.train.batch_tokens < 1:
            raise Problem(
                f"masking.rate={recipe.masking.rate} hides less than one of a batch's {recipe.train.batch_tokens:,} "
                "tokens. Raise it, or train.batch_tokens."
            )
        names = [probe.name for probe in recipe.probe]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Problem(f"Two probes are named '{twice}'. Name each for what it asks.")
        if recipe.train.objective == "replaced" and recipe.text.pairs != "none":
            raise Problem(
                "Replaced tokens are detected in texts of one part. Set text.pairs=none, or train.objective=words."
            )
    elif not (recipe.train.epochs or recipe.train.steps or recipe.train.minutes):
        raise Problem("The run would never end: give train.epochs, train.steps or train.minutes above 0.")


def idle(recipe: Pretraining) -> list[str]:
    """What a recipe says to no effect, each with the reason."""
    said, usual = (toml.flat(dataclasses.asdict(one)) for one in (recipe, Pretraining()))
    own = bool(recipe.model.name)
    reasons = {
        "model.start": own and "for weights are not fresh",
        "text.size": (own or bool(recipe.text.vocabulary)) and "for no vocabulary is learnt",
        "train.muon_decay": recipe.train.optimizer != "muon" and "for train.optimizer is another",
        **dict.fromkeys(
            ("replaced.width", "replaced.layers", "replaced.weight"),
            recipe.train.objective != "replaced" and "for train.objective is another",
        ),
    }
    return [f"{key}={said[key]}: left aside, {why}" for key, why in reasons.items() if why and said[key] != usual[key]]


def holds_run(out: str, *, resume: bool) -> bool:
    """Whether there is a run to go on with; raises `Problem` for no folder, and for a run that is not gone on with."""
    folder = Path(out)
    if not out:
        raise Problem("The run has no folder. Name one with --out runs/name.")
    if folder.exists() and not folder.is_dir():
        raise Problem(f"{folder} is a file, and a run needs a folder. Name another with --out.")
    if not (folder / "recipe.toml").exists():
        return False
    if not resume:
        raise Problem(f"{folder} already holds a run. Go on with it (--resume), name another --out, or delete it.")
    return True


def budget(said: str) -> tuple[float, str]:
    """An amount and its unit, one of minutes, steps, tokens, epochs; raises `Problem` for anything else."""
    form = re.fullmatch(r"\s*((?:\d{1,3}(?:[,_]\d{3})+|\d+)?(?:\.\d+)?)\s*([A-Za-z]+(?: [A-Za-z]+)?)\s*", said)
    number, word = (form[1].replace(",", ""), form[2].replace(" ", "")) if form else ("", "")
    factor = word[:1] if word.lower() not in UNITS and word[:1] in FACTORS else ""
    unit, each = UNITS.get(word.removeprefix(factor).lower(), ("", 0.0))
    amount = float(number) * each * FACTORS[factor] if number and unit else 0.0
    if amount <= 0:
        shown = f"'{said}' is none" if said else "it has none"
        raise Problem(
            f"The run needs a budget, and {shown}. Write for example budget=25min, budget=2h, budget=3000steps, "
            "budget=50Mtokens or budget=2epochs."
        )
    return amount, unit


UNITS = {
    **dict.fromkeys(("s", "second", "seconds"), ("minutes", 1 / 60)),
    **dict.fromkeys(("min", "minute", "minutes"), ("minutes", 1.0)),
    **dict.fromkeys(("h", "hour", "hours"), ("minutes", 60.0)),
    **{name: (f"{name.removesuffix('s')}s", 1.0) for one in ("step", "token", "epoch") for name in (one, f"{one}s")},
}
FACTORS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


def digest(recipe: Recipe | Pretraining) -> str:
    """Twelve hex digits that change when anything that decides the weights does; where and when to save does not."""
    return hashlib.sha256(json.dumps(_decisive(recipe), sort_keys=True).encode()).hexdigest()[:12]


def difference(before: Recipe | Pretraining, after: Recipe | Pretraining) -> str:
    """What decides the weights and is another now, as `seed=0, now 1`."""
    one, other = (toml.flat(_decisive(recipe)) for recipe in (before, after))
    return ", ".join(f"{key}={one[key]}, now {other[key]}" for key in one if one[key] != other[key])


def _decisive(recipe: Recipe | Pretraining) -> dict[str, Any]:
    table = dataclasses.asdict(recipe)
    for key in FREE[type(recipe)]:
        *above, last = key.split(".")
        del (table[above[0]] if above else table)[last]
    return table
