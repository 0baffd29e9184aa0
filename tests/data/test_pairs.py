"""Pairs to pre-train on: labels that are true, no cue but the text itself, the same in any batch."""

import itertools

import numpy as np
import pytest
import torch

from regard.data.masking import Masking
from regard.data.pairs import NextSentence, SentenceOrder
from regard.data.pretraining import HiddenWords
from regard.data.tokens import SENTENCE, Document, write
from regard.errors import Problem
from regard.text.tokenizer import Tokenizer

BOTH = [NextSentence, SentenceOrder]
PLAIN = Masking(rate=0.0)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return Tokenizer.load(tiny)


@pytest.fixture(scope="module")
def store(tokenizer, tmp_path_factory):
    """Documents of 1 to 20 sentences of letters, in two languages, some sentences longer than a sequence."""
    random = np.random.default_rng(0)

    def sentence():
        words = random.choice(list("abcdefghij"), (int(random.choice([4, 9, 14, 70], p=[0.3, 0.4, 0.29, 0.01])), 2))
        return " ".join("".join(word) for word in words)

    documents = [
        Document("\n".join(sentence() for _ in range(random.integers(1, 21))), ("en", "zh")[number % 3 == 0])
        for number in range(500)
    ]
    return write(tmp_path_factory.mktemp("tokens") / "store", documents, tokenizer, words="space")


@pytest.fixture
def numbered(store, monkeypatch):
    """The same corpus, where each token's id is its place, so that whatever is made of it tells where it is from."""
    monkeypatch.setattr(store, "ids", np.arange(1000, 1000 + len(store.ids)))
    return store


def texts(loader, epoch=0):
    """Each sequence of an epoch, nothing hidden: its places in the corpus part by part, its segments and its label."""
    for rows in loader.plan(epoch):
        batch = loader.batch(epoch, rows)
        packed = batch.packed
        assert packed.order.tolist() == list(range(len(rows)))  # so that labels stand as sequences are packed
        assert len(batch.pairs) == len(rows)
        for number, (start, stop) in enumerate(itertools.pairwise(packed.bounds.tolist())):
            ids = packed.ids[start:stop].numpy()
            assert ids[0] == loader.first and ids[-1] == loader.last
            parts = np.split(ids[1:-1], np.flatnonzero(ids[1:-1] == loader.last))
            parts = [part[part != loader.last] - 1000 for part in parts]
            lengths = [len(part) + 1 for part in parts]
            lengths[0] += 1
            assert packed.segments[start:stop].tolist() == [s for s, n in enumerate(lengths) for _ in range(n)]
            yield parts, int(batch.pairs[number])


def runs(part):
    return (np.diff(part) == 1).all()


@pytest.mark.parametrize("kind", BOTH)
def test_every_label_is_true(kind, numbered, tokenizer):
    loader = kind(numbered, tokenizer, PLAIN, length=64, batch_tokens=1024, seed=2)
    document = np.searchsorted(numbered.documents[:, 0], np.arange(len(numbered.ids)), "right") - 1
    language = numbered.documents[document, 1]
    counts = {-1: 0, 0: 0, 1: 0}
    for parts, label in texts(loader):
        counts[label] += 1
        assert all(map(runs, parts)) and sum(map(len, parts)) + len(parts) + 1 <= 64
        if label == -1:
            assert len(parts) == 1
            assert not (numbered.marks[parts[0][1:]] & SENTENCE).any()  # one sentence, or a part of one
            continue
        a, b = parts
        assert language[a[0]] == language[b[0]]
        if label == 0:
            assert b[0] == a[-1] + 1 and numbered.marks[b[0]] & SENTENCE
        elif kind is SentenceOrder:
            assert a[0] == b[-1] + 1 and numbered.marks[a[0]] & SENTENCE
        else:
            assert document[a[0]] != document[b[0]]
            assert numbered.marks[a[-1] + 1] & SENTENCE and numbered.marks[b[0]] & SENTENCE
        if label == 0 or kind is SentenceOrder:
            assert document[a[0]] == document[b[0]]
    assert counts[1] / (counts[0] + counts[1]) == pytest.approx(0.5, abs=0.04) and counts[0] > 500 and counts[-1]


@pytest.mark.parametrize("kind", BOTH)
def test_all_of_an_epoch_is_read_once_and_a_batch_holds_what_it_may(kind, numbered, tokenizer):
    loader = kind(numbered, tokenizer, PLAIN, length=64, batch_tokens=500, seed=1)
    seen = np.zeros(len(numbered.ids), dtype=int)
    for rows in loader.plan(0):
        batch = loader.batch(0, rows)
        assert len(batch.packed.ids) == loader.lengths[rows].sum() <= 500
        ids = batch.packed.ids.numpy()
        np.add.at(seen, ids[ids >= 1000] - 1000, 1)
    assert kind is NextSentence or (seen == 1).all()
    assert seen.sum() == len(seen)


def test_neither_the_length_of_a_part_nor_a_second_part_by_itself_tells_a_pair(numbered, tokenizer):
    found = {0: [], 1: []}
    for epoch in range(12):
        loader = NextSentence(numbered, tokenizer, PLAIN, length=48, batch_tokens=4096, seed=5)
        for parts, label in texts(loader, epoch):
            if label >= 0:
                sentences = (numbered.marks[parts[1]] & SENTENCE > 0).sum()
                found[label].append([len(parts[0]), len(parts[1]), sentences, parts[1][0] > len(numbered.ids) / 2])
    means, errors = (
        {label: fact(np.array(rows, dtype=float)) for label, rows in found.items()}
        for fact in (lambda rows: rows.mean(0), lambda rows: rows.std(0) / len(rows) ** 0.5)
    )
    assert (abs(means[0] - means[1]) < 4 * np.hypot(errors[0], errors[1])).all()


@pytest.mark.parametrize("kind", BOTH)
def test_a_pair_does_not_depend_on_the_batch_but_on_seed_and_epoch(kind, store, tokenizer):
    def drawn(size, seed, epoch):
        loader = kind(store, tokenizer, Masking(), length=64, batch_tokens=size, seed=seed)
        out = []
        for rows in loader.plan(epoch):
            batch = loader.batch(epoch, rows)
            hidden = torch.isin(torch.arange(len(batch.packed.ids)), batch.places)
            bounds = itertools.pairwise(batch.packed.bounds.tolist())
            for (start, stop), label in zip(bounds, batch.pairs.tolist(), strict=True):
                out.append((batch.packed.ids[start:stop].tolist(), hidden[start:stop].tolist(), label))
        return sorted(out)

    once = drawn(300, 0, 0)
    assert once == drawn(3000, 0, 0) and len(once) > 500
    assert once != drawn(300, 1, 0) and once != drawn(300, 0, 1)


@pytest.mark.parametrize("kind", BOTH)
def test_the_asked_share_is_hidden_in_whole_words_of_both_parts(kind, store, tokenizer):
    loader = kind(store, tokenizer, Masking(), length=64, batch_tokens=2048)
    hidden, plain, special = [0, 0], [0, 0], torch.tensor([loader.first, loader.last])
    for rows in loader.plan(0):
        batch = loader.batch(0, rows)
        ids = batch.packed.ids.clone()
        ids[batch.places] = batch.truth
        texts = ~torch.isin(ids, special)
        assert texts[batch.places].all()
        for segment in (0, 1):
            own = batch.packed.segments == segment
            hidden[segment] += int(own[batch.places].sum())
            plain[segment] += int((own & texts).sum())
    for some, whole in zip(hidden, plain, strict=True):
        assert some / whole == pytest.approx(0.15, abs=0.005)


def test_texts_of_one_sentence_are_those_of_hidden_words_alone(store, tokenizer):
    sentences = np.add.reduceat(store.marks & SENTENCE > 0, store.documents[:, 0], dtype=int)
    sizes = np.diff(store.documents[:, 0], append=len(store.ids))
    documents = (sentences == 1) & (sizes < 60)
    # Two of a language that have more of them, without which there would be no pairs.
    two = np.flatnonzero((sentences > 1) & (store.documents[:, 1] == 0))[-2:]
    documents[two[0] :] = False
    alone = documents.sum()
    documents[two] = True
    loaders = [
        kind(store, tokenizer, Masking(), length=64, batch_tokens=512, documents=documents)
        for kind in (HiddenWords, *BOTH)
    ]
    batches = [loader.batch(0, np.arange(alone)) for loader in loaders]
    for other in batches:
        assert torch.equal(batches[0].packed.ids, other.packed.ids) and torch.equal(batches[0].places, other.places)
        assert (other.pairs == -1).all() and len(other.pairs) > 10
    with pytest.raises(Problem, match="no pairs to learn from"):
        NextSentence(store, tokenizer, PLAIN, length=64, batch_tokens=512, documents=documents & (sentences == 1))


def test_alone_in_its_language_a_document_has_true_pairs_only(tokenizer, tmp_path):
    documents = [Document("a\nb c\nd", "zh"), *(Document(f"{first}\nd e\nf", "en") for first in ("g", "h i"))]
    store = write(tmp_path / "store", documents, tokenizer, words="space")
    loader = NextSentence(store, tokenizer, PLAIN, length=32, batch_tokens=512)
    labels = {language: set() for language in (0, 1)}
    for epoch in range(40):
        for row in range(len(loader.lengths)):
            labels[int(loader.languages[row])].add(int(loader.batch(epoch, np.array([row])).pairs[0]))
    assert labels == {0: {0}, 1: {0, 1}}


def test_where_no_second_part_is_as_long_a_shorter_one_is_taken(tokenizer, tmp_path):
    store = write(tmp_path / "store", [Document(f"a\n{text}", "en") for text in ("b c d", "e", "f g")], tokenizer)
    loader = NextSentence(store, tokenizer, PLAIN, length=16, batch_tokens=512)
    found = [set(), set(), set()]
    for epoch in range(60):
        batch = loader.batch(epoch, np.arange(3))
        for (start, stop), label in zip(itertools.pairwise(batch.packed.bounds.tolist()), batch.pairs, strict=True):
            text = [tokenizer.token(number) for number in batch.packed.ids[start:stop].tolist()]
            found[int(label)].add(" ".join(text[3:-1]))
    assert found[:2] == [{"b c d", "e", "f g"}, {"f g", "e"}]
