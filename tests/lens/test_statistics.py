"""Statistics are those of weights written out whole; moments of a stream are those of all its numbers."""

import numpy as np
import pytest
import torch

from regard.data.packing import pack
from regard.lens import compiled, tiles
from regard.lens.statistics import Classes, Moments, Wanted, read
from regard.model.encoder import lower_precision
from regard.model.taps import Tap

NAMES = ("cls", "sep", "odd", "nobody")
LENGTHS = [7, 33, 2, 19, 33, 7, 1, 64]


@pytest.fixture(scope="module")
def encoder(draw_model):
    return draw_model(positions=160).encoder


def drawn(draw_encodings, lengths=LENGTHS, *, pairs=True):
    encodings = draw_encodings(lengths)
    for number, encoding in enumerate(encodings):
        encoding.segments[:] = 0
        if pairs and number % 2:
            encoding.segments[len(encoding.ids) // 3 :] = 1
    return pack(encodings)


def classes(packed, *, words=False):
    """The first token is [CLS]; the last, and the last of the first text, are [SEP]; odd ids are a class too."""
    members = torch.zeros(len(packed.ids), len(NAMES))
    members[packed.bounds[:-1].long(), 0] = 1
    members[packed.bounds[1:].long() - 1, 1] = 1
    inner = (packed.segments.diff() == 1) & (packed.positions.diff() == 1)
    members[:-1][inner, 1] = 1
    members[packed.ids % 2 == 1, 2] = 1
    cells = None
    if words:  # words of three tokens
        word = packed.positions // 3 + 1000 * torch.repeat_interleave(packed.bounds.diff().long())
        i, j = (word[:, None] == word).nonzero().T
        cells = torch.stack([i, j])[:, i != j]
    return Classes(NAMES, members, words=cells)


def written_out(encoder, packed, found):
    """Every statistic by its definition, from weights in float64: name -> (texts, layers, heads)."""
    tap = Tap(watch=["layer.*.attention.weights"])
    with torch.no_grad():
        encoder.double()(packed, tap=tap)
    encoder.float()
    out = {}
    for place, source in enumerate(packed.order.tolist()):
        rows = slice(*packed.bounds[place : place + 2].tolist())
        members, segment = found.members[rows].double(), packed.segments[rows]
        size = rows.stop - rows.start
        position = torch.arange(size)
        for layer in range(encoder.config.layers):
            weights = tap.trace.values[f"layer.{layer}.attention.weights"][place]

            def put(name, value, source=source, layer=layer):
                out.setdefault(name, np.full((len(packed.lengths), 2, 3), np.nan))[source, layer] = value

            entropy = -torch.xlogy(weights, weights).sum(-1)
            put("entropy", entropy.mean(-1))
            put("entropy_share", entropy.mean(-1) / np.log(size) if size > 1 else np.nan)
            masses = weights @ members
            for column, name in enumerate(NAMES):
                put(f"to_{name}", masses[..., column].mean(-1))
                for which in ("cls", "sep"):
                    own = members[:, NAMES.index(which)] == 1
                    put(f"{which}_to_{name}", masses[:, own, column].mean(-1))
                    put(f"{which}_entropy", entropy[:, own].mean(-1))
                    if name == which:
                        put(f"other_to_{name}", masses[:, ~own, column].mean(-1))
            for offset in range(-3, 4):
                put(f"offset_{offset:+d}", weights.diagonal(offset, 1, 2).sum(-1) / size)
            gap = position - position[:, None]
            put("distance", (weights * gap.abs()).sum(-1).mean(-1))
            put("displacement", (weights * gap).sum(-1).mean(-1))
            put("confidence", weights.amax(-1).mean(-1))
            same = segment[:, None] == segment
            put("to_own_text", (weights * same).sum(-1).mean(-1) if segment.any() else np.nan)
            together = (position[:, None] // 3 == position // 3) & (gap != 0)
            some = together.any(-1)
            put("to_own_word", (weights * together).sum(-1)[:, some].mean(-1))
    return out


@pytest.fixture(params=["compiled", "tiles"])
def way(request, monkeypatch):
    """Both that sum up; the compiled one is skipped where it cannot be had."""
    if request.param == "tiles":
        monkeypatch.setattr(compiled, "serves", lambda query: False)
    elif not compiled.serves(torch.zeros(1)):
        pytest.skip("no C++ compiler, or a processor without AVX-512")
    return request.param


@pytest.mark.parametrize(("tile", "flush"), [(1, 3), (500, 16)])
def test_each_statistic_is_that_of_the_weights_in_tiles_of_any_size(encoder, draw_encodings, monkeypatch, tile, flush):
    monkeypatch.setattr(compiled, "serves", lambda query: False)
    monkeypatch.setattr(tiles, "TILE", tile)
    monkeypatch.setattr(tiles, "FLUSH", flush)
    check_each(encoder, drawn(draw_encodings))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("lengths", [LENGTHS, [63, 64, 65, 128, 129]])
def test_each_statistic_is_that_of_the_weights_written_out(encoder, draw_encodings, lengths):
    check_each(encoder, drawn(draw_encodings, lengths))


def check_each(encoder, packed):
    found = classes(packed, words=True)
    got = read(encoder, packed, found)
    expected = written_out(encoder, packed, found)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.usefixtures("way")
def test_a_text_has_the_same_statistics_alone_and_in_any_batch(encoder, draw_encodings):
    packed = drawn(draw_encodings, [33, 12, 5], pairs=False)
    together = read(encoder, packed, classes(packed))
    for number in range(3):
        alone = pack([draw_encodings([33, 12, 5])[number]])
        alone.segments[:] = 0
        found = read(encoder, alone, classes(alone))
        for name, value in found.items():
            np.testing.assert_allclose(together[name][number], value[0], atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("way")
def test_weighted_shares_are_those_of_vectors_written_out(encoder, draw_encodings):
    packed = drawn(draw_encodings, [9, 21])
    found = classes(packed)
    got = read(encoder, packed, found, wanted=Wanted(norms=True))
    tap = Tap(watch=["layer.*.attention.weights", "layer.*.attention.value"])
    with torch.no_grad():
        encoder(packed, tap=tap)
    for layer in range(2):
        output = encoder.blocks[layer].attention.part.output.weight
        value = tap.trace.values[f"layer.{layer}.attention.value"]
        for head in range(3):
            norm = (value[:, head] @ output[:, head * 8 : head * 8 + 8].T).norm(dim=-1)
            for place, source in enumerate(packed.order.tolist()):
                rows = slice(*packed.bounds[place : place + 2].tolist())
                brought = tap.trace.values[f"layer.{layer}.attention.weights"][place][head] * norm[rows].detach()
                share = (brought @ found.members[rows]).sum(0) / brought.sum()
                for column, name in enumerate(NAMES):
                    assert got[f"norm_to_{name}"][source, layer, head] == pytest.approx(float(share[column]), abs=1e-5)


def test_a_pass_leaves_the_model_as_it_was_and_skips_what_follows_the_last_weights(encoder, draw_encodings):
    packed = drawn(draw_encodings)
    before = encoder(packed)
    seen = []
    last = encoder.blocks[-1].feedforward.part
    handle = last.register_forward_hook(lambda *_: seen.append(1))
    read(encoder, packed, classes(packed))
    handle.remove()
    assert not seen
    assert torch.equal(encoder(packed), before)


@pytest.mark.usefixtures("way")
def test_a_broken_head_has_no_numbers(draw_model, draw_encodings):
    encoder = draw_model().encoder
    with torch.no_grad():
        encoder.blocks[1].attention.part.joint.weight[:24].fill_(torch.nan)
    packed = drawn(draw_encodings)
    found = read(encoder, packed, classes(packed))
    for name in ("entropy", "confidence", "distance", "to_odd"):
        assert np.isfinite(found[name][:, 0]).all() and np.isnan(found[name][:, 1]).all()


@pytest.mark.usefixtures("way")
def test_half_precision_is_near(draw_model, draw_encodings):
    encoder = draw_model().encoder
    packed = drawn(draw_encodings)
    whole = read(encoder, packed, classes(packed))
    lower_precision(encoder)
    half = read(encoder, packed, classes(packed))
    for name in ("entropy", "to_odd", "offset_+1"):
        np.testing.assert_allclose(half[name], whole[name], atol=0.05)


def test_moments_of_a_stream_are_those_of_all_numbers_at_once():
    random = np.random.default_rng(0)
    numbers = random.normal(1e3, 1, (200, 2, 3))
    numbers[random.random(numbers.shape) < 0.2] = np.nan
    numbers[:, 1, 2] = np.nan
    stream = Moments()
    for part in np.split(numbers, [1, 50, 51, 120]):
        stream.add({"x": part})
    rows = {(row["layer"], row["head"]): row for row in stream.rows()}
    for layer, head in np.ndindex(2, 3):
        own = numbers[:, layer, head]
        own = own[~np.isnan(own)]
        row = rows[layer, head]
        assert row["n"] == len(own)
        if len(own):
            assert row["mean"] == pytest.approx(own.mean(), abs=1e-9)
            assert row["deviation"] == pytest.approx(own.std(ddof=1), rel=1e-9)
            assert row["high"] - row["mean"] == pytest.approx(1.96 * own.std(ddof=1) / len(own) ** 0.5, rel=1e-9)
    assert np.isnan(rows[1, 2]["mean"])
