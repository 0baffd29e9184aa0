"""What every head of a model does over a corpus: one pass, in memory that does not grow, that goes on where killed."""

from __future__ import annotations

import hashlib
import io
import json
import time
import unicodedata
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard import disk
from regard.batch import Packed
from regard.data.corpus import Corpus
from regard.data.packing import pack
from regard.data.tokens import digest
from regard.errors import Problem
from regard.lens.statistics import Classes, Moments, Wanted, read
from regard.lens.tiles import Workspace
from regard.lens.words import units
from regard.study.store import Results
from regard.study.texts import Reading, alike, chunks, remarks, room
from regard.system import BATCH_TOKENS, System
from regard.text.tokenizer import Tokenizer
from regard.text.words import segmenter, words_of

SAVE_SECONDS = 20.0
PARTS = ("count", "mean", "squares")  # of moments, as they are kept
TAKEN = ("own_text", "own_word")  # of statistics that are no class's
STOPS = (".", ",", "。", "，", "、", "．")  # Clark et al. 2019 take full stops and commas

Advance = Callable[[float], None]  # told the share of the corpus that has been read


@dataclass(frozen=True, slots=True)
class Plan(Reading):
    """How a corpus is read, and what is asked of it."""

    words: str = ""  # a segmenter, for the weight on the same word; empty: not asked
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of one's own: name -> tokens
    reach: int = 3
    norms: bool = False


@dataclass(frozen=True, slots=True)
class Heads(Results):
    """What a pass has found: `rows` are those of the table, `docs/lens.md` has their columns."""

    rows: list[dict[str, Any]]
    texts: int
    tokens: int
    said: list[str]
    seconds: float = 0.0


def classes(tokenizer: Tokenizer, own: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names of the classes of tokens, and which token of the vocabulary is of which: (vocabulary, classes) 0 or 1."""
    tokens = [tokenizer.token(number) for number in range(tokenizer.size)]
    kinds: dict[str, Callable[[str], bool]] = {
        "cls": lambda token: token == "[CLS]",
        "sep": lambda token: token == "[SEP]",
        "stop": lambda token: token in STOPS,
        "punctuation": lambda token: all(unicodedata.category(c).startswith("P") for c in token),
        "number": str.isnumeric,
        "continuation": lambda token: token.startswith("##"),
    }
    for name, members in own.items():
        if name in kinds or name in TAKEN or not name.isidentifier():
            raise Problem(f"A class of tokens cannot be named '{name}'. Take a word of letters that is not taken yet.")
        if missing := [token for token in members if tokenizer.number(token) is None]:
            raise Problem(f"The vocabulary has no token '{missing[0]}', which class '{name}' names.")
        kinds[name] = set(members).__contains__
    table = np.array([[kind(token) for kind in kinds.values()] for token in tokens], dtype=np.float32)
    return tuple(kinds), table


def study(
    system: System, corpus: Corpus, plan: Plan, *, state: Path | None = None, advance: Advance = lambda share: None
) -> Heads:
    """One pass over a corpus; what has been summed up is kept in the file `state`, and taken up from there."""
    began = time.monotonic()
    names, table = classes(system.tokenizer, plan.classes)
    mark = signature(system, corpus, plan)
    total = _resumed(state, mark)
    wanted, space = Wanted(plan.reach, plan.norms), Workspace()
    of_token = torch.from_numpy(table).to(system.device)
    saved = time.monotonic()
    tokens = room(system, plan)
    segment = segmenter(plan.words) if plan.words else None
    fresh = chunks(
        system.tokenizer, corpus, plan, tokens, lines=total.lines, texts=total.texts, detail=bool(plan.words)
    )
    for chunk in fresh:
        for places in alike(chunk.encodings, BATCH_TOKENS):
            encodings = [chunk.encodings[i] for i in places]
            words = [words_of(chunk.encodings[i], chunk.texts[i], segment) for i in places] if segment else []
            packed = pack(encodings).to(system.device)
            found = Classes(names, of_token[packed.ids], words=_cells(words, packed) if plan.words else None)
            total.moments.add(read(system.model.encoder, packed, found, wanted=wanted, space=space))
        total.lines, total.texts = chunk.lines, total.texts + len(chunk.encodings)
        total.tokens += sum(len(e.ids) for e in chunk.encodings)
        total.cut += sum(e.dropped > 0 for e in chunk.encodings)
        advance(corpus.share)
        if state is not None and time.monotonic() - saved > SAVE_SECONDS:
            _keep(state, mark, total)
            saved = time.monotonic()
    said = remarks(corpus, plan, texts=total.texts, cut=total.cut, tokens=tokens)
    if state is not None:
        _keep(state, mark, total)
    return Heads(total.moments.rows(), total.texts, total.tokens, said, time.monotonic() - began)


@dataclass(slots=True)
class _Total:
    """What a pass has summed up so far, and how many lines of the file it has used up."""

    moments: Moments = field(default_factory=Moments)
    lines: int = 0
    texts: int = 0
    tokens: int = 0
    cut: int = 0


def _cells(words: list[NDArray[np.int64]], packed: Packed) -> torch.Tensor:
    """Places of token i and another token j of the same word, in packed places: (2, cells)."""
    found = [np.empty((2, 0), dtype=np.int64)]
    start = 0
    for place in packed.order.tolist():
        # By unit, for the words of both texts of a pair are numbered from 0.
        own = np.where(words[place] < 0, -1, units(words[place]))
        for gap in range(1, len(own)):
            same = np.flatnonzero((own[gap:] == own[:-gap]) & (own[gap:] >= 0))
            if not len(same):  # words are runs of tokens: none is that long
                break
            found += [start + np.stack([same, same + gap]), start + np.stack([same + gap, same])]
        start += len(own)
    return torch.from_numpy(np.concatenate(found, 1)).to(packed.ids.device)


def signature(system: System, corpus: Corpus, plan: Plan) -> str:
    """What must be the same for a pass to be taken up: model, tokenizer, corpus and plan."""
    weights = fingerprint(system.model.encoder.state_dict())
    corpus_is = [str(corpus.path.resolve()), corpus.size, corpus.path.stat().st_mtime_ns, corpus.paragraphs]
    model_is = [weights, digest(system.tokenizer), repr(system.model.encoder.config), room(system, plan)]
    return json.dumps([model_is, corpus_is, asdict(plan)], sort_keys=True, default=list)


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Changes with any number or name of some tensors."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _keep(state: Path, mark: str, total: _Total) -> None:
    arrays = {f"{part}/{name}": value for part in PARTS for name, value in getattr(total.moments, part).items()}
    counts = np.array([total.lines, total.texts, total.tokens, total.cut])
    held = io.BytesIO()
    np.savez(held, allow_pickle=False, mark=np.array(mark), counts=counts, **arrays)
    disk.write_bytes(state, held.getvalue())


def _resumed(state: Path | None, mark: str) -> _Total:
    if state is None or not state.exists():
        return _Total()
    try:
        with np.load(io.BytesIO(state.read_bytes()), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        known, counts = str(arrays["mark"]), [int(n) for n in arrays["counts"]]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        raise Problem(f"{state} is damaged, so the pass cannot be taken up. Delete it to start anew.") from None
    if known != mark:
        raise Problem(
            f"{state} is of a pass with another model, corpus or settings. Call it again as it was begun, delete that "
            "file to start anew, or name another --out."
        )
    total = _Total(Moments(), *counts)
    for part in PARTS:
        found = {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(f"{part}/")}
        setattr(total.moments, part, found)
    return total
