"""From the text part of a recipe to a corpus as tokens on disk: built, numbered and kept, so that it is done once."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regard import disk, hub
from regard.data.corpora import build, reading
from regard.data.corpora.plan import Plan, Source
from regard.data.corpora.plan import read as read_plan
from regard.data.corpus import Corpus
from regard.data.tokens import Tokens, digest, write
from regard.errors import Problem
from regard.recipe import TextRecipe
from regard.text import vocabulary
from regard.text.tokenizer import Tokenizer, wordpiece

Share = Callable[[str], Callable[[float], object]]  # for what is being done, who is told the share of it that is done
LEARNT = "learnt.txt"  # of how many ids, and of which corpus, a vocabulary was learnt in a run's folder
ASKED, MANY_UNKNOWN = 4_000_000, 0.01  # tokens that are asked whether they are [UNK]; the share that is worth a word
HOW_READ = "format", "text", "document", "encoding"  # what a recipe says of files, as a plan of a source


@dataclass(frozen=True, slots=True)
class RunningText:
    """A corpus as tokens, how often each (source, language) is drawn, and what tells it from any other."""

    tokens: Tokens
    tokenizer: Tokenizer
    times: dict[tuple[str, str], float]
    origin: str
    said: list[str]


def gather(recipe: TextRecipe, tokenizer: Tokenizer | None, folder: Path, share: Share) -> RunningText:
    """Builds the corpus where it is not built, learns a vocabulary where there is none, and numbers the tokens.

    The recipe's vocabulary comes before `tokenizer`, which is that of a model to go on with. What is made goes into
    `folder`, tokens into the corpus's own folder where that can be written to; what is there already is taken. Raises
    `Problem` for text that cannot be read.
    """
    if recipe.vocabulary:  # found, or not, before an hour goes into a corpus
        tokenizer = _named(recipe)
    corpus, said = _corpus(recipe, folder, share)
    if tokenizer is None:
        tokenizer = _tokenizer(recipe, corpus, folder, share)
    key = hashlib.blake2b(digest_size=8)
    for part in ((corpus / build.MANIFEST).read_bytes(), digest(tokenizer).encode(), recipe.words.encode()):
        key.update(part)
    place = (corpus if os.access(corpus, os.W_OK) else folder) / "tokens" / key.hexdigest()
    if not place.exists():
        disk.make_folder(place.parent)
        others = "waiting for another process that numbers tokens"
        with disk.alone(place.parent, "numbering tokens", waiting=lambda: share(others)(0.0)):
            if not place.exists():  # runs of several seeds begin at once
                write(place, reading.documents(corpus, share("numbering tokens")), tokenizer, words=recipe.words)
    tokens = Tokens(place, tokenizer)
    said.append(f"text: {len(tokens.ids):,} tokens of {', '.join(tokens.languages)} from {corpus}, in {place}")
    some = tokens.ids[:: 1 + len(tokens.ids) // ASKED]
    unknown = np.count_nonzero(some == tokenizer.number("[UNK]")) / max(1, len(some))
    if unknown > MANY_UNKNOWN:
        said.append(
            f"{unknown:.1%} of the tokens are [UNK], for the vocabulary cannot write them; where it should, learn one "
            "of this text"
        )
    return RunningText(tokens, tokenizer, reading.times(corpus), key.hexdigest(), said)


def _corpus(recipe: TextRecipe, folder: Path, share: Share) -> tuple[Path, list[str]]:
    """The folder of a built corpus, the one that is named or one made here of a plan or of files; and what to say.

    A run goes on with the text that it began with, whatever has become of its files since.
    """
    if not recipe.corpus:
        raise Problem("There is no text to learn from. Name files or a corpus with --corpus, or text.corpus.")
    path, made = Path(recipe.corpus).expanduser(), folder / "corpus"
    if path.is_dir():
        _check_folder(path)
        _refuse_reading(recipe, path)
        return path, []
    if (folder / "recipe.toml").exists() and (made / build.MANIFEST).exists():
        with suppress(Problem):
            if build.is_of(_plan(recipe, path), made):
                return made, []
        return made, [f"{path} has changed or is gone since this run began, which goes on with what it read then"]
    if not (path.suffix or path.exists() or glob.has_magic(str(path))):
        raise Problem(
            f"There is no corpus {path} here, as text.corpus has it. Build it (regard corpus build PLAN.toml --out "
            f"{path}), or name another with --corpus."
        )
    plan = _plan(recipe, path)
    if (made / build.MANIFEST).exists() and not build.is_of(plan, made):
        raise Problem(
            f"{made} is of another text, or of the same read otherwise: a call that was refused has left it. Remove "
            "it, or name another --out."
        )
    build.build(plan, made, advance=share("building the corpus"))
    return made, []


def _check_folder(path: Path) -> None:
    if not ((path / build.MANIFEST).exists() or (path / build.WORK).exists()):
        raise Problem(
            f"{path} is a folder without a corpus. Name its files by a pattern in quotes, for example '{path}/*.txt', "
            "or build a corpus: regard corpus build plan.toml --out corpus/."
        )
    build.read(path)


def _plan(recipe: TextRecipe, path: Path) -> Plan:
    """The plan that is named, or one of files that are read as the recipe says."""
    if path.suffix == ".toml":
        _refuse_reading(recipe, path)
        return read_plan(path)
    told = {key: getattr(recipe, key) for key in HOW_READ}
    return Plan((Source(name=path.stem or path.name, path=str(path), **told),))


def _refuse_reading(recipe: TextRecipe, path: Path) -> None:
    """Raises `Problem` where a recipe says how files are read that a corpus or a plan has said already."""
    if told := [f"text.{key}" for key in HOW_READ if getattr(recipe, key) != getattr(TextRecipe(), key)]:
        raise Problem(
            f"{' and '.join(told)} would tell how files are read, and {path} is "
            f"{'a corpus' if path.is_dir() else 'a plan'}. Say it in the plan, for the source."
        )


def _named(recipe: TextRecipe) -> Tokenizer:
    name = recipe.vocabulary
    try:
        return tokenizer_of(name)
    except Problem as problem:
        if Path(name).expanduser().exists():
            raise
        raise Problem(
            f"There is no vocabulary {name} here, as text.vocabulary has it. Learn it (regard vocab train "
            f"{recipe.corpus or 'CORPUS'} --size {recipe.size} --out {name}), or leave it out. As one of the hub: "
            f"{problem}"
        ) from None


def _tokenizer(recipe: TextRecipe, corpus: Path, folder: Path, share: Share) -> Tokenizer:
    learnt, whose = folder / "vocab", folder / "vocab" / LEARNT
    of = f"{recipe.size} ids of corpus {build.read(corpus).get('content')}\n"
    begun = (folder / "recipe.toml").exists()
    if whose.exists() and not begun and whose.read_text(encoding="utf-8") != of:
        shutil.rmtree(learnt)  # of a call that was refused before there was a run
    if not learnt.exists():
        counts = vocabulary.Counts()
        for document in reading.documents(corpus, share("counting words")):
            for line in document.text.split("\n"):
                counts.add(line)
        with disk.folder_whole(learnt) as place:
            vocabulary.train(counts, recipe.size, advance=share("joining pieces")).save(place)
            disk.write_text(place / LEARNT, of)
    return Tokenizer.load(learnt)


def tokenizer_of(name: str, *, cased: bool = False) -> Tokenizer:
    """That of a list of pieces, one a line, read as `cased` says; of a folder; or of a model on the hub."""
    if Path(name).is_file():
        return Tokenizer(wordpiece(Corpus(name).lines(), {"do_lower_case": not cased}))
    return Tokenizer.load(hub.model_folder(name, weights=False))
