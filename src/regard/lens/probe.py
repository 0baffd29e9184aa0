"""How much syntax all heads hold together: probes that read attention alone, Clark et al. 2019, section 5.

The head i of word j is predicted from the weights between them, A^k of each attention head k, frozen:

    attention             p(i | j)  ~  exp( sum_k w_k A^k[j, i] + u_k A^k[i, j] )
    attention and words   the same, with w, u = a linear function of the vectors of words j and i
    distance and words    p(i | j)  ~  exp( o . tanh(M [features of i - j; v_j; v_i]) ), without attention

and the root by what the same weights make of [CLS] and [SEP], each times a learned number. Word vectors are the
encoder's own word embeddings, frozen, where Clark et al. take GloVe. A control task (Hewitt and Liang 2019) asks for
heads that only the form of a word decides: itself, the first or the last word. What a probe learns by heart it learns
there too; its selectivity is what it does better on real trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.lens.capture import Capture
from regard.lens.relations import Dependencies, word_weights
from regard.lens.words import units

RATE = 0.002  # Adam's, with one sentence a step, as Clark et al. have it
NEAR = 2  # offsets that the distance baseline tells apart: -2 to 2
TASKS = ("trees", "control")


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence of W words between its [CLS] and [SEP]: what probes read, and what they are to say."""

    sentence: int
    weights: Tensor  # (heads of all layers, W + 2, W + 2)
    vectors: Tensor  # (W + 2, width)
    targets: dict[str, Tensor]  # for each of TASKS, (W,): the place of each word's head; W for the root
    counted: NDArray[np.bool_]  # (W,) which words are scored: all but punctuation


class Attention(nn.Module):
    """Attention alone: two weights for each head, and two for the root."""

    # These few weights must grow to about ten; on a treebank a twentieth of Clark et al.'s they would not get there.
    rate = 10 * RATE

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2, heads) * 0.01)
        self.root = nn.Parameter(torch.ones(2))

    def forward(self, example: Example) -> Tensor:
        """Logits of each word's head, the root last: (W, W + 1)."""
        there, back = torch.einsum("dk,kji->dji", self.weights, example.weights)
        return _with_root(there + back.T, self.root)


class AttentionAndWords(nn.Module):
    """The weights of heads are a linear function of the two words' vectors."""

    rate = RATE

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.dependent = nn.Linear(width, 2 * heads)
        self.head = nn.Linear(width, 2 * heads, bias=False)
        self.root = nn.Parameter(torch.ones(2))

    def forward(self, example: Example) -> Tensor:
        """Logits of each word's head, the root last: (W, W + 1)."""
        both = torch.cat([example.weights, example.weights.mT])
        score = torch.einsum("jk,kji->ji", self.dependent(example.vectors), both)
        return _with_root(score + torch.einsum("ik,kji->ji", self.head(example.vectors), both), self.root)


class DistanceAndWords(nn.Module):
    """No attention: how far apart two words are, and which they are, through 256 hidden units."""

    rate = RATE

    def __init__(self, heads: int, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.distance = nn.Linear(2 + 2 * NEAR + 1 + 1, hidden)
        self.dependent = nn.Linear(width, hidden, bias=False)
        self.head = nn.Linear(width, hidden, bias=False)
        self.output = nn.Linear(hidden, 1)

    def forward(self, example: Example) -> Tensor:
        """Logits of each word's head, the root last: (W, W + 1)."""
        words = example.vectors[1:-1]
        candidates = torch.cat([words, torch.zeros_like(words[:1])])
        inner = self.distance(distances(len(words)).to(words.device))
        inner = inner + self.dependent(words).unsqueeze(1) + self.head(candidates)
        return self.output(inner.tanh()).squeeze(-1)  # type: ignore[no-any-return]


Probe = Attention | AttentionAndWords | DistanceAndWords
PROBES: dict[str, type[Probe]] = {
    "attention": Attention,
    "attention and words": AttentionAndWords,
    "distance and words": DistanceAndWords,
}


def distances(size: int) -> Tensor:
    """Features of i - j for each word j and candidate i, the root last: (W, W + 1, 8).

    How far to the right, how far to the left (in tens of words), which of the offsets -2 to 2 it is, and whether i is
    the root.
    """
    offset = torch.arange(size) - torch.arange(size).unsqueeze(1)
    near = offset.unsqueeze(-1) == torch.arange(-NEAR, NEAR + 1)
    far = torch.stack([offset.clamp(min=0), offset.clamp(max=0).neg()], -1) / 10
    out = torch.zeros(size, size + 1, 2 + near.shape[-1] + 1)
    out[:, :size, :2], out[:, :size, 2:-1], out[:, size, -1] = far, near.float(), 1
    return out


@dataclass(slots=True)
class Trial:
    """One probe that learns one task; `right` holds how many words of each sentence it got, of `counts`."""

    probe: Probe
    task: str
    right: dict[int, int] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def score(self, example: Example) -> None:
        """Counts the words of a sentence whose head is predicted; punctuation does not count."""
        with torch.no_grad():
            guess = self.probe(example).argmax(1)
        hits = (guess == example.targets[self.task]).cpu().numpy()
        self.right[example.sentence] = int(hits[example.counted].sum())
        self.counts[example.sentence] = int(example.counted.sum())


def fit(trials: Sequence[Trial], examples: Iterable[Example]) -> None:
    """Trains all trials side by side, a step of Adam for each sentence, on the cross entropy summed over its words."""
    optimizers = [torch.optim.Adam(trial.probe.parameters(), lr=trial.probe.rate) for trial in trials]
    for example in examples:
        for trial, optimizer in zip(trials, optimizers, strict=True):
            loss = F.cross_entropy(trial.probe(example), example.targets[trial.task], reduction="sum")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def example(
    found: Capture, sequence: int, *, words: NDArray[np.int64], gold: Dependencies, control: NDArray[np.int64],
    table: Tensor, sentence: int,
) -> Example:  # fmt: skip
    """What probes read of one sentence of a captured batch, all of whose words have tokens.

    `table` are word embeddings, scaled; a word's vector is the mean of its tokens'. `control` are the heads of the
    control task.
    """
    ids = found.packed.ids[found.spans[sequence]]
    of = torch.as_tensor(units(words), device=ids.device)
    size = len(gold.heads)
    vectors = table.new_zeros(size + 2, table.shape[1]).index_add_(0, of, table[ids])
    vectors /= of.bincount().unsqueeze(1)
    heads = np.where(gold.heads < 0, size, gold.heads)
    targets = {name: torch.as_tensor(t, device=ids.device) for name, t in zip(TASKS, (heads, control), strict=True)}
    weights = torch.cat(list(word_weights(found, sequence, words, special=True)))
    return Example(sentence, weights, vectors, targets, ~gold.punctuation)


def _with_root(score: Tensor, root: Tensor) -> Tensor:
    """Logits among the words, and the root's from those of [CLS] and [SEP]: (W + 2, W + 2) -> (W, W + 1)."""
    rows = score[1:-1]
    return torch.cat([rows[:, 1:-1], (rows[:, [0, -1]] @ root).unsqueeze(1)], 1)
