"""The training loop, the only one; it knows neither where batches come from nor what the loss means."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regard.batch import Packed
from regard.errors import Problem
from regard.model.precision import has_bfloat16
from regard.train import state as states
from regard.train.interrupts import Interrupts
from regard.train.objectives import Objective
from regard.train.optim import Optimizer
from regard.train.plans import Plan, Progress


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A metric of the model as it stands, with its interval, and what each example earned."""

    metric: str
    value: float
    low: float
    high: float
    merit: float  # the value so signed that higher is better; minus infinity where it is undefined
    per_example: NDArray[np.floating[Any]]
    more: dict[str, Any] = field(default_factory=dict)  # what else the log shall say


class Learnable(Protocol):
    """What an objective takes: packed texts, and whatever else it asks for."""

    @property
    def packed(self) -> Packed:
        """The texts."""

    def to(self, device: torch.device | str) -> Learnable:
        """The same batch on another device."""


class Batches(Protocol):
    """Gives the batch at a place, which is an epoch and how many of its batches lie behind.

    `cooled` is how much of the run's end is done; the answer is (place after, epochs done by then, batch).
    """

    def __call__(self, place: tuple[int, int], cooled: float) -> tuple[tuple[int, int], float, Learnable]:
        """Reads one batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the loop calls in the world around it."""

    log: Callable[[dict[str, Any]], None] = lambda row: None
    evaluate: Callable[[], Evaluation] | None = None
    save: Callable[[dict[str, Any]], None] | None = None
    branch: Callable[[dict[str, Any]], None] | None = None  # keeps the state from which a larger budget goes on
    keep_best: Callable[[], None] = lambda: None


def fit(
    model: nn.Module,
    objective: Objective,
    batches: Batches,
    *,
    optimizer: Optimizer,
    plan: Plan,
    outside: Outside,
    resume: dict[str, Any] | None = None,
) -> Progress:
    """Trains until the plan's first limit, or until evaluations stop making progress.

    With `resume`, the state that `outside.save` was given, it goes on to the same bits as a run that never stopped.
    Raises KeyboardInterrupt once it is interrupted and saved.
    """
    device = next(model.parameters()).device
    now, window = _restore(resume, model, optimizer, device)
    saved, began = time.monotonic(), time.monotonic() - now.seconds
    with Interrupts(hold=outside.save is not None) as interrupts:
        while not (interrupts.asked or now.stopped) and (share := plan.progress(now)) < 1:
            model.train()
            cooled = plan.cooled(share)
            if outside.branch and cooled > 0 and not now.cooling:
                outside.branch(_state(now, model, optimizer, window))
            now.cooling = cooled > 0
            loss = torch.zeros((), device=device)
            count = plan.batches(now)
            for _ in range(count):
                now.place, now.epochs, batch = batches(now.place, cooled)
                batch = batch.to(device)
                optimizer.prepare(batch.packed.ids)
                with _precision(device, plan.bfloat16):
                    part, more = objective(model, batch)
                (part / count).backward()
                loss += part.detach() / count
                now.tokens += len(batch.packed.ids)
                window.add(len(batch.packed.ids), more)
            now.step += 1
            factor = plan.rate(now, share)
            norm = optimizer.step(factor)
            now.seconds = time.monotonic() - began
            window.losses.append(loss)
            if now.step % plan.log_steps == 0 or now.step == 1:
                outside.log(window.row(now, plan.progress(now), optimizer.learning_rate * factor, norm))
            if outside.evaluate and plan.due(now, share):
                _evaluate(now, optimizer, plan, outside, window)
            if window.losses and (now.stopped or plan.progress(now) >= 1):  # the steps since the last row
                outside.log(window.row(now, 1.0, optimizer.learning_rate * factor, norm))
            if outside.save and time.monotonic() - saved > plan.save_seconds:
                outside.save(_state(now, model, optimizer, window))
                saved = time.monotonic()
        if outside.save and interrupts.asked:
            outside.save(_state(now, model, optimizer, window))
            raise KeyboardInterrupt
    if outside.branch and not now.cooling:  # no cooldown was asked for, or the last step leapt over it
        outside.branch(_state(now, model, optimizer, window))
    optimizer.flush()
    return now


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether products are taken in bfloat16; `auto` is where the device has instructions for them."""
    return has_bfloat16(device) if precision == "auto" else precision == "bfloat16"


def _precision(device: torch.device, bfloat16: bool) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def _evaluate(now: Progress, optimizer: Optimizer, plan: Plan, outside: Outside, window: _Window) -> None:
    assert outside.evaluate is not None
    window.check(now)
    began = time.monotonic()
    optimizer.flush()
    found = outside.evaluate()
    now.evaluated += 1
    outside.log({
        "kind": "evaluation", "step": now.step, "epoch": now.epochs,
        found.metric: found.value, "low": found.low, "high": found.high, **found.more,
    })  # fmt: skip
    if _better(found, now.best):
        now.without_progress = 0
    else:
        now.without_progress += 1
    if not now.best or found.merit > now.best["merit"]:
        now.best = {
            "merit": found.merit,
            "per_example": torch.from_numpy(np.asarray(found.per_example, dtype=np.float64)),
        }
        outside.keep_best()
    now.stopped = 0 < plan.patience <= now.without_progress
    window.since += time.monotonic() - began  # no part of the speed of training


def _better(found: Evaluation, best: dict[str, Any]) -> bool:
    """Progress is a paired mean difference, over the same examples, of more than its own standard error."""
    if not best:
        return True
    difference = found.per_example - best["per_example"].numpy()
    return bool(difference.mean() > difference.std() / max(1, len(difference)) ** 0.5)


def _state(now: Progress, model: nn.Module, optimizer: Optimizer, window: _Window) -> dict[str, Any]:
    """What a run goes on from; raises `Problem` where the loss is no number, so that the state before it is kept."""
    window.check(now)
    return {
        "progress": asdict(now),
        "model": model.state_dict(),
        "optimizer": optimizer.state(),
        "random": states.random_state(),
        "window": window.state(),
    }


def _restore(
    state: dict[str, Any] | None, model: nn.Module, optimizer: Optimizer, device: torch.device
) -> tuple[Progress, _Window]:
    window = _Window()
    if state is None:
        return Progress(), window
    model.load_state_dict(state["model"])
    optimizer.restore(state["optimizer"])
    states.set_random_state(state["random"])
    if "window" in state:  # which older runs have not saved
        window.restore(state["window"], device)
    now = Progress(**state["progress"])
    now.place = (int(now.place[0]), int(now.place[1]))
    return now, window


class _Window:
    """What has happened since the last row of the log."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.tokens, self.since = 0, time.monotonic()
        self.more: dict[str, list[torch.Tensor]] = {}

    def add(self, tokens: int, more: dict[str, torch.Tensor]) -> None:
        self.tokens += tokens
        for name, value in more.items():
            self.more.setdefault(name, []).append(value)

    def state(self) -> dict[str, Any]:
        """What a saved run keeps of it, so that the next row is the mean that it would have been."""
        return {
            "losses": self.losses, "tokens": self.tokens, "seconds": time.monotonic() - self.since, "more": self.more
        }  # fmt: skip

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        self.losses = [loss.to(device) for loss in state["losses"]]
        self.tokens, self.since = state["tokens"], time.monotonic() - state["seconds"]
        self.more = {name: [value.to(device) for value in values] for name, values in state["more"].items()}

    def check(self, now: Progress) -> float:
        """The mean loss of the window, which is 0 for none; raises `Problem` where it is no number."""
        loss = torch.stack(self.losses).mean().item() if self.losses else 0.0
        if not np.isfinite(loss):
            raise Problem(
                f"The loss is {loss} at step {now.step}. Lower train.learning_rate, or set train.precision=float32."
            )
        return loss

    def row(self, now: Progress, share: float, rate: float, norm: torch.Tensor) -> dict[str, Any]:
        """The window as a row of the log, and a new window; raises `Problem` once the loss is no number."""
        loss = self.check(now)
        means = {name: torch.stack(values).nanmean() for name, values in self.more.items()}
        row = {
            "kind": "step", "step": now.step, "epoch": now.epochs, "loss": loss, "learning_rate": rate,
            "gradient_norm": norm.item(), "tokens_per_second": self.tokens / max(1e-9, time.monotonic() - self.since),
            "seconds": now.seconds, "progress": min(1.0, share),
            **{name: mean.item() for name, mean in means.items() if mean.isfinite()},  # else no batch had any of it
        }  # fmt: skip
        self.clear()
        return row
