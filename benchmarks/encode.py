"""Texts to mean-pooled vectors: Regard beside transformers and onnxruntime, on one machine, in one run.

About 1,000 real texts of very different lengths (a seeded mix of short sentences or titles, questions or reviews, and
paragraphs) go in as strings and come out as one vector each, so tokenization counts. All contenders use all cores.

    transformers default    float32, batches of 32 in the order given, padding=True, truncation=True
    transformers best       bfloat16 weights, sorted by length, best batch size of 16, 32, 64 and 128 (a short trial)
    onnxruntime float32     exported by torch.onnx (dynamo), sorted by length, batches of 32, without torch
    onnxruntime int8        the same after quantize_dynamic
    regard float32, regard bfloat16

Three tables: the mix; one short text at a time; and what the float32 residual stream of Regard's bfloat16 costs and
buys against a stream in bfloat16. Cosines are with the vectors of `transformers default`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Array]
MODELS = ("minilm-l6", "gte-small", "m3e-small")
MAX_LENGTH = 512
BATCH = 32
BATCHES = (16, 32, 64, 128)
DEFAULT, BEST = "transformers default", "transformers best"
ONNX = {"onnxruntime float32": "model.onnx", "onnxruntime int8": "model.int8.onnx"}
REGARD = {"regard float32": "float32", "regard bfloat16": "bfloat16"}
NAMES = (DEFAULT, BEST, *ONNX, *REGARD)
STREAM = "regard bfloat16, stream too"


def main() -> None:
    """Runs the benchmark, or, in a child process, one contender's job."""
    options = _options()
    common.settle(torch=options.probe not in ONNX)
    if options.probe:
        make(options.probe, options.model, options.scratch, options.batch)(mix(options))
        common.tell_probe()
        return
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(options, Path(scratch))
    common.deliver(report, render(report), options)


def _options() -> argparse.Namespace:
    parser = common.arguments(
        __doc__, "python benchmarks/encode.py --model gte-small --out encode.json --markdown encode.md"
    )
    parser.add_argument("--model", choices=MODELS, default="minilm-l6", help="which checkpoint (default: minilm-l6)")
    parser.add_argument("--texts", type=int, default=1000, help="how many texts (default: 1000)")
    parser.add_argument("--batch", type=int, default=0, help="batch size of transformers best; 0: try (default)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the child processes that measure memory")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.texts = 2, min(options.texts, 120)
    return options


# The texts.


def mix(options: argparse.Namespace) -> list[str]:
    """The texts, shuffled, the kinds in equal parts."""
    kinds = _chinese() if options.model == "m3e-small" else _english()
    draw = random.Random(options.seed)
    share = -(-options.texts // len(kinds))
    texts = [text for kind in kinds for text in draw.sample(sorted(set(kind)), share)]
    draw.shuffle(texts)
    return texts[: options.texts]


def _english() -> list[list[str]]:
    sentences = [line.split(" ", 1)[1] for line in common.lines("sst2", "stsa.binary.test.gz")]
    paragraphs, questions = _reading("squad", "squaddev_v1.1.json.gz")
    return [sentences, paragraphs, questions]


def _chinese() -> list[list[str]]:
    reviews = [line.split("\t", 1)[1] for line in common.lines("zh_chnsenticorp", "test.tsv.gz")[1:]]
    titles = [line.rsplit("\t", 1)[0] for line in common.lines("zh_thucnews_titles", "test.txt.gz")]
    return [reviews, _reading("zh_cmrc2018", "cmrc2018_dev.json.gz")[0], titles]


def _reading(*path: str) -> tuple[list[str], list[str]]:
    found = common.document(*path)
    paragraphs = [p for article in found["data"] for p in article["paragraphs"]]
    return [p["context"] for p in paragraphs], [q["question"] for p in paragraphs for q in p["qas"]]


def short(texts: Sequence[str], folder: Path, count: int) -> list[str]:
    """Texts of about 20 tokens, those of the mix that come nearest."""
    tokenizer = hub_tokenizer(folder)
    lengths = [len(ids) for ids in tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]]
    return [texts[i] for i in sorted(range(len(texts)), key=lambda i: abs(lengths[i] - 20))[:count]]


# The contenders: each a function from texts to vectors.


def make(name: str, model: str, scratch: Path, batch: int) -> Encode:
    """A contender, loaded."""
    folder = common.checkpoint(model)
    if name == DEFAULT:
        return transformers_default(folder)
    if name == BEST:
        return transformers_best(folder, batch)
    if name in ONNX:
        return onnxruntime(scratch / ONNX[name])
    if name == STREAM:
        return regard_low_stream(folder)
    return regard(folder, REGARD[name])


def hub_tokenizer(folder: Path) -> Any:
    """The tokenizer as users of transformers load it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def transformers_default(folder: Path) -> Encode:
    """What the library's own examples do."""
    import torch
    from transformers import AutoModel

    tokenizer = hub_tokenizer(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def encode(texts: Sequence[str]) -> Array:
        out = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            inputs = tokenizer(part, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            with torch.no_grad():
                hidden = model(**inputs).last_hidden_state
            out.append(_torch_mean(hidden, inputs["attention_mask"]).numpy())
        return np.concatenate(out)

    return encode


def transformers_best(folder: Path, batch: int) -> Encode:
    """What a user who knows it well does: short precision, batches of like length, no pooler."""
    import torch
    from transformers import AutoModel

    tokenizer = hub_tokenizer(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16, add_pooling_layer=False).eval()

    def run(rows: Sequence[Sequence[int]]) -> Array:
        inputs = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state
            found: Array = _torch_mean(hidden.float(), inputs["attention_mask"]).numpy()
        return found

    def encode(texts: Sequence[str]) -> Array:
        return _by_length(tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"], batch, run)

    return encode


def onnxruntime(path: Path) -> Encode:
    """A session over an exported model, with the tokenizer that was written beside it; neither needs torch."""
    import onnxruntime as runtime
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = common.cores()
    session = runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def run(rows: Sequence[Sequence[int]]) -> Array:
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, inputs)[0]
        shown = mask[..., None].astype(np.float32)
        found: Array = (hidden * shown).sum(1) / shown.sum(1)
        return found

    return lambda texts: _by_length([e.ids for e in tokenizer.encode_batch_fast(list(texts))], BATCH, run)


def regard(folder: Path, precision: str) -> Encode:
    """Regard as it is loaded, with mean pooling."""
    return _regard_system(folder, precision).encode


def regard_low_stream(folder: Path) -> Encode:
    """Regard in bfloat16 with the residual stream rounded too: norms of a bfloat16 input give bfloat16."""
    import torch

    from regard.model.taps import Tap

    system = _regard_system(folder, "bfloat16")
    tap = Tap(edit={"embeddings.output": lambda x: x.to(torch.bfloat16)})
    system.model.register_forward_pre_hook(lambda module, args, named: (args, named | {"tap": tap}), with_kwargs=True)
    seen: list[torch.dtype] = []
    last = system.model.encoder.blocks[-1]
    check = last.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    system.encode(["one text"])
    check.remove()
    if seen != [torch.bfloat16]:
        raise SystemExit(f"The stream did not stay in bfloat16: the last layer gave {seen}.")
    return system.encode


def _regard_system(folder: Path, precision: str) -> Any:
    from regard.model.pooling import pooler
    from regard.system import load

    system = load(folder, device="cpu", precision=precision)
    system.model.pooling = pooler("mean", system.model.encoder.config.width)
    return system


def _torch_mean(hidden: Any, mask: Any) -> Any:
    mask = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def _by_length(ids: Sequence[Sequence[int]], batch: int, run: Callable[[Sequence[Sequence[int]]], Array]) -> Array:
    """Batches of like length, and the rows back in the order given."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    spans = [order[start : start + batch] for start in range(0, len(order), batch)]
    found = np.concatenate([run([ids[i] for i in rows]) for rows in spans])
    out = np.empty_like(found)
    out[order] = found
    return out


def export(folder: Path, scratch: Path) -> dict[str, Any]:
    """Writes the model in ONNX, in float32 and in int8; says how many products became integer ones."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    wrapped = _Hidden.around(model)
    tokenizer = hub_tokenizer(folder)
    tokenizer.backend_tokenizer.save(str(scratch / "tokenizer.json"))
    inputs = tokenizer(["one text", "another one, and longer"], padding=True, return_tensors="pt")
    names = ("input_ids", "attention_mask", "token_type_ids")
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=MAX_LENGTH)}
    whole, small = (scratch / name for name in ONNX.values())
    torch.onnx.export(
        wrapped, tuple(inputs[n] for n in names), whole, dynamo=True, input_names=list(names), output_names=["hidden"],
        dynamic_shapes=dict.fromkeys(names, axes), external_data=False, verbose=False,
    )  # fmt: skip
    quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
    kinds = [node.op_type for node in onnx.load(small).graph.node]
    return {"integer_products": sum(k.startswith(("MatMulInteger", "DynamicQuantizeMatMul")) for k in kinds)}


class _Hidden:
    @staticmethod
    def around(model: Any) -> Any:
        """The model as a module of three tensors that gives the last hidden state."""
        import torch

        class Hidden(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
                return self.model(
                    input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
                ).last_hidden_state

        return Hidden()


# The measurements.


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All figures."""
    place = common.machine()
    texts = mix(options)
    folder = common.checkpoint(options.model)
    lengths = [len(i) for i in hub_tokenizer(folder)(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]]
    common.say(f"{len(texts)} texts, {sum(lengths):,} tokens; exporting {options.model} to ONNX")
    exported = export(folder, scratch)
    options.batch = options.batch or best_batch(folder, texts)
    contenders = {name: make(name, options.model, scratch, options.batch) for name in NAMES}
    common.say("the mix")
    seconds, vectors = throughput(contenders, texts, options.rounds)
    report = {
        "benchmark": "encode", "machine": place, "model": options.model, "rounds": options.rounds,
        "texts": len(texts), "tokens": sum(lengths), "longest": max(lengths), "shortest": min(lengths),
        "seed": options.seed, "batch_of_transformers_best": options.batch, "onnx": exported,
        "mix": rows(seconds, vectors, len(texts), sum(lengths)),
    }  # fmt: skip
    if not options.no_memory:
        for name, row in report["mix"].items():
            row["peak_memory_mib"] = common.probe(__file__, name, _child(options, scratch))["peak_mib"]
    common.say("one text at a time")
    report["one_text"] = latency(contenders, short(texts, folder, 50), options.rounds)
    common.say("the residual stream")
    streams = {DEFAULT: contenders[DEFAULT], **{n: contenders[n] for n in REGARD}}
    streams[STREAM] = make(STREAM, options.model, scratch, options.batch)
    report["stream"] = stream(streams, texts, vectors, options.rounds, sum(lengths))
    report["machine"]["others_used"] = common.others_used()
    return report


def _child(options: argparse.Namespace, scratch: Path) -> list[str]:
    return [
        *("--model", options.model, "--texts", str(options.texts), "--seed", str(options.seed)),
        *("--batch", str(options.batch), "--scratch", str(scratch)),
    ]


def best_batch(folder: Path, texts: Sequence[str]) -> int:
    """The fastest batch size of transformers' best, on a part of the texts, of two turns each."""
    part = list(texts[: max(2 * max(BATCHES), len(texts) // 3)])
    runs = {str(size): transformers_best(folder, size) for size in BATCHES}
    next(iter(runs.values()))(part)
    common.say("batch sizes for transformers best")
    found = common.take_turns({k: common.timed(lambda run=run: run(part)) for k, run in runs.items()}, 2)
    return int(min(found, key=lambda size: min(found[size])))


def throughput(
    contenders: dict[str, Encode], texts: Sequence[str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Array]]:
    """Seconds for all texts, round by round, and the vectors; a first turn of each is not counted."""
    vectors = {name: encode(texts) for name, encode in contenders.items()}
    runs = {name: common.timed(lambda encode=encode: encode(texts)) for name, encode in contenders.items()}
    return common.take_turns(runs, rounds), vectors


def rows(
    seconds: dict[str, list[float]], vectors: dict[str, Array], texts: int, tokens: int
) -> dict[str, dict[str, Any]]:
    """Speed, ratios and likeness of each contender."""
    return {
        name: {
            "seconds": took,
            "texts_per_second": common.spread([texts / s for s in took]),
            "tokens_per_second": common.spread([tokens / s for s in took]),
            **{f"times_{peer.replace(' ', '_')}": common.ratios(seconds[peer], took)
               for peer in (DEFAULT, BEST) if peer in seconds},
            "cosine": likeness(vectors[name], vectors[DEFAULT]),
        }
        for name, took in seconds.items()
    }  # fmt: skip


def likeness(vectors: Array, law: Array) -> dict[str, float]:
    """The least and the mean cosine, in double precision."""
    a, b = vectors.astype(np.float64), law.astype(np.float64)
    found = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return {"least": float(found.min()), "mean": float(found.mean())}


def latency(contenders: dict[str, Encode], texts: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds for one text of about 20 tokens: in each round the median over the texts."""

    def one_by_one(encode: Encode) -> float:
        took = []
        for text in texts:
            began = time.perf_counter()
            encode([text])
            took.append(time.perf_counter() - began)
        return float(np.median(took))

    for encode in contenders.values():
        for text in texts[:5]:
            encode([text])
    seconds = common.take_turns({n: lambda e=e: one_by_one(e) for n, e in contenders.items()}, rounds)
    return {
        name: {
            "milliseconds": common.spread([1000 * s for s in took]),
            "times_transformers_default": common.ratios(seconds[DEFAULT], took),
        }
        for name, took in seconds.items()
    }


def stream(
    contenders: dict[str, Encode], texts: Sequence[str], known: dict[str, Array], rounds: int, tokens: int
) -> dict[str, dict[str, Any]]:
    """What rounding the residual stream saves and costs; the ratio is to bfloat16 as built."""
    law, built = known[DEFAULT], "regard bfloat16"
    runs = {n: e for n, e in contenders.items() if n != DEFAULT}
    vectors = {name: encode(texts) for name, encode in runs.items()}
    seconds = common.take_turns({n: common.timed(lambda e=e: e(texts)) for n, e in runs.items()}, rounds)
    return {
        name: {
            "tokens_per_second": common.spread([tokens / s for s in took]),
            "times_as_built": common.ratios(seconds[built], took),
            "cosine": likeness(vectors[name], law),
        }
        for name, took in seconds.items()
    }


# The tables.


def render(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    lengths = f"{report['shortest']} to {report['longest']} tokens"
    settings = {
        "texts": f"{report['texts']:,} of {lengths}, {report['tokens']:,} in all",
        "rounds": report["rounds"],
        "batch size of transformers best": report["batch_of_transformers_best"],
    }
    parts = [common.heading(f"Encoding with {report['model']}", report["machine"], settings)]
    head = [
        "contender",
        "texts/s",
        "tokens/s",
        "times default",
        "times best",
        "least cosine",
        "mean cosine",
        "peak MiB",
    ]
    parts.append(common.table(head, [_mix_row(name, row) for name, row in report["mix"].items()]))
    parts.append("\nOne text of about 20 tokens at a time:\n")
    parts.append(common.table(["contender", "milliseconds", "times default"], [
        [name, common.figure(row["milliseconds"], ".2f"), common.figure(row["times_transformers_default"], ".2f")]
        for name, row in report["one_text"].items()
    ]))  # fmt: skip
    parts.append("\nThe residual stream in float32, as built, and in bfloat16:\n")
    parts.append(common.table(["contender", "tokens/s", "times as built", "least cosine", "mean cosine"], [
        [name, common.figure(row["tokens_per_second"]), common.figure(row["times_as_built"], ".2f"), *_cosines(row)]
        for name, row in report["stream"].items()
    ]))  # fmt: skip
    return "\n".join(parts)


def _mix_row(name: str, row: dict[str, Any]) -> list[str]:
    peak = row.get("peak_memory_mib")
    return [
        name,
        common.figure(row["texts_per_second"]),
        common.figure(row["tokens_per_second"]),
        common.figure(row["times_transformers_default"], ".2f"),
        common.figure(row["times_transformers_best"], ".2f"),
        *_cosines(row),
        f"{peak:,.0f}" if peak else "-",
    ]


def _cosines(row: dict[str, Any]) -> list[str]:
    return [f"{row['cosine']['least']:.6f}", f"{row['cosine']['mean']:.6f}"]


if __name__ == "__main__":
    main()
