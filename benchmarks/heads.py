"""The cost of looking: a plain forward pass beside one that takes statistics of every head, on one machine, in one run.

Real text is cut into sequences of one length, 4,096 tokens at a time. The statistics are those of `regard heads`:
entropy, confidence, weight on six classes of tokens from all rows and from [CLS] and [SEP], offsets -3 to 3, expected
distance.

    regard forward          the encoder alone
    regard statistics       the same with the statistics of every head (which end before the last layer's values)
    transformers forward    AutoModel with its default kernel
    transformers maps       attn_implementation="eager", output_attentions=True, and the same statistics of the maps

A ratio is statistics over forward of the same library. Peak memory is that of child processes: 8,192 tokens as
sequences of 512, 2,048 and 8,192 tokens, through a model of the checkpoint's shape with random weights and as many
positions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import common
import numpy as np

TOKENS, LONG_TOKENS = 4096, 8192
CORPORA = {"gte-small": "en_movie_reviews", "minilm-l6": "en_movie_reviews", "m3e-small": "zh_tech_articles"}
FORWARD, STATISTICS, THEIRS, MAPS = (
    "regard forward", "regard statistics", "transformers forward", "transformers maps",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = common.arguments(__doc__, "python benchmarks/heads.py --model gte-small --rounds 7")
    parser.add_argument("--model", choices=CORPORA, default="gte-small", help="which checkpoint (default: gte-small)")
    parser.add_argument("--lengths", default="128,512", help="lengths of sequences (default: 128,512)")
    parser.add_argument("--precisions", default="float32,bfloat16", help="default: float32,bfloat16")
    parser.add_argument("--no-memory", action="store_true", help="leave out the child processes that measure memory")
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)  # of a child's sequences
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.precisions = 2, "float32"
    return options


def sequences(model: str, length: int, tokens: int) -> list[Any]:
    """Real text as sequences of one length, special tokens included."""
    import lzma

    from regard.batch import Encoding
    from regard.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(common.checkpoint(model))
    text, count = "", tokens // length
    with lzma.open(common.data("corpora", f"{CORPORA[model]}.txt.xz"), "rt", encoding="utf-8") as file:
        while len(text) < 12 * tokens:
            text += " " + next(file).strip()
    ids = tokenizer.encode([text], max_length=1 << 30)[0].ids
    inner = ids[1 : 1 + count * (length - 2)].reshape(count, length - 2)
    ends = np.full((count, 1), ids[0]), np.full((count, 1), ids[-1])
    rows = np.concatenate([ends[0], inner, ends[1]], 1)
    return [Encoding(row, np.zeros(length, dtype=np.int64)) for row in rows]


def regard(model: str, precision: str, encodings: Sequence[Any]) -> dict[str, Callable[[], Any]]:
    """Regard's two jobs on one batch."""
    import torch

    from regard.data.packing import pack
    from regard.lens.statistics import Classes, read
    from regard.lens.tiles import Workspace
    from regard.study.heads import classes
    from regard.system import load

    system = load(common.checkpoint(model), precision=precision)
    names, table = classes(system.tokenizer, {})
    packed, encoder, space = pack(encodings), system.model.encoder, Workspace()
    found = Classes(names, torch.from_numpy(table)[packed.ids])

    def forward() -> None:
        with torch.no_grad():
            encoder(packed)

    return {FORWARD: forward, STATISTICS: lambda: read(encoder, packed, found, space=space)}


def transformers(model: str, precision: str, encodings: Sequence[Any]) -> dict[str, Callable[[], Any]]:
    """The library's two jobs on the same batch."""
    import torch
    from transformers import AutoModel

    from regard.study.heads import classes
    from regard.text.tokenizer import Tokenizer

    folder = common.checkpoint(model)
    settings = {"dtype": getattr(torch, precision), "add_pooling_layer": False}
    plain = AutoModel.from_pretrained(folder, **settings).eval()
    eager = AutoModel.from_pretrained(folder, attn_implementation="eager", **settings).eval()
    ids = torch.from_numpy(np.stack([e.ids for e in encodings]))
    members = torch.from_numpy(classes(Tokenizer.load(folder), {})[1])[ids]

    def maps() -> list[Any]:
        with torch.no_grad():
            return [_of_map(a, members) for a in eager(input_ids=ids, output_attentions=True).attentions]

    def forward() -> None:
        with torch.no_grad():
            plain(input_ids=ids)

    return {THEIRS: forward, MAPS: maps}


def _of_map(weights: Any, members: Any) -> tuple[Any, ...]:
    """The statistics of one layer's maps (texts, heads, S, S), by their definitions."""
    import torch

    weights = weights.float()
    place = torch.arange(weights.shape[-1])
    entropy = -torch.xlogy(weights, weights).sum(-1)
    masses = weights @ members.unsqueeze(1)
    offsets = [weights.diagonal(offset, 2, 3).sum(-1) for offset in range(-3, 4)]
    distance = (weights * (place[:, None] - place).abs()).sum((-1, -2))
    return entropy.mean(-1), masses.mean(-2), masses[..., [0, -1], :], offsets, distance, weights.amax(-1).mean(-1)


def probe(options: argparse.Namespace) -> None:
    """In a child process: one job on sequences of one length, with a model that has positions enough."""
    import torch

    from regard.data.packing import pack
    from regard.lens.statistics import Classes, read
    from regard.model.encoder import bert
    from regard.system import load

    config = load(common.checkpoint(options.model)).model.encoder.config
    torch.manual_seed(0)
    encoder = bert(replace(config, positions=LONG_TOKENS)).eval()
    packed = pack(sequences(options.model, options.length, LONG_TOKENS))
    if options.probe == FORWARD:
        with torch.no_grad():
            encoder(packed)
    else:
        members = torch.zeros(len(packed.ids), 2).index_fill_(0, packed.bounds[:-1].long(), 1.0)
        read(encoder, packed, Classes(("cls", "sep"), members))
    common.tell_probe()


def main() -> None:
    options = arguments()
    common.settle()
    if options.probe:
        probe(options)
        return
    rows, report = [], {"machine": common.machine(), "timings": [], "memory": []}
    for precision in options.precisions.split(","):
        for length in map(int, options.lengths.split(",")):
            encodings = sequences(options.model, length, TOKENS)
            jobs = regard(options.model, precision, encodings) | transformers(options.model, precision, encodings)
            common.say(f"{precision}, {length} tokens")
            for job in jobs.values():
                job()  # warm
            seconds = common.take_turns({name: common.timed(job) for name, job in jobs.items()}, options.rounds)
            own = common.ratios(seconds[STATISTICS], seconds[FORWARD])
            theirs = common.ratios(seconds[MAPS], seconds[THEIRS])
            times = common.ratios(seconds[MAPS], seconds[STATISTICS])
            report["timings"].append({"precision": precision, "length": length, "seconds": seconds})
            speed = common.spread([TOKENS / s for s in seconds[STATISTICS]])
            figures = [common.figure(own, ".2f"), common.figure(theirs, ".2f"), common.figure(times, ".1f")]
            rows.append([precision, f"{length}", common.figure(speed), *figures])
    place = report["machine"] | {"others_used": common.others_used()}
    text = common.heading(
        "The cost of looking", place, {"model": options.model, "rounds": options.rounds, "tokens": TOKENS}
    )
    head = [
        "precision",
        "length",
        "tokens a second",
        "statistics / forward",
        "maps / forward (transformers)",
        "maps / statistics",
    ]
    text += "\n" + common.table(head, rows)
    if not options.no_memory:
        text += "\n\n" + memory(options, report)
    common.deliver(report, text, options)


def memory(options: argparse.Namespace, report: dict[str, Any]) -> str:
    rows = []
    for length in (512, 2048, LONG_TOKENS):
        own = ["--model", options.model, "--length", str(length)]
        peaks = [common.probe(__file__, job, own)["peak_mib"] for job in (FORWARD, STATISTICS)]
        report["memory"].append({"length": length, "forward": peaks[0], "statistics": peaks[1]})
        rows.append([f"{length:,}", *(f"{peak:,.0f}" for peak in peaks)])
    return common.table(["length, of 8,192 tokens", "forward, peak MiB", "statistics, peak MiB"], rows)


if __name__ == "__main__":
    main()
