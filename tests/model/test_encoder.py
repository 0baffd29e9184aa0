import pytest
import torch
from torch.testing import assert_close

from regard.model.dropout import Dropout
from regard.model.encoder import lower_precision
from regard.model.linear import Linear
from regard.model.taps import Tap


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.*torch.autograd.function.Function.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_compiled_encoder_computes_the_same(training, small_model, draw_packed):
    small_model.encoder.train(training)
    compiled = torch.compile(small_model.encoder, backend="eager", fullgraph=False)
    for lengths in ([3, 9, 9], [4, 1]):
        packed, found = draw_packed(lengths), []
        for encoder in (compiled, small_model.encoder):
            torch.manual_seed(0)
            hidden = encoder(packed)
            found.append([hidden, *torch.autograd.grad(hidden.square().mean(), [*encoder.parameters()])])
        for ours, plain in zip(*found, strict=True):
            assert_close(ours, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["sdpa", "grouped", "reference"])
def test_inference_mode_leaves_nothing_that_training_trips_over(kernel, small_model, draw_packed):
    for block in small_model.encoder.blocks:
        block.attention.part.kernel = kernel
    packed = draw_packed([2, 11, 11, 5])
    with torch.inference_mode():
        expected = small_model(packed).hidden
    hidden = small_model(packed).hidden
    assert_close(hidden, expected)
    hidden.sum().backward()


def test_lower_precision_rounds_products_and_keeps_the_stream(small_model, draw_packed):
    packed = draw_packed([3, 9, 9])
    exact = small_model(packed).hidden
    lower_precision(small_model.encoder)
    kinds = {
        name: parameter.dtype == torch.bfloat16
        for name, part in small_model.encoder.named_modules()
        for parameter in part.parameters(recurse=False)
    }
    linears = {name for name, part in small_model.encoder.named_modules() if isinstance(part, Linear)}
    assert {name for name, low in kinds.items() if low} == linears
    tap = Tap(watch=["embeddings.output", "layer.?.output", "layer.?.attention.query"])
    hidden = small_model(packed, tap=tap).hidden
    assert {name: value.dtype for name, value in tap.trace.values.items()} == {
        "embeddings.output": torch.float32,
        **{f"layer.{i}.attention.query": torch.bfloat16 for i in range(2)},
        **{f"layer.{i}.output": torch.float32 for i in range(2)},
    }
    assert_close(hidden, exact, atol=0.05, rtol=0)


def test_order_and_position_matter(small_model, draw_packed):
    packed = draw_packed([6])
    with torch.no_grad():
        hidden = small_model(packed).hidden
        packed.ids[[1, 2]] = packed.ids[[2, 1]]
        assert packed.ids[1] != packed.ids[2]
        assert not torch.allclose(small_model(packed).hidden, hidden)
        small_model.encoder.embeddings.position.zero_()
        hidden = small_model(packed).hidden
        packed.ids[[1, 2]] = packed.ids[[2, 1]]
        packed.segments[[1, 2]] = packed.segments[[2, 1]]
        assert_close(small_model(packed).hidden[[0, 2, 1, 3, 4, 5]], hidden)


PLACES = {
    "first": None,
    "none": [],
    "one": [4],
    "some, of the third sequence none": [0, 2, 3, 13, 14, 15, 22],
    "all": list(range(23)),
}


def whole_and_in_places(encoder, packed, places):
    """Output in places, and gradients, of the pass for all tokens and of the one for these alone."""
    asked = packed.bounds[:-1].long() if places is None else torch.tensor(places, dtype=torch.long)
    found = []
    for alone in (False, True):
        torch.manual_seed(0)
        rows = encoder.at(packed, None if places is None else asked) if alone else encoder(packed)[asked]
        shares = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
        found.append([rows, *torch.autograd.grad((rows * shares).sum(), [*encoder.parameters()])])
    return found


@pytest.mark.parametrize("kernel", ["sdpa", "grouped", "reference"])
@pytest.mark.parametrize("places", PLACES)
def test_in_some_places_alone_output_and_gradients_are_the_same(places, kernel, small_model, draw_packed):
    for block in small_model.encoder.blocks:
        block.attention.part.kernel = kernel
    whole, alone = whole_and_in_places(small_model.encoder, draw_packed([4, 9, 3, 7]), PLACES[places])
    for ours, law in zip(alone, whole, strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, law, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("places", PLACES)
def test_in_some_places_alone_output_and_gradients_are_the_same_in_bfloat16(places, small_model, draw_packed):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, alone = whole_and_in_places(small_model.encoder, draw_packed([4, 9, 3, 7]), PLACES[places])
    for ours, law in zip(alone, whole, strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, law, atol=0.02 * max(1, law.abs().max().item() if law.numel() else 0), rtol=0)


@pytest.mark.parametrize("places", [*PLACES][1:])  # the first tokens draw noise for themselves alone
def test_in_some_places_alone_the_same_weights_of_attention_are_dropped(places, small_model, draw_packed):
    encoder = small_model.encoder.train()
    for part in encoder.modules():
        if isinstance(part, Dropout):
            part.probability = 0
    packed = draw_packed([4, 9, 3, 7])
    whole, alone = whole_and_in_places(encoder, packed, PLACES[places])
    for ours, law in zip(alone, whole, strict=True):
        assert_close(ours, law, atol=1e-5, rtol=1e-5)
    if len(whole[0]):
        assert not torch.allclose(whole[0], encoder.eval()(packed)[PLACES[places]])


def test_in_training_some_places_alone_are_on_average_those_of_the_whole_pass(small_model, draw_packed):
    encoder, packed, places = small_model.encoder.train(), draw_packed([4, 9, 3, 7]), torch.tensor([1, 5, 20])
    with torch.no_grad():
        whole = torch.stack([encoder(packed)[places] for _ in range(600)])
        alone = torch.stack([encoder.at(packed, places) for _ in range(600)])
    doubt = (whole.var(0) / 600 + alone.var(0) / 600).sqrt()
    assert ((whole.mean(0) - alone.mean(0)).abs() < 5 * doubt).all()
    assert_close(whole.std(0).mean(), alone.std(0).mean(), rtol=0.05, atol=0)
