"""Dropout is fair, independent, and a function of its keys alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.packing import pack
from regard.model.dropout import Dropout, Noise, keep_mask, random_keys, scaled_mask
from regard.model.kernels import KERNELS

CPU = torch.device("cpu")
RATES = (0.1, 0.3, 0.5, 0.9)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    wide=st.integers(1, 70),
    narrow=st.integers(1, 70),
    probability=st.floats(0, 0.99),
)
def test_a_narrow_mask_is_the_prefix_of_a_wide_one(rows, columns, wide, narrow, probability):
    narrow, wide = sorted((narrow, wide))
    keys = random_keys(rows, columns, device=CPU)
    mask = keep_mask(keys, wide, probability)
    assert mask.shape == (rows, columns, wide)
    assert torch.equal(mask[..., :narrow], keep_mask(keys, narrow, probability))
    assert torch.equal(mask.transpose(0, 1), keep_mask(keys.T, wide, probability))


@pytest.mark.parametrize("probability", RATES)
def test_rate_and_expectation(probability):
    mask = keep_mask(random_keys(2000, device=CPU), 500, probability).double()
    deviation = (probability * (1 - probability)) ** 0.5
    assert abs(mask.mean() - (1 - probability)) < 5 * deviation / 1000 + 1 / 65536
    assert (mask.mean(0) - (1 - probability)).abs().max() < 5 * deviation / 2000**0.5
    assert (mask.mean(1) - (1 - probability)).abs().max() < 5 * deviation / 500**0.5
    scaled = scaled_mask(random_keys(2000, device=CPU), 500, probability, torch.float64)
    assert set(scaled.unique().tolist()) == {0.0, 1 / (1 - probability)}
    assert abs(scaled.mean() - 1) < 5 * deviation / 1000 / (1 - probability) + 1e-3


@pytest.mark.parametrize("probability", RATES)
@pytest.mark.parametrize("keys", ["random", "consecutive"])
def test_rows_and_columns_are_independent(probability, keys):
    rows, columns = 3000, 80
    drawn = random_keys(rows, device=CPU) if keys == "random" else torch.arange(rows, dtype=torch.int32)
    mask = keep_mask(drawn, columns, probability).double()
    bound = 5.5 / rows**0.5
    across = torch.corrcoef(mask.T) - torch.eye(columns)
    assert across.abs().max() < bound
    down = torch.corrcoef(mask.view(60, -1)) - torch.eye(60)
    assert down.abs().max() < 5.5 / (rows * columns / 60) ** 0.5
    for step in (1, 2, 16):
        product = (mask[step:] - mask.mean()) * (mask[:-step] - mask.mean())
        assert abs(product.mean() / mask.var()) < 5.5 / product.numel() ** 0.5


def test_no_dropout_keeps_everything():
    assert keep_mask(random_keys(50, device=CPU), 50, 0.0).all()
    x = torch.randn(4, 6)
    assert Dropout(0.0).train()(x) is x
    assert Dropout(0.5).eval()(x) is x


def test_the_module_follows_the_generator_and_drops_the_gradient_too():
    part, x = Dropout(0.4).train(), torch.ones(300, 40, requires_grad=True)
    state = torch.get_rng_state()
    first = part(x)
    torch.set_rng_state(state)
    assert torch.equal(first, part(x))
    assert not torch.equal(first, part(x))
    assert abs((first == 0).float().mean() - 0.4) < 0.02
    assert torch.equal(torch.autograd.grad(first.sum(), x)[0], first.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_onto_a_stream_is_dropout_and_a_sum(dtype):
    part = Dropout(0.3)
    x, stream, direction = torch.randn(50, 40).to(dtype), torch.randn(50, 40), torch.randn(50, 40)
    found = []
    for onto in (True, False):
        torch.manual_seed(3)
        inputs = [t.clone().requires_grad_() for t in (x, stream)]
        y = part(inputs[0], onto=inputs[1]) if onto else inputs[1] + part(inputs[0])
        found.append([y, *torch.autograd.grad((y * direction).sum(), inputs)])
    for ours, law in zip(*found, strict=True):
        assert ours.dtype == law.dtype
        torch.testing.assert_close(ours, law, atol=1e-6 if dtype == torch.float32 else 2**-6, rtol=2**-7)


def test_dropout_onto_a_stream_has_a_second_derivative():
    part, stream = Dropout(0.3), torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    y = part(stream**2, onto=stream)
    kept = (y - stream).detach() / stream.detach() ** 2  # 0, or 1 / (1 - p)
    (first,) = torch.autograd.grad(y.square().sum(), stream, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), stream)
    x = stream.detach()
    torch.testing.assert_close(second, 2 * (1 + 2 * kept * x) ** 2 + 4 * kept * (x + kept * x**2))


@pytest.mark.parametrize("name", ["grouped", "reference"])
def test_the_mean_over_noise_is_attention_without_noise(name, draw_encodings):
    packed = pack(draw_encodings([4, 9]))
    query, key, value = torch.randn(3, 13, 2, 4)
    run = KERNELS[name].run
    settings = {"packed": packed, "scale": 0.5, "lse": False}
    draws = torch.stack([
        run(query, key, value, noise=Noise(random_keys(13, 2, device=CPU), 0.3), **settings)[0] for _ in range(1500)
    ])  # fmt: skip
    expected = run(query, key, value, noise=None, **settings)[0]
    assert ((draws.mean(0) - expected).abs() < 5.5 * draws.std(0) / 1500**0.5 + 1e-3).all()


@pytest.mark.parametrize(("dropout", "attention_dropout"), [(0.2, 0.0), (0.0, 0.3), (0.1, 0.1)])
def test_training_is_noisy_and_evaluation_is_not(dropout, attention_dropout, draw_model, draw_encodings):
    model = draw_model(dropout=dropout, attention_dropout=attention_dropout)
    packed = pack(draw_encodings([5, 8, 8]))
    assert torch.equal(model(packed).hidden, model(packed).hidden)
    model.train()
    state = torch.get_rng_state()
    first = model(packed).hidden
    assert not torch.equal(first, model(packed).hidden)
    torch.set_rng_state(state)
    assert torch.equal(first, model(packed).hidden)


@pytest.mark.parametrize("lengths", [[5, 8, 8], [1, 2, 40], [30] * 4])
def test_training_is_the_same_with_every_kernel(lengths, draw_model, draw_encodings):
    packed, found = pack(draw_encodings(lengths)), []
    for kernel in ("grouped", "reference"):
        model = draw_model(kernel=kernel, dropout=0.1, attention_dropout=0.3).train()
        torch.manual_seed(5)
        logits = model(packed).logits
        found.append([logits, *torch.autograd.grad(logits.square().sum(), [*model.parameters()])])
    for ours, law in zip(*found, strict=True):
        assert (ours - law).abs().max() <= 1e-5 * max(1.0, law.abs().max().item())
