"""A vocabulary learnt from texts: the same bytes each time, the same ids as transformers, and what it covers."""

import gzip
import lzma
import subprocess
import sys
from collections import Counter

import pytest
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from regard.errors import Problem
from regard.text import vocabulary
from regard.text.tokenizer import Tokenizer
from regard.text.vocabulary import SPECIAL, Counts, by_characters, language, measure, train

TEXTS = ["The lower the slower; the slowest is lowest.", "他是一名医生，在医院工作。", "newer, newest café"] * 20
HARD = [
    "The Slowest DOCTOR in 北京市 (2023), naïve ☃ unseen鿿 text [MASK] ok", "", "  ", "医生的lowest工作！", "x" * 150,
]  # fmt: skip


def counted(texts, **settings):
    counts = Counts(**settings)
    for text in texts:
        counts.add(text)
    return counts


@pytest.fixture(scope="module")
def lines(shared):
    """A thousand lines of each language."""
    out = []
    for name in ("en_movie_reviews", "zh_tech_articles"):
        with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
            out += [line.strip() for line, _ in zip(file, range(2000), strict=False) if line.strip()]
    return out


def words_of_bert(texts, lowercase):
    normal, parts = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    return Counter(word for text in texts for word, _ in parts.pre_tokenize_str(normal.normalize_str(text)))


@pytest.mark.parametrize("lowercase", [True, False])
def test_words_are_counted_as_bert_parts_them(lowercase, lines):
    counts = counted([*lines, *HARD], lowercase=lowercase)
    counts.settle()
    assert counts.words == words_of_bert([*lines, *HARD], lowercase)
    assert (counts.texts, counts.floor) == (len(lines) + len(HARD), 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=20), max_size=4))
@example(["0𑨿", "a⹃b᙭c $ ⹒"])  # punctuation to one version of Unicode, and not to another
def test_any_text_is_counted_as_bert_parts_it(texts):
    counts = counted(texts)
    counts.settle()
    found, expected = counts.words, words_of_bert(["\n".join(texts)], True)
    assert found == expected


def test_special_tokens_then_characters_then_pieces():
    tokenizer = train(counted(TEXTS), 200)
    tokens = [tokenizer.token(number) for number in range(tokenizer.size)]
    assert tuple(tokens[:5]) == SPECIAL
    assert {"the", "slowest", "医", "##e", "，"} <= set(tokens)
    assert not any("医" in token for token in tokens if token != "医")  # Chinese characters are apart
    assert not any(token.startswith("##") for token in tokens[5 : tokens.index("##e")] if token != "##e")
    assert tokens.index("w") < tokens.index("##e") < tokens.index("the")


def test_the_size_is_kept_and_reached(lines):
    for size in (3000, 5000):
        assert train(counted(lines), size).size == size


def test_the_same_texts_give_the_same_bytes(tmp_path, lines):
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from regard.text.vocabulary import Counts, train; counts = Counts()\n"
        "for line in Path(sys.argv[1]).read_text(encoding='utf-8').split('\\n'): counts.add(line)\n"
        "train(counts, 4000).save(sys.argv[2])"
    )
    for out in ("a", "b", "c"):
        (tmp_path / out).mkdir()
        subprocess.run([sys.executable, "-c", code, tmp_path / "lines.txt", tmp_path / out], check=True)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        assert len({(tmp_path / out / name).read_bytes() for out in ("a", "b", "c")}) == 1


def test_nor_does_the_order_of_texts_matter(lines):
    one, other = train(counted(lines), 4000), train(counted(lines[::-1]), 4000)
    assert one.definition() == other.definition()


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_transformers(lowercase, tmp_path, lines):
    train(counted(lines, lowercase=lowercase), 4000).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
    ours = [encoding.ids.tolist() for encoding in Tokenizer.load(tmp_path).encode([*lines[::7], *HARD])]
    words = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    assert ours == words([*lines[::7], *HARD], truncation=True, max_length=512)["input_ids"]
    (tmp_path / "tokenizer.json").unlink()  # and from vocab.txt alone, with the settings
    assert ours == [encoding.ids.tolist() for encoding in Tokenizer.load(tmp_path).encode([*lines[::7], *HARD])]
    bare = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    assert ours == bare([*lines[::7], *HARD], truncation=True, max_length=512)["input_ids"]


def test_memory_is_bounded_by_dropping_rare_words():
    texts = [f"common words again w{number}" for number in range(10_000)]
    bounded = counted(texts, most=1000)
    bounded.settle()
    assert len(bounded.words) <= 1000 and bounded.floor >= 1
    assert all(bounded.words[word] == 10_000 for word in ("common", "words", "again"))


def test_more_words_than_the_library_is_given_keep_their_proportions(monkeypatch, lines):
    whole = train(counted(lines), 3000)
    monkeypatch.setattr(vocabulary, "RUNNING", 20_000)
    shares = []
    part = train(counted(lines), 3000, advance=shares.append)
    pieces = [{t.token(n) for n in range(t.size)} for t in (whole, part)]
    assert len(pieces[0] & pieces[1]) > 0.8 * len(pieces[0])
    assert shares == sorted(shares) and shares[-1] == 1


def test_what_a_vocabulary_covers():
    tokenizer = train(counted(TEXTS), 120)
    rows = [("en", "the slowest ☃ café"), ("zh", "医生工作鿿"), ("en", "")]
    english, chinese = (fit.table() for fit in measure(tokenizer, rows, by_characters))
    assert (english["language"], english["texts"], english["characters"], english["words"]) == ("en", 2, 15, 4)
    assert english["character_coverage"] == pytest.approx(14 / 15)
    assert english["word_coverage"] == pytest.approx(3 / 4)
    assert english["tokens"] == sum(len(e.ids) - 2 for e in tokenizer.encode(["the slowest ☃ café"]))
    assert (chinese["characters"], chinese["tokens_per_character"]) == (5, 1)
    assert chinese["character_coverage"] == pytest.approx(4 / 5)


def test_unknown_words_are_the_segmenters_not_berts():
    tokenizer = train(counted(TEXTS), 120)
    fit = measure(tokenizer, [("en", "snow☃man the")], lambda text: [(0, 4), (4, 5), (5, 8), (9, 12)])[0]
    assert (fit.words, fit.unknown_words) == (4, 3)  # [UNK] is the whole of snow☃man


def test_published_vocabularies(shared, lines, tmp_path):
    folder = shared / "data" / "vocab"
    fits = {}
    for name in ("bert_uncased_vocab_30522", "bert_chinese_vocab_21128"):
        (tmp_path / "vocab.txt").write_bytes(gzip.decompress((folder / f"{name}.txt.gz").read_bytes()))
        rows = [(language(text), text) for text in lines]
        fits[name] = {f.language: f.table() for f in measure(Tokenizer.load(tmp_path), rows, by_characters)}
    english, chinese = fits.values()
    assert english["zh"]["word_coverage"] < 0.9 < 0.99 < chinese["zh"]["word_coverage"]
    assert english["en"]["tokens_per_word"] < chinese["en"]["tokens_per_word"]


def test_the_language_by_the_script():
    assert [language(text) for text in ("doctor", "医生", "医生 doctor", "医生a", "12 !", "")] == [
        "en", "zh", "en", "zh", "en", "en",
    ]  # fmt: skip


def test_too_small_and_nothing_at_all():
    with pytest.raises(Problem, match=r"characters alone need \d+\. Raise --size"):
        train(counted(TEXTS), 30)
    with pytest.raises(Problem, match="No words were found"):
        train(counted(["", "  "]), 100)
    assert train(counted(TEXTS), 60, share=0.9).size <= 60
