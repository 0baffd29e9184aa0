"""Fine-tuning a classifier: Regard beside transformers, on one machine, in one run, with the same settings.

One epoch over the same labelled texts, from strings to a trained model: batches of 32 texts, AdamW at 2e-5 with weight
decay 0.01, a linear schedule with a tenth of warm-up, gradients clipped at 1, dropout as the checkpoint has it, the
first token through the pooler. Tokenization counts; loading the checkpoint and evaluation do not.

    transformers default    float32; its Trainer, or, where accelerate is not installed, the loop its users write
    transformers best       a plain loop without the Trainer's overhead: bfloat16 autocast, batches of like length
                            (its LengthGroupedSampler), padded in each batch, fused AdamW
    regard float32          like for like in precision
    regard                  precision auto: bfloat16 where the processor has it

Each turn is a process of its own, as users run one library and not two, which first trains on two batches that do not
count. With --texts the epoch is over that many texts and the seconds of a whole one are extrapolated in proportion.

With --accuracy Regard and one of transformers' loops (--peer) are trained to the end instead, on several seeds, with
settings that suit the checkpoint (chosen on its validation split), and measured on the test split; results are appended
to a JSON-lines file, and pairs of contender and seed that it already holds are not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import common

DATA = {"minilm-l6": "sst2", "gte-small": "sst2", "m3e-small": "zh_chnsenticorp"}
FILES = {"sst2": "stsa.binary.{}.gz", "zh_chnsenticorp": "{}.tsv.gz"}
DECAY, WARMUP, CLIP = 0.01, 0.1, 1.0
SPEED = {"rate": 2e-5, "pooling": "first", "max_length": 512, "batch": 32, "layer_decay": 1.0, "epochs": 1}
ACCURACY = {
    "minilm-l6": {"rate": 1e-4, "epochs": 3},
    "gte-small": {"rate": 2e-4, "epochs": 3, "pooling": "mean", "layer_decay": 0.85},
    "m3e-small": {"rate": 1e-4, "epochs": 2, "pooling": "mean", "max_length": 128},
}
DEFAULT, BEST, OURS = "transformers default", "transformers best", "regard"
NAMES = (DEFAULT, BEST, "regard float32", OURS)
SHUFFLED = "transformers bfloat16"  # its best, but in shuffled batches, as Regard's are: for accuracy alone
Texts, Labels = list[str], list[int]


def main() -> None:
    """Runs the benchmark, or, in a child process, one contender's job."""
    options = _options()
    common.settle()
    if options.probe:
        common.tell_probe(seconds=alone(options))
        return
    if options.accuracy:
        report = accuracy(options)
        common.deliver(report, render_accuracy(report), options)
        return
    report = measure(options)
    common.deliver(report, render(report), options)


def _options() -> argparse.Namespace:
    parser = common.arguments(
        __doc__, "python benchmarks/finetune.py --model minilm-l6 --texts 1920 --out finetune.json\n"
        "  python benchmarks/finetune.py --accuracy --runs accuracy.jsonl",
    )  # fmt: skip
    parser.add_argument("--model", choices=tuple(DATA), default="minilm-l6", help="checkpoint (default: minilm-l6)")
    parser.add_argument("--texts", type=int, default=0, help="train on this many texts; 0: on all (default)")
    parser.add_argument("--accuracy", action="store_true", help="train to the end and measure on the test split")
    parser.add_argument(
        "--peer", choices=(DEFAULT, BEST, SHUFFLED), default=SHUFFLED, help=f"for --accuracy (default: {SHUFFLED})"
    )
    parser.add_argument("--epochs", type=int, help="this and the following: by checkpoint with --accuracy (default: 1)")
    parser.add_argument("--rate", type=float, help="learning rate (default: 2e-5)")
    parser.add_argument("--pooling", choices=("first", "mean"), help="default: first")
    parser.add_argument("--max-length", type=int, help="tokens of a text (default: 512)")
    parser.add_argument("--batch", type=int, help="texts of a batch (default: 32)")
    parser.add_argument("--layer-decay", type=float, help="each layer's rate over that of the next (default: 1)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on, with --accuracy (default: 3)")
    parser.add_argument("--runs", type=Path, default=Path("accuracy.jsonl"), help="finished runs of --accuracy")
    options = parser.parse_args()
    for key, value in (SPEED | (ACCURACY[options.model] if options.accuracy else {})).items():
        setattr(options, key, getattr(options, key) or value)
    if options.layer_decay != 1 and (options.peer == DEFAULT or not options.accuracy):
        parser.error("The Trainer has no rates by layer. Set --layer-decay 1, or name another --peer with --accuracy.")
    if options.quick:
        options.rounds, options.texts, options.seeds = 2, options.texts or 5 * options.batch, 1
    return options


# The data, read by Regard for all, so that nobody sees other rows than anybody else.


def gather(options: argparse.Namespace) -> Any:
    """The task's splits, the training split cut to a seeded draw of --texts."""
    from regard.data.task import gather as read
    from regard.data.task import take

    task = read(_recipe(options).data, seed=options.seed)
    count = len(task.train.texts)
    picked = sorted(random.Random(options.seed).sample(range(count), min(count, options.texts or count)))
    return dataclasses.replace(task, train=take(task.train, picked), validation=take(task.validation, []))


def _recipe(options: argparse.Namespace, *, precision: str = "auto", seed: int | None = None) -> Any:
    from regard.recipe import DataRecipe, ModelRecipe, Recipe, TrainRecipe

    name = DATA[options.model]
    train, validation, test = (str(common.data(name, FILES[name].format(s))) for s in ("train", "dev", "test"))
    return Recipe(
        data=DataRecipe(
            train=train, validation=validation, test=test, format="lines" if name == "sst2" else "auto",
            max_length=options.max_length,
        ),
        model=ModelRecipe(name=str(common.checkpoint(options.model)), pooling=options.pooling),
        train=TrainRecipe(
            epochs=options.epochs, batch_size=options.batch, learning_rate=options.rate,
            layer_decay=options.layer_decay, weight_decay=DECAY, warmup=WARMUP, schedule="linear", clip=CLIP,
            precision=precision,
        ),
        seed=options.seed if seed is None else seed,
    )  # fmt: skip


# The contenders: each gives a function that trains, and one that predicts classes afterwards.

Contender = tuple[Callable[[], None], Callable[[Sequence[str]], list[int]]]


def make(name: str, options: argparse.Namespace, *, task: Any = None, seed: int | None = None) -> Contender:
    """A contender with a freshly loaded checkpoint."""
    task = gather(options) if task is None else task
    seed = options.seed if seed is None else seed
    if name.startswith("regard"):
        return regard(options, task, "float32" if name.endswith("float32") else "auto", seed)
    if name == DEFAULT and has_accelerate():
        return trainer(options, task.train, seed)
    return plain(options, task.train, seed, short=name != DEFAULT, by_length=name == BEST)


def has_accelerate() -> bool:
    """Whether transformers' Trainer can be used."""
    from transformers.utils import is_accelerate_available

    return bool(is_accelerate_available())


def regard(options: argparse.Namespace, task: Any, precision: str, seed: int) -> Contender:
    """A run of Regard without a folder."""
    import torch

    from regard import run

    recipe = _recipe(options, precision=precision, seed=seed)
    torch.manual_seed(seed)
    system = run.prepare(recipe, task)

    def train() -> None:
        run.learn(system, recipe, task)

    return train, lambda texts: [int(row) for row in system.predict(texts).argmax(1)]


def _hub_model(options: argparse.Namespace, classes: int, seed: int) -> tuple[Any, Any]:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(seed)
    folder = common.checkpoint(options.model)
    if options.pooling == "mean":
        model = _mean_pooled(folder, classes)
    else:
        model = BertForSequenceClassification.from_pretrained(folder, num_labels=classes, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(folder), model


def _mean_pooled(folder: Path, classes: int) -> Any:
    """What users of transformers write for a sentence encoder, whose folder has no trained pooler."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModel

    class MeanPooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)
            self.dropout = torch.nn.Dropout(self.encoder.config.hidden_dropout_prob)
            self.classifier = torch.nn.Linear(self.encoder.config.hidden_size, classes)
            torch.nn.init.normal_(self.classifier.weight, std=self.encoder.config.initializer_range)
            torch.nn.init.zeros_(self.classifier.bias)

        def forward(self, attention_mask: Any, labels: Any = None, **inputs: Any) -> Any:
            hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
            shown = attention_mask.unsqueeze(-1).to(hidden.dtype)
            logits = self.classifier(self.dropout((hidden * shown).sum(1) / shown.sum(1))).float()
            loss = None if labels is None else cross_entropy(logits, labels)
            return argparse.Namespace(loss=loss, logits=logits)

    return MeanPooled()


def trainer(options: argparse.Namespace, examples: Any, seed: int) -> Contender:
    """transformers' Trainer as its documentation shows it."""
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    tokenizer, model = _hub_model(options, len(examples.names), seed)
    scratch = tempfile.TemporaryDirectory()
    settings = TrainingArguments(
        scratch.name, num_train_epochs=options.epochs, per_device_train_batch_size=options.batch,
        learning_rate=options.rate, weight_decay=DECAY, lr_scheduler_type="linear", warmup_steps=WARMUP,
        max_grad_norm=CLIP, seed=seed, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip

    def train() -> None:
        rows = _tokenized(tokenizer, examples.texts, examples.labels, options.max_length)
        loop = Trainer(model, settings, DataCollatorWithPadding(tokenizer), rows, processing_class=tokenizer)
        loop.remove_callback(PrinterCallback)  # the tables alone go to the output
        loop.train()
        scratch.cleanup()

    return train, lambda found: _predict(tokenizer, model, found, options.max_length)


def plain(options: argparse.Namespace, examples: Any, seed: int, *, short: bool, by_length: bool) -> Contender:
    """The training loop that users of transformers write themselves; `short`: in bfloat16."""
    import torch
    from transformers import DataCollatorWithPadding, get_linear_schedule_with_warmup

    tokenizer, model = _hub_model(options, len(examples.names), seed)

    def train() -> None:
        rows = _tokenized(tokenizer, examples.texts, examples.labels, options.max_length)
        loader = torch.utils.data.DataLoader(
            rows, options.batch, collate_fn=DataCollatorWithPadding(tokenizer), **_order(rows, options, seed, by_length)
        )
        optimizer = torch.optim.AdamW(_groups(model, options), fused=True)
        steps = options.epochs * len(loader)
        rates = get_linear_schedule_with_warmup(optimizer, math.ceil(WARMUP * steps), steps)
        model.train()
        for batch in _epochs(loader, options.epochs):
            with torch.autocast("cpu", torch.bfloat16, enabled=short):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()

    return train, lambda found: _predict(tokenizer, model, found, options.max_length)


def _epochs(loader: Any, epochs: int) -> Iterator[Any]:
    for _ in range(epochs):
        yield from loader


def _order(rows: list[dict[str, Any]], options: argparse.Namespace, seed: int, by_length: bool) -> dict[str, Any]:
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    generator = torch.Generator().manual_seed(seed)
    if not by_length:
        return {"shuffle": True, "generator": generator}
    lengths = [len(row["input_ids"]) for row in rows]
    return {"sampler": LengthGroupedSampler(options.batch, lengths=lengths, generator=generator)}


def _groups(model: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Matrices decay, biases and norms do not, as the Trainer has it; the head learns at the full rate."""
    depths = {}
    for name, _ in model.named_parameters():
        layer = re.search(r"\.layer\.(\d+)\.", name)
        depths[name] = 1 + int(layer.group(1)) if layer else 0 if "embeddings" in name else -1
    top = 1 + max(depths.values())
    found: dict[tuple[int, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        depth = top if depths[name] < 0 else depths[name]
        found.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": ps, "weight_decay": DECAY * matrix, "lr": options.rate * options.layer_decay ** (top - depth)}
        for (depth, matrix), ps in found.items()
    ]


def _tokenized(tokenizer: Any, texts: Texts, labels: Labels, length: int) -> list[dict[str, Any]]:
    found = tokenizer(texts, truncation=True, max_length=length)
    return [{**{k: v[i] for k, v in found.items()}, "labels": labels[i]} for i in range(len(texts))]


def _predict(tokenizer: Any, model: Any, texts: Sequence[str], length: int) -> list[int]:
    import torch

    model.eval()
    out: list[int] = []
    for start in range(0, len(texts), 32):
        part = list(texts[start : start + 32])
        inputs = tokenizer(part, padding=True, truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            out += model(**inputs).logits.argmax(-1).tolist()
    return out


# Speed and memory.


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch, ratios and peak memory."""
    place = common.machine()
    task = gather(options)
    tokens = count_tokens(options, task)
    common.say(f"{len(task.train.texts):,} texts, {tokens:,} tokens an epoch")
    peaks: dict[str, list[float]] = {name: [] for name in NAMES}

    def turn(name: str) -> float:
        found = common.probe(__file__, name, _child(options))
        peaks[name].append(found["peak_mib"])
        return found["seconds"]

    seconds = common.take_turns({name: lambda name=name: turn(name) for name in NAMES}, options.rounds)
    whole = whole_epoch(options)
    factor = whole / len(task.train.texts) / options.epochs
    results: dict[str, dict[str, Any]] = {}
    for name, took in seconds.items():
        results[name] = {
            "seconds": took,
            "seconds_per_epoch": common.spread([s * factor for s in took]),
            "tokens_per_second": common.spread([options.epochs * tokens / s for s in took]),
            **{f"times_{peer.replace(' ', '_')}": common.ratios(seconds[peer], took) for peer in (DEFAULT, BEST)},
            "peak_memory_mib": max(peaks[name]),
        }
    place["others_used"] = common.others_used()
    return {
        "benchmark": "finetune", "machine": place, "model": options.model, "data": DATA[options.model],
        "rounds": options.rounds, "seed": options.seed, "epochs": options.epochs, "texts": len(task.train.texts),
        "texts_of_a_whole_epoch": whole, "tokens": tokens, "settings": settings(options), "results": results,
    }  # fmt: skip


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What is the same for all, and which loop stands for transformers' default."""
    return {
        "batch_size": options.batch, "learning_rate": options.rate, "layer_decay": options.layer_decay,
        "pooling": options.pooling, "max_length": options.max_length, "weight_decay": DECAY, "warmup": WARMUP,
        "clip": CLIP, "schedule": "linear", "default_loop": "Trainer" if has_accelerate() else "plain loop",
    }  # fmt: skip


def whole_epoch(options: argparse.Namespace) -> int:
    """How many texts the whole training split has."""
    return len(gather(argparse.Namespace(**vars(options) | {"texts": 0})).train.texts)


def count_tokens(options: argparse.Namespace, task: Any) -> int:
    """Tokens of one epoch, without padding."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(common.checkpoint(options.model))
    return sum(
        len(ids) for ids in tokenizer(task.train.texts, truncation=True, max_length=options.max_length)["input_ids"]
    )


def alone(options: argparse.Namespace) -> float:
    """In a child process: the seconds of one contender's epochs."""
    small = argparse.Namespace(**vars(options) | {"texts": 2 * options.batch, "epochs": 1})
    make(options.probe, small)[0]()
    train, _ = make(options.probe, options)
    began = time.perf_counter()
    train()
    return time.perf_counter() - began


def _child(options: argparse.Namespace) -> list[str]:
    given = ("model", "seed", "texts", "epochs", "batch", "rate", "pooling", "max_length")
    return [word for key in given for word in (f"--{key.replace('_', '-')}", str(getattr(options, key)))]


def render(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    part, whole = report["texts"] * report["epochs"], report["texts_of_a_whole_epoch"]
    shared = {
        "data": f"{report['data']}, {report['texts']:,} texts, {report['tokens']:,} tokens",
        "seconds of an epoch": "measured" if part == whole else f"extrapolated from {part:,} texts to {whole:,}",
        "rounds": report["rounds"],
        **report["settings"],
    }
    head = ["contender", "seconds an epoch", "tokens/s", "times default", "times best", "peak MiB"]
    rows = [
        [
            name,
            common.figure(row["seconds_per_epoch"], ",.1f"),
            common.figure(row["tokens_per_second"]),
            common.figure(row["times_transformers_default"], ".2f"),
            common.figure(row["times_transformers_best"], ".2f"),
            f"{row['peak_memory_mib']:,.0f}",
        ]
        for name, row in report["results"].items()
    ]
    title = common.heading(f"Fine-tuning {report['model']}", report["machine"], shared)
    return f"{title}\n{common.table(head, rows)}"


# Accuracy.


def accuracy(options: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy of each contender and seed; takes up a file of finished runs."""
    task = gather(options)
    for seed in range(options.seeds):
        for name in (OURS, options.peer):
            key = _key(options, task, name, seed)
            if any(row["key"] == key for row in common.finished(options.runs)):
                common.say(f"  {name}, seed {seed}: already in {options.runs}")
                continue
            row = {"key": key, **_trained(options, task, name, seed)}
            common.keep(options.runs, row)
            common.say(f"  {name}, seed {seed}: {row['accuracy']:.4f} after {row['seconds']:.0f} s")
    keys = [_key(options, task, name, seed) for name in (OURS, options.peer) for seed in range(options.seeds)]
    return {
        "benchmark": "finetune accuracy", "machine": common.machine(), "model": options.model,
        "data": DATA[options.model], "texts": len(task.train.texts), "tested": len(task.test.texts),
        "epochs": options.epochs, "settings": settings(options), "contenders": [OURS, options.peer],
        "runs": [row for row in common.finished(options.runs) if row["key"] in keys],
    }  # fmt: skip


def _key(options: argparse.Namespace, task: Any, name: str, seed: int) -> dict[str, Any]:
    return {
        "contender": name, "seed": seed, "model": options.model, "data": DATA[options.model],
        "texts": len(task.train.texts), "epochs": options.epochs, "rate": options.rate, "pooling": options.pooling,
        "max_length": options.max_length, "batch": options.batch, "layer_decay": options.layer_decay,
    }  # fmt: skip


def _trained(options: argparse.Namespace, task: Any, name: str, seed: int) -> dict[str, Any]:
    train, predict = make(name, options, task=task, seed=seed)
    began = time.perf_counter()
    train()
    seconds = time.perf_counter() - began
    right = [int(a == b) for a, b in zip(predict(task.test.texts), task.test.labels, strict=True)]
    return {"accuracy": statistics.mean(right), "seconds": seconds, "right": "".join(map(str, right))}


def render_accuracy(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    shared = {
        "data": f"{report['data']}, {report['texts']:,} texts, tested on {report['tested']:,}",
        "epochs": report["epochs"],
        **report["settings"],
    }
    rows = []
    for name in report["contenders"]:
        runs = [row for row in report["runs"] if row["key"]["contender"] == name]
        found, took = [row["accuracy"] for row in runs], [row["seconds"] for row in runs]
        deviation = f"{statistics.stdev(found):.4f}" if len(found) > 1 else "-"
        each = ", ".join(f"{value:.4f}" for value in found)
        rows.append([name, f"{statistics.mean(found):.4f}", deviation, each, common.figure(common.spread(took))])
    head = ["contender", "mean accuracy", "deviation", "each seed", "seconds a run"]
    title = common.heading(f"Accuracy of {report['model']} after fine-tuning", report["machine"], shared)
    return f"{title}\n{common.table(head, rows)}\n\n{_difference(report)}"


def _difference(report: dict[str, Any]) -> str:
    """Ours minus the peer's, by the share of seeds that got each text right, with a bootstrap interval over texts."""
    import numpy as np

    from regard.measure.resample import paired_difference, row_mean

    shares = [
        np.mean([[*map(int, run["right"])] for run in report["runs"] if run["key"]["contender"] == name], axis=0)
        for name in report["contenders"]
    ]
    found = paired_difference(row_mean, shares[0], first=shares[0], second=shares[1])
    return f"Difference of the means, paired by text: {found} (95 % over texts; seeds are few)."


if __name__ == "__main__":
    main()
