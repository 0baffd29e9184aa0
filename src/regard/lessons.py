"""What a pre-training run can teach: for each lesson its model, its batches, its objective, and how it is measured."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from regard.data.masking import Masking
from regard.data.pairs import READERS, Pairs
from regard.data.pretraining import HiddenWords
from regard.data.running_text import RunningText
from regard.errors import Problem
from regard.eval.pairs import told_apart
from regard.measure.scores import Score
from regard.model.cost import encoder_operations, pair_operations, word_operations
from regard.model.heads import Head, Model
from regard.model.pooling import First
from regard.model.words import WordHead
from regard.recipe import Pretraining
from regard.system import System
from regard.train.objectives import Objective, masked_words, with_pairs


class Words:
    """Hidden words are guessed; the other lessons are told by how they differ from this one."""

    pooling = "mean"  # of the model as it is loaded later
    architecture = "BertForMaskedLM"  # what the hub's tools load the folder as

    def __init__(self, system: System, recipe: Pretraining, text: RunningText, held: NDArray[np.bool_]) -> None:
        self.system, self.model, self.recipe, self.text, self.held = system, system.model, recipe, text, held
        if self.model.words is None:
            self.model.words = WordHead(self.model.encoder.config).to(system.device)

    @property
    def trained(self) -> nn.Module:
        """All that learns."""
        return self.model

    @property
    def guesser(self) -> Model:
        """What guesses hidden words, for the measures."""
        return self.model

    def batches(self, rule: Masking, documents: NDArray[np.bool_]) -> HiddenWords:
        """What is learnt from, or measured on, of some documents."""
        return READERS[self.recipe.text.pairs](
            self.text.tokens, self.text.tokenizer, rule, length=self.recipe.text.length,
            batch_tokens=self.recipe.train.batch_tokens, seed=self.recipe.seed, documents=documents,
            times=self.text.times,
        )  # fmt: skip

    def objective(self) -> Objective:
        """The loss of a batch."""
        return masked_words(self.text.tokens.languages)

    def operations(self, lengths: NDArray[np.int64], rate: float) -> float:
        """Of a forward and a backward pass over such sequences, with a share of their tokens hidden."""
        config, hidden = self.model.encoder.config, rate * float(lengths.sum())
        return encoder_operations(config, lengths, hidden) + word_operations(config, hidden)

    def scores(self) -> dict[str, Score]:
        """What is measured on held-out text beside the words guessed."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes what was learnt into the folder of the run."""
        self.system.save(folder / "model")


class WordsAndPairs(Words):
    """Hidden words are guessed, and the first token tells true pairs of sentences from false ones."""

    pooling, architecture = "first", "BertForPreTraining"

    def __init__(self, system: System, recipe: Pretraining, text: RunningText, held: NDArray[np.bool_]) -> None:
        super().__init__(system, recipe, text, held)
        width = self.model.encoder.config.width
        if isinstance(self.model.pooling, First) and isinstance(self.model.pooling.dense, nn.Identity):
            self.model.pooling = First(width).to(system.device)
        if self.model.pairs is None:
            self.model.pairs = Head(width, 2, 0.0).to(system.device)
        self.asked: HiddenWords | None = None
        with suppress(Problem):  # what is held out may have no pairs
            self.asked = self.batches(Masking(rate=0.0), held)  # whole texts, as they are asked about later

    def objective(self) -> Objective:
        """Both losses, in one pass."""
        return with_pairs(masked_words(self.text.tokens.languages))

    def operations(self, lengths: NDArray[np.int64], rate: float) -> float:
        """As for words, and for the first token of each sequence."""
        config, hidden = self.model.encoder.config, rate * float(lengths.sum())
        heads = word_operations(config, hidden) + pair_operations(config, len(lengths))
        return encoder_operations(config, lengths, hidden + len(lengths)) + heads

    def scores(self) -> dict[str, Score]:
        """How well pairs are told apart, by language."""
        if not isinstance(self.asked, Pairs):
            return {}
        found = told_apart(self.model, self.asked, most=self.recipe.evaluation.tokens)
        return {f"pairs in {language}": score for language, score in found.items()}


def lesson_of(recipe: Pretraining) -> type[Words]:
    """The lesson that a recipe asks for."""
    return Words if recipe.text.pairs == "none" else WordsAndPairs
