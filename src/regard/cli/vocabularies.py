"""Verbs that learn and measure vocabularies; what computes is imported inside the verb that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.cli.app import Json, app, print_json
from regard.cli.texts import Files, first, lines
from regard.errors import Problem

if TYPE_CHECKING:
    from regard.text.vocabulary import Fit
    from regard.text.words import Segmenter

MOST = 1_000_000  # ids: more than any text has words that come back
HELD, HELD_MOST = 100, 5_000  # one text of so many is held out, so many at most of a language
Cased = Annotated[bool, typer.Option("--cased", help="Tell capital letters and accents apart.")]

vocab = typer.Typer(
    help="Learn a vocabulary from texts, or measure how well one fits them.",
    epilog="Example: regard vocab train corpus/ --size 24000 --out vocab/  |  regard vocab stats vocab/ my.txt",
    no_args_is_help=True,
)
app.add_typer(vocab, name="vocab")


@vocab.command(epilog="Example: regard vocab train en.txt.xz zh.txt.xz --size 24000 --out vocab/")
def train(
    files: Files,
    out: Annotated[str, typer.Option(help="The folder for vocab.txt, tokenizer.json and tokenizer_config.json.")],
    size: Annotated[int, typer.Option(min=10, max=MOST, help="How many ids there are at most.")] = 24_000,
    cased: Cased = False,
    share: Annotated[float, typer.Option(min=0, max=1, help="What the kept characters make up of all text.")] = 0.9999,
    least: Annotated[int, typer.Option(min=1, help="How often a piece or a character must occur.")] = 2,
    words: Annotated[int, typer.Option(min=1000, help="Different words to hold at most: bounds memory.")] = 4_000_000,
    as_json: Json = False,
) -> None:
    """Learn a vocabulary of word pieces from a mix of texts, and measure it on every hundredth text, held out."""
    from regard import disk
    from regard.screen import Screen
    from regard.text import vocabulary

    folder = Path(out)
    if (folder / "vocab.txt").exists():
        raise Problem(f"{folder} holds a vocabulary already. Name another folder, or delete that one first.")
    disk.make_folder(folder)
    counts = vocabulary.Counts(lowercase=not cased, most=words)
    held = _Held()
    with Screen(quiet=as_json) as screen:
        for number, (language, text) in enumerate(lines(files, screen.share("counting words")), 1):
            kept = text if number % HELD else held.take(language, text)
            if kept:
                counts.add(kept)
        tokenizer = vocabulary.train(counts, size, share=share, least=least, advance=screen.share("joining pieces"))
        tokenizer.save(folder)
        segment, said = _segmenter()
        move = screen.counter("measuring", sum(map(len, held.texts.values())))
        fits = vocabulary.measure(tokenizer, held.rows(move), segment)
    if counts.floor:
        said.append(f"Words seen up to {counts.floor} times may have been missed, for there were more than --words.")
    if not fits:
        said.append(f"Fewer than {HELD} texts: none was held out to measure on.")
    learnt = {"size": tokenizer.size, "texts": counts.texts, "characters": counts.characters, "out": str(folder)}
    _show(learnt, fits, said, as_json)


@vocab.command(epilog="Example: regard vocab stats google-bert/bert-base-chinese zh.txt.xz")
def stats(
    name: Annotated[
        str, typer.Argument(metavar="VOCAB", help="A folder, a hub name, or a vocab.txt, plain or packed.")
    ],
    files: Files,
    cased: Cased = False,
    texts: Annotated[int, typer.Option(min=0, help="Read so many lines of each language; 0: all.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Measure how much of some texts a vocabulary covers, and how many tokens it makes of a word and a character."""
    from regard.data.running_text import tokenizer_of
    from regard.screen import Screen
    from regard.text import vocabulary

    tokenizer = tokenizer_of(name, cased=cased)
    segment, said = _segmenter()
    with Screen(quiet=as_json) as screen:
        rows = first(lines(files, screen.share("measuring")), texts, itemgetter(0))
        fits = vocabulary.measure(tokenizer, rows, segment)
    _show({"size": tokenizer.size, "vocabulary": name}, fits, said, as_json)


class _Held:
    """Texts that are held out: of each language an even sample, whatever the order of files, in bounded memory."""

    def __init__(self) -> None:
        from random import Random

        self.texts: dict[str, list[str]] = {}
        self._seen: dict[str, int] = {}
        self._chance = Random(0)

    def take(self, language: str, text: str) -> str:
        """Holds a text out, and gives back the one that it drives out, to be learnt from; or nothing."""
        texts = self.texts.setdefault(language, [])
        self._seen[language] = self._seen.get(language, 0) + 1
        if len(texts) < HELD_MOST:
            texts.append(text)
            return ""
        place = self._chance.randrange(self._seen[language])
        if place < HELD_MOST:
            text, texts[place] = texts[place], text
        return text

    def rows(self, move: Callable[[int], Any]) -> Iterator[tuple[str, str]]:
        """All of them with their languages; `move` is told of each."""
        for language, texts in self.texts.items():
            for text in texts:
                move(1)
                yield language, text


def _segmenter() -> tuple[Segmenter, list[str]]:
    """What finds words, and what to say of it: without jieba a Chinese word is a character."""
    from regard.text.vocabulary import by_characters
    from regard.text.words import segmenter

    try:
        segmenter("zh")
    except Problem:
        return by_characters, ["Each Chinese character counts as a word here. Words need: pip install 'regard[zh]'."]
    return segmenter("auto"), []


def _show(learnt: dict[str, Any], fits: list[Fit], said: list[str], as_json: bool) -> None:
    rows = [fit.table() for fit in fits]
    if as_json:
        print_json(learnt | {"languages": rows, "said": said})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "texts", "words", "words\nknown", "characters\nknown", "tokens\na word", "a character"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(
            row["language"], f"{row['texts']:,}", f"{row['words']:,}", f"{row['word_coverage']:.3%}",
            f"{row['character_coverage']:.3%}", f"{row['tokens_per_word']:.3f}", f"{row['tokens_per_character']:.3f}",
        )  # fmt: skip
    if rows:
        Console().print(table)
    for line in said:
        typer.echo(line)
    typer.echo(f"{learnt['size']:,} ids" + (f" are in {learnt['out']}" if "out" in learnt else ""))
