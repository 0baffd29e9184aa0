"""Edits are what their formulas say, on each sequence as on it alone, in any company, and leave nothing behind."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch

from regard.data.packing import pack, unpack
from regard.errors import Problem
from regard.lens.bind import bound, record
from regard.lens.edit import Drop, Forbid, Force, Patch, Scale, Sharpen, Uniform, tokens_named
from regard.lens.places import find
from regard.model import encoder as encoders
from regard.model.taps import Tap

LENGTHS = [6, 4, 17, 6, 9]
FUSED = {
    "drop": [Drop(0, 1)],
    "drop a layer": [Drop(1)],
    "drop a row": [Drop("*", 2, queries="first")],
    "scale": [Scale(1, "0-1", 0.25)],
    "scale up": [Scale("*", 0, 3.0, queries=[1, -1])],
    "uniform": [Uniform(0, 1)],
    "uniform rows": [Uniform("*", "*", queries=["last", "t7"])],
    "sharpen": [Sharpen(1, 2, 3.0)],
    "flatten": [Sharpen("*", "*", 0.3, queries="t4")],
    "sharpen twice": [Sharpen(1, 2, 3.0), Sharpen(1, "*", 0.5)],
    "uniform, then sharp": [Uniform(1, 2), Sharpen(1, 2, 4.0)],
    "sharp, then uniform, then halved": [Sharpen(1, 2, 4.0), Uniform(1, 2), Scale(1, 2, 0.5), Drop(0, 0)],
    "dropped before it is uniform": [Drop(0, 1), Uniform(0, 1)],
}
EXPLICIT = {
    "forbid": [Forbid(0, 1, "*", "last")],
    "forbid by token": [Forbid("*", "*", ["first", "t3"], ["t5", "t9", 2])],
    "force": [Force(1, 0, "first", "last", 0.9)],
    "force several": [Force("0-1", 2, "*", ["first", "last"], 0.25)],
    "force none": [Force(1, 1, "*", 1, 0.0)],
    "force all": [Force(1, 1, "*", 1, 1.0)],
    "forbid, then force": [Forbid(1, 1, "*", 0), Force(1, 1, "*", [0, 1, 2], 0.7)],
    "force, then sharpen": [Force(1, 1, "*", 1, 0.7), Sharpen(1, 1, 2.0)],
    "sharpen, then force": [Sharpen(1, 1, 2.0), Force(1, 1, "*", 1, 0.7)],
    "uniform, then forbid": [Uniform(1, 1), Forbid(1, 1, "*", "first")],
    "forbid, then uniform": [Forbid(1, 1, "*", "first"), Uniform(1, 1)],
    "all at once": [
        Sharpen(0, "*", 2.0), Forbid("*", 0, 1, 1), Force(0, 0, "*", -1, 0.4), Drop(1, 1), Scale(0, 2, 2.0, queries=0),
        Uniform(1, 0, queries="last"),
    ],
}  # fmt: skip


@pytest.fixture
def model(draw_model):
    return draw_model()


@pytest.fixture
def encodings(draw_encodings):
    return draw_encodings(LENGTHS)


def tokens_of(encodings):
    return [[f"t{number % 12}" for number in e.ids] for e in encodings]


def edited(model, encodings, edits, **settings):
    """Hidden states of each sequence, in the caller's order."""
    packed = pack(encodings)
    edit = bound(edits, packed, model.encoder.config, tokens=tokens_of(encodings))
    return unpack(model(packed, tap=Tap(edit=edit), **settings).hidden, packed)


def within(number, which):
    low, _, high = ("0-99" if which == "*" else str(which)).partition("-")
    return int(low) <= number <= int(high or low)


def new_row(cells, edit, tokens):
    """One row of weights after one edit."""
    cells, size = cells.clone(), len(tokens)
    if isinstance(edit, Uniform):
        cells[:] = 1 / size
    elif isinstance(edit, Sharpen):
        cells = cells**edit.power / (cells**edit.power).sum()
    elif isinstance(edit, (Forbid, Force)) and (keys := find(edit.keys, size, tokens)):
        share = edit.weight if isinstance(edit, Force) else 0.0
        rest = [j for j in range(size) if j not in keys]
        cells[keys] *= share / cells[keys].sum().clamp_min(1e-30)
        cells[rest] *= (1 - share) / cells[rest].sum()
    return cells


def by_hand(model, encoding, edits):
    """Hidden states of one sequence, its weights and outputs changed cell by cell."""
    (tokens,) = tokens_of([encoding])

    def places(edit, layer, heads):
        chosen = [head for head in range(heads) if within(layer, edit.layer) and within(head, edit.head)]
        return itertools.product(chosen, find(edit.queries, len(tokens), tokens))

    def weighted(layer, weights):
        whole = weights[0].clone()
        for edit in edits:
            for head, row in places(edit, layer, len(whole)):
                whole[head, row] = new_row(whole[head, row], edit, tokens)
        return [whole]

    def mixed(layer, value):
        value = value.clone()
        for edit in edits:
            if isinstance(edit, (Drop, Scale)):
                for head, row in places(edit, layer, value.shape[1]):
                    value[row, head] *= edit.factor if isinstance(edit, Scale) else 0.0
        return value

    changes = {}
    for layer in range(model.encoder.config.layers):
        changes[f"layer.{layer}.attention.weights"] = partial(weighted, layer)
        changes[f"layer.{layer}.attention.mixed"] = partial(mixed, layer)
    return model(pack([encoding]), tap=Tap(edit=changes)).hidden


@pytest.mark.parametrize("name", FUSED | EXPLICIT)
def test_an_edit_is_its_formula_cell_by_cell_in_each_sequence(name, model, encodings):
    edits = (FUSED | EXPLICIT)[name]
    plain = edited(model, encodings, [])
    moved = 0.0
    with torch.no_grad():
        for encoding, found, before in zip(encodings, edited(model, encodings, edits), plain, strict=True):
            torch.testing.assert_close(found, by_hand(model, encoding, edits), atol=2e-5, rtol=1e-4)
            moved = max(moved, float((found - before).abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("name", FUSED)
def test_what_has_a_fused_form_takes_it(name, model, encodings, monkeypatch):
    def forbidden(*arguments, **settings):
        raise AssertionError("the explicit path was taken")

    monkeypatch.setattr(encoders.attention, "attend", forbidden)
    edited(model, encodings, FUSED[name])


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_explicit_path_is_taken_in_the_edited_layers_alone(name, model, encodings, monkeypatch):
    taken, attend = [], encoders.attention.attend
    monkeypatch.setattr(encoders.attention, "attend", lambda *a, **k: taken.append(1) or attend(*a, **k))
    edits = EXPLICIT[name]
    edited(model, encodings, edits)
    explicit = [edit for edit in edits if isinstance(edit, (Forbid, Force))]
    assert len(taken) == (2 if any(edit.layer in ("*", "0-1") for edit in explicit) else 1)


@pytest.mark.parametrize("name", FUSED | EXPLICIT)
def test_a_sequence_is_edited_as_it_would_be_alone(name, model, encodings):
    edits = (FUSED | EXPLICIT)[name]
    together = edited(model, encodings, edits)
    for encoding, found in zip(encodings, together, strict=True):
        torch.testing.assert_close(found, edited(model, [encoding], edits)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FUSED | EXPLICIT)
def test_edits_in_training_have_the_noise_and_the_gradients_of_the_explicit_path(name, draw_model, encodings):
    """Ours against the same edits with every score and weight watched, which writes all of them out."""
    model = draw_model(dropout=0.1, attention_dropout=0.2).train()
    packed = pack(encodings)
    edit = bound((FUSED | EXPLICIT)[name], packed, model.encoder.config, tokens=tokens_of(encodings))
    found = []
    for watch in ([], ["layer.*.attention.scores"]):
        torch.manual_seed(0)
        loss = model(packed, tap=Tap(watch, edit)).logits.square().sum()
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)])
    for ours, law in zip(*found, strict=True):
        assert (ours is None) == (law is None)
        if ours is not None:
            assert torch.isfinite(ours).all()
            torch.testing.assert_close(ours, law, atol=1e-3, rtol=1e-3)


def test_only_the_rows_that_are_asked_for_move(model, encodings):
    packed = pack(encodings)
    tap, plain = Tap(["layer.0.attention.mixed"]), Tap(["layer.0.attention.mixed"])
    tap.edit = bound([Uniform(0, "*", queries=[0, -1])], packed, model.encoder.config)
    model(packed, tap=tap)
    model(packed, tap=plain)
    pairs = zip(*(unpack(t.trace.values["layer.0.attention.mixed"], packed) for t in (tap, plain)), strict=True)
    for ours, before in pairs:
        assert torch.equal(ours[1:-1], before[1:-1])
        assert not torch.allclose(ours[[0, -1]], before[[0, -1]])


@pytest.mark.parametrize("value", ["mixed", "weights", "output"])
def test_a_patch_from_the_same_text_changes_nothing(value, model, encodings):
    packed, tokens = pack(encodings), tokens_of(encodings)
    patch = Patch("*", "*", "to be recorded", value=value)
    recording = record(model.encoder, packed, patch, tokens=tokens)
    edits = [Patch("*", "*", recording, value=value)]
    for ours, before in zip(edited(model, encodings, edits), edited(model, encodings, []), strict=True):
        torch.testing.assert_close(ours, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", ["mixed", "weights", "output"])
def test_a_patch_is_what_the_other_text_has(value, model, draw_encodings):
    ours, other = pack(draw_encodings([7, 7], seed=1)), pack(draw_encodings([7], seed=2))
    name = {"mixed": "layer.1.attention.mixed", "weights": "layer.1.attention.weights", "output": "layer.1.output"}[
        value
    ]
    head = "*" if value == "output" else 2
    recording = record(model.encoder, other, Patch(1, head, "to be recorded", value=value))
    taps = [Tap([name]) for _ in range(3)]
    taps[0].edit = bound([Patch(1, head, recording, value=value, queries=[0, 4])], ours, model.encoder.config)
    model(ours, tap=taps[0])
    model(ours, tap=taps[1])
    model(other, tap=taps[2])
    patched, before, source = (tap.trace.values[name] for tap in taps)
    for sequence in range(2):
        if value == "weights":
            found, was, theirs = patched[sequence][2], before[sequence][2], source[0][2]
            torch.testing.assert_close(patched[sequence][:2], before[sequence][:2])
        else:
            rows = slice(7 * sequence, 7 * sequence + 7)
            found, was, theirs = patched[rows], before[rows], source
            if value == "mixed":
                torch.testing.assert_close(found[:, :2], was[:, :2])
                found, was, theirs = found[:, 2], was[:, 2], theirs[:, 2]
        torch.testing.assert_close(found[[0, 4]], theirs[[0, 4]])
        torch.testing.assert_close(found[[1, 2, 3, 5, 6]], was[[1, 2, 3, 5, 6]])


def test_a_patch_of_the_whole_layer_carries_the_whole_answer(model, draw_encodings):
    ours, other = draw_encodings([7], seed=1), draw_encodings([7], seed=2)
    recording = record(model.encoder, pack(other), Patch(1, "*", "to be recorded", value="output"))
    edit = bound([Patch(1, "*", recording, value="output")], pack(ours), model.encoder.config)
    torch.testing.assert_close(model(pack(ours), tap=Tap(edit=edit)).logits, model(pack(other)).logits)


def test_each_sequence_may_have_a_source_of_its_own(model, draw_encodings):
    """A run under other edits is patched into the plain run, and back: what a dropped head did is undone."""
    encodings = draw_encodings([9, 4, 6])
    packed, config = pack(encodings), model.encoder.config
    patch = Patch(0, 1, "to be recorded", value="mixed")
    without = Tap(edit=bound([Drop(0, 1)], packed, config))
    dropped = record(model.encoder, packed, patch, tap=without)
    ours = edited(model, encodings, [Patch(0, 1, dropped)])
    for found, expected in zip(ours, edited(model, encodings, [Drop(0, 1)]), strict=True):
        torch.testing.assert_close(found, expected)
    shuffled = [encodings[i] for i in (2, 0, 1)]
    other = record(model.encoder, pack(shuffled), patch)
    edits = [Drop(0, 1), Patch(0, 1, record(model.encoder, packed, patch))]
    for found, expected in zip(edited(model, encodings, edits), edited(model, encodings, []), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(Problem, match="positions"):
        edited(model, encodings, [Patch(0, 1, other)])


def test_texts_of_other_lengths_are_patched_where_positions_are_as_many(model, draw_encodings):
    packed, other = pack(draw_encodings([5, 9])), pack(draw_encodings([3], seed=3))
    config = model.encoder.config
    recording = record(model.encoder, other, Patch(0, 1, "to be recorded"))
    tap = Tap(["layer.0.attention.mixed"], bound([Patch(0, 1, recording, queries=["first", "last"])], packed, config))
    model(packed, tap=tap)
    found = tap.trace.values["layer.0.attention.mixed"]
    torch.testing.assert_close(found[[0, 4, 5, 13], 1], recording.values["layer.0.attention.mixed"][[0, 2, 0, 2], 1])
    with pytest.raises(Problem, match="from 3 positions"):
        bound([Patch(0, 1, recording)], packed, config)
    weights = record(model.encoder, other, Patch(0, 1, "to be recorded", value="weights"))
    with pytest.raises(Problem, match="from 3 tokens to 5"):
        bound([Patch(0, 1, weights, value="weights", queries="first")], packed, config)
    with pytest.raises(Problem, match=r"holds no layer\.1"):
        bound([Patch(1, 1, recording)], packed, config)
    with pytest.raises(Problem, match="2 sequences cannot be patched into 1"):
        bound([Patch(0, 1, record(model.encoder, packed, Patch(0, 1, "x")))], other, config)
    with pytest.raises(Problem, match="Record it first"):
        bound([Patch(0, 1, "a text")], packed, config)


@pytest.mark.parametrize(
    "edits",
    [
        [Forbid(1, 2, "*", "*")],
        [Forbid(1, 2, 1, [0, 1]), Forbid(1, 2, 1, "last")],
        [Forbid(1, 2, "*", [1, 2]), Force(1, 2, "*", 0, 0.0)],
        [Force(1, 2, "*", "*", 0.0)],
        [Force(1, 2, "*", "*", 0.5)],
        [Forbid(1, 2, "*", 0), Force(1, 2, "*", 0, 0.5)],
    ],
)
def test_a_row_that_would_be_left_without_weight_is_a_problem(edits, model, draw_encodings):
    with pytest.raises(Problem, match=r"nothing to attend to in layer 1, head 2|a row sums to one"):
        edited(model, draw_encodings([3]), edits)


def test_a_text_without_the_named_positions_stays_as_it_is(model, draw_encodings):
    encodings = draw_encodings([4, 30])
    edits = [Force(0, "*", "*", 20, 0.9), Forbid(1, "*", "t99", "*"), Drop(0, 0, queries=-25)]
    short, long = edited(model, encodings, edits)
    plain = edited(model, encodings, [])
    torch.testing.assert_close(short, plain[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(long, plain[1], atol=1e-3)


def test_nothing_is_left_on_the_model(model, encodings):
    before, state = edited(model, encodings, []), copy.deepcopy(model.state_dict())
    for edits in (FUSED | EXPLICIT).values():
        edited(model, encodings, edits)
    assert all(torch.equal(a, b) for a, b in zip(before, edited(model, encodings, []), strict=True))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Drop(-1, 0), "'layer' of drop"),
        (lambda: Drop(0, "x"), "'head' of drop"),
        (lambda: Drop(True, 0), "'layer' of drop"),
        (lambda: Drop(0, 0, queries=[]), "'queries' of drop"),
        (lambda: Forbid(0, 0, "*", ""), "'keys' of forbid"),
        (lambda: Forbid(0, 0, 1.5, 0), "'queries' of forbid"),
        (lambda: Scale(0, 0), "'factor' of scale"),
        (lambda: Scale(0, 0, math.inf), "'factor' of scale"),
        (lambda: Sharpen(0, 0, 0), "'power' of sharpen"),
        (lambda: Force(0, 0, 0, 0, 1.5), "'weight' of force"),
        (lambda: Force(0, 0, 0, 0), "'weight' of force"),
        (lambda: Patch(0, 0), "'source' of patch"),
        (lambda: Patch(0, 0, "text", value="query"), "'value' of patch"),
        (lambda: Patch(0, 0, "text", value="output"), "'head' of patch"),
    ],
)
def test_a_field_that_cannot_be_is_named(make, said):
    with pytest.raises(Problem, match=said):
        make()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Drop(2, 0), "no layer 2"), (Drop(0, 3), "no head 3"), (Drop("1-2"), "no layer 1-2"), (Drop("1-0"), "no layer"),
        (Drop(0, 0, queries="good"), "token 'good'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_problem(edit, said, model, encodings):
    with pytest.raises(Problem, match=said):
        bound([edit], pack(encodings), model.encoder.config)


def test_names_of_positions():
    tokens = ["[CLS]", "7", "first", "'", "a", "7", "[SEP]"]
    found = {
        "*": [0, 1, 2, 3, 4, 5, 6], "first": [0], "last": [6], "[SEP]": [6], "'7'": [1, 5], "7": [], "1": [1],
        "-2": [5], "'first'": [2], "'": [3], "a": [4], "b": [],
    }  # fmt: skip
    assert {name: find(name, 7, tokens) for name in found} == found
    assert find([-1, "a", "first", 4], 7, tokens) == [0, 4, 6]
    assert tokens_named([Forbid(0, 0, ["a", 1], "'7'"), Drop(0, 0, queries="last")]) == ["a", "7"]
