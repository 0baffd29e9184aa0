"""A fresh encoder looks nearby and passes on what it sees; its head and its word vectors know counts of the text."""

import numpy as np
import pytest
import torch

from regard.batch import Encoding
from regard.data.packing import pack
from regard.model.config import EncoderConfig
from regard.model.encoder import bert
from regard.model.start import OFFSETS, SHARE, know_frequencies, know_neighbours, look_nearby
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
        inside = torch.arange(5, 35)
        for head, offset in enumerate(OFFSETS):
            if offset is None:
                assert text[head].max() < 4 / 40
                continue
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
    know_frequencies(head, torch.tensor([97, 1]))  # a vocabulary of fewer ids than the head has
    torch.testing.assert_close(head.bias.detach().softmax(0), shares)


def topics(words, each):
    """How much words of some topics stand near one another: much within a topic, by chance across."""
    random = np.random.default_rng(0)
    near = random.poisson(2.0, (words, words)) + 40.0 * np.kron(np.eye(words // each), np.ones((each, each)))
    return torch.from_numpy((near + near.T).astype(np.float32))


def test_words_of_the_same_neighbours_begin_alike(encoder):
    before = encoder.embeddings.word.detach().clone()
    words = torch.arange(5, 405)
    know_neighbours(encoder, words, topics(400, 20))
    after = encoder.embeddings.word.detach()
    own = after[words] / after[words].norm(dim=1, keepdim=True)
    alike = (own @ own.T).view(20, 20, 20, 20).mean((1, 3))
    assert (alike.diagonal() > 0.3).all() and (alike - alike.diagonal().diag()).abs().max() < 0.01
    rest = np.setdiff1d(np.arange(500), words)
    assert torch.equal(after[rest], before[rest])
    torch.testing.assert_close(after[words].norm(dim=1), (before.std() * 16).expand(400), rtol=1e-3, atol=0)


def test_products_of_vectors_tell_mutual_information(encoder):
    counts = topics(200, 20)
    sums = counts.sum(1)
    expected = (counts * sums.pow(0.75).sum() / (sums[:, None] * sums).pow(0.875)).log().clamp(min=0)
    know_neighbours(encoder, torch.arange(200), counts.clone())
    own = encoder.embeddings.word.detach()[:200]
    found = torch.corrcoef(torch.stack([(own @ own.T).flatten(), expected.flatten()]))[0, 1]
    assert found > 0.8


@pytest.mark.parametrize(
    "near", [[[0.0]], [[1.0]], [[0.0, 2.0], [2.0, 0.0]], [[4.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], ids=str
)
def test_few_words_or_lonely_ones_have_vectors(encoder, near):
    words = torch.arange(len(near))
    know_neighbours(encoder, words, torch.tensor(near))
    assert encoder.embeddings.word.isfinite().all()
    assert (encoder.embeddings.word[words].norm(dim=1) > 0.1).all()
