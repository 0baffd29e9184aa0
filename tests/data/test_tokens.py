"""A corpus as tokens on disk: what is read is what was written, in sequences that fit; damage is said."""

import itertools
import lzma
import os
import re
from functools import partial

import numpy as np
import pytest

from regard.data import processes, tokens
from regard.data.tokens import Document, Tokens, write
from regard.errors import Problem
from regard.text.tokenizer import Tokenizer
from regard.text.words import altered, segmenter, words_of

DOCUMENTS = [
    Document("the cat sat\non a mat. it was", "en"),
    Document("", "en"),
    Document("abcdefghij klmnop\n\nq", "zh"),
    Document("x", "en"),
]


@pytest.fixture
def tokenizer(tiny):
    return Tokenizer.load(tiny)


def spelt(store, tokenizer, start, stop):
    return [tokenizer.token(int(number)) for number in store.read(start, stop)[0]]


def test_what_is_read_is_what_was_written(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "CHUNK", 25)
    store = write(tmp_path / "store", DOCUMENTS, tokenizer)
    lines = [line for document in DOCUMENTS for line in document.text.split("\n") if line]
    expected = [e.ids[1:-1] for e in tokenizer.encode(lines, max_length=999)]
    assert store.ids.tolist() == np.concatenate(expected).tolist()
    assert store.languages == ["en", "zh"] and store.documents[:, 1].tolist() == [0, 1, 0]
    assert np.flatnonzero(store.marks & tokens.SENTENCE).tolist() == np.cumsum([0, *map(len, expected[:-1])]).tolist()
    assert store.documents[:, 0].tolist() == np.flatnonzero(store.marks & tokens.DOCUMENT).tolist()
    begins = [not tokenizer.token(int(number)).startswith("##") for number in store.ids]
    assert ((store.marks & tokens.WORD) > 0).tolist() == begins  # in English, pieces go on a word
    ids, words = store.read(0, 5)
    assert len(ids) == 5 and words[0] == 1 and np.isin(np.diff(words), (0, 1)).all()
    again = Tokens(tmp_path / "store", tokenizer)
    assert np.array_equal(again.ids, store.ids) and not list(tmp_path.glob("*.partial"))


MIXED = [
    Document("The cat's mat.\n \nIt was $3,  for 中国人！", "en", "a"),
    Document("", "en", "b"),
    Document("\n\u3000\n\0", "zh", "c"),
    Document("\n小明硕士毕业于中国科学院计算所，后在日本京都大学深造。\n\n他用Python3写的。\n", "zh", "d"),
    Document("[MASK] \ud800 don't", "en", "a"),
]


@pytest.mark.parametrize("words", ["auto", "space", "zh"])
def test_tokens_and_words_are_those_of_each_line_alone(words, checkpoint, tmp_path):
    pytest.importorskip("jieba")
    tokenizer = Tokenizer.load(checkpoint("m3e-small"))
    store = write(tmp_path / "store", MIXED, tokenizer, words=words)
    ids, marks, documents = [], [], []
    for document in MIXED:
        begin = len(ids)
        for line in document.text.split("\n"):
            encoding = tokenizer.encode([line], max_length=999, detail=True)[0]
            numbers = words_of(encoding, [line], segmenter(words))
            inner = numbers >= 0
            own = (np.diff(numbers[inner], prepend=-1) != 0) * tokens.WORD
            own[:1] += tokens.SENTENCE
            ids, marks = [*ids, *encoding.ids[inner]], [*marks, *own]
        if len(ids) > begin:
            marks[begin] += tokens.DOCUMENT
            documents.append((begin, document.language, document.source))
    assert store.ids.tolist() == ids and store.marks.tolist() == marks
    found = [(begin, store.languages[a], store.sources[b]) for begin, a, b in store.documents.tolist()]
    assert found == documents and len(documents) == 3


@pytest.fixture
def others(monkeypatch):
    """Other processes are started at once, whatever tests have done to jieba."""
    monkeypatch.setattr(processes, "PATIENCE", 0)
    monkeypatch.setattr(tokens, "altered", lambda: False)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_processes_and_chunks_make_no_difference(checkpoint, tmp_path, monkeypatch, others):
    pytest.importorskip("jieba")
    tokenizer = Tokenizer.load(checkpoint("m3e-small"))
    documents, told = MIXED * 30, []
    write(tmp_path / "whole", documents, tokenizer, processes=1)
    monkeypatch.setattr(tokens, "CHUNK", 500)
    write(tmp_path / "chunks", documents, tokenizer, processes=1)
    write(tmp_path / "processes", documents, tokenizer, processes=2, advance=told.append)
    assert contents(tmp_path / "whole") == contents(tmp_path / "chunks") == contents(tmp_path / "processes")
    assert sum(told) == len(documents) and len(told) > 4


def test_words_added_to_jieba_keep_the_work_here(checkpoint, tmp_path, monkeypatch):
    jieba = pytest.importorskip("jieba")
    tokenizer = Tokenizer.load(checkpoint("m3e-small"))
    monkeypatch.setattr(processes, "PATIENCE", 0)
    before = write(tmp_path / "before", [Document("张三丰田野调查局", "zh")], tokenizer, processes=1)
    jieba.add_word("张三丰田野", freq=100_000)
    try:
        assert altered()
        after = write(tmp_path / "after", [Document("张三丰田野调查局", "zh")], tokenizer, processes=2)
    finally:
        jieba.del_word("张三丰田野")
    assert before.ids.tolist() == after.ids.tolist() and before.marks.tolist() != after.marks.tolist()


def test_a_process_that_dies_is_a_problem_and_leaves_no_folder(tokenizer, tmp_path, monkeypatch, others):
    monkeypatch.setattr(tokens, "partial", lambda *_: partial(os._exit, 9))
    with pytest.raises(Problem, match="by fewer processes"):
        write(tmp_path / "store", DOCUMENTS, tokenizer, processes=2)
    assert not list(tmp_path.iterdir())


def test_of_each_language_some_documents_are_held_out_but_never_all(tokenizer, tmp_path):
    documents = [Document("the cat sat on a mat " * (1 + number % 7), "en", "novels") for number in range(400)]
    documents += [Document("q", "zh", "laws")]
    store = write(tmp_path / "store", documents, tokenizer)
    sizes = np.diff(store.documents[:, 0], append=len(store.ids))
    held = store.held_out(0.1, 10_000_000)
    assert sizes[held].sum() == pytest.approx(0.1 * len(store.ids), rel=0.05) and not held[-1]
    assert 0 < sizes[store.held_out(0.1, 100)].sum() <= 100 < sizes[held].sum()
    assert store.held_out(0.1, 1).sum() == 1 and not store.held_out(0.0, 100).any()
    assert not store.held_out(0.1, 0).any()
    assert not np.array_equal(held, store.held_out(0.1, 10_000_000, seed=1))
    long = [Document("the cat sat on a mat " * (900 if number != 2 else 5), "en") for number in range(4)]
    few = write(tmp_path / "few", long, tokenizer)
    assert few.held_out(0.01, 100).tolist() == [False, False, True, False]  # none fits: the shortest
    assert store.sources == ["novels", "laws"] and store.documents[:, 2].tolist() == [0] * 400 + [1]


@pytest.mark.parametrize("room", [1, 4, 7, 11, 1000])
def test_sequences_hold_as_many_sentences_of_one_document_as_fit(tokenizer, tmp_path, room):
    store = write(tmp_path / "store", DOCUMENTS, tokenizer)
    rows = store.sequences(room)
    starts, stops, documents = rows.T
    assert starts[0] == 0 and stops[-1] == len(store.ids) and (starts[1:] == stops[:-1]).all()  # nothing lost or twice
    assert ((stops - starts) <= room).all() and (stops > starts).all()
    owner = np.searchsorted(store.documents[:, 0], starts, "right")
    assert (owner == np.searchsorted(store.documents[:, 0], stops - 1, "right")).all()  # never two documents
    assert (documents == owner - 1).all()
    for start, stop in zip(starts[:-1], stops[:-1], strict=True):  # the next sentence would not have fitted
        if store.marks[stop] & tokens.SENTENCE and not store.marks[stop] & tokens.DOCUMENT:
            later = np.flatnonzero(store.marks[stop + 1 :] & tokens.SENTENCE)
            end = stop + 1 + later[0] if len(later) else len(store.ids)
            assert end - start > room


@pytest.mark.parametrize("chunk", [1, 3, 1_000_000])
def test_ids_are_counted_in_some_documents(tokenizer, tmp_path, monkeypatch, chunk):
    store = write(tmp_path / "store", DOCUMENTS, tokenizer)
    monkeypatch.setattr(tokens, "CHUNK", chunk)
    for chosen in itertools.product([False, True], repeat=len(store.documents)):
        bounds = np.append(store.documents[:, 0], len(store.ids))
        own = [store.ids[bounds[n] : bounds[n + 1]] for n, is_chosen in enumerate(chosen) if is_chosen]
        worth = np.repeat([n + 0.5 for n, is_chosen in enumerate(chosen) if is_chosen], [len(ids) for ids in own])
        expected = np.bincount(np.concatenate([[], *own]).astype(int), worth, minlength=tokenizer.size)
        assert np.array_equal(store.counts(np.array(chosen), np.arange(len(chosen)) + 0.5), expected)


@pytest.mark.parametrize("chunk", [3, 10**6])
def test_neighbours_are_counted_within_documents(tokenizer, tmp_path, monkeypatch, chunk):
    store = write(tmp_path / "store", MIXED, tokenizer)
    monkeypatch.setattr(tokens, "CHUNK", chunk)
    read = np.array([True, False, *[True] * (len(store.documents) - 2)])
    weights = np.arange(1.0, len(store.documents) + 1)
    chosen = np.unique(store.ids)[::2].astype(np.int64)
    expected = np.zeros((len(chosen), len(chosen)))
    bounds = [*store.documents[:, 0].tolist(), len(store.ids)]
    for number in np.flatnonzero(read):
        own = store.ids[bounds[number] : bounds[number + 1]].tolist()
        for (i, one), (j, other) in itertools.product(enumerate(own), repeat=2):
            if 1 <= abs(i - j) <= 4 and one in chosen and other in chosen:
                place = np.searchsorted(chosen, one), np.searchsorted(chosen, other)
                expected[place] += weights[number] * (5 - abs(i - j)) / 4
    shares = []
    found = store.neighbours(read, chosen, weights=weights, reach=4, advance=shares.append)
    assert expected.any() and np.array_equal(found, expected.astype(np.float32))
    assert shares == sorted(shares) and shares[-1] == 1


def test_damage_and_another_tokenizer_are_said(tokenizer, tiny, tmp_path, checkpoint):
    with pytest.raises(Problem, match="not one token"):
        write(tmp_path / "none", [Document("", "en")], tokenizer)
    assert not list(tmp_path.iterdir())
    write(tmp_path / "store", DOCUMENTS, tokenizer)
    with pytest.raises(Problem, match="another tokenizer"):
        Tokens(tmp_path / "store", Tokenizer.load(checkpoint("minilm-l6")))
    (tmp_path / "store" / "ids.bin").write_bytes((tmp_path / "store" / "ids.bin").read_bytes()[:-2])
    with pytest.raises(Problem, match="truncated"):
        Tokens(tmp_path / "store", tokenizer)
    (tmp_path / "store" / "documents.npy").unlink()
    with pytest.raises(Problem, match="no tokens that can be read"):
        Tokens(tmp_path / "store", tokenizer)


def test_a_writer_that_fails_leaves_the_old_folder(tokenizer, tmp_path):
    write(tmp_path / "store", DOCUMENTS, tokenizer)

    def broken():
        yield DOCUMENTS[0]
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        write(tmp_path / "store", broken(), tokenizer)
    assert len(Tokens(tmp_path / "store", tokenizer).documents) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_chinese_words_are_those_of_the_segmenter(checkpoint, shared, tmp_path):
    pytest.importorskip("jieba")
    tokenizer = Tokenizer.load(checkpoint("m3e-small"))
    path = shared / "data" / "corpora" / "zh_tech_articles.txt.xz"
    with lzma.open(path, "rt", encoding="utf-8") as file:
        lines = [
            line for line in itertools.islice(file, 300) if re.fullmatch(r"[\u4e00-\u9fff，。、]{20,}", line.strip())
        ]
    store = write(tmp_path / "store", [Document("".join(lines), "zh")], tokenizer)
    spans = [segmenter("zh")(line.strip()) for line in lines]
    assert len(lines) > 5
    assert int((store.marks & tokens.WORD).sum()) == sum(map(len, spans)) < 0.8 * len(store.ids)
