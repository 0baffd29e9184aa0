"""What columns are called, whether a first line says it, and which column holds what."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from regard.errors import Problem, nearest

TEXT_NAMES = (
    *("text", "sentence", "review", "content", "comment", "document", "body", "tweet", "utterance", "message"),
    *("question", "query", "title", "文本", "内容", "评论", "评价", "句子", "正文", "标题", "问题"),
)
PAIR_NAMES = (
    *(("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2")),
    *(("text1", "text2"), ("sentence_a", "sentence_b"), ("s1", "s2"), ("#1 string", "#2 string")),
    *(("question", "sentence"), ("question", "passage"), ("query", "passage"), ("query", "document")),
    *(("文本1", "文本2"), ("句子1", "句子2"), ("问题1", "问题2"), ("前提", "假设")),
)
LABEL_NAMES = (
    *("label", "labels", "gold_label", "sentiment", "class", "category", "target", "score", "rating", "similarity"),
    *("quality", "intent", "topic", "polarity", "stars", "标签", "类别", "分类", "情感", "评分", "分数", "得分"),
)
KNOWN = {*TEXT_NAMES, *LABEL_NAMES, *(name for pair in PAIR_NAMES for name in pair)}
LONGEST_NAME = 60  # characters of a cell that may still be a column's name
MISSING = ("", "-")  # "-" is how published inference data marks a row on which its annotators did not agree
Columns = Mapping[str, list[Any]]


def choose_columns(
    columns: Columns, origin: str, named: dict[str, str], *, labelled: bool
) -> tuple[dict[str, str], str]:
    """The column of each part, and the sentence that says which they are and which of them are guessed."""
    for part, name in named.items():
        if name and name not in columns:
            raise Problem(
                f"{origin} has no column '{name}'. {nearest(name, columns)}"
                f"There are {listed(columns)}; say data.{part}= one of them."
            )
    chosen = named | ({} if labelled else {"label": ""})
    if len(set(filter(None, chosen.values()))) < len(list(filter(None, chosen.values()))):
        raise Problem(f"One column of {origin} is named twice ({chosen}). Name different ones.")
    if not chosen["label"]:
        # A column with a label's name is never the text, wanted or not.
        chosen["label"] = _by_name(columns, LABEL_NAMES, {chosen["text"], chosen["pair"]})
    if not chosen["text"]:
        chosen["text"], guess = _guess_text(columns, origin, {chosen["label"], chosen["pair"]})
        chosen["pair"] = chosen["pair"] or guess
    if not labelled:
        chosen["label"] = ""
    elif not chosen["label"]:
        chosen["label"] = _guess_label(columns, origin, {chosen["text"], chosen["pair"]})
    guessed = [f"data.{part}=" for part, name in chosen.items() if name and not named[part]]
    sentence = ", ".join(f"{part} is column '{name}'" for part, name in chosen.items() if name)
    them = f" (guessed; name {'it' if len(guessed) == 1 else 'them'} with {', '.join(guessed)})" if guessed else ""
    return chosen, f"{sentence}{them}."


def has_header(rows: list[list[str]]) -> bool:
    """Whether the first row holds names: well-known ones, or short words that are unlike what stands below them."""
    first, rest = [cell.strip() for cell in rows[0]], rows[1:1000]
    known = {cell.lower() for cell in first} & KNOWN
    if len(known) >= 2:
        return all(len(cell) <= LONGEST_NAME for cell in first)
    if any(not cell or len(cell) > LONGEST_NAME or _is_number(cell) for cell in first):
        return False
    below = [[cells[i] for cells in rest if i < len(cells)] for i in range(len(first))]
    if any(name in column for name, column in zip(first, below, strict=True)):
        return False
    return bool(known) or (len(first) > 1 and any(map(_is_unlike, first, below)))


def distinct(cells: list[str], said: list[str]) -> list[str]:
    """The cells as names of columns: an empty one is called by its place, a repeated one gets a number."""
    names: list[str] = []
    for place, cell in enumerate(cells):
        name = wanted = cell.strip() or str(place)
        copies = 1
        while name in names:
            copies += 1
            name = f"{wanted}_{copies}"
        if copies > 1:
            said.append(f"more than one column is called '{wanted}': column {place + 1} is now '{name}'.")
        names.append(name)
    return names


def as_number(value: Any) -> float | None:
    """The finite number that a cell holds, if any; true and false are words."""
    if isinstance(value, (bool, list, dict)) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def is_missing(value: Any) -> bool:
    """Whether a cell says nothing."""
    if isinstance(value, str):
        return value.strip() in MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def listed(names: Iterable[str]) -> str:
    """The names in quotes, at most ten of them, for a message."""
    names = list(names)
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _by_name(columns: Columns, names: Iterable[str], taken: set[str]) -> str:
    there = {name.strip().lower(): name for name in columns if name not in taken}
    return next((there[name] for name in names if name in there), "")


def _guess_text(columns: Columns, origin: str, taken: set[str]) -> tuple[str, str]:
    """The column of the text and of its pair: by their names, or else the longest cells are the text.

    In a file without names, a second column of nearly as long and mostly different texts is taken for the pair.
    """
    for first, second in PAIR_NAMES:
        both = _by_name(columns, [first], taken), _by_name(columns, [second], taken)
        if all(both):
            return both
    if name := _by_name(columns, [*TEXT_NAMES, *(first for first, _ in PAIR_NAMES)], taken):
        return name, ""
    sizes = {name: _mean_length(values) for name, values in columns.items() if name not in taken}
    text = max(sizes, key=lambda name: sizes[name], default="")
    if not text or not sizes[text]:
        raise Problem(f"No column of {origin} looks like text. Name it: data.text= one of {listed(columns)}.")
    alike = [name for name in sizes if 3 * sizes[name] >= sizes[text] and _is_varied(columns[name])]
    if all(map(str.isdigit, columns)) and len(alike) == 2 and text in alike:
        return alike[0], alike[1]
    return text, ""


def _guess_label(columns: Columns, origin: str, taken: set[str]) -> str:
    """The column with few different values, best without gaps and of numbers; or the only one that is left."""
    free = [name for name in columns if name not in taken]
    ranks = []
    for name in free:
        values = [value for value in columns[name] if not is_missing(value)]
        numbers = [as_number(value) for value in values]
        kinds = len(set(map(str, values)))
        graded = None not in numbers and any(number % 1 for number in numbers if number is not None)
        if graded or 2 <= kinds <= max(2, len(values) // 2):
            ranks.append((10 * len(values) < 9 * len(columns[name]), None in numbers, kinds, name))
    if not ranks and len(free) != 1:
        cure = f"Name it: data.label= one of {listed(free)}." if free else "Add a column of labels."
        raise Problem(f"No column of {origin} looks like a label. {cure}")
    return min(ranks)[-1] if ranks else free[0]


def _mean_length(values: list[Any]) -> float:
    return sum(len(value) for value in values if isinstance(value, str)) / max(len(values), 1)


def _is_varied(values: list[Any]) -> bool:
    return 2 * len(set(map(str, values))) > len(values) and any(as_number(value) is None for value in values)


def _is_unlike(name: str, column: list[str]) -> bool:
    if not column or re.search(r"[\s,.!?;，。！？；]", name):
        return False
    return all(map(_is_number, column)) or sum(map(len, column)) > 2 * max(len(name), 4) * len(column)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", cell))
