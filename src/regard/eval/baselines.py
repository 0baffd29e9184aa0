"""What an encoder has to beat: the majority, and a linear model of words and word pairs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from regard.errors import Problem

Array = NDArray[Any]

FEATURES = 200_000  # the most frequent terms kept; what is rarer costs memory and hardly moves a prediction
PENALTY = 1.0  # on half the squared weights, against the summed loss of all rows
ITERATIONS = 100  # of L-BFGS; it stops sooner where the loss no longer falls

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+")  # a Chinese character, or a run of letters and digits


class Majority:
    """Answers every text alike, with the shares of the classes or labels in training, or with the mean."""

    def __init__(self, task: str, outputs: int, *, seed: int = 0) -> None:
        """`seed` changes nothing; every system is made with one."""
        self.task, self.outputs = task, outputs
        self.answer: Array = np.zeros(outputs)

    def fit(self, texts: Sequence[str], labels: Array) -> Self:
        """Counts the labels."""
        self.answer = _targets(self.task, self.outputs, texts, labels).mean(0)
        return self

    def predict(self, texts: Sequence[str]) -> Array:
        """Probabilities, or for regression the mean, (texts, outputs)."""
        return np.tile(self.answer, (len(texts), 1))


class BagOfWords:
    """Logistic regression, or ridge regression, on tf-idf weights of words and word pairs (Wang and Manning 2012).

    For Chinese the terms are characters and pairs of characters.
    """

    def __init__(self, task: str, outputs: int, *, seed: int = 0) -> None:
        """`seed` changes nothing, as the loss is convex and the start fixed; every system is made with one."""
        self.task, self.outputs = task, outputs
        self.terms = TermWeights()
        self.weight = torch.zeros(0, outputs)
        self.bias = torch.zeros(outputs)

    def fit(self, texts: Sequence[str], labels: Array) -> Self:
        """Learns the terms, then the weights; raises `Problem` where labels and texts do not match."""
        targets = torch.from_numpy(_targets(self.task, self.outputs, texts, labels)).float()
        bags = self.terms.fit(texts).bags(texts)
        self.weight, self.bias = minimise(self.task, bags.times, targets, terms=len(self.terms.place))
        return self

    def predict(self, texts: Sequence[str]) -> Array:
        """Probabilities, or for regression the values, (texts, outputs)."""
        if not len(texts):
            return np.zeros((0, self.outputs))
        scores = self.terms.bags(texts).times(self.weight).add(self.bias).double()
        if self.task == "classify":
            scores = scores.softmax(1)
        elif self.task == "multilabel":
            scores = scores.sigmoid()
        return np.asarray(scores.numpy())


@dataclass(frozen=True, slots=True)
class Bags:
    """A sparse matrix (texts, terms) by rows: text i holds the terms from `starts[i]` to the next start."""

    terms: torch.Tensor  # (entries,) int64
    weights: torch.Tensor  # (entries,) float32
    starts: torch.Tensor  # (texts,) int64

    def times(self, weight: torch.Tensor) -> torch.Tensor:
        """The product with (terms, outputs): each text sums the rows of its terms."""
        return F.embedding_bag(self.terms, weight, self.starts, mode="sum", per_sample_weights=self.weights)


@dataclass(slots=True)
class TermWeights:
    """Sublinear tf-idf: (1 + ln count) (1 + ln((1 + texts) / (1 + texts with the term))), each text to length 1."""

    place: dict[str, int] = field(default_factory=dict)
    rarity: Array = field(default_factory=lambda: np.zeros(0))

    def fit(self, texts: Sequence[str]) -> Self:
        """Learns the terms of these texts and how rare they are."""
        frequency: Counter[str] = Counter()
        for text in texts:
            frequency.update(set(terms(text)))
        # Ties are broken by spelling, so that the same texts in any order give the same terms.
        kept = sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:FEATURES]
        self.place = {term: i for i, (term, _) in enumerate(kept)}
        counts = np.array([count for _, count in kept], dtype=np.float64)
        self.rarity = 1 + np.log((1 + len(texts)) / (1 + counts))
        return self

    def bags(self, texts: Sequence[str]) -> Bags:
        """The weighted terms of each text; terms never seen in training are left out."""
        places: list[int] = []
        values: list[float] = []
        starts: list[int] = []
        for text in texts:
            starts.append(len(places))
            counts = Counter(self.place[term] for term in terms(text) if term in self.place)
            weights = [(1 + math.log(count)) * self.rarity[place] for place, count in counts.items()]
            length = math.hypot(*weights)
            places.extend(counts)
            values.extend(weight / length for weight in weights)
        return Bags(
            torch.tensor(places, dtype=torch.int64),
            torch.tensor(values, dtype=torch.float32),
            torch.tensor(starts, dtype=torch.int64),
        )


def terms(text: str) -> Iterator[str]:
    """Words in lower case, Chinese characters, and each two of them that follow one another."""
    words = _WORD.findall(text.lower())
    yield from words
    yield from map(" ".join, pairwise(words))


def minimise(
    task: str, times: Callable[[torch.Tensor], torch.Tensor], targets: torch.Tensor, *, terms: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (terms, outputs) and free bias that minimise summed loss + penalty / 2 |weights|^2, L-BFGS from zero.

    `times` multiplies the rows' features (rows, terms) with weights; `targets` are (rows, outputs).
    """
    weight = torch.zeros(max(terms, 1), targets.shape[1], requires_grad=True)
    bias = (targets.mean(0) if task == "regress" else torch.zeros(targets.shape[1])).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        loss = _loss(task, times(weight) + bias, targets) + PENALTY / 2 * weight.square().sum()
        loss = loss / len(targets)  # of one size whatever the number of rows, as the tolerances are
        loss.backward()
        return loss

    optimiser.step(objective)
    return weight.detach(), bias.detach()


def _loss(task: str, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if task == "classify":
        return -(targets * scores.log_softmax(1)).sum()
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
    return (scores - targets).square().sum() / 2


def _targets(task: str, outputs: int, texts: Sequence[str], labels: Array) -> NDArray[np.float64]:
    """Labels as (texts, outputs): one-hot classes, labels 0 and 1, or values."""
    labels = np.asarray(labels)
    if not len(labels) or len(labels) != len(texts):
        raise Problem(f"{len(texts)} texts with {len(labels)} labels. Give one label for each of at least one text.")
    if task != "classify":
        return labels.astype(np.float64).reshape(len(labels), outputs)
    if labels.min() < 0 or labels.max() >= outputs:
        raise Problem(f"A class id lies outside 0 to {outputs - 1}. Number the classes from 0.")
    return np.asarray(labels[:, None] == np.arange(outputs), dtype=np.float64)
