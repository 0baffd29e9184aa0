"""Which heads find antecedents, against the coreference chains of a treebank (Clark et al. 2019, section 4.3, table 2).

Documents are read in stretches of whole sentences that fit the length; half of the documents choose the head, the other
half scores it beside the baselines, with intervals over documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from regard.data.coreference import Document, documents, part
from regard.data.splits import split
from regard.data.treebank import Treebank
from regard.lens.coreference import BASELINES, Mentions, add
from regard.lens.relations import Tally
from regard.measure.selection import best, known, shares
from regard.study.texts import captures
from regard.system import System

KINDS = ("pronoun", "proper", "nominal")  # by the part of speech of the head word
ALL = "all"
NOTHING = (
    "The treebank says nothing of entities. Coreference needs chains in CoNLL-U, Entity= in the last column, as "
    "CorefUD has them (https://ufal.mff.cuni.cz/corefud); the paper's corpus, CoNLL-2012, is not free."
)
FEW = "Fewer than two documents have a mention with an antecedent in reach, so there is nothing to choose and score on."


def study(
    system: System, bank: Treebank, *, length: int, seed: int, advance: Callable[[int], None] = lambda words: None
) -> dict[str, Any]:
    """A row for all mentions and for each of `KINDS`, as plain data; or `missing`, why there is none."""
    texts = documents(bank.sentences)
    if not texts:
        return {"missing": NOTHING, "rows": [], "said": []}
    pieces, long = _stretches(system, texts, length)
    tally = Tally()
    encodings = system.tokenizer.encode_words([piece.forms for piece in pieces], max_length=length)
    mentions = [_numbered(piece) for piece in pieces]
    for found, batch in captures(system.model.encoder, sorted(encodings, key=lambda e: len(e.ids))):
        for place, e in enumerate(batch):
            assert e.words is not None
            document = pieces[e.source].number
            add(tally, found, place, words=e.words, mentions=mentions[e.source], document=document)
            advance(len(pieces[e.source].forms))
    unread = sum(piece.unread for piece in pieces)
    said = [f"{unread} mentions are in pieces or not closed within their sentence, and are left out."] * bool(unread)
    said += [f"{long} sentences are longer than {length} tokens, and are left out."] * bool(long)
    scored = sorted({int(d) for part_ in tally.sentence for d in part_})
    if len(scored) < 2:
        return {"missing": FEW, "rows": [], "said": said}
    first, _ = split(len(scored), (0.5, 0.5), seed=seed)
    half = np.isin(np.arange(scored[-1] + 1), np.array(scored)[first])
    shape = (system.model.encoder.config.layers, system.model.encoder.config.heads)
    rows = [row for kind in (ALL, *KINDS) if (row := _row(tally, kind, half, shape, seed))]
    return {"missing": "", "rows": rows, "said": said}


def _row(tally: Tally, kind: str, half: Any, shape: tuple[int, int], seed: int) -> dict[str, Any] | None:
    """The head chosen on one half, with its accuracy and the baselines' on the other; None where a half is empty."""
    kinds = np.array([kind in (ALL, name) for name in KINDS])
    (choice, items), (hits, counts) = tally.table(kinds, half), tally.table(kinds, ~half)
    if not len(items) or not len(counts):
        return None
    heads = shape[0] * shape[1]
    chosen = best(choice[:, :heads])
    found = shares(hits[:, [chosen, heads, heads + 1]], counts, baseline=2, seed=seed)
    names = ("accuracy", *BASELINES)
    scores = {
        name: [known(part_[place]) for part_ in (found.value, found.low, found.high)]
        for place, name in enumerate(names)
    }
    return {
        "kind": kind,
        "n": int(counts.sum()),
        "documents": len(counts),
        "layer": chosen // shape[1],
        "head": chosen % shape[1],
        **scores,
        "gain": [known(x[0]) for x in (found.gain, found.gain_low, found.gain_high)],
    }


def _stretches(system: System, texts: Sequence[Document], length: int) -> tuple[list[Document], int]:
    """Documents in pieces of as many whole sentences as fit; and how many sentences fit nowhere."""
    out: list[Document] = []
    long = 0
    for text in texts:
        sizes = [
            len(e.ids) - 2 for e in system.tokenizer.encode_words([s.forms for s in text.sentences], max_length=1 << 20)
        ]
        long += sum(size > length - 2 for size in sizes)
        out += [part(text, first, last) for first, last in _runs(sizes, length - 2)]
    return [piece for piece in out if len(piece.mentions) > 1], long


def _runs(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Places of neighbours that fit together, as many as fit; one that is too large parts them."""
    start, total = 0, 0
    for place, size in enumerate(sizes):
        if total + size > room:
            if start < place:
                yield start, place
            start, total = place, 0
            if size > room:
                start += 1
                continue
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def _numbered(piece: Document) -> Mentions:
    entities = {m.entity: number for number, m in enumerate(piece.mentions)}
    forms = {form.casefold(): number for number, form in enumerate(piece.forms)}
    kinds = {"PRON": 0, "PROPN": 1}
    columns = [
        (
            m.start, m.end, m.head, entities[m.entity], kinds.get(piece.tags[m.head], 2),
            forms[piece.forms[m.head].casefold()],
        )
        for m in piece.mentions
    ]  # fmt: skip
    return Mentions(*np.array(columns, dtype=np.int64).T)
