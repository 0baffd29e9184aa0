"""What a frozen encoder knows of a task: a linear probe of its mean vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.packing import batches
from regard.errors import Problem
from regard.eval.baselines import minimise
from regard.measure.resample import wilson
from regard.measure.scores import Score
from regard.model.heads import Model, at_rest
from regard.model.pooling import Mean
from regard.system import room
from regard.text.tokenizer import Tokenizer

Array = NDArray[Any]


def vectors(model: Model, tokenizer: Tokenizer, texts: Sequence[str], *, length: int = 128) -> NDArray[np.float32]:
    """Means of the last layer over all tokens of each text, (texts, width); texts are cut at `length` tokens.

    The model is left as it was found. Raises `Problem` where it cannot read so many tokens.
    """
    config = model.encoder.config
    if length > config.positions:
        raise Problem(f"Texts of {length} tokens: this model reads {config.positions} at most. Lower the length.")
    encodings = tokenizer.encode(texts, max_length=length)
    device, mean = next(model.parameters()).device, Mean()
    out = np.zeros((len(texts), config.width), dtype=np.float32)
    with at_rest(model):
        for rows, packed in batches(encodings, room(device)):
            there = packed.to(device)
            out[rows] = mean(model.encoder(there), there).cpu().numpy()
    return out


def probe(
    model: Model,
    tokenizer: Tokenizer,
    *,
    train: tuple[Sequence[str], Sequence[Any]],
    test: tuple[Sequence[str], Sequence[Any]],
    most: tuple[int, int] = (2000, 1000),
    length: int = 128,
    seed: int = 0,
) -> Score:
    """Accuracy of a logistic regression on frozen mean vectors, with Wilson's interval.

    `train` and `test` are texts and their labels, of which at most so many are drawn by the seed. Each column of the
    vectors is brought to mean 0 and deviation 1 of the training texts. A label that no training text has is missed.
    Raises `Problem` for fewer than two labels to tell apart, and for no text to test on.
    """
    texts, labels = _drawn(*train, most[0], seed)
    test_texts, truth = _drawn(*test, most[1], seed)
    names, classes = np.unique(labels, return_inverse=True)
    if len(names) < 2 or not len(truth):
        raise Problem(
            f"A probe learns at least two labels and is tested on at least one text; here are {len(names)} and "
            f"{len(truth)}. Give more rows."
        )
    features = vectors(model, tokenizer, texts, length=length)
    shift, scale = features.mean(0), features.std(0) + 1e-6
    rows, others = (
        torch.from_numpy((found - shift) / scale)
        for found in (features, vectors(model, tokenizer, test_texts, length=length))
    )
    targets = torch.from_numpy(classes[:, None] == np.arange(len(names))).float()
    # In bfloat16 around it, weights would be rounded once and that copy be read again after each of their steps.
    with torch.autocast("cpu", enabled=False):
        weight, bias = minimise("classify", rows.matmul, targets, terms=rows.shape[1])
        right = int((names[(others @ weight + bias).argmax(1).numpy()] == truth).sum())
    return Score("accuracy", right / len(truth), *wilson(right, len(truth)), len(truth))


def _drawn(texts: Sequence[str], labels: Sequence[Any], most: int, seed: int) -> tuple[list[str], Array]:
    if len(texts) != len(labels):
        raise Problem(f"{len(texts)} texts with {len(labels)} labels. Give one label for each text.")
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:most])
    return [texts[row] for row in rows], np.asarray(labels)[rows]
