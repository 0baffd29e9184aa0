"""What a report tells, before anybody has decided how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regard.lens.guards import Guard
from regard.measure.scores import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionExample:
    """One text as the model read it, and all weights of all heads."""

    text: str
    pair: str | None = None
    tokens: list[str]
    weights: np.ndarray  # (layers, heads, tokens, tokens) in [0, 1]; rows look, columns are looked at
    truth: str
    predicted: str
    right: bool | None = None  # None where answers are numbers, which are near or far
    confidence: float
    guards: tuple[Guard, ...] = ()  # what to know before believing the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a report tells."""

    title: str
    task: str
    recipe: str  # TOML
    history: list[dict[str, Any]]  # rows of metrics.jsonl
    scores: list[Score]  # the one to quote first
    baselines: Mapping[str, list[Score]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    truth: np.ndarray  # (rows,) class ids or numbers; (rows, labels) of 0 and 1
    output: np.ndarray  # (rows, labels) probabilities; (rows,) numbers
    texts: list[str]
    pairs: list[str] | None = None
    lines: list[int] | None = None  # where the rows stand in their file
    attention: list[AttentionExample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    threshold: float = 0.5  # of multilabel: a label is predicted where its probability reaches it
