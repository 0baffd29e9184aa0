"""Gradients by attention weights, against automatic differentiation through the explicit path, for every loss."""

import json

import numpy as np
import pytest
import torch

from regard.batch import Encoding
from regard.card import Card
from regard.data.packing import pack
from regard.lens.capture import spans
from regard.model.heads import Head, Model
from regard.model.taps import Tap
from regard.model.words import WordHead
from regard.study.clark import gradients
from regard.system import System


def pair(random, first, second):
    """[CLS] A [SEP] B [SEP] of random letters."""
    letters = random.integers(5, 31, first + second)
    ids = np.concatenate([[2], letters[:first], [3], letters[first:], [3]])
    return Encoding(ids, np.r_[np.zeros(first + 2, np.int64), np.ones(second + 1, np.int64)])


@pytest.fixture
def batch():
    random = np.random.default_rng(3)
    return [pair(random, a, b) for a, b in ((3, 4), (6, 2), (5, 5))]


@pytest.fixture
def members(system):
    out = torch.zeros(system.tokenizer.size, 3)
    out[2, 0] = out[3, 1] = out[5:12, 2] = 1
    return out


def with_masked_words(system):
    """The same with a head for masked words."""
    torch.manual_seed(0)
    words = WordHead(system.model.encoder.config)
    for parameter in words.parameters():
        torch.nn.init.normal_(parameter)
    model = Model(system.model.encoder, system.model.pooling, words=words.eval())
    return System(system.tokenizer, model, system.origin, system.card)


def with_answers(system, task="classify"):
    torch.manual_seed(0)
    labels = {"regress": ("score",)}.get(task, ("a", "b", "c"))
    model = type(system.model)(system.model.encoder, system.model.pooling, Head(32, len(labels), 0.0))
    return System(system.tokenizer, model, system.origin, Card(task=task, labels=labels))


KINDS = {
    "masked words": ("masked words", with_masked_words),
    "one answer": ("own answer", with_answers),
    "several answers": ("own answer", lambda system: with_answers(system, "multilabel")),
    "a number": ("own answer", lambda system: with_answers(system, "regress")),
    "no head": ("contrastive", lambda system: system),
}


def explicit(trial, layers):
    """The loss's gradient by all weights: layer -> packed place -> (heads, S, S)."""
    out = {}
    for layer in range(layers):
        leaves = []

        def edit(weights, leaves=leaves):
            leaves += [w.detach().requires_grad_() for w in weights]
            return leaves

        loss = trial.objective(Tap(edit={f"layer.{layer}.attention.weights": edit}))
        out[layer] = torch.autograd.grad(loss, leaves)
    return out


@pytest.mark.parametrize(("loss", "make"), KINDS.values(), ids=KINDS)
def test_means_are_those_of_the_explicit_path(system, batch, members, loss, make):
    made = make(system)
    assert gradients.loss_of(made) == loss
    trial = gradients.TRIALS[loss](made, batch, np.random.default_rng(0))
    found = gradients.measured(trial, members, layers=2)
    expected = explicit(trial, 2)
    order = trial.packed.order.tolist()
    for text in range(len(batch)):
        sequences = [s for s, owner in enumerate(trial.owners) if owner == text]
        for layer in range(2):
            for kind in range(3):
                cells = []
                for s in sequences:
                    ids = trial.packed.ids[spans(trial.packed)[s]]
                    grown = expected[layer][order.index(s)].abs()
                    cells.append(grown[:, :, members[ids, kind] == 1].flatten(1))
                expected_mean = torch.cat(cells, 1).mean(1)
                np.testing.assert_allclose(found[text, layer, :, kind], expected_mean, rtol=1e-4, atol=1e-7)


def test_the_losses_are_what_they_say(system, batch):
    """Each from its definition, by the plain model."""
    trial = gradients.TRIALS["contrastive"](system, batch, np.random.default_rng(0))
    for e in batch:
        one, other = gradients.halves(e, 3)
        assert one.ids.tolist() == e.ids[e.segments == 0].tolist()
        assert other.ids.tolist() == [2, *e.ids[e.segments == 1].tolist()] and not other.segments.any()
    vectors = [[system.model(pack([half])).pooled[0].detach() for half in gradients.halves(e, 3)] for e in batch]
    similar = torch.tensor([[float(torch.cosine_similarity(a, b, 0)) / 0.05 for _, b in vectors] for a, _ in vectors])
    expected = -similar.log_softmax(1).diagonal().sum()
    assert float(trial.objective(Tap()).detach()) == pytest.approx(float(expected), rel=1e-4)

    made = with_masked_words(system)
    trial = gradients.TRIALS["masked words"](made, batch, np.random.default_rng(0))
    words = made.model.words
    total = 0.0
    for s, e in enumerate(batch):
        ids = trial.packed.ids[spans(trial.packed)[s]].numpy()
        hidden = np.flatnonzero(ids != e.ids)
        assert (ids[hidden] == 4).all() and len(hidden) == max(1, round(0.15 * (len(ids) - 3)))
        states = system.model.encoder(pack([Encoding(ids, e.segments)]))[hidden]
        logits = words(states, system.model.encoder.embeddings.word)
        total += torch.nn.functional.cross_entropy(logits, torch.from_numpy(e.ids[hidden])).item()
    assert float(trial.objective(Tap()).detach()) == pytest.approx(total, rel=1e-4)


def test_a_study_averages_over_texts_and_heads(system, batch):
    found = gradients.study(system, batch, seed=0)
    assert (found["loss"], found["texts"]) == ("contrastive", 3)
    heads = {(r["layer"], r["head"], r["statistic"]): r["mean"] for r in found["heads"]}
    for row in found["layers"]:
        own = [heads[row["layer"], head, row["statistic"]] for head in range(4)]
        if row["statistic"] == "stop":  # the vocabulary has none
            assert row["n"] == 0 and np.isnan(row["mean"])
        else:
            assert row["mean"] == pytest.approx(np.mean(own), rel=1e-6) and row["low"] <= row["mean"] <= row["high"]
    assert gradients.study(system, batch[:1], seed=0)["texts"] == 0  # a pair among none tells nothing


def test_a_text_of_special_tokens_alone_hides_nothing_and_is_left_out(system, batch):
    made = with_masked_words(system)
    bare = made.tokenizer.encode(["\u200b"], ["\u200b"], max_length=16)[0]
    assert bare.ids.tolist() == [2, 3, 3]
    assert gradients.study(made, [bare], seed=0)["texts"] == 0
    with_it, without = (gradients.study(made, some, seed=0) for some in ([bare, *batch], batch))
    assert without["texts"] == 3 and json.dumps(with_it) == json.dumps(without)  # nan is not equal to itself
