"""What is compiled learns as what is not, and few compilations serve all layers and batches."""

import shutil

import pytest
import torch

from regard.batch import Encoding, Hidden
from regard.data.packing import pack
from regard.errors import Problem
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.heads import Model
from regard.model.pooling import Mean
from regard.model.words import WordHead
from regard.train.compile import compile_training
from regard.train.objectives import masked_words

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.filterwarnings("ignore"),  # the compiler warns of what it does itself
]


def draw_model(layers=4, dropout=0.0):
    torch.manual_seed(1)
    config = EncoderConfig(
        vocabulary=40, width=16, layers=layers, heads=2, inner_width=24, positions=16, dropout=dropout,
        attention_dropout=dropout,
    )  # fmt: skip
    return Model(bert(config), Mean(), words=WordHead(config)).train()


@pytest.fixture
def batches(draw_encodings):
    """Of other numbers of sequences, of tokens and of hidden ones."""
    out = []
    for lengths in ([4, 9, 3, 7], [5, 5], [2, 12, 11, 10, 9], [3, 3, 8]):
        packed = pack([Encoding(e.ids % 40, e.segments) for e in draw_encodings(lengths)])
        places = torch.arange(1, len(packed.ids), 3)
        out.append(Hidden(packed, places, packed.ids[places], torch.zeros_like(places), torch.zeros(len(lengths))))
    return out


def learnt(model, batch, *, bfloat16=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss, _ = masked_words(["en"])(model, batch)
    return [loss, *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize(
    ("backend", "bfloat16", "tolerance"),
    [
        ("aot_eager", False, 1e-6),
        ("aot_eager", True, 1e-6),
        pytest.param("inductor", False, 1e-5, marks=pytest.mark.slow),
        pytest.param("inductor", True, 3e-2, marks=pytest.mark.slow),  # what is one kernel is rounded once
    ],
)
def test_losses_and_gradients_are_those_of_the_plain_model(backend, bfloat16, tolerance, batches):
    plain, compiled = draw_model(), draw_model()
    compile_training(compiled, backend=backend)
    for batch in batches:
        ours, expected = (learnt(model, batch, bfloat16=bfloat16) for model in (compiled, plain))
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_few_compilations_serve_all_layers_and_batches(batches):
    made = []
    model = draw_model(dropout=0.1)
    compile_training(model, backend=lambda graph, inputs: made.append(graph) or graph.forward)
    for batch in batches:
        learnt(model, batch)
    # What is between two attentions, after the last, and the loss: for one number of rows, then for any.
    assert len(made) == 4


def test_what_is_measured_is_not_compiled(batches):
    plain, compiled = draw_model().eval(), draw_model().eval()
    compile_training(compiled, backend=lambda *_: pytest.fail("compiled"))
    for one, other in zip(*(learnt(model, batches[0]) for model in (compiled, plain)), strict=True):
        assert torch.equal(one, other)


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Problem, match=r"needs a compiler of C\+\+ \(g\+\+, or what CXX names\)\. Install it, or leave"):
        compile_training(draw_model())


def test_the_compiler_is_the_one_that_is_called(monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "which", lambda name: asked.append(name) or "/bin/true")
    monkeypatch.setenv("CXX", "ccache g++-14")
    compile_training(draw_model(), backend="eager")
    assert asked == ["ccache"]
