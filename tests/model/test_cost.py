"""Operations of training: those that torch counts in a forward and a backward pass."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from regard.batch import Encoding, Hidden
from regard.data.packing import pack
from regard.model.config import EncoderConfig
from regard.model.cost import encoder_operations, pair_operations, word_operations
from regard.model.encoder import bert
from regard.model.heads import Head, Model
from regard.model.pooling import pooler
from regard.model.words import WordHead
from regard.train.objectives import masked_words, with_pairs

CONFIG = EncoderConfig(
    vocabulary=300, width=32, layers=3, heads=2, inner_width=48, positions=64, dropout=0.0, attention_dropout=0.0
)


def counted(objective, model, batch):
    """Of all products but those inside the fused kernel of attention, which torch does not count on a CPU."""
    with FlopCounterMode(display=False) as counter:
        objective(model, batch)[0].backward()
    return counter.get_total_flops() + attention(batch)


def attention(batch):
    return 12 * CONFIG.width * CONFIG.layers * sum(length**2 for length in batch.packed.lengths)


@pytest.fixture
def batch():
    packed = pack([Encoding(np.full(size, 5), np.zeros(size, dtype=np.int64)) for size in (7, 16, 16, 30)])
    places = torch.arange(1, 69, 4)
    return Hidden(packed, places, packed.ids[places], torch.zeros_like(places), torch.tensor([0, 1, 1, 0]))


def test_words_and_pairs_cost_what_is_done(batch):
    model = Model(bert(CONFIG), pooler("first", 32), words=WordHead(CONFIG), pairs=Head(32, 2, 0.0))
    lengths, hidden = np.array(batch.packed.lengths), len(batch.places)
    words = encoder_operations(CONFIG, lengths, hidden) + word_operations(CONFIG, hidden)
    assert counted(masked_words([]), model, batch) == words
    both = encoder_operations(CONFIG, lengths, hidden + 4) + word_operations(CONFIG, hidden)
    assert counted(with_pairs(masked_words([])), model, batch) == both + pair_operations(CONFIG, 4)
