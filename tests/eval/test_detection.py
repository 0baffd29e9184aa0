"""Replaced tokens detected: the shares are those of a passage at a time, the same on each call."""

import numpy as np
import pytest
import torch

import regard
from regard.batch import Hidden
from regard.data.masking import Masking
from regard.data.packing import pack
from regard.data.passages import of_documents
from regard.data.pretraining import frame
from regard.data.tokens import Document
from regard.errors import Problem
from regard.eval.detection import detected
from regard.eval.words import hidden
from regard.model.heads import Detector
from regard.train.objectives import deceived


@pytest.fixture(scope="module")
def system(guesser):
    """Both a generator of words and, by another head on the same encoder, a discriminator."""
    system = regard.load(guesser, precision="float32", device="cpu")
    torch.manual_seed(3)
    system.model.detector = Detector(system.model.encoder.config)
    torch.nn.init.normal_(system.model.detector.dense.weight)
    torch.nn.init.normal_(system.model.detector.output.weight)
    return system


@pytest.fixture(scope="module")
def passages(system):
    random = np.random.default_rng(0)
    documents = [
        Document(" ".join(random.choice(list("abcdefghij"), random.integers(4, 40))), ("en", "zh")[number % 2])
        for number in range(40)
    ]
    return of_documents(documents, system.tokenizer, length=24)


def test_the_shares_are_those_of_one_passage_at_a_time(system, passages, monkeypatch):
    model, (first, last, alphabet) = system.model, frame(system.tokenizer)
    encodings = [e for _, e, _ in passages]
    places = hidden(encodings, alphabet, Masking(0.5, "token", 1.0, 0.0, 0.0), seed=2)
    # Of each place the likeliest word, so that what is drawn does not depend on the order of passages.
    monkeypatch.setattr(model.words, "sample", lambda states, word, chance: model.words(states, word).argmax(-1))
    counts = {name: np.zeros(4) for name in ("en", "zh")}
    for (language, encoding, _), own in zip(passages, places, strict=True):
        packed, at = pack([encoding]), torch.from_numpy(own)
        truth = packed.ids[at]
        packed.ids[at] = alphabet.mask
        with torch.no_grad():
            drawn = model.words(model.encoder(packed)[at], model.encoder.embeddings.word).argmax(-1)
            shown, replaced, _ = deceived(Hidden(packed, at, truth, 0 * at, at), drawn, (first, last))
            said = model.detector(model.encoder(shown))[1:-1] > 0
        wrong = replaced[1:-1]
        assert wrong.sum() == (drawn != truth).sum()
        counts[language] += [fact.sum().item() for fact in (wrong, wrong & said, ~wrong, ~wrong & ~said)]
    found = detected(model, model, system.tokenizer, passages, rate=0.5, seed=2)
    for language, (wrong, hit, right, kept) in counts.items():
        for name, value, n in (("replaced", hit / wrong, wrong), ("original", kept / right, right)):
            score = found[f"{name} tokens in {language}"]
            assert score.value == pytest.approx(value) and score.n == n > 50
            assert score.low < score.value < score.high
    assert len(found) == 4
    one = detected(model, model, system.tokenizer, [p._replace(document=0) for p in passages], rate=0.5, seed=2)
    assert {name: score.value for name, score in one.items()} == {name: score.value for name, score in found.items()}
    assert all(np.isnan([score.low, score.high]).all() for score in one.values())


def test_the_same_words_are_drawn_on_each_call_and_nothing_is_left_changed(system, passages):
    model = system.model.train()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    try:
        found = detected(model, model, system.tokenizer, passages)
        assert torch.equal(state, torch.get_rng_state()) and model.training
    finally:
        model.eval()
    assert found == detected(model, model, system.tokenizer, passages)
    assert found != detected(model, model, system.tokenizer, passages, seed=1)
    assert detected(model, model, system.tokenizer, []) == {}


def test_models_without_the_heads_are_said(system, passages, tiny):
    other = regard.load(tiny, device="cpu").model
    with pytest.raises(Problem, match="no head that detects"):
        detected(other, system.model, system.tokenizer, passages)
    with pytest.raises(Problem, match="no head that guesses"):
        detected(system.model, other, system.tokenizer, passages)
