"""Documents out of strangers' files, one by one: text, JSON lines, Parquet and dumps of Wikipedia, plain or packed.

A document that cannot be read keeps its place and says why; a file that breaks off is a `Problem` that says where.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from collections.abc import Iterator
from encodings.aliases import aliases
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from regard.data.compression import BROKEN, ENDINGS, Progress, kind_by_name, opened
from regard.data.corpora.plan import Source
from regard.data.decoding import LONE, guess
from regard.data.sources import arrow
from regard.errors import Problem, nearest

KINDS = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    ".txt": "text",
    ".parquet": "parquet",
    ".xml": "wikipedia",
}
LONGEST = 4_000_000  # characters of a document; a longer one is parted at the end of a line, for memory is bounded
LONGEST_LINE = 64_000_000  # characters
SAMPLE = 1000  # rows: a column that none of them has is not there
UNDECODABLE = "undecodable"


class Document(NamedTuple):
    """One document as it stands in its file."""

    place: str
    text: str
    reason: str = ""  # why it is dropped already: it could not be read


def documents(path: Path, source: Source, progress: Progress) -> Iterator[Document]:
    """Every document of a file in its order; raises `Problem` where the file is damaged or is taken away."""
    if kind(path, source) == "parquet":
        yield from _parquet(path, source, progress)
    else:
        readers = {"text": _text, "jsonl": _json, "squad": _squad, "wikipedia": _wikipedia}
        with opened(path, progress) as stream:
            yield from readers[kind(path, source)](path, source, stream)


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change: what tells that a file is another one now."""
    try:
        found = path.stat()
    except OSError as error:
        raise Problem(f"{path} cannot be read any more: {error.strerror}. Put it back and call again.") from None
    return found.st_size, found.st_mtime_ns


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Problem(f"{path} cannot be read any more: {error.strerror}. Put it back and call again.") from None


def kind(path: Path, source: Source) -> str:
    """The format of a file, as its source declares it or its name tells."""
    if source.format != "auto":
        return source.format
    if found := kind_by_name(path, KINDS):
        return found
    raise Problem(
        f"The name {path.name} does not tell what is in the file. {_say(source, 'format', 'text')} Or jsonl, parquet, "
        f"squad or wikipedia; known endings are {', '.join(KINDS)}, each also with {', '.join(ENDINGS)}."
    )


def _say(source: Source, key: str, value: str) -> str:
    """The cure that is a line for a source in the plan, and where there is none a change of the recipe."""
    return f'Say {key} = "{value}" for source {source.name} of the plan; of a file without one, text.{key}={value}.'


def _lines(path: Path, source: Source, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; bytes that are no text stay in them as halves of characters."""
    start = stream.peek(1 << 16)[: 1 << 16]  # type: ignore[attr-defined]
    encoding = "utf-8-sig" if source.encoding.lower() in ("utf-8", "utf8") else source.encoding
    end = "\n" if b"\n" in start or b"\r" not in start else ""  # or carriage returns end lines, as in old files
    try:
        sample = start.decode(encoding, "surrogateescape")
        text = io.TextIOWrapper(stream, encoding, "surrogateescape", newline=end)
    except LookupError:
        close = difflib.get_close_matches(source.encoding.lower().replace("-", "_"), aliases.values(), 1, 0.6)
        cure = _say(source, "encoding", close[0].replace("_", "-") if close else "utf-8")
        raise Problem(f"'{source.encoding}' is no text encoding. {cure} Or whichever it is in.") from None
    except UnicodeError:  # as of UTF-16 that is cut, which a sample may be
        sample, text = "", io.TextIOWrapper(stream, encoding, "strict", newline=end)
    better = guess(start) if sample.count("\0") > 4 or len(LONE.findall(sample)) > 4 else source.encoding
    beyond = [line for line in sample.split("\n") if not line.isascii()]
    bad = sum(1 for line in beyond if LONE.search(line))
    if "\0" * 4 in sample or (better != source.encoding and (2 * bad > len(beyond) or sample.count("\0") > 4)):
        if better in ("", source.encoding):
            raise Problem(f"{path} is not text in {source.encoding}: it is damaged or binary. Export it as text first.")
        raise Problem(f"{path} is not text in {source.encoding}. {_say(source, 'encoding', better)}")
    number = 0
    try:
        while line := text.readline(LONGEST_LINE):
            number += 1
            if len(line) >= LONGEST_LINE:
                raise Problem(
                    f"Line {number:,} of {path} is longer than {LONGEST_LINE:,} characters. Part it into lines."
                )
            yield number, line.rstrip("\r\n")
    except UnicodeError as error:
        raise Problem(
            f"{path} is not text in {source.encoding} after line {number:,} ({error}). It is damaged, or in another "
            f"encoding: then name that. {_say(source, 'encoding', '...')}"
        ) from None
    except BROKEN as error:
        raise Problem(f"{path} breaks off or is damaged after line {number:,} ({error}). Fetch it again.") from None
    finally:
        text.detach()


def _text(path: Path, source: Source, stream: BinaryIO) -> Iterator[Document]:
    kept: list[str] = []
    size, first = 0, 1
    for number, line in _lines(path, source, stream):
        ends = source.document == "line" or (source.document == "blank line" and not line.strip())
        if line.strip():
            first = first if kept else number
            kept.append(line)
            size += len(line) + 1
        if kept and (ends or size > LONGEST):
            text, where = "\n".join(kept), f"line {first}"
            # What passes the bound by less than a line stays whole.
            yield from _parted(path, where, text) if len(kept[-1]) > LONGEST else (_told(path, where, text),)
            kept, size = [], 0
    if kept:
        yield _told(path, f"line {first}", "\n".join(kept))


def _told(path: Path, where: str, text: str) -> Document:
    place = f"{path.name} {where}"
    if LONE.search(text):
        return Document(place, LONE.sub("\ufffd", text), UNDECODABLE)
    return Document(place, text.replace("\0", "\ufffd"))


def _json(path: Path, source: Source, stream: BinaryIO) -> Iterator[Document]:
    rows, known = 0, set[str]()  # the columns of the first rows
    for number, line in _lines(path, source, stream):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            yield _told(path, f"line {number}", line)._replace(reason=UNDECODABLE if LONE.search(line) else "no json")
            continue
        rows += 1
        if rows <= SAMPLE:
            known |= row.keys()
        if isinstance(row.get(source.text), str):
            yield from _parted(path, f"line {number}", row[source.text])
        else:
            yield _told(path, f"line {number}", line)._replace(reason="no text")
        if rows == SAMPLE and source.text not in known:
            break
    if rows and source.text not in known:
        raise Problem(_no_column(path, source, sorted(known)))


def _squad(path: Path, source: Source, stream: BinaryIO) -> Iterator[Document]:
    """The passages that are asked about, in the form that SQuAD's files have (Rajpurkar et al. 2016)."""
    try:
        articles = json.loads("\n".join(line for _, line in _lines(path, source, stream)))["data"]
        passages = [str(part["context"]) for article in articles for part in article["paragraphs"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Problem(
            f"{path} is not in the form of SQuAD, data: [{{paragraphs: [{{context}}]}}] ({error}). "
            f"{_say(source, 'format', 'jsonl')} Or fetch the file again."
        ) from None
    for number, passage in enumerate(passages, 1):
        yield from _parted(path, f"passage {number}", passage)


def _no_column(path: Path, source: Source, names: list[str]) -> str:
    return (
        f"{path} has no column '{source.text}'. {nearest(source.text, names)}It has {', '.join(names) or 'none'}. "
        + _say(source, "text", next(iter(difflib.get_close_matches(source.text, names, 1, 0.0)), "..."))
    )


def _parted(path: Path, where: str, text: str) -> Iterator[Document]:
    """One document, or several where it is longer than memory should hold."""
    while len(text) > LONGEST:
        cut = text.rfind("\n", 1, LONGEST) if "\n" in text[1:LONGEST] else LONGEST
        yield _told(path, where, text[:cut])
        text = text[cut:]
    yield _told(path, where, text)


def _parquet(path: Path, source: Source, progress: Progress) -> Iterator[Document]:
    pyarrow = arrow()
    number, size = 0, stamp(path)[0]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if source.text not in file.schema_arrow.names:
                raise Problem(_no_column(path, source, file.schema_arrow.names))
            for batch in file.iter_batches(1000, columns=[source.text]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    if isinstance(text, str):
                        yield from _parted(path, f"row {number}", text)
                    else:
                        yield Document(f"{path.name} row {number}", "", "no text")
                progress.done = size * number // max(1, file.metadata.num_rows)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Problem(
            f"{path} is no Parquet file, or damaged after row {number:,} ({error}). Fetch it again."
        ) from None


def _wikipedia(path: Path, source: Source, stream: BinaryIO) -> Iterator[Document]:
    """Articles in their markup, which `plain` turns into text; every page is forgotten as soon as it is told."""
    from xml.etree import ElementTree as ET

    pages = 0
    try:
        root = None
        for event, element in ET.iterparse(stream, events=("start", "end")):
            root = element if root is None else root
            if event == "end" and element.tag.rpartition("}")[2] == "page":
                pages += 1
                yield from _page(path, element)
                root.clear()
    except ET.ParseError as error:
        raise Problem(f"{path} breaks off or is no XML after page {pages:,} ({error}). Fetch it again.") from None
    except BROKEN as error:
        raise Problem(f"{path} breaks off or is damaged after page {pages:,} ({error}). Fetch it again.") from None
    if not pages:
        raise Problem(f"{path} has no page in it. A dump is named like enwiki-20240101-pages-articles.xml.bz2.")


def _page(path: Path, page: Any) -> Iterator[Document]:
    found = {element.tag.rpartition("}")[2]: element for element in page.iter()}
    value = {name: (found[name].text or "") if name in found else "" for name in ("title", "ns", "text")}
    if value["ns"] not in ("", "0") or "redirect" in found:
        reason = "no article" if "redirect" not in found else "redirect"
        yield _told(path, value["title"], value["text"][:LONGEST])._replace(reason=reason)
    else:
        yield from _parted(path, value["title"], value["text"])
