"""What is hidden to learn from: Regard's whole words beside transformers', on one machine, in one run.

Sentences of running text, parted from the paragraphs of two corpora and out of a treebank, become ids once; what is
timed is the hiding alone, in batches of 256, and the finding of words, which needs doing once for all epochs.

    regard              hide_all with words by the segmenter (English by letters, Chinese by jieba), 80 / 10 / 10
    transformers words  DataCollatorForLanguageModeling(whole_word_mask=True), which always puts [MASK]
    transformers        the same without whole words, 80 / 10 / 10
    one order           words in one random order until the share is reached, the last one by lot

A word of more than one token is hidden whole, in part or not at all. Words are the segmenter's. For Chinese
transformers takes everything between two spaces for one word.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

RATE, BATCH = 0.15, 256
REGARD, WHOLE, TOKENS, ORDER = "regard", "transformers words", "transformers", "one order"
VOCABULARIES = {"en": "bert_uncased_vocab_30522", "zh": "bert_chinese_vocab_21128"}
Hidden = list[NDArray[np.int64]]  # of each text, the positions


@dataclass
class Texts:
    """Sentences with their ids and the words of their tokens."""

    name: str
    language: str
    texts: list[str]
    tokenizer: Any
    encodings: list[Any]
    words: list[NDArray[np.int64]]


def arguments() -> argparse.Namespace:
    parser = common.arguments(__doc__, "python benchmarks/masking.py --rounds 5")
    parser.add_argument("--texts", type=int, default=10_000, help="sentences of each language (default: 10,000)")
    parser.add_argument("--epochs", type=int, default=5, help="how often shares are counted (default: 5)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.texts, options.epochs = 2, 500, 2
    return options


def main() -> None:
    """Runs the benchmark."""
    options = arguments()
    common.settle()
    jobs = [read(language, options.texts) for language in VOCABULARIES]
    speeds = {job.name: speed(job, options.rounds) for job in jobs}
    shares = {job.name: count(job, options.epochs) for job in jobs}
    finding = {job.name: find(job, options.rounds) for job in jobs}
    place = common.machine() | {"others_used": common.others_used()}
    report = {"machine": place, "speed": speeds, "shares": shares, "finding": finding}
    common.deliver(report, render(report, options), options)


# The texts.


def read(language: str, count: int) -> Texts:
    """The sentences of a language: reviews, or the treebank and technical articles."""
    from regard.text.tokenizer import Tokenizer, vocabulary, wordpiece
    from regard.text.words import segmenter

    texts = treebank() if language == "zh" else []
    corpus = "zh_tech_articles" if language == "zh" else "en_movie_reviews"
    name = f"Chinese: {len(texts):,} of ud_zh_gsdsimp, the rest {corpus}" if texts else f"English: {corpus}"
    texts += list(itertools.islice(sentences(corpus), max(0, count - len(texts))))
    content = gzip.decompress(common.data("vocab", f"{VOCABULARIES[language]}.txt.gz").read_bytes())
    tokenizer = Tokenizer(wordpiece(vocabulary(content)))
    segmenter("auto")("\u4e2d\u6587")  # loads the dictionary
    encodings = tokenizer.encode(texts[:count], detail=True)
    return Texts(name, language, texts[:count], tokenizer, encodings, found_words(encodings, texts[:count]))


def sentences(corpus: str) -> Any:
    from regard.data.corpus import Corpus

    yield from (s for s in Corpus(common.data("corpora", f"{corpus}.txt.xz"), paragraphs=True).lines() if s.strip())


def treebank() -> list[str]:
    files = [f"zh_gsdsimp-ud-{part}.conllu.gz" for part in ("dev", "test")]
    return [
        line.removeprefix("# text = ")
        for file in files
        for line in common.lines("ud_zh_gsdsimp", file)
        if line.startswith("# text = ")
    ]


def found_words(encodings: Sequence[Any], texts: Sequence[str]) -> list[NDArray[np.int64]]:
    from regard.text.words import segmenter, words_of_all

    whole = words_of_all(encodings, texts, segmenter("auto"))
    return np.split(whole, np.cumsum([len(e.ids) for e in encodings])[:-1])


# The contenders: each from the texts and an epoch to the hidden positions of each text.


def regard(job: Texts) -> Callable[[int], Hidden]:
    from regard.data.masking import Alphabet, Masking, chance, hide_all

    special = tuple(job.tokenizer.number(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    alphabet, rule = Alphabet(job.tokenizer.size, special[-1], special), Masking(rate=RATE)
    parts = []
    for start in range(0, len(job.texts), BATCH):
        some = job.encodings[start : start + BATCH]
        ids, words = np.concatenate([e.ids for e in some]), np.concatenate(job.words[start : start + BATCH])
        parts.append((start, ids, words, [len(e.ids) for e in some]))

    def run(epoch: int) -> Hidden:
        out: Hidden = []
        for start, ids, words, sizes in parts:
            sources = [chance(0, epoch, start + place) for place in range(len(sizes))]
            positions, _ = hide_all(rule, ids, words, sizes, alphabet, sources)
            bounds = np.cumsum(sizes)
            pieces = np.split(positions, np.searchsorted(positions, bounds[:-1]))
            out += [piece - bound + size for piece, bound, size in zip(pieces, bounds, sizes, strict=True)]
        return out

    return run


def transformers(job: Texts, *, whole: bool) -> Callable[[int], Hidden]:
    from transformers import BertTokenizerFast, DataCollatorForLanguageModeling

    tokenizer = BertTokenizerFast(vocab={job.tokenizer.token(n): n for n in range(job.tokenizer.size)})
    batches = []
    for start in range(0, len(job.texts), BATCH):
        # Padded beforehand, and not timed: the collator pads ids, but not the offsets that its whole words need.
        found = tokenizer(
            job.texts[start : start + BATCH], return_offsets_mapping=whole, return_special_tokens_mask=True,
            truncation=True, max_length=512, padding=True,
        )  # fmt: skip
        batches.append([{key: found[key][place] for key in found} for place in range(len(found["input_ids"]))])

    def run(epoch: int) -> Hidden:
        collate = DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=RATE, whole_word_mask=whole, return_tensors="np", seed=epoch
        )
        return [np.flatnonzero(row != -100) for batch in batches for row in collate(batch)["labels"]]

    return run


def one_order(job: Texts) -> Callable[[int], Hidden]:
    def run(epoch: int) -> Hidden:
        random, out = np.random.default_rng(epoch), []
        for words in job.words:
            starts = np.flatnonzero((words >= 0) & (np.diff(words, prepend=-2) != 0))
            sizes = np.bincount(words[words >= 0])
            sizes = sizes[sizes > 0]
            order = random.permutation(len(starts))
            left, hidden = RATE * sizes.sum(), []
            for place in order:
                if random.random() < left / sizes[place]:
                    hidden.append(np.arange(starts[place], starts[place] + sizes[place]))
                left -= sizes[place]
                if left <= 0:
                    break
            out.append(np.sort(np.concatenate(hidden)) if hidden else np.empty(0, dtype=np.int64))
        return out

    return run


def contenders(job: Texts) -> dict[str, Callable[[int], Hidden]]:
    return {REGARD: regard(job), WHOLE: transformers(job, whole=True), TOKENS: transformers(job, whole=False)}


# What is measured.


def speed(job: Texts, rounds: int) -> dict[str, Any]:
    """Texts a second of each, and how many times as fast as transformers' whole words."""
    seconds = common.take_turns({n: common.timed(lambda run=run: run(0)) for n, run in contenders(job).items()}, rounds)
    return {
        name: {
            "texts_per_second": common.spread([len(job.texts) / s for s in own]),
            "times": common.ratios(seconds[WHOLE], own),
        }
        for name, own in seconds.items()
    }


def count(job: Texts, epochs: int) -> dict[str, Any]:
    """The rate of hidden tokens, and the share of words of several tokens hidden whole, in part, and not at all."""
    runs = contenders(job) | {ORDER: one_order(job)}
    return {name: shares(job, [run(epoch) for epoch in range(epochs)]) for name, run in runs.items()}


def shares(job: Texts, epochs: Sequence[Hidden]) -> dict[str, float]:
    tokens = hidden = emptied = untouched = 0
    kinds, by_length = np.zeros(3), np.zeros((2, 9))
    for positions in epochs:
        for words, here in zip(job.words, positions, strict=True):
            sizes = np.bincount(words[words >= 0])
            gone = np.bincount(words[here], minlength=len(sizes))
            gone, sizes = gone[sizes > 0], sizes[sizes > 0]
            tokens, hidden = tokens + sizes.sum(), hidden + len(here)
            untouched += not len(here)
            emptied += bool(sizes.sum() > 1 and len(here) == sizes.sum())
            several = sizes > 1
            whole, none = gone[several] == sizes[several], gone[several] == 0
            kinds += [whole.sum(), (~whole & ~none).sum(), none.sum()]
            np.add.at(by_length[0], np.minimum(sizes, 8), gone == sizes)
            np.add.at(by_length[1], np.minimum(sizes, 8), 1)
    whole, part, none = kinds / kinds.sum()
    rates = by_length[0] / np.maximum(1, by_length[1])
    return {
        "rate": hidden / tokens, "whole": whole, "part": part, "none": none,
        "texts_hidden_whole": emptied / len(epochs) / len(job.texts),
        "texts_untouched": untouched / len(epochs) / len(job.texts),
        **{f"words_of_{size}": rates[size] for size in (1, 2, 3, 4)},
    }  # fmt: skip


def find(job: Texts, rounds: int) -> dict[str, Any]:
    """Texts and characters a second of finding the words of all tokens."""
    runs = {"words": common.timed(lambda: found_words(job.encodings, job.texts))}
    runs["encoding"] = common.timed(lambda: job.tokenizer.encode(job.texts, detail=True))
    if job.language == "zh":
        runs["jieba itself"] = common.timed(lambda: jieba_itself(job.texts))
    seconds = common.take_turns(runs, rounds)
    size = sum(map(len, job.texts))
    return {name: common.spread([size / s for s in own]) for name, own in seconds.items()}


def jieba_itself(texts: Sequence[str]) -> None:
    import jieba

    for text in texts:
        list(jieba.tokenize(text))


def render(report: dict[str, Any], options: argparse.Namespace) -> str:
    settings = {"rate": RATE, "texts": f"{options.texts:,} of each language", "epochs": options.epochs}
    out = [common.heading("Hiding words", report["machine"], settings | {"rounds": options.rounds})]
    percent = "{:.2%}".format
    for name, by in report["shares"].items():
        rows = [
            [who, *(percent(s[k]) for k in ("rate", "whole", "part", "none", "texts_hidden_whole", "texts_untouched"))]
            for who, s in by.items()
        ]
        head = ("hidden of", "tokens", "words whole", "in part", "not at all", "texts whole", "texts not at all")
        out += [f"{name}:\n", common.table(head, rows) + "\n"]
        rows = [[who, *(percent(s[f"words_of_{size}"]) for size in (1, 2, 3, 4))] for who, s in by.items()]
        head = ("words hidden whole, of", "one token", "two", "three", "four")
        out += [common.table(head, rows) + "\n"]
    for name, by in report["speed"].items():
        rows = [[who, common.figure(s["texts_per_second"]), common.figure(s["times"], ".2f")] for who, s in by.items()]
        out += [f"{name}:\n", common.table(("hiding", "texts/s", "times transformers words"), rows) + "\n"]
    for name, by in report["finding"].items():
        rows = [[who, common.figure(figures)] for who, figures in by.items()]
        out += [f"{name}:\n", common.table(("finding words", "characters/s"), rows) + "\n"]
    return "\n".join(out)


if __name__ == "__main__":
    main()
