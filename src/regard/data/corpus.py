"""Running text as a stream: line by line, plain or packed, in memory that does not grow with the file.

A line is a sentence or a paragraph; an empty line ends a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from regard.data.compression import BROKEN, Progress, opened
from regard.disk import locate
from regard.errors import Problem

# Behind a full stop and what closes with it: a space before what may begin a sentence; in Chinese nothing.
_END = re.compile(
    r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)\]]))\s+(?=["'“‘(\[]?[^\W_a-z])|"""
    r"""(?:(?<=[。！？…])|(?<=[。！？…][”’」』）]))(?![。！？…”’」』）])"""
)

# A full stop that ends no sentence: of an initial, or of what is written short before a name or a number.
_SHORT = re.compile(
    r"""(?:^|[\s("'“‘\[.])(?:[^\W\d_a-zI]|(?:Mr|Mrs|Ms|Messrs|Dr|Prof|St|Mt|Gen|Col|Capt|Cdr|Lt|Maj|Sgt|Rev|Hon|Gov|"""
    r"""Sen|Rep|Pres|vs|cf|No|Nos|Vol|Fig|pp|Jan|Feb|Aug|Sept|Oct|Nov|Dec))\.$"""
)


class Corpus:
    """The lines of a text file in UTF-8; `share` says how much of the file has been read.

    With `paragraphs` the file has a paragraph a line, and every sentence of it is a line here (`sentences`).
    """

    def __init__(self, path: str | Path, *, paragraphs: bool = False) -> None:
        self.path, self.paragraphs = locate(path), paragraphs
        if self.path.is_dir():
            raise Problem(f"{self.path} is a folder. Name one file of running text.")
        self.size = self.path.stat().st_size
        self.undecodable = 0  # lines with bytes that are no UTF-8, which are read as U+FFFD
        self.nul = 0  # lines with NUL characters, read so as well, which text does not have
        self._progress = Progress()

    @property
    def share(self) -> float:
        """From 0 to 1, by the bytes of the file."""
        return self._progress.done / max(1, self.size)

    def lines(self) -> Iterator[str]:
        """Every line without its end, the empty ones included; raises `Problem` where the file is broken off."""
        self._progress, number = Progress(), 0
        with opened(self.path, self._progress) as stream:
            try:
                for number, line in enumerate(stream, 1):
                    text = self._text(line, first=number == 1)
                    yield from sentences(text) if self.paragraphs else [text]
            except BROKEN as error:
                raise Problem(
                    f"{self.path} is broken off or damaged after line {number:,} ({error}). Fetch it again."
                ) from None

    def _text(self, line: bytes, *, first: bool) -> str:
        if first:
            line = line.removeprefix(b"\xef\xbb\xbf")
        text = line.decode("utf-8", "replace").rstrip("\r\n").replace("\0", "\ufffd")
        self.nul += b"\0" in line
        if "\ufffd" in text and b"\xef\xbf\xbd" not in line and b"\0" not in line:
            self.undecodable += 1
        return text


def sentences(text: str) -> list[str]:
    """A text parted behind its full stops, question and exclamation marks, English or Chinese; an empty one is kept.

    A rule of thumb: initials and common abbreviations end no sentence, whether or not they stand at the end of one.
    """
    parts, start = [], 0
    for end in _END.finditer(text):
        if not _SHORT.search(text[max(start, end.start() - 10) : end.start()]):
            parts.append(text[start : end.start()])
            start = end.end()
    return [part for part in [*parts, text[start:]] if part.strip()] or [text]


def pairs(lines: Sequence[str], sizes: Sequence[int], room: int) -> tuple[list[tuple[str, str]], int]:
    """Neighbouring lines of one document as pairs of texts of at most `room` tokens together, and the lines used up.

    As many lines as fit are parted where the halves are most alike in length (the segments of BERT's pre-training,
    without chance). A line alone, or longer than the room, is no pair and is passed over. Lines at the end that could
    still be joined by later ones are not used up.
    """
    out: list[tuple[str, str]] = []
    start = 0
    while True:
        end, tokens = start, 0
        while end < len(lines) and tokens + sizes[end] <= room:
            tokens += sizes[end]
            end += 1
        if end == len(lines):
            return out, start
        if end - start > 1:
            out.append(parted(lines[start:end], sizes[start:end]))
        start = max(end, start + 1)


def parted(lines: Sequence[str], sizes: Sequence[int]) -> tuple[str, str]:
    """Two or more lines as two texts, parted where the first is nearest to half of all tokens."""
    half, total, gaps = sum(sizes) / 2, 0, []
    for size in sizes[:-1]:
        total += size
        gaps.append(abs(total - half))
    middle = 1 + gaps.index(min(gaps))
    return " ".join(lines[:middle]), " ".join(lines[middle:])
