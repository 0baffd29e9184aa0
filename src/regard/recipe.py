"""A run as a frozen dataclass, to and from TOML, with `key=value` overrides and a stable hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from regard import disk
from regard.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """Where the rows are and which columns hold what; an empty name means: guess, and say so."""

    train: str = ""  # csv, tsv, jsonl, parquet (also .gz), or a hub dataset's name
    validation: str = ""  # empty: a stratified share of train
    test: str = ""  # empty: a stratified share of train
    text: str = ""
    pair: str = ""
    label: str = ""
    task: Literal["auto", "classify", "multilabel", "regress"] = "auto"
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "lines"] = "auto"  # lines: a label, a space, the text
    encoding: str = "utf-8"
    max_length: int = 0  # tokens of a text, special ones included; 0: as many as the checkpoint has positions for
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


def read(path: str | Path) -> Recipe:
    """The recipe in a TOML file; raises `Problem` for a key or a value that no recipe has."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Problem(
            f"There is no recipe at {path}. Name an existing .toml file, or use --data and --model."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"The recipe {path} is not valid TOML: {error}. Mend that line.") from None
    return override(Recipe(), _flat(table))


def write(recipe: Recipe, path: str | Path) -> None:
    """Writes every field, defaults too, so that the file alone says what ran."""
    top = {k: v for k, v in dataclasses.asdict(recipe).items() if not isinstance(v, dict)}
    tables = {k: v for k, v in dataclasses.asdict(recipe).items() if isinstance(v, dict)}
    lines = [f"{k} = {_toml(v)}" for k, v in top.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
    disk.write_text(path, "\n".join(lines) + "\n")


def override(recipe: Recipe, changes: Mapping[str, Any] | Iterable[str]) -> Recipe:
    """The recipe with `train.epochs=2`-like changes, as strings or as a mapping; words become the field's type."""
    pairs = changes.items() if isinstance(changes, Mapping) else (_split(c) for c in changes)
    for key, value in pairs:
        recipe = _set(recipe, key.split("."), value, key)
    return recipe


RANGES = {  # least value; whether it may itself be taken; most value, which may not
    **dict.fromkeys(("train.batch_tokens", "train.accumulate"), (1, True, math.inf)),
    **dict.fromkeys(("train.learning_rate", "train.layer_decay"), (0, False, math.inf)),
    **dict.fromkeys(("train.epochs", "train.steps", "train.minutes", "train.batch_size", "seed"), (0, True, math.inf)),
    **dict.fromkeys(("train.weight_decay", "train.clip", "train.patience", "train.save_minutes"), (0, True, math.inf)),
    **dict.fromkeys(("train.evaluations", "data.max_length", "data.stride"), (0, True, math.inf)),
    **dict.fromkeys(("train.warmup", "data.held_out"), (0, True, 1)),
    **dict.fromkeys(("model.dropout", "model.attention_dropout"), (-1, True, 1)),
}


def check(recipe: Recipe) -> None:
    """Raises `Problem` for numbers with which no run could be carried out."""
    for key, (least, included, most) in RANGES.items():
        value: Any = recipe
        for name in key.split("."):
            value = getattr(value, name)
        if not (least <= value < most) or (value == least and not included):
            above = f"at least {least}" if included else f"above {least}"
            raise Problem(f"{key} must be {above}{'' if most == math.inf else f' and below {most}'}; it is {value}.")
    if not (recipe.train.epochs or recipe.train.steps or recipe.train.minutes):
        raise Problem("The run would never end: give train.epochs, train.steps or train.minutes above 0.")


def digest(recipe: Recipe) -> str:
    """Twelve hex digits that change when anything that decides the weights does; where and when to save does not."""
    table = dataclasses.asdict(recipe)
    del table["out"], table["train"]["save_minutes"]
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:12]


def _split(change: str) -> tuple[str, str]:
    key, sign, value = change.partition("=")
    if not sign:
        raise Problem(f"'{change}' is no override. Write key=value, for example train.epochs=2.")
    return key.strip(), value.strip()


def _set(part: Any, path: list[str], value: Any, whole: str) -> Any:
    hints = typing.get_type_hints(type(part))
    if path[0] not in hints:
        raise Problem(f"A recipe has no key '{whole}'. Known here: {', '.join(hints)}.")
    kind = hints[path[0]]
    if dataclasses.is_dataclass(kind) != (len(path) > 1):
        raise Problem(f"'{whole}' does not name one value. Write for example train.epochs=2.")
    new = _set(getattr(part, path[0]), path[1:], value, whole) if len(path) > 1 else _convert(value, kind, whole)
    return dataclasses.replace(part, **{path[0]: new})


def _convert(value: Any, kind: Any, key: str) -> Any:
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise Problem(f"{key} can be {', '.join(typing.get_args(kind))}; '{value}' is none of them.")
        return value
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        names = {int: "a whole number", float: "a number", str: "text"}
        raise Problem(f"{key} must be {names[kind]}; '{value}' is not.") from None


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
