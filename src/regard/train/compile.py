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
        there = {"a compiler of C (gcc)": _found("CC", "gcc", "clang", "cc"), "the package triton": find_spec("triton")}
    else:
        usual = "clang++" if sys.platform == "darwin" else "g++"
        there = {"a compiler of C++ (g++, or what CXX names)": _found("CXX", usual)}
    return [name for name, found in there.items() if not found]


def _found(variable: str, *usual: str) -> bool:
    """Whether there is the program that a variable names, or else one of these."""
    named = shlex.split(os.environ.get(variable, ""))[:1]
    return any(map(shutil.which, named or usual))
