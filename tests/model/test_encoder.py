import pytest
import torch
from torch.testing import assert_close

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
