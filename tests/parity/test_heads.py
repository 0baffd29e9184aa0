"""Classifiers travel both ways between Regard and transformers."""

import numpy as np
import pytest
import torch
import transformers

from regard import system as systems
from regard.data.packing import pack
from regard.model import checkpoint as checkpoints
from regard.model.heads import Model
from regard.text.tokenizer import Tokenizer

TEXTS = ["abc dead", "", "a bad cab faced a bead", "h" * 30]
PAIRS = ["face", "cafe abba", "", "deaf"]
NAMES = {
    "classify": ("bad", "好", 'Good & "quoted"'),
    "multilabel": ("red", "green", "blue", "none"),
    "regress": (),
}
KINDS = {
    "classify": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regress": "regression",
}  # fmt: skip


def small(vocabulary: int, **changes) -> transformers.BertConfig:
    return transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=64, initializer_range=0.3, **changes,
    )  # fmt: skip


def logits(model: Model, encodings) -> torch.Tensor:
    with torch.no_grad():
        return model(pack(encodings)).logits


def oracle_logits(model: torch.nn.Module, batch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.fixture
def published(tmp_path, write_vocabulary):
    """A function that writes a classifier with transformers, for a task or with none of the settings that name it."""

    def write(task: str, **changes) -> torch.nn.Module:
        labels = NAMES[task] or ("LABEL_0",)
        torch.manual_seed(len(labels))
        settings = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        config = small(write_vocabulary(tmp_path), **(settings | {"problem_type": KINDS[task]} | changes))
        model = transformers.BertForSequenceClassification(config)
        model.save_pretrained(tmp_path)
        return model

    return write


@pytest.mark.parametrize("task", NAMES)
def test_a_published_classifier_answers_the_same(task, published, padded, tmp_path):
    theirs = published(task)
    system = systems.load(tmp_path, device="cpu", precision="float32")
    assert (system.card.task, system.card.labels, system.card.pooling) == (task, NAMES[task], "first")
    encodings = system.tokenizer.encode(TEXTS, PAIRS)
    expected = oracle_logits(theirs, padded(encodings))
    torch.testing.assert_close(logits(system.model, encodings), expected, atol=1e-5, rtol=0)
    answers = {"classify": expected.softmax(-1), "multilabel": expected.sigmoid(), "regress": expected[:, 0]}[task]
    np.testing.assert_allclose(system.predict(TEXTS, PAIRS), answers.numpy(), atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_without_settings_the_number_of_outputs_tells(outputs, published, tmp_path):
    published("classify", num_labels=outputs, problem_type=None, id2label=None, label2id=None)
    card = systems.load(tmp_path, device="cpu").card
    assert card.task == ("regress" if outputs == 1 else "classify")
    assert card.labels == (() if outputs == 1 else tuple(f"LABEL_{i}" for i in range(outputs)))


@pytest.mark.parametrize("task", NAMES)
def test_gradients_reach_pooler_and_head(task, published, padded, tmp_path):
    theirs = published(task, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    system = systems.load(tmp_path, device="cpu", precision="float32")
    encodings = system.tokenizer.encode(TEXTS, PAIRS)
    system.model.train()(pack(encodings)).logits.square().sum().backward()
    theirs.train()(**padded(encodings)).logits.square().sum().backward()
    expected = {name.removeprefix("bert."): p.grad for name, p in theirs.named_parameters()}
    names = checkpoints.foreign_names(2)
    for name, parameter in system.model.named_parameters():
        oracle = torch.cat([expected[foreign] for foreign in names[name]])
        if name == "encoder.embeddings.word":
            oracle[0] = parameter.grad[0]
        assert (parameter.grad - oracle).abs().max() <= 1e-4 * oracle.abs().max(), name


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("name", ["minilm-l6", "gte-small"])
def test_a_classifier_of_ours_answers_the_same_in_transformers(name, task, checkpoint, padded, tmp_path):
    origin, tokenizer = checkpoints.load(checkpoint(name)), Tokenizer.load(checkpoint(name))
    card = systems.Card(task=task, labels=NAMES[task], pooling="first")
    system = systems.System(tokenizer, systems.build(origin, card, old_head=False), origin, card)
    system.save(tmp_path)
    theirs, report = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert theirs.config.architectures == ["BertForSequenceClassification"]
    assert theirs.config.problem_type == KINDS[task]
    assert theirs.config.id2label == (dict(enumerate(NAMES[task])) or {0: "LABEL_0"})
    encodings = tokenizer.encode(["A plain film.", "Not bad at all", ""], ["yes", "no no", "never"])
    found = logits(system.model, encodings)
    torch.testing.assert_close(found, oracle_logits(theirs, padded(encodings)), atol=1e-5, rtol=0)
    again = systems.load(tmp_path, device="cpu", precision="float32")
    assert again.card == card
    assert torch.equal(logits(again.model, encodings), found)


@pytest.mark.parametrize("pooling", ["first", "mean", "max"])
def test_a_saved_system_is_the_same_system(pooling, published, tmp_path):
    published("classify")
    origin, tokenizer = checkpoints.load(tmp_path), Tokenizer.load(tmp_path)
    card = systems.Card(
        task="multilabel", labels=("x", "y"), pooling=pooling, max_length=24, stride=4, threshold=0.3, lineage={"a": 1}
    )
    system = systems.System(tokenizer, systems.build(origin, card, old_head=False), origin, card)
    system.save(tmp_path / "new")
    again = systems.load(tmp_path / "new", device="cpu", precision="float32")
    assert again.card == card
    assert np.array_equal(again.predict(TEXTS, PAIRS), system.predict(TEXTS, PAIRS))
