"""Settings as frozen dataclasses: read from TOML, changed by `key=value`, and written back."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from regard import disk
from regard.errors import Problem, nearest

Made = TypeVar("Made")  # a dataclass
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


def load(path: str | Path, what: str, cure: str) -> dict[str, Any]:
    """The table in a TOML file; raises `Problem` where none can be read, with what it should have been and a cure."""
    path = disk.locate(path)
    if path.is_file() and path.suffix != ".toml":
        raise Problem(f"{path} is no {what}, which is a .toml file. {cure}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"{path} is not valid TOML: {error}. Mend that line.") from None
    except OSError as error:
        raise Problem(f"{path} is no {what} that can be read ({error.strerror}). {cure}") from None


def made(kind: type[Made], table: Any, where: str) -> Made:
    """What a table says, over a dataclass's defaults; raises `Problem` for what it lacks, or says that has no place."""
    if not isinstance(table, Mapping):
        raise Problem(f"{where} is no table. Write key = value lines below its name.")
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise _unknown(key, key, hints, f" in {where}")
    for part in dataclasses.fields(kind):  # type: ignore[arg-type]
        asked = part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
        if asked and not table.get(part.name):
            raise Problem(f'{where} has no {part.name}. Write {part.name} = "..." below its name.')
    return kind(**{key: _nested(value, hints[key], key, where) for key, value in table.items()})


def override(settings: Made, changes: Mapping[str, Any] | Iterable[str]) -> Made:
    """The settings with `seed=1`-like changes, as strings or as a mapping; words become the field's type."""
    pairs = changes.items() if isinstance(changes, Mapping) else map(_split, changes)
    for key, value in pairs:
        settings = _set(settings, key.split("."), value, key)
    return settings


def write(settings: Any, path: str | Path) -> None:
    """Writes every field, defaults too, so that the file alone says what ran."""
    table = dataclasses.asdict(settings)
    lines = [f"{k} = {_toml(v)}" for k, v in table.items() if not isinstance(v, (dict, tuple))]
    for name, value in table.items():
        for part in value if isinstance(value, tuple) else (value,) if isinstance(value, dict) else ():
            head = f"[[{name}]]" if isinstance(value, tuple) else f"[{name}]"
            lines += ["", head, *(f"{k} = {_toml(v)}" for k, v in part.items())]
    disk.write_text(path, "\n".join(lines) + "\n")


def _nested(value: Any, kind: Any, key: str, where: str) -> Any:
    """What a key of a table holds: a table by itself, a list of them, or a value."""
    if _is_table(kind):
        return made(kind, value, f"[{key}] of {where}")
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and _is_table(parts[0]):
        if not isinstance(value, list):
            raise Problem(f"{key} in {where} is no list of tables. Write [[{key}]] above each.")
        return tuple(made(parts[0], row, f"[[{key}]] {number} of {where}") for number, row in enumerate(value, 1))
    return _converted(value, kind, f"{key} in {where}")


def _is_table(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _unknown(name: str, key: str, known: Iterable[str], where: str = "") -> Problem:
    known = list(known)
    return Problem(f"There is no key '{key}'{where}. {nearest(name, known)}Known here: {', '.join(known)}.")


def _split(change: str) -> tuple[str, str]:
    key, sign, value = change.partition("=")
    if not sign:
        raise Problem(f"'{change}' is no change. Write key=value, for example seed=1.")
    return key.strip(), value.strip()


def _set(part: Any, path: list[str], value: Any, whole: str) -> Any:
    hints = typing.get_type_hints(type(part))
    if path[0] not in hints:
        raise _unknown(path[0], whole, hints)
    kind = hints[path[0]]
    if _is_table(kind) != (len(path) > 1) or typing.get_origin(kind) is tuple:
        raise Problem(f"'{whole}' does not name one value. Write key=value, for example seed=1.")
    new = _set(getattr(part, path[0]), path[1:], value, whole) if len(path) > 1 else _converted(value, kind, whole)
    return dataclasses.replace(part, **{path[0]: new})


def _converted(value: Any, kind: Any, key: str) -> Any:
    """A value, or the word for it, as what its field holds."""
    form, parts = typing.get_origin(kind), typing.get_args(kind)
    if form is Literal:
        if value not in parts:
            shown, near = ", ".join(map(repr, parts)), nearest(str(value), parts)
            raise Problem(f"{key} can be {shown}; {value!r} is none of them. {near}".strip())
        return value
    if form is tuple and parts[-1] is Ellipsis:
        if not isinstance(value, list):
            raise Problem(f'{key} must be a list, as in ["one", "another"]; it is {value!r}.')
        return tuple(_converted(item, parts[0], f"each of {key}") for item in value)
    if form is tuple:
        if not isinstance(value, list) or len(value) != len(parts):
            raise Problem(f"{key} must be two numbers, from and to, as in [3, 10]; it is {value!r}.")
        return tuple(_converted(item, part, f"each of {key}") for item, part in zip(value, parts, strict=True))
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, (bool, list, Mapping)) or (kind is int and isinstance(value, float) and value % 1):
            raise ValueError
        return kind(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise Problem(f"{key} must be {NAMES[kind]}; {value!r} is not.") from None


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a table of tables by their dotted keys."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else repr(value)
