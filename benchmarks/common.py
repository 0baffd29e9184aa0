"""What the benchmarks share: real data and checkpoints, rounds that take turns, peak memory, tables and JSON.

Contenders take turns in one process, A B C A B C, so that whatever slows the machine slows all of them. A ratio is
taken within each round, and its median over the rounds is what the tables show. Peak memory is that of a child process
which does one contender's job and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import gzip
import importlib.metadata
import io
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.data.processes import cores

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = CHECKOUT.parent / "shared"
CHECKPOINTS = Path(os.environ.get("REGARD_CHECKPOINTS", CHECKOUT / ".cache" / "checkpoints"))
PACKAGES = ("regard", "torch", "transformers", "tokenizers", "onnxruntime", "onnx", "accelerate", "numpy")
PAUSE = 0.2  # seconds between contenders, for the threads of the last one to fall asleep
PROBE_MARK = "probe:"
_OTHERS: list[float] = []  # of each turn: the share of all cores that other programs used


def say(line: str) -> None:
    """Progress, on the error stream so that the tables can be piped."""
    print(line, file=sys.stderr, flush=True)


def arguments(description: str | None, example: str) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender has its turn (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a small job and two rounds: does it run?")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--markdown", type=Path, help="write the tables, with the machine, to this Markdown file")
    parser.add_argument("--seed", type=int, default=0, help="decides which texts are drawn (default: 0)")
    parser.add_argument("--probe", help=argparse.SUPPRESS)  # a child process: do this contender's job, say peak memory
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)  # where a child finds exported models
    return parser


def data(*parts: str) -> Path:
    """A file of the real data beside the checkout; ends the program, saying what is missing, where it is absent."""
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        sys.exit(
            f"This benchmark reads real data from {path}, which does not exist. It needs the folder `shared` beside "
            "the checkout, with `shared/data` and `shared/models/get.py`."
        )
    return path


def checkpoint(name: str) -> Path:
    """The folder of a real checkpoint, fetched from a package on first use."""
    folder = CHECKPOINTS / name
    if (folder / "config.json").exists():
        return folder
    script = SHARED / "models" / "get.py"
    if not script.exists():
        sys.exit(
            f"The checkpoint {name} is not at {folder}, and {script}, which would fetch it, does not exist. Put the "
            "folder `shared` beside the checkout, or set REGARD_CHECKPOINTS to a folder that holds the checkpoint."
        )
    say(f"fetching {name} to {folder}")
    done = subprocess.run(
        [sys.executable, script, name, "--to", CHECKPOINTS], check=False, capture_output=True, text=True
    )
    if done.returncode or not (folder / "config.json").exists():
        sys.exit(f"{script} could not fetch {name}:\n{done.stderr.strip()}")
    return folder


def lines(*parts: str) -> list[str]:
    """The lines of a gzipped text file of the real data."""
    with gzip.open(data(*parts), "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def document(*parts: str) -> Any:
    """A gzipped JSON file of the real data."""
    with gzip.open(data(*parts), "rt", encoding="utf-8") as file:
        return json.load(file)


def settle(*, torch: bool = True) -> None:
    """Every core for torch and the tokenizers, and no chatter from libraries; `torch=False` leaves torch unloaded."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    if torch:
        from torch import set_num_threads

        set_num_threads(cores())


def machine() -> dict[str, Any]:
    """What the figures were measured on, how busy it was, and with which versions."""
    import torch

    busy = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else []
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16_instructions": bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": busy,
        "versions": found,
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        fields = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
        known: dict[str, str] = {}
        for key, _, value in fields:
            known.setdefault(key.strip(), value.strip())
        numbers = " ".join(known[key] for key in ("cpu family", "model") if key in known)
        if "model name" in known:
            return f"{known['model name']} (family and model {numbers})"
    return platform.processor() or platform.machine()


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each contender says it took, round by round; every other round goes backwards.

    A processor that has been hot for a minute is slower than a rested one, so nobody should always come last.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in list(contenders.items())[:: -1 if number % 2 else 1]:
            gc.collect()
            time.sleep(PAUSE)
            with _watching_others():
                seconds[name].append(run())
            say(f"  round {number + 1} of {rounds}: {name} {seconds[name][-1]:.3f} s")
    return seconds


@contextlib.contextmanager
def _watching_others() -> Iterator[None]:
    began, machine_began, own_began = time.perf_counter(), _machine_seconds(), _own_seconds()
    yield
    everyone, own = _machine_seconds() - machine_began, _own_seconds() - own_began
    _OTHERS.append(max(0.0, everyone - own) / (time.perf_counter() - began) / (os.cpu_count() or 1))


def _own_seconds() -> float:
    """Processor seconds of this process and of the children that it has waited for."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _machine_seconds() -> float:
    """Processor seconds that all programs together have used; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
        user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, fields)
        return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return 0.0


def others_used() -> dict[str, float] | None:
    """The share of all cores that other programs used during the turns: above a few hundredths, figures are noise."""
    return spread(_OTHERS) if _OTHERS and _machine_seconds() else None


def timed(job: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """The job as a contender that gives the seconds it took, by the wall or with time.process_time the processor's."""

    def run() -> float:
        began = clock()
        job()
        return clock() - began

    return run


def finished(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of finished runs, if there is one; a line that a kill cut short is left out."""
    out = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:
            say(f"  a line of {path} is not whole and is left out")
    return out


def keep(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a finished run to such a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(peer: Sequence[float], own: Sequence[float]) -> dict[str, float]:
    """How many times as fast as a peer: its seconds over one's own, pair by pair."""
    return spread([theirs / mine for theirs, mine in zip(peer, own, strict=True)])


def probe(script: str, contender: str, options: Iterable[str]) -> dict[str, float]:
    """What a child process that does only this contender's job says: its peak MiB, and what `tell_probe` was given.

    A child that fails ends the benchmark with its error.
    """
    command = [sys.executable, script, "--probe", contender, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = [line.removeprefix(PROBE_MARK) for line in done.stdout.splitlines() if line.startswith(PROBE_MARK)]
    if done.returncode or not found:
        raise SystemExit(f"{contender} failed in a process of its own:\n{done.stderr.strip()[-2000:]}")
    said: dict[str, float] = json.loads(found[-1])
    say(f"  peak memory of {contender}: {said['peak_mib']:,.0f} MiB")
    return said


def tell_probe(**figures: float) -> None:
    """In a child process: prints these figures and its peak memory for `probe`."""
    print(PROBE_MARK + json.dumps(figures | {"peak_mib": _peak()}))


def _peak() -> float:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return float(torch.cuda.max_memory_allocated() / 2**20)  # where a device did the work its memory is what counts
    # On Linux ru_maxrss also counts what the parent held before the child's program was loaded; VmHWM does not.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text too; figures stand to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "| " + " | ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def figure(values: Mapping[str, float] | None, form: str = ",.0f") -> str:
    """Median with least and most, or a dash."""
    if values is None:
        return "-"
    return f"{values['median']:{form}} ({values['least']:{form}} to {values['most']:{form}})"


def heading(title: str, place: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What was compared, and where, before the tables."""
    out = io.StringIO()
    out.write(f"## {title}\n\n")
    versions = ", ".join(f"{k} {v}" for k, v in place["versions"].items())
    chips = ", ".join(filter(None, (place.get("accelerator"), place["processor"])))
    out.write(f"{chips}, {place['cores']} cores, {place['threads']} threads, {place['when']}; {versions}.\n")
    out.write("; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in settings.items()) + ".\n")
    if place.get("others_used"):
        share = place["others_used"]
        out.write(f"Other programs used {share['median']:.0%} of the cores (at most {share['most']:.0%} in a turn).\n")
    out.write("Figures are medians with the least and the most of all rounds; ratios are taken round by round.\n")
    return out.getvalue()


def deliver(report: Mapping[str, Any], text: str, options: argparse.Namespace) -> None:
    """Prints the tables and writes the files that were asked for."""
    print(text)
    for path, content in ((options.out, json.dumps(report, indent=2) + "\n"), (options.markdown, text + "\n")):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            say(f"written: {path}")
