"""What tokens give to one another, by Gram matrices, is what the vectors written out say."""

import pytest
import torch

from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.contribution import KINDS, contributions, mixing_ratios, value_norms, vectors
from regard.model.taps import Tap

LENGTHS = [5, 30, 1, 17, 5]


@pytest.fixture
def encoder(draw_model):
    encoder = draw_model().encoder
    with torch.no_grad():  # normalisations that do something
        for block in encoder.blocks:
            for part in (block.attention, block.feedforward):
                part.norm.weight.uniform_(0.5, 2)
                part.norm.bias.normal_()
    return encoder


@pytest.fixture
def packed(draw_encodings):
    return pack(draw_encodings(LENGTHS))


@pytest.fixture
def found(encoder, packed):
    return vectors(encoder, packed)


def written_out(encoder, packed, layer, sequence):
    """All F_ij of one layer before normalisation, with and without residual, in double precision, and the taps."""
    tap = Tap(watch=["*"])
    with torch.no_grad():
        encoder(packed, tap=tap)
    values = tap.trace.values
    place = packed.order.tolist().index(sequence)
    rows = slice(int(packed.bounds[place]), int(packed.bounds[place + 1]))
    weights = values[f"layer.{layer}.attention.weights"][place].double()
    value = values[f"layer.{layer}.attention.value"][rows].double()
    matrix = encoder.blocks[layer].attention.part.output.weight.double()
    each = torch.stack([value[:, h] @ matrix[:, 8 * h : 8 * h + 8].T for h in range(3)])
    without = torch.einsum("hij,hjw->ijw", weights, each)
    below = f"layer.{layer - 1}.output" if layer else "embeddings.output"
    stream = values[below][rows].double()
    with_it = without + torch.eye(len(stream)).double()[..., None] * stream[:, None]
    sums = [values[f"layer.{layer}.{part}.sum"][rows].double() for part in ("attention", "feedforward")]
    return weights, without, with_it, sums


def normalised(vectors, norm, whole):
    deviation = torch.sqrt(whole.var(-1, correction=0) + norm.eps)[:, None, None]
    return (vectors - vectors.mean(-1, keepdim=True)) / deviation * norm.weight


def explicit(kind, encoder, packed, layer, sequence):
    weights, without, with_it, sums = written_out(encoder, packed, layer, sequence)
    first, second = encoder.blocks[layer].attention.norm, encoder.blocks[layer].feedforward.norm
    after = normalised(with_it, first, sums[0])
    end = torch.nn.functional.layer_norm(
        sums[0], (24,), first.weight.double(), first.bias.double(), first.eps
    )[:, None]  # fmt: skip
    return {
        "Attn-W": lambda: weights.mean(0),
        "AttnRes-W": lambda: weights.mean(0) / 2 + torch.eye(weights.shape[1]) / 2,
        "Attn-N": lambda: without.norm(dim=-1),
        "AttnRes-N": lambda: with_it.norm(dim=-1),
        "AttnResLn-N": lambda: after.norm(dim=-1),
        "N-Enc": lambda: normalised(after, second, sums[1]).norm(dim=-1),
        "ALTI": lambda: (end.norm(dim=-1) - (end - after).norm(dim=-1)).clamp_min(0),
    }[kind]()


@pytest.mark.parametrize("layer", [0, 1])
def test_norms_of_values_are_those_of_the_vectors_written_out(layer, encoder, found):
    weight = encoder.blocks[layer].attention.part.output.weight
    for sequence, size in enumerate(LENGTHS):
        value = found.part(layer, "value", sequence)
        norms = value_norms(encoder, found, layer, sequence)
        assert norms.shape == (size, 3)
        for head in range(3):
            columns = slice(8 * head, 8 * head + 8)
            expected = (value[:, head] @ weight[:, columns].T).norm(dim=-1)
            torch.testing.assert_close(norms[:, head], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", [1, 400, 2**21])
def test_contributions_are_those_of_the_vectors_written_out(kind, room, encoder, packed, found):
    for layer in range(2):
        for sequence, size in enumerate(LENGTHS):
            tiles = list(contributions(encoder, found, layer, sequence, kind, room=room))
            assert [rows.start for rows, _ in tiles][:2] == [0, tiles[0][0].stop][: len(tiles)]
            whole = torch.cat([tile for _, tile in tiles])
            assert whole.shape == (size, size) and whole.dtype == torch.float32
            expected = explicit(kind, encoder, packed, layer, sequence).float()
            torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)


def test_mixing_ratios_are_those_of_the_vectors_written_out(encoder, packed, found):
    for layer in range(2):
        for sequence in (1, 3):
            weights, without, with_it, sums = written_out(encoder, packed, layer, sequence)
            after = normalised(with_it, encoder.blocks[layer].attention.norm, sums[0])
            kept = weights.mean(0).diagonal()
            expected = {"Attn-W": 1 - kept, "AttnRes-W": (1 - kept) / 2}
            for name, each in (("Attn-N", without), ("AttnRes-N", with_it), ("AttnResLn-N", after)):
                own = each.diagonal(0, 0, 1).T
                others = (each.sum(1) - own).norm(dim=-1)
                expected[name] = others / (others + own.norm(dim=-1))
            ratios = mixing_ratios(encoder, found, layer, sequence)
            assert ratios.keys() == expected.keys()
            for name, ratio in ratios.items():
                torch.testing.assert_close(ratio, expected[name].float(), atol=1e-5, rtol=1e-5)


def test_a_token_alone_mixes_nothing(encoder, found):
    for ratio in mixing_ratios(encoder, found, 0, 2).values():
        assert abs(float(ratio)) < 1e-5


def test_a_contribution_that_is_not_there(encoder, found):
    with pytest.raises(Problem, match="Known: Attn-W"):
        list(contributions(encoder, found, 0, 0, "Attn"))
