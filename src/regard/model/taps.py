"""Every interior value has one name; a tap, given as an argument, watches or replaces it.

    embeddings.word        (tokens, width)   word vectors before positions and segments are added
    embeddings.output      (tokens, width)
    layer.3.attention.query, .key, .value    (tokens, heads, head_width)
    layer.3.attention.scores                 list of (heads, S, S), one for each sequence; scaled, before the softmax
    layer.3.attention.weights                list of (heads, S, S); after the softmax, before dropout
    layer.3.attention.lse  (tokens, heads)   log of the softmax's denominator
    layer.3.attention.mixed                  (tokens, heads, head_width): the heads' weighted sums of values
    layer.3.attention.output                 (tokens, width): mixed heads, joined and projected
    layer.3.attention.sum  (tokens, width)   the residual: the layer's input and what attention adds, not yet normalised
    layer.3.feedforward.output               (tokens, width)
    layer.3.feedforward.sum                  (tokens, width): the same of the feed-forward part
    layer.3.output         (tokens, width)   after residual and normalisation
    pooled                 (sequences, width)
    logits                 (sequences, outputs)

Layers count from 0. Watching anything but scores and weights stays on the fused kernel: from query, key and lse any
weight is exp(q.k / sqrt(d) - lse). Only scores and weights, watched or edited, take the explicit path.

A tap works under torch.compile and in training; but a watched value leaves a compiled graph beside the loss, so that
gradients with respect to it are to be had from the plain model alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from regard.batch import Trace
from regard.errors import Problem

Edit = Callable[[Any], Any]
Attend = Callable[..., tuple[Any, Any]]  # (name, query, key, value, *, packed, scale, noise, lse) -> (mixed, lse)


class Enough(Exception):  # noqa: N818 - it is no error
    """Raised by a tap that has seen all it wants, and caught by whoever gave it: the rest need not be computed."""


class Tap:
    """Watches the values whose names match a pattern into `trace`, after the edits of those that match another.

    Patterns are shell-like: `layer.*.attention.query`, `layer.[0-3].output`. `attend` is called in place of the
    kernels, where scores and weights concern nobody: with the name of the attention, such as `layer.3.attention`, and
    all that a kernel is given.
    """

    def __init__(
        self, watch: Iterable[str] = (), edit: Mapping[str, Edit] | None = None, attend: Attend | None = None
    ) -> None:
        self.watch = tuple(watch)
        self.edit = dict(edit or {})
        self.attend = attend
        self.trace = Trace()

    def concerns(self, name: str) -> bool:
        """Whether the value of this name would be watched or edited."""
        return _matches(name, self.watch) or _matches(name, tuple(self.edit))

    def check(self, layers: int) -> None:
        """Raises `Problem` for a pattern that names a layer by a number which a model of so many layers lacks."""
        for pattern in (*self.watch, *self.edit):
            number = pattern.split(".")[1] if pattern.startswith("layer.") else ""
            if number.isdecimal() and int(number) >= layers:
                raise Problem(f"{pattern}: there is no layer {number}, for this model's are 0 to {layers - 1}.")

    def __call__(self, name: str, value: Any) -> Any:
        """The value to go on with."""
        for pattern, change in self.edit.items():
            if _matches(name, (pattern,)):
                value = change(value)
        if _matches(name, self.watch):
            self.trace.values[name] = value
        return value


def see(tap: Tap | None, name: str, value: Any) -> Any:
    """The value itself without a tap, else what the tap makes of it."""
    return value if tap is None else tap(name, value)


@lru_cache(maxsize=4096)
def _any_matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return _any_matches(name, patterns)


# A compiler takes the answer for granted: left to trace the matching itself, it trips over the library's cache. This is
# what torch.compiler.assume_constant_result does, after loading the whole compiler, which doubles the time to start.
_matches._dynamo_marked_constant = True  # type: ignore[attr-defined]
