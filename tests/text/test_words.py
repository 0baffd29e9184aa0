"""Words: every character but space lies in exactly one of them, and every token counts to the word it begins in."""

import lzma
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import Problem
from regard.text.chinese import KNOWN, Cutter
from regard.text.tokenizer import Tokenizer, wordpiece
from regard.text.words import segmenter, words_of, words_of_all


def cut(text, name="auto"):
    return [text[start:end] for start, end in segmenter(name)(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The dog doesn't bark.", ["The", "dog", "doesn't", "bark", "."]),
        ("rock 'n' roll: 3.5 % (O’Neil)", ["rock", "'", "n", "'", "roll", ":", "3", ".", "5", "%", "(", "O’Neil", ")"]),
        ("cafe\u0301s snake_case", ["cafe\u0301s", "snake", "_", "case"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("👩\u200d🔬!?", ["👩\u200d", "🔬", "!", "?"]),
        ("", []),
        (" \n\t", []),
    ],
)
def test_by_letters_and_punctuation(text, words):
    assert cut(text, "space") == words == cut(text)


def test_chinese_by_jieba_and_the_rest_by_letters():
    text = "他来到了网易杭研大厦, didn't he? 用Python3写的。"
    assert cut(text) == [
        "他", "来到", "了", "网易", "杭研", "大厦", ",", "didn't", "he", "?", "用", "Python3", "写", "的", "。",
    ]  # fmt: skip
    assert cut("我爱北京 天安门。", "zh") == ["我", "爱", "北京", "天安门", "。"]


@settings(deadline=None)  # the first Chinese text waits for the dictionary
@given(st.text(st.characters() | st.sampled_from("ab ' 中国。\u0301\u200d_"), max_size=30))
@pytest.mark.parametrize("name", ["space", "zh", "auto"])
def test_every_character_but_space_lies_in_one_word(name, text):
    spans = segmenter(name)(text)
    covered = [place for start, end in spans for place in range(start, end)]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]
    assert all(start < end for start, end in spans)


def test_an_unknown_name():
    with pytest.raises(Problem, match="Did you mean 'space'"):
        segmenter("spaces")


def test_without_jieba_only_chinese_fails():
    code = (
        "import sys; sys.modules['jieba'] = None\n"
        "from regard.text.words import segmenter\n"
        "print(segmenter()('a b'))\n"
        "try: segmenter()('中国')\n"
        "except ValueError as problem: print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[(0, 1), (2, 3)]" in done.stdout and "regard[zh]" in done.stdout


def test_jieba_says_nothing():
    code = "from regard.text.words import segmenter; segmenter('zh')('我爱北京')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


LETTERS = "abcdefghijklmnopqrstuvwxyz'.中国人"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), "don", "##ing"]


@pytest.fixture
def tokenizer():
    return Tokenizer(wordpiece(VOCABULARY))


def test_tokens_count_to_the_word_they_begin_in(tokenizer):
    pair = ("Don't go.", "人 going")
    encoding = tokenizer.encode([pair[0]], [pair[1]], detail=True)[0]
    tokens = ["[CLS]", "don", "'", "t", "g", "##o", ".", "[SEP]", "人", "g", "##o", "##ing", "[SEP]"]
    assert tokenizer.tokens(encoding) == tokens
    assert words_of(encoding, pair, segmenter()).tolist() == [-1, 0, 0, 0, 1, 1, 2, -1, 0, 1, 1, 1, -1]


def test_given_words_keep_their_numbers(tokenizer):
    given = ["don't", "\x00", "", "[SEP]", "g\u200bo", "中国"]
    found, empty = tokenizer.encode_words([given, []], max_length=20)
    assert tokenizer.tokens(found) == ["[CLS]", "don", "'", "t", "[SEP]", "g", "##o", "中", "国", "[SEP]"]
    assert found.words.tolist() == [-1, 0, 0, 0, 3, 4, 4, 5, 5, -1]
    assert (found.source, found.dropped, empty.source, empty.words.tolist()) == (0, 0, 1, [-1, -1])


def test_given_words_that_do_not_fit_are_counted(tokenizer):
    found = tokenizer.encode_words([["a", "going", "b", "c"]], max_length=5)[0]
    assert tokenizer.tokens(found) == ["[CLS]", "a", "g", "##o", "[SEP]"]
    assert (found.words.tolist(), found.dropped) == ([-1, 0, 1, 1, -1], 3)
    with pytest.raises(Problem, match="2 or more"):
        tokenizer.encode_words([["a"]], max_length=1)
    with pytest.raises(Problem, match="list of words"):
        tokenizer.encode_words(["a sentence"], max_length=9)


@pytest.fixture(scope="module")
def jieba():
    segmenter("zh")  # loads it without its messages
    import jieba

    return jieba


def by_jieba(jieba, run):
    return [(start, end) for _, start, end in jieba.tokenize(run)]


@pytest.mark.parametrize("name", ["zh_tech_articles", "zh_laws", "zh_classics_in_modern"])
def test_chinese_words_are_those_of_jieba(name, shared, jieba):
    with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(2000), strict=False)]
    runs = {run for line in lines for run in re.findall(f"[{KNOWN}]+", line)}
    cut = Cutter(jieba)
    assert len(runs) > 1000
    assert [run for run in runs if cut(run) != by_jieba(jieba, run)] == []


@settings(deadline=None, max_examples=300)
@given(
    st.text(
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FD5) | st.sampled_from("的一是不了在人有我他"), max_size=15
    )
)
def test_any_chinese_words_are_those_of_jieba(jieba, run):
    assert Cutter(jieba)(run) == by_jieba(jieba, run)


def test_rare_characters_are_words_by_themselves_as_in_jieba():
    text = "\u3400\u4e2d\u56fd\u3005\U00020000\u3007\u4eba\u6c11"
    assert cut(text) == cut(text, "zh") == ["\u3400", "\u4e2d\u56fd", "\u3005", "\U00020000", "\u3007", "\u4eba\u6c11"]


def test_words_that_a_user_adds_to_jieba_are_found(jieba):
    cut, run = Cutter(jieba), "张三丰田野调查局"
    before = cut(run)
    jieba.add_word("张三丰田野", freq=100_000)
    try:
        assert cut(run) == by_jieba(jieba, run) != before
    finally:
        jieba.del_word("张三丰田野")
    assert cut(run) == by_jieba(jieba, run)


@pytest.mark.parametrize("name", ["space", "auto"])
def test_words_of_many_texts_are_those_of_each(name):
    tokenizer = Tokenizer(wordpiece(["[UNK]", "[CLS]", "[SEP]", "the", "un", "##able", *"我爱北京天安门。don't"]))
    texts = ["the unable", "", "我爱北京天安门。", " don't the", "我爱"]
    encodings = tokenizer.encode(texts, detail=True)
    segment = segmenter(name)
    alone = [words_of(e, [text], segment).tolist() for e, text in zip(encodings, texts, strict=True)]
    assert words_of_all(encodings, texts, segment).tolist() == [number for words in alone for number in words]
    assert words_of_all([], [], segment).tolist() == []
    with pytest.raises(ValueError, match="detail=True"):
        words_of_all(tokenizer.encode(texts), texts, segment)
