"""What learns, compiled: between two attentions a step reads and writes each activation a few times, not a dozen."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.util import find_spec

from torch import nn

from regard.errors import Problem
from regard.model.encoder import Encoder
from regard.model.words import WordHead


def compile_training(model: nn.Module, *, backend: str = "inductor") -> None:
    """Has `torch.compile` make kernels of all encoders and word heads of a model, at their first steps in training.

    Raises `Problem` where there is nothing to make them with.
    """
    missing = _missing(gpu=next(model.parameters()).is_cuda)
    if missing:
        raise Problem(f"Compiling needs {' and '.join(missing)}. Install it, or leave train.compile out.")
    for part in model.modules():
        if isinstance(part, (Encoder, WordHead)):
            part.compile_training(backend)


def _missing(*, gpu: bool) -> list[str]:
    """What is not there of what Inductor calls: on a GPU Triton and a compiler of C, on a CPU one of C++."""
    if gpu:
        found = any(map(shutil.which, _named("CC", "gcc", "clang", "cc")))
        return ["a compiler of C (gcc)"] * (not found) + ["the package triton"] * (not find_spec("triton"))
    found = any(map(shutil.which, _named("CXX", "clang++" if sys.platform == "darwin" else "g++")))
    return ["a compiler of C++ (g++, or what CXX names)"] * (not found)


def _named(variable: str, *names: str) -> tuple[str, ...]:
    """The program that a variable names, or these."""
    return tuple(shlex.split(os.environ.get(variable, ""))[:1]) or names
