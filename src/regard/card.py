"""What `regard.json` adds to a folder that the hub's tools read, and the model that it describes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from regard.errors import Problem
from regard.model.checkpoint import Checkpoint
from regard.model.encoder import bert
from regard.model.heads import Detector, Head, Model
from regard.model.pooling import pooler
from regard.model.words import WordHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What `regard.json` adds to a folder that the hub's tools read."""

    task: str = ""  # classify, multilabel, regress; empty: an encoder without a head
    labels: tuple[str, ...] = ()
    pooling: str = "first"
    max_length: int = 512
    stride: int = 0
    threshold: float = 0.5  # of a label's probability, for multilabel
    scale: tuple[float, float] = (0.0, 1.0)  # mean and deviation of the numbers a regression was trained on
    columns: dict[str, str] = field(default_factory=dict)  # of the training file, tried first in other files
    lineage: dict[str, Any] | None = None


def build(
    origin: Checkpoint,
    card: Card,
    *,
    dropout: tuple[float, float] = (-1.0, -1.0),
    kernel: str | None = None,
    old_head: bool = True,
) -> Model:
    """A model with the checkpoint's weights, and fresh ones for what it lacks or, without `old_head`, for the head.

    `dropout` is of hidden states and of attention weights; below zero, what the checkpoint says.
    """
    rates = {"dropout": dropout[0], "attention_dropout": dropout[1]}
    config = replace(origin.config, **{k: v for k, v in rates.items() if v >= 0})  # type: ignore[arg-type]
    pooling = pooler(
        card.pooling, config.width, dense=card.pooling == "first" and (origin.has_pooler or bool(card.task))
    )
    outputs = 1 if card.task == "regress" else len(card.labels)
    head = Head(config.width, outputs, config.dropout) if card.task else None
    words = WordHead(config, apart=origin.words_apart) if origin.has_words and not card.task else None
    pairs = Head(config.width, 2, 0.0) if origin.has_pairs and not card.task and card.pooling == "first" else None
    detector = Detector(config) if origin.has_detector and not card.task else None
    model = Model(bert(config, kernel=kernel), pooling, head, words, pairs, detector)
    fresh = origin.fill(model, without=() if old_head else ("head.",))
    if old_head and any(name.startswith("head.") for name in fresh):
        raise Problem(
            "The weights lack those of the head, which regard.json or config.json says they have. "
            "Copy the whole folder again, or delete regard.json to load the encoder alone."
        )
    return model


def read_card(folder: Path, origin: Checkpoint) -> Card:
    """What `regard.json` says, or what the hub's own files let one conclude."""
    path = folder / "regard.json"
    if path.exists():
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            return Card(**said | {"labels": tuple(said["labels"]), "scale": tuple(said["scale"])})
        except (ValueError, TypeError, KeyError) as error:
            raise Problem(
                f"{path} cannot be read ({error}). Train again, or delete it to load the encoder alone."
            ) from None
    length = min(origin.config.positions, 512)
    settings = origin.settings
    kinds = settings.get("architectures") or []
    if "BertForSequenceClassification" in kinds and "classifier.weight" in origin.tensors:
        count = len(origin.tensors["classifier.weight"])
        names = settings.get("id2label") or {}
        labels = tuple(str(names.get(str(i), f"LABEL_{i}")) for i in range(count))
        kind = settings.get("problem_type")
        task = "multilabel" if kind == "multi_label_classification" else "regress" if count == 1 else "classify"
        return Card(task=task, labels=() if task == "regress" else labels, max_length=length)
    return Card(pooling=default_pooling(folder, origin), max_length=length)


def default_pooling(folder: Path, origin: Checkpoint) -> str:
    """Mean where a sentence encoder's folder says so or no pooler was trained, else the first token."""
    path = folder / "1_Pooling" / "config.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens"):
        return "mean"
    return "first" if origin.has_pooler else "mean"
