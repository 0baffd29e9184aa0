"""AdamW or Muon for an encoder: layer-wise rates, clipping, and a word table that costs what a batch touches."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import Problem
from regard.train.muon import Muon

BETAS, EPSILON = (0.9, 0.999), 1e-8
NOTHING = 1e-18  # beside 1, in double precision


class RowAdamW:
    """AdamW (Loshchilov and Hutter 2019) for a table of which each step touches few rows; equal to the dense one.

    Between step s, when a row was last touched, and step t, dense AdamW sees zero gradients: moments decay by powers of
    beta, and with r = beta_1 / sqrt(beta_2), u_j = lr_j sqrt(1 - beta_2^j) / (1 - beta_1^j) and the weight decay's
    D(j, t) = prod_{i=j+1..t} (1 - lr_i wd), the row arrives at

        p_t = D(s, t) p_s - m_s / (sqrt(v_s) + e_s) sum_{j=s+1..t} u_j r^(j-s) D(j, t),

    so `catch_up` replays any number of steps at once, just before the row is read. The only liberty is e_s: in these
    units dense AdamW's epsilon, epsilon sqrt((1 - beta_2^j) / beta_2^(j-s)), differs from step to step, and e_s is its
    mean with the sum's own weights, which is exact to the first order of epsilon. What a step adds to sums that began
    long before is nothing, as r to the power of the steps between is, so that a step costs the same however many were.
    """

    def __init__(
        self,
        table: nn.Parameter,
        *,
        weight_decay: float,
        rate: float = 1.0,
        betas: tuple[float, float] = BETAS,
        epsilon: float = EPSILON,
    ) -> None:
        self.table, self.weight_decay, self.rate, self.betas, self.epsilon = table, weight_decay, rate, betas, epsilon
        self.first, self.second = torch.zeros_like(table), torch.zeros_like(table)
        self.last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        # For each step s: log D(0, s), the sum over the steps since without what D(s, now) makes of all of it, and the
        # same sum with each step's epsilon as a further factor. There is room for more steps than were taken.
        self.steps, self.past = 0, torch.zeros(1024, 3, dtype=torch.float64)
        r, e = betas[0] / math.sqrt(betas[1]), betas[0] / betas[1]
        gaps = torch.arange(math.ceil(math.log(NOTHING) / math.log(e)), 0, -1, dtype=torch.float64)
        self.fades = torch.stack([r**gaps, e**gaps], 1)  # (gaps, 2), the widest first

    @torch.no_grad()
    def catch_up(self, rows: Tensor) -> None:
        """Brings rows (unique indices) to what dense AdamW would hold now."""
        since = self.last[rows]
        rows = rows[since < self.steps]
        if not len(rows):
            return
        since = self.last[rows]
        place, (beta1, beta2) = since.cpu(), self.betas
        gap = (self.steps - place).double()
        decay, (pull, lean) = self._decay(place), self.past[place, 1:].unbind(1)
        epsilon = (lean / pull).nan_to_num(nan=self.epsilon)  # 0 / 0 while the rate is 0
        decay, pull, epsilon, fade1, fade2 = (
            t.to(self.table.device, self.table.dtype).unsqueeze(1)
            for t in (decay, decay * pull, epsilon, beta1**gap, beta2**gap)
        )
        m, v = self.first[rows], self.second[rows]
        self.table[rows] = self.table[rows] * decay - m / (v.sqrt() + epsilon) * pull
        self.first[rows], self.second[rows] = m * fade1, v * fade2
        self.last[rows] = self.steps

    @torch.no_grad()
    def flush(self) -> None:
        """Brings the whole table up to date, before something else reads it."""
        # Most of a vocabulary is never touched: it has no moments, and only decays.
        touched = self.second.any(1)
        decay = self._decay(self.last.cpu()).to(self.table.device, self.table.dtype).masked_fill_(touched, 1.0)
        self.table.mul_(decay.unsqueeze(1))
        self.last[~touched] = self.steps
        for rows in touched.nonzero().squeeze(1).split(8192):
            self.catch_up(rows)

    @torch.no_grad()
    def step(self, rate: float, *, excess: Tensor | None = None) -> None:
        """One step with the table's sparse gradient over `excess`; `catch_up` has been shown its rows."""
        rate *= self.rate
        self.steps += 1
        step, (beta1, beta2) = self.steps, self.betas
        shrink = 1 - rate * self.weight_decay
        if shrink <= 0:
            raise Problem(
                f"A learning rate of {rate:g} with a weight decay of {self.weight_decay:g} leaves nothing of words: "
                "lower one of them."
            )
        unit = rate * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        if self.table.grad is not None:
            gradient = self.table.grad.coalesce()
            rows, g = gradient.indices()[0], gradient.values()
            g = g if excess is None else g / excess
            m = self.first[rows].lerp_(g, 1 - beta1)
            v = self.second[rows].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            denominator = v.sqrt().add_(self.epsilon * math.sqrt(1 - beta2**step))
            self.table[rows] = (self.table[rows] * shrink).addcdiv_(m, denominator, value=-unit)
            self.first[rows], self.second[rows], self.last[rows] = m, v, step
        if step == len(self.past):
            self.past = torch.cat([self.past, torch.zeros_like(self.past)])
        self.past[step, 0] = self.past[step - 1, 0] + math.log(shrink)
        recent = self.past[max(0, step - len(self.fades)) : step]
        scale = unit * torch.tensor([1.0, self.epsilon * math.sqrt(1 - beta2**step)], dtype=torch.float64)
        undone = (recent[:, :1] - self.past[step, 0]).exp()  # what D takes away of a later step is not taken of it
        recent[:, 1:] += undone * self.fades[-len(recent) :] * scale

    def _decay(self, since: Tensor) -> Tensor:
        """D(s, now) for some steps s."""
        return (self.past[self.steps, 0] - self.past[since, 0]).exp()

    def state(self) -> dict[str, Tensor]:
        """Everything but the table itself."""
        moments = {name: getattr(self, name) for name in ("first", "second", "last")}
        return moments | {"past": self.past[: self.steps + 1].clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes up a saved state."""
        for name, value in state.items():
            setattr(self, name, value.to(getattr(self, name).device))
        self.steps = len(self.past) - 1


class Optimizer:
    """AdamW over a model: matrices decay, biases and norms do not; lower layers may learn more slowly.

    With `muon` the matrices of the layers take orthogonal steps instead, U V^T for a momentum of U S V^T (Jordan et al.
    2024), as long as those of AdamW (Liu et al. 2025): all directions of a gradient count, not the few that lead it. So
    do all directions of its noise, which nothing takes back but `muon_decay`, the weight decay of these matrices.

    `embedding_rate` is that of embeddings beside what stands on them. Of a word that comes once in a long while AdamW
    takes (1 - beta_1) / (sqrt(1 - beta_2) (1 - beta_1 / sqrt(beta_2))) full steps for each time it comes: 32 with a
    beta_2 of .999, 8 with .98, and few where its gradient is small beside epsilon.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        layer_decay: float,
        clip: float,
        muon: bool = False,
        muon_decay: float = 0.0,
        embedding_rate: float = 1.0,
        betas: tuple[float, float] = BETAS,
        epsilon: float = EPSILON,
    ) -> None:
        self.learning_rate, self.clip = learning_rate, clip
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        sparse = next((m for m in model.modules() if getattr(m, "sparse", False)), None)
        self.rows: RowAdamW | None = None
        groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
        depths = _depths(model)
        for name, parameter in model.named_parameters():
            rate = layer_decay ** (max(depths.values()) - depths[name]) * (1.0 if depths[name] else embedding_rate)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            if not parameter.requires_grad:
                continue
            if sparse is not None and parameter is sparse.word:
                self.rows = RowAdamW(parameter, weight_decay=decay, rate=rate, betas=betas, epsilon=epsilon)
            else:
                orthogonal = muon and parameter.ndim == 2 and "blocks." in name
                groups.setdefault((orthogonal, rate, muon_decay if orthogonal else decay), []).append(parameter)
        split: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for (orthogonal, rate, decay), parameters in groups.items():
            split[orthogonal].append({"params": parameters, "weight_decay": decay, "rate": rate})
        self.dense = torch.optim.AdamW(split[0], lr=learning_rate, betas=betas, eps=epsilon, fused=True)
        self.muon = Muon(split[1]) if split[1] else None

    def prepare(self, ids: Tensor) -> None:
        """Brings the word vectors of a batch up to date before they are read."""
        if self.rows is not None:
            self.rows.catch_up(torch.unique(ids))

    def flush(self) -> None:
        """Brings all word vectors up to date before an evaluation or a save."""
        if self.rows is not None:
            self.rows.flush()

    def step(self, factor: float) -> Tensor:
        """Clips, takes a step at `factor` times the learning rate, clears gradients; gives the norm before clipping."""
        norm = gradient_norm(self.parameters)
        # Clipping is a division that the fused step makes on its way: a pass less over all gradients.
        excess = (norm / self.clip).clamp_(min=1.0) if self.clip > 0 else None
        self.dense.grad_scale = excess  # type: ignore[attr-defined]
        for part in self._parts():
            for group in part.param_groups:
                group["lr"] = self.learning_rate * factor * group["rate"]
            part.step()  # Muon's is as long whatever the gradient's norm
        if self.rows is not None:
            self.rows.step(self.learning_rate * factor, excess=excess)
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def state(self) -> dict[str, Any]:
        """All moments and counts, as tensors and plain values."""
        parts = [part.state_dict() for part in self._parts()]
        return {"parts": parts, "rows": self.rows.state() if self.rows else {}}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a saved state."""
        for part, saved in zip(self._parts(), state["parts"], strict=True):
            part.load_state_dict(saved)
        if self.rows is not None:
            self.rows.restore(state["rows"])

    def _parts(self) -> list[torch.optim.Optimizer]:
        return [self.dense, self.muon] if self.muon is not None else [self.dense]


def gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    """The joint Euclidean norm of all gradients; sparse ones are coalesced, in place."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    gradients = [p.grad for p in parameters if p.grad is not None]
    values = [g._values() if g.is_sparse else g for g in gradients]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))  # type: ignore[no-any-return]


def _depths(model: nn.Module) -> dict[str, int]:
    """0 for embeddings, then the number of the layer, and above all of them what stands on the encoder."""
    found = {name: re.search(r"blocks\.(\d+)\.", name) for name, _ in model.named_parameters()}
    top = 2 + max((int(m.group(1)) for m in found.values() if m), default=-1)
    return {n: int(m.group(1)) + 1 if m else 0 if "embeddings" in n else top for n, m in found.items()}
