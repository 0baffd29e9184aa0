"""A linear probe of a frozen encoder: its vectors, its regression against scikit-learn, its bounds."""

import csv

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import regard
from regard.errors import Problem
from regard.eval.features import probe, vectors


@pytest.fixture(scope="module")
def system(tiny):
    return regard.load(tiny, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def rows(reviews):
    with reviews.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [row["review"] for row in found], [row["sentiment"] for row in found]


def test_a_vector_is_the_mean_over_all_tokens_of_the_last_layer(system, rows, tiny):
    from transformers import BertModel

    texts = rows[0][:7]
    model = BertModel.from_pretrained(tiny).eval()
    found = vectors(system.model, system.tokenizer, texts, length=20)
    for text, own in zip(texts, found, strict=True):
        ids = torch.from_numpy(system.tokenizer.encode([text], max_length=20)[0].ids)[None]
        with torch.no_grad():
            expected = model(ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(own, expected, atol=1e-5)


def test_the_probe_is_scikit_learns(system, rows):
    texts, labels = rows[0], np.array(rows[1])
    labels[::7], labels[1::7] = "positive", "negative"  # more than a text says
    found = probe(
        system.model, system.tokenizer, train=(texts[:300], labels[:300]), test=(texts[300:], labels[300:]), length=64
    )
    x = vectors(system.model, system.tokenizer, texts, length=64)
    x = (x - x[:300].mean(0)) / x[:300].std(0)
    oracle = LogisticRegression(max_iter=5000, tol=1e-8).fit(x[:300], labels[:300])
    assert found.value == pytest.approx(oracle.score(x[300:], labels[300:]), abs=0.011) and found.n == 100
    assert found.value > 0.7 and found.low < found.value < found.high


def test_bfloat16_around_a_probe_rounds_its_vectors_and_not_its_weights(system, rows):
    texts, labels = rows[0], np.array(rows[1])
    labels[::7], labels[1::7] = "positive", "negative"  # more than a text says
    parts = {"train": (texts[:300], labels[:300]), "test": (texts[300:], labels[300:])}
    whole = probe(system.model, system.tokenizer, **parts, length=64)
    with torch.autocast("cpu", torch.bfloat16):
        half = probe(system.model, system.tokenizer, **parts, length=64)
    assert half.value == pytest.approx(whole.value, abs=0.03)


def test_labels_that_mean_nothing_are_not_guessed(system, rows):
    texts, _ = rows
    labels = np.random.default_rng(0).integers(0, 2, len(texts))
    found = probe(
        system.model, system.tokenizer, train=(texts[:300], labels[:300]), test=(texts[300:], labels[300:]), length=64
    )
    assert found.low < 0.5 < found.high


def test_rows_are_bounded_by_lot_and_the_model_is_left_as_it_was(system, rows):
    system.model.train()
    state = torch.get_rng_state()
    found = [
        probe(system.model, system.tokenizer, train=rows, test=rows, most=(50, 40), length=64, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert system.model.training and torch.equal(torch.get_rng_state(), state)
    system.model.eval()
    assert found[0].n == 40 and found[0] == found[1]
    assert probe(system.model, system.tokenizer, train=rows, test=(["a"], ["?"]), length=64).value == 0


def test_what_cannot_be_probed_is_said(system, rows):
    texts, labels = rows
    with pytest.raises(Problem, match="at least two labels"):
        probe(system.model, system.tokenizer, train=(texts[:2], [1, 1]), test=rows, length=64)
    with pytest.raises(Problem, match="one label for each"):
        probe(system.model, system.tokenizer, train=(texts, labels[1:]), test=rows, length=64)
    with pytest.raises(Problem, match="reads 64 at most"):
        probe(system.model, system.tokenizer, train=rows, test=rows, length=65)
