"""Operations of training: those that torch counts in a forward and a backward pass."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from regard.batch import Encoding, Hidden
from regard.data.packing import pack
from regard.model import cost
from regard.model.config import EncoderConfig
from regard.model.cost import (
    borrow_operations,
    detector_operations,
    encoder_operations,
    pair_operations,
    peak,
    sample_operations,
    word_operations,
)
from regard.model.electra import Electra, generator_for, smaller
from regard.model.encoder import bert
from regard.model.heads import Detector, Head, Model
from regard.model.pooling import pooler
from regard.model.words import WordHead
from regard.train.objectives import masked_words, with_detection, with_pairs

CONFIG = EncoderConfig(
    vocabulary=300, width=32, layers=3, heads=2, inner_width=48, positions=64, dropout=0.0, attention_dropout=0.0
)


def counted(objective, model, batch):
    """Of all products but those inside fused kernels, as that of attention, which torch does not count on a CPU."""
    with FlopCounterMode(display=False) as counter:
        objective(model, batch)[0].backward()
    return counter.get_total_flops()


def attention(batch, config=CONFIG):
    return 12 * config.width * config.layers * sum(length**2 for length in batch.packed.lengths)


@pytest.fixture
def batch():
    packed = pack([Encoding(np.full(size, 5), np.zeros(size, dtype=np.int64)) for size in (7, 16, 16, 30)])
    places = torch.arange(1, 69, 4)
    return Hidden(packed, places, packed.ids[places], torch.zeros_like(places), torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize(("slow", "size", "times"), [(1e-3, 2048, 100), (0.05, 512, 1), (3.0, 256, 1)])
def test_where_products_are_slow_smaller_ones_are_timed(slow, size, times, monkeypatch):
    timed = []

    def seconds(a, b, times=1):
        first = not any(timed) or timed[-1][0] != len(a)
        timed.append((len(a), times))
        return 10.0 if first else slow * (len(a) / 256) ** 3 if slow > 1e-3 else slow

    monkeypatch.setattr(cost, "_seconds", seconds)
    peak.cache_clear()
    found = peak(torch.device("cpu"), torch.float32, rounds=3)
    assert timed[-3:] == [(size, times)] * 3
    assert found == 2 * size**3 / seconds(range(size), None)


def test_the_peak_takes_nothing_from_the_source_of_chance():
    peak.cache_clear()
    before = torch.get_rng_state()
    assert peak(torch.device("cpu"), torch.float32, rounds=1) > 1e8
    assert torch.equal(before, torch.get_rng_state())


def test_words_and_pairs_cost_what_is_done(batch):
    model = Model(bert(CONFIG), pooler("first", 32), words=WordHead(CONFIG), pairs=Head(32, 2, 0.0))
    lengths, hidden = np.array(batch.packed.lengths), len(batch.places)
    words = encoder_operations(CONFIG, lengths, hidden) + word_operations(CONFIG, hidden)
    assert counted(masked_words([]), model, batch) + attention(batch) == words
    both = encoder_operations(CONFIG, lengths, hidden + 4) + word_operations(CONFIG, hidden)
    pairs = counted(with_pairs(masked_words([])), model, batch) + attention(batch)
    assert pairs == both + pair_operations(CONFIG, 4)


def test_replaced_tokens_cost_what_is_done(batch):
    discriminator = Model(bert(CONFIG), pooler("mean", 32), detector=Detector(CONFIG))
    shape = smaller(CONFIG, width=0.5, layers=0.3)
    model = Electra(discriminator, generator_for(discriminator, shape))
    lengths, hidden = np.array(batch.packed.lengths), len(batch.places)
    tokens, plain = int(lengths.sum()), int(lengths.sum()) - 8
    batch.packed.ids[batch.packed.bounds[:-1].long()], batch.packed.ids[batch.packed.bounds[1:].long() - 1] = 2, 3
    expected = (
        encoder_operations(shape, lengths, hidden) + word_operations(shape, hidden) + sample_operations(shape, hidden)
        + borrow_operations(shape, CONFIG.width, tokens, 1)
        + encoder_operations(CONFIG, lengths, plain) + detector_operations(CONFIG, plain)
    )  # fmt: skip
    batch = Hidden(batch.packed, batch.places, batch.packed.ids[batch.places], batch.languages, batch.pairs)
    found = counted(with_detection(masked_words([]), special=(2, 3)), model, batch)
    fused = 2 * hidden * shape.width**2  # without a gradient a product is one call with its activation
    assert found + fused + attention(batch) + attention(batch, shape) == expected
