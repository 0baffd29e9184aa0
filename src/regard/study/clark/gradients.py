"""How much a loss depends on attention to [SEP]: its gradient by the weights (Clark et al. 2019, figure 3).

    mean over i and over j of class C of |dL / dA_ij|

of one text, for each layer and head. Clark et al. take the loss of the masked-word task. A checkpoint without that head
is asked for the loss that it has:

    masked words   cross entropy of 15 % of the tokens, hidden by [MASK]: where the checkpoint has the head
    own answer     cross entropy of the likeliest answer of a fine-tuned head; of a regression the number itself
    contrastive    of an encoder alone, -ln softmax_b(cos(a, b) / 0.05) for the two texts of each pair among those of 16
                   pairs (InfoNCE, van den Oord et al. 2018), by which sentence encoders are trained

Losses are added over texts and not averaged, so that a text's gradients do not shrink with the size of its batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regard.batch import Encoding, Packed
from regard.data.packing import pack
from regard.lens.attribute.weights import Objective, Slopes, slopes
from regard.lens.capture import spans
from regard.lens.statistics import Moments, Values
from regard.study.heads import classes, fingerprint
from regard.system import System

BATCH = 16  # texts
HIDDEN = 0.15  # share of the tokens that are to be guessed
TEMPERATURE = 0.05
COLUMNS = ("cls", "sep", "stop")  # and all others
OTHER = "other"
LOSSES = {
    "masked words": "the cross entropy of masked words, as in the paper",
    "own answer": "the cross entropy of the answer that the model's own head gives, for the checkpoint has no head for "
    "masked words",
    "contrastive": "a contrastive loss over the two texts of each pair (InfoNCE, temperature 0.05, 16 pairs), for the "
    "checkpoint has no head at all; each text is read by itself",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A batch as a loss reads it, and the loss."""

    packed: Packed
    objective: Objective
    owners: tuple[int, ...]  # which text of the batch each sequence is of


def loss_of(system: System) -> str:
    """Which of `LOSSES` the model can be asked for."""
    if system.model.words is not None and system.tokenizer.number("[MASK]") is not None:
        return "masked words"
    return "contrastive" if system.model.head is None else "own answer"


def signature(system: System) -> str:
    """What the loss is made of besides the encoder: which it is, and the weights of pooling and heads."""
    weights = fingerprint({n: t for n, t in system.model.state_dict().items() if not n.startswith("encoder.")})
    return json.dumps([loss_of(system), system.card.task, type(system.model.pooling).__name__, weights])


def study(
    system: System, encodings: Sequence[Encoding], *, seed: int, advance: Callable[[int], None] = lambda texts: None
) -> dict[str, Any]:
    """Means over texts for each layer and class, and for each head, with intervals over texts, as plain data."""
    loss = loss_of(system)
    names, table = classes(system.tokenizer, {})
    chosen = table[:, [names.index(name) for name in COLUMNS]]
    members = torch.from_numpy(np.column_stack([chosen, 1 - chosen.max(1)])).to(system.device)
    by_head, by_layer = Moments(), Moments()
    if loss == "masked words":
        encodings = [e for e in encodings if len(hidable(system, e))]  # two lines of U+200B leave special tokens alone
    for start in range(0, len(encodings), BATCH):
        batch = encodings[start : start + BATCH]
        if loss == "contrastive" and len(batch) < 2:
            break  # a pair among none tells nothing
        trial = TRIALS[loss](system, batch, np.random.default_rng((seed, start)))
        found = measured(trial, members, layers=system.model.encoder.config.layers)
        for place, name in enumerate((*COLUMNS, OTHER)):
            by_head.add({name: found[..., place]})
            by_layer.add({name: found[..., place].mean(-1, keepdims=True)})
        advance(len(batch))
    texts = int(by_head.count[OTHER].max()) if by_head.count else 0
    return {"loss": loss, "texts": texts, "layers": plain(by_layer.rows()), "heads": plain(by_head.rows())}


def measured(trial: Trial, members: Tensor, *, layers: int) -> Values:
    """Mean |dL / dA_ij| over all i and the j of each class: (texts, layers, heads, classes), nan where a text has none.

    `members` (vocabulary, classes) is 1 where a token is of a class.
    """
    found: Slopes = slopes(trial.objective, trial.packed, range(layers))
    of = members[trial.packed.ids]
    texts = max(trial.owners) + 1
    heads = found.mixed[0].shape[1]
    total = torch.zeros(texts, layers, heads, of.shape[1], device=of.device)
    cells = torch.zeros(texts, of.shape[1], device=of.device)
    for sequence, (span, owner) in enumerate(zip(found.found.spans, trial.owners, strict=True)):
        own = of[span]
        cells[owner] += own.sum(0) * len(own)
        for layer in range(layers):
            total[owner, layer] += found.slopes(layer, sequence).abs_().sum(1) @ own
    mean = torch.where(cells[:, None, None] > 0, total / cells[:, None, None], torch.nan)
    return mean.double().cpu().numpy()


def masked_words(system: System, batch: Sequence[Encoding], random: np.random.Generator) -> Trial:
    """The loss of the masked-word task, mean over the hidden tokens of each text."""
    mask = system.tokenizer.number("[MASK]") or 0
    hidden, places = [], []
    for e in batch:
        open_ = hidable(system, e)
        places.append(random.choice(open_, max(1, round(HIDDEN * len(open_))), replace=False))
        ids = e.ids.copy()
        ids[places[-1]] = mask
        hidden.append(Encoding(ids, e.segments))
    packed = pack(hidden).to(system.device)
    rows = np.concatenate([span.start + some for span, some in zip(spans(packed), places, strict=True)])
    shares = np.concatenate([np.full(len(some), 1 / len(some)) for some in places])
    truth = np.concatenate([e.ids[some] for e, some in zip(batch, places, strict=True)])
    at, share, true = (torch.from_numpy(x).to(system.device) for x in (rows, shares, truth))

    words = system.model.words
    assert words is not None

    def objective(tap: Any) -> Tensor:
        states = system.model.encoder(packed, tap=tap)[at]
        logits = words(states, system.model.encoder.embeddings.word.detach())
        return (F.cross_entropy(logits, true, reduction="none") * share).sum()

    return Trial(packed, objective, tuple(range(len(batch))))


def hidable(system: System, encoding: Encoding) -> NDArray[np.intp]:
    """Places of the tokens of a text that can be hidden: all but [CLS] and [SEP]."""
    special = [system.tokenizer.number(token) or 0 for token in ("[CLS]", "[SEP]")]
    return np.flatnonzero(~np.isin(encoding.ids, special))


def own_answer(system: System, batch: Sequence[Encoding], random: np.random.Generator) -> Trial:
    """The loss of what the model's head answers, were it the truth."""
    packed = pack(batch).to(system.device)

    def objective(tap: Any) -> Tensor:
        logits = system.model(packed, tap=tap, hidden=False).logits
        if system.card.task == "classify":
            return F.cross_entropy(logits, logits.argmax(-1), reduction="sum")
        if system.card.task == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, (logits > 0).float(), reduction="sum")
        return logits.sum()  # type: ignore[no-any-return]

    return Trial(packed, objective, tuple(range(len(batch))))


def contrastive(system: System, batch: Sequence[Encoding], random: np.random.Generator) -> Trial:
    """The loss by which the second text of each pair is told from those of the others, added over the pairs."""
    separator = system.tokenizer.number("[SEP]") or 0
    firsts, seconds = zip(*(halves(e, separator) for e in batch), strict=True)
    packed = pack([*firsts, *seconds]).to(system.device)
    truth = torch.arange(len(batch), device=system.device)

    def objective(tap: Any) -> Tensor:
        vectors = F.normalize(system.model(packed, tap=tap, hidden=False).pooled, dim=-1)
        first, second = vectors.chunk(2)
        return F.cross_entropy(first @ second.T / TEMPERATURE, truth, reduction="sum")

    return Trial(packed, objective, tuple(range(len(batch))) * 2)


TRIALS = {"masked words": masked_words, "own answer": own_answer, "contrastive": contrastive}


def halves(pair: Encoding, separator: int) -> tuple[Encoding, Encoding]:
    """The two texts of `[CLS] A [SEP] B [SEP]` as texts of their own, `[CLS] A [SEP]` and `[CLS] B [SEP]`."""
    end = int(np.flatnonzero(pair.ids == separator)[0]) + 1
    first, second = pair.ids[:end], np.concatenate([pair.ids[:1], pair.ids[end:]])
    one, other = (Encoding(ids, np.zeros_like(ids)) for ids in (first, second))
    return one, other


def plain(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of heads with the columns that the page tells of."""
    keys = ("layer", "head", "statistic", "n", "mean", "low", "high")
    return [{key: row[key] for key in keys} for row in rows]
