"""Both sides of each comparison: a checkpoint in Regard and in transformers, and texts that tokenizers stumble over."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from regard import system as systems
from regard.batch import Encoding

NAMES = ("minilm-l6", "gte-small", "m3e-small", "tinybert-ner", "albert-tiny-zh-mlm")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh"))
HARD_TEXTS = (
    "A man, a plan, a canal: Panama!",
    "",
    " \t\r\n ",
    "naïve café, Ångström, Zürich; n\u0303 and ñ; ſẞİıΣς ﬁ Ｆｕｌｌ",
    "party 🎉 family 👩‍👩‍👧‍👦 flag 🇨🇳 skin 👍🏽 heart ❤️",
    "我爱北京天安门 and New York 的 GPU，价格￥3,500.00！第2章",
    "zero\x00byte, bell\x07, escape\x1b[0m, soft\u00adhyphen, mark\u200b, joiner\u200d, order\u202e, broken\ufffd",
    "line\u2028separator and paragraph\u2029separator, next\u0085line",
    "don't [MASK] the [SEP] words [CLS] [UNK] [PAD] [mask]",
    "x" * 250 + " Donaudampfschifffahrtsgesellschaft " + "啊" * 130,
    "العربية עברית ไทย हिन्दी 한국어 日本語のテキスト",
    "lorem ipsum dolor sit amet 中文 " * 4_000,
)


@pytest.fixture(scope="session", params=NAMES)
def folder(request, checkpoint) -> Path:
    """The folder of each real checkpoint."""
    return checkpoint(request.param)


@pytest.fixture(scope="session")
def system(folder) -> systems.System:
    return systems.load(folder, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def oracle(folder) -> torch.nn.Module:
    return transformers.AutoModel.from_pretrained(folder).eval()


@pytest.fixture(scope="session")
def exact_oracle(folder) -> torch.nn.Module:
    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()


@pytest.fixture(scope="session")
def hard_texts() -> list[str]:
    assert len(HARD_TEXTS[-1]) >= 90_000
    return list(HARD_TEXTS)


@pytest.fixture(scope="session")
def write_vocabulary():
    """A function that gives a folder a tokenizer of a few letters and their continuations."""

    def write(folder: Path) -> int:
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
        return len(VOCABULARY)

    return write


@pytest.fixture(scope="session")
def random_encodings():
    """A function from lengths to sequences of random ids, in random segments."""

    def draw(lengths, *, vocabulary: int, segments: int = 2, seed: int = 0) -> list[Encoding]:
        random = np.random.default_rng(seed)
        return [Encoding(random.integers(vocabulary, size=n), random.integers(segments, size=n)) for n in lengths]

    return draw


@pytest.fixture(scope="session")
def padded():
    """A function from encodings to what transformers takes: ids, segments and mask, padded to the longest."""

    def pad(encodings: list[Encoding]) -> dict[str, torch.Tensor]:
        ids, segments, ones = (
            torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
            for rows in zip(*((e.ids, e.segments, np.ones_like(e.ids)) for e in encodings), strict=True)
        )
        return {"input_ids": ids, "token_type_ids": segments, "attention_mask": ones}

    return pad
