"""Layers, heads and positions by the names that a person gives them.

A layer or head is a number from 0, a range of numbers (`"0-4"`, its end included), or `"*"`: all. A position is a
number (negative: from the end), `"first"`, `"last"`, `"*"`, or the text of a token, such as `"film"` or `"[SEP]"`,
which names every position that holds it. A token that is spelt like a name of another kind is put in single quotes:
`"'7'"`, `"'first'"`. What names several positions at once is a list of such names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from regard.errors import Problem

Number = int | str
Place = int | str
Places = Place | Sequence[Place]

ALL, FIRST, LAST = "*", "first", "last"
_NUMBER = re.compile(r"\*|\d+(-\d+)?")
_POSITION = re.compile(r"-?\d+")


def is_number(which: Any) -> bool:
    """Whether this can name layers or heads."""
    if isinstance(which, str):
        return _NUMBER.fullmatch(which) is not None
    return isinstance(which, int) and not isinstance(which, bool) and which >= 0


def are_places(places: Any) -> bool:
    """Whether this can name positions: one name, or one or more in a list."""
    named = list(each(places)) if isinstance(places, (int, str, list, tuple)) else []
    return bool(named) and all(isinstance(p, (int, str)) and not isinstance(p, bool) and p != "" for p in named)


def numbers(which: Number, count: int, kind: str) -> range:
    """The layers or heads that are named, of so many; raises `Problem` where one of them is not there.

    `kind` is layer or head, for the message.
    """
    low, _, high = (f"0-{count - 1}" if which == ALL else str(which)).partition("-")
    found = range(int(low), int(high or low) + 1)
    if not found or found[-1] >= count:
        raise Problem(f"There is no {kind} {which}: this model's are numbered from 0 to {count - 1}.")
    return found


def find(places: Places, length: int, tokens: Sequence[str] | None = None) -> list[int]:
    """The positions that are named in a text of so many tokens, ascending; a text may have none of them."""
    found: set[int] = set()
    for place in each(places):
        if place == ALL:
            found.update(range(length))
        elif (token := token_of(place)) is None:
            number = {FIRST: 0, LAST: -1}.get(str(place)) if place in (FIRST, LAST) else int(place)
            assert number is not None
            found.update([number % length] if -length <= number < length else [])
        elif tokens is None:
            raise Problem(f"A position is named by its token '{token}', and no tokens are given. Give tokens=...")
        else:
            found.update(i for i, there in enumerate(tokens) if there == token)
    return sorted(found)


def token_of(place: Place) -> str | None:
    """The token that a position is named by, or None where it is named by a number or by where it stands."""
    if not isinstance(place, str) or place in (ALL, FIRST, LAST) or _POSITION.fullmatch(place):
        return None
    return place[1:-1] if len(place) > 2 and place[0] == place[-1] == "'" else place


def each(places: Places) -> Iterator[Place]:
    """The names one by one."""
    if isinstance(places, (int, str)):
        yield places
    else:
        yield from places
