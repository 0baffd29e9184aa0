"""The word table's lazy AdamW is dense AdamW, and the optimizer is torch's over the right groups."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from regard.batch import Batch, Encoding
from regard.data.packing import pack
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.heads import Head, Model
from regard.model.pooling import First
from regard.train.objectives import classify
from regard.train.optim import BETAS, EPSILON, Optimizer, RowAdamW, clip_gradients, schedule

ROWS, WIDTH, STEPS, PEAK = 60, 8, 400, 1e-3
Table = torch.Tensor


def touches(magnitudes: tuple[float, float], seed: int = 1) -> Iterator[tuple[Table, Table]]:
    """For each step a few rows, some often and the last ten never, and gradients between two powers of ten."""
    random = np.random.default_rng(seed)
    for _ in range(STEPS):
        rows = np.unique(np.minimum(random.zipf(1.3, size=random.integers(1, 12)), ROWS - 10) - 1)
        scale = 10.0 ** random.uniform(*magnitudes, size=(len(rows), 1))
        yield torch.from_numpy(rows), torch.from_numpy(random.normal(size=(len(rows), WIDTH)) * scale)


class Lazy:
    """The table under test."""

    def __init__(self, dtype: torch.dtype, weight_decay: float) -> None:
        start = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
        self.table = torch.nn.Parameter(start.to(dtype))
        self.rows = RowAdamW(self.table, weight_decay=weight_decay)

    def read(self, rows: Table) -> Table:
        self.rows.catch_up(rows)
        return self.table.detach()[rows]

    def step(self, rate: float, rows: Table, values: Table) -> None:
        self.table.grad = torch.sparse_coo_tensor(
            rows[None], values.to(self.table.dtype), self.table.shape, check_invariants=False
        )
        self.rows.step(rate)


class Dense:
    """torch's AdamW over the same table."""

    def __init__(self, dtype: torch.dtype, weight_decay: float) -> None:
        self.table = torch.nn.Parameter(Lazy(dtype, 0.0).table.detach().clone())
        self.oracle = torch.optim.AdamW([self.table], betas=BETAS, eps=EPSILON, weight_decay=weight_decay)

    def read(self, rows: Table) -> Table:
        return self.table.detach()[rows]

    def step(self, rate: float, rows: Table, values: Table) -> None:
        self.oracle.param_groups[0]["lr"] = rate
        self.table.grad = torch.zeros_like(self.table).index_copy_(0, rows, values.to(self.table.dtype))
        self.oracle.step()


def distances(kind: str, magnitudes: tuple[float, float], tables: list[Lazy | Dense], exact: Dense) -> list[float]:
    """How far each table ever is from the exact one, in rows that are read, and at the end."""
    worst = [0.0] * len(tables)
    for number, (rows, values) in enumerate(touches(magnitudes)):
        rate = PEAK * schedule(kind, 0.1, (number + 0.5) / STEPS)
        for place, table in enumerate(tables):
            worst[place] = max(worst[place], (table.read(rows) - exact.read(rows)).abs().max().item())
        for table in (*tables, exact):
            table.step(rate, rows, values)
    everything = torch.arange(ROWS)
    return [max(w, (t.read(everything) - exact.read(everything)).abs().max().item()) for w, t in zip(worst, tables, strict=True)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(
    ("magnitudes", "share"), [((0, 0), 1e-4), ((-2, 0), 3e-3), ((-4, 0), 0.05), ((-9, 0), 0.5), ((-9, -7), 0.5)]
)
def test_rows_are_where_dense_adamw_would_have_them(magnitudes, share, kind, weight_decay):
    """But for epsilon: within that share of one step, which grows as gradients sink towards epsilon."""
    lazy, exact = Lazy(torch.float64, weight_decay), Dense(torch.float64, weight_decay)
    found = distances(kind, magnitudes, [lazy], exact)[0]
    print("ALG", kind, weight_decay, magnitudes, found / PEAK)
    assert found <= share * PEAK


@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_rounding_is_no_worse_than_that_of_dense_adamw(kind, weight_decay):
    exact = Dense(torch.float64, weight_decay)
    tables = [Lazy(torch.float32, weight_decay), Dense(torch.float32, weight_decay)]
    lazy, dense = distances(kind, (-1, 0), tables, exact)
    print("F32", kind, weight_decay, lazy, dense)
    assert lazy <= 2 * dense
