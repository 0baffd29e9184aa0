"""The compiled kernel that attends and sums up at once, made on the machine when it is first asked for.

It takes about as long as attention that sums up nothing. It needs Linux, a processor with 512-bit vectors (AVX-512) and
a C++ compiler; `lens/tiles.py` does the same by stock operations everywhere. As with `torch.compile`, the code is for
the processor at hand; it is kept in $XDG_CACHE_HOME/regard, by default ~/.cache/regard.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from regard.batch import Packed
from regard.lens.sums import Question, Sums
from regard.lens.tiles import Tiles, Workspace

log = logging.getLogger("regard")

SOURCE = Path(__file__).with_suffix(".cpp")
# Sums may be taken in any order, but what is no number must remain none: a broken model is not one of even attention.
FAST = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fno-finite-math-only")
FLAGS = ("-std=c++20", *FAST, "-fopenmp", "-fPIC")
TYPES = (torch.float32, torch.bfloat16, torch.float16)


class Compiled:
    """A batch laid out for the kernel."""

    def __init__(self, packed: Packed, question: Question) -> None:
        self.bounds = packed.bounds.long()
        self.question = question

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, scale: float, norms: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Sums]:
        """One layer, as `Summing.attend`; scores and sums are float32."""
        ask = self.question
        query, key, value = (t if t.stride(-1) == 1 else t.contiguous() for t in (query, key, value))
        norms = None if norms is None else norms.float().contiguous()
        mixed, lse, *sums = torch.ops.regard.attend(
            query, key, value, self.bounds, scale, ask.members.contiguous(), ask.sources, ask.reach, ask.second, norms
        )
        return mixed, lse, Sums(*sums)


def serves(query: Tensor) -> bool:
    """Whether the kernel is there, or can be made, for such a query."""
    return query.device.type == "cpu" and query.dtype in TYPES and _loaded()


@functools.cache
def _loaded() -> bool:
    fit = platform.system() == "Linux" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    compiler = shlex.split(os.environ.get("CXX") or shutil.which("c++") or "")
    if not fit or not compiler:
        return False
    try:
        torch.ops.load_library(str(_built(compiler)))
        return _agrees()
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or ["no reason given"]
        log.warning("The fast kernel of statistics cannot be had (%s). A slower one is used instead.", said[-1])
        return False


def _built(compiler: list[str]) -> Path:
    """The library, compiled if this processor, compiler and torch have none yet."""
    key = "\n".join([SOURCE.read_text(encoding="utf-8"), torch.__version__, *compiler, *FLAGS, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "regard"
    name = f"attend-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if (folder / name).is_file():
        return folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder))
    except OSError:  # nothing can be kept here: compiled for this process alone
        folder = place = Path(tempfile.mkdtemp(prefix="regard-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log.warning("Compiling the kernel of statistics, once for this machine: about ten seconds.")
    home = Path(torch.__file__).parent
    include = [f"-I{home / 'include'}", f"-I{home / 'include/torch/csrc/api/include'}"]
    compiled, linked = place / "attend.o", place / "attend.so"
    try:
        # Linked without OpenMP's own library: its symbols are those that torch has loaded, and so are its threads.
        for command in (
            [*compiler, *FLAGS, *include, "-c", str(SOURCE), "-o", str(compiled)],
            [*compiler, "-shared", str(compiled), f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10", "-o", str(linked)],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
        linked.replace(folder / name)  # whole or not at all, whoever else does the same
    finally:
        if place != folder:
            shutil.rmtree(place, ignore_errors=True)
    return folder / name


def _processor() -> str:
    """What the processor can do: homes are shared by machines that differ."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith("flags")), "")


def _agrees() -> bool:
    """Whether the kernel gives what the tiles give, on a processor that nobody may have tried it on."""
    draw = torch.Generator().manual_seed(0)
    lengths = (5, 70)
    members = torch.zeros(sum(lengths), 1)
    bounds = torch.tensor([0, 5, 75], dtype=torch.int32)
    members[bounds[:-1].long()] = 1
    places = torch.cat([torch.arange(n) for n in lengths])
    packed = Packed(places, places, torch.zeros_like(places), bounds, lengths, torch.arange(len(lengths)))
    question = Question(members, sources=(0,))
    for dtype, near in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
        query, key, value = (torch.randn(sum(lengths), 2, 40, generator=draw).to(dtype) for _ in range(3))
        ours = Compiled(packed, question).attend(query, key, value, scale=0.2)
        theirs = Tiles(packed, 2, question, Workspace()).attend(query, key, value, scale=0.2)
        pairs = [(ours[0], theirs[0]), (ours[1], theirs[1]), (ours[2].masses, theirs[2].masses)]
        if not all(torch.allclose(a.float(), b.float(), atol=near, rtol=near) for a, b in pairs):
            raise RuntimeError(f"it disagrees with stock operations in {dtype} on this processor")
        broken = Compiled(packed, question).attend(query * torch.nan, key, value, scale=0.2)
        if not all(part.isnan().all() for part in (broken[0], broken[2].entropy, broken[2].distance)):
            raise RuntimeError(f"it makes numbers of what is none in {dtype} on this processor")
    return True
