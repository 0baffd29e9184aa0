"""The guards' numbers are those of their definitions, worked out at length."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from regard.lens.guards import evenly, faithfulness, free_dimensions, weighting


def guard(look, name):
    return next(found for found in look.guards if found.name == name)


def test_weights_times_norms_are_worked_out_by_hand(system):
    """Norms from vectors v_j W_O^h written out, shares and ranks row by row."""
    look = system.look("a good film abc", "bad film")
    size = len(look.tokens)
    for layer in range(2):
        value = look.capture.part(layer, "value", 0)
        output = system.model.encoder.blocks[layer].attention.part.output.weight.detach().T.unflatten(0, (4, 8))
        vectors = torch.einsum("jhd,hdw->jhw", value, output)
        norms = vectors.norm(dim=-1).numpy()
        for head in range(4):
            weights = look.part(layer)[head].astype(np.float64)
            product = weights * norms[:, head]
            product /= product.sum(1, keepdims=True)
            special = [0, 7, 10]
            expected = [
                weights[:, special].sum(1).mean(),
                product[:, special].sum(1).mean(),
                np.abs(weights - product).sum(1).mean() / 2,
                np.mean([spearmanr(weights[i], product[i]).statistic for i in range(size)]),
            ]
            np.testing.assert_allclose(look.weighting[layer, head], expected, atol=1e-5)
    said = guard(look, "norms")
    assert said.numbers["special"] == pytest.approx(look.weighting[..., 0].mean())
    assert f"{said.numbers['special']:.0%}" in said.text


def test_equal_norms_move_nothing():
    weights = torch.rand(3, 5, 7).softmax(-1)
    found = weighting(weights, torch.full((7, 3), 2.0), torch.arange(7) < 1)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 2:], [[0, 1]] * 3, atol=1e-6)


def test_free_dimensions_begin_where_tokens_outnumber_a_head_and_one(system):
    assert [free_dimensions(tokens, 64) for tokens in (64, 65, 66, 128, 512)] == [0, 0, 1, 63, 447]
    short, long = system.look("a b"), system.look("a b c d e f a b c d e f")
    assert not guard(short, "identifiability").warns
    said = guard(long, "identifiability")
    assert said.warns and said.numbers["free_dimensions"] == len(long.tokens) - 9
    assert "not identifiable" in said.text


def test_rows_lie_evenly_and_hold_both_ends():
    assert evenly(5) == [0, 1, 2, 3, 4] and evenly(1) == [0]
    many = evenly(512)
    assert (many[0], many[-1], len(many)) == (0, 511, 64)


def test_a_cut_and_dropout_are_said(system):
    cut = guard(system.look("good " * 100), "length")
    assert cut.warns and cut.numbers == {"dropped": 38, "tokens": 64}
    assert not guard(system.look("a"), "dropout").warns
    system.model.train()
    try:
        said = guard(system.look("a good film"), "dropout")
    finally:
        system.model.eval()
    assert said.warns and "dropout 0.1 and 0.1 in attention" in said.text


def test_faithfulness_is_quoted_or_said_to_be_unknown():
    found = {
        "deletion": "[MASK]", "texts": 200, "data": "test.csv",
        "methods": {
            "rollout": {"comprehensiveness": [0.21, 0.18, 0.25], "beats_random": True},
            "attention": {"comprehensiveness": [0.02, -0.01, 0.05], "beats_random": False},
        },
    }  # fmt: skip
    said = faithfulness(found)
    assert said.warns and "removing tokens ([MASK]) in the order of rollout" in said.text
    assert "by 0.210 [0.180, 0.250] on 200 texts of test.csv" in said.text
    assert "More than in a random order: rollout; no more: attention." in said.text
    del found["methods"]["attention"]
    assert not faithfulness(found).warns
    for broken in (None, {}, {"methods": 3}, {"methods": {"rollout": {}}}):
        assert faithfulness(broken).warns and "regard faithful" in faithfulness(broken).text


def test_a_measured_model_says_so(system, tiny, tmp_path):
    import json
    import shutil

    import regard

    shutil.copytree(tiny, tmp_path / "model")
    file = tmp_path / "model" / "faithful.json"
    methods = {"rollout": {"comprehensiveness": [0.2, 0.1, 0.3], "beats_random": True}}
    file.write_text(json.dumps({"deletion": "[MASK]", "texts": 9, "data": "x.csv", "methods": methods}))
    assert (
        "rollout moves this model's by 0.200" in guard(regard.load(tmp_path / "model").look("a"), "faithfulness").text
    )
    file.write_text("{")
    assert guard(regard.load(tmp_path / "model").look("a"), "faithfulness").warns
