"""Coreference chains in CoNLL-U, as CorefUD writes them: which stretches of words name the same entity.

A word's last column opens mentions and closes them, `Entity=(e1-person-2` ... `Entity=e1)`, or both, `(e1-person-1)`;
`# global.Entity = eid-etype-head-other` says what stands between the dashes. https://ufal.mff.cuni.cz/corefud
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from regard.data.treebank import Sentence

SCHEME = "eid-etype-head-other"  # where a file does not say
BRACKET = re.compile(r"\(([^()]+)(\))?|([^()]+)\)")  # opened, and closed at once; or closed
PART = re.compile(r"\[\d+(/\d+)?\]")  # of a mention in several pieces


@dataclass(frozen=True, slots=True)
class Mention:
    """A stretch of words that names an entity; words count from 0, in the sentence or in the document."""

    entity: str
    start: int
    end: int  # behind the last word
    head: int


@dataclass(frozen=True, slots=True)
class Document:
    """Neighbouring sentences of one document, their words numbered through, and the mentions in order."""

    number: int
    sentences: tuple[Sentence, ...]
    mentions: tuple[Mention, ...]
    unread: int = 0  # mentions that are in pieces, or not closed within their sentence

    @property
    def forms(self) -> tuple[str, ...]:
        """All words."""
        return tuple(form for s in self.sentences for form in s.forms)

    @property
    def tags(self) -> tuple[str, ...]:
        """Their universal parts of speech."""
        return tuple(tag for s in self.sentences for tag in s.tags)


def documents(sentences: Sequence[Sentence]) -> list[Document]:
    """The documents of a treebank that have mentions."""
    groups = (tuple(group) for _, group in groupby(sentences, key=lambda s: s.document))
    return [found for group in groups if (found := _document(group)).mentions]


def part(document: Document, first: int, last: int) -> Document:
    """Some of a document's sentences, from `first` to before `last`, as a document of its own with the same number."""
    return _document(document.sentences[first:last])


def _document(sentences: tuple[Sentence, ...]) -> Document:
    """Sentences with their mentions; the scheme that one sentence declares holds for those behind it as well."""
    out: list[Mention] = []
    start = unread = 0
    scheme = ""
    for sentence in sentences:
        scheme = sentence.scheme or scheme
        found, lost = mentions(sentence, scheme or SCHEME)
        out += [Mention(m.entity, m.start + start, m.end + start, m.head + start) for m in found]
        start, unread = start + len(sentence.forms), unread + lost
    return Document(sentences[0].document, sentences, tuple(out), unread)


def mentions(sentence: Sentence, scheme: str = SCHEME) -> tuple[list[Mention], int]:
    """The mentions of one sentence, by where they start, the longer first; and how many cannot be read."""
    names = scheme.split("-")
    head_at = names.index("head") if "head" in names else None
    opened: dict[str, list[tuple[int, int | None]]] = {}
    found: list[Mention] = []
    lost = 0
    for word, text in enumerate(sentence.entities):
        for begun, closed, ended in BRACKET.findall(text):
            cells = (begun or ended).split("-")
            entity = cells[0]
            if PART.search(entity):
                lost += bool(begun)
                continue
            if begun:
                said = cells[head_at] if head_at is not None and head_at < len(cells) else ""
                opened.setdefault(entity, []).append((word, int(said) if said.isdecimal() else None))
            if closed or ended:
                if not opened.get(entity):
                    lost += 1  # it began at an empty node, or nowhere
                    continue
                start, place = opened[entity].pop()
                found.append(Mention(entity, start, word + 1, _head(sentence, start, word + 1, place)))
    found.sort(key=lambda m: (m.start, -m.end))
    return found, lost + sum(map(len, opened.values()))


def _head(sentence: Sentence, start: int, end: int, place: int | None) -> int:
    """The word that the file names, counted from 1 in the mention; else the first whose own head lies outside."""
    if place is not None and 1 <= place <= end - start:
        return start + place - 1
    return next(j for j in range(start, end) if not start <= sentence.heads[j] < end)
