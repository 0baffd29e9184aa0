import pytest
import torch
from torch.testing import assert_close

from regard.data.packing import unpack
from regard.model.pooling import First, Max, Mean, in_order, pooler
from regard.model.taps import Tap

LENGTHS = ([5], [3, 1, 4, 1, 5], [7, 7, 2], [*range(30, 0, -3)])
NAIVE = {"mean": lambda rows: rows.mean(0), "max": lambda rows: rows.max(0).values, "first": lambda rows: rows[0]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("name", NAIVE)
def test_pooling_is_the_naive_one_in_the_order_of_the_caller(name, lengths, dtype, draw_packed):
    packed = draw_packed(lengths)
    x = torch.randn(len(packed.ids), 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = pooler(name, 6, dense=False)(x, packed)
    assert found.dtype == torch.float32
    assert_close(found, torch.stack([NAIVE[name](rows.float()) for rows in unpack(x, packed)]))


@pytest.mark.parametrize("name", NAIVE)
def test_gradients(name, draw_packed):
    packed = draw_packed([3, 1, 4])
    x = torch.randn(8, 6, dtype=torch.float64).requires_grad_()
    weights = torch.randn(3, 6)
    found = torch.autograd.grad((pooler(name, 6, dense=False)(x, packed) * weights).sum(), x)[0]
    naive = torch.stack([NAIVE[name](rows) for rows in unpack(x, packed)])
    assert_close(found, torch.autograd.grad((naive * weights).sum(), x)[0], atol=1e-6, rtol=1e-6)


def test_the_dense_pooler_is_a_tanh_of_the_first_token(draw_packed):
    packed, part = draw_packed([2, 5, 1]), First(6)
    x = torch.randn(8, 6)
    first = torch.stack([rows[0] for rows in unpack(x, packed)])
    assert_close(part(x, packed), torch.tanh(first @ part.dense.weight.T + part.dense.bias))


def test_names(draw_packed):
    assert [type(pooler(name, 4)) for name in ("first", "mean", "max")] == [First, Mean, Max]
    assert in_order(torch.tensor([30, 10, 20]), draw_packed([2, 3, 1])).tolist() == [10, 20, 30]


@pytest.mark.parametrize("lengths", [[6], [3, 9, 9, 1]])
def test_without_hidden_states_the_answer_is_the_same(lengths, small_model, draw_packed):
    packed, found = draw_packed(lengths), []
    assert isinstance(small_model.pooling, First)
    for hidden in (True, False):
        output = small_model(packed, hidden=hidden)
        assert (output.hidden is None) == (not hidden)
        gradients = torch.autograd.grad(output.pooled.sum(), [*small_model.parameters()])
        found.append([output.pooled, *gradients])
    for ours, law in zip(*found, strict=True):
        assert_close(ours, law, atol=1e-5, rtol=1e-4)


def test_a_tap_sees_all_tokens_though_nobody_asks_for_hidden_states(small_model, draw_packed):
    tap = Tap(watch=["layer.1.output"])
    small_model(draw_packed([3, 4]), tap=tap, hidden=False)
    assert len(tap.trace.values["layer.1.output"]) == 7
