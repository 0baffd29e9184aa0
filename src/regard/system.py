"""A model with its tokenizer and its labels: texts in, answers out; what a run writes and everything later loads."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard import disk, hub, views
from regard.batch import Encoding, Output, Packed
from regard.card import Card, build, read_card
from regard.data.packing import batches
from regard.errors import Problem, nearest
from regard.lens.attribute.explanation import Explanation
from regard.lens.bind import bound, record
from regard.lens.edit import Edit, Patch, Recording, tokens_named
from regard.lens.guards import verdicts
from regard.lens.look import Look
from regard.model import checkpoint as checkpoints
from regard.model.encoder import lower_precision
from regard.model.heads import Model
from regard.model.precision import has_bfloat16
from regard.model.taps import Edit as TapEdit
from regard.model.taps import Tap
from regard.text.tokenizer import Tokenizer

log = logging.getLogger("regard")
Array = NDArray[np.float32]
BATCH_TOKENS = 4096  # beyond this the activations outgrow a processor's cache, below it calls cost more than work
GPU_TOKENS = 16 * BATCH_TOKENS  # a GPU is idle below
MEASURED = "faithful.json"  # what `regard faithful` writes beside a model
PRECISIONS = ("auto", "float32", "bfloat16")
CHUNK = 8192  # texts tokenised and sorted by length at a time, so that memory does not grow with the corpus


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system says of one text."""

    label: str | float | list[str]
    probability: float | None
    probabilities: dict[str, float] | None


class System:
    """Tokenizer, model and labels.

    system(texts) answers; system.encode(texts) gives vectors; system.look(text) shows attention;
    system.explain(text) gives the tokens that an answer depends on.
    """

    faithful: dict[str, Any] | None = None  # what `regard faithful` has measured, where it has

    def __init__(self, tokenizer: Tokenizer, model: Model, origin: checkpoints.Checkpoint, card: Card) -> None:
        self.tokenizer, self.model, self.origin, self.card = tokenizer, model.eval(), origin, card

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def __call__(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> Any:
        """Answers for texts, one for each (one for a single string); vectors where there is no head."""
        if isinstance(texts, str):
            return self([texts], [pairs] if isinstance(pairs, str) else pairs)[0]
        if self.model.head is None:
            return self.encode(texts, pairs)
        return [self.answer(row) for row in self.predict(texts, pairs)]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, edits: Sequence[Edit] = ()) -> Array:
        """Pooled vectors: (texts, width) float32; with `edits` of attention, as they make them."""
        return self._run(texts, pairs, lambda output: output.pooled, self.model.encoder.config.width, edits=edits)

    def predict(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        edits: Sequence[Edit] = (),
        advance: Callable[[int], None] = lambda texts: None,
    ) -> Array:
        """Probabilities (texts, labels), or the number (texts,) of a regression; windows of a text are averaged.

        `edits` of attention, such as `Drop(3, 5)`, hold for this call alone. `advance` is told how many texts each
        batch has read.
        """
        if self.model.head is None:
            raise Problem("This model has no head, so it predicts nothing. Train one: regard train --model ...")
        found = self._run(texts, pairs, self.outputs, self.model.head.linear.weight.shape[0], advance, edits)
        return found[:, 0] if self.card.task == "regress" else found

    def look(
        self,
        text: str,
        pair: str | None = None,
        *,
        layer: int | None = None,
        head: int | None = None,
        words: str | None = None,
    ) -> Look:
        """The attention of one text or pair: of every layer and head, or of those named, counted from 0.

        `words` names a segmenter (auto, space, zh) by which tokens are merged to words.
        """
        return views.look(
            self.tokenizer, self.model, text, pair,
            layer=layer, head=head, words=words, max_length=self.card.max_length, faithful=self.faithful,
        )  # fmt: skip

    def explain(
        self, text: str, pair: str | None = None, *, method: str = "relevance", label: str | None = None
    ) -> Explanation:
        """How much each token speaks for a label, or for the likeliest, by one of `lens.attribute.methods`."""
        return views.explain(
            self.tokenizer, self.model, self.outputs, text, pair,
            method=method, label=label, labels=self.card.labels, max_length=self.card.max_length,
        )  # fmt: skip

    def fill(self, text: str, pair: str | None = None, *, top: int = 5) -> list[list[tuple[str, float]]]:
        """The likeliest words of each [MASK], likeliest first, with their probabilities."""
        return views.fill(self.tokenizer, self.model, text, pair, top=top, max_length=self.card.max_length)

    def answer(self, row: Any) -> Answer:
        """A row of `predict` in words."""
        task, labels = self.card.task, self.card.labels
        if task == "regress":
            return Answer(float(row), None, None)
        shares = {label: float(p) for label, p in zip(labels, row, strict=True)}
        if task == "multilabel":
            return Answer([label for label, p in shares.items() if p >= self.card.threshold], None, shares)
        best = max(shares, key=lambda label: shares[label])
        return Answer(best, shares[best], shares)

    def save(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and the tokenizer as the hub reads them, and regard.json."""
        folder = Path(folder)
        card = {k: getattr(self.card, k) for k in Card.__dataclass_fields__}
        changes: dict[str, Any] = {}
        if self.card.task:
            hub_kind = self.card.pooling == "first"
            changes = {
                "architectures": ["BertForSequenceClassification" if hub_kind else "BertModel"],
                "id2label": {str(i): label for i, label in enumerate(self.card.labels)} or {"0": "LABEL_0"},
                "label2id": {label: i for i, label in enumerate(self.card.labels)} or {"LABEL_0": 0},
                "problem_type": {
                    "classify": "single_label_classification",
                    "multilabel": "multi_label_classification",
                    "regress": "regression",
                }[self.card.task],
            }
        kept = bool(self.origin.tensors) and not self.card.task
        checkpoints.save(folder, self.model, self.origin, changes=changes, keep=kept)
        self.tokenizer.save(folder)
        disk.write_text(folder / "regard.json", json.dumps(card, indent=2, ensure_ascii=False) + "\n")

    def outputs(self, output: Output) -> torch.Tensor:
        """What `predict` gives of a model's output: probabilities, or numbers in the labels' units."""
        assert output.logits is not None
        if self.card.task == "classify":
            return output.logits.softmax(-1)
        if self.card.task == "multilabel":
            return output.logits.sigmoid()
        mean, deviation = self.card.scale
        return output.logits * deviation + mean

    def _run(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        take: Callable[[Output], torch.Tensor | None],
        width: int,
        advance: Callable[[int], None] = lambda texts: None,
        edits: Sequence[Edit] = (),
    ) -> Array:
        """Rows for texts: tokenised and sorted in chunks, packed in batches, windows averaged."""
        out = np.zeros((len(texts), width), dtype=np.float32)
        cut_short: list[int] = []
        edits = self._recorded(edits)
        for start in range(0, len(texts), CHUNK):
            span = slice(start, start + CHUNK)
            part = self.tokenizer.encode(
                texts[span],
                None if pairs is None else pairs[span],
                max_length=self.card.max_length,
                stride=self.card.stride,
            )
            for encodings, rows in self.batches(part, take, edits):
                np.add.at(out[span], [e.source for e in encodings], rows)
                advance(len({e.source for e in encodings}))
            out[span] /= np.bincount([e.source for e in part], minlength=1)[:, None]
            cut_short += [e.dropped for e in part if e.dropped]
        warn_of_cuts(
            cut_short, len(texts), self.card.max_length, cure="A model trained with data.stride reads them in windows."
        )
        return out

    def batches(
        self, encodings: list[Encoding], take: Callable[[Output], torch.Tensor | None], edits: Sequence[Edit] = ()
    ) -> Any:
        """Runs encodings in batches of like length; yields (encodings, rows) with a row for each."""
        for batch, packed in self.packs(encodings):
            tap = Tap(edit=self._bound(edits, batch, packed)) if edits else None
            with torch.no_grad():
                rows = take(self.model(packed, tap=tap, hidden=False))
            assert rows is not None
            yield batch, rows.float().cpu().numpy()

    def packs(self, encodings: list[Encoding]) -> Iterator[tuple[list[Encoding], Packed]]:
        """Batches of like length, packed on the model's device, which is in evaluation mode."""
        # A walk through all modules takes, for one short text, as long as a layer.
        if any(part.training for part in (self.model, *self.model.children())):
            self.model.eval()
        for places, packed in batches(encodings, BATCH_TOKENS):
            yield [encodings[place] for place in places], packed.to(self.device)

    def _bound(self, edits: Sequence[Edit], encodings: list[Encoding], packed: Packed) -> dict[str, TapEdit]:
        """The edits for one batch; its tokens are spelt out only where an edit names some."""
        tokens = [self.tokenizer.tokens(e) for e in encodings] if tokens_named(edits) else None
        return bound(edits, packed, self.model.encoder.config, tokens=tokens)

    def _recorded(self, edits: Sequence[Edit]) -> list[Edit]:
        """The edits, with what they take from other texts; raises `Problem` for a token that no text can have."""
        if unknown := [token for token in tokens_named(edits) if self.tokenizer.number(token) is None]:
            raise Problem(
                f"The vocabulary has no token '{unknown[0]}', so no text has one. A longer word is several tokens: "
                'regard look MODEL "the word" shows them.'
            )
        return [
            replace(edit, source=self._record(edit))
            if isinstance(edit, Patch) and isinstance(edit.source, str)
            else edit
            for edit in edits
        ]

    def _record(self, edit: Patch) -> Recording:
        """A run of the text that a patch names as its source."""
        found = self.tokenizer.encode(
            [str(edit.source)], [edit.pair] if edit.pair else None, max_length=self.card.max_length
        )
        cut_short = [e.dropped for e in found if e.dropped]
        warn_of_cuts(cut_short, 1, self.card.max_length, cure="A patch takes its values from a shorter text as well.")
        _, packed = next(self.packs(found))
        return record(self.model.encoder, packed, edit, tokens=[self.tokenizer.tokens(found[0])])


def room(device: torch.device) -> int:
    """Tokens of a batch of which no gradient is asked, at most."""
    return BATCH_TOKENS if device.type == "cpu" else GPU_TOKENS


def warn_of_cuts(dropped: list[int], texts: int, length: int, *, cure: str) -> None:
    """Says how many texts were cut, and by how many tokens in all, to those too who listen to nothing."""
    if dropped:
        log.warning(
            "%d of %d texts are longer than %d tokens and were cut: %d tokens were not read. %s",
            len(dropped), texts, length, sum(dropped), cure,
        )  # fmt: skip


def load(
    name: str | Path,
    *,
    revision: str = "main",
    device: str = "auto",
    precision: str = "auto",
    kernel: str | None = None,
) -> System:
    """The system in a folder or of a hub name: one that a run wrote, or any published BERT.

    `precision` is float32, bfloat16, or auto: float32 on a CPU, where it is exact and not much slower, and bfloat16 on
    a GPU.
    """
    if precision not in PRECISIONS:
        raise Problem(
            f"There is no precision '{precision}'. {nearest(precision, PRECISIONS)}Known: {', '.join(PRECISIONS)}."
        )
    folder, origin, tokenizer = open_folder(name, revision=revision)
    card = read_card(folder, origin)
    model = build(origin, card, kernel=kernel)
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model.to(place)
    fast = place.startswith("cuda") and has_bfloat16(torch.device(place))
    if precision == "bfloat16" or (precision == "auto" and fast):
        lower_precision(model.encoder)
    system = System(tokenizer, model, origin, card)
    with suppress(Problem):  # figures that nobody can read are no reason not to load
        system.faithful = measured(folder)
    return system


def measured(place: str | Path) -> dict[str, Any] | None:
    """What `regard faithful` wrote to a model's folder or a file, or None; raises `Problem` for anything else."""
    path = Path(place)
    path = path / MEASURED if path.is_dir() else path
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if verdicts(found) and {"deletion", "texts", "data"} <= found.keys():
            return found  # type: ignore[no-any-return]
    except (OSError, ValueError):
        pass
    raise Problem(f"{path} cannot be read. Delete it, or measure again with regard faithful.")


def open_folder(name: str | Path, *, revision: str = "main") -> tuple[Path, checkpoints.Checkpoint, Tokenizer]:
    """The model folder of that name with its checkpoint and its tokenizer."""
    folder = find_folder(name, revision=revision)
    origin, tokenizer = checkpoints.load(folder), Tokenizer.load(folder)
    if tokenizer.size > origin.config.vocabulary:
        raise Problem(
            f"The tokenizer in {folder} has {tokenizer.size} tokens and the model only {origin.config.vocabulary}: "
            "they do not belong together."
        )
    return folder, origin, tokenizer


def find_folder(name: str | Path, *, revision: str = "main") -> Path:
    """The model folder of that name, or the one inside a run's folder."""
    folder = hub.model_folder(str(name), revision=revision)
    return folder / "model" if (folder / "model" / "config.json").exists() else folder
