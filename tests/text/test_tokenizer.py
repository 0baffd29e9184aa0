"""Strings to ids and back: BERT's ids, offsets that point into the text, windows that cover it."""

import gzip
import unicodedata

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import Problem
from regard.text.tokenizer import Tokenizer, clean, vocabulary, wordpiece

TOKENS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnop"),
    "the", "cat", "un", "##able", "cafe", ",", ".", "!", "中", "文", "🎉",
]  # fmt: skip
TEXTS = [
    "The cat, unable!", "café CAFÉ cafe\u0301", "中文 the中cat文", "🎉the🎉", "", "  a \t b\n", "a\x00b\ufffdc\x07d",
    "[MASK] the [SEP]", "qqqzz", "z" * 150, "the\u2028cat\u00a0the", "ÀÉÎõü ñ", "a.b,c!d",
]  # fmt: skip
WORDS = "the cat a b c d e f g h"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(wordpiece(TOKENS))


@pytest.fixture(params=["bert-base-uncased", "bert-base-chinese"])
def published(request, shared):
    """The bytes of a published vocabulary."""
    found = next(p for p in (shared / "data" / "vocab").iterdir() if request.param.split("-")[-1] in p.name)
    return gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()


def ids(encodings) -> list[list[int]]:
    return [encoding.ids.tolist() for encoding in encodings]


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        ("a\n\u2028\n\u0085\n\x0b\nb\n".encode(), ["a", "\u2028", "\u0085", "\x0b", "b"]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b" \na \n", [" ", "a "]),
    ],
)
def test_one_token_a_line_and_only_a_line_feed_ends_it(content, tokens):
    assert vocabulary(content) == tokens


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_ids_are_those_of_bert(options, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    ours = Tokenizer(wordpiece(TOKENS, options))
    lower, accents = options.get("do_lower_case", True), options.get("strip_accents")
    slow = transformers.models.bert.tokenization_bert_legacy.BertTokenizerLegacy(
        tmp_path / "vocab.txt", do_lower_case=lower, strip_accents=accents,
        tokenize_chinese_chars=options.get("tokenize_chinese_chars", True),
    )  # fmt: skip
    fast = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"), **options)
    pairs = TEXTS[::-1]
    for theirs in (slow, fast):
        assert ids(ours.encode(TEXTS)) == theirs(TEXTS)["input_ids"]
        expected = theirs(TEXTS, pairs)
        assert ids(ours.encode(TEXTS, pairs)) == expected["input_ids"]
        assert [e.segments.tolist() for e in ours.encode(TEXTS, pairs)] == expected["token_type_ids"]
