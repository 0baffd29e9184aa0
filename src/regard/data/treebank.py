"""Treebanks in CoNLL-U, plain or packed by gzip or xz: every sentence is kept whole or reported with its line.

A line has ten columns, of which five are read: ID, FORM, UPOS, HEAD, DEPREL; and of the last what it says of entities,
which `data/coreference.py` reads. Multiword tokens (3-4), whose words follow, and empty nodes (3.1), which are of the
enhanced graph only, are passed over.
https://universaldependencies.org/format.html
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path

from regard.data.cells import Skipped
from regard.data.decoding import LONE, decoded, numbered
from regard.data.sources import unpacked
from regard.disk import locate
from regard.errors import Problem

COLUMNS = 10
NO_WORD = re.compile(r"\d+(-\d+|\.\d+)")  # a multiword token or an empty node
COMMENT = re.compile(r"#\s*(sent_id|text|global\.Entity)\s*=\s*(.*)")
DOCUMENT = re.compile(r"#\s*newdoc\b")
ENTITY = re.compile(r"(?:^|\|)Entity=([^|]*)")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and its dependency tree; words count from 0."""

    forms: tuple[str, ...]
    tags: tuple[str, ...]  # universal parts of speech
    heads: tuple[int, ...]  # which word each word depends on; -1 for the root
    relations: tuple[str, ...]  # of each word to its head
    identity: str = ""  # sent_id
    text: str = ""
    line: int = 0  # where it begins, counted from 1
    document: int = 0  # number of its document, from 0
    entities: tuple[str, ...] = ()  # what each word's last column says of entities; empty where no word's does
    scheme: str = ""  # global.Entity: the names of what is said of an entity


@dataclass(frozen=True, slots=True)
class Treebank:
    """Sentences in the file's order, and what of it is not used."""

    sentences: tuple[Sentence, ...]
    skipped: list[Skipped]  # the line that spoils a sentence; the whole sentence is left out
    origin: str
    said: list[str] = field(default_factory=list)  # what was decided about the file, in sentences

    def __len__(self) -> int:
        return len(self.sentences)

    def first(self, count: int) -> Treebank:
        """The same with so many sentences from the start; 0 is all."""
        return dataclasses.replace(self, sentences=self.sentences[: count or None])


def read(path: str | Path, *, subtypes: bool = True, encoding: str = "utf-8") -> Treebank:
    """All sentences of a file in CoNLL-U.

    Without `subtypes`, relations are the universal ones alone: `nmod:poss` is `nmod`. A sentence with a line that
    cannot be read, or without a tree, is skipped and reported; a file without any good one is a `Problem`.
    """
    path = locate(path)
    if path.is_dir():
        inside = [p.name for p in sorted(path.iterdir()) if ".conllu" in p.name.lower()]
        raise Problem(f"{path} is a folder. Name one file{' in it: ' + ', '.join(inside[:8]) if inside else ''}.")
    text, said, undecodable = decoded(unpacked(path), encoding, path)
    sentences: list[Sentence] = []
    skipped: list[Skipped] = []
    document = -1
    for block in _blocks(text):
        document += any(DOCUMENT.match(content) for _, content in block)
        found = _sentence(block, undecodable, subtypes=subtypes)
        if isinstance(found, Sentence):
            sentences.append(dataclasses.replace(found, document=max(0, document)))
        elif found is not None:
            skipped.append(found)
    if not sentences:
        first = "; ".join(f"line {bad.line}: {bad.reason}" for bad in skipped[:3])
        raise Problem(
            f"{path} has no sentence in CoNLL-U{f' ({first})' if first else ''}. Give a treebank with ten columns, "
            "separated by tabs, and an empty line after each sentence."
        )
    return Treebank(tuple(sentences), skipped, str(path), said)


def _blocks(text: str) -> list[list[tuple[int, str]]]:
    """Lines with their numbers, sentence by sentence; empty lines divide them."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for line, content in numbered(text):
        if content.strip():
            blocks[-1].append((line, content))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _sentence(block: list[tuple[int, str]], undecodable: str, *, subtypes: bool) -> Sentence | Skipped | None:
    """The sentence, or the line that spoils it; nothing for comments alone, as at the end of some files."""
    said: dict[str, str] = {}
    words: list[tuple[str, str, int, str]] = []
    lines: list[int] = []
    entities: list[str] = []
    for line, content in block:
        if content.startswith("#"):
            if named := COMMENT.match(content):
                said.setdefault(named[1], named[2].strip())
            continue
        cells = content.split("\t")
        if NO_WORD.fullmatch(cells[0]):
            continue
        if reason := _fault(cells, len(words) + 1, undecodable):
            return Skipped(line, reason)
        words.append((cells[1], cells[3], int(cells[6]) - 1, cells[7] if subtypes else cells[7].partition(":")[0]))
        entity = ENTITY.search(cells[9])
        entities.append(entity[1] if entity else "")
        lines.append(line)
    if not words:
        return None
    forms, tags, heads, relations = zip(*words, strict=True)
    if found := _no_tree(heads):
        return Skipped(lines[found[0]], found[1])
    return Sentence(
        forms, tags, heads, relations, said.get("sent_id", ""), said.get("text", ""), block[0][0],
        entities=tuple(entities) if any(entities) else (), scheme=said.get("global.Entity", ""),
    )  # fmt: skip


def _fault(cells: list[str], number: int, undecodable: str) -> str:
    """Why a word's line cannot be read; nothing where it can."""
    if len(cells) != COLUMNS:
        return f"{len(cells)} columns, not {COLUMNS} separated by tabs"
    if LONE.search(cells[1]):
        return undecodable or "half a character"
    if cells[0] != str(number):
        return f"the word's number is '{cells[0]}' where {number} is due"
    if not cells[1].strip():
        return "a word without a form"
    if not re.fullmatch("[0-9]+", cells[6]):
        return f"'{cells[6]}' is no head: a word's number or 0"
    return "" if cells[7] not in ("", "_") else "no relation"


def _no_tree(heads: tuple[int, ...]) -> tuple[int, str] | None:
    """The first word whose head does not exist, or that hangs below itself, and what is wrong with it."""
    for place, head in enumerate(heads):
        if head >= len(heads):
            return place, f"head {head + 1} in a sentence of {len(heads)} words"
    for place in range(len(heads)):
        above, steps = place, 0
        while above >= 0 and steps <= len(heads):
            above, steps = heads[above], steps + 1
        if above >= 0:
            return place, "no tree: a word depends on itself"
    return None
