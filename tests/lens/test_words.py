"""Attention merged to words, against sums and means written out."""

import numpy as np
import torch

from regard.data.packing import pack
from regard.lens.capture import capture
from regard.lens.words import merged, units


def test_units_of_a_pair_stay_apart():
    words = np.array([-1, 0, 0, 2, -1, -1, 0, 1, 1, 1, -1])
    assert units(words).tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 6, 6, 7]
    assert units(np.array([0, 1, 1])).tolist() == [0, 1, 1]


def test_to_a_word_the_sum_and_from_a_word_the_mean(draw_model, draw_encodings):
    found = capture(draw_model().encoder, pack(draw_encodings([11, 4])))
    weights = found.weights(1, 0)
    of = units(np.array([-1, 0, 0, 2, 3, 3, 3, 4, 5, 5, -1]))
    expected = torch.zeros(3, of.max() + 1, of.max() + 1)
    for head in range(3):
        for u in range(of.max() + 1):
            rows = [i for i in range(11) if of[i] == u]
            for w in range(of.max() + 1):
                total = sum(weights[head, i, j] for i in rows for j in range(11) if of[j] == w)
                expected[head, u, w] = total / len(rows)
    torch.testing.assert_close(merged(weights, of), expected)
    torch.testing.assert_close(merged(weights, of).sum(-1), torch.ones(3, of.max() + 1))
