"""The word table's lazy AdamW is dense AdamW, and the optimizer is torch's over the right groups."""

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from regard.batch import Batch, Encoding
from regard.data.packing import pack
from regard.errors import Problem
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.heads import Head, Model
from regard.model.pooling import First
from regard.train.objectives import classify
from regard.train.optim import BETAS, EPSILON, Optimizer, RowAdamW
from regard.train.plans import schedule

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

    def __init__(self, dtype: torch.dtype, weight_decay: float, beta2: float = BETAS[1], epsilon: float = EPSILON):
        start = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
        self.table = torch.nn.Parameter(start.to(dtype))
        self.rows = RowAdamW(self.table, weight_decay=weight_decay, betas=(BETAS[0], beta2), epsilon=epsilon)

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

    def __init__(self, dtype: torch.dtype, weight_decay: float, beta2: float = BETAS[1], epsilon: float = EPSILON):
        self.table = torch.nn.Parameter(Lazy(dtype, 0.0).table.detach().clone())
        self.oracle = torch.optim.AdamW([self.table], betas=(BETAS[0], beta2), eps=epsilon, weight_decay=weight_decay)

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
    return [
        max(w, (t.read(everything) - exact.read(everything)).abs().max().item())
        for w, t in zip(worst, tables, strict=True)
    ]


KINDS = [("linear", 0.01), ("cosine", 0.0), ("constant", 0.5)]


@pytest.mark.parametrize(("kind", "weight_decay"), KINDS)
@pytest.mark.parametrize(
    ("magnitudes", "share"), [((0, 0), 1e-7), ((-2, 0), 1e-4), ((-4, 0), 3e-3), ((-9, 0), 0.05), ((-9, -7), 0.05)]
)
def test_rows_are_where_dense_adamw_would_have_them(magnitudes, share, kind, weight_decay):
    """But for epsilon: within that share of one step, which grows as gradients sink towards epsilon."""
    lazy, exact = Lazy(torch.float64, weight_decay), Dense(torch.float64, weight_decay)
    assert distances(kind, magnitudes, [lazy], exact)[0] <= share * PEAK


@pytest.mark.parametrize(("beta2", "epsilon", "share"), [(0.98, 1e-8, 1e-4), (0.98, 1e-6, 3e-3)])
def test_rows_follow_other_betas_and_another_epsilon(beta2, epsilon, share):
    lazy, exact = (table(torch.float64, 0.01, beta2, epsilon) for table in (Lazy, Dense))
    usual = Dense(torch.float64, 0.01)
    near, far = distances("linear", (-2, 0), [lazy, usual], exact)
    assert near <= share * PEAK and far > PEAK


@pytest.mark.parametrize(("kind", "weight_decay"), KINDS)
def test_rounding_is_no_worse_than_that_of_dense_adamw(kind, weight_decay):
    tables = [Lazy(torch.float32, weight_decay), Dense(torch.float32, weight_decay)]
    lazy, dense = distances(kind, (-1, 0), tables, Dense(torch.float64, weight_decay))
    assert lazy <= 1.5 * dense


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_row_that_rests_for_long_is_where_dense_adamw_would_have_it(weight_decay):
    tables = [kind(torch.float64, weight_decay) for kind in (Lazy, Dense)]
    some, other = torch.tensor([0]), torch.tensor([1])
    for number in range(2000):
        rows = some if number in (3, 4) else other
        for table in tables:
            table.read(rows)
            table.step(PEAK * (number % 7), rows, torch.ones(1, WIDTH) * (1 + number % 3))
    lazy, dense = (table.read(some) for table in tables)
    assert (lazy - dense).abs().max() < 1e-9 * dense.abs().max()
    assert len(tables[0].rows.past) == 2048 and len(tables[0].rows.state()["past"]) == 2001


def test_a_decay_that_leaves_nothing_is_a_problem():
    table = Lazy(torch.float32, 2000.0)
    with pytest.raises(Problem, match="lower one of them"):
        table.step(PEAK, torch.tensor([0]), torch.ones(1, WIDTH))


@pytest.mark.parametrize("pause", [1, 50, STEPS - 1])
def test_a_restored_table_goes_on_to_the_same_bits(pause):
    straight, halted = Lazy(torch.float32, 0.01), Lazy(torch.float32, 0.01)
    for number, (rows, values) in enumerate(touches((-2, 0))):
        if number == pause:
            state = {name: tensor.clone() for name, tensor in halted.rows.state().items()}
            resumed = Lazy(torch.float32, 0.01)
            resumed.table.data.copy_(halted.table)
            resumed.rows.restore(state)
            assert resumed.rows.steps == pause
            halted = resumed
        for table in (straight, halted):
            table.read(rows)
            table.step(PEAK, rows, values)
    assert torch.equal(straight.read(torch.arange(ROWS)), halted.read(torch.arange(ROWS)))
    assert all(torch.equal(value, halted.rows.state()[name]) for name, value in straight.rows.state().items())


def test_steps_at_rate_zero_leave_the_table_as_it_is():
    lazy = Lazy(torch.float32, 0.01)
    before = lazy.table.detach().clone()
    for rows, values in itertools.islice(touches((-1, 0)), 5):
        lazy.read(rows)
        lazy.step(0.0, rows, values)
    assert torch.equal(lazy.read(torch.arange(ROWS)), before)


def test_flush_is_a_fixed_point():
    lazy = Lazy(torch.float32, 0.01)
    for rows, values in touches((-1, 0)):
        lazy.read(rows)
        lazy.step(PEAK, rows, values)
    lazy.rows.flush()
    table = lazy.table.detach().clone()
    lazy.rows.flush()
    assert torch.equal(table, lazy.table)
    assert (lazy.rows.last == STEPS).all()


def draw_model(*, sparse: bool) -> Model:
    torch.manual_seed(4)
    config = EncoderConfig(
        vocabulary=80, width=16, layers=2, heads=2, inner_width=24, positions=32, dropout=0.0, attention_dropout=0.0
    )
    model = Model(bert(config), First(config.width), Head(config.width, 3, 0.0)).train()
    model.encoder.embeddings.sparse = sparse
    return model


def draw_batch(random: np.random.Generator) -> Batch:
    encodings = [
        Encoding(np.minimum(random.zipf(1.4, size=n), 70) - 1, np.zeros(n, np.int64)) for n in random.integers(2, 20, 6)
    ]
    return Batch(pack(encodings), torch.from_numpy(random.integers(3, size=6)))


def draw_optimizer(model: Model, **changes) -> Optimizer:
    settings = {"learning_rate": 1e-3, "weight_decay": 0.01, "layer_decay": 0.9, "clip": 1.0}
    return Optimizer(model, **settings | changes)


def train(model: Model, optimizer: Optimizer, steps: int, random: np.random.Generator, start: int = 0) -> None:
    for number in range(start, start + steps):
        batch = draw_batch(random)
        optimizer.prepare(batch.packed.ids)
        classify(model, batch)[0].backward()
        optimizer.step(schedule("linear", 0.1, (number + 0.5) / 50))


def test_a_sparse_word_table_trains_a_model_as_a_dense_one_does():
    models = [draw_model(sparse=sparse) for sparse in (False, True)]
    for model in models:
        optimizer = draw_optimizer(model, learning_rate=5e-5)
        assert (optimizer.rows is not None) == model.encoder.embeddings.sparse
        train(model, optimizer, 50, np.random.default_rng(0))
        optimizer.flush()
    for (name, dense), sparse in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert (dense - sparse).abs().max() <= 1e-6, name


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_restored_optimizer_goes_on_to_the_same_bits(sparse, muon):
    straight, random = draw_model(sparse=sparse), np.random.default_rng(0)
    train(straight, optimizer := draw_optimizer(straight, muon=muon), 12, random)
    optimizer.flush()
    halted, random = draw_model(sparse=sparse), np.random.default_rng(0)
    train(halted, first := draw_optimizer(halted, muon=muon), 5, random)
    resumed = draw_model(sparse=sparse)
    resumed.load_state_dict(halted.state_dict())
    second = draw_optimizer(resumed, muon=muon)
    second.restore(copy.deepcopy(first.state()))
    train(resumed, second, 7, random, start=5)
    second.flush()
    for ours, law in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, law)


def test_muon_steps_are_orthogonal_for_matrices_of_layers_and_those_of_adamw_elsewhere():
    start, models = draw_model(sparse=True), [draw_model(sparse=True) for _ in range(2)]
    for model, muon in zip(models, (False, True), strict=True):
        train(model, draw_optimizer(model, muon=muon, weight_decay=0.0, layer_decay=1.0), 1, np.random.default_rng(0))
    length = 1e-3 * schedule("linear", 0.1, 0.01)
    olds, adamws = dict(start.named_parameters()), dict(models[0].named_parameters())
    for name, new in models[1].named_parameters():
        if "blocks" not in name or new.ndim == 1:
            assert torch.equal(new, adamws[name]), name
            continue
        # Five rounds of Newton and Schulz bring the larger singular values to between 0.65 and 1.25.
        step = torch.linalg.svdvals((new - olds[name]).detach()) / (length * 0.2 * max(new.shape) ** 0.5)
        assert step[2] > 0.65 and step[0] < 1.3, (name, step)


def test_matrices_decay_and_biases_and_norms_do_not():
    model = draw_model(sparse=True)
    optimizer = draw_optimizer(model, weight_decay=0.3, layer_decay=1.0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {
        names[parameter]: group["weight_decay"]
        for group in optimizer.dense.param_groups
        for parameter in group["params"]
    }
    decays["encoder.embeddings.word"] = optimizer.rows.weight_decay
    assert decays.keys() == set(names.values())
    for name, decay in decays.items():
        assert decay == (0.0 if name.endswith("bias") or "norm" in name else 0.3), name


def test_matrices_that_take_orthogonal_steps_decay_as_they_are_told():
    start, models = draw_model(sparse=True), [draw_model(sparse=True) for _ in range(2)]
    for model, decay in zip(models, (0.0, 0.5), strict=True):
        optimizer = draw_optimizer(model, muon=True, muon_decay=decay, layer_decay=1.0)
        train(model, optimizer, 1, np.random.default_rng(0))
    rate = 1e-3 * schedule("linear", 0.1, 0.01)
    free, held = (dict(model.named_parameters()) for model in models)
    for name, old in start.named_parameters():
        shrunk = old * rate * 0.5 if "blocks" in name and old.ndim == 2 else 0.0
        assert torch.allclose(free[name] - held[name], torch.zeros_like(old) + shrunk, atol=1e-8), name


def test_lower_layers_learn_more_slowly():
    model = draw_model(sparse=True)
    optimizer = draw_optimizer(model, layer_decay=0.5)
    train(model, optimizer, 1, np.random.default_rng(0))
    names = {parameter: name for name, parameter in model.named_parameters()}
    factor, found = schedule("linear", 0.1, 0.01), {}
    for group in optimizer.dense.param_groups:
        found |= {names[parameter]: group["lr"] / (1e-3 * factor) for parameter in group["params"]}
    found["encoder.embeddings.word"] = optimizer.rows.rate
    shares = {"embeddings": 0.125, "blocks.0": 0.25, "blocks.1": 0.5, "pooling": 1.0, "head": 1.0}
    for name, rate in found.items():
        share = next(share for part, share in shares.items() if part in name)
        assert rate == pytest.approx(share), name


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings_may_learn_at_a_rate_of_their_own(sparse):
    start, models = draw_model(sparse=sparse), [draw_model(sparse=sparse) for _ in range(2)]
    for model, rate in zip(models, (1.0, 0.25), strict=True):
        optimizer = draw_optimizer(model, weight_decay=0.0, layer_decay=1.0, embedding_rate=rate)
        train(model, optimizer, 1, np.random.default_rng(0))
    full, own = (dict(model.named_parameters()) for model in models)
    for name, old in start.named_parameters():
        share = 0.25 if "embeddings" in name else 1.0
        assert torch.allclose(own[name] - old, (full[name] - old) * share, atol=1e-7), name


@pytest.mark.parametrize("sparse", [False, True])
def test_betas_and_epsilon_reach_every_part_of_adamw(sparse):
    optimizer = draw_optimizer(draw_model(sparse=sparse), betas=(0.8, 0.98), epsilon=1e-4)
    for part in (*optimizer.dense.param_groups, *([vars(optimizer.rows)] if sparse else [])):
        assert part["betas"] == (0.8, 0.98) and 1e-4 in (part.get("eps"), part.get("epsilon"))


@pytest.mark.parametrize("sparse", [False, True])
def test_frozen_parameters_stay(sparse):
    model = draw_model(sparse=sparse)
    model.encoder.embeddings.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optimizer = draw_optimizer(model)
    train(model, optimizer, 3, np.random.default_rng(0))
    optimizer.flush()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == ("embeddings" in name), name


@pytest.mark.parametrize("limit", [0.0, 0.01, 1.0, 1e6])
@pytest.mark.parametrize("sparse", [False, True])
def test_clipping_is_that_of_torch(limit, sparse):
    """Over losses of very different size, for AdamW hardly minds one factor on all its gradients."""
    ours, theirs = draw_model(sparse=sparse), draw_model(sparse=False)
    optimizer = draw_optimizer(ours, clip=limit, layer_decay=1.0)
    law = torch.optim.AdamW(
        [{"params": [p for p in theirs.parameters() if (p.ndim > 1) == matrix], "weight_decay": decay}
         for matrix, decay in ((True, 0.01), (False, 0.0))], lr=1e-3, betas=BETAS, eps=EPSILON,
    )  # fmt: skip
    random = np.random.default_rng(1)
    for factor in (7.0, 0.01, 100.0, 1.0, 0.1, 30.0):
        batch = draw_batch(random)
        optimizer.prepare(batch.packed.ids)
        for model in (ours, theirs):
            (classify(model, batch)[0] * factor).backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), limit or 1e30)
        law.step()
        law.zero_grad()
        assert optimizer.step(1.0).item() == pytest.approx(norm.item(), rel=1e-5)
    optimizer.flush()
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # a table's replay knows epsilon to the first order, and gradients of such different size show the second
        assert (found - expected).abs().max() <= (2e-5 if sparse else 2e-6), name


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("linear", {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0, 1.2: 0.0}),
        ("cosine", {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 0.4: 0.5 + 2**-1.5, 1.0: 0.0, 1.2: 0.0}),
        ("constant", {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 1.0: 1.0}),
    ],
)
def test_schedules(kind, points):
    for progress, share in points.items():
        assert schedule(kind, 0.2, progress) == pytest.approx(share, abs=1e-12)
    assert schedule(kind, 0.0, 0.0) == 1.0
