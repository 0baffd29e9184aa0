"""What a pre-training run can teach: for each lesson its model, its batches, its objective, and how it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regard.data.masking import Masking
from regard.data.pairs import READERS, Pairs
from regard.data.passages import Passage
from regard.data.pretraining import HiddenWords, frame
from regard.data.running_text import RunningText
from regard.errors import Problem
from regard.eval.detection import detected
from regard.eval.pairs import told_apart
from regard.measure.scores import Score
from regard.model.checkpoint import blank
from regard.model.cost import (
    borrow_operations,
    detector_operations,
    encoder_operations,
    pair_operations,
    sample_operations,
    word_operations,
)
from regard.model.electra import Electra, generator_for, guesser, multiply_out, smaller
from regard.model.heads import Detector, Head, Model
from regard.model.pooling import First
from regard.model.start import know_frequencies
from regard.model.words import WordHead
from regard.recipe import Pretraining
from regard.system import System
from regard.train.objectives import Objective, masked_words, with_detection, with_pairs


class Words:
    """Hidden words are guessed; the other lessons are told by how they differ from this one."""

    pooling = "mean"  # of the model as it is loaded later
    architecture = "BertForMaskedLM"  # what the hub's tools load the folder as
    who = "the model"  # guesses hidden words

    def __init__(self, system: System, recipe: Pretraining, text: RunningText, held: NDArray[np.bool_]) -> None:
        self.system, self.model, self.recipe, self.text, self.held = system, system.model, recipe, text, held
        self.said: list[str] = []  # what whoever learns should know
        self.equip()

    def equip(self) -> None:
        """Gives the model what it lacks for this lesson."""
        if self.model.words is None:
            self.model.words = self.informed(WordHead(self.model.encoder.config)).to(self.system.device)

    def informed(self, head: WordHead) -> WordHead:
        """A fresh head that knows how frequent words are."""
        know_frequencies(head, torch.from_numpy(self.counts))
        return head

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        """How often each id comes in an epoch of what is learnt from."""
        return self.text.tokens.counts(~self.held, self.text.tokens.drawn(self.text.times))

    @property
    def trained(self) -> nn.Module:
        """All that learns."""
        return self.model

    @property
    def guesser(self) -> Model:
        """What guesses hidden words, for the measures."""
        return self.model

    def batches(self, rule: Masking, documents: NDArray[np.bool_], *, anywhere: bool = False) -> HiddenWords:
        """What is learnt from, or measured on, of some documents; those `anywhere` begin at any position."""
        return READERS[self.recipe.text.pairs](
            self.text.tokens, self.text.tokenizer, rule, length=self.recipe.text.length,
            batch_tokens=self.recipe.train.batch_tokens, seed=self.recipe.seed, documents=documents,
            times=self.text.times, positions=anywhere * self.model.encoder.config.positions,
        )  # fmt: skip

    def objective(self) -> Objective:
        """The loss of a batch."""
        return masked_words(self.text.tokens.languages)

    def operations(self, lengths: NDArray[np.int64], rate: float) -> float:
        """Of a forward and a backward pass over such sequences, with a share of their tokens hidden."""
        config, hidden = self.model.encoder.config, rate * float(lengths.sum())
        return encoder_operations(config, lengths, hidden) + word_operations(config, hidden)

    def scores(self, passages: Sequence[Passage]) -> dict[str, Score]:
        """What is measured on held-out text beside the words guessed."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes what was learnt into the folder of the run."""
        self.system.save(folder / "model")


class WordsAndPairs(Words):
    """Hidden words are guessed, and the first token tells true pairs of sentences from false ones."""

    pooling, architecture = "first", "BertForPreTraining"

    def equip(self) -> None:
        """A pooler, and the two heads."""
        super().equip()
        width, device = self.model.encoder.config.width, self.system.device
        if isinstance(self.model.pooling, First) and isinstance(self.model.pooling.dense, nn.Identity):
            self.model.pooling = First(width).to(device)
        if self.model.pairs is None:
            self.model.pairs = Head(width, 2, 0.0).to(device)
        self.asked: HiddenWords | None = None
        try:
            if self.held.any():
                self.asked = self.batches(Masking(rate=0.0), self.held)  # whole texts, as they are asked about later
        except Problem as problem:  # what is held out may have no pairs
            self.said.append(f"pairs of what is held out are not measured: {problem}")

    def objective(self) -> Objective:
        """Both losses, in one pass."""
        return with_pairs(masked_words(self.text.tokens.languages))

    def operations(self, lengths: NDArray[np.int64], rate: float) -> float:
        """As for words, and for the first token of each sequence."""
        config, hidden = self.model.encoder.config, rate * float(lengths.sum())
        heads = word_operations(config, hidden) + pair_operations(config, len(lengths))
        return encoder_operations(config, lengths, hidden + len(lengths)) + heads

    def scores(self, passages: Sequence[Passage]) -> dict[str, Score]:
        """How well pairs are told apart, by language."""
        if not isinstance(self.asked, Pairs):
            return {}
        found = told_apart(self.model, self.asked, most=self.recipe.evaluation.tokens)
        return {f"pairs in {language}": score for language, score in found.items()}


class Replaced(Words):
    """A small generator guesses hidden words, and the model detects which of its words are wrong."""

    architecture, who = "BertModel", "the generator"

    def equip(self) -> None:
        """A detector, and a generator beside the model; a head for words that the model has is not kept."""
        config, settings, device = self.model.encoder.config, self.recipe.replaced, self.system.device
        self.model.words = None
        if self.model.detector is None:
            self.model.detector = Detector(config).to(device)
        shape = smaller(config, width=settings.width, layers=settings.layers)
        generator = generator_for(self.model, shape)
        assert generator.words is not None
        self.informed(generator.words)
        self.electra = Electra(self.model, generator.to(device))
        self.multiplied_out = guesser(shape).to(device)  # made once, so that measuring draws no random weights

    @property
    def trained(self) -> nn.Module:
        """Generator and discriminator."""
        return self.electra

    @property
    def guesser(self) -> Model:
        """The generator as it is written."""
        return multiply_out(self.electra.generator, self.multiplied_out)

    def objective(self) -> Objective:
        """Both losses."""
        words = masked_words(self.text.tokens.languages)
        return with_detection(words, special=frame(self.text.tokenizer)[:2], weight=self.recipe.replaced.weight)

    def operations(self, lengths: NDArray[np.int64], rate: float) -> float:
        """Of the generator for words, and of the discriminator for all tokens but special ones."""
        config, shape = self.model.encoder.config, self.multiplied_out.encoder.config
        tokens, plain = float(lengths.sum()), float(lengths.sum() - 2 * len(lengths))
        batches = tokens / self.recipe.train.batch_tokens
        return (
            encoder_operations(shape, lengths, rate * tokens)
            + word_operations(shape, rate * tokens)
            + sample_operations(shape, rate * tokens)
            + borrow_operations(shape, config.width, tokens, batches)
            + encoder_operations(config, lengths, plain)
            + detector_operations(config, plain)
        )

    def scores(self, passages: Sequence[Passage]) -> dict[str, Score]:
        """How well replaced and original tokens are told apart, by language."""
        unit = self.recipe.masking.unit
        return detected(self.model, self.multiplied_out, self.system.tokenizer, passages, unit=unit)

    def save(self, folder: Path) -> None:
        """Writes the discriminator as the run's model, and beside it the generator, a BERT that guesses words."""
        super().save(folder)
        origin, settings = self.system.origin, self.recipe.replaced
        shape = smaller(origin.config, width=settings.width, layers=settings.layers)
        System(self.system.tokenizer, self.guesser, blank(shape, stored=origin.stored), self.system.card).save(
            folder / "generator"
        )


def lesson_of(recipe: Pretraining) -> type[Words]:
    """The lesson that a recipe asks for."""
    if recipe.train.objective == "replaced":
        return Replaced
    return Words if recipe.text.pairs == "none" else WordsAndPairs
