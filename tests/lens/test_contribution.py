"""What tokens give to one another, by Gram matrices, is what the vectors written out say."""

import pytest
import torch

from regard.data.packing import pack
from regard.lens.capture import capture
from regard.lens.contribution import value_norms


@pytest.fixture
def encoder(draw_model):
    return draw_model().encoder


@pytest.fixture
def packed(draw_encodings):
    return pack(draw_encodings([5, 30, 1, 17, 5]))


@pytest.mark.parametrize("layer", [0, 1])
def test_norms_of_values_are_those_of_the_vectors_written_out(layer, encoder, packed):
    found = capture(encoder, packed, values=True)
    weight = encoder.blocks[layer].attention.part.output.weight
    for sequence, size in enumerate([5, 30, 1, 17, 5]):
        value = found.part(layer, "value", sequence)
        norms = value_norms(encoder, found, layer, sequence)
        assert norms.shape == (size, 3)
        for head in range(3):
            columns = slice(8 * head, 8 * head + 8)
            explicit = (value[:, head] @ weight[:, columns].T).norm(dim=-1)
            torch.testing.assert_close(norms[:, head], explicit, atol=1e-5, rtol=1e-5)
