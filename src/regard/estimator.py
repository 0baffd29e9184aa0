"""Fine-tuning in scikit-learn's manners: fit, predict, predict_proba, score, get_params, clone, pipelines."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from regard import recipe as recipes
from regard import run, toml
from regard.data.examples import Examples
from regard.data.splits import split
from regard.data.task import Task, take
from regard.errors import Problem
from regard.measure.metrics import pearson
from regard.recipe import Recipe
from regard.system import System

log = logging.getLogger("regard")
Texts = Sequence[str] | Sequence[tuple[str, str]]


class _Estimator:
    """What a classifier and a regressor share. Parameters are stored untouched, as scikit-learn's clone asks."""

    _task = ""

    def __init__(
        self,
        model: str = "google-bert/bert-base-uncased",
        *,
        epochs: float = 3.0,
        learning_rate: float = 5e-5,
        batch_tokens: int = 1024,
        max_length: int = 0,
        pooling: str = "auto",
        validation: float = 0.0,
        patience: int = 0,
        seed: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        """`options` are overrides of any other key of a recipe, such as `train.layer_decay=0.9`."""
        self.model, self.epochs, self.learning_rate = model, epochs, learning_rate
        self.batch_tokens, self.max_length, self.pooling = batch_tokens, max_length, pooling
        self.validation, self.patience, self.seed, self.options = validation, patience, seed, options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> Self:
        """Changes some of the constructor's arguments."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise Problem(f"{type(self).__name__} has no parameter '{name}'. Known: {', '.join(known)}.")
            setattr(self, name, value)
        return self

    def fit(self, texts: Texts, labels: Sequence[Any]) -> Self:
        """Fine-tunes on texts, or on (text, pair) tuples, and their labels."""
        examples = self._examples(texts, labels)
        shares = [1 - self.validation, self.validation] if self.validation else [1.0]
        rows = split(len(examples.texts), shares, seed=self.seed)
        train = take(examples, rows[0].tolist())
        held = take(examples, rows[1].tolist() if self.validation else [])
        task = Task(train, held, held, [], {})
        recipe = self._recipe()
        recipes.check(recipe)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.system_ = run.prepare(recipe, task)
            run.learn(self.system_, recipe, task, tell=log.info)
        return self

    def save(self, folder: str | Path) -> None:
        """Writes the folder that `regard.load`, the command line and the hub's tools read."""
        self._fitted().save(folder)

    def _recipe(self) -> Recipe:
        changes: dict[str, Any] = {
            "model.name": str(self.model),
            "model.pooling": self.pooling,
            "data.max_length": self.max_length,
            "train.epochs": self.epochs,
            "train.learning_rate": self.learning_rate,
            "train.batch_tokens": self.batch_tokens,
            "train.patience": self.patience,
            "seed": self.seed,
        }
        return toml.override(toml.override(Recipe(), changes), self.options)

    def _examples(self, texts: Texts, labels: Sequence[Any]) -> Examples:
        first, second = _columns(texts)
        if not first or len(first) != len(labels):
            raise Problem(f"There are {len(first)} texts and {len(labels)} labels. Give some, and as many of each.")
        names, numbers = self._learn_labels(labels)
        return Examples(
            texts=first, pairs=second, labels=numbers, names=names, task=self._task,
            lines=list(range(1, len(first) + 1)), rows=list(range(len(first))), skipped=[], said=[], chosen={},
        )  # fmt: skip

    def _learn_labels(self, labels: Sequence[Any]) -> tuple[tuple[str, ...], list[Any]]:
        """The words of the classes, and each label as training takes it."""
        raise NotImplementedError

    def _fitted(self) -> System:
        if not hasattr(self, "system_"):
            raise Problem(f"This {type(self).__name__} has not been fitted. Call fit(texts, labels) first.")
        return self.system_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "system_")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator; it calls this, so it is imported already."""
        tags = sys.modules["sklearn.utils"]
        kind = type(self).__name__.lower()
        return tags.Tags(
            estimator_type=kind,
            target_tags=tags.TargetTags(required=True),
            classifier_tags=tags.ClassifierTags() if kind == "classifier" else None,
            regressor_tags=tags.RegressorTags() if kind == "regressor" else None,
            input_tags=tags.InputTags(string=True, two_d_array=False),
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items())
        return f"{type(self).__name__}({shown})"


class Classifier(_Estimator):
    """A BERT fine-tuned to give each text one class of several, or, with lists of labels, any number of them.

    Classifier(model="runs/minilm").fit(texts, labels).predict(texts)
    """

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels in the order of `predict_proba`'s columns, in the type they were given in."""
        self._fitted()
        return self._classes

    def _learn_labels(self, labels: Sequence[Any]) -> tuple[tuple[str, ...], list[Any]]:
        self._indicator = isinstance(labels, np.ndarray) and labels.ndim == 2
        rows = [np.flatnonzero(row).tolist() for row in labels] if self._indicator else list(labels)
        several = isinstance(rows[0], (list, tuple, set))
        self._task = "multilabel" if several else "classify"
        flat = [label for row in rows for label in row] if several else rows
        if any(label is None or label != label for label in flat):
            raise Problem("Some labels are missing (None or NaN). Remove those rows or mend them.")
        self._classes = np.arange(np.shape(labels)[1]) if self._indicator else np.unique(np.asarray(flat))
        names = tuple(str(label) for label in self._classes.tolist())
        if several:
            return names, [[int(name in row) for name in self._classes.tolist()] for row in rows]
        if len(names) < 2:
            raise Problem(f"All labels are {names[0]!r}. A classifier needs texts of at least two classes.")
        return names, np.searchsorted(self._classes, np.asarray(flat)).tolist()

    def predict_proba(self, texts: Texts) -> NDArray[np.float32]:
        """Probabilities: (texts, classes)."""
        return self._fitted().predict(*_columns(texts))

    def predict(self, texts: Texts) -> Any:
        """The likeliest class of each text; of several labels, lists of them, or 0 and 1 where fit was given these."""
        found = self.predict_proba(texts)
        if self._fitted().card.task != "multilabel":
            return self.classes_[found.argmax(1)]
        given = found >= self._fitted().card.threshold
        return given.astype(np.int64) if self._indicator else [self._classes[row].tolist() for row in given]

    def score(self, texts: Texts, labels: Sequence[Any]) -> float:
        """Accuracy; of several labels, the share of texts with all of them right."""
        found = self.predict(texts)
        if self._fitted().card.task != "multilabel":
            return float(np.mean(found == np.asarray(labels)))
        if self._indicator:
            return float(np.mean((found == np.asarray(labels)).all(1)))
        return float(np.mean([set(a) == set(b) for a, b in zip(found, labels, strict=True)]))


class Regressor(_Estimator):
    """A BERT fine-tuned to give each text, or pair of texts, a number.

    Regressor(model="runs/minilm").fit(texts, numbers).predict(texts)
    """

    _task = "regress"

    def _learn_labels(self, labels: Sequence[Any]) -> tuple[tuple[str, ...], list[Any]]:
        numbers = np.asarray(labels, dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise Problem("Some labels are no finite numbers. Remove those rows or mend them.")
        return (), numbers.tolist()

    def predict(self, texts: Texts) -> NDArray[np.float32]:
        """A number for each text."""
        return self._fitted().predict(*_columns(texts))

    def score(self, texts: Texts, labels: Sequence[Any]) -> float:
        """Pearson's correlation."""
        return pearson(np.asarray(labels, dtype=np.float64), self.predict(texts).astype(np.float64))


def _columns(texts: Texts) -> tuple[list[str], list[str] | None]:
    if isinstance(texts, str):
        raise Problem("Give a list of texts, not one string.")
    rows = list(texts)
    single = sum(isinstance(row, str) for row in rows)
    if single == len(rows):
        return [str(row) for row in rows], None
    if single or any(len(row) != 2 for row in rows):
        raise Problem("Give strings, or (text, pair) tuples, for all rows alike.")
    for part in (part for row in rows for part in row):
        if not isinstance(part, str):
            raise Problem(f"A pair holds {part!r}, which is no text. Give two strings in each pair.")
    return [first for first, _ in rows], [second for _, second in rows]
