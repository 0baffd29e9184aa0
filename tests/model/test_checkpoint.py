"""Folders that are no whole BERT are a Problem with a cause and a cure, and no file runs code."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import regard
from regard.errors import Problem
from regard.model import checkpoint
from regard.model.checkpoint import foreign_names, foreign_tensors

SETTINGS = {
    "model_type": "bert", "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 64,
}  # fmt: skip
WORDS = "embeddings.word_embeddings.weight"


@pytest.fixture
def tensors(small_model):
    return {name: tensor.clone() for name, tensor in foreign_tensors(small_model, 2)}


@pytest.fixture
def folder(tensors, tmp_path) -> Path:
    """A sound folder, for a test to spoil."""
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return tmp_path


def settings(folder: Path, **changes) -> None:
    table = {k: v for k, v in (SETTINGS | changes).items() if v is not ...}
    (folder / "config.json").write_text(json.dumps(table))


def in_pickle(folder: Path, content) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def refused(folder: Path) -> str:
    with pytest.raises(Problem) as caught:
        regard.load(folder, device="cpu")
    message = str(caught.value)
    assert message.endswith(".") and "\n\n" not in message
    return message


def test_a_sound_folder_loads(folder, small_model, draw_packed):
    system, packed = regard.load(folder, device="cpu", precision="float32"), draw_packed([3, 7])
    assert torch.equal(system.model(packed).pooled, small_model(packed).pooled)


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\xff"])
def test_a_config_that_is_no_json_object(content, folder):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    assert "Download it again" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"vocab_size": ...}, "vocab_size"),
        ({"num_attention_heads": ...}, "num_attention_heads"),
        ({"intermediate_size": ...}, "intermediate_size"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "decoder"),
        ({"hidden_act": "mish"}, "'mish'"),
        ({"num_attention_heads": 3}, "3 heads"),
        ({"hidden_size": 32}, "do not belong together"),
        ({"num_hidden_layers": 3}, "layer.2"),
        ({"vocab_size": 31}, "(30, 16)"),
        ({"vocab_size": 29}, "do not belong together"),
        ({"max_position_embeddings": 512}, "position_embeddings"),
    ],
)
def test_configs_of_something_else(changes, cause, folder):
    settings(folder, **changes)
    assert cause in refused(folder)


@pytest.mark.parametrize("changes", [{"architectures": None}, {"id2label": None}, {"unknown": {"a": [1]}}])
def test_settings_that_do_not_matter(changes, folder, tmp_path):
    settings(folder, **changes)
    regard.load(folder, device="cpu").save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == SETTINGS | changes


@pytest.mark.parametrize("kept", [0, 4, 100, 2000, -1])
def test_truncated_safetensors(kept, folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:kept])
    assert "damaged or incomplete" in refused(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, 2000])
def test_truncated_pickle(kept, folder, tensors):
    in_pickle(folder, tensors)
    content = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(content[:kept])
    assert str(folder) in refused(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    message = refused(folder)
    assert "no weights" in message and "tf_model.h5" in message


@pytest.mark.parametrize("name", [WORDS, "encoder.layer.1.attention.self.key.bias", "embeddings.LayerNorm.weight"])
def test_a_missing_tensor(name, folder, tensors):
    del tensors[name]
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    message = refused(folder)
    assert name in message or name == WORDS


def test_weights_of_something_else(folder):
    safetensors.torch.save_file({"wte.weight": torch.zeros(3)}, folder / "model.safetensors")
    assert "wte.weight" in refused(folder)


def test_a_tensor_of_another_shape(folder, tensors):
    tensors["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(24, 15)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    message = refused(folder)
    assert "intermediate.dense.weight" in message and "(24, 15)" in message and "(24, 16)" in message


@pytest.mark.parametrize("index", ["{", "{}", '{"weight_map": {"a": "missing.safetensors"}}'])
def test_a_broken_index_of_shards(index, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    message = refused(folder)
    assert "pytorch_model.bin" not in message
    assert "missing.safetensors" in message or "index.json" in message


def test_no_tokenizer(folder):
    (folder / "vocab.txt").unlink()
    assert "no tokenizer" in refused(folder)


def test_a_tokenizer_larger_than_the_vocabulary(folder):
    with (folder / "vocab.txt").open("a") as file:
        file.write("z\n")
    message = refused(folder)
    assert "31 tokens" in message and "30" in message


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_broken_tokenizer(name, folder):
    (folder / name).write_text("{")
    assert "tokenizer" in refused(folder)


class Malice:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("new_format", [False, True])
@pytest.mark.parametrize("place", ["inside", "alone"])
def test_a_pickle_runs_no_code(new_format, place, folder, tensors, tmp_path):
    trace = tmp_path / "trace"
    content = tensors | {"x": Malice(trace)} if place == "inside" else Malice(trace)
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    message = refused(folder)
    assert not trace.exists()
    assert "safetensors" in message and "pytorch_model.bin" in message


def test_tensors_that_share_memory_are_saved(folder, tensors, tmp_path):
    bias = torch.arange(30.0)
    in_pickle(folder, tensors | {"cls.predictions.bias": bias, "cls.predictions.decoder.bias": bias})
    regard.load(folder, device="cpu").save(tmp_path / "new")
    found = safetensors.torch.load_file(tmp_path / "new" / "model.safetensors")
    assert found.keys() == {*tensors, "cls.predictions.bias", "cls.predictions.decoder.bias"}
    assert torch.equal(found["cls.predictions.bias"], bias)
    assert torch.equal(found["cls.predictions.decoder.bias"], bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_is_kept_where_it_loses_nothing(dtype, folder, tensors, tmp_path):
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    system = regard.load(folder, device="cpu", precision="float32")
    with torch.no_grad():
        system.model.encoder.embeddings.word[3] += 1e-5
    system.save(tmp_path / "new")
    found = safetensors.torch.load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(found.pop(WORDS).float(), system.model.encoder.embeddings.word)
    assert all(tensor.dtype == dtype and torch.equal(tensor, tensors[name]) for name, tensor in found.items())


def test_fill_names_what_it_leaves_fresh(folder, small_model):
    origin = checkpoint.load(folder)
    assert origin.fill(small_model) == []
    before = small_model.pooling.dense.weight.clone()
    assert origin.fill(small_model, without=("pooling.",)) == ["pooling.dense.weight", "pooling.dense.bias"]
    headless = replace(origin, tensors={k: t for k, t in origin.tensors.items() if "pooler" not in k})
    assert headless.fill(small_model) == ["pooling.dense.weight", "pooling.dense.bias"]
    assert torch.equal(before, small_model.pooling.dense.weight)


def test_names_are_reversible(small_model):
    names = foreign_names(2)
    foreign = [name for parts in names.values() for name in parts]
    assert len(set(foreign)) == len(foreign)
    assert {name for name, _ in small_model.named_parameters()} <= names.keys()
    taken = dict(foreign_tensors(small_model, 2))
    for name, parameter in small_model.named_parameters():
        assert torch.equal(torch.cat([taken[part] for part in names[name]]), parameter)
