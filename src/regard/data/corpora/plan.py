"""What a corpus is made of and how, read from TOML: sources, cleaning, duplicates, the mix."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from regard.data.sources import locate
from regard.errors import Problem, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files of one origin; the counts and the weight in the mix go by its name."""

    name: str
    path: str  # relative to the TOML; * and ** stand for many files
    format: Literal["auto", "text", "jsonl", "parquet", "squad", "wikipedia"] = "auto"
    language: Literal["", "en", "zh"] = ""  # empty: any of them; given: a document in another is dropped
    text: str = "text"  # which column of jsonl or parquet
    document: Literal["blank line", "line", "file"] = "blank line"  # of format text: what ends a document
    encoding: str = "utf-8"
    weight: float = 1.0  # how many times its share of the mix it is drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """Thresholds of cleaning; 0 or 1, whichever can never be passed, turns a filter off."""

    repair: bool = True  # text that was decoded wrongly, entities, control characters
    unwrap: bool = True  # lines of one width, broken within sentences, joined again
    sentences: bool = True  # lines parted into sentences
    chinese: Literal["keep", "simplified", "traditional"] = "keep"
    boilerplate: bool = True  # lines of navigation, rights and licences taken out
    lines: tuple[str, ...] = ()  # regular expressions of whole lines that are to be taken out as well
    words: int = 5  # of an English document at least
    characters: int = 10  # Chinese ones of a Chinese document at least
    word_length: tuple[float, float] = (3.0, 10.0)  # mean of an English document of 50 words or more, from and to
    letters: float = 0.5  # share of letters and digits in all that is no space, at least
    symbols: float = 0.2  # runs of number signs and ellipses for each word, at most
    alphabetic: float = 0.8  # share of English words with a letter, at least
    stop_words: int = 2  # of the twelve commonest English words, at least so many, where there are 50 words or more
    bullets: float = 0.9  # share of lines that begin with one, at most
    ellipses: float = 0.3  # share of lines that end in one, at most
    repeated_lines: float = 0.3  # share of characters in lines that stood before, at most
    repeated_phrase: float = 0.18  # share of the commonest run of three words, or of ten Chinese characters, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Which documents count as the same: exact ones in letters and digits alone, near ones by their phrases."""

    exact: bool = True
    near: bool = True
    similarity: float = 0.8  # estimated share of phrases in common from which two documents are near duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How often each group is drawn: its share is its size to the power of the temperature."""

    temperature: float = 1.0  # 1: as it is; 0: all alike
    by: Literal["source", "language"] = "source"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a corpus."""

    sources: tuple[Source, ...]
    clean: Clean = field(default_factory=Clean)
    duplicates: Duplicates = field(default_factory=Duplicates)
    mix: Mix = field(default_factory=Mix)
    folder: Path = Path()  # where paths of sources begin


def read(path: str | Path) -> Plan:
    """The plan in a TOML file; raises `Problem` for a key or a value that no plan has."""
    path = locate(path)
    if path.suffix != ".toml":
        raise Problem(
            f"{path} is no plan, which is a .toml file that names sources: [[source]] with a name and a path for each. "
            f"A file of text is learnt from without one: regard pretrain --corpus {path}."
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"{path} is not valid TOML: {error}. Mend that line.") from None
    except OSError as error:
        raise Problem(
            f"{path} cannot be read: {error.strerror}. Name a file of sources, such as corpora.toml."
        ) from None
    parts: dict[str, type] = {"clean": Clean, "duplicates": Duplicates, "mix": Mix}
    for key in table:
        if key not in ("source", *parts):
            raise Problem(_unknown(str(path), key, ("source", *parts)))
    rows = table.get("source", [])
    if not isinstance(rows, list) or not rows:
        raise Problem(f"{path} names no source. Write [[source]] with a name and a path for each.")
    sources = tuple(_part(Source, row, f"source {number} of {path}") for number, row in enumerate(rows, 1))
    names = [source.name for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Problem(f"{path} has two sources named '{twice[0]}'. Give each a name of its own.")
    made = {name: _part(kind, table.get(name, {}), f"[{name}] of {path}") for name, kind in parts.items()}
    plan = Plan(sources, folder=path.parent, **made)
    _check(plan, path)
    return plan


def files(plan: Plan, source: Source) -> list[Path]:
    """The files of a source in the order of their names; raises `Problem` where there is none."""
    path = plan.folder / Path(source.path).expanduser()
    if not glob.has_magic(source.path) or path.exists():
        path = locate(path)
        if path.is_dir():
            raise Problem(f"Source {source.name}: {path} is a folder. Name its files, for example {path}/*.txt.")
        return [_readable(path, source)]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]  # noqa: PTH207
    if not found:
        begins = plan.folder.resolve()
        raise Problem(f"Source {source.name}: no file is named {path}. Check the path; it begins at {begins}.")
    return [_readable(path, source) for path in found]


def _readable(path: Path, source: Source) -> Path:
    if not os.access(path, os.R_OK):
        raise Problem(f"Source {source.name}: {path} cannot be read. Check its permissions.")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise Problem(f"Source {source.name}: the name of {str(path)!r} is no UTF-8. Rename that file.") from None
    return path


def _part(kind: type, row: Any, where: str) -> Any:
    """A dataclass of what a table says, each value of its field's kind."""
    if not isinstance(row, Mapping):
        raise Problem(f"{where[0].upper()}{where[1:]} is no table. Write key = value lines below its name.")
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in row.items():
        if key not in hints:
            raise Problem(_unknown(where, key, hints))
        values[key] = _converted(value, hints[key], f"{key} in {where}")
    missing = [
        part.name for part in dataclasses.fields(kind) if part.name in ("name", "path") and not row.get(part.name)
    ]
    if missing:
        raise Problem(f'{where[0].upper()}{where[1:]} has no {missing[0]}. Write for example {missing[0]} = "novels".')
    return kind(**values)


def _unknown(where: str, key: str, known: Any) -> str:
    return f"There is no key '{key}' in {where}. {nearest(key, known)}Known here: {', '.join(known)}."


def _converted(value: Any, kind: Any, what: str) -> Any:
    if typing.get_origin(kind) is Literal:
        known = typing.get_args(kind)
        if value not in known:
            shown = ", ".join(repr(word) for word in known)
            raise Problem(f"{what} can be {shown}; {value!r} is none of them. {nearest(str(value), known)}".strip())
        return value
    if kind == tuple[str, ...]:
        if not isinstance(value, list):
            raise Problem(f"{what} must be a list, as in ['Page \\d+']; it is {value!r}.")
        return tuple(_expression(item, what) for item in value)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or len(value) != 2:
            raise Problem(f"{what} must be two numbers, from and to, as in [3, 10]; it is {value!r}.")
        return tuple(_converted(item, float, what) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
        raise Problem(f"{what} must be {names[kind]}; {value!r} is not.")
    return value


def _expression(value: Any, what: str) -> str:
    try:
        re.compile(_converted(value, str, f"each of {what}"))
    except re.error as error:
        raise Problem(f"{value!r}, of {what}, is no regular expression: {error}. Mend it.") from None
    return str(value)


def _check(plan: Plan, path: Path) -> None:
    """Raises `Problem` for numbers out of range."""
    shares = ("letters", "alphabetic", "bullets", "ellipses", "repeated_lines", "repeated_phrase")
    ranges: list[tuple[str, float, float, float | None]] = [
        (f"clean.{name}", getattr(plan.clean, name), 0.0, 1.0) for name in shares
    ]
    ranges += [(f"clean.{name}", getattr(plan.clean, name), 0.0, None) for name in ("words", "characters", "symbols")]
    ranges += [("duplicates.similarity", plan.duplicates.similarity, 0.5, 1.0)]
    ranges += [("mix.temperature", plan.mix.temperature, 0.0, None)]
    ranges += [(f"the weight of {source.name}", source.weight, 0.0, None) for source in plan.sources]
    for name, value, least, most in ranges:
        if not (value >= least and (most is None or value <= most) and value != float("inf")):
            bounds = f"at least {least:g}" if most is None else f"from {least:g} to {most:g}"
            raise Problem(f"{name} in {path} must be {bounds}; it is {value}.")
    if not any(source.weight for source in plan.sources):
        raise Problem(f"Every source of {path} has weight 0. Give at least one a weight above 0.")
