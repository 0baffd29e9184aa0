"""A look writes out what is asked for, in tokens or words, and what it writes is part of the whole."""

import json

import numpy as np
import pytest

import regard
from regard.lens.look import Look, patterns
from regard.lens.picture import find
from regard.lens.table import largest, table


@pytest.fixture(scope="module")
def pair(system) -> Look:
    return system.look("a good film abc", "bad film")


def test_rows_columns_and_cells_are_parts_of_the_whole(pair):
    whole = pair.weights
    np.testing.assert_allclose(pair.rows(3), whole[:, :, 3], atol=1e-7)
    np.testing.assert_allclose(pair.columns(3), whole[..., 3], atol=1e-7)
    np.testing.assert_allclose(pair.part(1, queries=[2], keys=[5]), whole[1, :, [2], [5]].reshape(4, 1, 1), atol=1e-7)


def test_words_sum_what_goes_to_them_and_average_what_comes_from_them(system, pair):
    words = system.look("a good film abc", "bad film", words="space")
    assert words.names == ("[CLS]", "a", "good", "film", "abc", "[SEP]", "bad", "film", "[SEP]")
    assert pair.tokens[4:7] == ("a", "##b", "##c")
    expected = pair.weights
    expected = np.concatenate([expected[..., :4], expected[..., 4:7].sum(-1, keepdims=True), expected[..., 7:]], -1)
    expected = np.concatenate([expected[:, :, :4], expected[:, :, 4:7].mean(2, keepdims=True), expected[:, :, 7:]], 2)
    np.testing.assert_allclose(words.weights, expected, atol=1e-6)
    np.testing.assert_allclose(words.rows(4), expected[:, :, 4], atol=1e-6)
    np.testing.assert_allclose(words.weights.sum(-1), 1, atol=1e-5)
    assert words.sides.tolist() == [-1, 0, 0, 0, 0, -1, 1, 1, -1]
    assert words.of_tokens().names == pair.names


def test_quadrants_are_the_blocks_of_the_matrix(pair):
    first, second = [1, 2, 3, 4, 5, 6], [8, 9]
    for layer, head in ((0, 1), (1, 3)):
        one = pair.weights[layer, head]
        expected = [[one[np.ix_(a, b)].sum(1).mean() for b in (first, second)] for a in (first, second)]
        np.testing.assert_allclose(pair.quadrants[layer, head], expected, atol=1e-6)


def test_patterns_name_what_most_of_the_attention_does():
    size = 6
    names = ("[CLS]", *"abcd", "[SEP]")
    first, separator, uniform = np.zeros((size, size)), np.zeros((size, size)), np.full((size, size), 1 / size)
    first[:, 0] = separator[:, -1] = 1
    previous, following = np.roll(np.eye(size), -1, 1), np.roll(np.eye(size), 1, 1)
    weights = np.stack([first, separator, previous, following, np.eye(size), uniform]).astype(np.float32)
    found = patterns(weights, names)
    assert [name for name, _ in found] == ["first", "separator", "previous", "next", "same", "broad"]
    assert [share for _, share in found[:5]] == [1.0] * 5


def test_json_has_all_weights_of_a_short_text_and_the_largest_of_a_long_one(system, pair):
    found = json.loads(json.dumps(table(pair)))
    np.testing.assert_allclose(found["weights"], pair.weights, atol=1e-6)
    assert np.array(found["quadrants"]).shape == (2, 4, 2, 2)
    assert [guard["name"] for guard in found["guards"]] == [
        "length", "identifiability", "norms", "dropout", "faithfulness",
    ]  # fmt: skip
    assert np.array(table(pair, row=2)["weights"]).shape == (2, 4, len(pair.names))
    assert np.array(table(pair, column=2)["weights"]).shape == (2, 4, len(pair.names))
    assert table(pair, row=2, column=3)["weights"][1][2] == pytest.approx(pair.weights[1, 2, 2, 3], abs=1e-6)
    long = system.look("good film " * 60)
    long = Look(**{**vars(long), "layers": (0, 1) * 3, "norms": np.concatenate([long.norms] * 3)})
    assert len(long.layers) * len(long.heads) * len(long.names) ** 2 > 2**16
    edges = table(long, top=5)["edges"]
    assert np.array(edges).shape == (6, 4, 5, 3)
    whole = long.part(1)[2]
    assert [w for _, _, w in edges[1][2]] == pytest.approx(np.sort(whole, axis=None)[::-1][:5], abs=1e-6)


def test_the_largest_cells_stand_in_their_places():
    weights = np.array([[0.1, 0.9], [0.3, 0.7]], np.float32)
    assert largest(weights, 3) == [(0, 1, pytest.approx(0.9)), (1, 1, pytest.approx(0.7)), (1, 0, pytest.approx(0.3))]
    assert len(largest(weights, 99)) == 4


def test_the_whole_of_a_text_that_is_too_long_is_refused_with_a_cure(pair, monkeypatch):
    monkeypatch.setattr("regard.lens.look.MOST", 100)
    with pytest.raises(regard.Problem, match=r"look\.part"):
        _ = pair.weights


@pytest.mark.parametrize(
    ("word", "place"), [("good", 2), ("GOOD", 2), ("3", 3), ("-1", 10), ("b", 5), ("##b", 5), ("film", 3), ("[SEP]", 7)]
)
def test_a_place_is_found_by_its_name_or_number(pair, word, place):
    assert find(pair, word) == place


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("goood", "Did you mean 'good'"),
        ("abc", r"several: a ##b ##c.*4 to 6.*--words"),
        ("99", "positions 0 to 10"),
        ("--1", "No token is '--1'"),
        ("zebra", r"tokens are: \[CLS\] a good"),
    ],
)
def test_a_place_that_is_not_there_names_the_near_miss(pair, word, said):
    with pytest.raises(regard.Problem, match=said):
        find(pair, word)


def test_a_notebook_shows_it_escaped_and_without_script(system):
    for look in (system.look("<b>good</b> film"), system.look("<b>good</b> film", layer=1, head=2)):
        text = look._repr_html_()
        assert "<script" not in text and "<b>" not in text and "not measured on this model" in text
        assert all(name in text for name in ("good", "film", "[CLS]"))
    assert "layer 1, head 2" in text


def test_a_second_text_without_a_token_is_a_problem(system):
    with pytest.raises(regard.Problem, match="second text has no token"):
        system.look("abc", " \u200b")
