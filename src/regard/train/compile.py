"""What learns, compiled: between two attentions a step reads and writes each activation a few times, not a dozen."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from torch import nn

from regard.errors import Problem
from regard.model.encoder import Encoder
from regard.model.words import WordHead

COMPILERS = "c++", "g++", "clang++"


def compile_training(model: nn.Module, *, backend: str = "inductor") -> None:
    """Has `torch.compile` make kernels of all encoders and word heads of a model, at their first steps in training.

    Raises `Problem` where there is nothing to make them with.
    """
    missing = [] if any(map(shutil.which, COMPILERS)) else [f"a C++ compiler ({', '.join(COMPILERS)})"]
    if next(model.parameters()).is_cuda and not find_spec("triton"):
        missing.append("the package triton")
    if missing:
        raise Problem(f"Compiling needs {' and '.join(missing)}. Install it, or leave train.compile out.")
    for part in model.modules():
        if isinstance(part, (Encoder, WordHead)):
            part.compile_training(backend)
