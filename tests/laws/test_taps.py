"""A tap changes nothing by watching, exactly what it is asked to by editing, and leaves nothing behind."""

import copy
import gc
import weakref

import pytest
import torch

from regard.data.packing import pack, unpack
from regard.lens.capture import capture
from regard.model import encoder as encoders
from regard.model.taps import Tap

LAYER = (
    "attention.query", "attention.key", "attention.value", "attention.lse", "attention.mixed", "attention.output",
    "attention.sum", "feedforward.output", "feedforward.sum", "output",
)  # fmt: skip
NAMES = [
    "embeddings.word", "embeddings.output", *(f"layer.{i}.{name}" for i in range(2) for name in LAYER), "pooled",
    "logits",
]  # fmt: skip
EXPLICIT = [f"layer.{i}.attention.{name}" for i in range(2) for name in ("scores", "weights")]
LENGTHS = [6, 1, 17, 6, 40, 2]


@pytest.fixture
def model(draw_model):
    return draw_model()


@pytest.fixture
def packed(draw_encodings):
    return pack(draw_encodings(LENGTHS))


@pytest.fixture
def no_explicit_path(monkeypatch):
    def forbidden(*arguments, **settings):
        raise AssertionError("the explicit path was taken")

    monkeypatch.setattr(encoders.attention, "attend", forbidden)


@pytest.mark.usefixtures("no_explicit_path")
@pytest.mark.parametrize("grad", [False, True])
def test_watching_changes_no_bit_and_stays_on_the_fused_path(grad, model, packed):
    with torch.set_grad_enabled(grad):
        plain, tap = model(packed), Tap(watch=NAMES)
        watched = model(packed, tap=tap)
    assert [*tap.trace.values] == [
        "embeddings.word", "embeddings.output",
        *(f"layer.{i}.{name}" for i in range(2) for name in LAYER), "pooled", "logits",
    ]  # fmt: skip
    for part in ("hidden", "pooled", "logits"):
        assert torch.equal(getattr(plain, part), getattr(watched, part))
    assert torch.equal(tap.trace.values["layer.1.output"], plain.hidden)
    assert torch.equal(tap.trace.values["pooled"], plain.pooled)
    assert torch.equal(tap.trace.values["logits"], plain.logits)


@pytest.mark.parametrize("names", [[n for n in NAMES if not n.endswith("lse")], NAMES, EXPLICIT, NAMES + EXPLICIT])
def test_watching_in_training_changes_no_noise(names, draw_model, packed):
    model = draw_model(dropout=0.1, attention_dropout=0.2).train()
    torch.manual_seed(0)
    plain = model(packed).logits
    torch.manual_seed(0)
    watched = model(packed, tap=Tap(watch=names)).logits
    torch.testing.assert_close(watched, plain, atol=1e-5, rtol=0)


def test_shapes_of_what_is_watched(model, packed):
    tap = Tap(watch=[*NAMES, *EXPLICIT])
    model(packed, tap=tap)
    shapes = {name: tuple(v.shape) for name, v in tap.trace.values.items() if isinstance(v, torch.Tensor)}
    tokens, sequences = sum(LENGTHS), len(LENGTHS)
    for name in ("query", "key", "value", "mixed"):
        assert shapes[f"layer.0.attention.{name}"] == (tokens, 3, 8)
    assert shapes["layer.0.attention.lse"] == (tokens, 3)
    for name in ("embeddings.word", "embeddings.output", "layer.1.attention.output", "layer.1.feedforward.output"):
        assert shapes[name] == (tokens, 24)
    assert (shapes["pooled"], shapes["logits"]) == ((sequences, 24), (sequences, 4))
    for name in EXPLICIT:
        assert [tuple(v.shape) for v in tap.trace.values[name]] == [(3, n, n) for n in packed.lengths]


@pytest.mark.parametrize("lengths", [[1], LENGTHS, [100, 90, 3]])
def test_weights_from_query_key_and_lse_are_the_explicit_weights(lengths, model, draw_encodings):
    packed = pack(draw_encodings(lengths))
    tap = Tap(watch=EXPLICIT)
    with torch.no_grad():
        model(packed, tap=tap)
    found = capture(model.encoder, packed)
    for place, sequence in zip(packed.order.tolist(), range(len(lengths)), strict=True):
        weights = torch.stack([found.weights(layer, place) for layer in range(2)])
        assert weights.shape == (2, 3, lengths[place], lengths[place])
        explicit = torch.stack([tap.trace.values[f"layer.{i}.attention.weights"][sequence] for i in range(2)])
        assert abs(weights - explicit).max() < 1e-6
        assert abs(weights.sum(-1) - 1).max() < 1e-5


def uniform(weights):
    return [torch.full_like(w, 1 / w.shape[-1]) for w in weights]


def test_edited_weights_mix_values_as_computed_by_hand(model, packed):
    tap = Tap(watch=["layer.1.attention.*"], edit={"layer.1.attention.weights": uniform})
    edited = model(packed, tap=tap)
    values = tap.trace.values
    means = [
        rows.mean(0, keepdim=True).expand_as(rows) for rows in values["layer.1.attention.value"].split(packed.lengths)
    ]
    torch.testing.assert_close(values["layer.1.attention.mixed"], torch.cat(means), atol=1e-5, rtol=0)
    assert all((w == 1 / w.shape[-1]).all() for w in values["layer.1.attention.weights"])
    plain = unpack(model(packed).hidden, packed)
    for length, ours, before in zip(LENGTHS, unpack(edited.hidden, packed), plain, strict=True):
        assert torch.allclose(ours, before, atol=1e-5) == (length == 1)


def test_edited_scores_hide_a_position_from_view(model, draw_encodings):
    packed = pack(draw_encodings([9]))

    def hide(scores):
        return [s.index_fill(-1, torch.tensor([4]), -torch.inf) for s in scores]

    tap = Tap(watch=["layer.*.attention.weights"], edit={"layer.*.attention.scores": hide})
    hidden = model(packed, tap=tap).hidden
    for weights in tap.trace.values.values():
        assert (weights[0][..., 4] == 0).all()
        torch.testing.assert_close(weights[0].sum(-1), torch.ones(3, 9))
    other = copy.deepcopy(packed)
    other.ids[4] = (other.ids[4] + 1) % 50
    again = model(other, tap=Tap(edit={"layer.*.attention.scores": hide})).hidden
    torch.testing.assert_close(again[[0, 1, 2, 3, 5, 6, 7, 8]], hidden[[0, 1, 2, 3, 5, 6, 7, 8]])


@pytest.mark.parametrize(
    "name", ["embeddings.word", "embeddings.output", "layer.0.attention.value", "layer.0.attention.mixed",
             "layer.0.attention.output", "layer.1.feedforward.output", "layer.1.output", "pooled", "logits"],
)  # fmt: skip
def test_an_edit_replaces_the_value_and_all_that_follows(name, model, packed):
    same = model(packed, tap=Tap(edit={name: lambda value: value.clone()})).logits
    assert torch.equal(same, model(packed).logits)
    tap = Tap(watch=[name, "logits"], edit={name: lambda value: value * 0.5})
    changed = model(packed, tap=tap).logits
    plain = Tap(watch=[name])
    model(packed, tap=plain)
    assert torch.equal(tap.trace.values[name], plain.trace.values[name] * 0.5)
    assert not torch.allclose(changed, same)


def test_a_head_without_output_is_a_head_cut_from_the_projection(model, packed):
    def silence(mixed):
        return mixed.index_fill(1, torch.tensor([1]), 0.0)

    edited = model(packed, tap=Tap(edit={"layer.0.attention.mixed": silence})).hidden
    cut = copy.deepcopy(model)
    with torch.no_grad():
        cut.encoder.blocks[0].attention.part.output.weight[:, 8:16] = 0
    torch.testing.assert_close(edited, cut(packed).hidden, atol=1e-5, rtol=0)


def test_gradients_flow_through_watched_and_edited_values(draw_model, packed):
    model = draw_model(dropout=0.1, attention_dropout=0.1).train()
    gate = torch.ones(3, 1, 1, requires_grad=True)
    tap = Tap(
        watch=["layer.0.attention.weights", "layer.0.output"],
        edit={"layer.1.attention.weights": lambda weights: [w * gate for w in weights]},
    )
    loss = model(packed, tap=tap).logits.square().sum()
    weights = tap.trace.values["layer.0.attention.weights"]
    reached = torch.autograd.grad(loss, [gate, tap.trace.values["layer.0.output"], *weights, *model.parameters()])
    assert all(torch.isfinite(g).all() for g in reached)
    assert all(g.abs().max() > 0 for g in reached[:2])


def test_a_tap_leaves_nothing_on_the_model(model, packed):
    def attributes():
        return {name: {*vars(part)} for name, part in model.named_modules()}

    before, state, plain = attributes(), copy.deepcopy(model.state_dict()), model(packed).hidden
    tap = Tap(watch=["*"], edit={"layer.0.attention.weights": uniform})
    model(packed, tap=tap)
    gone = weakref.ref(tap)
    del tap
    gc.collect()
    assert gone() is None
    assert attributes() == before
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert torch.equal(model(packed).hidden, plain)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("layer.1.attention.query", ["layer.1.attention.query"]),
        ("layer.*.attention.key", ["layer.0.attention.key", "layer.1.attention.key"]),
        ("layer.[0-1].output", ["layer.0.output", "layer.1.output"]),
        ("layer.[!0].output", ["layer.1.output"]),
        ("layer.?.output", ["layer.0.output", "layer.1.output"]),
        ("embeddings.*", ["embeddings.word", "embeddings.output"]),
        ("LAYER.0.output", []),
        ("layer.[2-9].output", []),
        ("output", []),
    ],
)
def test_patterns(pattern, names, model, packed):
    tap = Tap(watch=[pattern])
    model(packed, tap=tap)
    assert [*tap.trace.values] == names
    assert all(tap.concerns(name) == (name in names) for name in NAMES)


def test_edits_come_before_the_watch_in_the_order_they_are_given():
    tap = Tap(watch=["a"], edit={"a": lambda value: value + 1, "?": lambda value: value * 10, "b": lambda value: 0})
    assert tap("a", 1) == 20
    assert tap("b", 1) == 0
    assert tap("other", 1) == 1
    assert tap.trace.values == {"a": 20}
