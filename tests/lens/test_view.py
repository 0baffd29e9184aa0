"""Rules of who may attend to whom: an algebra of masks, and what a model computes under them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard.batch import Encoding
from regard.data.packing import pack, unpack
from regard.errors import Problem
from regard.lens.view import Text, allowed, causal, hidden, itself, not_class, of_class, same_text, window
from regard.model.taps import Tap

TEXT = Text(torch.tensor([1, 7, 8, 2, 9, 2]), torch.tensor([0, 0, 0, 0, 1, 1]), torch.arange(6))
WEIGHTS = "layer.*.attention.weights"
RULES = {
    "itself": (itself(), lambda i, j: i == j),
    "same_text": (same_text(), lambda i, j: (i < 4) == (j < 4)),
    "causal": (causal(), lambda i, j: j <= i),
    "window": (window(2), lambda i, j: abs(i - j) <= 2),
    "of_class": (of_class([2, 7]), lambda i, j: j in (1, 3, 5)),
    "not_class": (not_class([2]), lambda i, j: j not in (3, 5)),
}


def plain(rule):
    return rule.allows(TEXT).tolist()


def table(says):
    return [[bool(says(i, j)) for j in range(6)] for i in range(6)]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_allows_what_it_says(name):
    rule, says = RULES[name]
    assert plain(rule) == table(says)


@given(st.sampled_from(sorted(RULES)), st.sampled_from(sorted(RULES)))
def test_rules_are_composed_as_logic_has_it(one, other):
    (a, says_a), (b, says_b) = RULES[one], RULES[other]
    assert plain(a & b) == table(lambda i, j: says_a(i, j) and says_b(i, j))
    assert plain(a | b) == table(lambda i, j: says_a(i, j) or says_b(i, j))
    assert plain(~a) == table(lambda i, j: not says_a(i, j))
    assert plain(~(a & b)) == plain(~a | ~b)


@pytest.fixture
def batch(draw_encodings):
    return pack(draw_encodings([5, 9, 7, 2]))


def test_no_weight_goes_where_the_rule_forbids_and_rows_sum_to_one(batch, draw_model):
    rule = (causal() & window(3)) | itself()
    tap = Tap([WEIGHTS], hidden(rule, batch))
    with torch.no_grad():
        draw_model()(batch, tap=tap)
    assert len(tap.trace.values) == 2
    for weights in tap.trace.values.values():
        for found, mask in zip(weights, allowed(rule, batch), strict=True):
            assert (found[:, ~mask] == 0).all() and (found[:, mask] > 0).all()
            assert found.sum(-1).numpy() == pytest.approx(1, abs=1e-6)


def test_what_stands_behind_cannot_be_known_under_a_causal_rule(draw_model):
    ids = np.arange(1, 9)
    both = [
        Encoding(ids, np.zeros(8, dtype=np.int64)),
        Encoding(np.append(ids[:5], [40, 41, 42]), np.zeros(8, dtype=np.int64)),
    ]
    packed = pack(both)
    with torch.no_grad():
        one, other = unpack(draw_model()(packed, tap=Tap(edit=hidden(causal(), packed))).hidden, packed)
        free = unpack(draw_model()(packed).hidden, packed)
    assert torch.equal(one[:5], other[:5]) and not torch.allclose(one[5:], other[5:])
    assert not torch.allclose(free[0][:5], free[1][:5])


def test_texts_of_a_pair_out_of_each_others_view_are_as_if_alone_but_for_positions(draw_model):
    pair = Encoding(np.array([1, 5, 6, 2, 7, 8]), np.array([0, 0, 0, 0, 1, 1]))
    alone = Encoding(pair.ids[:4], pair.segments[:4])
    model = draw_model()
    with torch.no_grad():
        packed = pack([pair])
        found = model(packed, tap=Tap(edit=hidden(same_text(), packed))).hidden
        expected = model(pack([alone])).hidden
    assert found[:4].numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_all_in_view_changes_nothing_and_single_layers_can_be_meant(batch, draw_model):
    model = draw_model()
    everyone = causal() | ~causal()
    with torch.no_grad():
        free = model(batch).logits
        assert model(batch, tap=Tap(edit=hidden(everyone, batch))).logits.numpy() == pytest.approx(
            free.numpy(), abs=1e-5
        )
        tap = Tap([WEIGHTS], hidden(itself(), batch, layers=[1]))
        model(batch, tap=tap)
    first, second = (tap.trace.values[f"layer.{n}.attention.weights"] for n in (0, 1))
    assert all((w > 0).all() for w in first)
    assert all(torch.equal(w, torch.eye(w.shape[-1]).expand_as(w)) for w in second)


def test_gradients_pass_and_are_numbers(batch, draw_model):
    model = draw_model()
    model(batch, tap=Tap(edit=hidden(window(1), batch))).logits.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_layer_that_is_not_there_is_a_problem(batch, draw_model):
    for tap in Tap(edit=hidden(window(1), batch, layers=[0, 2])), Tap(["layer.1.output", "layer.2.output"]):
        with pytest.raises(Problem, match=r"layer\.2\..* no layer 2.* 0 to 1"):
            draw_model()(batch, tap=tap)


def test_nobody_in_view_is_a_problem(batch):
    with pytest.raises(Problem, match=r"may attend to nobody.*itself"):
        hidden(~window(1), batch)
    with pytest.raises(Problem, match="no layer -1"):
        hidden(window(1), batch, layers=[0, -1])
    with pytest.raises(Problem, match="reaches -1"):
        window(-1)
