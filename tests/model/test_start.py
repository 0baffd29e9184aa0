"""A fresh encoder that looks nearby does so, passes on what it sees, and its head knows how frequent words are."""

import numpy as np
import pytest
import torch

from regard.batch import Encoding
from regard.data.packing import pack
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.start import OFFSETS, SHARE, know_frequencies, look_nearby
from regard.model.taps import Tap
from regard.model.words import WordHead


def config(**changes):
    settings = {"vocabulary": 500, "width": 256, "layers": 2, "heads": 4, "inner_width": 512, "positions": 64}
    return EncoderConfig(**settings | changes)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    made = bert(config())
    look_nearby(made)
    return made.eval()


def texts(lengths):
    random = np.random.default_rng(0)
    return pack([Encoding(random.integers(0, 500, size=n), np.zeros(n, np.int64)) for n in lengths])


@torch.no_grad()
def test_first_heads_look_where_they_are_told(encoder):
    tap = Tap(["layer.0.attention.weights"])
    encoder(texts([40, 40]), tap=tap)
    for text in tap.trace.values["layer.0.attention.weights"]:
        for head, offset in enumerate(OFFSETS[:4]):
            inside = torch.arange(5, 35)
            best = text[head, inside].argmax(-1) - inside
            assert (best == offset).float().mean() > 0.6, (head, offset)
            assert text[head, inside, inside + offset].mean() > 8 / 40


@torch.no_grad()
def test_what_a_head_sees_it_passes_on_as_it_is(encoder):
    for block in encoder.blocks:
        part = block.attention.part
        value = part.joint.weight[2 * 256 :]
        torch.testing.assert_close(part.output.weight @ value, SHARE * torch.eye(256), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [{"width": 15, "heads": 3}, {"width": 8, "heads": 8}, {"positions": 1}], ids=str)
def test_any_shape_may_look_nearby(shape):
    made = bert(config(**shape))
    look_nearby(made)
    assert all(parameter.isfinite().all() for parameter in made.parameters())


def test_a_head_that_knows_frequencies_guesses_by_them():
    head = WordHead(config(vocabulary=4))
    know_frequencies(head, torch.tensor([97, 1, 0, 0]))
    shares = head.bias.detach().softmax(0)
    torch.testing.assert_close(shares, torch.tensor([98, 2, 1, 1]) / 102)
