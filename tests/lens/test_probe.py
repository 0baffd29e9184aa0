"""Probes of attention, against their formulas in loops, and on trees that attention gives away."""

import numpy as np
import pytest
import torch

from regard.batch import Encoding
from regard.data.packing import pack
from regard.lens.capture import capture
from regard.lens.probe import PROBES, Example, Trial, distances, example, fit
from regard.lens.relations import Dependencies

HEADS, WIDTH = 6, 8


def made(size, seed, *, told=3):
    """A sentence whose trees one attention head tells: each word attends to its head, the root to [CLS]."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(HEADS, size + 2, size + 2, generator=generator).softmax(-1)
    heads = torch.randint(size + 1, (size,), generator=generator)
    for word, head in enumerate(heads.tolist()):
        weights[told, word + 1] *= 0.1
        weights[told, word + 1, 0 if head == size else head + 1] += 0.9
    control = torch.randint(size, (size,), generator=generator)
    vectors = torch.randn(size + 2, WIDTH, generator=generator)
    return Example(seed, weights, vectors, {"trees": heads, "control": control}, np.ones(size, bool))


def test_attention_is_its_formula():
    one = made(4, 1)
    probe = PROBES["attention"](HEADS, WIDTH)
    (w, u), (first, last) = probe.weights.tolist(), probe.root.tolist()
    a = one.weights.tolist()

    def score(j, i):
        return sum(w[k] * a[k][j][i] + u[k] * a[k][i][j] for k in range(HEADS))

    rows = [[*(score(j, i) for i in range(1, 5)), first * score(j, 0) + last * score(j, 5)] for j in range(1, 5)]
    torch.testing.assert_close(probe(one), torch.tensor(rows))


def test_attention_and_words_is_its_formula():
    one = made(3, 2)
    probe = PROBES["attention and words"](HEADS, WIDTH)
    dense = torch.cat([probe.dependent.weight, probe.head.weight], 1)  # of both vectors side by side
    found = probe(one)
    for j in range(1, 4):
        scores = []
        for i in range(5):
            own = dense @ torch.cat([one.vectors[j], one.vectors[i]]) + probe.dependent.bias
            scores.append(own @ torch.cat([one.weights[:, j, i], one.weights[:, i, j]]))
        expected = [*scores[1:4], probe.root[0] * scores[0] + probe.root[1] * scores[4]]
        torch.testing.assert_close(found[j - 1], torch.stack(expected))


def test_distances_are_told_apart():
    found = distances(4)
    assert found[0, 3].tolist() == pytest.approx([0.3, 0, 0, 0, 0, 0, 0, 0])
    assert found[2, 1].tolist() == pytest.approx([0, 0.1, 0, 1, 0, 0, 0, 0])
    assert found[1, 1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert found[3, 4].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("name", "least"), [("attention", 0.95), ("attention and words", 0.75)])
def test_what_attention_tells_is_learnt_and_what_it_does_not_is_not(name, least):
    torch.manual_seed(0)
    trees, control = (Trial(PROBES[name](HEADS, WIDTH), task) for task in ("trees", "control"))
    blind = Trial(PROBES["distance and words"](HEADS, WIDTH), "trees")
    fit([trees, control, blind], (made(4 + n % 5, n) for n in range(500)))
    for n in range(500, 550):
        for trial in (trees, control, blind):
            trial.score(made(4 + n % 5, n))
    shares = [sum(t.right.values()) / sum(t.counts.values()) for t in (trees, control, blind)]
    assert shares[0] > least
    assert max(shares[1:]) < 0.35
    assert sum(trees.counts.values()) == sum(4 + n % 5 for n in range(500, 550))


def test_punctuation_is_learnt_but_not_scored():
    one = made(5, 3)
    some = Example(one.sentence, one.weights, one.vectors, one.targets, np.array([True, False, True, False, False]))
    trial = Trial(PROBES["attention"](HEADS, WIDTH), "trees")
    trial.score(some)
    right = trial.probe(one).argmax(1) == one.targets["trees"]
    assert (trial.right[3], trial.counts[3]) == (int(right[0]) + int(right[2]), 2)
    nothing = Example(one.sentence, one.weights, one.vectors, one.targets, np.zeros(5, bool))
    before = trial.probe.weights.detach().clone()
    fit([trial], [nothing])
    assert (trial.probe.weights != before).all()


def test_an_example_of_a_captured_sentence(draw_model):
    encoder = draw_model().encoder
    words = np.array([-1, 0, 0, 1, 2, -1])
    encodings = [Encoding(np.arange(n), np.zeros(n, np.int64)) for n in (3, 6)]
    found = capture(encoder, pack(encodings))
    table = encoder.embeddings.word.detach()
    gold = Dependencies(np.array([1, -1, 1]), np.array([0, 9, 1]), np.array([False, False, True]))
    one = example(found, 1, words=words, gold=gold, control=np.array([0, 0, 2]), table=table, sentence=4)
    torch.testing.assert_close(one.vectors, torch.stack([table[0], table[1:3].mean(0), table[3], table[4], table[5]]))
    assert one.targets["trees"].tolist() == [1, 3, 1]
    assert one.targets["control"].tolist() == [0, 0, 2]
    assert one.counted.tolist() == [True, True, False]
    assert one.weights.shape == (6, 5, 5)
    torch.testing.assert_close(one.weights.sum(-1), torch.ones(6, 5))
    torch.testing.assert_close(one.weights[4, 2, 3], found.weights(1, 1)[1, 3, 4])
