"""Baselines against scikit-learn, on made-up texts and on real ones."""

import gzip
import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from regard.errors import Problem
from regard.eval.baselines import BagOfWords, Majority, TermWeights, terms


def corpus(rows=200, seed=0):
    """Texts of ten words; words a to e speak for classes 0 to 4."""
    generator = np.random.default_rng(seed)
    words = np.array([*"abcde", *(f"w{i}" for i in range(40))])
    texts = [" ".join(generator.choice(words, 10)) for _ in range(rows)]
    counts = np.array([[text.split().count(letter) for letter in "abcde"] for text in texts])
    return texts, counts


def vectorizer():
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")


def sst2(folder, split):
    with gzip.open(folder / "data" / "sst2" / f"stsa.binary.{split}.gz", "rt", encoding="latin-1") as lines:
        rows = [line.rstrip("\n").split(" ", 1) for line in lines]
    return [text for _, text in rows], np.array([int(label) for label, _ in rows])


def test_terms_of_two_languages():
    assert list(terms("The Cat, sat!")) == ["the", "cat", "sat", "the cat", "cat sat"]
    assert list(terms("他爱BERT。")) == ["他", "爱", "bert", "他 爱", "爱 bert"]
    assert list(terms(" ... ")) == []


def test_weights_equal_scikit_learn():
    texts, _ = corpus()
    others = [*corpus(20, seed=1)[0], "", "unknown"]
    weights = TermWeights().fit(texts)
    bags = weights.bags(others)
    ours = np.zeros((len(others), len(weights.place)))
    row = np.searchsorted(bags.starts.numpy(), np.arange(len(bags.terms)), side="right") - 1
    ours[row, bags.terms.numpy()] = bags.weights.numpy()
    oracle = vectorizer().fit(texts)
    order = [weights.place[term] for term in oracle.get_feature_names_out()]
    np.testing.assert_allclose(ours[:, order], oracle.transform(others).toarray(), atol=1e-6)


def test_classifier_equals_scikit_learn():
    texts, counts = corpus()
    labels = counts.argmax(1)
    others = corpus(50, seed=1)[0]
    ours = BagOfWords("classify", 5).fit(texts, labels).predict(others)
    oracle = vectorizer().fit(texts)
    model = LogisticRegression(max_iter=5000, tol=1e-9).fit(oracle.transform(texts), labels)
    np.testing.assert_allclose(ours, model.predict_proba(oracle.transform(others)), atol=2e-3)


def test_labels_equal_scikit_learn():
    texts, counts = corpus()
    labels = (counts > 0).astype(int)
    others = corpus(50, seed=1)[0]
    ours = BagOfWords("multilabel", 5).fit(texts, labels).predict(others)
    oracle = vectorizer().fit(texts)
    for i in range(5):
        model = LogisticRegression(max_iter=5000, tol=1e-9).fit(oracle.transform(texts), labels[:, i])
        np.testing.assert_allclose(ours[:, i], model.predict_proba(oracle.transform(others))[:, 1], atol=2e-3)


def test_regression_equals_scikit_learn():
    texts, counts = corpus()
    values = 100.0 + counts @ np.arange(5.0)
    others = corpus(50, seed=1)[0]
    ours = BagOfWords("regress", 1).fit(texts, values).predict(others)
    oracle = vectorizer().fit(texts)
    model = Ridge(solver="lsqr", tol=1e-10).fit(oracle.transform(texts), values)
    assert ours.shape == (50, 1)
    np.testing.assert_allclose(ours[:, 0], model.predict(oracle.transform(others)), atol=0.01)


def test_majority_answers_with_the_shares():
    texts = ["a", "b", "c", "d"]
    found = Majority("classify", 3).fit(texts, np.array([2, 2, 0, 2])).predict(["x", "y"])
    np.testing.assert_array_equal(found, [[0.25, 0, 0.75]] * 2)
    found = Majority("multilabel", 2).fit(texts, np.array([[1, 0], [1, 1], [0, 0], [1, 0]])).predict(["x"])
    np.testing.assert_array_equal(found, [[0.75, 0.25]])
    found = Majority("regress", 1).fit(texts, np.array([1.0, 2, 3, 4])).predict(["x"])
    np.testing.assert_array_equal(found, [[2.5]])


@pytest.mark.parametrize("system", [Majority, BagOfWords])
def test_probabilities_are_probabilities_and_come_again(system):
    texts, counts = corpus(60)
    labels = counts.argmax(1)
    found = system("classify", 6, seed=1).fit(texts, labels).predict([*texts, ""])  # class 5 never occurs
    assert found.shape == (61, 6)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_array_equal(found, system("classify", 6, seed=2).fit(texts, labels).predict([*texts, ""]))


@pytest.mark.parametrize("system", [Majority, BagOfWords])
def test_texts_without_words_get_an_answer(system):
    model = system("classify", 2).fit(["", "...", "!"], np.array([0, 0, 1]))
    np.testing.assert_allclose(model.predict(["", "?"]), [[2 / 3, 1 / 3]] * 2, atol=1e-3)
    assert model.predict([]).shape == (0, 2)


def test_characters_and_pairs_carry_chinese():
    """Neither 不 nor 好 decides alone: the pair 不好 does."""
    texts = ["这个不好", "这个好不", "真的不好", "真的好不"] * 10
    labels = np.array([0, 1, 0, 1] * 10)
    found = BagOfWords("classify", 2).fit(texts, labels).predict(["东西不好", "东西好不"])
    np.testing.assert_array_equal(found.argmax(1), [0, 1])


@pytest.mark.parametrize(
    ("labels", "what"), [([0, 1], "3 texts with 2 labels"), ([0, 1, 2], "outside 0 to 1"), ([0, -1, 1], "outside")]
)
def test_what_a_user_can_mend_is_named(labels, what):
    with pytest.raises(Problem, match=what):
        BagOfWords("classify", 2).fit(["a", "b", "c"], np.array(labels))


def test_sentiment_is_as_good_as_scikit_learn(shared):
    """SST-2: at most 1.5 points behind, and trained in seconds."""
    texts, labels = sst2(shared, "train")
    others, truth = sst2(shared, "test")
    start = time.process_time()
    ours = (BagOfWords("classify", 2).fit(texts, labels).predict(others).argmax(1) == truth).mean()
    assert time.process_time() - start < 20
    oracle = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts)
    model = LogisticRegression(max_iter=1000).fit(oracle.transform(texts), labels)
    theirs = (model.predict(oracle.transform(others)) == truth).mean()
    chance = (Majority("classify", 2).fit(texts, labels).predict(others).argmax(1) == truth).mean()
    assert ours >= theirs - 0.015
    assert ours > chance + 0.2
