"""Hidden words guessed: against transformers place by place, on the same places whatever the model, in few logits."""

import json

import numpy as np
import pytest
import torch

import regard
from regard.batch import Encoding
from regard.data.masking import Masking
from regard.data.passages import Passage, drawn, of_documents, of_tokens
from regard.data.pretraining import frame
from regard.data.tokens import Document, write
from regard.errors import Problem
from regard.eval.words import answers, by_document, guesses, hidden
from regard.measure.resample import over_first

LETTERS = "abcdefghij"


def sentence(random):
    return " ".join("".join(random.choice(list(LETTERS), random.integers(1, 4))) for _ in range(random.integers(2, 9)))


@pytest.fixture(scope="module")
def system(guesser):
    return regard.load(guesser, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def documents():
    random = np.random.default_rng(0)
    return [
        Document("\n".join(sentence(random) for _ in range(random.integers(1, 4))), ("en", "zh")[number % 2])
        for number in range(30)
    ]


@pytest.fixture(scope="module")
def passages(system, documents):
    return of_documents(documents, system.tokenizer, length=24)


@pytest.fixture(scope="module")
def oracle(guesser):
    from transformers import BertForMaskedLM

    return BertForMaskedLM.from_pretrained(guesser).eval()


def one_by_one(model, passages, places):
    """Losses and whether the true word is among the 1 and 5 likeliest, by transformers, a passage at a time."""
    rows = []
    for (_, encoding, _), own in zip(passages, places, strict=True):
        ids = torch.from_numpy(encoding.ids.copy())[None]
        truth = ids[0, own].clone()
        ids[0, own] = 4
        with torch.no_grad():
            logits = model(ids).logits[0, own]
        best = logits.topk(5).indices == truth[:, None]
        losses = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
        rows.append(torch.stack([best[:, 0], best.any(1), losses], 1).numpy())
    return rows


def test_the_scores_are_those_of_transformers(oracle, system, passages):
    _, _, alphabet = frame(system.tokenizer)
    places = hidden([e for _, e, _ in passages], alphabet, Masking(0.5, "token", 1.0, 0.0, 0.0), seed=3)
    rows = one_by_one(oracle, passages, places)
    found = guesses(system.model, system.tokenizer, passages, rate=0.5, seed=3)
    assert [own.language for own in found] == ["en", "zh"]
    for own in found:
        wanted = np.concatenate([row for (name, *_), row in zip(passages, rows, strict=True) if name == own.language])
        assert own.places == len(wanted) > 100 and own.pseudo is None
        for score, value in zip((own.top1, own.top5, own.loss), wanted.mean(0), strict=True):
            assert score.value == pytest.approx(value, rel=1e-4)
            assert score.low < score.value < score.high
        assert 0 < own.top5.value < 1


def test_pseudo_perplexity_is_that_of_transformers_token_by_token(oracle, system, passages):
    found = guesses(system.model, system.tokenizer, passages, pseudo=60, seed=5)
    assert all(own.pseudo.n == 60 for own in found)
    whole = guesses(system.model, system.tokenizer, passages, pseudo=10**6)
    for own in whole:
        rows = [
            row[0, 2]
            for name, encoding, _ in passages
            if name == own.language
            for place in range(1, len(encoding.ids) - 1)
            for row in one_by_one(oracle, [(name, encoding, 0)], [np.array([place])])
        ]
        assert own.pseudo.n == len(rows)
        assert own.pseudo.value == pytest.approx(np.exp(np.mean(rows)), rel=1e-4)
        assert own.pseudo.low < own.pseudo.value < own.pseudo.high


def test_places_are_the_asked_share_by_seed_and_words_are_hidden_whole(system, passages):
    _, _, alphabet = frame(system.tokenizer)
    encodings = [e for _, e, _ in passages]
    rule = Masking(0.3, "word", 1.0, 0.0, 0.0)
    places = hidden(encodings, alphabet, rule, seed=1)
    plain = sum(len(e.ids) - 2 for e in encodings)
    assert sum(map(len, places)) / plain == pytest.approx(0.3, abs=0.03)
    for encoding, own in zip(encodings, places, strict=True):
        assert set(own) == set(np.flatnonzero(np.isin(encoding.words, encoding.words[own]))) and -1 not in own
    again, other = hidden(encodings, alphabet, rule, seed=1), hidden(encodings, alphabet, rule, seed=2)
    assert all(map(np.array_equal, places, again)) and not all(map(np.array_equal, places, other))
    wholes = guesses(system.model, system.tokenizer, passages, unit="word", rate=0.3, seed=1)
    assert sum(own.places for own in wholes) == sum(map(len, places))


def test_the_model_and_the_source_of_chance_are_left_as_they_were(system, passages):
    model = system.model
    model.train()
    model.encoder.blocks[0].eval()
    before = [part.training for part in model.modules()]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    try:
        found = guesses(model, system.tokenizer, passages, pseudo=60)
        assert [part.training for part in model.modules()] == before
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        model.eval()
    assert found == guesses(model, system.tokenizer, passages, pseudo=60)


def test_under_autocast_the_scores_are_near(system, passages):
    exact = guesses(system.model, system.tokenizer, passages)
    with torch.autocast("cpu", torch.bfloat16):
        near = guesses(system.model, system.tokenizer, passages)
    for one, other in zip(exact, near, strict=True):
        assert one.loss.value == pytest.approx(other.loss.value, rel=0.02) and one.loss != other.loss


def test_what_was_hidden_is_not_seen_and_the_share_done_grows_to_one(system):
    random, shares = np.random.default_rng(0), []
    encodings = [Encoding(random.integers(5, 25, n), np.zeros(n, np.int64)) for n in (9, 4, 9, 30)]
    places = [np.array([2, 5]), np.array([1]), np.empty(0, np.int64), np.array([0, 29])]
    losses, ranks = answers(system.model, encodings, places, 4, advance=shares.append)
    assert losses.shape == ranks.shape == (5,) and shares[-1] == 1
    other = [Encoding(e.ids.copy(), e.segments) for e in encodings]
    other[0].ids[2] = 5 if other[0].ids[2] != 5 else 6
    changed, _ = answers(system.model, other, places, 4)
    np.testing.assert_allclose(changed[1:], losses[1:], atol=1e-5)
    assert changed[0] != losses[0]


def test_intervals_are_of_documents_and_one_document_has_none(system, passages):
    english = [p for p in passages if p.language == "en"]
    apart = [p._replace(document=number) for number, p in enumerate(english)]
    together = [p._replace(document=number // 4) for number, p in enumerate(english)]
    [fine], [coarse] = (guesses(system.model, system.tokenizer, some) for some in (apart, together))
    assert (fine.top1.value, fine.places) == (coarse.top1.value, coarse.places)
    assert coarse.documents == -(-fine.documents // 4) and fine.passages == coarse.passages == len(english)
    assert fine.loss.low < fine.loss.value < fine.loss.high and fine.loss.low != coarse.loss.low
    [alone] = guesses(system.model, system.tokenizer, [p._replace(document=0) for p in english], pseudo=20)
    assert alone.top1.value == fine.top1.value and alone.documents == 1
    assert all(np.isnan([s.low, s.high]).all() for s in (alone.top1, alone.top5, alone.loss, alone.pseudo))


def test_the_passages_of_a_document_are_resampled_together():
    random = np.random.default_rng(0)
    table, owners = random.random((12, 3)), random.integers(0, 5, 12)
    summed = by_document(table, [Passage("en", None, int(owner)) for owner in owners])
    np.testing.assert_allclose(summed, [table[owners == owner].sum(0) for owner in np.unique(owners)])
    means, again = over_first(np.repeat(table, 3, axis=0), seed=1)
    np.testing.assert_allclose(means, table.sum(0) / table[:, 0].sum())
    _, once = over_first(
        by_document(np.repeat(table, 3, axis=0), [Passage("", None, n // 3) for n in range(36)]), seed=1
    )
    np.testing.assert_allclose(once, over_first(table, seed=1)[1])
    assert once[:, 1].std() > 1.4 * again[:, 1].std()


def test_unknown_words_are_counted(system):
    passages = of_documents([Document("Ω " * 20, "en")], system.tokenizer, length=24)
    [own] = guesses(system.model, system.tokenizer, passages, rate=0.5)
    assert own.unknown == own.places == 10
    assert own.table()["top1"]["n"] == 10 and json.dumps(own.table())


def test_what_cannot_be_measured_is_said(system, passages, tiny):
    other = regard.load(tiny, device="cpu")
    with pytest.raises(Problem, match="no head that guesses"):
        guesses(other.model, other.tokenizer, passages)
    long = of_documents([Document("a " * 50, "en")], system.tokenizer, length=40)
    with pytest.raises(Problem, match="40 tokens: this model reads 32"):
        guesses(system.model, system.tokenizer, long)
    assert guesses(system.model, system.tokenizer, []) == []


def test_passages_of_texts_are_those_of_a_corpus_on_disk(system, documents, passages, tmp_path):
    tokenizer = system.tokenizer
    stored = of_tokens(write(tmp_path / "tokens", documents, tokenizer), tokenizer, length=24)
    assert [name for name, *_ in stored] == [name for name, *_ in passages]
    for (_, one, _), (_, other, _) in zip(stored, passages, strict=True):
        assert np.array_equal(one.ids, other.ids) and np.array_equal(one.words, other.words)
    encoded = tokenizer.encode([document.text for document in documents], max_length=999)
    assert [i for e in encoded for i in e.ids[1:-1]] == [i for _, e, _ in stored for i in e.ids[1:-1]]
    assert all(len(e.ids) <= 24 and e.ids[0] == 2 and e.ids[-1] == 3 for _, e, _ in stored)
    assert all(e.words[0] == e.words[-1] == -1 and e.words[1] == 1 for _, e, _ in stored)


def test_passages_are_of_the_documents_held_out_alone(system, documents, tmp_path):
    tokens = write(tmp_path / "tokens", documents, system.tokenizer)
    held = tokens.held_out(0.3, 1000)
    some, rest, whole = (
        of_tokens(tokens, system.tokenizer, length=24, documents=which) for which in (held, ~held, None)
    )
    assert 0 < len(some) < len(rest) and len(some) + len(rest) == len(whole)
    sizes = np.diff(tokens.documents[:, 0], append=len(tokens.ids))
    assert sum(len(e.ids) - 2 for _, e, _ in some) == sizes[held].sum()


def test_a_bounded_sample_takes_each_language_and_no_more_than_it_needs(system, documents, passages):
    some = of_documents(documents, system.tokenizer, length=24, most=50, seed=1)
    for name in ("en", "zh"):
        sizes = [len(e.ids) - 2 for language, e, _ in some if language == name]
        assert 50 <= sum(sizes) < 50 + 22
    others = of_documents(documents, system.tokenizer, length=24, most=50, seed=2)
    texts = [[e.ids.tolist() for _, e, _ in found] for found in (some, others, passages)]
    assert texts[0] != texts[1] and all(text in texts[2] for text in texts[0])
    assert drawn(np.array([3, 3, 3]), np.array(["a", "b", "a"]), 0, 0).tolist() == []
    assert drawn(np.array([3, 3, 3]), np.array(["a", "b", "a"]), 4, 0).tolist() == [0, 1, 2]
