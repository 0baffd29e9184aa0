"""A model: encoder, pooling, and a head that answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from regard.batch import Output, Packed
from regard.model.config import EncoderConfig
from regard.model.dropout import Dropout
from regard.model.encoder import Encoder
from regard.model.linear import Linear, chain
from regard.model.pooling import First
from regard.model.taps import Tap, see
from regard.model.words import WordHead


class Head(nn.Module):
    """Logits of a pooled vector, W dropout(x) + b: one for each class or label, or one number to regress.

    Of a pair of sentences it is two, the second for a pair that is none (Devlin et al. 2019).
    """

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = Linear(width, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """(sequences, width) -> (sequences, outputs), float32."""
        return self.linear(self.dropout(pooled)).float()  # type: ignore[no-any-return]


class Detector(nn.Module):
    """Whether each token was put there by a generator: one logit, w activation(W h + b) + c, Clark et al. 2020."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.width, config.activation)
        self.output = Linear(config.width, 1)

    def forward(self, states: Tensor) -> Tensor:
        """(tokens, width) -> (tokens,), float32."""
        return chain(states, self.dense, self.output).squeeze(1).float()


class Model(nn.Module):
    """Packed ids in, hidden states, pooled vectors and, with a head, logits out.

    What is learnt from running text has heads of its own: `words` guesses hidden words, `pairs` tells from the pooled
    vector whether the second part follows the first, `detector` which tokens were replaced.
    """

    def __init__(
        self,
        encoder: Encoder,
        pooling: nn.Module,
        head: Head | None = None,
        words: WordHead | None = None,
        pairs: Head | None = None,
        detector: Detector | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.pooling, self.head = encoder, pooling, head
        self.words, self.pairs, self.detector = words, pairs, detector

    def forward(self, packed: Packed, *, tap: Tap | None = None, hidden: bool = True) -> Output:
        """Runs all parts; `tap` watches or edits any interior value.

        Without `hidden` the hidden states are not asked for, and what only they need is not computed: where the first
        token is pooled, most of the last layer.
        """
        states = None
        if not hidden and tap is None and isinstance(self.pooling, First):
            pooled = self.pooling.of_firsts(self.encoder.at(packed), packed)
        else:
            states = self.encoder(packed, tap=tap)
            pooled = see(tap, "pooled", self.pooling(states, packed))
        logits = None if self.head is None else see(tap, "logits", self.head(pooled))
        return Output(states if hidden else None, pooled, logits)


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Within, nothing drops out or has a gradient; afterwards each part is in training or not, as it was found."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True
