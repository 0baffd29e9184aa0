"""What a corpus is made of and how, read from TOML: sources, cleaning, duplicates, the mix."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from regard import toml
from regard.disk import locate
from regard.errors import Problem


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

    source: tuple[Source, ...]
    clean: Clean = field(default_factory=Clean)
    duplicates: Duplicates = field(default_factory=Duplicates)
    mix: Mix = field(default_factory=Mix)
    folder: Path = Path()  # where paths of sources begin, itself relative to the TOML


def read(path: str | Path) -> Plan:
    """The plan in a TOML file; raises `Problem` for a key or a value that no plan has."""
    table = toml.load(
        path, "plan", "A plan names sources: [[source]] with a name and a path for each. A file of text is learnt from "
        f"without one: regard pretrain --corpus {path}.",
    )  # fmt: skip
    if not isinstance(table.get("source"), list) or not table["source"]:
        raise Problem(f"{path} names no source. Write [[source]] with a name and a path for each.")
    plan = toml.made(Plan, table, str(path))
    names = [source.name for source in plan.source]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Problem(f"{path} has two sources named '{twice[0]}'. Give each a name of its own.")
    _check(plan, str(path))
    return dataclasses.replace(plan, folder=Path(path).expanduser().parent / plan.folder.expanduser())


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


def _check(plan: Plan, path: str) -> None:
    """Raises `Problem` for numbers out of range, and for what is no regular expression."""
    for line in plan.clean.lines:
        try:
            re.compile(line)
        except re.error as error:
            raise Problem(f"{line!r}, of clean.lines in {path}, is no regular expression: {error}. Mend it.") from None
    shares = ("letters", "alphabetic", "bullets", "ellipses", "repeated_lines", "repeated_phrase")
    ranges: list[tuple[str, float, float, float | None]] = [
        (f"clean.{name}", getattr(plan.clean, name), 0.0, 1.0) for name in shares
    ]
    ranges += [(f"clean.{name}", getattr(plan.clean, name), 0.0, None) for name in ("words", "characters", "symbols")]
    ranges += [("duplicates.similarity", plan.duplicates.similarity, 0.5, 1.0)]
    ranges += [("mix.temperature", plan.mix.temperature, 0.0, None)]
    ranges += [(f"the weight of {source.name}", source.weight, 0.0, None) for source in plan.source]
    for name, value, least, most in ranges:
        if not (value >= least and (most is None or value <= most) and value != float("inf")):
            bounds = f"at least {least:g}" if most is None else f"from {least:g} to {most:g}"
            raise Problem(f"{name} in {path} must be {bounds}; it is {value}.")
    if not any(source.weight for source in plan.source):
        raise Problem(f"Every source of {path} has weight 0. Give at least one a weight above 0.")
