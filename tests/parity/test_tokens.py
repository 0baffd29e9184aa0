"""The same ids as transformers, for every text."""

import pytest
import transformers

from regard.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def both(folder):
    return Tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)


def test_ids_of_hard_texts(both, hard_texts):
    ours, theirs = both
    found, expected = ours.encode(hard_texts), theirs(hard_texts, truncation=True, max_length=512)
    assert [e.ids.tolist() for e in found] == expected["input_ids"]
    assert [e.segments.tolist() for e in found] == expected["token_type_ids"]
    assert len(found[-1].ids) == 512 and found[-1].dropped > 10_000


@pytest.mark.parametrize("max_length", [3, 5, 16, 33, 128])
def test_pairs_are_cut_longest_first(both, hard_texts, max_length):
    ours, theirs = both
    texts, pairs = hard_texts[:-1], hard_texts[-2::-1]
    found = ours.encode(texts, pairs, max_length=max_length)
    expected = theirs(texts, pairs, truncation="longest_first", max_length=max_length)
    assert [e.ids.tolist() for e in found] == expected["input_ids"]
    assert [e.segments.tolist() for e in found] == expected["token_type_ids"]


def test_offsets_and_words(both, hard_texts):
    ours, theirs = both
    found = ours.encode(hard_texts, detail=True)
    expected = theirs(hard_texts, truncation=True, max_length=512, return_offsets_mapping=True)
    for place, encoding in enumerate(found):
        assert encoding.offsets.tolist() == [list(span) for span in expected["offset_mapping"][place]]
        assert encoding.words.tolist() == [-1 if word is None else word for word in expected.word_ids(place)]


def test_the_saved_tokenizer_is_the_same(both, hard_texts, tmp_path):
    ours, _ = both
    ours.save(tmp_path)
    expected = [e.ids.tolist() for e in ours.encode(hard_texts)]
    assert [e.ids.tolist() for e in Tokenizer.load(tmp_path).encode(hard_texts)] == expected
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(hard_texts, truncation=True, max_length=512)["input_ids"] == expected
