"""What is loaded and saved again is the same folder, for transformers and on disk."""

import json

import pytest
import safetensors.torch
import torch
import transformers

import regard

OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def tensors(folder) -> dict[str, torch.Tensor]:
    """All tensors of a folder in any format, by their names in the file."""
    if (folder / "pytorch_model.bin").exists():
        return torch.load(folder / "pytorch_model.bin", weights_only=True)
    return {k: t for path in folder.glob("*.safetensors") for k, t in safetensors.torch.load_file(path).items()}


def assert_same_folder(old, new) -> None:
    before, after = tensors(old), tensors(new)
    before = {name: t for name, t in before.items() if not name.endswith("position_ids")}
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name
    assert json.loads((old / "config.json").read_text()) == json.loads((new / "config.json").read_text())


def assert_same_for_transformers(old, new) -> None:
    config = transformers.AutoConfig.from_pretrained(old)
    assert {**transformers.AutoConfig.from_pretrained(new).to_dict(), "_name_or_path": ""} == {
        **config.to_dict(), "_name_or_path": "",
    }  # fmt: skip
    kind = getattr(transformers, config.architectures[0])
    (before, report), (after, report_after) = (
        kind.from_pretrained(folder, output_loading_info=True) for folder in (old, new)
    )
    assert report == report_after
    found = after.state_dict()
    for name, tensor in before.state_dict().items():
        assert name in report["missing_keys"] or torch.equal(found[name], tensor), name


def test_real_checkpoints(folder, hard_texts, tmp_path):
    regard.load(folder, device="cpu", precision="float32").save(tmp_path)
    assert_same_folder(folder, tmp_path)
    assert_same_for_transformers(folder, tmp_path)
    theirs, again = (transformers.AutoTokenizer.from_pretrained(f) for f in (folder, tmp_path))
    assert theirs(hard_texts[:-1])["input_ids"] == again(hard_texts[:-1])["input_ids"]


def in_pickle(model, folder) -> None:
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def in_an_early_pickle(model, folder) -> None:
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def in_early_names(model, folder) -> None:
    state = model.state_dict()
    for new, old in OLD_NAMES.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    torch.save(state, folder / "pytorch_model.bin")


def with_position_ids(model, folder) -> None:
    state = model.state_dict() | {"bert.embeddings.position_ids": torch.arange(40)[None]}
    torch.save(state, folder / "pytorch_model.bin")


def without_prefix(model, folder) -> None:
    model.bert.save_pretrained(folder)


def without_pooler(model, folder) -> None:
    transformers.BertModel(model.config, add_pooling_layer=False).save_pretrained(folder)


def in_shards(model, folder) -> None:
    model.save_pretrained(folder, max_shard_size="8KB")
    assert len([*folder.glob("*.safetensors")]) > 2


def in_half_precision(model, folder) -> None:
    model.half().save_pretrained(folder)


def in_bfloat16(model, folder) -> None:
    model.bfloat16().save_pretrained(folder)


def for_masked_words(model, folder) -> None:
    transformers.BertForMaskedLM(model.config).save_pretrained(folder)


def for_answers(model, folder) -> None:
    transformers.BertForQuestionAnswering(model.config).save_pretrained(folder)


@pytest.mark.parametrize(
    "write",
    [
        in_pickle, in_an_early_pickle, in_early_names, with_position_ids, without_prefix, without_pooler, in_shards,
        in_half_precision, in_bfloat16, for_masked_words, for_answers,
    ],
)  # fmt: skip
def test_formats(write, tmp_path, write_vocabulary):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    torch.manual_seed(0)
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=write_vocabulary(old), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=40, max_position_embeddings=40, architectures=["BertForPreTraining"],
        )
    )  # fmt: skip
    model.config.save_pretrained(old)
    write(model, old)
    system = regard.load(old, device="cpu", precision="float32")
    system.save(new)
    assert_same_folder(old, new)
    assert_same_for_transformers(old, new)
    again = regard.load(new, device="cpu", precision="float32")
    assert again.card == system.card
    texts = ["abc dead", "face", ""]
    assert (again.encode(texts) == system.encode(texts)).all()
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (old / name).read_bytes() == (new / name).read_bytes()
    theirs = transformers.AutoTokenizer.from_pretrained(new)
    assert theirs(texts)["input_ids"] == [e.ids.tolist() for e in system.tokenizer.encode(texts)]
