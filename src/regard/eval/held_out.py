"""What a model in pre-training knows of text that was held out, and what its vectors are worth to the probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.passages import Passage, of_tokens
from regard.data.running_text import RunningText
from regard.eval.features import probe
from regard.eval.words import Guesses, guesses
from regard.measure.scores import Score
from regard.model.heads import Model
from regard.recipe import Pretraining
from regard.system import System
from regard.train.loop import Evaluation

Rows = tuple[Sequence[str], Sequence[Any]]  # texts and their labels
Others = Callable[[Sequence[Passage]], dict[str, Score]]


class HeldOut:
    """Measures a model, time and again, on the same passages of documents that were held out, and on the same probes.

    `probes` are rows to train and to test on, by name. What was found last stays at hand.
    """

    def __init__(
        self,
        system: System,
        recipe: Pretraining,
        text: RunningText,
        documents: NDArray[np.bool_],
        probes: Mapping[str, tuple[Rows, Rows]],
    ) -> None:
        self.system, self.recipe, self.tasks = system, recipe, probes
        self.passages = of_tokens(
            text.tokens, text.tokenizer, length=recipe.text.length, documents=documents, most=recipe.evaluation.tokens
        ) if documents.any() else []  # fmt: skip
        self.guesses: list[Guesses] = []
        self.probes: dict[str, Score] = {}
        self.scores: dict[str, Score] = {}

    @property
    def something(self) -> bool:
        """Whether there is anything to measure on."""
        return bool(self.passages or self.tasks)

    def __call__(self, guesser: Model, others: Others, *, bfloat16: bool) -> Evaluation:
        """What `guesser` makes of hidden words, the probes of the system's encoder, and what `others` measure."""
        tokenizer, length = self.system.tokenizer, self.recipe.text.length
        with torch.autocast(self.system.device.type, torch.bfloat16, enabled=bfloat16):
            self.guesses = guesses(
                guesser, tokenizer, self.passages,
                unit=self.recipe.masking.unit, pseudo=self.recipe.evaluation.pseudo,
            )  # fmt: skip
            self.probes = {
                name: probe(self.system.model, tokenizer, train=train, test=test, length=length)
                for name, (train, test) in self.tasks.items()
            }
            self.scores = others(self.passages)
        tops = [found.top1 for found in self.guesses]
        mean = float(np.mean([top.value for top in tops])) if tops else float("nan")
        # The languages are drawn apart: the squares of their half-widths add up.
        low, high = (
            mean + sign * sum((getattr(top, end) - top.value) ** 2 for top in tops) ** 0.5 / max(1, len(tops))
            for sign, end in ((-1, "low"), (1, "high"))
        )
        return Evaluation("top-1 accuracy", mean, low, high, mean, np.zeros(1), self.more)

    @property
    def more(self) -> dict[str, Any]:
        """Each language's guesses, the probes and the other scores, in plain data."""
        return {
            "languages": [found.table() for found in self.guesses],
            "probes": {name: [s.value, s.low, s.high] for name, s in self.probes.items()},
            "scores": {name: [s.value, s.low, s.high] for name, s in self.scores.items()},
        }
