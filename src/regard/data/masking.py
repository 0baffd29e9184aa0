"""What to hide of a text, so that it can be learnt: tokens, words, runs of words or spans, at any rate.

A text's words are laid out as units, each a run of neighbouring tokens, and every unit is hidden with probability
`rate`. The units stand in the order of their length, by lot among those of one length, and a comb with teeth 1 / rate
apart is laid on them at random: what a tooth hits is hidden. So, with U units of lengths L_1 ... L_U in a text,

    P(unit hidden) = rate      for every unit, hence every word and token, whatever its length or place,
    E[hidden tokens] = rate x tokens, exactly,
    |hidden tokens - rate x tokens| < 2 x the longest unit, always.

No word is favoured. What is not even is the fate of two words together: of neighbours in the order of length, such as
the longest and the next, seldom both are hidden. To hide words in one random order until the share is reached, and the
last one by lot, gives the right number of tokens too, but passes over long words: at a rate of 15 % in 30 tokens a word
of one is hidden 16.3 % of the time and a word of four 12.5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

from regard.errors import Problem, nearest

Ids = NDArray[np.int64]
Lots = NDArray[np.float64]  # from 0 to below 1
UNITS = ("token", "word", "ngram", "span")


@dataclass(frozen=True, slots=True)
class Masking:
    """Which share of tokens to hide, in which units, and what stands in their place.

    A unit is a token; a word; a run of 1 to `longest` words, of n with odds 1 / n (Lan et al. 2020); or a span, a run
    of a geometric number of words with parameter `p`, at most `longest_span` (Joshi et al. 2020). Of the hidden tokens
    the shares `mask`, `random` and `keep` become [MASK], become a random token, or stay (Devlin et al. 2019): each by
    itself, but the tokens of a span all alike, as published. A `rate` of two numbers is the first, and goes to the
    second over the end of a run.
    """

    rate: float | tuple[float, float] = 0.15
    unit: str = "word"
    mask: float = 0.8
    random: float = 0.1
    keep: float = 0.1
    longest: int = 3
    p: float = 0.2
    longest_span: int = 10

    def __post_init__(self) -> None:
        if isinstance(self.rate, list):
            object.__setattr__(self, "rate", tuple(self.rate))  # as a recipe's TOML has it
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate, self.rate)
        if len(rates) != 2 or not all(0 <= rate <= 1 for rate in rates):
            raise Problem(f"rate is a share from 0 to 1, or two of them, first and last; it is {self.rate}. Mend it.")
        if self.unit not in UNITS:
            known = ", ".join(UNITS)
            raise Problem(f"There is no unit '{self.unit}' to hide. {nearest(self.unit, UNITS)}Known: {known}.")
        shares = (self.mask, self.random, self.keep)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise Problem(f"mask, random and keep are shares that sum to 1; they are {shares}. Mend them.")
        if min(self.longest, self.longest_span) < 1 or not 0 < self.p <= 1:
            raise Problem(
                f"longest and longest_span are 1 or more and p is above 0 and at most 1; they are {self.longest}, "
                f"{self.longest_span} and {self.p}. Mend them."
            )

    def at(self, cooled: float) -> float:
        """The rate when this share of the run's end is done."""
        if not isinstance(self.rate, tuple):
            return self.rate
        first, last = self.rate
        return first + (last - first) * min(1.0, max(0.0, cooled))


@dataclass(frozen=True, slots=True)
class Alphabet:
    """What a tokenizer's ids are to masking: how many there are, which is [MASK], and which no lot may draw."""

    size: int
    mask: int
    special: tuple[int, ...]  # [MASK] among them


class _Words(ISeedSequence):
    """Three numbers as the state that SFC64 begins with; NumPy's own way to seed takes seven times as long."""

    __slots__ = ("words",)

    def __init__(self, *words: int) -> None:
        self.words = np.array(words, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        """The numbers themselves."""
        assert (n_words, dtype) == (3, np.uint64), "SFC64 begins with three words of 64 bits"
        return self.words


def chance(seed: int, epoch: int, text: int) -> np.random.Generator:
    """The source of chance of a text in an epoch: the same whichever batch the text is in.

    SFC64 takes the three numbers as its state and mixes them twelve times, in a microsecond.
    """
    return np.random.Generator(np.random.SFC64(cast(Any, _Words(seed, epoch, text))))


def hide(
    rule: Masking, ids: Ids, words: Ids, alphabet: Alphabet, chance: np.random.Generator, *, cooled: float = 0.0
) -> tuple[Ids, Ids]:
    """The positions of a text to learn from, ascending, and the ids that stand there now.

    `words` are the word numbers of the tokens: neighbours of one number are a word, and -1 is a special token, which is
    never hidden and which no unit goes across (`regard.text.words`). A text of few units may have none hidden, as often
    as the rate asks for.
    """
    return hide_all(rule, ids, words, [len(ids)], alphabet, [chance], cooled=cooled)


def hide_all(
    rule: Masking,
    ids: Ids,
    words: Ids,
    sizes: Sequence[int],
    alphabet: Alphabet,
    chances: Iterable[np.random.Generator],
    *,
    cooled: float = 0.0,
) -> tuple[Ids, Ids]:
    """The same of texts that lie end to end, `sizes` tokens each: what each would have alone, several times as fast."""
    # A row of lots for each thing that is decided, a lot for each token, so that no draw depends on another's outcome.
    lots = np.concatenate([source.random((5, size)) for size, source in zip(sizes, chances, strict=True)], 1)
    text = np.repeat(np.arange(len(sizes)), sizes)
    starts, lengths = _units(rule, words, text, lots[0])
    first = np.searchsorted(text, text[starts])
    chosen = _drawn(text[starts], lengths, rule.at(cooled), lots[1, starts], lots[2, first])
    starts, lengths = starts[chosen], lengths[chosen]
    ends = lengths.cumsum()
    positions = np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())
    fate = np.repeat(lots[3, starts], lengths) if rule.unit == "span" else lots[3, positions]
    new = np.where(fate < rule.mask, alphabet.mask, ids[positions])
    drawn = (fate >= rule.mask) & (fate < rule.mask + rule.random)
    new[drawn] = _drawable(alphabet)[(lots[4, positions[drawn]] * len(_drawable(alphabet))).astype(np.int64)]
    return positions, new


def _units(rule: Masking, words: Ids, text: Ids, lots: Lots) -> tuple[Ids, Ids]:
    """Where each unit starts and how many tokens it has; none goes from one text to another."""
    plain = words >= 0
    if rule.unit == "token":
        starts = np.flatnonzero(plain)
        return starts, np.ones_like(starts)
    opens = np.ones(len(words), dtype=bool)  # the first token of a text, a special one, and the one behind it
    opens[1:] = (text[1:] != text[:-1]) | ~plain[1:] | ~plain[:-1]
    begins = opens.copy()
    begins[1:] |= words[1:] != words[:-1]
    starts = np.flatnonzero(begins)
    if rule.unit != "word":
        starts = starts[_runs(rule, opens[starts], lots[starts])]
    lengths = np.diff(starts, append=len(words))
    return starts[plain[starts]], lengths[plain[starts]]


def _runs(rule: Masking, opens: NDArray[np.bool_], lots: Lots) -> Ids:
    """Which words begin a run: each stretch between special tokens is parted into runs of random lengths."""
    odds: NDArray[np.floating[Any]]
    if rule.unit == "ngram":
        odds = np.cumsum(1 / np.arange(1, rule.longest + 1))
    else:  # the geometric distribution up to the longest span, again summing to one
        odds = 1 - (1 - rule.p) ** np.arange(1, rule.longest_span + 1)
    lengths = 1 + np.searchsorted(odds, lots * odds[-1], side="right")
    ahead = lengths.cumsum() - lengths
    firsts = np.flatnonzero(opens)
    words = np.diff(firsts, append=len(opens))
    # The n-th run of a stretch has the n-th length, and begins behind the runs before it.
    within = ahead - np.repeat(ahead[firsts], words)
    begins: Ids = (np.repeat(firsts, words) + within)[within < np.repeat(words, words)]
    return begins


def _drawn(text: Ids, lengths: Ids, rate: float, lots: Lots, comb: Lots) -> Ids:
    """Which units are hidden: the comb, which begins anew in each text."""
    order = np.lexsort((lengths + lots, text))  # by length; by lot within one, for a lot is below 1
    place = np.arange(len(text)) - np.searchsorted(text, text)
    hit = np.floor(rate * (place + 1) + comb) > np.floor(rate * place + comb)
    return np.sort(order[hit])


@lru_cache
def _drawable(alphabet: Alphabet) -> Ids:
    """All ids but the special ones."""
    return np.setdiff1d(np.arange(alphabet.size), alphabet.special)
