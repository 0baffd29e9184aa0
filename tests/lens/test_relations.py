"""Heads as parsers, against loops written out; trees against scipy."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree

from regard.batch import Encoding
from regard.data.packing import pack
from regard.lens.capture import capture
from regard.lens.relations import GOLDS, Dependencies, Parsers, predicted, spanning

# Three sentences: two words of one token and more, a word without tokens, a sentence of one word, punctuation.
WORDS = ([-1, 0, 0, 1, 3, 3, 3, 4, -1], [-1, 0, -1], [-1, 0, 1, 2, 3, 4, 5, 5, -1])
TREES = (
    ([1, -1, 1, 1, 2], [0, 9, 1, 2, 3], [4]),
    ([-1], [9], []),
    ([1, 2, -1, 5, 5, 2], [0, 1, 9, 0, 3, 2], [4]),
)


def dependencies(heads, relations, punctuation):
    marks = np.isin(np.arange(len(heads)), punctuation)
    return Dependencies(np.array(heads), np.array(relations), marks)


@pytest.fixture
def found(draw_model):
    random = np.random.default_rng(3)
    encodings = [Encoding(random.integers(50, size=len(w)), np.zeros(len(w), np.int64)) for w in WORDS]
    return capture(draw_model().encoder, pack(encodings))


def written_out(found, sequence):
    """Weights between words that have tokens, by loops: {(layer, head): {(from, to): weight}}."""
    words = WORDS[sequence]
    present = sorted({w for w in words if w >= 0})
    out = {}
    for layer in range(2):
        weights = found.weights(layer, sequence).tolist()
        for head in range(3):
            cells = {}
            for u in present:
                rows = [i for i, w in enumerate(words) if w == u]
                for v in present:
                    columns = [j for j, w in enumerate(words) if w == v]
                    cells[u, v] = sum(weights[head][i][j] for i in rows for j in columns) / len(rows)
            out[layer, head] = cells
    return present, out


def test_counts_are_those_of_loops(found):
    parsers = Parsers(reach=2)
    lost = [
        parsers.add(found, n, sentence=n, words=np.array(words), gold=dependencies(*TREES[n]))
        for n, words in enumerate(WORDS)
    ]
    assert lost == [1, 0, 0]
    expected = np.zeros((3, 10, 2 * 3 * 2 + 4), dtype=int)
    counts = np.zeros((3, 10), dtype=int)
    for n, (heads, relations, punctuation) in enumerate(TREES):
        present, weights = written_out(found, n)
        for j in present:
            if heads[j] < 0 or heads[j] not in present or j in punctuation:
                continue
            counts[n, relations[j]] += 1
            others = [i for i in present if i != j]
            column = 0
            for cells in weights.values():
                for score in (lambda i, c=cells, j=j: c[j, i], lambda i, c=cells, j=j: c[i, j]):
                    expected[n, relations[j], column] += max(others, key=score) == heads[j]
                    column += 1
            for k in (-2, -1, 1, 2):
                expected[n, relations[j], column] += present.index(heads[j]) - present.index(j) == k
                column += 1
    assert expected.sum() > 0 and counts.sum() == 6  # word 4 of the first sentence hangs on one without tokens
    for relation in range(10):
        for n in range(3):
            kind, sentence = np.arange(10) == relation, np.arange(3) == n
            hits, sizes = parsers.tallies["true"].table(kind, sentence)
            np.testing.assert_array_equal(hits.sum(0), expected[n, relation])
            assert sizes.sum() == counts[n, relation]
    hits, sizes = parsers.tallies["true"].table(np.isin(np.arange(10), [0, 2]), np.ones(3, bool))
    np.testing.assert_array_equal(hits, expected[[0, 2]][:, [0, 2]].sum(1))
    np.testing.assert_array_equal(sizes, counts[[0, 2]][:, [0, 2]].sum(1))


def test_dealt_anew_means_the_same_heads_and_relations(found):
    """Each sentence keeps how many words it scores and, of relations or heads, how often each occurs."""
    parsers = Parsers()
    for n, words in enumerate(WORDS):
        parsers.add(found, n, sentence=n, words=np.array(words), gold=dependencies(*TREES[n]))
    every = np.ones(3, bool)
    true, heads, relations = (parsers.tallies[name] for name in GOLDS)
    for relation in range(10):
        kind = np.arange(10) == relation
        np.testing.assert_array_equal(true.table(kind, every)[1], heads.table(kind, every)[1])
        np.testing.assert_array_equal(true.table(kind, every)[1], relations.table(kind, every)[1])
    total = [tally.table(np.ones(10, bool), every)[0] for tally in (true, heads, relations)]
    np.testing.assert_array_equal(total[0], total[2])  # relations only change the names of what is right
    assert (total[0] != total[1]).any()


def test_trees_are_those_of_scipy(found):
    parsers = Parsers()
    parsers.add(found, 2, sentence=2, words=np.array(WORDS[2]), gold=dependencies(*TREES[2]))
    present, weights = written_out(found, 2)
    kept = [w for w in present if w != 4]
    gold = {frozenset((0, 1)), frozenset((1, 2)), frozenset((3, 5)), frozenset((5, 2))}
    expected = []
    for cells in weights.values():
        costs = [[-np.log(cells[a, b] * cells[b, a]) if a != b else 0 for b in kept] for a in kept]
        tree = minimum_spanning_tree(np.array(costs)).toarray()
        edges = {frozenset((kept[a], kept[b])) for a, b in zip(*np.nonzero(tree), strict=True)}
        assert len(edges) == len(kept) - 1
        expected.append(len(edges & gold))
    chain = {frozenset(pair) for pair in itertools.pairwise(kept)}
    hits, counts = parsers.trees.table(np.ones(1, bool), np.ones(3, bool))
    assert hits[0].tolist() == [*expected, len(chain & gold)]
    assert counts.tolist() == [4]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 25])
def test_spanning_trees_weigh_what_scipys_weigh(size):
    generator = torch.Generator().manual_seed(size)
    weights = torch.rand(6, size, size, generator=generator) + 0.1
    weights = weights * weights.mT
    for one, parents in zip(weights.numpy(), spanning(weights).numpy(), strict=True):
        assert parents[0] == -1 and (parents[1:] >= 0).all()
        ours = sum(one[child, parent] for child, parent in enumerate(parents) if parent >= 0)
        theirs = -minimum_spanning_tree(np.triu(-one, 1)).toarray().sum()
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_both_directions_and_never_itself():
    weights = torch.tensor([[[0.9, 0.02, 0.08], [0.3, 0.5, 0.2], [0.35, 0.05, 0.6]]])
    assert predicted(weights)[0].tolist() == [[2, 0, 0], [2, 2, 1]]


def test_sentences_with_nothing_to_score(found):
    """One of punctuation alone, and one none of whose words became a token."""
    parsers = Parsers()
    marks = dependencies([1, -1, 1, 1, 2, 0], [1, 9, 1, 1, 1, 1], range(6))
    assert parsers.add(found, 2, sentence=0, words=np.array(WORDS[2]), gold=marks) == 0
    assert parsers.add(found, 1, sentence=1, words=np.array([-1, -1, -1]), gold=dependencies([-1, 0], [9, 1], [])) == 2
    for tally in (*parsers.tallies.values(), parsers.trees):
        hits, counts = tally.table(np.ones(10, bool), np.ones(2, bool))
        assert (len(hits), len(counts)) == (0, 0)
