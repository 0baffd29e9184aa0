"""Antecedents by attention, against an example worked out by hand."""

import numpy as np
import torch

from regard.lens import coreference
from regard.lens.coreference import Mentions, add
from regard.lens.relations import Tally

# Words 0 to 5; mentions: [0 1] of A with head 1, [1] of B, [3] of A, [4] of B, [5] of A.
MENTIONS = Mentions(
    start=np.array([0, 1, 3, 4, 5]),
    end=np.array([2, 2, 4, 5, 6]),
    head=np.array([0, 1, 3, 4, 5]),
    entity=np.array([0, 1, 0, 1, 0]),
    kind=np.array([2, 2, 0, 1, 0]),
    form=np.array([7, 8, 9, 8, 7]),
)


def test_an_example_by_hand(monkeypatch):
    weights = torch.zeros(2, 6, 6)
    weights[0, 3, 0] = weights[0, 4, 1] = weights[0, 5, 3] = 1.0  # right, right, right
    weights[1, 3, [1, 2]] = torch.tensor([0.1, 0.9])  # word 2 is no mention; of those that are, 1 is of B
    weights[1, 4, 3] = 1.0  # of A
    weights[1, 5, [0, 4, 5]] = torch.tensor([0.3, 0.2, 0.5])  # itself does not count; 0 is of A
    monkeypatch.setattr(coreference, "word_weights", lambda found, sequence, words: iter([weights[:1], weights[1:]]))
    tally = Tally()
    words = np.array([-1, 0, 1, 2, 3, 4, 5, -1])
    add(tally, None, 0, words=words, mentions=MENTIONS, document=4)
    # Scored: 2 (A after A and B), 3 (B), 4 (A); the first two have nothing before them, for they overlap.
    hits, counts = tally.table(np.array([True, True, True]), np.array([False] * 4 + [True]))
    assert counts.tolist() == [3]
    # nearest: of 2 it is 1 (B), of 3 it is 2 (A), of 4 it is 3 (B). Same word: 2 has none, 3 finds 1, 4 finds 0.
    assert hits.tolist() == [[3, 1, 0, 2]]
    by_kind = [tally.table(np.arange(3) == kind, np.array([False] * 4 + [True])) for kind in range(2)]
    assert [h.tolist() for h, _ in by_kind] == [[[2, 1, 0, 1]], [[1, 0, 0, 1]]]


def test_a_mention_whose_head_became_no_token_is_neither_asked_nor_offered(monkeypatch):
    weights = torch.ones(1, 5, 5)
    monkeypatch.setattr(coreference, "word_weights", lambda found, sequence, words: iter([weights]))
    tally = Tally()
    words = np.array([-1, 1, 2, 3, 4, 5, -1])  # word 0 has none
    add(tally, None, 0, words=words, mentions=MENTIONS, document=0)
    _, counts = tally.table(np.ones(3, bool), np.ones(1, bool))
    assert counts.tolist() == [2]  # 2 has only B before it now
    empty = Tally()
    one = Mentions(*(np.array(x)[:1] for x in ([0], [1], [0], [0], [0], [0])))
    add(empty, None, 0, words=words, mentions=one, document=0)
    assert not empty.hits
