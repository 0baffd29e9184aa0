"""Edits in writing: as the command line takes them, and as a small file of JSON keeps them.

    drop      3.5,7.1    3.*    *.5    3.0-4    3.5:[CLS]      layer.head, and after a colon the rows of which positions
    scale     3.5=0.5
    uniform   3.5
    sharpen   3.5=2
    forbid    3.5:[CLS]->[SEP]       3.5:*->first|last             from -> to; several positions are joined by |
    force     3.5:[CLS]->[SEP]=0.9
    patch     3.5 (a head's output)  3.5.weights  3 (a layer's output)

A token that holds a separator or is spelt like another name is quoted: `3.5:','`. The file is

    {"regard": "edits", "version": 1, "edits": [
      {"edit": "drop", "layer": 3, "head": 5},
      {"edit": "force", "layer": 3, "head": 5, "queries": "[CLS]", "keys": ["[SEP]", 1], "weight": 0.9}
    ]}

with the fields of `edit`; those that are not given have the values that they have there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regard import disk
from regard.errors import Problem, nearest
from regard.lens.edit import Drop, Edit, Forbid, Force, Patch, Scale, Sharpen, Uniform
from regard.lens.places import ALL, Number, Places, each

KINDS: dict[str, type[Edit]] = {
    kind.__name__.lower(): kind for kind in (Drop, Scale, Uniform, Sharpen, Forbid, Force, Patch)
}
NUMBERS = {"scale": "factor", "sharpen": "power", "force": "weight"}  # the field after the equals sign
FORMAT, VERSION = "edits", 1
EXAMPLES = {
    "drop": "3.5,7.1", "scale": "3.5=0.5", "uniform": "3.5", "sharpen": "3.5=2", "forbid": "3.5:[CLS]->[SEP]",
    "force": "3.5:[CLS]->[SEP]=0.9", "patch": "3.5",
}  # fmt: skip


def parse(kind: str, words: str, *, source: str = "", pair: str = "") -> list[Edit]:
    """The edits of a kind in the notation of the command line; `source` and `pair` are texts for a patch."""
    return [_parsed(kind, word.strip(), source, pair) for word in _split(words, ",")]


def said(edit: Edit) -> str:
    """An edit in the same notation, for people to read."""
    kind = type(edit).__name__.lower()
    is_output = isinstance(edit, Patch) and edit.value == "output"
    words = f"{kind} {edit.layer}" if is_output else f"{kind} {edit.layer}.{edit.head}"
    if isinstance(edit, Patch) and edit.value == "weights":
        words += ".weights"
    if isinstance(edit, (Forbid, Force)):
        words += f":{_joined(edit.queries)}->{_joined(edit.keys)}"
    elif edit.queries != ALL:
        words += f":{_joined(edit.queries)}"
    if kind in NUMBERS:
        words += f"={getattr(edit, NUMBERS[kind]):g}"
    return f"{words} from '{edit.source}'" if isinstance(edit, Patch) and isinstance(edit.source, str) else words


def write(edits: Sequence[Edit], path: str | Path) -> None:
    """Writes the edits to a file, one a line; raises `Problem` for a patch from a recording, which no line can hold."""
    lines = ",\n".join(f"  {json.dumps(_fields(edit), ensure_ascii=False)}" for edit in edits)
    disk.write_text(path, f'{{"regard": "{FORMAT}", "version": {VERSION}, "edits": [\n{lines}\n]}}\n')


def read(path: str | Path) -> list[Edit]:
    """The edits in a file; raises `Problem` that names the edit and the field where one is not as it should be."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}. Check the name.") from None
    except (ValueError, RecursionError) as error:
        raise Problem(f"{path} is no JSON ({error}). Write it again with --save.") from None
    if not isinstance(found, dict) or found.get("regard") != FORMAT or not isinstance(found.get("edits"), list):
        raise Problem(f'{path} holds no edits: the fields "regard": "{FORMAT}" and "edits": [...] are not there.')
    if found.get("version") != VERSION:
        raise Problem(
            f"The field 'version' of {path} is {found.get('version')!r}, and this Regard reads {VERSION}. Install the "
            "Regard that wrote it, or write it again."
        )
    return [_read(fields, f"{path}, edit {number}") for number, fields in enumerate(found["edits"])]


def _read(fields: Any, where: str) -> Edit:
    if not isinstance(fields, dict):
        raise Problem(f"{where}: it must be an object with the field 'edit'; it is {fields!r}.")
    kind = fields.get("edit")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Problem(
            f"{where}: the field 'edit' is {kind!r}. {nearest(str(kind), KINDS)}It must be one of {', '.join(KINDS)}."
        )
    known = [field.name for field in dataclasses.fields(KINDS[kind])]
    rest = {name: value for name, value in fields.items() if name != "edit"}
    if unknown := [name for name in rest if name not in known]:
        raise Problem(f"{where}: {kind} has no field '{unknown[0]}'. Its fields are {', '.join(known)}.")
    if "layer" not in rest:
        raise Problem(f"{where}: the field 'layer' is missing. Say a number from 0, a range such as 0-4, or *.")
    try:
        return KINDS[kind](**rest)
    except Problem as problem:
        raise Problem(f"{where}: {problem}") from None


def _fields(edit: Edit) -> dict[str, Any]:
    """The kind, and the fields that are not as they are by default."""
    if isinstance(edit, Patch) and not isinstance(edit.source, str):
        raise Problem("A patch from a recording cannot be saved. Name the text that it is from instead.")
    given = {f.name: getattr(edit, f.name) for f in dataclasses.fields(edit) if getattr(edit, f.name) != f.default}
    return {"edit": type(edit).__name__.lower(), **given}


def _parsed(kind: str, word: str, source: str, pair: str) -> Edit:
    fields: dict[str, Any] = {"source": source, "pair": pair} if kind == "patch" else {}
    rest = word
    if kind in NUMBERS:
        rest, _, number = word.rpartition("=")
        try:
            fields[NUMBERS[kind]] = float(number)
        except ValueError:
            raise _unread(kind, word) from None
    heads, colon, places = rest.partition(":")
    named = re.fullmatch(r"([\d*-]+)(?:\.([\d*-]+))?(\.weights)?", heads)
    if not named or bool(colon) != bool(places) or (named[3] and kind != "patch"):
        raise _unread(kind, word)
    if kind == "patch":
        fields["value"] = "weights" if named[3] else "mixed" if named[2] else "output"
    if kind in ("forbid", "force"):
        sides = _split(places, "->")
        if len(sides) != 2:
            raise _unread(kind, word)
        fields |= {"queries": _places(sides[0]), "keys": _places(sides[1])}
    elif places:
        fields["queries"] = _places(places)
    return KINDS[kind](_number(named[1]), _number(named[2] or ALL), **fields)


def _unread(kind: str, word: str) -> Problem:
    return Problem(f"--{kind} '{word}' cannot be read. Write it like --{kind} \"{EXAMPLES[kind]}\".")


def _number(word: str) -> Number:
    return int(word) if word.isdigit() else word


def _places(words: str) -> Places:
    found = [int(word) if re.fullmatch(r"-?\d+", word) else word for word in map(str.strip, _split(words, "|"))]
    return found[0] if len(found) == 1 else found


def _joined(places: Places) -> str:
    return "|".join(map(str, each(places)))


def _split(words: str, separator: str) -> list[str]:
    """The parts between separators that stand outside single quotes: with an even number of quotes behind them."""
    return re.split(rf"{re.escape(separator)}(?=(?:[^']*'[^']*')*[^']*$)", words)
