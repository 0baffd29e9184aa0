"""Published BERT folders to and from our weights: one reversible table of foreign names.

A checkpoint keeps what it does not understand (heads of other tasks, unknown settings), so that what is loaded and
saved again is the same folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from regard import disk
from regard.errors import Problem
from regard.model.config import EncoderConfig
from regard.model.linear import ACTIVATIONS

# Ours on the left, theirs on the right; {p} is weight and bias, {i} a layer. The joint map has three foreign parts.
_FIXED = {
    "encoder.embeddings.word": "embeddings.word_embeddings.weight",
    "encoder.embeddings.position": "embeddings.position_embeddings.weight",
    "encoder.embeddings.segment": "embeddings.token_type_embeddings.weight",
    "encoder.embeddings.norm.{p}": "embeddings.LayerNorm.{p}",
    "pooling.dense.{p}": "pooler.dense.{p}",
    "head.linear.{p}": "classifier.{p}",
    "words.dense.{p}": "cls.predictions.transform.dense.{p}",
    "words.norm.{p}": "cls.predictions.transform.LayerNorm.{p}",
    "words.bias": "cls.predictions.bias",
    "words.table": "cls.predictions.decoder.weight",
    "pairs.linear.{p}": "cls.seq_relationship.{p}",
    "detector.dense.{p}": "discriminator_predictions.dense.{p}",  # as ELECTRA's files have it
    "detector.output.{p}": "discriminator_predictions.dense_prediction.{p}",
}
_LAYER = {
    "attention.part.joint.{p}": ["attention.self.query.{p}", "attention.self.key.{p}", "attention.self.value.{p}"],
    "attention.part.output.{p}": ["attention.output.dense.{p}"],
    "attention.norm.{p}": ["attention.output.LayerNorm.{p}"],
    "feedforward.part.inner.{p}": ["intermediate.dense.{p}"],
    "feedforward.part.output.{p}": ["output.dense.{p}"],
    "feedforward.norm.{p}": ["output.LayerNorm.{p}"],
}
DTYPES = ("dtype", "torch_dtype")  # settings by which transformers chooses the precision that it computes in
_HEADS = ("classifier.", "cls.", "discriminator_predictions.")  # what stands on the encoder, and has no prefix
_DECODER = "cls.predictions.decoder.weight"
_COPIES = {  # of one tensor under two names, which files may hold
    _DECODER: "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_CONFIG = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner_width": "intermediate_size",
    "positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "activation": "hidden_act",
    "norm_epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}


def foreign_names(layers: int) -> dict[str, list[str]]:
    """Each of our parameter names with the foreign tensors it is made of, joined along the first axis."""
    names = {a.format(p=p): [b.format(p=p)] for a, b in _FIXED.items() for p in _both(a)}
    for i in range(layers):
        for ours, theirs in _LAYER.items():
            for p in ("weight", "bias"):
                names[f"encoder.blocks.{i}.{ours.format(p=p)}"] = [f"encoder.layer.{i}.{t.format(p=p)}" for t in theirs]
    return names


def _both(pattern: str) -> tuple[str, ...]:
    return ("weight", "bias") if "{p}" in pattern else ("",)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A BERT folder as it lies on disk: settings, and tensors by foreign name without the `bert.` prefix."""

    config: EncoderConfig
    settings: dict[str, Any]  # config.json, whole
    tensors: dict[str, Tensor]
    spelling: dict[str, str]  # our plain foreign name -> the name in the file
    stored: torch.dtype = torch.float32  # precision in which a model is written that does not keep these tensors

    @property
    def has_words(self) -> bool:
        """Whether there is a trained head for hidden words."""
        return "cls.predictions.transform.dense.weight" in self.tensors

    @property
    def words_apart(self) -> bool:
        """Whether that head compares with word vectors of its own; old files hold a copy of the encoder's."""
        own, shared = (self.tensors.get(name) for name in (_DECODER, "embeddings.word_embeddings.weight"))
        return own is not None and shared is not None and not torch.equal(own, shared)

    @property
    def has_pairs(self) -> bool:
        """Whether there is a trained head, on the first token's pooler, that tells whether sentences are a pair."""
        return self.has_pooler and "cls.seq_relationship.weight" in self.tensors

    @property
    def has_detector(self) -> bool:
        """Whether there is a trained head that detects replaced tokens."""
        return "discriminator_predictions.dense.weight" in self.tensors

    @property
    def has_pooler(self) -> bool:
        """Whether the first token has a trained pooler."""
        return "pooler.dense.weight" in self.tensors

    def fill(self, model: nn.Module, *, without: tuple[str, ...] = ()) -> list[str]:
        """Copies tensors into a model's parameters, but for names that begin with one of `without`.

        Gives the names of those that keep their fresh weights.
        """
        fresh, names = [], foreign_names(self.config.layers)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parts = [None if name.startswith(without) else self.tensors.get(t) for t in names[name]]
                if any(part is None for part in parts):
                    if name.startswith("encoder.") and self.tensors:
                        raise Problem(
                            f"The weights lack {', '.join(names[name])}. The file is not a whole BERT encoder."
                        )
                    fresh.append(name)
                    continue
                joined = torch.cat([part for part in parts if part is not None])
                if joined.shape != parameter.shape:
                    raise Problem(
                        f"{', '.join(names[name])} has shape {tuple(joined.shape)} in the weights, and config.json "
                        f"asks for {tuple(parameter.shape)}. The two files do not belong together."
                    )
                parameter.copy_(joined)
        return fresh


def blank(config: EncoderConfig, *, stored: torch.dtype = torch.float32) -> Checkpoint:
    """A checkpoint that has no weights yet: a model of this shape that learns to guess hidden words."""
    settings = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "pad_token_id": 0}
    settings |= {theirs: getattr(config, ours) for ours, theirs in _CONFIG.items()}
    # What computes is float32 however the weights are stored; without a word on it transformers would take theirs.
    return Checkpoint(config, settings | {"dtype": "float32"}, {}, {}, stored)


def foreign_tensors(model: nn.Module, layers: int) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters under plain foreign names, joint ones taken apart."""
    names = foreign_names(layers)
    for name, parameter in model.named_parameters():
        yield from zip(names[name], parameter.detach().float().chunk(len(names[name])), strict=True)


def load(folder: str | Path) -> Checkpoint:
    """Reads `config.json` and `model.safetensors` (also in shards) or `pytorch_model.bin`; never unpickles objects."""
    folder = Path(folder)
    settings = _settings(folder)
    config = read_config(settings, folder)
    tensors, spelling = {}, {}
    for spelled, tensor in _weights(folder).items():
        plain = spelled.removeprefix("bert.")
        plain = plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if plain != "embeddings.position_ids":  # a buffer that old versions saved
            tensors[plain], spelling[plain] = tensor, spelled
    if "embeddings.word_embeddings.weight" not in tensors:
        raise Problem(f"The weights in {folder} are not BERT's: they begin with {', '.join([*tensors][:3])}.")
    return Checkpoint(config, settings, tensors, spelling)


def save(
    folder: str | Path,
    model: nn.Module,
    origin: Checkpoint,
    *,
    changes: Mapping[str, Any] | None = None,
    keep: bool = False,
) -> None:
    """Writes `config.json` and `model.safetensors` as the hub's tools read them.

    `keep` carries over tensors that the model does not use, under the names they had, so that an untouched model is
    written back as it was; without it the names are those of a BERT with a head. `changes` go over the settings.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(foreign_tensors(model, origin.config.layers))
    if keep:
        copied = {name: of for name, of in _COPIES.items() if name in origin.tensors and name not in tensors}
        tensors |= {name: tensors[of] for name, of in copied.items() if of in tensors}
        tensors = {name: _narrow(tensors.get(name, old), old) for name, old in (tensors | origin.tensors).items()}
        named = {origin.spelling.get(name, name): t for name, t in tensors.items()}
    else:
        prefix = "bert." if any(name.startswith(_HEADS) for name in tensors) else ""
        named = {(prefix, "")[name.startswith(_HEADS)] + name: t.to(origin.stored) for name, t in tensors.items()}
    # Copies, because the format refuses tensors that share memory, as tied ones of old files do.
    copies = {name: t.clone(memory_format=torch.contiguous_format) for name, t in named.items()}
    weights = safetensors.torch.save(copies, metadata={"format": "pt"})
    disk.write_bytes(folder / "model.safetensors", weights)
    settings = origin.settings | dict(changes or {})
    disk.write_text(folder / "config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def _narrow(new: Tensor, old: Tensor) -> Tensor:
    """The new values in the old precision where that loses nothing, so that half-precision files stay so."""
    narrow = new.to(old.dtype)
    return narrow if torch.equal(narrow.float(), new.float()) else new


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Problem(
            f"{folder} has no config.json, so it is no model folder. Name the folder that holds it."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"{path} is not valid JSON ({error}). Download it again.") from None
    if not isinstance(settings, dict):
        raise Problem(f"{path} holds no settings. Download it again.")
    return settings


def read_config(settings: Mapping[str, Any], where: str | Path) -> EncoderConfig:
    """The shape that a `config.json` asks for; raises `Problem` for what is no BERT."""
    kind = settings.get("model_type", "bert")
    if kind != "bert":
        raise Problem(f"{where} holds a model of type '{kind}', and Regard reads BERT. Choose a BERT checkpoint.")
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    missing = [t for t in needed if t not in settings]
    if missing:
        raise Problem(f"config.json in {where} says no {', '.join(missing)}, so it describes no BERT.")
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise Problem(f"{where} uses {settings['position_embedding_type']} positions; Regard reads absolute ones.")
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise Problem(f"{where} is a decoder. Choose an encoder's checkpoint.")
    config = EncoderConfig(**{ours: settings[theirs] for ours, theirs in _CONFIG.items() if theirs in settings})
    if config.activation not in ACTIVATIONS:
        raise Problem(f"{where} uses the activation '{config.activation}'. Known: {', '.join(ACTIVATIONS)}.")
    if config.width % config.heads:
        raise Problem(f"{where}: a width of {config.width} cannot be shared by {config.heads} heads.")
    return config


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{index} names no shards ({error}). Download it again.") from None


def _weights(folder: Path) -> dict[str, Tensor]:
    single, index, old = (
        folder / name for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    )
    try:
        if single.exists():
            return safetensors.torch.load_file(single)
        if index.exists():
            shards = _shards(index)
            return {k: t for shard in shards for k, t in safetensors.torch.load_file(folder / shard).items()}
        if old.exists():
            return dict(torch.load(old, map_location="cpu", weights_only=True))
    except Problem:
        raise
    except (safetensors.SafetensorError, RuntimeError, OSError, EOFError) as error:
        raise Problem(f"The weights in {folder} are damaged or incomplete ({error}). Download them again.") from error
    except Exception as error:  # torch's restricted unpickler has its own exception type
        raise Problem(
            f"{old} holds more than tensors, and Regard unpickles nothing else, since that would run its code "
            f"({str(error).splitlines()[0]}). Use a checkpoint in safetensors."
        ) from error
    others = sorted(p.name for p in folder.glob("*") if p.suffix in (".h5", ".msgpack", ".onnx", ".ckpt", ".index"))
    found = f" There is {', '.join(others)}, which Regard does not read." if others else ""
    raise Problem(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin.{found}")
