"""The same numbers as transformers in float64: hidden states of every layer, pooled vectors, gradients."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from regard import system as systems
from regard.data.packing import pack, unpack
from regard.model import checkpoint as checkpoints
from regard.model.heads import Model
from regard.model.taps import Tap

TOLERANCE = 1e-5


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-5 for activations up to 4, and beyond in proportion, as the spacing of float32 is."""
    assert (found - expected).abs().max().item() <= TOLERANCE * max(1.0, expected.abs().max().item() / 4)


def hidden_states(model: Model, encodings) -> list[list[torch.Tensor]]:
    """For each sequence, in the caller's order, the embeddings and the output of every layer."""
    packed, names = (
        pack(encodings),
        ["embeddings.output", *(f"layer.{i}.output" for i in range(len(model.encoder.blocks)))],
    )
    tap = Tap(watch=names)
    with torch.no_grad():
        model(packed, tap=tap)
    return list(zip(*(unpack(tap.trace.values[name], packed) for name in names), strict=True))


def oracle_states(oracle: torch.nn.Module, encoding) -> list[torch.Tensor]:
    ids, segments = torch.from_numpy(encoding.ids)[None], torch.from_numpy(encoding.segments)[None]
    with torch.no_grad():
        states = oracle(input_ids=ids, token_type_ids=segments, output_hidden_states=True).hidden_states
    return [state[0] for state in states]


def test_hidden_states_of_every_layer(system, oracle, hard_texts):
    encodings = [*system.tokenizer.encode(hard_texts), *system.tokenizer.encode(hard_texts[:4], hard_texts[3:7])]
    for encoding, found in zip(encodings, hidden_states(system.model, encodings), strict=True):
        for ours, theirs in zip(found, oracle_states(oracle, encoding), strict=True):
            assert_near(ours, theirs)


def test_pooled_vectors_with_a_pooler(system, oracle, hard_texts):
    if system.card.pooling != "first":
        pytest.skip("this checkpoint has no pooler")
    for encoding, found in zip(system.tokenizer.encode(hard_texts), system.encode(hard_texts), strict=True):
        with torch.no_grad():
            expected = oracle(input_ids=torch.from_numpy(encoding.ids)[None]).pooler_output[0]
        assert_near(torch.from_numpy(found), expected)


def test_lower_precision_points_the_same_way(system, folder, hard_texts):
    low = systems.load(folder, device="cpu", precision="bfloat16")
    found, expected = (torch.from_numpy(s.encode(hard_texts)) for s in (low, system))
    assert cosine_similarity(found, expected).min() > 0.9995


def gradients(model: torch.nn.Module, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss that weighs every token and column by a fixed random number."""
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
    (hidden * weights).sum().div(len(hidden)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(ours: Model, theirs: torch.nn.Module, encodings, padded) -> None:
    packed, batch = pack(encodings), padded(encodings)
    found = gradients(ours, torch.cat(unpack(ours(packed).hidden, packed)))
    expected = gradients(theirs, theirs(**batch).last_hidden_state[batch["attention_mask"].bool()])
    names = checkpoints.foreign_names(len(ours.encoder.blocks))
    for name, gradient in found.items():
        oracle = torch.cat([expected[foreign] for foreign in names[name]])
        if name == "encoder.embeddings.word":  # transformers never moves the vector of the padding token, number 0
            gradient, oracle = gradient[1:], oracle[1:]
        assert (gradient - oracle).abs().max() <= 1e-4 * oracle.abs().max(), name


@pytest.mark.parametrize("training", [False, True])
def test_gradients(folder, system, hard_texts, padded, training):
    ours = systems.build(system.origin, systems.Card(pooling="mean"), dropout=(0.0, 0.0)).train(training)
    theirs = transformers.AutoModel.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, dtype=torch.float64
    )
    encodings = system.tokenizer.encode(hard_texts[:6], hard_texts[5:-1], max_length=32)
    assert_equal_gradients(ours, theirs.train(training), encodings, padded)


@st.composite
def shapes(draw) -> dict:
    heads, layers = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return {
        "vocab_size": draw(st.integers(25, 60)),
        "hidden_size": heads * draw(st.integers(1, 20)),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 70)),
        "max_position_embeddings": draw(st.integers(33, 50)),
        "type_vocab_size": draw(st.integers(1, 3)),
        "hidden_act": draw(st.sampled_from(["gelu", "gelu_new", "relu", "silu", "gelu_pytorch_tanh"])),
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-5])),
        "initializer_range": draw(st.sampled_from([0.02, 0.3])),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


@settings(max_examples=30, deadline=None)
@given(shape=shapes(), lengths=st.lists(st.integers(1, 33), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_random_shapes(shape, lengths, seed, tmp_path_factory, write_vocabulary, random_encodings, padded):
    torch.manual_seed(seed)
    theirs, folder = transformers.BertModel(transformers.BertConfig(**shape)), tmp_path_factory.mktemp("shape")
    theirs.save_pretrained(folder)
    write_vocabulary(folder)
    ours = systems.load(folder, device="cpu", precision="float32").model
    encodings = random_encodings(lengths, vocabulary=shape["vocab_size"], segments=shape["type_vocab_size"], seed=seed)
    theirs = theirs.double().eval()
    for encoding, found in zip(encodings, hidden_states(ours, encodings), strict=True):
        for state, expected in zip(found, oracle_states(theirs, encoding), strict=True):
            assert_near(state, expected)
    for training in (False, True):
        ours.zero_grad()
        theirs.zero_grad()
        assert_equal_gradients(ours.train(training), theirs.train(training), encodings, padded)


def test_answers_do_not_depend_on_the_company(system, hard_texts):
    alone = np.concatenate([system.encode([text]) for text in hard_texts])
    np.testing.assert_allclose(system.encode(hard_texts), alone, atol=TOLERANCE)
