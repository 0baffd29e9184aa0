"""The same numbers as transformers in float64: hidden states of every layer, pooled vectors, gradients."""

import numpy as np
import pytest
import torch
import transformers
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


def test_hidden_states_of_every_layer(system, oracle, exact_oracle, hard_texts):
    """Within 1e-5 of the truth, or three times as far as transformers is: 3e-5 in the middle of a deep model."""
    texts = [text[:800] for text in hard_texts]
    encodings = [*system.tokenizer.encode(texts), *system.tokenizer.encode(texts[:4], texts[3:7])]
    found = hidden_states(system.model, encodings)
    errors = torch.zeros(2, len(found[0]), dtype=torch.float64)
    for encoding, ours in zip(encodings, found, strict=True):
        exact = oracle_states(exact_oracle, encoding)
        for side, states in enumerate((ours, oracle_states(oracle, encoding))):
            distance = torch.stack([(a - b).abs().max() for a, b in zip(states, exact, strict=True)])
            errors[side] = errors[side].maximum(distance)
    assert (errors[0] <= (3 * errors[1]).clamp(min=TOLERANCE)).all(), errors


def test_pooled_vectors_with_a_pooler(system, exact_oracle, hard_texts):
    if system.card.pooling != "first":
        pytest.skip("this checkpoint has no pooler")
    for encoding, found in zip(system.tokenizer.encode(hard_texts), system.encode(hard_texts), strict=True):
        with torch.no_grad():
            expected = exact_oracle(input_ids=torch.from_numpy(encoding.ids)[None]).pooler_output[0]
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
        # transformers never moves the vector of the padding token, which is number 0
        rows = slice(1, None) if name == "encoder.embeddings.word" else slice(None)
        assert (gradient - oracle)[rows].abs().max() <= 1e-4 * oracle.abs().max(), name


@pytest.mark.parametrize("training", [False, True])
def test_gradients(folder, system, hard_texts, padded, training):
    ours = systems.build(system.origin, systems.Card(pooling="mean"), dropout=(0.0, 0.0)).train(training)
    theirs = transformers.AutoModel.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, dtype=torch.float64
    )
    encodings = system.tokenizer.encode(hard_texts[:6], hard_texts[5:-1], max_length=32)
    assert_equal_gradients(ours, theirs.train(training), encodings, padded)


@pytest.mark.parametrize(
    ("heads", "head_width", "layers", "inner_width", "segments", "activation", "epsilon", "lengths"),
    [
        (1, 8, 1, 1, 1, "relu", 1e-12, [1]),
        (1, 64, 2, 31, 2, "gelu", 1e-12, [1, 1, 2, 33]),
        (2, 5, 3, 70, 2, "gelu_new", 1e-5, [17, 3, 3, 9, 1]),
        (3, 7, 2, 40, 3, "silu", 1e-12, [31, 31, 31]),
        (4, 16, 1, 65, 2, "gelu_pytorch_tanh", 1e-6, [5, 4, 3, 2, 1]),
        (4, 3, 3, 16, 1, "relu", 1e-5, [33, 32, 1, 32]),
        (3, 20, 3, 48, 2, "gelu", 1e-7, [2, 29]),
    ],
)
def test_random_shapes(
    heads, head_width, layers, inner_width, segments, activation, epsilon, lengths,
    tmp_path, write_vocabulary, random_encodings, padded,
):  # fmt: skip
    torch.manual_seed(heads * head_width)
    vocabulary = write_vocabulary(tmp_path) + heads
    config = transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=heads * head_width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner_width, max_position_embeddings=33, type_vocab_size=segments, hidden_act=activation,
        layer_norm_eps=epsilon, initializer_range=0.2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = transformers.BertModel(config)
    theirs.save_pretrained(tmp_path)
    theirs = theirs.double().eval()
    ours = systems.load(tmp_path, device="cpu", precision="float32").model
    encodings = random_encodings(lengths, vocabulary=vocabulary, segments=segments)
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
