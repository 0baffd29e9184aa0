"""When a run ends, how fast it learns, and when it looks up: by limits, or by a budget that can be raised later."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Progress:
    """What the loop must remember to go on as if it had never stopped."""

    step: int = 0
    epochs: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    place: tuple[int, int] = (0, 0)  # epoch, batches of it
    evaluated: int = 0  # evaluations done
    without_progress: int = 0
    best: dict[str, Any] = field(default_factory=dict)  # value and per_example of the best evaluation
    stopped: bool = False
    cooling: bool = False  # whether the end of the run has begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(ABC):
    """What every run needs."""

    evaluations: int = 1  # an epoch, or a budget
    patience: int = 0
    bfloat16: bool = True
    save_seconds: float = 60
    log_steps: int = 10

    @abstractmethod
    def progress(self, now: Progress) -> float:
        """The share of the run that is done; it ends at 1."""

    @abstractmethod
    def rate(self, now: Progress, before: float) -> float:
        """The share of the learning rate for the step that ends now, which began when the share `before` was done.

        It is that of the middle of the step, so that the first step of a warm-up is not taken at zero.
        """

    @abstractmethod
    def batches(self, now: Progress) -> int:
        """How many batches the next step sums up."""

    @abstractmethod
    def due(self, now: Progress, before: float) -> bool:
        """Whether to evaluate after a step that began when the share `before` was done."""

    def cooled(self, share: float) -> float:
        """The share of the run's end that is done, where it has one that is unlike the rest."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Plan):
    """A run until the first limit that is used up, the rate by the share of it that is done; a limit of 0 is none."""

    epochs: float = 0
    steps: int = 0
    minutes: float = 0
    accumulate: int = 1
    warmup: float = 0.1
    schedule: str = "linear"

    def progress(self, now: Progress) -> float:
        """The largest share of any limit.

        Beside another limit, minutes count once they are a twentieth of the run ahead of it, or over: a limit in
        minutes that will not end the run leaves its every bit as it is.
        """
        limits = ((now.step, self.steps), (now.epochs, self.epochs))
        work = max((done / limit for done, limit in limits if limit > 0), default=0.0)
        time = now.seconds / 60 / self.minutes if self.minutes > 0 else 0.0
        ahead = time >= 1 or time > work + 0.05 or not (self.steps or self.epochs)
        return max(work, time) if ahead else work

    def rate(self, now: Progress, before: float) -> float:
        """A linear rise, then a linear or cosine fall, or none."""
        return schedule(self.schedule, self.warmup, (before + self.progress(now)) / 2)

    def batches(self, now: Progress) -> int:
        """Always as many."""
        return self.accumulate

    def due(self, now: Progress, before: float) -> bool:
        """So many times an epoch."""
        return now.epochs * self.evaluations >= now.evaluated + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Plan):
    """A trunk that no budget bends, then a cooldown that ends it (Hu et al. 2024; Hägele et al. 2024).

    In the trunk the rate rises over `warmup` steps and stays; over the last `cooldown` of the budget it falls as
    1 - sqrt(share). So a run goes on with a larger budget from where its trunk ended, to the same bits as if it had
    had the larger one from the start.

    With T tokens read a step sums up the batches of first (1 + T / ramp)^(1/2) tokens, at most `most`, rounded down to
    whole batches: the size from which larger batches help no more grows as the loss falls (McCandlish et al. 2018).
    """

    amount: float
    unit: str = "steps"  # or tokens, epochs, minutes
    warmup: int = 100  # steps
    cooldown: float = 0.2
    batch_tokens: int = 4096  # of one batch
    most: int = 16384
    ramp: int = 0  # tokens; 0: steps of `most` tokens from the start

    def progress(self, now: Progress) -> float:
        """The share of the budget that is spent."""
        spent = {"steps": now.step, "tokens": now.tokens, "epochs": now.epochs, "minutes": now.seconds / 60}
        return spent[self.unit] / self.amount

    def rate(self, now: Progress, before: float) -> float:
        """A rise by steps, then one, then the fall, of which a step that was begun in the trunk knows nothing."""
        share = (before + self.progress(now)) / 2 if self.cooled(before) > 0 else before
        return min(1.0, (now.step - 0.5) / max(1, self.warmup)) * (1 - math.sqrt(min(1.0, self.cooled(share))))

    def batches(self, now: Progress) -> int:
        """More of them the more tokens were read."""
        size = self.batch_tokens * math.sqrt(1 + now.tokens / self.ramp) if self.ramp else self.most
        return max(1, int(min(size, self.most) / self.batch_tokens))

    def due(self, now: Progress, before: float) -> bool:
        """So many times in the whole, the last time at the end."""
        return int(self.progress(now) * self.evaluations) > int(before * self.evaluations)

    def cooled(self, share: float) -> float:
        """The share of the cooldown that is done."""
        return max(0.0, (share - 1) / self.cooldown + 1) if self.cooldown else 0.0


def schedule(kind: str, warmup: float, progress: float) -> float:
    """The share of the learning rate at a share of the run: a linear rise, then linear or cosine fall, or none."""
    if progress < warmup:
        return progress / warmup
    rest = min(1.0, (progress - warmup) / max(1e-12, 1 - warmup))
    return {"linear": 1 - rest, "cosine": 0.5 * (1 + math.cos(math.pi * rest)), "constant": 1.0}[kind]
