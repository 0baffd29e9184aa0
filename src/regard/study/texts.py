"""The texts of a corpus as a model reads them: lines or pairs of lines, encoded in chunks, batched by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard.batch import Encoding
from regard.data.corpus import Corpus, pairs, parted
from regard.data.packing import cut, pack
from regard.errors import Problem
from regard.lens.capture import Capture, capture
from regard.model.encoder import Encoder
from regard.system import System
from regard.text.tokenizer import Tokenizer

CHUNK = 2048  # texts encoded and sorted by length at a time, or fewer
CHARACTERS = 2**17  # where they have this many together: a pass can be taken up behind every chunk
CAPTURE_TOKENS = 1024  # of a capture: it holds queries and keys of all layers, and two may be held at once
NO_PAIRS = (
    "no two neighbouring lines that fit the model together, so there are no pairs of texts. If it has a paragraph a "
    "line, say --paragraphs, and sentences are taken for lines."
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a corpus is read."""

    length: int = 0  # tokens of a text; 0: the model's own limit
    pairs: bool = False  # neighbouring lines as [CLS] A [SEP] B [SEP], as in pre-training
    segments: bool = True  # whether the model is told which text of a pair a token is of
    texts: int = 0  # at most so many; 0: all


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some texts in the order of the file."""

    lines: int  # used up with this chunk, from the start of the file
    encodings: list[Encoding]
    texts: list[tuple[str, ...]]


def room(system: System, reading: Reading) -> int:
    """How many tokens of a text are read; raises `Problem` where the model cannot read so many."""
    most = system.model.encoder.config.positions
    length = reading.length or min(system.card.max_length, most)
    if not 8 <= length <= most:
        raise Problem(f"Texts of {length} tokens: this model reads between 8 and {most}.")
    return length


def chunks(
    tokenizer: Tokenizer,
    corpus: Corpus,
    reading: Reading,
    tokens: int,
    *,
    lines: int = 0,
    texts: int = 0,
    detail: bool = False,
) -> Iterator[Chunk]:
    """Texts of at most so many tokens, from where an earlier pass was stopped: after `lines`, with `texts` read."""
    find = _pairs if reading.pairs else _lines
    left = reading.texts - texts if reading.texts else None
    for used, found in find(tokenizer, corpus, tokens, lines):
        some = found[:left]
        if left is not None:
            left -= len(some)
        if some:
            second = [text[1] for text in some] if reading.pairs else None
            firsts = [text[0] for text in some]
            encodings = tokenizer.encode(firsts, second, max_length=tokens, detail=detail)
            if not reading.segments:
                encodings = [replace(e, segments=np.zeros_like(e.segments)) for e in encodings]
            yield Chunk(used, encodings, some)
        if left == 0:
            return


def alike(encodings: Sequence[Encoding], budget: int) -> Iterator[list[int]]:
    """Places of encodings of like length, of at most `budget` tokens together."""
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
    return (order[span] for span in cut([len(encodings[i].ids) for i in order], budget))


def captures(encoder: Encoder, encodings: Sequence[Encoding]) -> Iterator[tuple[Capture, list[Encoding]]]:
    """What attention was computed from, batch by batch in the order given, with the sequences of each batch."""
    for span in cut([len(e.ids) for e in encodings], CAPTURE_TOKENS):
        packed = pack(encodings[span]).to(encoder.embeddings.word.device)
        yield capture(encoder, packed), list(encodings[span])


def remarks(corpus: Corpus, reading: Reading, *, texts: int, cut: int, tokens: int) -> list[str]:
    """What is to be said of a corpus that was read, in sentences; a `Problem` where it had no text at all."""
    if not texts:
        raise Problem(f"{corpus.path} has {NO_PAIRS if reading.pairs else 'no text to read.'}")
    said = []
    if cut:
        said.append(f"{cut:,} of {texts:,} texts are longer than {tokens} tokens and were cut.")
    if corpus.undecodable:
        said.append(f"{corpus.undecodable:,} lines have bytes that are no UTF-8.")
    return said


def _lines(_: Tokenizer, corpus: Corpus, tokens: int, skip: int) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """Every line with something in it is a text."""
    texts: list[tuple[str, ...]] = []
    number = characters = 0
    for number, line in enumerate(corpus.lines(), 1):
        if number > skip and line.strip():
            texts.append((line,))
            characters += len(line)
            if len(texts) == CHUNK or characters >= CHARACTERS:
                yield number, texts
                texts, characters = [], 0
    yield number, texts


def _pairs(tokenizer: Tokenizer, corpus: Corpus, tokens: int, skip: int) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """Neighbouring lines of one document, as many as fit, are a pair."""
    texts: list[tuple[str, ...]] = []
    lines: list[str] = []
    sizes: list[int] = []
    number = characters = 0

    def measure() -> None:
        fresh = lines[len(sizes) :]
        sizes.extend(len(e.ids) - 2 for e in tokenizer.encode(fresh, max_length=1 << 20) if fresh)

    for number, line in enumerate(corpus.lines(), 1):
        if number <= skip:
            continue
        characters += len(line)
        if line.strip():
            lines.append(line)
        at_end = not line.strip()
        if at_end or len(lines) % 256 == 0:
            measure()
            found, used = pairs(lines, sizes, tokens - 3)
            texts += found
            lines, sizes = lines[used:], sizes[used:]
            if at_end:
                texts += [parted(lines, sizes)] if len(lines) > 1 else []
                lines, sizes = [], []
        if len(texts) >= CHUNK or (texts and characters >= CHARACTERS):
            yield number - len(lines), texts
            texts, characters = [], 0
    measure()
    found, used = pairs(lines, sizes, tokens - 3)
    rest = lines[used:]
    texts += found + ([parted(rest, sizes[used:])] if len(rest) > 1 else [])
    yield number, texts
