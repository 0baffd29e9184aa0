import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.splits import split
from regard.errors import Problem

SHARES = (0.8, 0.1, 0.1)


def test_shares_are_kept_for_each_class():
    labels = [0] * 700 + [1] * 250 + [2] * 50
    parts = split(labels, SHARES, seed=0)
    assert [len(part) for part in parts] == [800, 100, 100]
    for kind, rows in ((0, 700), (1, 250), (2, 50)):
        for part, share in zip(parts, SHARES, strict=True):
            assert abs(sum(labels[i] == kind for i in part) - rows * share) <= 1


def test_the_seed_decides_and_nothing_else():
    labels = [i % 3 for i in range(200)]
    np.random.seed(1)  # noqa: NPY002
    first = split(labels, SHARES, seed=5)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = split(labels, SHARES, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert any(not np.array_equal(a, b) for a, b in zip(first, split(labels, SHARES, seed=6), strict=True))


def test_the_shuffle_is_the_same_on_every_machine():
    assert [part.tolist() for part in split(10, (0.5, 0.5), seed=0)] == [[1, 3, 5, 6, 7], [0, 2, 4, 8, 9]]


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=80),
    shares=st.sampled_from([(0.8, 0.2), (0.8, 0.1, 0.1), (0.98, 0.01, 0.01), (1 / 3, 1 / 3, 1 / 3), (1.0,)]),
    seed=st.integers(0, 2**32),
)
def test_every_row_is_in_one_split_and_common_classes_in_all(labels, shares, seed):
    parts = split([*labels, *range(5)] + [9] * 3, shares, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels) + 8))
    whole = [*labels, *range(5)] + [9] * 3
    for kind in set(whole):
        if whole.count(kind) >= len(shares):
            assert all(any(whole[i] == kind for i in part) for part in parts)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=40, max_size=90), seed=st.integers(0, 99))
def test_equal_texts_stay_together(texts, seed):
    texts = [*texts, *"abcdefghijklmnop"]
    parts = split([ord(text) % 2 for text in texts], SHARES, seed=seed, groups=texts)
    sides = [{texts[i] for i in part} for part in parts]
    assert sum(map(len, sides)) == len(set(texts))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(texts)))


def test_a_large_group_goes_to_the_large_share():
    groups = ["same"] * 50 + [str(i) for i in range(50)]
    train, test = split(100, (0.8, 0.2), seed=3, groups=groups)
    assert set(range(50)) <= set(train.tolist())
    assert len(test) == 20


def test_many_rare_classes_do_not_move_the_shares():
    parts = split([i // 15 for i in range(1500)], (0.9, 0.1), seed=0)
    assert [len(part) for part in parts] == [1350, 150]


def test_lists_of_labels_and_shares_of_nothing():
    parts = split([[0, 1], [1, 0]] * 20, (0.5, 0.0, 0.5), seed=0)
    assert [len(part) for part in parts] == [20, 0, 20]
    assert all(part.dtype == np.int64 for part in parts)


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.2, -0.2)])
def test_bad_shares_are_a_problem(shares):
    with pytest.raises(Problem, match="add up to 1"):
        split(10, shares, seed=0)


def test_too_few_rows_are_a_problem():
    with pytest.raises(Problem, match="2 different rows are too few for 3 splits: split 3"):
        split(5, SHARES, seed=0, groups=["a", "a", "b", "b", "b"])
    with pytest.raises(ValueError, match="3 groups for 5 rows"):
        split(5, SHARES, seed=0, groups=["a", "b", "c"])
