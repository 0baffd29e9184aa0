"""What is hidden: exactly so much on average, every word as often as any other, and never what may not be."""

import gzip
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.masking import UNITS, Alphabet, Masking, chance, hide, hide_all
from regard.errors import Problem
from regard.text.tokenizer import Tokenizer, vocabulary, wordpiece
from regard.text.words import segmenter, words_of_all

ALPHABET = Alphabet(size=1000, mask=4, special=(4, 0, 1, 2, 3, 999))
# Words of one to four tokens between special ones, in two texts that both count their words from 0.
LENGTHS = ([1, 1, 2, 1, 4, 1, 3, 1, 1, 2], [1, 2, 1, 1, 3])
WORDS = np.concatenate([[-1], np.repeat(np.arange(10), LENGTHS[0]), [-1], np.repeat(np.arange(5), LENGTHS[1]), [-1]])
UNIT = np.cumsum(np.diff(WORDS, prepend=-2) != 0) - 1  # of each token: its word, special tokens being words too
IDS = np.arange(100, 100 + len(WORDS))
RUNS = 10_000


def simulate(rule, *, runs=RUNS, words=WORDS, cooled=0.0):
    """How often each token is hidden, and how many are, run by run."""
    hidden = np.zeros((runs, len(words)), dtype=bool)
    for text in range(runs):
        positions, _ = hide(rule, IDS[: len(words)], words, ALPHABET, chance(0, 0, text), cooled=cooled)
        hidden[text, positions] = True
    return hidden


def agrees(found, expected, runs):
    """Within 4.5 standard errors of what chance gives."""
    return np.abs(found - expected).max() < 4.5 * np.sqrt(expected * (1 - expected) / runs)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_every_token_is_hidden_as_often_as_asked(unit, rate):
    hidden = simulate(Masking(rate=rate, unit=unit))
    plain = WORDS >= 0
    assert not hidden[:, ~plain].any()
    assert agrees(hidden.mean(0)[plain], rate, RUNS)
    counts = hidden.sum(1)
    assert abs(counts.mean() - rate * plain.sum()) <= 4.5 * counts.std() / RUNS**0.5
    # The number itself is nearly fixed: far less loose than if every word had its own lot.
    longest = {"token": 1, "word": 4, "ngram": 9, "span": 17}[unit]
    assert np.abs(counts - rate * plain.sum()).max() < 2 * longest


def test_long_words_are_hidden_as_often_as_short_ones():
    hidden = simulate(Masking(rate=0.15, unit="word"))
    short, long = hidden[:, UNIT == 1].mean(), hidden[:, UNIT == 5].mean()
    assert (np.bincount(UNIT)[1], np.bincount(UNIT)[5]) == (1, 4)
    assert abs(short - long) < 4.5 * np.sqrt(2 * 0.15 * 0.85 / RUNS)


@pytest.mark.parametrize("unit", ["word", "ngram", "span"])
def test_words_are_hidden_whole(unit):
    for row in simulate(Masking(rate=0.3, unit=unit), runs=500):
        shares = np.bincount(UNIT, weights=row) / np.bincount(UNIT)
        assert set(shares) <= {0.0, 1.0}


def run_lengths(rule, words, texts=6000):
    """Of units that begin in the middle of a text of words of one token, at so low a rate that none are neighbours."""
    found = []
    for text in range(texts):
        positions, _ = hide(rule, np.zeros(len(words), dtype=np.int64), words, ALPHABET, chance(1, 0, text))
        runs = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)
        found += [len(run) for run in runs if len(run) and 20 < run[0] < len(words) - 20]
    return np.bincount(found) / len(found), 4.5 * (0.25 / len(found)) ** 0.5


def test_runs_have_the_odds_that_were_published():
    words = np.arange(400)
    shares, within = run_lengths(Masking(rate=0.004, unit="ngram"), words)
    assert shares[1:4] == pytest.approx(np.array([6, 3, 2]) / 11, abs=within)
    assert len(shares) <= 7
    shares, within = run_lengths(Masking(rate=0.004, unit="span"), words)
    geometric = 0.2 * 0.8 ** np.arange(10)
    assert shares[1:11] == pytest.approx(geometric / geometric.sum(), abs=within)
    assert (np.arange(1, 11) * geometric / geometric.sum()).sum() == pytest.approx(3.8, abs=0.01)  # as in the paper


def test_no_run_goes_from_one_text_to_the_other():
    rule = Masking(rate=0.02, unit="span", p=0.001, longest_span=50)  # whole texts, nearly
    for text in range(2000):
        positions, _ = hide(rule, IDS, WORDS, ALPHABET, chance(0, 0, text))
        assert not len(positions) or len({int((WORDS[:p] < 0).sum()) for p in positions}) == 1


@pytest.mark.parametrize("unit", UNITS)
def test_what_stands_in_the_place_of_hidden_tokens(unit):
    same = masked = total = 0
    drawn = []
    for text in range(4000):
        positions, new = hide(Masking(rate=0.5, unit=unit), IDS, WORDS, ALPHABET, chance(3, 0, text))
        kept = new == IDS[positions]
        same, masked, total = same + kept.sum(), masked + (new == ALPHABET.mask).sum(), total + len(new)
        drawn.append(new[~kept & (new != ALPHABET.mask)])
    within = 0.02 if unit == "span" else 0.01
    assert masked / total == pytest.approx(0.8, abs=within)
    assert same / total == pytest.approx(0.1, abs=within)
    drawn = np.concatenate(drawn)
    assert not np.isin(drawn, ALPHABET.special).any()
    counts = np.bincount(drawn, minlength=ALPHABET.size)
    allowed = np.setdiff1d(np.arange(ALPHABET.size), [*ALPHABET.special, *IDS])  # what was there is not told from kept
    expected = counts[allowed].mean()
    assert np.abs(counts[allowed] - expected).max() < 6 * expected**0.5
    assert counts[5] and counts[998]  # the first and the last that may be drawn


def test_a_span_has_one_fate():
    for text in range(300):
        positions, new = hide(
            Masking(rate=0.05, unit="span", p=0.01, random=0, keep=0.2), IDS, WORDS, ALPHABET, chance(4, 0, text)
        )
        assert len(set((new == ALPHABET.mask).tolist())) <= 1 or np.diff(positions).max() > 1  # or of two spans


def test_a_rate_goes_from_first_to_last():
    rule = Masking(rate=[0.3, 0.1])
    assert rule == Masking(rate=(0.3, 0.1))
    assert [rule.at(share) for share in (-1, 0, 0.5, 1, 2)] == pytest.approx([0.3, 0.3, 0.2, 0.1, 0.1])
    half = simulate(rule, runs=5000, cooled=0.5)
    assert agrees(half.mean(0)[WORDS >= 0], 0.2, 5000)


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_or_everything(unit):
    for rate, count in ((0, 0), (1, int((WORDS >= 0).sum()))):
        positions, new = hide(Masking(rate=rate, unit=unit), IDS, WORDS, ALPHABET, chance(0, 0, 0))
        assert len(positions) == len(new) == count
    for words in (np.empty(0, dtype=np.int64), np.array([-1, -1])):
        positions, new = hide(Masking(rate=1, unit=unit), words, words, ALPHABET, chance(0, 0, 0))
        assert len(positions) == len(new) == 0


@settings(deadline=None)
@given(st.lists(st.integers(-1, 3), max_size=40), st.sampled_from(UNITS), st.floats(0, 1), st.integers(0, 2**63))
def test_any_words_can_be_hidden(words, unit, rate, seed):
    words = np.array(words, dtype=np.int64)
    ids = np.arange(len(words))
    positions, new = hide(Masking(rate=rate, unit=unit), ids, words, ALPHABET, chance(seed, 1, 2))
    again = hide(Masking(rate=rate, unit=unit), ids, words, ALPHABET, chance(seed, 1, 2))
    assert np.array_equal(positions, again[0]) and np.array_equal(new, again[1])
    assert (np.diff(positions) > 0).all() and (words[positions] >= 0).all()
    assert positions.dtype == new.dtype == np.int64
    assert np.array_equal(ids, np.arange(len(words)))  # the caller's own are left alone


def test_chance_belongs_to_the_text_and_the_epoch():
    draws = np.array([[[chance(s, e, t).random() for t in range(100)] for e in range(10)] for s in range(10)])
    assert len(np.unique(draws)) == draws.size
    assert abs(draws.mean() - 0.5) < 4.5 / (12 * draws.size) ** 0.5
    flat = draws - 0.5
    for axis in range(3):  # neighbours know nothing of each other
        ahead, behind = (
            np.take(flat, range(1, flat.shape[axis]), axis),
            np.take(flat, range(flat.shape[axis] - 1), axis),
        )
        assert abs((ahead * behind).mean() * 12) < 4.5 / ahead.size**0.5


def test_all_bits_of_neighbouring_texts_differ_by_lot():
    words = np.array([chance(0, 0, t).integers(2**64, size=4, dtype=np.uint64) for t in range(4000)])
    flips = np.unpackbits((words[1:] ^ words[:-1]).view(np.uint8)).reshape(len(words) - 1, -1).mean(0)
    assert np.abs(flips - 0.5).max() < 5 * 0.5 / len(words) ** 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rate": 1.5}, "rate is a share"),
        ({"rate": (0.1, 0.2, 0.3)}, "rate is a share"),
        ({"unit": "wrod"}, "Did you mean 'word'"),
        ({"keep": 0.2}, "sum to 1"),
        ({"longest": 0}, "1 or more"),
        ({"p": 0.0}, "above 0"),
    ],
)
def test_a_rule_that_cannot_be(settings, said):
    with pytest.raises(Problem, match=said):
        Masking(**settings)


@pytest.mark.parametrize("unit", UNITS)
def test_a_batch_of_any_shape_hides_what_each_text_hides_alone(unit):
    random = np.random.default_rng(0)
    rule = Masking(rate=0.3, unit=unit)
    sizes = [0, 7, *random.integers(0, 60, 40).tolist()]
    ids = random.integers(5, 999, sum(sizes))
    words = np.concatenate([np.sort(random.integers(-1, 20, size)) for size in sizes])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    alone = []
    for text, (start, end) in enumerate(pairwise(bounds)):
        positions, new = hide(rule, ids[start:end], words[start:end], ALPHABET, chance(0, 0, text))
        alone += zip((positions + start).tolist(), new.tolist(), strict=True)
    for begin, end in ((0, len(sizes)), (1, 5), (30, 31)):
        part = slice(bounds[begin], bounds[end])
        sources = [chance(0, 0, text) for text in range(begin, end)]
        positions, new = hide_all(rule, ids[part], words[part], sizes[begin:end], ALPHABET, sources)
        found = list(zip((positions + bounds[begin]).tolist(), new.tolist(), strict=True))
        assert found == [pair for pair in alone if bounds[begin] <= pair[0] < bounds[end]]


def test_chinese_words_are_hidden_whole_at_the_rate_that_was_asked(shared):
    files = sorted((shared / "data" / "ud_zh_gsdsimp").glob("*.conllu.gz"))
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    content = gzip.decompress((shared / "data" / "vocab" / "bert_chinese_vocab_21128.txt.gz").read_bytes())
    tokenizer = Tokenizer(wordpiece(vocabulary(content)))
    encodings = tokenizer.encode(texts, detail=True)
    ids, sizes = np.concatenate([e.ids for e in encodings]), [len(e.ids) for e in encodings]
    words = words_of_all(encodings, texts, segmenter("auto"))
    alphabet = Alphabet(tokenizer.size, tokenizer.number("[MASK]"), (0, 100, 101, 102, 103))
    unit = np.cumsum(np.diff(words, prepend=-2) != 0) - 1
    hidden = []
    for epoch in range(5):
        sources = [chance(0, epoch, text) for text in range(len(texts))]
        positions, _ = hide_all(Masking(rate=0.15, unit="word"), ids, words, sizes, alphabet, sources)
        here = np.isin(np.arange(len(ids)), positions)
        assert set(np.bincount(unit, weights=here) / np.bincount(unit)) <= {0.0, 1.0}
        hidden.append(here)
    assert np.mean([here[words >= 0].mean() for here in hidden]) == pytest.approx(0.15, abs=0.002)
    assert (
        np.bincount(unit)[np.unique(unit[words >= 0])] > 1
    ).mean() > 0.3  # of the words, so that there is something to see
