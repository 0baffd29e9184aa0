"""Text to token ids with the bounds of its words, as a corpus is written to learn from: on one core, in one run.

    looked up      Regard's numbering from an empty table; what was met before is not encoded again
    line by line   every line encoded with offsets, and its words found by them: what looking up must equal, and does
    ids alone      every line encoded without offsets: no words

Seconds are of the processor, in one thread. The segmenter's dictionary is loaded before.
"""

from __future__ import annotations

import gzip
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import numpy as np

LOOKED_UP, LINES, IDS = "looked up", "line by line", "ids alone"
CORPORA = {
    "English": ("en_movie_reviews", "en_novels"),
    "Chinese": ("zh_tech_articles", "zh_laws", "zh_classics_in_modern"),
}
VOCABULARIES = {"English": "bert_uncased_vocab_30522", "Chinese": "bert_chinese_vocab_21128"}
BATCH = 1000  # lines


def main() -> None:
    """Runs the benchmark."""
    parser = common.arguments(__doc__, "python benchmarks/tokens.py --rounds 3")
    parser.add_argument("--characters", type=int, default=4_000_000, help="of each language (default: 4,000,000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.characters = 2, 100_000
    common.settle(torch=False)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false"}
    speeds = {language: speed(language, options) for language in CORPORA}
    report = {"machine": common.machine() | {"others_used": common.others_used()}, "speed": speeds}
    common.deliver(report, render(report, options), options)


def read(language: str, characters: int) -> list[str]:
    """Lines of the corpora of a language, of each the same share of all characters."""
    from regard.data.corpus import Corpus

    def some(corpus: str) -> Iterator[str]:
        left = characters // len(CORPORA[language])
        for line in Corpus(common.data("corpora", f"{corpus}.txt.xz"), paragraphs=True).lines():
            if left <= 0:
                return
            left -= len(line) + 1
            yield line

    return [line for corpus in CORPORA[language] for line in some(corpus)]


def speed(language: str, options: Any) -> dict[str, Any]:
    """Characters a second of each contender, and how many times as fast as line by line."""
    from regard.text.numbering import Numbering
    from regard.text.tokenizer import Tokenizer, vocabulary, wordpiece

    content = gzip.decompress(common.data("vocab", f"{VOCABULARIES[language]}.txt.gz").read_bytes())
    tokenizer = Tokenizer(wordpiece(vocabulary(content)))
    lines = read(language, options.characters)
    text = "\n".join(lines)
    found = Numbering(tokenizer)(text)  # also loads the dictionary
    ids, words = line_by_line(tokenizer, lines)
    assert np.array_equal(found.ids, ids) and int(found.words.sum()) == words
    runs: dict[str, Callable[[], Any]] = {
        LOOKED_UP: lambda: Numbering(tokenizer)(text),
        LINES: lambda: line_by_line(tokenizer, lines),
        IDS: lambda: [tokenizer.encode(batch, max_length=1 << 30) for batch in batches(lines)],
    }
    turns = {name: common.timed(run, time.process_time) for name, run in runs.items()}
    seconds = common.take_turns(turns, options.rounds)
    return {
        name: {
            "characters_per_second": common.spread([len(text) / s for s in own]),
            "times": common.ratios(seconds[LINES], own),
        }
        for name, own in seconds.items()
    }


def batches(lines: list[str]) -> Iterator[list[str]]:
    stream = (line for line in lines if line.strip())
    while batch := list(itertools.islice(stream, BATCH)):
        yield batch


def line_by_line(tokenizer: Any, lines: list[str]) -> tuple[Any, int]:
    """The ids of all tokens, and how many words there are."""
    from regard.text.words import segmenter, words_of_all

    ids, words = [], 0
    for batch in batches(lines):
        encodings = tokenizer.encode(batch, max_length=1 << 30, detail=True)
        found = words_of_all(encodings, batch, segmenter("auto"))  # -1 for special tokens, between any two lines
        words += int(((found >= 0) & (np.diff(found, prepend=-1) != 0)).sum())
        ids.append(np.concatenate([encoding.ids for encoding in encodings])[found >= 0])
    return np.concatenate(ids), words


def render(report: dict[str, Any], options: Any) -> str:
    settings = {"characters": f"{options.characters:,} of each language", "rounds": options.rounds}
    out = [common.heading("Text to tokens with the bounds of words", report["machine"], settings)]
    for language, by in report["speed"].items():
        rows = [
            [name, common.figure(own["characters_per_second"]), common.figure(own["times"], ".2f")]
            for name, own in by.items()
        ]
        out += [common.table((language, "characters/s of processor", "times line by line"), rows) + "\n"]
    return "\n".join(out)


if __name__ == "__main__":
    main()
