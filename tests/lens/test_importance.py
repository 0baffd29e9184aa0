"""Estimates of a head's importance against gates, token by token and weight by weight, and against dropping it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.bind import bound
from regard.lens.edit import Drop
from regard.lens.importance import batch, dropped, michel, normalised, slopes, taylor, token
from regard.model import encoder as encoders
from regard.model.taps import Tap

LENGTHS = [6, 4, 17, 6, 9, 1, 11]
LABELS = torch.tensor([0, 3, 1, 2, 2, 0, 1])


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


@pytest.fixture(params=["mean", "first"])
def model(request, draw_model):
    return draw_model(pooling=request.param)


@pytest.fixture
def encodings(draw_encodings):
    return draw_encodings(LENGTHS)


@pytest.fixture
def found(model, encodings):
    return slopes(model, pack(encodings), LABELS, loss)


@pytest.fixture
def by_gates(model, encodings):
    """(tokens, layers, heads) for each example alone: slopes of gates, one for each token and head, by autograd."""
    out = []
    for encoding, label in zip(encodings, LABELS, strict=True):
        gates = torch.ones(2, len(encoding.ids), 3, 1, requires_grad=True)
        edit = {f"layer.{layer}.attention.mixed": lambda mixed, g=gates[layer]: mixed * g for layer in range(2)}
        value = loss(model(pack([encoding]), tap=Tap(edit=edit)).logits, label[None]).sum()
        out.append(torch.autograd.grad(value, gates)[0].squeeze(-1).transpose(0, 1).double().numpy())
    return out


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_slopes_are_those_of_gates_on_each_example_alone(found, by_gates):
    close(found.gate, [g.sum(0) for g in by_gates])
    close(found.absolute, [abs(g).sum(0) for g in by_gates])
    assert found.tokens.tolist() == LENGTHS


def test_michel_is_the_mean_over_examples(found, by_gates):
    close(michel(found).mean(0), sum(abs(g.sum(0)) for g in by_gates) / len(by_gates))


def test_token_is_the_mean_over_tokens(found, by_gates):
    close(token(found).mean(0), abs(np.concatenate(by_gates)).mean(0))


def test_taylor_is_the_mean_square(found, by_gates):
    close(taylor(found).mean(0), sum(g.sum(0) ** 2 for g in by_gates) / len(by_gates))


def test_batch_is_weight_times_gradient_of_the_output_map(model, encodings, found):
    """|sum of W_O * dL/dW_O| over the columns of a head, L being a batch's mean loss: no hook, and the same number."""
    maps = [block.attention.part.output.weight for block in model.encoder.blocks]
    batches = []
    for start in (0, 3, 6):
        part = pack(encodings[start : start + 3])
        mean = loss(model(part).logits, LABELS[start : start + 3]).mean()
        products = [w * g for w, g in zip(maps, torch.autograd.grad(mean, maps), strict=True)]
        batches.append(torch.stack([p.unflatten(1, (3, 8)).sum((0, 2)).abs() for p in products]).detach().numpy())
    close(batch(found, 3), batches)
    close(batch(found, 100)[0], abs(found.gate.mean(0)))


@pytest.mark.parametrize("shape", [[[0, 1, 2, 3, 4, 5, 6]], [[6, 0], [3, 1, 2], [5, 4]], [[i] for i in range(7)]])
def test_slopes_do_not_depend_on_the_batch(shape, model, encodings, found):
    for rows in shape:
        part = slopes(model, pack([encodings[i] for i in rows]), LABELS[rows], loss)
        close(part.gate, found.gate[rows])
        close(part.absolute, found[rows].absolute)


def test_weights_need_no_gradient_and_get_none(model, encodings, found, monkeypatch):
    def forbidden(*arguments, **settings):
        raise AssertionError("the explicit path was taken")

    monkeypatch.setattr(encoders.attention, "attend", forbidden)
    frozen = model.requires_grad_(False)
    with torch.no_grad():
        close(slopes(frozen, pack(encodings), LABELS, loss).gate, found.gate)
    assert all(p.grad is None for p in model.parameters())


def test_the_slope_is_that_of_the_measured_loss(model, encodings, found):
    """The loss where each gate is moved a little, from both sides."""
    packed, step = pack(encodings), 1e-2
    for layer, head in ((0, 1), (1, 2)):
        ends = []
        for gate in (1 + step, 1 - step):
            factors = torch.ones(3, 1)
            factors[head] = gate
            tap = Tap(edit={f"layer.{layer}.attention.mixed": lambda mixed, f=factors: mixed * f})
            with torch.no_grad():
                ends.append(loss(model(packed, tap=tap).logits, LABELS).double().numpy())
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), found.gate[:, layer, head], atol=2e-3, rtol=1e-2)


def test_dropped_is_each_head_dropped_by_itself(model, encodings):
    packed = pack(encodings)
    plain, without = dropped(model, packed)
    torch.testing.assert_close(plain, model(packed).logits)
    assert without.shape == (2, 3, len(LENGTHS), 4)
    for layer in range(2):
        for head in range(3):
            tap = Tap(edit=bound([Drop(layer, head)], packed, model.encoder.config))
            torch.testing.assert_close(without[layer, head], model(packed, tap=tap).logits, atol=1e-5, rtol=1e-5)


def test_a_layer_has_norm_one():
    random = np.random.default_rng(0).random((2, 3))
    random[1] = 0
    np.testing.assert_allclose(np.linalg.norm(normalised(random), axis=1), [1, 0])
    np.testing.assert_allclose(normalised(random)[0], random[0] / np.sqrt((random[0] ** 2).sum()))


def test_a_model_that_answers_nothing_or_in_noise_is_a_problem(draw_model, encodings):
    model, packed = draw_model(dropout=0.1), pack(encodings)
    for change, said in ((model.train, "in training"), (lambda: setattr(model, "head", None), "no head")):
        change()
        with pytest.raises(Problem, match=said):
            slopes(model, packed, LABELS, loss)
        with pytest.raises(Problem, match=said):
            dropped(model, packed)
