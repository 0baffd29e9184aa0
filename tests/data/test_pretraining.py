"""Hidden words: whole ones, the same whatever the batch, taken up anywhere; and a model learns from them."""

import itertools
import lzma
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from regard.data.ahead import Ahead
from regard.data.masking import Masking
from regard.data.pretraining import HiddenWords
from regard.data.tokens import Document, write
from regard.errors import Problem
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.heads import Model
from regard.model.pooling import pooler
from regard.model.words import WordHead
from regard.text.tokenizer import Tokenizer
from regard.train.loop import Outside, fit
from regard.train.objectives import masked_words
from regard.train.optim import Optimizer
from regard.train.plans import Limits


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return Tokenizer.load(checkpoint("m3e-small"))


@pytest.fixture(scope="module")
def store(tokenizer, shared, tmp_path_factory):
    documents = []
    for name, language in (("zh_tech_articles", "zh"), ("en_novels", "en")):
        with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
            lines = itertools.islice(file, 150)
            documents += [Document(text, language, name) for text in "".join(lines).split("\n\n")]
    return write(tmp_path_factory.mktemp("tokens") / "store", documents, tokenizer)


def shown(batch):
    """Each text as it was, and its hidden places."""
    bounds = batch.packed.bounds.tolist()
    ids = batch.packed.ids.clone()
    ids[batch.places] = batch.truth
    out = {}
    for start, stop in itertools.pairwise(bounds):
        own = (batch.places >= start) & (batch.places < stop)
        key = tuple(ids[start:stop].tolist())
        out[key] = ((batch.places[own] - start).tolist(), batch.packed.ids[start:stop].tolist())
    return out


def test_what_is_hidden_does_not_depend_on_the_batch(store, tokenizer):
    found = []
    for size in (300, 3000):
        loader = HiddenWords(store, tokenizer, Masking(), length=128, batch_tokens=size, seed=3)
        texts = {}
        for rows in loader.plan(0):
            batch = loader.batch(0, rows)
            texts |= shown(batch)
            assert len(batch.packed.ids) <= size
        found.append(texts)
    assert found[0] == found[1] and len(found[0]) > 50


def test_an_epoch_hides_the_asked_share_in_whole_words_and_the_next_other_words(store, tokenizer):
    loader = HiddenWords(store, tokenizer, Masking(), length=128, batch_tokens=2048, seed=0)
    hidden = [0, 0]
    for epoch in (0, 1):
        for rows in loader.plan(epoch):
            batch = loader.batch(epoch, rows)
            hidden[epoch] += len(batch.places)
            ends = batch.packed.bounds[1:].long() - 1
            assert not torch.isin(batch.places, ends).any()
            assert not torch.isin(batch.places, batch.packed.bounds[:-1].long()).any()
    plain = int((loader.lengths - 2).sum())
    assert hidden[0] / plain == pytest.approx(0.15, abs=0.002)
    rows = loader.plan(0)[0]
    one, other = loader.batch(0, rows), loader.batch(1, rows)
    assert one.places.tolist() != other.places.tolist()
    row = int(rows[0])
    words = loader.read(row, np.random.default_rng()).words
    places = loader.batch(0, np.array([row])).places.numpy()
    for word in np.unique(words[places]):
        assert set(np.flatnonzero(words == word)) <= set(places)  # whole words


def test_sequences_may_begin_at_any_position_that_leaves_them_room(store, tokenizer):
    plain = HiddenWords(store, tokenizer, Masking(), length=32, batch_tokens=1024)
    shifted = HiddenWords(store, tokenizer, Masking(), length=32, batch_tokens=1024, positions=40)
    narrow = HiddenWords(store, tokenizer, Masking(), length=32, batch_tokens=256, positions=40)
    begins, found = set(), []
    for rows in plain.plan(0):
        one, other = plain.batch(0, rows), shifted.batch(0, rows)
        assert torch.equal(one.packed.ids, other.packed.ids) and torch.equal(one.places, other.places)
        shift = other.packed.positions - one.packed.positions
        for part in shift.split(one.packed.lengths):
            assert len(part.unique()) == 1 and 0 <= part[0] <= 40 - len(part)
            begins.add(int(part[0]) + len(part) == 40)
            begins.add(int(part[0]))
    assert begins >= {False, True, *range(9)}
    for loader in (shifted, narrow):
        batches = [loader.batch(0, rows) for rows in loader.plan(0)]
        pairs = [(b.packed.ids.split(b.packed.lengths), b.packed.positions.split(b.packed.lengths)) for b in batches]
        found.append(sorted((ids.tolist(), at.tolist()) for own in pairs for ids, at in zip(*own, strict=True)))
    assert found[0] == found[1]


def test_batches_are_taken_up_anywhere(store, tokenizer):
    loader = HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=512, seed=1)
    again = HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=512, seed=1)
    place = (0, 0)
    for number in range(40):
        place, _, expected = loader(place)
        if number < 25:
            last = place
            continue
        last, _, found = again(last)
        assert last == place
        assert torch.equal(expected.packed.ids, found.packed.ids) and torch.equal(expected.truth, found.truth)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_batches_read_ahead_are_those_that_would_be_read_now_and_draw_nothing(store, tokenizer):
    loader = HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=700, seed=1)
    ahead = Ahead(loader, 2)
    random = torch.get_rng_state()
    place = (0, len(loader.plan(0)) - 3)
    for turn in range(8):  # over the end of an epoch, and then back
        place = (0, 1) if turn == 6 else place
        (after, done, now), (*others, early) = loader(place), ahead(place)
        assert others == [after, done]
        assert early.packed.lengths == now.packed.lengths
        for one, other in ((early.packed.ids, now.packed.ids), (early.places, now.places), (early.truth, now.truth)):
            assert torch.equal(one, other)
        place = after
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("begun", [True, False])
def test_processes_that_read_ahead_outlast_a_kill_of_the_whole_job(begun, store, tokenizer):
    loader = HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=300, seed=1)
    ahead, place = Ahead(loader, 2), (0, 0)
    if begun:
        place, *_ = ahead(place)
    else:  # they are there, and have not come to anything yet
        ahead._batches, ahead._expected = ahead._from((0, 1)), (0, 1)
        place = (0, 1)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGINT)
    for _ in range(min(12, len(loader.plan(0)) - 2)):  # more than had been read by then
        place, *_ = ahead(place)
    assert place[1] > 5


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_what_goes_wrong_ahead_is_said_as_here(store, tokenizer, monkeypatch):
    loader = HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=700, seed=1)
    monkeypatch.setattr(loader, "at", lambda place, cooled: broken())

    def broken():
        raise Problem("the tokens are gone. Fetch them again.")

    with pytest.raises(Problem, match=r"^the tokens are gone\. Fetch them again\.$"):
        Ahead(loader, 1)((0, 0))


def test_a_model_learns_hidden_words(store, tokenizer):
    torch.manual_seed(0)
    config = EncoderConfig(vocabulary=tokenizer.size, width=48, layers=1, heads=2, inner_width=96, positions=64)
    model = Model(bert(config), pooler("mean", 48), words=WordHead(config))
    loader = HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=1024)
    optimizer = Optimizer(model, learning_rate=3e-3, weight_decay=0.01, layer_decay=1.0, clip=1.0)
    rows = []
    objective = masked_words(store.languages)
    plan = Limits(steps=60, bfloat16=False, log_steps=10)
    fit(model, objective, loader, optimizer=optimizer, plan=plan, outside=Outside(log=rows.append))
    losses = [row["loss"] for row in rows]
    assert losses[0] == pytest.approx(np.log(tokenizer.size), abs=0.5) and losses[-1] < 7.5
    assert {"accuracy_zh", "accuracy_en"} <= rows[-1].keys()


def test_a_mix_draws_each_source_as_often_as_it_says_with_other_words_hidden(store, tokenizer):
    times = {("zh_tech_articles", "zh"): 2.5, ("en_novels", "en"): 0.5}
    loader = HiddenWords(store, tokenizer, Masking(), length=32, batch_tokens=512, times=times)
    count = len(loader.lengths)
    found = np.zeros((2, count), dtype=int)
    for epoch in range(20):
        rows = np.concatenate(loader.plan(epoch))
        np.add.at(found[epoch % 2], rows % count, 1)
        assert len(rows) == len(set(rows.tolist()))
    drawn = found.sum(0) / 20
    assert drawn[loader.languages == 0] == pytest.approx(2.5, abs=0.5)
    assert drawn[loader.languages == 0].mean() == pytest.approx(2.5, abs=0.05)
    assert drawn[loader.languages == 1].mean() == pytest.approx(0.5, abs=0.08)
    row = int(np.argmax(loader.lengths))
    once, again = (loader.batch(0, np.array([row + copy * count])) for copy in (0, 1))
    assert list(shown(once)) == list(shown(again)) and once.places.tolist() != again.places.tolist()


def test_documents_that_are_held_out_are_not_read(store, tokenizer):
    held = store.held_out(0.2, 10**6)
    parts = [HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=512, documents=d) for d in (held, ~held)]
    own, rest = ({tuple(row) for row in part.sequences.tolist()} for part in parts)
    assert not own & rest and own | rest == {tuple(row) for row in store.sequences(62).tolist()}
    assert {row[2] for row in own} == set(np.flatnonzero(held).tolist())
    with pytest.raises(Problem, match="No document is left"):
        HiddenWords(store, tokenizer, Masking(), length=64, batch_tokens=512, documents=held & False)
