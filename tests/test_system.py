"""A model with its tokenizer and labels: order, windows, announcements, looking."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import regard
from regard.model.heads import Head
from regard.model.taps import Tap


@pytest.fixture(scope="module")
def system(tiny: Path):
    found = regard.load(tiny)
    found.card = replace(found.card, task="classify", labels=("no", "yes"))
    torch.manual_seed(0)
    found.model.head = Head(32, 2, 0.0).eval()
    return found


TEXTS = ["a", "good film " * 20, "", "bad", "😀", "a b c d e f"]


def test_answers_come_in_the_order_of_the_texts(system):
    together = system.predict(TEXTS)
    alone = np.concatenate([system.predict([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert [a.label for a in system(TEXTS)] == [system.card.labels[i] for i in together.argmax(1)]
    assert system(TEXTS[0]).probability == pytest.approx(together[0].max())


def test_without_a_head_there_are_vectors(tiny: Path):
    found = regard.load(tiny)
    assert found(TEXTS).shape == found.encode(TEXTS).shape == (len(TEXTS), 32)
    assert found.encode([]).shape == (0, 32)
    with pytest.raises(regard.Problem, match="no head"):
        found.predict(TEXTS)


def test_what_is_cut_is_announced_and_counted(system, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "regard"):
        system.predict(["a b", "good " * 100, "bad " * 70])
    assert "2 of 3 texts are longer than 64 tokens and were cut: 46 tokens" in caplog.text


def test_windows_of_a_text_are_averaged(system):
    text = "good a b c " * 30
    system.card = replace(system.card, stride=16)
    found = system.predict([text, "a"])
    windows = system.tokenizer.encode([text], max_length=64, stride=16)
    assert len(windows) > 2
    rows = np.concatenate([rows for _, rows in system.batches(windows, system.outputs)])
    np.testing.assert_allclose(found[0], rows.mean(0), atol=1e-6)
    system.card = replace(system.card, stride=0)


def test_a_look_is_what_the_explicit_path_computes(system):
    look = system.look("a good film", "bad")
    assert look.weights.shape == (2, 4, 7, 7)
    np.testing.assert_allclose(look.weights.sum(-1), 1, atol=1e-5)
    from regard.data.packing import pack

    tap = Tap(watch=["layer.*.attention.weights"])
    with torch.no_grad():
        system.model(pack(system.tokenizer.encode(["a good film"], ["bad"])), tap=tap)
    for layer in range(2):
        explicit = tap.trace.values[f"layer.{layer}.attention.weights"][0].numpy()
        np.testing.assert_allclose(look.weights[layer], explicit, atol=1e-6)
    one = system.look("a good film", "bad", layer=1, head=2)
    np.testing.assert_array_equal(one.weights[0, 0], look.weights[1, 2])


def test_the_folder_of_a_head_keeps_everything(system, tmp_path: Path):
    system.save(tmp_path)
    again = regard.load(tmp_path)
    assert again.card == system.card
    np.testing.assert_allclose(again.predict(TEXTS), system.predict(TEXTS), atol=1e-6)
    (tmp_path / "regard.json").write_text("{}")
    with pytest.raises(regard.Problem, match=r"regard\.json"):
        regard.load(tmp_path)


def test_a_head_without_weights_is_a_problem(tiny: Path, tmp_path: Path):
    """It would answer at random, and nobody would know."""
    card = {"task": "classify", "labels": ["no", "yes"], "scale": [0, 1]}
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "regard.json").write_text(json.dumps(card))
    with pytest.raises(regard.Problem, match="those of the head"):
        regard.load(tmp_path / "model")


def test_a_precision_that_there_is_not_is_a_problem(tiny: Path):
    """It would be float32, and whoever measures would not know."""
    with pytest.raises(regard.Problem, match=r"Did you mean 'bfloat16'\? Known: auto, float32, bfloat16"):
        regard.load(tiny, precision="bf16")
    for precision, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = regard.load(tiny, device="cpu", precision=precision).model
        assert model.encoder.blocks[0].attention.part.output.weight.dtype == kind
