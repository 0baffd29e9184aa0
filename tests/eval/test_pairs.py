"""Pairs told apart: a published head by its own meaning of labels, and transformers' logits of the same pairs."""

import itertools
import lzma

import numpy as np
import pytest
import torch

import regard
from regard.data.masking import Masking
from regard.data.pairs import NextSentence, SentenceOrder
from regard.data.tokens import Document, write
from regard.errors import Problem
from regard.eval.pairs import told_apart

PLAIN = Masking(rate=0.0)


@pytest.fixture(scope="module")
def system(checkpoint):
    return regard.load(checkpoint("albert-tiny-zh-mlm"), precision="float32", device="cpu")


@pytest.fixture(scope="module")
def store(system, shared, tmp_path_factory):
    with lzma.open(shared / "data" / "corpora" / "zh_tech_articles.txt.xz", "rt", encoding="utf-8") as file:
        texts = "".join(itertools.islice(file, 9000)).split("\n\n")
    documents = [Document(text, "zh") for text in texts] + [Document("a b\nc", "en")]
    return write(tmp_path_factory.mktemp("tokens") / "store", documents, system.tokenizer, words="space")


def test_a_published_head_tells_the_order_of_real_sentences(system, store):
    pairs = SentenceOrder(store, system.tokenizer, PLAIN, length=512, batch_tokens=4096)
    model = system.model.train()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    try:
        found = told_apart(model, pairs, most=50_000)
        assert model.training and torch.equal(state, torch.get_rng_state())
    finally:
        model.eval()
    assert found["zh"].low > 0.65 and found["zh"].n > 100
    once, again = (told_apart(model, pairs, most=3000)["zh"] for _ in range(2))
    assert once == again != found["zh"]


def test_logits_of_pairs_are_those_of_transformers(system, store, checkpoint):
    from transformers import BertForPreTraining

    theirs = BertForPreTraining.from_pretrained(checkpoint("albert-tiny-zh-mlm")).eval()
    loader = SentenceOrder(store, system.tokenizer, PLAIN, length=256, batch_tokens=1024)
    batch = loader.batch(0, np.arange(6))
    with torch.no_grad():
        ours = system.model.pairs(system.model(batch.packed, hidden=False).pooled)
        for number, (start, stop) in enumerate(itertools.pairwise(batch.packed.bounds.tolist())):
            ids, segments = (part[start:stop][None] for part in (batch.packed.ids, batch.packed.segments))
            expected = theirs(ids, token_type_ids=segments).seq_relationship_logits[0]
            torch.testing.assert_close(ours[number], expected, atol=1e-3, rtol=1e-3)
    assert {0, 1} <= set(batch.pairs.tolist())


def test_languages_without_both_kinds_of_pairs_and_models_without_the_head_are_said(system, store, tiny):
    pairs = NextSentence(store, system.tokenizer, PLAIN, length=128, batch_tokens=4096)
    assert told_apart(system.model, pairs, most=3000).keys() == {"zh"}  # the only English document has no other
    other = regard.load(tiny, device="cpu")
    with pytest.raises(Problem, match="no head that tells pairs"):
        told_apart(other.model, pairs, most=1000)


def test_the_score_counts_what_is_right(system, store, monkeypatch):
    pairs = SentenceOrder(store, system.tokenizer, PLAIN, length=128, batch_tokens=4096)
    labels = []
    monkeypatch.setattr(pairs, "hidden", lambda *asked, made=pairs.hidden: labels.append(made(*asked)) or labels[-1])

    class Says(torch.nn.Module):
        """Every pair is a false one."""

        def forward(self, pooled):
            return torch.tensor([[0.0, 1.0]]).expand(len(pooled), 2)

    head, system.model.pairs = system.model.pairs, Says()
    try:
        score = told_apart(system.model, pairs, most=6000)["zh"]
    finally:
        system.model.pairs = head
    said = torch.cat([batch.pairs for batch in labels[:-1]])  # the last is of the only English document
    assert score.n == (said >= 0).sum() and score.value == pytest.approx(((said == 1).sum() / (said >= 0).sum()).item())
