"""How well a model guesses hidden words: accuracy and loss on hidden places, and pseudo-perplexity, by language."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.batch import Encoding, Packed
from regard.data.masking import Alphabet, Masking, chance, hide_all
from regard.data.packing import batches
from regard.data.passages import Passage, drawn
from regard.data.pretraining import frame
from regard.errors import Problem
from regard.measure.resample import over_first, percentiles, share_over_first
from regard.measure.scores import Score
from regard.model.heads import Model, at_rest
from regard.system import room
from regard.text.tokenizer import Tokenizer
from regard.views import NO_WORDS

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Guesses:
    """How well the hidden words of a language are guessed; intervals by resampling documents."""

    language: str
    documents: int
    passages: int
    places: int  # hidden tokens
    unknown: int  # of these, tokens that are [UNK], where nothing but [UNK] is right
    top1: Score
    top5: Score
    loss: Score  # mean of -log P(x_i | x without the hidden), in nats
    pseudo: Score | None  # pseudo-perplexity, over so many tokens; None where it was not asked for

    def table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def guesses(
    model: Model,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    *,
    unit: str = "token",
    rate: float = 0.15,
    seed: int = 0,
    pseudo: int = 0,
    advance: Callable[[float], object] = lambda share: None,
) -> list[Guesses]:
    """Measures a model that guesses hidden words on the passages of each language, languages by name.

    Hidden is what `Masking` draws of each passage by `unit` and `rate`, always as [MASK], the same whenever the seed
    and the passages are. Pseudo-perplexity, exp(-mean of log P(x_i | x without x_i)) (Salazar et al. 2020), hides each
    of `pseudo` tokens of a language alone, all where there are no more, else drawn by the seed; 0 leaves it out. Each
    costs a passage. `advance` is told the share done. Raises `Problem` for a model that guesses no words, and for
    passages longer than it reads.
    """
    _, _, alphabet = frame(tokenizer)
    check(model, max((len(p.encoding.ids) for p in passages), default=0))
    encodings, languages = [p.encoding for p in passages], np.array([p.language for p in passages])
    places = hidden(encodings, alphabet, Masking(rate, unit, 1.0, 0.0, 0.0), seed=seed)
    rows, alone = _drawn(encodings, languages, pseudo, seed)
    # One pass over both, so that the share done is of all work.
    asked = [*encodings, *(encodings[row] for row in rows)]
    losses, ranks = answers(model, asked, [*places, *alone[:, None]], alphabet.mask, advance=advance)
    owners = _owners(places)
    truth = np.concatenate([owners[:0], *(e.ids[own] for e, own in zip(encodings, places, strict=True))])
    unknown = truth == tokenizer.number("[UNK]")
    many, size = slice(len(owners)), len(encodings)
    table = _sums(owners, size, ranks[many] < 1, ranks[many] < 5, losses[many], unknown)
    single = _sums(rows, size, losses[len(owners) :])
    return [
        _scored(language, count, own, ones if pseudo else None, seed)
        for language, count, (own, ones) in by_language(passages, table, single)
    ]


def by_language(
    passages: Sequence[Passage], *tables: NDArray[np.float64]
) -> Iterator[tuple[str, int, list[NDArray[np.float64]]]]:
    """Each language by name, how many passages it has, and its rows of tables of passages `by_document`."""
    languages = np.array([p.language for p in passages])
    for language in np.unique(languages):
        rows = np.flatnonzero(languages == language)
        own = [passages[row] for row in rows.tolist()]
        yield str(language), len(own), [by_document(table[rows], own) for table in tables]


def by_document(table: NDArray[np.float64], passages: Sequence[Passage]) -> NDArray[np.float64]:
    """The rows of passages summed up by document, for those of one rise and fall together: (documents, columns)."""
    _, owners = np.unique([p.document for p in passages], return_inverse=True)
    out = np.zeros((owners.max(initial=-1) + 1, table.shape[1]))
    np.add.at(out, owners, table)
    return out


def hidden(encodings: Sequence[Encoding], alphabet: Alphabet, rule: Masking, *, seed: int = 0) -> list[Places]:
    """Which tokens of each passage a rule hides, ascending: what it draws for that seed, and the passage's number."""
    if not encodings:
        return []
    sizes = [len(e.ids) for e in encodings]
    ids, words = np.concatenate([e.ids for e in encodings]), np.concatenate([words_of(e) for e in encodings])
    places, _ = hide_all(rule, ids, words, sizes, alphabet, (chance(seed, 0, row) for row in range(len(sizes))))
    starts = np.cumsum([0, *sizes[:-1]])
    parts = np.split(places, np.searchsorted(places, starts[1:]))
    return [part - start for part, start in zip(parts, starts, strict=True)]


def _drawn(encodings: Sequence[Encoding], languages: NDArray[np.str_], most: int, seed: int) -> tuple[Places, Places]:
    """At most `most` tokens of each language, by lot: in which passage each is, ascending, and where in it.

    Of all passages, for neighbours are alike: as many tokens of a few whole passages tell less of a language.
    """
    plain = [np.flatnonzero(words_of(e) >= 0) for e in encodings]
    owners = _owners(plain)
    chosen = drawn(np.ones_like(owners), languages[owners], most, seed)
    return owners[chosen], np.concatenate([owners[:0], *plain])[chosen]


def _owners(places: Sequence[Places]) -> Places:
    """The passage of each place of all: (places of all,)."""
    return np.repeat(np.arange(len(places)), [len(own) for own in places])


def answers(
    model: Model,
    encodings: Sequence[Encoding],
    places: Sequence[Places],
    mask: int,
    *,
    advance: Callable[[float], object] = lambda share: None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """-log P(x_i) in nats of the tokens at some places of each sequence, all hidden at once, and their ranks.

    Both (places of all,), sequence by sequence. The rank is the number of other words that are no less likely. `mask`
    is the id of [MASK]. The model is left as it was found.
    """
    check(model, max((len(e.ids) for e in encodings), default=0))
    device = next(model.parameters()).device
    counts = np.array([len(p) for p in places], dtype=np.int64)
    where = np.split(np.arange(counts.sum()), counts.cumsum()[:-1]) if len(counts) else []
    total, done = sum(len(e.ids) for e in encodings), 0
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    order: list[Places] = [np.empty(0, np.int64)]
    with at_rest(model):
        for rows, packed, at, truth in blanked(encodings, places, mask, room(device)):
            states = model.encoder.at(packed.to(device), at.to(device))
            assert model.words is not None
            found.append(model.words.rank(states, model.encoder.embeddings.word, truth.to(device)))
            order += [where[row] for row in rows]
            done += len(packed.ids)
            advance(done / total)
    index = np.concatenate(order)
    losses, ranks = np.empty(len(index)), np.empty(len(index), dtype=np.int64)
    if found:
        losses[index], ranks[index] = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return losses, ranks


def blanked(
    encodings: Sequence[Encoding], places: Sequence[Places], mask: int, most: int
) -> Iterator[tuple[Places, Packed, torch.Tensor, torch.Tensor]]:
    """Batches of at most `most` tokens with [MASK] at some places of each sequence.

    Which sequences a batch has, the batch, where in it something is hidden, ascending, and the ids that were there.
    """
    for rows, packed in batches(encodings, most):
        starts = packed.bounds[:-1].tolist()
        at = torch.from_numpy(np.concatenate([places[r] + start for r, start in zip(rows, starts, strict=True)]))
        truth = packed.ids[at]
        packed.ids[at] = mask
        yield rows, packed, at, truth


def check(model: Model, length: int) -> None:
    """Raises `Problem` for a model that guesses no words, and for passages longer than it reads."""
    if model.words is None:
        raise Problem(NO_WORDS)
    if length > (most := model.encoder.config.positions):
        raise Problem(f"Passages of {length} tokens: this model reads {most} at most. Lower the length.")


def words_of(encoding: Encoding) -> NDArray[np.int64]:
    """The number of each token's word, -1 for special ones: (tokens,)."""
    if encoding.words is None:
        raise ValueError("words are hidden by their numbers: encode with detail=True")
    return encoding.words


def _sums(owners: Places, size: int, *facts: NDArray[Any]) -> NDArray[np.float64]:
    """How many places each passage has, and the sum of each fact over them: (passages, 1 + facts)."""
    return np.stack([np.bincount(owners, fact, size) for fact in (np.ones(len(owners)), *facts)], 1)


def _scored(
    language: str, passages: int, table: NDArray[np.float64], single: NDArray[np.float64] | None, seed: int
) -> Guesses:
    """The scores of a language from the sums of its documents."""
    (means, again), places = over_first(table, seed=seed), int(table[:, 0].sum())
    top1, top5 = (
        Score(f"top-{n} accuracy", *share_over_first(table, column, means, again), places)
        for column, n in ((1, 1), (2, 5))
    )
    loss = Score("loss", float(means[3]), *percentiles(again[:, 3]), places)
    perplexity = None
    if single is not None:
        chosen = single[single[:, 0] > 0]
        means, again = over_first(chosen, seed=seed)
        name, tokens = "pseudo-perplexity", int(chosen[:, 0].sum())
        perplexity = Score(name, float(np.exp(means[1])), *percentiles(np.exp(again[:, 1])), tokens)
    return Guesses(language, len(table), passages, places, int(table[:, 4].sum()), top1, top5, loss, perplexity)
