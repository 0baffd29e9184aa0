import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from regard.model.linear import ACTIVATIONS, FEW, FEW_ROWS, ROWS, Linear, _filled, chain, linear

TOLERANCES = {torch.float32: 3e-5, torch.bfloat16: 2**-6}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(2)


def draw(dtype, tokens=37, inputs=48, outputs=70):
    return torch.randn(tokens, inputs), torch.randn(outputs, inputs).to(dtype) * 0.3, torch.randn(outputs).to(dtype)


def expected(x, weight, bias, activation):
    y = F.linear(x.to(weight.dtype).double(), weight.double(), bias.double())
    return y if activation is None else ACTIVATIONS[activation](y)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("tokens", [0, 1, 37])
def test_every_path_computes_the_same(activation, dtype, tokens):
    x, weight, bias = draw(dtype, tokens)
    law, tolerance = expected(x, weight, bias, activation), TOLERANCES[dtype]
    with torch.no_grad():
        fused = linear(x, weight, bias, activation)
    plain = linear(x, weight.requires_grad_(), bias, activation)
    for found in (fused, plain):
        assert (found.shape, found.dtype) == ((tokens, 70), dtype)
        assert_close(found.double(), law, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_gradients(activation):
    x, weight, bias = (t.requires_grad_() for t in draw(torch.float32))
    direction = torch.randn(37, 70)
    found = torch.autograd.grad((linear(x, weight, bias, activation) * direction).sum(), (x, weight, bias))
    law = torch.autograd.grad((expected(x, weight, bias, activation) * direction).sum(), (x, weight, bias))
    for ours, theirs in zip(found, law, strict=True):
        assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grad", [False, True])
def test_autocast_decides_the_precision(grad):
    part, x = Linear(48, 70, "gelu"), torch.randn(5, 48)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        y = part(x)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), part(x), atol=2**-6, rtol=2**-6)


@pytest.mark.parametrize(
    ("activation", "tokens"), [*itertools.product([None, *ACTIVATIONS], [1, 16, 37, ROWS + 1]), ("gelu", FEW + 4)]
)
def test_training_in_lower_precision_has_the_gradients_of_the_formula(activation, tokens):
    first, second = Linear(48, 70, activation), Linear(70, 33)
    parameters = [*first.parameters(), *second.parameters()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    x, direction = torch.randn(tokens, 48, requires_grad=True), torch.randn(tokens, 33)
    with torch.autocast("cpu", torch.bfloat16):
        y = chain(x, first, second)
    assert (y.shape, y.dtype) == ((tokens, 33), torch.bfloat16)
    found = torch.autograd.grad((y.float() * direction).sum(), [x, *parameters])
    law = torch.autograd.grad((chain(x, first, second) * direction).sum(), [x, *parameters])
    for ours, theirs in zip(found, law, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 2**-5 * theirs.norm()


@pytest.mark.parametrize("tokens", [1, FEW_ROWS, FEW_ROWS + 1, FEW, FEW + 1, 5 * ROWS])
def test_rows_are_filled_up_with_zeros(tokens):
    x = torch.randn(tokens, 3)
    rows = _filled(x, torch.bfloat16)
    step = ROWS if tokens > FEW else FEW_ROWS
    assert len(rows) == -(-tokens // step) * step
    assert torch.equal(rows[:tokens], x.bfloat16()) and not rows[tokens:].any()


def test_a_frozen_map_gets_no_gradient_and_passes_one_on():
    frozen, free = Linear(8, 8, "gelu").requires_grad_(False), Linear(8, 3)
    x = torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        chain(x, frozen, free).float().sum().backward()
    assert frozen.weight.grad is None
    assert free.weight.grad is not None
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (5, 129)])
def test_views_are_taken_as_they_lie(shape):
    tokens, inputs = shape
    wide, (_, weight, bias) = torch.randn(tokens, 3, inputs), draw(torch.float32, inputs=inputs)
    with torch.no_grad():
        found = linear(wide[:, 1], weight.t().contiguous().t(), bias)
    assert_close(found, F.linear(wide[:, 1], weight, bias), atol=1e-5, rtol=1e-5)


def test_fresh_weights_are_as_bert_began():
    part = Linear(400, 500)
    assert abs(part.weight.std() - 0.02) < 1e-4
    assert abs(part.weight.mean()) < 2e-4
    assert (part.bias == 0).all()
