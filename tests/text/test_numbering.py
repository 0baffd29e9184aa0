"""Tokens that are looked up are those of the tokenizer, and their words those of the segmenter, line by line."""

import functools
import lzma

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from regard.text import lattice, numbering
from regard.text.numbering import Numbering
from regard.text.tokenizer import Tokenizer, clean, wordpiece
from regard.text.words import segmenter, words_of

pytest.importorskip("jieba")

LETTERS = "abcdefgizİσςéñß'.,-$€½中国人北京々〇ー한"
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    "ab",
    "##ing",
    "\u0301",
]


def bert(**settings):
    return wordpiece(VOCABULARY, settings)


def with_token(content, **settings):
    whole = bert()
    whole.add_tokens([tokenizers.AddedToken(content, **settings)])
    return whole


def by_bytes():
    """A tokenizer for which a space is part of the word behind it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = tokenizers.Tokenizer(
        models.BPE({c: n for n, c in enumerate([*alphabet, "Ġa", "[CLS]", "[SEP]"])}, [("Ġ", "a")])
    )
    whole.normalizer = normalizers.NFC()
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [("[CLS]", len(alphabet) + 1), ("[SEP]", len(alphabet) + 2)]
    whole.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return whole


TOKENIZERS = {
    "uncased": bert(),
    "cased": bert(do_lower_case=False),
    "accents kept": bert(strip_accents=False),
    "Chinese in words": bert(tokenize_chinese_chars=False),
    "a token with a space": with_token("a b"),
    "a Chinese token": with_token("国人"),
    "a token that takes spaces": with_token("<x>", lstrip=True),
    "a token by itself": with_token("<x>", single_word=True, normalized=False),
    "a token": with_token("<x>", normalized=False),
    "bytes": by_bytes(),
}


@functools.lru_cache
def numbering_of(name, words):
    tokenizer = Tokenizer(TOKENIZERS[name])
    return tokenizer, Numbering(tokenizer, words)


def line_by_line(tokenizer, words, text):
    """Ids, whether a word begins at each, and the token that each line begins with, as they are defined."""
    ids, begins, lines = [], [], []
    for line in map(clean, text.split("\n")):
        lines.append(len(ids))
        if line.strip():
            encoding = tokenizer.encode([line], max_length=1 << 30, detail=True)[0]
            inner = words_of(encoding, [line], segmenter(words))
            ids += encoding.ids[inner >= 0].tolist()
            begins += (np.diff(inner[inner >= 0], prepend=-1) != 0).tolist()
    return ids, begins, lines


def looked_up(number, text):
    return tuple(part.tolist() for part in number(text))


TEXTS = st.lists(
    st.characters()
    | st.sampled_from(LETTERS + " \n\t\r\u3000\u2028\xa0\0\u0301\u200d\ufeff\ud800AB[]")
    | st.sampled_from([" ", "\n", "[MASK]", "<x>", "a b", "国人"]),
    max_size=40,
).map("".join)


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXTS, max_size=3))
@example(["a \u0301b\u0301 中\u0301国", " [MASK] [mask]<x> a b国人人 <x>中", "€3 ab½ 々人々〇ー한", "'ab' ab's 中's"])
@example(["\0 a\0 \0a", "\u3000\n\n \n", "", "\ud800中\ud800 a"])
@pytest.mark.parametrize("words", ["auto", "space", "zh"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_all_text_is_numbered_as_line_by_line(name, words, texts):
    tokenizer, number = numbering_of(name, words)
    for text in [*texts, "\n".join(texts)]:
        assert looked_up(number, text) == line_by_line(tokenizer, words, text)


@pytest.mark.parametrize("name", ["en_movie_reviews", "zh_tech_articles", "zh_classics_in_modern"])
@pytest.mark.parametrize("model", ["m3e-small", "minilm-l6"])
def test_real_text_in_bounded_memory(name, model, shared, checkpoint, monkeypatch):
    tokenizer = Tokenizer.load(checkpoint(model))
    with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        text = file.read(30_000)
    wanted = line_by_line(tokenizer, "auto", text)
    assert looked_up(Numbering(tokenizer), text) == wanted
    monkeypatch.setattr(numbering, "AT_ONCE", 10_000)
    monkeypatch.setattr(numbering, "REMEMBERED", 5_000)
    monkeypatch.setattr(lattice, "FEW", 0)
    number = Numbering(tokenizer)
    assert looked_up(number, text) == wanted == looked_up(number, text)
    assert number._size < 5_000 + 10_000 + 25_000  # what was remembered, was met now, and all Chinese characters
