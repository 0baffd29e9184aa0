"""A vocabulary of word pieces learnt from texts, and how well one fits a language.

Words are counted first, in memory that has a bound, then joined from characters by the `tokenizers` library: the pair
of neighbours that is most frequent becomes a piece, again and again (Sennrich et al. 2016). Words are BERT's: parted by
space and punctuation, and every Chinese character by itself. The same texts give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any, TypeVar

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from regard.errors import Problem
from regard.text.tokenizer import Tokenizer, clean, wordpiece
from regard.text.words import CHINESE, Segmenter

Row = TypeVar("Row")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BLOCK = 1 << 16  # characters that are normalised in one call
LONGEST = 100  # characters of a word; a longer one is [UNK] to BERT
RUNNING = 20_000_000  # words that the library is given at most: beyond, all counts are divided alike


class Counts:
    """How often each word occurs in the texts that were added, and each character in those words.

    Once there are more than `most` different words, the rarest are dropped until half as many are left, and `floor`
    says how often a word may have occurred by then and yet be missing.
    """

    def __init__(self, *, lowercase: bool = True, most: int = 4_000_000) -> None:
        self.lowercase, self.most, self.floor = lowercase, most, 0
        self.texts = self.characters = 0
        self.words: Counter[str] = Counter()
        self._normal = normalizers.BertNormalizer(lowercase=lowercase)
        self._block: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        """Counts the words of a text."""
        self.texts += 1
        self.characters += len(text)
        self._block.append(text)
        self._size += len(text) + 1
        if self._size >= BLOCK:
            self.settle()

    def settle(self) -> None:
        """Counts what was added and not yet looked at: many short texts are normalised at once."""
        text = self._normal.normalize_str(clean("\n".join(self._block)))
        self.words.update(_word_pattern().findall(text))
        self._block, self._size = [], 0
        if len(self.words) <= self.most:
            return
        while len(self.words) > self.most // 2:
            self.floor += 1
            self.words = Counter({word: count for word, count in self.words.items() if count > self.floor})


def train(
    counts: Counts,
    size: int,
    *,
    share: float = 0.9999,
    least: int = 2,
    advance: Callable[[float], Any] = lambda share: None,
) -> Tokenizer:
    """A tokenizer with at most `size` ids: special tokens, characters, characters within a word, then joined pieces.

    The characters are the most frequent that make up `share` of all, none seen less than `least` times. Raises
    `Problem` where they alone need more ids than there are, or where there is no text.
    """
    counts.settle()
    characters = _alphabet(counts.words, share, least)
    known = set(characters)
    words = {word: n for word, n in counts.words.items() if len(word) <= LONGEST and known.issuperset(word)}
    if not words:
        raise Problem("No words were found to learn from. Give files with more text.")
    inner = {character for word in words for character in word[1:]}
    inside = [f"##{character}" for character in characters if character in inner]
    if (needed := len(SPECIAL) + len(characters) + len(inside)) > size:
        raise Problem(
            f"{size:,} ids are too few: characters alone need {needed:,}. Raise --size, or lower --share, which says "
            "how much of all text the characters must make up."
        )
    joined = _joined({w: n for w, n in words.items() if len(w) > 1}, characters, inside, size, least, advance)
    return tokenizer([*SPECIAL, *characters, *inside, *joined], lowercase=counts.lowercase)


def tokenizer(vocabulary: list[str], *, lowercase: bool) -> Tokenizer:
    """BERT's tokenizer over a vocabulary, with the files of a folder that transformers reads alike."""
    settings = {
        "tokenizer_class": "BertTokenizer", "do_lower_case": lowercase, "strip_accents": None,
        "tokenize_chinese_chars": True,
    } | {f"{token[1:-1].lower()}_token": token for token in SPECIAL}  # fmt: skip
    whole = wordpiece(vocabulary, settings)
    files = {
        "tokenizer.json": whole.to_str(pretty=True),
        "vocab.txt": "\n".join(vocabulary) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }
    return Tokenizer(whole, files={name: content.encode() for name, content in files.items()})


@dataclass(slots=True)
class Fit:
    """How a vocabulary fits the texts of a language: what it has no piece for, and how many pieces it needs."""

    language: str
    texts: int = 0
    characters: int = 0  # without spaces
    unknown_characters: int = 0  # in words that became [UNK]
    words: int = 0
    unknown_words: int = 0  # with an [UNK] in them
    tokens: int = 0

    def table(self) -> dict[str, Any]:
        """Coverage is the share without [UNK]; fertility is the number of tokens for each word or character."""
        words, characters = max(1, self.words), max(1, self.characters)
        return {
            "language": self.language, "texts": self.texts, "characters": self.characters, "words": self.words,
            "tokens": self.tokens, "character_coverage": 1 - self.unknown_characters / characters,
            "word_coverage": 1 - self.unknown_words / words, "tokens_per_word": self.tokens / words,
            "tokens_per_character": self.tokens / characters,
        }  # fmt: skip


def measure(tokenizer: Tokenizer, texts: Iterable[tuple[str, str]], segment: Segmenter) -> list[Fit]:
    """How the vocabulary fits each language of (language, text), by the words of a segmenter, languages by name."""
    unknown = tokenizer.number("[UNK]")
    found: dict[str, Fit] = {}
    for rows in _parts(texts):
        encodings = tokenizer.encode([text for _, text in rows], max_length=sys.maxsize, detail=True)
        for (language, text), encoding in zip(rows, encodings, strict=True):
            assert encoding.words is not None and encoding.offsets is not None
            fit = found.setdefault(language, Fit(language))
            spans = segment(text)
            lost = encoding.offsets[(encoding.ids == unknown) & (encoding.words >= 0)]
            fit.texts += 1
            fit.characters += sum(map(len, text.split()))
            fit.words += len(spans)
            fit.tokens += int((encoding.words >= 0).sum())
            fit.unknown_characters += int((lost[:, 1] - lost[:, 0]).sum())
            if len(lost):
                # Words that an [UNK] overlaps: the segmenter's and BERT's words need not be the same.
                starts, ends = np.array(spans).T
                first, last = np.searchsorted(ends, lost[:, 0], side="right"), np.searchsorted(starts, lost[:, 1])
                fit.unknown_words += len({n for a, b in zip(first, last, strict=True) for n in range(a, b)})
    return [found[language] for language in sorted(found)]


def language(text: str) -> str:
    """The language by the script alone: zh where half of the letters are Chinese, else en."""
    letters = sum(map(str.isalpha, text))
    return "zh" if letters and 2 * len(_chinese().findall(text)) >= letters else "en"


def by_characters(text: str) -> list[tuple[int, int]]:
    """BERT's own words as a segmenter, for want of one that knows Chinese words: each character by itself."""
    return [
        found.span() for found in re.finditer(rf"[{CHINESE}{_punctuation()}]|[^\s{CHINESE}{_punctuation()}]+", text)
    ]


def _alphabet(words: Counter[str], share: float, least: int) -> list[str]:
    """The characters to keep, the most frequent first, and by code point among equals."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda c: (-characters[c], c))
    total = characters.total()
    ahead = accumulate((characters[c] for c in ranked), initial=0)
    return [c for c, before in zip(ranked, ahead, strict=False) if before < share * total and characters[c] >= least]


def _joined(
    words: dict[str, int], characters: list[str], inside: list[str], size: int, least: int, advance: Callable[..., Any]
) -> list[str]:
    """The pieces that the library joins from characters, the most frequent first."""
    # The library numbers what it meets in words in an order that changes from run to run, and breaks ties between pairs
    # by these numbers. Given as special tokens, in whose place nothing is changed, they have numbers from the start.
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=least, show_progress=False, special_tokens=[*SPECIAL, *inside],
        initial_alphabet=characters, limit_alphabet=len(characters),
    )  # fmt: skip
    learner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_running(words, advance), trainer)
    ids = learner.get_vocab()
    given = {*SPECIAL, *inside, *characters}
    return sorted((token for token in ids if token not in given), key=ids.__getitem__)


def _running(words: dict[str, int], advance: Callable[..., Any]) -> Iterator[str]:
    """Words as text again, as often as they were counted, for the library takes no counts."""
    total = sum(words.values())
    divisor = max(1.0, total / RUNNING)
    done = 0
    for some in _parts(words.items()):
        for word, count in some:
            left = round(count / divisor)
            while left > 0:
                yield " ".join([word] * min(left, 10_000))
                left -= 10_000
        done += sum(count for _, count in some)
        advance(done / total)


def _parts(rows: Iterable[Row], size: int = 1000) -> Iterator[list[Row]]:
    rows = iter(rows)
    while part := list(islice(rows, size)):
        yield part


@lru_cache
def _punctuation() -> str:
    """What BERT parts words by, as the inside of a character class: signs that the library takes for punctuation.

    It is asked of each, for it knows another version of Unicode than Python does.
    """
    parts = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    signs = [c for c in map(chr, range(33, sys.maxunicode + 1)) if unicodedata.category(c)[0] in "PS"]
    return re.escape("".join(c for c in signs if len(parts(f"0{c}")) > 1))


@lru_cache
def _word_pattern() -> re.Pattern[str]:
    return re.compile(rf"[{_punctuation()}]|[^\s{_punctuation()}]+")


@lru_cache
def _chinese() -> re.Pattern[str]:
    return re.compile(f"[{CHINESE}]")
