"""The loop's limits, its schedule of evaluations, and what it does with bad numbers."""

import copy
import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import regard
from regard.batch import Encoding
from regard.card import build
from regard.data.loader import Loader
from regard.measure.scores import Score
from regard.train.loop import Evaluation, Outside, fit
from regard.train.objectives import classify
from regard.train.optim import Optimizer
from regard.train.plans import Budget, Limits, Progress


def loader(texts: int = 40, **settings) -> Loader:
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 60, rng.integers(2, 12)) for _ in range(texts)]
    return Loader(
        [Encoding(ids, ids * 0, place) for place, ids in enumerate(rows)], rng.integers(0, 2, texts), **settings
    )


def read(batches: Loader, place: tuple[int, int], number: int) -> list:
    """So many batches from a place on."""
    found = []
    for _ in range(number):
        found.append(batches(place))
        place = found[-1][0]
    return found


@pytest.fixture
def model(tiny: Path):
    from regard.model.heads import Head

    torch.manual_seed(0)
    system = regard.load(tiny)
    system.model.head = Head(32, 2, 0.1)
    return system.model


def run(model, plan: Limits, outside: Outside | None = None, objective=classify, resume=None, **settings):
    rates = {"learning_rate": 1e-3, "weight_decay": 0.01, "layer_decay": 1.0, "clip": 1.0}
    batches = loader(**({"batch_size": 8} | settings))
    optimizer = Optimizer(model, **rates)
    return fit(
        model, objective, batches, optimizer=optimizer, plan=plan, outside=outside or Outside(), resume=resume
    )  # fmt: skip


def test_each_limit_ends_the_run(model):
    assert run(model, Limits(steps=3, bfloat16=False)).step == 3
    assert run(model, Limits(epochs=2, bfloat16=False)).step == 10
    assert run(model, Limits(epochs=100, steps=4, bfloat16=False)).step == 4
    assert run(model, Limits(minutes=0.01, bfloat16=False)).seconds >= 0.6
    assert run(model, Limits(epochs=2, accumulate=5, bfloat16=False)).step == 2


def test_minutes_that_do_not_end_the_run_leave_its_bits_alone(tiny: Path):
    system = regard.load(tiny)
    card = replace(system.card, task="classify", labels=("no", "yes"))
    found = []
    for minutes in (0.0, 100.0):
        torch.manual_seed(0)
        model = build(system.origin, card, old_head=False)
        run(model, Limits(epochs=2, minutes=minutes, bfloat16=False))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)
    plan = Limits(epochs=4, minutes=2)
    assert plan.progress(Progress(step=1, epochs=0.1, seconds=6)) == 0.025  # 0.05 of the time
    assert plan.progress(Progress(step=1, epochs=0.1, seconds=12)) == 0.1
    assert plan.progress(Progress(step=9, epochs=3.9, seconds=120)) == 1
    assert Limits(minutes=2).progress(Progress(step=1, epochs=0.1, seconds=6)) == 0.05


def test_accumulated_steps_are_steps_of_the_joint_batch(tiny: Path):
    system = regard.load(tiny)
    card = replace(system.card, task="classify", labels=("no", "yes"))
    found = []
    for accumulate, size in ((1, 20), (5, 4)):
        torch.manual_seed(0)
        model = build(system.origin, card, dropout=(0.0, 0.0), old_head=False)
        run(model, Limits(steps=2, accumulate=accumulate, bfloat16=False), batch_size=size)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (found[0] - found[1]).abs().max() < 1e-4


def test_evaluations_come_as_often_as_asked_and_patience_ends_the_run(model):
    calls = []

    def evaluate() -> Evaluation:
        calls.append(1)
        earned = np.zeros(50)
        value = 0.5 + (len(calls) == 2) * 1e-9
        return Evaluation("accuracy", value, 0.4, 0.6, value, earned)

    run(model, Limits(epochs=3, evaluations=2, bfloat16=False), Outside(evaluate=evaluate))
    assert len(calls) == 6
    calls.clear()
    kept = []
    ended = run(
        model,
        Limits(epochs=30, patience=2, bfloat16=False),
        Outside(evaluate=evaluate, keep_best=lambda: kept.append(len(calls))),
    )
    assert ended.stopped
    assert len(calls) == 3
    assert kept == [1, 2]


def test_a_run_that_is_stopped_while_its_last_step_is_saved_stops(model):
    before, saved = signal.signal(signal.SIGINT, signal.default_int_handler), []

    def save(state):
        saved.append(state["progress"]["step"])
        if saved == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(model, Limits(steps=3, bfloat16=False, save_seconds=0), Outside(save=save))
    signal.signal(signal.SIGINT, before)
    assert saved == [1, 2, 3, 3]


def test_a_loss_that_is_no_number_is_a_problem(model):
    def broken(model, batch):
        loss, log = classify(model, batch)
        return loss * math.nan, log

    with pytest.raises(regard.Problem, match="learning_rate"):
        run(model, Limits(steps=20, bfloat16=False), objective=broken)


def test_a_share_of_nothing_does_not_count_in_the_log(model):
    rows, shares = [], iter([math.nan, 0.5, math.nan, 0.25, math.nan])

    def learnt(model, batch):
        return classify(model, batch)[0], {"some": torch.tensor(next(shares)), "none": torch.tensor(math.nan)}

    run(model, Limits(steps=5, bfloat16=False), Outside(log=rows.append), objective=learnt)
    assert "some" not in rows[0] and rows[1]["some"] == 0.375
    assert all("none" not in row for row in rows)


def test_the_order_depends_on_seed_and_epoch_alone_and_can_be_taken_up_anywhere():
    batches = loader(batch_tokens=32, seed=7)
    seen = read(batches, (0, 0), 40)
    for number in (0, 3, 17, 30):
        place = seen[number][0]
        again = read(loader(batch_tokens=32, seed=7), place, 5)
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
    ended = run(model, Limits(epochs=4, bfloat16=False), outside)
    assert ended.best["merit"] == -0.3
    assert len(kept) == 3


def test_the_last_steps_are_logged_and_a_bad_one_among_them_is_a_problem(model):
    rows: list[dict] = []
    run(model, Limits(steps=13, bfloat16=False), Outside(log=rows.append))
    assert [row["step"] for row in rows] == [1, 10, 13]
    calls = []

    def breaks(model, batch):
        calls.append(1)
        loss, log = classify(model, batch)
        return loss * (math.nan if len(calls) == 12 else 1.0), log

    with pytest.raises(regard.Problem, match="step 13"):
        run(model, Limits(steps=13, bfloat16=False), objective=breaks)


def test_a_run_that_goes_on_logs_what_is_left_as_if_it_had_not_stopped(model):
    plan, states, rows = Limits(steps=5, bfloat16=False, save_seconds=-1), [], []
    run(model, plan, Outside(save=lambda state: states.append(copy.deepcopy(state)), log=rows.append))
    assert [row["step"] for row in rows] == [1, 5] and len(states) == 5
    for state, left in ((states[2], rows[1:]), (states[4], [])):  # in its midst, and after its last step
        again: list[dict] = []
        run(model, plan, Outside(save=lambda state: None, log=again.append), resume=state)
        assert [row["loss"] for row in again] == [row["loss"] for row in left]


def test_a_budget_bends_nothing_before_its_cooldown_and_ends_at_nothing():
    def rates(**settings) -> list[float]:
        plan, now, found = Budget(warmup=4, **settings), Progress(), []
        while (share := plan.progress(now)) < 1:
            now.step += 1
            now.tokens += 100
            now.seconds += 6
            found.append(plan.rate(now, share))
        return found

    short, long = rates(amount=20), rates(amount=50)
    assert len(short) == 20 and len(long) == 50
    assert short[:16] == long[:16] == [0.125, 0.375, 0.625, 0.875, *[1.0] * 12]
    assert short[15:] == sorted(short[15:], reverse=True) and 0 < short[-1] < 0.2
    assert rates(amount=2000, unit="tokens") == pytest.approx(short)
    assert len(rates(amount=2, unit="minutes")) == 20
    assert rates(amount=20, cooldown=0.0)[4:] == [1.0] * 16
    # A step that the end of the trunk falls into belongs to the trunk.
    for amount, trunk in ((13, 11), (14, 12), (17, 14), (18, 15)):
        assert rates(amount=amount)[:trunk] == long[:trunk] and rates(amount=amount)[trunk] < 1
    assert rates(amount=10, cooldown=0.3)[:7] == long[:7]


def test_steps_grow_with_the_root_of_the_tokens_read():
    plan = Budget(amount=1, batch_tokens=1000, most=5000, ramp=10_000)
    sizes = [plan.batches(Progress(tokens=tokens)) for tokens in (0, 29_999, 30_000, 80_000, 10**9)]
    assert sizes == [1, 1, 2, 3, 5]
    assert Budget(amount=1, batch_tokens=1000, most=5000).batches(Progress()) == 5
    assert Budget(amount=1, batch_tokens=9000, most=5000).batches(Progress()) == 1


def test_a_larger_budget_goes_on_from_the_trunk_of_a_smaller_to_the_same_bits(tiny: Path):
    system = regard.load(tiny)
    card = replace(system.card, task="classify", labels=("no", "yes"))

    def weights(amount: int, resume: dict | None = None, branch=None) -> torch.Tensor:
        torch.manual_seed(0)
        model = build(system.origin, card, old_head=False)
        optimizer = Optimizer(model, learning_rate=1e-3, weight_decay=0.01, layer_decay=1.0, clip=1.0)
        plan = Budget(amount=amount, warmup=2, batch_tokens=64, most=128, ramp=500, evaluations=3, bfloat16=False)
        evaluated = []
        outside = Outside(branch=branch, log=lambda row: evaluated.append(row["kind"] == "evaluation"),
                          evaluate=lambda: Evaluation("accuracy", 0.5, 0.4, 0.6, 0.5, np.zeros(5)))  # fmt: skip
        fit(model, classify, loader(batch_tokens=64), optimizer=optimizer, plan=plan, outside=outside, resume=resume)
        assert sum(evaluated) == 3 or resume
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    kept: list[dict] = []
    short = weights(10, branch=lambda state: kept.append(copy.deepcopy(state)))
    assert [state["progress"]["step"] for state in kept] == [8]
    long = weights(30)
    assert torch.equal(weights(10, resume=copy.deepcopy(kept[0])), short)
    assert torch.equal(weights(30, resume=kept[0]), long) and not torch.equal(short, long)


@pytest.mark.parametrize("step", [10, 7])  # with a row of its own, and without
def test_the_last_row_of_a_run_by_the_clock_says_that_it_is_over(model, step):
    count = iter(range(1, 99))

    def slow(model, batch):
        time.sleep(1.2 if next(count) == step else 0)
        return classify(model, batch)

    rows: list[dict] = []
    plan = Budget(amount=0.02, unit="minutes", most=4096, bfloat16=False)  # of one batch a step
    run(model, plan, Outside(log=rows.append), objective=slow)
    assert rows[-1]["step"] == step and rows[-1]["progress"] == 1
