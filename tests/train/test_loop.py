"""The loop's limits, its schedule of evaluations, and what it does with bad numbers."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import regard
from regard.batch import Encoding
from regard.data.loader import Loader
from regard.measure.scores import Score
from regard.system import build
from regard.train.loop import Evaluation, Outside, Plan, fit
from regard.train.objectives import classify
from regard.train.optim import Optimizer


def loader(texts: int = 40, **settings) -> Loader:
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 60, rng.integers(2, 12)) for _ in range(texts)]
    return Loader(
        [Encoding(ids, ids * 0, place) for place, ids in enumerate(rows)], rng.integers(0, 2, texts), **settings
    )


@pytest.fixture
def model(tiny: Path):
    from regard.model.heads import Head

    torch.manual_seed(0)
    system = regard.load(tiny)
    system.model.head = Head(32, 2, 0.1)
    return system.model


def run(model, plan: Plan, outside: Outside | None = None, objective=classify, **settings):
    rates = {"learning_rate": 1e-3, "weight_decay": 0.01, "layer_decay": 1.0, "clip": 1.0}
    batches = loader(**({"batch_size": 8} | settings))
    return fit(model, objective, batches, optimizer=Optimizer(model, **rates), plan=plan, outside=outside or Outside())


def test_each_limit_ends_the_run(model):
    assert run(model, Plan(steps=3, bfloat16=False)).step == 3
    assert run(model, Plan(epochs=2, bfloat16=False)).step == 10
    assert run(model, Plan(epochs=100, steps=4, bfloat16=False)).step == 4
    assert run(model, Plan(minutes=0.01, bfloat16=False)).seconds >= 0.6
    assert run(model, Plan(epochs=2, accumulate=5, bfloat16=False)).step == 2


def test_minutes_that_do_not_end_the_run_leave_its_bits_alone(tiny: Path):
    system = regard.load(tiny)
    card = replace(system.card, task="classify", labels=("no", "yes"))
    found = []
    for minutes in (0.0, 100.0):
        torch.manual_seed(0)
        model = build(system.origin, card, old_head=False)
        run(model, Plan(epochs=2, minutes=minutes, bfloat16=False))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)
    plan = Plan(epochs=4, minutes=2)
    assert plan.progress(1, 0.1, 6) == 0.025  # 0.05 of the time
    assert plan.progress(1, 0.1, 12) == 0.1
    assert plan.progress(9, 3.9, 120) == 1
    assert Plan(minutes=2).progress(1, 0.1, 6) == 0.05


def test_accumulated_steps_are_steps_of_the_joint_batch(tiny: Path):
    system = regard.load(tiny)
    card = replace(system.card, task="classify", labels=("no", "yes"))
    found = []
    for accumulate, size in ((1, 20), (5, 4)):
        torch.manual_seed(0)
        model = build(system.origin, card, dropout=(0.0, 0.0), old_head=False)
        run(model, Plan(steps=2, accumulate=accumulate, bfloat16=False), batch_size=size)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (found[0] - found[1]).abs().max() < 1e-4


def test_evaluations_come_as_often_as_asked_and_patience_ends_the_run(model):
    calls = []

    def evaluate() -> Evaluation:
        calls.append(1)
        earned = np.zeros(50)
        value = 0.5 + (len(calls) == 2) * 1e-9
        return Evaluation("accuracy", value, 0.4, 0.6, value, earned)

    run(model, Plan(epochs=3, evaluations=2, bfloat16=False), Outside(evaluate=evaluate))
    assert len(calls) == 6
    calls.clear()
    kept = []
    ended = run(
        model,
        Plan(epochs=30, patience=2, bfloat16=False),
        Outside(evaluate=evaluate, keep_best=lambda: kept.append(len(calls))),
    )
    assert ended.stopped
    assert len(calls) == 3
    assert kept == [1, 2]


def test_a_loss_that_is_no_number_is_a_problem(model):
    def broken(model, batch):
        loss, log = classify(model, batch)
        return loss * math.nan, log

    with pytest.raises(regard.Problem, match="learning_rate"):
        run(model, Plan(steps=20, bfloat16=False), objective=broken)


def test_the_order_depends_on_seed_and_epoch_alone_and_can_be_taken_up_anywhere():
    batches = loader(batch_tokens=32, seed=7)
    reading = batches((0, 0))
    seen = [next(reading) for _ in range(40)]
    for number in (0, 3, 17, 30):
        place = seen[number][0]
        again = loader(batch_tokens=32, seed=7)(place)
        for expected, found in zip(seen[number + 1 : number + 6], again, strict=False):
            assert expected[:2] == found[:2]
            assert torch.equal(expected[2].packed.ids, found[2].packed.ids)
            assert torch.equal(expected[2].labels, found[2].labels)
    first_epoch = [batch for _, epochs, batch in seen if epochs <= 1]
    assert sum(len(b.packed.lengths) for b in first_epoch) == 40
    assert all(len(b.packed.ids) <= 32 for b in first_epoch)
    assert (
        loader(seed=7).plan(0)[0].tolist() != loader(seed=8).plan(0)[0].tolist() != loader(seed=8).plan(1)[0].tolist()
    )


def test_the_best_of_an_error_is_the_least_and_an_undefined_value_is_never_the_best(model):
    values, kept = iter([math.nan, 0.5, 0.3, 0.4]), []

    def evaluate() -> Evaluation:
        score = Score("mean absolute error", next(values), 0.0, 1.0, 50)
        return Evaluation(score.name, score.value, score.low, score.high, score.merit, np.zeros(50))

    outside = Outside(evaluate=evaluate, keep_best=lambda: kept.append(1))
    ended = run(model, Plan(epochs=4, bfloat16=False), outside)
    assert ended.best["merit"] == -0.3
    assert len(kept) == 3


def test_the_last_steps_are_logged_and_a_bad_one_among_them_is_a_problem(model):
    rows: list[dict] = []
    run(model, Plan(steps=13, bfloat16=False), Outside(log=rows.append))
    assert [row["step"] for row in rows] == [1, 10, 13]
    calls = []

    def breaks(model, batch):
        calls.append(1)
        loss, log = classify(model, batch)
        return loss * (math.nan if len(calls) == 12 else 1.0), log

    with pytest.raises(regard.Problem, match="step 13"):
        run(model, Plan(steps=13, bfloat16=False), objective=breaks)
