"""Strings to ids and back: BERT's ids, offsets that point into the text, windows that cover it."""

import gzip
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from regard.errors import Problem
from regard.text.tokenizer import Tokenizer, clean, vocabulary, wordpiece

TOKENS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghijklmnop"), "the", "cat", "un", "##able", "cafe", ",", ".", "!", "中", "文", "🎉",
]  # fmt: skip
TEXTS = [
    "The cat, unable!", "café CAFÉ cafe\u0301", "中文 the中cat文", "🎉the🎉", "", "  a \t b\n", "a\x00b\ufffdc\x07d",
    "[MASK] the [SEP]", "qqqzz", "z" * 150, "the\u2028cat\u00a0the", "ÀÉÎõü ñ", "a.b,c!d",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(wordpiece(TOKENS))


@pytest.fixture(scope="module", params=["bert_uncased_vocab_30522", "bert_chinese_vocab_21128"])
def published(request, shared) -> bytes:
    """A published vocabulary."""
    return gzip.decompress((shared / "data" / "vocab" / f"{request.param}.txt.gz").read_bytes())


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
    slow = BertTokenizerLegacy(
        tmp_path / "vocab.txt", do_lower_case=lower, strip_accents=accents,
        tokenize_chinese_chars=options.get("tokenize_chinese_chars", True),
    )  # fmt: skip
    fast = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"), **options)
    pairs = TEXTS[::-1]
    for theirs in (slow, fast):
        assert ids(ours.encode(TEXTS)) == theirs(TEXTS)["input_ids"]
        expected = theirs(TEXTS, pairs, return_token_type_ids=True)
        assert ids(ours.encode(TEXTS, pairs)) == expected["input_ids"]
        assert [e.segments.tolist() for e in ours.encode(TEXTS, pairs)] == expected["token_type_ids"]


def test_published_vocabularies(published, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(published)
    tokens = vocabulary(published)
    ours, theirs = Tokenizer.load(tmp_path), BertTokenizerLegacy(tmp_path / "vocab.txt")
    assert ours.size == len(tokens) == len(set(tokens)) in (30522, 21128)
    assert all(ours.number(ours.token(number)) == number for number in range(0, ours.size, 97))
    texts = [*TEXTS, "Ångström's unbelievable 2,000-year-old café 🎉", "我爱北京天安门 and New York，价格3.5元"]
    assert ids(ours.encode(texts)) == theirs(texts)["input_ids"]


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.characters(), max_size=40), pair=st.none() | st.text(max_size=20))
def test_any_text_has_an_encoding_in_its_bounds(text, pair, tokenizer):
    pairs = None if pair is None else [pair]
    found = tokenizer.encode([text], pairs, detail=True)[0]
    assert np.array_equal(found.ids, tokenizer.encode([text], pairs)[0].ids)
    assert len(found.ids) == len(found.segments) == len(found.offsets) == len(found.words)
    assert (found.ids[0], found.ids[-1]) == (tokenizer.number("[CLS]"), tokenizer.number("[SEP]"))
    for segment, (start, end), word in zip(found.segments, found.offsets, found.words, strict=True):
        assert 0 <= start <= end <= len([text, pair][segment])
        assert (end > start) == (word >= 0)


@pytest.mark.parametrize("text", ["The cat, unable! 中文cat", "ÀBÇ cafe\u0301 the\x00cat\u2028🎉 UN", "  b\ta  "])
def test_offsets_recover_what_tokens_were_made_of(text, tokenizer):
    def plain(part: str) -> str:
        letters = unicodedata.normalize("NFD", part.lower())
        return "".join(c for c in letters if unicodedata.category(c) not in ("Mn", "Cc"))

    for texts in ([text], ["a", text]):
        found = tokenizer.encode(texts[:1], texts[1:] or None, detail=True)[0]
        for token, segment, (start, end) in zip(tokenizer.tokens(found), found.segments, found.offsets, strict=True):
            if not token.startswith("["):
                assert plain(texts[segment][start:end]) == token.removeprefix("##")


def test_words_number_the_pieces_of_each_text(tokenizer):
    found = tokenizer.encode(["unable, cat"], ["中文 abc"], detail=True)[0]
    assert tokenizer.tokens(found) == [
        "[CLS]", "un", "##able", ",", "cat", "[SEP]", "中", "文", "a", "##b", "##c", "[SEP]",
    ]  # fmt: skip
    assert found.words.tolist() == [-1, 0, 0, 1, 2, -1, 0, 1, 2, 2, 2, -1]
    assert found.segments.tolist() == [0] * 6 + [1] * 6
    assert found.offsets.tolist()[1:5] == [[0, 2], [2, 6], [6, 7], [8, 11]]
    plain = tokenizer.encode(["unable"])[0]
    assert plain.offsets is None and plain.words is None


@pytest.mark.parametrize("max_length", [2, 3, 5, 11, 12, 13, 99])
def test_what_is_cut_is_counted(max_length, tokenizer):
    whole = tokenizer.encode(["a b c d e f g h i j"])[0].ids
    found = tokenizer.encode(["a b c d e f g h i j"], max_length=max_length)[0]
    kept = min(max_length, len(whole))
    assert found.ids.tolist() == [*whole[: kept - 1], whole[-1]]
    assert found.dropped == len(whole) - kept


@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 12, 13, 14])
def test_the_longer_of_a_pair_is_cut_first(max_length, tokenizer):
    found = tokenizer.encode(["a b c d e f g"], ["a b c d"], max_length=max_length)[0]
    lengths = [7, 4]
    while sum(lengths) + 3 > max_length:
        lengths[0 if lengths[0] > lengths[1] else 1] -= 1
    assert np.bincount(found.segments).tolist() == [lengths[0] + 2, lengths[1] + 1]
    assert found.dropped == 11 - sum(lengths)


@pytest.mark.parametrize("detail", [False, True])
@pytest.mark.parametrize(("max_length", "stride"), [(7, 2), (7, 4), (12, 1), (30, 3)])
def test_windows_cover_the_text_and_overlap_as_asked(max_length, stride, detail, tokenizer):
    texts = ["a b", "".join(f"{c} " for c in "abcdefghijklmnopqrstuvwxyz"), "", "the cat " * 9]
    found = tokenizer.encode(texts, max_length=max_length, stride=stride, detail=detail)
    assert [e.source for e in found] == sorted(e.source for e in found)
    for place, text in enumerate(texts):
        windows = [e.ids for e in found if e.source == place]
        assert all(len(w) <= max_length and (w[0], w[-1]) == (2, 3) for w in windows)
        assert all(len(w) == max_length for w in windows[:-1])
        assert all(np.array_equal(a[-1 - stride : -1], b[1 : 1 + stride]) for a, b in pairwise(windows))
        joined = [*windows[0][1:-1], *(number for w in windows[1:] for number in w[1 + stride : -1])]
        assert joined == tokenizer.encode([text])[0].ids.tolist()[1:-1]
    assert all(e.dropped == 0 for e in found)
    if detail:
        assert [e.words.max() for e in found if e.source == 1][-1] == 25


@pytest.mark.parametrize("longer", [0, 1])
def test_windows_of_a_pair_keep_the_shorter_text_whole(longer, tokenizer):
    long, short = "a b c d e f g h i j k l m n", "x y z"
    given = (long, short) if longer == 0 else (short, long)
    found = tokenizer.encode([given[0]], [given[1]], max_length=11, stride=2)
    assert len(found) > 2 and all(len(e.ids) <= 11 for e in found)
    numbers = {text: tokenizer.encode([text])[0].ids[1:-1].tolist() for text in given}
    parts = []
    for window in found:
        first = window.ids[window.segments == 0][1:-1].tolist()
        second = window.ids[window.segments == 1][:-1].tolist()
        part, whole = (first, second) if longer == 0 else (second, first)
        assert whole == numbers[short]
        parts.append(part)
    assert all(a[-2:] == b[:2] for a, b in pairwise(parts))
    assert parts[0] + [number for part in parts[1:] for number in part[2:]] == numbers[long]


@pytest.mark.parametrize(("texts", "pairs", "stride"), [(["a " * 20], None, 6), (["a " * 20], ["b " * 6], 5)])
def test_windows_that_could_not_advance(texts, pairs, stride, tokenizer):
    with pytest.raises(Problem, match="lower the stride"):
        tokenizer.encode(texts, pairs, max_length=8, stride=stride)


def test_two_long_texts_leave_each_other_room(tokenizer):
    """The shorter keeps half the room beside the stride, and what it lost is counted once."""
    found = tokenizer.encode(["a " * 200], ["b " * 100], max_length=64, stride=16)
    first, second = tokenizer.number("a"), tokenizer.number("b")
    assert len(found) > 1
    assert all(len(e.ids) <= 64 and (e.ids == second).sum() == 22 for e in found)
    assert sum((e.ids == first).sum() for e in found) - 16 * (len(found) - 1) == 200
    assert [e.dropped for e in found] == [78] + [0] * (len(found) - 1)


@pytest.mark.parametrize("text", ["a\ud83d", "\udc00b", "a\ud83d\ude00b", "\ud800"])
def test_half_surrogates_become_question_marks(text, tokenizer):
    assert len(clean(text)) == len(text)
    assert clean(text).encode("utf-8").count(b"?") == sum("\ud800" <= c <= "\udfff" for c in text)
    assert ids(tokenizer.encode([text])) == ids(tokenizer.encode([clean(text)]))
    assert ids(tokenizer.encode(["a"], [text])) == ids(tokenizer.encode(["a"], [clean(text)]))


def test_whole_text_is_left_as_it_is():
    assert clean("naïve 🎉 \x00 \u2028") == "naïve 🎉 \x00 \u2028"


@pytest.mark.parametrize("wrong", [None, 3, 2.5, b"bytes", ["list"], float("nan")])
def test_what_is_no_string_is_a_problem(wrong, tokenizer):
    with pytest.raises(Problem, match=type(wrong).__name__):
        tokenizer.encode(["a", wrong])
    with pytest.raises(Problem, match="must be a string"):
        tokenizer.encode(["a"], [wrong])


def test_nothing_and_next_to_nothing(tokenizer):
    assert tokenizer.encode([]) == []
    assert ids(tokenizer.encode(["", "   ", "\x00"])) == [[2, 3]] * 3
    assert ids(tokenizer.encode([""], [""])) == [[2, 3, 3]]


def test_long_and_short_texts_keep_their_places(tokenizer):
    texts = ["a", "b " * 50, "", "c", "d " * 60]
    found = tokenizer.encode(texts, max_length=10)
    assert [e.source for e in found] == [0, 1, 2, 3, 4]
    assert [e.dropped for e in found] == [0, 42, 0, 0, 52]


def test_tokens_and_numbers(tokenizer):
    assert tokenizer.size == len(TOKENS)
    assert tokenizer.number("##able") == TOKENS.index("##able")
    assert tokenizer.number("nothing") is None
    assert tokenizer.token(5) == "a"


@pytest.mark.parametrize("missing", ["[CLS]", "[SEP]", "[UNK]"])
def test_a_vocabulary_without_special_tokens(missing):
    with pytest.raises(Problem, match=missing.strip("[]")):
        wordpiece([token for token in TOKENS if token != missing])


def test_special_tokens_by_other_names():
    names = {"unk": "<unk>", "cls": "<s>", "sep": {"content": "</s>"}, "pad": "<pad>", "mask": "<mask>"}
    tokens = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "a"]
    found = Tokenizer(wordpiece(tokens, {f"{k}_token": v for k, v in names.items()})).encode(["a ? <mask>"])
    assert ids(found) == [[2, 5, 1, 4, 3]]


def test_saving_keeps_the_bytes_and_adds_one_file(tmp_path, tokenizer):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    (old / "vocab.txt").write_bytes("\r\n".join(TOKENS).encode())
    (old / "tokenizer_config.json").write_text('{ "do_lower_case":false }')
    Tokenizer.load(old).save(new)
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (old / name).read_bytes() == (new / name).read_bytes()
    assert sorted(path.name for path in new.iterdir()) == ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert ids(Tokenizer.load(new).encode(TEXTS)) == ids(Tokenizer.load(old).encode(TEXTS))
    assert Tokenizer.load(new).number("the") == tokenizer.number("the")
