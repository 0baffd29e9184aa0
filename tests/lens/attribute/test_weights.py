"""Gradients by weights, from the fused path, are those of automatic differentiation through the explicit path."""

import pytest
import torch

from regard.errors import Problem
from regard.lens.attribute.inputs import completeness_gap, gradient_input, integrated_gradients
from regard.lens.attribute.weights import (
    attention_integrated,
    gradient_attention,
    relevance,
    slopes,
    weight_gradient,
)
from regard.model.heads import Model
from regard.model.taps import Tap


def answers(model, packed, target, tap=None):
    return model(packed, tap=tap).logits.gather(1, target[:, None]).squeeze(1)


def explicit(model, packed, target, tapped, share=1.0, layers=(0, 1)):
    """The weights of each layer and packed place, and the answers' gradient by them at a share of them."""
    leaves = {}

    def scaled(layer):
        def edit(weights):
            leaves[layer] = [w * share for w in weights]
            return leaves[layer]

        return edit

    tap = Tap(edit={f"layer.{layer}.attention.weights": scaled(layer) for layer in layers})
    total = answers(model, packed, target, tap).sum()
    flat = [w for layer in layers for w in leaves[layer]]
    found = torch.autograd.grad(total, flat)
    size = len(packed.lengths)
    values, _ = tapped(model, packed)
    weights = {layer: values[f"layer.{layer}.attention.weights"] for layer in layers}
    return weights, {layer: found[n * size : (n + 1) * size] for n, layer in enumerate(layers)}


def test_the_gradient_by_any_weight_is_that_of_the_explicit_path(model, packed, target, tapped):
    _, expected = explicit(model, packed, target, tapped)
    found = slopes(lambda tap: answers(model, packed, target, tap).sum(), packed, [0, 1])
    for layer in range(2):
        for place, sequence in enumerate(packed.order.tolist()):
            whole = found.slopes(layer, sequence)
            torch.testing.assert_close(whole, expected[layer][place], atol=1e-5, rtol=1e-4)
            tiles = torch.cat([tile for _, tile in found.products(layer, sequence, room=20)], 1)
            torch.testing.assert_close(tiles, found.found.weights(layer, sequence) * whole)


def test_gradients_by_chosen_columns_of_any_loss(first, packed, tapped):
    labels = torch.tensor([1, 0, 2, 3, 3])
    columns = [[0, 4], [11], [0], [], [3, 1]]

    def loss(tap):
        return torch.nn.functional.cross_entropy(first(packed, tap=tap).logits, labels)

    found = weight_gradient(loss, packed, columns=columns, layers=[1, 0])
    for number, layer in enumerate([1, 0]):
        leaves = []

        def edit(weights, leaves=leaves):
            leaves += [w.detach().requires_grad_() for w in weights]
            return leaves

        expected = torch.autograd.grad(loss(Tap(edit={f"layer.{layer}.attention.weights": edit})), leaves)
        for place, sequence in enumerate(packed.order.tolist()):
            some = expected[place][..., columns[sequence]]
            torch.testing.assert_close(found[number][sequence], some, atol=1e-6, rtol=1e-4)


def test_a_frozen_model_has_gradients_by_weights_too_and_none_are_left_behind(first, packed, target):
    free = relevance(first, packed, target)
    frozen = relevance(first.requires_grad_(False), packed, target)
    for one, other in zip(free, frozen, strict=True):
        assert torch.equal(one, other) and not one.requires_grad
    assert all(parameter.grad is None for parameter in first.parameters())


def test_gradient_times_attention(model, packed, target, tapped):
    weights, gradients = explicit(model, packed, target, tapped)
    for scores, sequence in zip(gradient_attention(model, packed, target), range(5), strict=True):
        place = packed.order.tolist().index(sequence)
        expected = (weights[1][place] * gradients[1][place]).sum((0, 1))
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def test_relevance_is_a_row_of_the_whole_matrix(model, packed, target, tapped, tops):
    weights, gradients = explicit(model, packed, target, tapped)
    values, places = tapped(model, packed)
    for scores, place in zip(relevance(model, packed, target), places, strict=True):
        whole = torch.eye(packed.lengths[place])
        for layer in range(2):
            positive = (weights[layer][place] * gradients[layer][place]).clamp_min(0).mean(0)
            whole = whole + positive @ whole
        hidden = values["layer.1.output"][int(packed.bounds[place]) : int(packed.bounds[place + 1])]
        top = tops(model, hidden)
        torch.testing.assert_close(scores, top @ whole - top, atol=1e-5, rtol=1e-4)


def test_integrated_attention_is_the_integral_and_adds_to_what_attention_changes(first, packed, target, tapped):
    scores = attention_integrated(first, packed, target)
    steps = 400
    total = None
    for step in range(steps):
        weights, gradients = explicit(first, packed, target, tapped, (step + 0.5) / steps, layers=(1,))
        each = [w * g / steps for w, g in zip(weights[1], gradients[1], strict=True)]
        total = each if total is None else [a + b for a, b in zip(total, each, strict=True)]
    for place, sequence in enumerate(packed.order.tolist()):
        torch.testing.assert_close(scores[sequence], total[place].sum((0, 1)), atol=2e-4, rtol=2e-3)
    none = answers(first, packed, target, Tap(edit={"layer.1.attention.weights": lambda ws: [w * 0 for w in ws]}))
    change = (answers(first, packed, target) - none).detach()
    torch.testing.assert_close(torch.stack([s.sum() for s in scores]), change, atol=1e-3, rtol=1e-3)


def scaled(packed, sequence, token, share):
    """An edit of the word vectors that multiplies one token's by a share."""
    place = packed.order.tolist().index(sequence)
    row = int(packed.bounds[place]) + token

    def edit(words):
        factor = torch.ones(len(words), 1, dtype=words.dtype)
        factor[row] = share
        return words * factor

    return edit


def test_gradient_times_input_is_how_the_answer_moves_as_one_word_grows(model, packed, target):
    scores = gradient_input(model, packed, target)
    double = model.double()
    for sequence, token in ((0, 2), (1, 11), (2, 0), (3, 0)):
        taps = [Tap(edit={"embeddings.word": scaled(packed, sequence, token, share)}) for share in (1.001, 0.999)]
        with torch.no_grad():
            # In double precision up to the head, which answers in single.
            more, less = (double(packed, tap=tap).pooled.double() @ double.head.linear.weight.T for tap in taps)
        slope = (more - less)[sequence, target[sequence]] / 0.002
        assert float(scores[sequence][token]) == pytest.approx(float(slope), abs=1e-3, rel=1e-2)


def test_integrated_gradients_add_to_the_answer_without_a_word(model, packed, target):
    few, many = (integrated_gradients(model, packed, target, nodes=nodes) for nodes in (4, 128))
    gap = completeness_gap(model, packed, target, many)
    assert gap.abs().max() < 0.02
    assert completeness_gap(model, packed, target, few).abs().max() > gap.abs().max()
    with torch.no_grad():
        none = answers(model, packed, target, Tap(edit={"embeddings.word": torch.zeros_like}))
        full = answers(model, packed, target)
    torch.testing.assert_close(torch.stack([s.sum() for s in many]) + gap, full - none, atol=1e-5, rtol=1e-5)


def test_a_model_without_a_head_has_no_answer_to_explain(first, packed, target):
    headless = Model(first.encoder, first.pooling)
    for method in (relevance, gradient_input):
        with pytest.raises(Problem, match="no head"):
            method(headless, packed, target)
