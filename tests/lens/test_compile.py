"""Taps and edits are the same under torch.compile: watched, replaced, and in training."""

import pytest
import torch

from regard.data.packing import pack
from regard.lens.bind import bound
from regard.lens.edit import Drop, Forbid, Force, Sharpen, Uniform
from regard.model.taps import Tap

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.filterwarnings("ignore"),  # the compiler warns of what it does itself
]
EDITS = {
    "none": [],
    "fused": [Drop(0, 1), Sharpen(1, 2, 2.0, queries="first"), Uniform(0, 0)],
    "explicit": [Forbid(1, 1, "*", "last"), Force(0, 2, "first", 1, 0.8), Drop(1, 0)],
}
WATCH = ["layer.*.attention.mixed", "layer.0.output", "layer.*.attention.lse", "logits"]


@pytest.fixture
def packed(draw_encodings):
    return pack(draw_encodings([6, 4, 9]))


@pytest.mark.parametrize("name", ["none", "fused", pytest.param("explicit", marks=pytest.mark.slow)])
def test_watched_and_edited_values_are_those_of_the_plain_model(name, draw_model, packed):
    model = draw_model()
    compiled = torch.compile(model, backend="eager")
    edit = bound(EDITS[name], packed, model.encoder.config)
    taps = [Tap(WATCH, edit) for _ in range(2)]
    with torch.no_grad():
        outputs = [run(packed, tap=tap) for run, tap in zip((model, compiled), taps, strict=True)]
    torch.testing.assert_close(outputs[1].logits, outputs[0].logits, atol=1e-5, rtol=1e-5)
    assert [*taps[1].trace.values] == [*taps[0].trace.values]
    for value, found in taps[0].trace.values.items():
        torch.testing.assert_close(taps[1].trace.values[value], found, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(compiled(packed).logits, model(packed).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["fused", pytest.param("explicit", marks=pytest.mark.slow)])
def test_gradients_in_training_are_those_of_the_plain_model(name, draw_model, packed):
    """Those of the weights, which is what training needs; without dropout, as a compiler draws noise in its own order.

    A value that is watched leaves a compiled graph beside the loss, not on the way to it, and has no gradient there.
    """
    model = draw_model(dropout=0.0, attention_dropout=0.0).train()
    compiled = torch.compile(model, backend="aot_eager")
    edit = bound(EDITS[name], packed, model.encoder.config)
    found = []
    for run in (model, compiled):
        loss = run(packed, tap=Tap(["layer.0.attention.mixed"], edit)).logits.square().sum()
        found.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    for ours, plain in zip(found[1], found[0], strict=True):
        assert (ours is None) == (plain is None)
        if ours is not None:
            torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
