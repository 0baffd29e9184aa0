"""Duplicates found by digests and signatures, and how near the estimates are to the truth."""

import numpy as np
import pytest

from regard.data.corpora import duplicates
from regard.data.corpora.duplicates import NONE, VALUES


def words(seed, count=400):
    random = np.random.default_rng(seed)
    return ["".join(chr(97 + letter) for letter in random.integers(26, size=6)) for _ in range(count)]


def changed(found, share, seed=0):
    random = np.random.default_rng(seed)
    return [word if random.random() > share else f"new{number}" for number, word in enumerate(found)]


def shared_phrases(a, b):
    sets = [
        {tuple(text[i : i + duplicates.PHRASE]) for i in range(len(text) - duplicates.PHRASE + 1)} for text in (a, b)
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def found_near(texts, tmp_path, language="en", similarity=0.8):
    units = [duplicates.units(text, language) for text in texts]
    same = duplicates.exact(np.array([duplicates.digest(of) for of in units], np.uint64))
    path = tmp_path / "signatures"
    path.write_bytes(np.array([duplicates.signature(of) for of in units]).tobytes())
    return same.tolist(), duplicates.near(path, same, similarity).tolist()


@pytest.mark.parametrize("share", [0, 0.01, 0.03, 0.1, 0.3])
def test_signatures_estimate_the_share_of_phrases_in_common(share):
    errors = []
    for seed in range(12):
        one = words(seed)
        other = changed(one, share, seed)
        signatures = [duplicates.signature(duplicates.units(" ".join(text), "en")) for text in (one, other)]
        errors.append(np.mean(signatures[0] == signatures[1]) - shared_phrases(one, other))
    assert abs(np.mean(errors)) < 3 * np.sqrt(0.25 / VALUES / 12)
    assert max(map(abs, errors)) < 4.5 * np.sqrt(0.25 / VALUES)


def test_planted_duplicates_are_found_and_no_others(tmp_path):
    texts = [" ".join(words(seed)) for seed in range(50)]
    exact = [texts[3].upper().replace(" ", ",  "), texts[7] + "!"]
    near = [" ".join([*words(seed)[:200], "other", *words(seed)[201:]]) for seed in (11, 12, 13)]
    unlike = [" ".join(changed(words(seed), 0.2, seed)) for seed in (21, 22)]
    same, alike = found_near([*texts, *exact, *near, *unlike], tmp_path)
    assert same == [NONE] * 50 + [3, 7] + [NONE] * 5
    assert alike == [NONE] * 52 + [11, 12, 13, NONE, NONE]


def test_chinese_is_compared_by_characters(tmp_path):
    random = np.random.default_rng(1)
    first, other = ("".join(chr(0x4E00 + c) for c in random.integers(3000, size=300)) for _ in range(2))
    same, alike = found_near([first, other, first[:150] + "，新。" + first[151:], first + "。"], tmp_path, "zh")
    assert (same, alike) == ([NONE, NONE, NONE, 0], [NONE, NONE, 0, NONE])


def test_a_duplicate_is_like_one_that_is_kept(tmp_path):
    """A chain, each link like the one before, is not taken for one text."""
    chain = [words(5)]
    for step in range(30):
        chain.append(changed(chain[-1], 0.01, step))
    texts = [" ".join(text) for text in chain]
    _, alike = found_near(texts, tmp_path)
    kept = [number for number, of in enumerate(alike) if of == NONE]
    assert len(kept) > 2
    for number, of in enumerate(alike):
        assert of == NONE or (of in kept and shared_phrases(chain[number], chain[of]) > 0.65)


def test_short_and_empty_texts_are_compared_too(tmp_path):
    same, alike = found_near(["one two", "one two!", "one three", "", "。"], tmp_path)
    assert (same, alike) == ([NONE, 0, NONE, NONE, 3], [NONE] * 5)
    assert found_near([], tmp_path) == ([], [])
    assert found_near(["one"], tmp_path) == ([NONE], [NONE])
