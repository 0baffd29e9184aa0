"""The report of one pre-training run: how well hidden words are guessed, how that came about, and what is guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regard import disk
from regard.batch import Encoding
from regard.data.masking import Masking
from regard.data.passages import Passage
from regard.data.pretraining import frame
from regard.eval.report import training
from regard.eval.words import Guesses, hidden, words_of
from regard.measure.scores import Score
from regard.model.heads import Model, at_rest
from regard.page import charts
from regard.page.markup import bullets, escape, name, number, table
from regard.page.shell import page
from regard.text.tokenizer import Tokenizer
from regard.views import likeliest

SAMPLES, LONGEST = 4, 48  # passages of a language that are shown, and how many tokens of each


@dataclass(frozen=True, slots=True)
class Sample:
    """A passage with hidden tokens, and for each of them by its place the likeliest words with their probabilities."""

    tokens: list[str]
    guesses: dict[int, list[tuple[str, float]]]


def samples(model: Model, tokenizer: Tokenizer, passages: Sequence[Passage], *, unit: str) -> list[Sample]:
    """The beginnings of some passages of each language, of which 15 % of the tokens are hidden, and what is guessed."""
    _, last, alphabet = frame(tokenizer)
    chosen = []
    for language in dict.fromkeys(p.language for p in passages):
        own = [p.encoding for p in passages if p.language == language]
        chosen += own[:: max(1, len(own) // SAMPLES)][:SAMPLES]
    short = [_beginning(encoding, last) for encoding in chosen]
    out = []
    with at_rest(model):
        for encoding, places in zip(short, hidden(short, alphabet, Masking(0.15, unit, 1.0, 0.0, 0.0)), strict=True):
            tokens = [tokenizer.token(int(number)) for number in encoding.ids]
            encoding.ids[places] = alphabet.mask
            found = likeliest(model, tokenizer, encoding, places, top=3)
            out.append(Sample(tokens, dict(zip(places.tolist(), found, strict=True))))
    return out


def _beginning(encoding: Encoding, last: int) -> Encoding:
    """A passage as if it ended early: a [SEP] stands where it is cut."""
    ids, words = encoding.ids[:LONGEST].copy(), words_of(encoding)[:LONGEST].copy()
    ids[-1], words[-1] = last, -1
    return replace(encoding, ids=ids, segments=encoding.segments[: len(ids)], words=words)


def write(
    path: Path,
    *,
    title: str,
    found: Sequence[Guesses],
    scores: Mapping[str, Score],
    probes: Mapping[str, Score],
    shown: Sequence[Sample],
    guesser: str,
    history: list[dict[str, Any]],
    said: Sequence[str],
    recipe: str,
) -> None:
    """Writes the page; equal findings give equal bytes. `guesser` is who guesses hidden words."""
    sections = {
        "words": ("Hidden words", _scores(found, guesser)),
        **({"others": ("What else was learnt", _others(scores))} if scores else {}),
        "probes": ("Probes", _probes(probes)),
        "guesses": (f"What {guesser} guesses", _samples(shown)),
        "curves": ("Training", training(_flat(history))),
        "data": ("Data", bullets(said)),
        "recipe": ("Recipe", f"<pre><code>{escape(recipe)}</code></pre>"),
    }
    tops = ", ".join(f"{number(100 * own.top1.value, digits=1)} % in {name(own.language)}" for own in found)
    lead = f"Of hidden words of texts that were held out, the likeliest guess of {guesser} is right: {tops}."
    lead = f'<p class="lead">{lead}</p>'
    disk.write_text(path, page(title, sections, kind="Pre-training report", lead=lead if found else ""))


def _scores(found: Sequence[Guesses], guesser: str) -> str:
    if not found:
        return '<p class="none">No text was held out.</p>'
    head = ("language", "score", "value", "95 % interval", "", "places")
    rows = [
        [name(own.language), name(score.name), *_cells(score), f"{score.n:,}"]
        for own in found
        for score in (own.top1, own.top5, own.loss, own.pseudo)
        if score is not None
    ]
    caption = f"Guessed by {guesser}. Each hidden token stands for itself; intervals by resampling documents."
    unknown = [f"{own.unknown:,} in {own.language}" for own in found if own.unknown]
    caption += f" Tokens that the vocabulary cannot write, and [UNK] is right: {', '.join(unknown)}." if unknown else ""
    return table(head, rows, caption=caption, numbers=(2, 3, 5))


def _others(scores: Mapping[str, Score]) -> str:
    caption = "Shares that are taken for what they are."
    return _accuracies(("what", "accuracy", "number"), scores, caption)


def _probes(probes: Mapping[str, Score]) -> str:
    if not probes:
        return '<p class="none">The recipe names no labelled rows to try the vectors on.</p>'
    caption = "Accuracy of a logistic regression on frozen vectors, the means of the last layer."
    return _accuracies(("task", "accuracy", "texts"), probes, caption)


def _accuracies(head: tuple[str, str, str], scores: Mapping[str, Score], caption: str) -> str:
    rows = [[name(task), *_cells(score), f"{score.n:,}"] for task, score in scores.items()]
    return table((*head[:2], "95 % interval", "", head[2]), rows, caption=caption, numbers=(1, 2, 4))


def _cells(score: Score) -> list[str]:
    bounds = charts.span(np.array([score.value, score.low, score.high]), zero=True)
    picture = charts.interval(score.value, score.low, score.high, bounds=bounds)
    return [number(score.value), f"[{number(score.low)}, {number(score.high)}]", picture]


def _samples(shown: Sequence[Sample]) -> str:
    """Texts with their hidden tokens in brackets, and a row for each of these."""
    out = []
    for sample in shown:
        words = (f"[{token}]" if at in sample.guesses else token for at, token in enumerate(sample.tokens[1:-1], 1))
        rows = [[name(sample.tokens[place]), *map(_guess, guessed)] for place, guessed in sample.guesses.items()]
        head = ("hidden", "first guess", "second", "third")
        out.append(table(head, rows, caption=name(" ".join(words))) if rows else "")
    return "".join(out) or '<p class="none">No text was held out.</p>'


def _guess(found: tuple[str, float]) -> str:
    word, share = found
    return f"{name(word)} {number(100 * share, digits=0)} %"


def _flat(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log with a number a language and probe, as curves ask for them."""
    out = []
    for row in history:
        more = {f"top-1 accuracy, {own['language']}": own["top1"]["value"] for own in row.get("languages", ())}
        more |= {f"probe {task}": score[0] for task, score in row.get("probes", {}).items()}
        out.append(row | more)
    return out
