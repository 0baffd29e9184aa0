"""How verbs that take running text read it: a text a line, or the documents of a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.errors import Problem

if TYPE_CHECKING:
    from regard.data.corpus import Corpus
    from regard.data.tokens import Document

Files = Annotated[list[str], typer.Argument(help="Running text, a text a line, plain or packed; or a corpus folder.")]

BUILD = (
    "Build a corpus of it (regard corpus build plan.toml --out corpus/, where the plan names the column), and name its "
    "folder."
)


def documents(files: list[str], move: Callable[[float], Any]) -> Iterator[Document]:
    """The documents of a corpus folder, and every line of a file as one, with its language by its script.

    `move` is told the share read. Raises `Problem` where there is no text.
    """
    found = 0
    for place, name in enumerate(files):
        for document in _read(name, lambda share, place=place: move((place + share) / len(files))):  # type: ignore[misc]
            if document.text.strip():
                found += 1
                yield document
    if not found:
        raise Problem(f"There is no text in {', '.join(files)}. Name files with a text a line.")


def lines(files: list[str], move: Callable[[float], Any]) -> Iterator[tuple[str, str]]:
    """Every line of them that is not empty, behind its language."""
    for document in documents(files, move):
        yield from ((document.language, line) for line in document.text.split("\n") if line.strip())


def first(rows: Iterator[Any], most: int, language: Callable[[Any], str]) -> Iterator[Any]:
    """The first so many of each language, or with 0 all."""
    seen: dict[str, int] = {}
    for row in rows:
        seen[language(row)] = seen.get(language(row), 0) + 1
        if not most or seen[language(row)] <= most:
            yield row


def running(
    name: str, *, paragraphs: bool = False, cure: str = "Write its texts into a file, a text a line."
) -> Corpus:
    """A file of running text; raises `Problem`, with a cure, for one of rows."""
    from regard.data.corpus import Corpus
    from regard.data.sources import known_kind

    corpus = Corpus(name, paragraphs=paragraphs)
    if name.lower().endswith(".toml"):
        raise Problem(
            f"{name} is no running text. Where it is the plan of a corpus, build that, and name its folder: regard "
            f"corpus build {name} --out corpus/."
        )
    if known_kind(Path(name)) not in ("", "txt"):
        raise Problem(f"{name} holds rows, not running text: its keys and quotes would count as words. {cure}")
    return corpus


def _read(name: str, move: Callable[[float], Any]) -> Iterator[Document]:
    from regard.data.corpora import reading
    from regard.data.tokens import Document
    from regard.text.vocabulary import language

    if Path(name).is_dir():
        yield from reading.documents(name, move)
        return
    corpus, number = running(name, cure=BUILD), 0
    for number, line in enumerate(corpus.lines(), 1):
        if number % 1000 == 1:
            move(corpus.share)
        if corpus.undecodable + corpus.nul > max(10, number / 10):
            break
        yield Document(line, language(line))
    if corpus.undecodable + corpus.nul <= number / 10:
        return
    if corpus.nul >= corpus.undecodable:
        raise Problem(f"{corpus.nul:,} of the first {number:,} lines of {name} have NUL characters: it is no text.")
    raise Problem(
        f"{corpus.undecodable:,} of the first {number:,} lines of {name} have bytes that are no UTF-8. Convert it, "
        "or build a corpus of it: a plan names its encoding, and reads jsonl and Parquet too."
    )
