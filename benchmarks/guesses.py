"""Who guesses hidden words best: the same words of the same texts hidden from every model.

The texts are the contexts of CMRC 2018 (dev), in Chinese, or the paragraphs of WikiText-2 (test), in English, each from
its start to the last word that all models read within `--length` tokens. 15 % are hidden at once, drawn by seed, always
as [MASK], of

    tokens   Chinese characters, or English words, that are one token of every vocabulary here
    words    Chinese words by the segmenter, or English words, of any number of tokens, hidden whole

A word that some vocabulary lacks ([UNK]) is never hidden. A word is guessed within k where each of its tokens is among
the k likeliest of its place. The loss is of the whole word, the sum over its tokens, in nats, so that it compares
between vocabularies. Intervals, of 95 %, are by resampling texts; differences are paired, text by text.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

RATE = 0.15
SCORES = ("top-1", "top-5", "loss")
NAMES = {
    ("zh", "tokens"): "Chinese characters", ("zh", "words"): "Chinese words",
    ("en", "tokens"): "English words of one token", ("en", "words"): "English words",
}  # fmt: skip
Array = NDArray[Any]


@dataclass
class Contender:
    """A model: `read` gives the ids of a text with the characters of each, `guess` the losses and ranks of places."""

    name: str
    read: Callable[[str], tuple[Array, Array]]
    guess: Callable[[list[Array], list[Array]], tuple[Array, Array]]
    unknown: int


def arguments() -> argparse.Namespace:
    parser = common.arguments(__doc__, "python benchmarks/guesses.py runs/mine --peers bert-base-chinese")
    parser.add_argument(
        "models", nargs="*", help="folders or hub names that Regard loads (default: regard-mini, albert-tiny-zh-mlm)"
    )
    parser.add_argument("--peers", nargs="*", default=[], help="folders or hub names that transformers loads")
    parser.add_argument("--language", choices=("en", "zh"), help="of the texts (default: zh)", default="zh")
    parser.add_argument("--texts", type=int, default=200, help="how many texts are read (default: 200)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text at most (default: 128)")
    options = parser.parse_args()
    if not options.models and not options.peers:
        options.peers = [str(common.checkpoint("albert-tiny-zh-mlm"))]
        options.models = ["regard-mini", *options.peers]
    if options.quick:
        options.texts = 20
    return options


def main() -> None:
    """Runs the benchmark."""
    options = arguments()
    common.settle()
    length = options.length
    contenders = [of_regard(name, length) for name in options.models] + [of_peer(n, length) for n in options.peers]
    texts = list(cut(contenders, READ[options.language]()[: options.texts], options.language))
    rows = {kind: measure(contenders, texts, options.language, kind, options.seed) for kind in ("tokens", "words")}
    report = {"machine": common.machine(), "language": options.language, "texts": len(texts)} | {
        kind: {who.name: scores(own) for who, own in zip(contenders, found, strict=True)}
        for kind, found in rows.items()
    }
    common.deliver(report, render(contenders, rows, options, len(texts)), options)


# The texts, and what is hidden of them.


def contexts() -> list[str]:
    found = common.document("zh_cmrc2018", "cmrc2018_dev.json.gz")["data"]
    return list(dict.fromkeys(paragraph["context"] for row in found for paragraph in row["paragraphs"]))


def paragraphs() -> list[str]:
    lines = (line.strip() for line in common.lines("wikitext2", "test.raw.gz"))
    return [line for line in lines if len(line.split()) >= 20 and not line.startswith("=")]


READ: dict[str, Callable[[], list[str]]] = {"zh": contexts, "en": paragraphs}


def cut(contenders: Sequence[Contender], texts: Sequence[str], language: str) -> Any:
    """Each text to the last word that every model reads."""
    for text in texts:
        end = min(int(who.read(text)[1].max()) for who in contenders)
        ends = [stop for _, stop in spans(text, language, "words") if stop <= end]
        if ends:
            yield text[: ends[-1]]


def spans(text: str, language: str, kind: str) -> list[tuple[int, int]]:
    """What may be hidden of a text: Chinese characters or words of them, or English words of letters."""
    from regard.text.words import segmenter

    if (language, kind) == ("zh", "tokens"):
        return [(i, i + 1) for i, character in enumerate(text) if "\u4e00" <= character <= "\u9fff"]
    found = segmenter("auto" if language == "zh" else "space")(text)
    return [(start, stop) for start, stop in found if text[start:stop].isalpha()]


def owned(who: Contender, ids: Array, offsets: Array, span: tuple[int, int]) -> Array | None:
    """The tokens of a span, or None where it has none of its own, or an unknown one."""
    inside = np.flatnonzero((offsets[:, 0] < span[1]) & (offsets[:, 1] > span[0]))
    exact = len(inside) and (offsets[inside[0], 0], offsets[inside[-1], 1]) == span
    return inside if exact and who.unknown not in ids[inside] else None


def measure(
    contenders: Sequence[Contender], texts: Sequence[str], language: str, kind: str, seed: int
) -> list[NDArray[np.float64]]:
    """Of each model (texts, 4): what was hidden, guessed at once, guessed within five, and the loss."""
    from regard.data.masking import Alphabet, Masking, chance, hide

    rule = Masking(RATE, "token", 1.0, 0.0, 0.0)
    asked: list[tuple[list[Array], list[list[Array]]]] = [([], []) for _ in contenders]
    for row, text in enumerate(texts):
        read = [who.read(text) for who in contenders]
        units = []
        for span in spans(text, language, kind):
            tokens = [owned(who, *own, span) for who, own in zip(contenders, read, strict=True)]
            if all(own is not None and (kind == "words" or len(own) == 1) for own in tokens):
                units.append(tokens)
        numbers = np.arange(len(units))
        hidden = hide(rule, numbers, numbers, Alphabet(1, 0, ()), chance(seed, 0, row))[0] if units else numbers
        for place, (ids, of_units) in enumerate(asked):
            ids.append(read[place][0])
            of_units.append([units[i][place] for i in hidden])
    return [tallied(who, *own) for who, own in zip(contenders, asked, strict=True)]


def tallied(who: Contender, ids: list[Array], units: list[list[Array]]) -> NDArray[np.float64]:
    """What a model says of hidden words, summed for each text."""
    places = [np.concatenate([np.empty(0, np.int64), *own]) for own in units]
    losses, ranks = who.guess(ids, places)
    sizes = np.array([len(tokens) for own in units for tokens in own])
    starts = sizes.cumsum() - sizes
    worst, loss = np.maximum.reduceat(ranks, starts), np.add.reduceat(losses, starts)
    owner = np.repeat(np.arange(len(units)), [len(own) for own in units])
    facts = np.ones(len(sizes)), worst < 1, worst < 5, loss
    return np.stack([np.bincount(owner, fact, len(units)) for fact in facts], 1)


# The models.


def of_regard(name: str, length: int) -> Contender:
    """A model as Regard reads it."""
    import regard
    from regard.batch import Encoding
    from regard.eval.words import answers

    system = regard.load(name, precision="float32")
    tokenizer = system.tokenizer
    mask = tokenizer.number("[MASK]")

    def read(text: str) -> tuple[Array, Array]:
        encoding = tokenizer.encode([text], max_length=length, detail=True)[0]
        return encoding.ids, encoding.offsets

    def guess(ids: list[Array], places: list[Array]) -> tuple[Array, Array]:
        return answers(system.model, [Encoding(own, np.zeros_like(own)) for own in ids], places, mask)

    return Contender(label(name, "regard"), read, guess, tokenizer.number("[UNK]"))


def of_peer(name: str, length: int) -> Contender:
    """A model as transformers reads it, a text at a time."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForMaskedLM.from_pretrained(name).eval()

    def read(text: str) -> tuple[Array, Array]:
        found = tokenizer(text, truncation=True, max_length=length, return_offsets_mapping=True)
        return np.array(found["input_ids"]), np.array(found["offset_mapping"])

    def guess(ids: list[Array], places: list[Array]) -> tuple[Array, Array]:
        losses, ranks = [], []
        for own, hidden in zip(ids, places, strict=True):
            there = torch.from_numpy(own.copy())
            truth = there[hidden][:, None]
            there[hidden] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = model(there[None]).logits[0, hidden]
            right = logits.gather(1, truth)
            losses.append((logits.logsumexp(1) - right[:, 0]).numpy())
            ranks.append((logits > right).sum(1).numpy())
        return np.concatenate(losses), np.concatenate(ranks)

    return Contender(label(name, "transformers"), read, guess, tokenizer.unk_token_id)


def label(name: str, by: str) -> str:
    """The name of a model's folder, or of a run whose model it is, and who loads it."""
    parts = [part for part in Path(name).parts if part != "model"]
    return f"{parts[-1]} by {by}"


# What is said of them.


def ratio(counts: Array, sums: Array) -> float:
    return float(sums.sum() / counts.sum())


def scores(own: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Each score with its interval, and how many words were hidden."""
    from regard.measure.resample import bootstrap

    found: dict[str, dict[str, float]] = {}
    for column, name in enumerate(SCORES, 1):
        low, high = bootstrap(ratio, (own[:, 0], own[:, column]))
        found[name] = {"value": ratio(own[:, 0], own[:, column]), "low": low, "high": high, "n": int(own[:, 0].sum())}
    return found


def render(contenders: Sequence[Contender], rows: dict[str, list[Any]], options: argparse.Namespace, texts: int) -> str:
    from regard.measure.resample import paired_difference

    versions = common.machine()["versions"]
    settings = f"{texts} texts of at most {options.length} tokens; rate {RATE}; seed {options.seed}; float32"
    packages = ", ".join(f"{name} {versions[name]}" for name in ("regard", "transformers", "torch"))
    out = [f"## Guessing hidden words\n\n{packages}; {settings}.\n"]
    for kind, found in rows.items():
        table = []
        for who, own in zip(contenders, found, strict=True):
            said = scores(own)
            cells = ["{value:.3f} [{low:.3f}, {high:.3f}]".format(**said[name]) for name in SCORES]
            table.append([who.name, f"{said['loss']['n']:,}", *cells])
        head = (NAMES[options.language, kind], "hidden", "top-1", "top-5", "loss, nats")
        out.append(common.table(head, table) + "\n")
        table = [
            [who.name, *(
                str(paired_difference(ratio, own[:, 0], first=own[:, column], second=found[0][:, column]))
                for column in range(1, 4)
            )]
            for who, own in zip(contenders[1:], found[1:], strict=True)
        ]  # fmt: skip
        if table:
            out.append(common.table((f"less {contenders[0].name}", *SCORES), table) + "\n")
    return "\n".join(out)


if __name__ == "__main__":
    main()
