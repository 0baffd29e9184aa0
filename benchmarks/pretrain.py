"""Pre-training on hidden words: Regard beside transformers, on one machine, in one run, with the same model.

Each line of a file is a text. It becomes tokens once, before anything is timed, in sequences of at most 128: a longer
text is parted. A turn goes over the same sequences, from ids to trained weights: loading, hiding 15 % of the tokens,
forward and backward pass, and an AdamW step for each batch of some 4,096 tokens (65,536 on a GPU), the same number of
full batches for all. Weights are fresh, and what is learnt is not compared. Tokens are counted without padding.

    transformers default          run_mlm --line_by_line: the Trainer in float32, a sequence a row, rows in random
                                  order, padded to the longest of the batch
    transformers by length        the same rows at their best: bfloat16 autocast where that is fast, rows of like length
                                  in a batch, the mask of special tokens made beforehand, on a GPU four processes that
                                  load, and nothing that waits for the GPU to look at its losses
    transformers best             run_mlm without --line_by_line, likewise: all rows end to end, parted into full blocks
                                  of 128, so that nothing is padded and texts see one another
    transformers without dropout  the same without dropout, which all others of theirs have by default (.1)
    regard                        a recipe's defaults, but a step for each batch, and dropout .1 as the others have it
    regard without dropout        the same without, which is the default of `regard pretrain`
    regard compiled               the same, without dropout and with train.compile=on

By itself transformers attends through PyTorch's sdpa and steps by its fused AdamW. It hides tokens, Regard whole words.
Each turn is a process of its own, whose first steps do not count.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

LENGTH, RATE, DROPOUT = 128, 0.15, 0.1
WARM = 3  # steps that do not count
LEARNT, SIZE = 8_000_000, 24_000  # characters that a vocabulary is learnt from, and its ids
SHAPES = {
    "mini": {"layers": 6, "width": 256, "heads": 4, "inner_width": 1024},
    "base": {"layers": 12, "width": 768, "heads": 12, "inner_width": 3072},
}
CORPORA = ("en_movie_reviews", "zh_tech_articles")
DEFAULT, LINES, BEST = "transformers default", "transformers by length", "transformers best"
THEIRS = {DEFAULT: DROPOUT, LINES: DROPOUT, BEST: DROPOUT, "transformers without dropout": 0.0}
COMPILED = "regard compiled"
OURS = {"regard": DROPOUT, "regard without dropout": 0.0, COMPILED: 0.0}
NAMES = (*THEIRS, *OURS)


def main() -> None:
    """Runs the benchmark, or, in a child process, one contender's job."""
    options = _options()
    common.settle()
    if options.probe:
        torch.manual_seed(options.seed)
        common.tell_probe(**(regard if options.probe in OURS else trainer)(options))
        return
    texts = {path.name.partition(".")[0]: measure(options, path) for path in files(options.data)}
    kept = {key: getattr(options, key) for key in ("shape", "rounds", "seed", "steps", "batch_tokens")}
    place = common.machine() | {"others_used": common.others_used()}
    report = {"benchmark": "pretrain", "machine": place, **kept, "texts": texts}
    common.deliver(report, render(report), options)


def _options() -> argparse.Namespace:
    parser = common.arguments(
        __doc__, "python benchmarks/pretrain.py --out pretrain.json\n"
        "  python benchmarks/pretrain.py --shape base --data texts/",
    )  # fmt: skip
    parser.add_argument("--shape", choices=tuple(SHAPES), default="mini", help="of the encoder (default: mini)")
    parser.add_argument(
        "--data", type=Path, help=f"a text file, or a folder of .txt files (default: {', '.join(CORPORA)})"
    )
    parser.add_argument("--vocabulary", help="a published vocab.txt, plain or packed (default: learnt from each file)")
    parser.add_argument(
        "--contenders", nargs="*", choices=NAMES, help="who takes part (default: all, the compiled one on a GPU alone)"
    )
    parser.add_argument("--batch-tokens", type=int, help="of a step (default: 4096, on a GPU 65536)")
    parser.add_argument("--steps", type=int, help="of a turn, about (default: 25, on a GPU 30)")
    parser.set_defaults(rounds=None)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps, options.batch_tokens = 2, options.steps or 3, options.batch_tokens or 1024
    gpu = has_gpu()
    options.contenders = options.contenders or [name for name in NAMES if gpu or name != COMPILED]
    options.rounds = options.rounds or (3 if gpu else 5)
    options.steps = options.steps or (30 if gpu else 25)
    options.batch_tokens = options.batch_tokens or (65_536 if gpu else 4096)
    return options


def has_gpu() -> bool:
    """Whether all of them train on a GPU."""
    return torch.cuda.is_available()


# The texts, as the same tokens for all.


def files(given: Path | None) -> list[Path]:
    """The text files to measure on, each by itself."""
    if given is None:
        return [common.data("corpora", f"{name}.txt.xz") for name in CORPORA]
    return sorted(given.glob("*.txt*")) if given.is_dir() else [given]


def read(options: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    """Writes a vocabulary, tokens as Regard reads them, and the same sequences as rows of ids; says what they are."""
    from regard.data.corpus import Corpus, sentences
    from regard.data.passages import of_tokens
    from regard.data.tokens import Document, write
    from regard.text.vocabulary import language

    tokenizer = learn(options, path)
    tokenizer.save(folder)
    wanted = (WARM + options.steps) * options.batch_tokens
    texts = some((line for line in Corpus(path).lines() if line.strip()), tokenizer, wanted)
    tokens = write(folder / "tokens", (Document("\n".join(sentences(t)), language(t)) for t in texts), tokenizer)
    rows = [passage.encoding.ids for passage in of_tokens(tokens, tokenizer, length=LENGTH)]
    lengths = [len(row) for row in rows]
    if sum(lengths) < 0.9 * wanted:
        raise SystemExit(f"{path} has {sum(lengths):,} tokens, not {wanted:,}. Lower --steps, or name a longer file.")
    np.savez(folder / "rows.npz", ids=np.concatenate(rows), ends=np.cumsum(lengths))
    return {"sequences": len(rows), "mean_length": statistics.mean(lengths), "vocabulary": tokenizer.size}


def learn(options: argparse.Namespace, path: Path) -> Any:
    """The tokenizer of a published vocabulary, or of one that is learnt from the beginning of the file."""
    from regard.data.corpus import Corpus
    from regard.text.vocabulary import Counts, tokenizer, train

    if options.vocabulary:
        return tokenizer([*Corpus(options.vocabulary).lines()], lowercase=True)
    counts = Counts()
    for line in Corpus(path).lines():
        counts.add(line)
        if counts.characters >= LEARNT:
            break
    return train(counts, SIZE)


def some(texts: Iterable[str], tokenizer: Any, wanted: int) -> Iterator[str]:
    """As many of the first texts as have so many tokens."""
    for text in texts:
        yield text
        wanted -= len(tokenizer.encode([text], max_length=1 << 30)[0].ids)
        if wanted <= 0:
            return


# The contenders: each tells the clock of every batch, once it is at hand.


class Clock:
    """What all steps but the first ones took and went through."""

    def __init__(self) -> None:
        self.steps, self.began = 0, 0.0
        self.counts: tuple[Any, ...] = (0, 0, 0)

    def now(self) -> float:
        """Seconds, once the device has done what it was given."""
        if has_gpu():
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(self, *counts: Any) -> None:
        """A batch with so many tokens, so many of them hidden, in so many places, padding included."""
        self.steps += 1
        if self.steps == WARM + 1:
            self.began = self.now()
        if self.steps > WARM:
            self.counts = tuple(map(sum, zip(self.counts, counts, strict=True)))

    def figures(self) -> dict[str, float]:
        """The time until now, and the counts."""
        seconds = self.now() - self.began
        return dict(zip(("seconds", "tokens", "hidden", "places"), (seconds, *map(int, self.counts)), strict=True))


def regard(options: argparse.Namespace) -> dict[str, float]:
    """A recipe's run without folder and evaluations; also the operations that a token costs."""
    from torch._dynamo.utils import counters

    from regard.data.ahead import ahead
    from regard.data.masking import Masking
    from regard.data.running_text import RunningText
    from regard.data.tokens import Tokens
    from regard.pretrain import RATES, prepare
    from regard.recipe import BudgetRecipe, Pretraining, ShapeRecipe, TextRecipe
    from regard.text.tokenizer import Tokenizer
    from regard.train.compile import compile_training
    from regard.train.loop import Outside, fit, in_bfloat16
    from regard.train.optim import Optimizer
    from regard.train.plans import Budget

    dropout, size, clock = OURS[options.probe], options.batch_tokens, Clock()
    shape = ShapeRecipe(**SHAPES[options.shape], dropout=dropout, attention_dropout=dropout)
    recipe = Pretraining(
        text=TextRecipe(length=LENGTH), model=shape, train=BudgetRecipe(batch_tokens=size), seed=options.seed
    )
    tokenizer = Tokenizer.load(options.scratch)
    tokens, settings = Tokens(options.scratch / "tokens", tokenizer), recipe.train
    none = np.zeros(len(tokens.documents), dtype=bool)
    lesson = prepare(recipe, RunningText(tokens, tokenizer, {}, "", []), none, common.say, None)
    if options.probe == COMPILED:
        compile_training(lesson.trained)
    loader = lesson.batches(Masking(RATE), ~none)
    plan = Budget(
        amount=WARM + options.steps, unit="steps", warmup=settings.warmup, cooldown=settings.cooldown,
        batch_tokens=size, most=size, ramp=0, evaluations=0,
        bfloat16=in_bfloat16(settings.precision, lesson.system.device),
    )  # fmt: skip
    optimizer = Optimizer(
        lesson.trained, learning_rate=RATES[0], weight_decay=settings.weight_decay, layer_decay=1.0,
        clip=settings.clip,
    )  # fmt: skip

    reader, graphs = ahead(loader, lesson.system.device), 0

    def batches(place: tuple[int, int], cooled: float) -> Any:
        nonlocal graphs
        found = reader(place, cooled)
        count = len(found[2].packed.ids)
        clock.step(count, len(found[2].places), count)
        if clock.steps == WARM + 1:
            graphs = counters["stats"]["unique_graphs"]
        return found

    fit(lesson.trained, lesson.objective(), batches, optimizer=optimizer, plan=plan, outside=Outside())
    each = lesson.operations(loader.lengths, RATE) / loader.lengths.sum()
    late = counters["stats"]["unique_graphs"] - graphs
    return clock.figures() | {"operations": float(each), "compiled_late": late}


def trainer(options: argparse.Namespace) -> dict[str, float]:
    """transformers' Trainer as run_mlm calls it."""
    import transformers as hub

    from regard.model.precision import has_bfloat16

    tokenizer, clock = hub.AutoTokenizer.from_pretrained(options.scratch), Clock()
    name, shape = options.probe, SHAPES[options.shape]
    dropout = THEIRS[name]
    config = hub.BertConfig(
        vocab_size=len(tokenizer), hidden_size=shape["width"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], intermediate_size=shape["inner_width"], max_position_embeddings=LENGTH,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    rows, size = ordered(options, name, tokenizer)
    # By default the Trainer takes the mask of special tokens away, as no argument of the model, and the collator makes
    # it anew, number by number.
    best = {
        "bf16": has_bfloat16(torch.device("cuda" if has_gpu() else "cpu")), "remove_unused_columns": False,
        "dataloader_num_workers": 4 if has_gpu() else 0, "logging_nan_inf_filter": False,
        "train_sampling_strategy": "sequential" if name == LINES else "random",
    }  # fmt: skip

    class Timed(hub.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
            shown = inputs["attention_mask"]
            clock.step(shown.sum(), (inputs["labels"] >= 0).sum(), shown.numel())
            return super().training_step(model, inputs, *others, **more)

    with tempfile.TemporaryDirectory() as scratch:
        settings = hub.TrainingArguments(
            scratch, max_steps=WARM + options.steps, dataloader_drop_last=True, per_device_train_batch_size=size,
            seed=options.seed, use_cpu=not has_gpu(), report_to="none", save_strategy="no", disable_tqdm=True,
            **({} if name == DEFAULT else best),
        )  # fmt: skip
        collate = hub.DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE)
        loop = Timed(hub.BertForMaskedLM(config), settings, collate, rows, processing_class=tokenizer)
        loop.remove_callback(hub.PrinterCallback)  # the tables alone go to the output
        loop.train()
    return clock.figures()


def ordered(options: argparse.Namespace, name: str, tokenizer: Any) -> tuple[list[dict[str, list[int]]], int]:
    """The rows as a tokenizer gives them, and how many make a batch.

    Where those of like length go together they lie batch by batch, in random order: group_by_length itself comes to
    that in a long run alone, for it sorts a quarter of the rows, or at most 50 batches, at a time.
    """
    stored = np.load(options.scratch / "rows.npz")
    ids, ends = stored["ids"], stored["ends"]
    if name not in (DEFAULT, LINES):
        ends = np.arange(LENGTH, len(ids) + 1, LENGTH)
    size = round(options.batch_tokens * len(ends) / ends[-1])
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    rows = [
        {
            "input_ids": row, "token_type_ids": [0] * len(row), "attention_mask": [1] * len(row),
            "special_tokens_mask": [int(number in special) for number in row],
        }
        for row in (part.tolist() for part in np.split(ids, ends)[: len(ends)])
    ]  # fmt: skip
    if name == LINES:
        rows.sort(key=lambda row: -len(row["input_ids"]))
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        last = [batches.pop()] if len(rows) % size else []
        random.Random(options.seed).shuffle(batches)
        rows = [row for batch in batches + last for row in batch]
    return rows, size


# Speed and memory.


def measure(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Tokens a second of all contenders on one file, ratios, the share of the machine's peak, and peak memory."""
    from regard.model.cost import peak
    from regard.train.loop import in_bfloat16

    scratch = tempfile.TemporaryDirectory()
    about = read(options, path, Path(scratch.name))
    common.say(f"{path.name}: {about['sequences']:,} sequences, {about['mean_length']:.1f} tokens on average")
    device = torch.device("cuda" if has_gpu() else "cpu")
    precision = torch.bfloat16 if in_bfloat16("auto", device) else torch.float32
    found: dict[str, list[dict[str, float]]] = {name: [] for name in options.contenders}
    given = [f"--{key}={getattr(options, key.replace('-', '_'))}" for key in ("shape", "seed", "steps", "batch-tokens")]

    def turn(name: str) -> float:
        said = common.probe(__file__, name, [f"--scratch={scratch.name}", *given])
        if name in OURS:
            if said["compiled_late"]:
                common.say(f"  {said['compiled_late']} graphs were compiled while the clock ran")
            said["peak"] = peak.__wrapped__(device, precision)  # now, for other programs come and go
            said["share"] = said["operations"] * said["tokens"] / said["seconds"] / said["peak"]
        found[name].append(said)
        return said["seconds"]

    common.take_turns({name: lambda name=name: turn(name) for name in found}, options.rounds)
    each = {name: [said["seconds"] / said["tokens"] for said in turns] for name, turns in found.items()}
    results = {}
    for name, turns in found.items():
        results[name] = {
            "tokens_per_second": common.spread([1 / seconds for seconds in each[name]]),
            "hidden_per_second": common.spread([said["hidden"] / said["seconds"] for said in turns]),
            "times_default": common.ratios(each[DEFAULT], each[name]) if DEFAULT in each else None,
            "times_best": common.ratios(each[BEST], each[name]) if BEST in each else None,
            "padding": 1 - sum(said["tokens"] for said in turns) / sum(said["places"] for said in turns),
            "share_of_peak": common.spread([said["share"] for said in turns]) if name in OURS else None,
            "peak": common.spread([said["peak"] for said in turns]) if name in OURS else None,
            "peak_memory_mib": max(said["peak_mib"] for said in turns),
            "turns": turns,
        }
    scratch.cleanup()
    return about | {"results": results}


def render(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    shape = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in SHAPES[report["shape"]].items())
    settings = {
        "shape": f"{report['shape']} ({shape})", "sequences": f"at most {LENGTH} tokens", "rate": RATE,
        "steps": f"about {report['steps']} of {report['batch_tokens']:,} tokens", "rounds": report["rounds"],
    }  # fmt: skip
    out = [common.heading("Pre-training", report["machine"], settings)]
    head = ["contender", "tokens/s", "hidden/s", "times default", "times best", "padding", "share of peak", "peak MiB"]
    forms = {"tokens_per_second": ",.0f", "hidden_per_second": ",.0f", "times_default": ".2f", "times_best": ".2f"}
    for name, text in report["texts"].items():
        rows = [
            [who, *(common.figure(row[key], form) for key, form in forms.items()), f"{row['padding']:.0%}",
             common.figure(row["share_of_peak"], ".0%"), f"{row['peak_memory_mib']:,.0f}"]
            for who, row in text["results"].items()
        ]  # fmt: skip
        peaks = [each / 1e12 for row in text["results"].values() for each in (row["peak"] or {}).values()]
        out.append(
            f"{name}, {text['sequences']:,} sequences of {text['mean_length']:.0f} tokens on average, "
            f"{text['vocabulary']:,} ids"
            + (f"; peak: {min(peaks):,.2f} to {max(peaks):,.2f} TFLOP/s" if peaks else "")
            + f":\n\n{common.table(head, rows)}\n"
        )
    return "\n".join(out)


if __name__ == "__main__":
    main()
