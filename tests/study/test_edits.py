"""What edits do to a system's metric, and heads ranked: against the same counted by hand on small systems."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

import regard
from regard.data.examples import Examples
from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.edit import Drop, Forbid, Force, Patch, Scale, Uniform
from regard.lens.importance import slopes
from regard.measure.scores import losses
from regard.model.heads import Head
from regard.model.taps import Tap
from regard.study.edits import compare
from regard.study.ranking import measure, rank

TASKS = ["classify", "multilabel", "regress"]
LABELS = {"classify": ("no", "yes"), "multilabel": ("x", "y", "z"), "regress": ()}


@pytest.fixture(scope="module")
def make(tiny: Path):
    """A function to a system of a task, with labels that it gets partly right, and the examples."""

    def build(task: str, rows: int = 40, **card):
        system = regard.load(tiny)
        outputs = len(LABELS[task]) or 1
        system.card = replace(system.card, task=task, labels=LABELS[task], scale=(2.0, 3.0), **card)
        torch.manual_seed(0)
        system.model.head = Head(32, outputs, 0.0).eval()
        system.model.head.linear.weight.data.normal_(std=1.0)
        random = np.random.default_rng(0)
        words = [*"abcdefgh", "good", "bad", "film"]
        texts = [" ".join(random.choice(words, size)) for size in random.integers(1, 12, rows)]
        linear = system.model.head.linear  # answers of both kinds
        linear.bias.data = -linear.weight.data @ torch.from_numpy(system.encode(texts).mean(0))
        output = system.predict(texts)
        labels = {
            "classify": lambda: np.where(random.random(rows) < 0.8, output.argmax(1), 1 - output.argmax(1)).tolist(),
            "multilabel": lambda: (output + random.normal(0, 0.3, output.shape) > 0.5).astype(int).tolist(),
            "regress": lambda: (output + random.normal(0, 1, rows)).tolist(),
        }[task]()
        places = list(range(rows))
        return system, Examples(texts, None, labels, LABELS[task], task, places, places, [], [], {})

    return build


@pytest.mark.parametrize("task", TASKS)
def test_before_and_after_are_what_predict_gives(task, make):
    system, examples = make(task)
    edits = [Uniform("*", "*"), Scale(1, "*", 3.0)]
    told = []
    found = compare(system, examples, edits, advance=told.append)
    before, after = system.predict(examples.texts), system.predict(examples.texts, edits=edits)
    truth = np.array(examples.labels)
    assert sum(told) == 2 * len(truth) == 2 * found.n
    assert found.edits == ("uniform *.*", "scale 1.*=3")
    assert found.largest == pytest.approx(abs(after - before).max()) and found.largest > 0.01
    assert found.difference.value == pytest.approx(found.after.value - found.before.value)
    assert found.difference.low <= found.difference.value <= found.difference.high
    gap = losses(task, truth, after) - losses(task, truth, before)
    assert found.loss.value == pytest.approx(gap.mean())
    if task == "regress":
        assert found.flips is None
        return
    said = [o.argmax(1)[:, None] if task == "classify" else o >= 0.5 for o in (before, after)]
    right = [(s == truth.reshape(s.shape)).all(1) for s in said]
    assert found.flips.rows == (said[0] != said[1]).any(1).sum() > 0
    assert found.flips.mended == sum(b > a for a, b in zip(*right, strict=True))
    assert found.flips.spoilt == sum(b < a for a, b in zip(*right, strict=True))


def test_no_edit_at_all_moves_nothing(make):
    system, examples = make("classify")
    found = compare(system, examples, [Scale("*", "*", 1.0)])
    assert (found.difference.value, found.flips.rows) == (0.0, 0)
    assert found.largest < 1e-5


def test_predict_and_encode_take_edits_and_forget_them(make):
    system, examples = make("classify")
    texts, plain = examples.texts, system.predict(examples.texts)
    system.model.train()
    edited = system.predict(texts, edits=[Forbid("*", "*", "good", "[SEP]"), Drop(0, 1)])
    assert not system.model.training
    assert abs(edited - plain).max() > 1e-4
    np.testing.assert_array_equal(system.predict(texts), plain)
    assert abs(system.encode(texts, edits=[Drop(1, 1)]) - system.encode(texts)).max() > 1e-4
    alone = np.concatenate([system.predict([t], edits=[Forbid("*", "*", "good", "[SEP]"), Drop(0, 1)]) for t in texts])
    np.testing.assert_allclose(edited, alone, atol=1e-5)


def test_a_patch_names_its_text(make):
    system, _ = make("classify")
    texts, source = ["a b c", "good", "bad film a b"], "film good d"
    whole = Patch(1, "*", source, value="output", queries="first")
    found = system.predict(texts, edits=[whole])
    np.testing.assert_allclose(found, np.repeat(system.predict([source]), 3, 0), atol=1e-5)  # the first token is pooled
    same = system.predict([source], edits=[Patch("*", "*", source), Patch("*", "*", source, value="weights")])
    np.testing.assert_allclose(same, system.predict([source]), atol=1e-5)
    with pytest.raises(Problem, match="as many in both"):
        system.predict(texts, edits=[Patch(0, 1, source)])


def test_a_token_that_no_text_can_have_is_a_problem(make):
    system, _ = make("classify")
    with pytest.raises(Problem, match="no token 'goods'"):
        system.predict(["good"], edits=[Force(0, 0, "*", "goods", 0.5)])


@pytest.mark.parametrize("task", TASKS)
def test_what_is_measured_is_each_head_dropped(task, make):
    system, examples = make(task, rows=12)
    found, truth = measure(system, examples), np.array(examples.labels)
    plain = system.predict(examples.texts)
    np.testing.assert_allclose(found.plain, plain, atol=1e-5)
    for layer, head in np.ndindex(2, 4):
        without = system.predict(examples.texts, edits=[Drop(layer, head)])
        np.testing.assert_allclose(found.without[:, layer, head], without, atol=1e-5)
        gap = losses(task, truth, without) - losses(task, truth, plain)
        np.testing.assert_allclose(found.rise[:, layer, head], gap, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_slopes_are_of_the_loss_that_is_measured(task, make):
    """A gate on a head, moved a little from 1 on both sides, moves the measured loss by the slope."""
    system, examples = make(task, rows=10)
    found, truth, step = measure(system, examples).slopes, np.array(examples.labels), 1e-2
    for layer, head in ((0, 2), (1, 3)):
        high, low = (
            losses(task, truth, system.predict(examples.texts, edits=[Scale(layer, head, 1 + sign * step)]))
            for sign in (1, -1)
        )
        np.testing.assert_allclose((high - low) / (2 * step), found.gate[:, layer, head], atol=3e-3, rtol=2e-2)


def test_windows_of_a_text_are_averaged(make):
    system, examples = make("classify", rows=2, max_length=8, stride=2)
    texts = ["good a b c d e f g h bad", "a film"]
    examples = replace(examples, texts=texts, labels=[1, 0])
    found = measure(system, examples)
    np.testing.assert_allclose(found.plain, system.predict(texts), atol=1e-5)
    windows = system.tokenizer.encode(texts[:1], max_length=8, stride=2)
    assert len(windows) > 1

    def loss(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")

    gates = slopes(system.model, pack(windows), torch.ones(len(windows), dtype=torch.long), loss).gate
    np.testing.assert_allclose(found.slopes.gate[0], gates.mean(0), rtol=1e-4, atol=1e-7)


def test_heads_are_ranked_and_rankings_correlated(make):
    system, examples = make("classify", rows=60)
    told = []
    found = rank(system, examples, resamples=50, advance=told.append)
    assert (found.n, found.metric, sum(told)) == (60, "accuracy", 60)
    statistics = {row.statistic: [] for row in found.heads}
    for row in found.heads:
        statistics[row.statistic].append(row)
        assert row.low <= row.high
    assert [*statistics] == ["michel", "token", "batch", "taylor", "change of loss", "rise of loss", "drop of accuracy"]
    values = {}
    for name, rows in statistics.items():
        assert [(row.layer, row.head) for row in rows] == list(np.ndindex(2, 4))
        values[name] = [row.mean for row in rows]
        best = max(rows, key=lambda row: row.mean)
        assert best.rank == 1 and sorted(row.rank for row in rows) == list(range(1, 9))
    measured = measure(system, examples)
    np.testing.assert_allclose(values["michel"], abs(measured.slopes.gate).mean(0).ravel())
    np.testing.assert_allclose(values["change of loss"], abs(measured.rise).mean(0).ravel())
    truth = np.array(examples.labels)
    right = [(o.argmax(-1) == truth).mean() for o in np.moveaxis(measured.without.reshape(60, 8, 2), 1, 0)]
    np.testing.assert_allclose(values["drop of accuracy"], (measured.plain.argmax(1) == truth).mean() - right)
    pairs = {(a.first, a.second): a for a in found.agreements}
    assert len(pairs) == 4 + 5 + 6
    for (first, second), agreement in pairs.items():
        expected = scipy.stats.spearmanr(values[first], values[second])[0]
        assert agreement.spearman == pytest.approx(expected)
        assert agreement.kendall == pytest.approx(scipy.stats.kendalltau(values[first], values[second])[0])
        assert -1 <= agreement.spearman_interval.low <= agreement.spearman_interval.high <= 1
    assert found.halves.keys() == statistics.keys()
    assert found.halves["token"] > 0.5


def test_estimates_normalised_by_layer(make):
    system, examples = make("classify", rows=20)
    found = rank(system, examples, normalise=True, resamples=2)
    for name in ("michel", "token", "batch", "taylor"):
        table = np.array([row.mean for row in found.heads if row.statistic == name]).reshape(2, 4)
        np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1)


def test_nothing_is_left_of_a_ranking(make):
    system, examples = make("regress", rows=8)
    before = system.predict(examples.texts)
    rank(system, examples, resamples=2)
    np.testing.assert_array_equal(system.predict(examples.texts), before)
    assert all(p.grad is None for p in system.model.parameters())
    tap = Tap(["logits"])
    system.model(pack(system.tokenizer.encode(["a"])), tap=tap)
    assert [*tap.trace.values] == ["logits"]
