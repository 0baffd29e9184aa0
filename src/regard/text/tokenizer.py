"""Texts to token ids and back, with the published tokenizers, over the `tokenizers` library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from regard import disk
from regard.batch import Encoding
from regard.errors import Problem
from regard.text.chinese import KNOWN

FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class Tokenizer:
    """A WordPiece tokenizer as its publisher made it: `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`."""

    def __init__(self, whole: tokenizers.Tokenizer, *, files: dict[str, bytes] | None = None) -> None:
        whole.no_padding()
        whole.no_truncation()
        self._whole = whole
        self._cutters: dict[tuple[int, int, str], tokenizers.Tokenizer] = {}
        self._files = files or {"tokenizer.json": whole.to_str(pretty=True).encode()}

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer of a folder with `tokenizer.json`, or with `vocab.txt` and perhaps `tokenizer_config.json`."""
        folder = Path(folder)
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
        try:
            settings = json.loads(files.get("tokenizer_config.json", b"{}"))
            if "tokenizer.json" in files:
                whole = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
            elif "vocab.txt" in files:
                whole = wordpiece(vocabulary(files["vocab.txt"]), settings)
            else:
                raise Problem(
                    f"{folder} has no tokenizer: neither tokenizer.json nor vocab.txt is there. "
                    "Copy the one that the checkpoint was trained with into the folder."
                )
        except Problem:
            raise
        except Exception as error:  # the library raises bare Exception for a broken file
            raise Problem(f"The tokenizer in {folder} cannot be read: {error}. Download it again.") from error
        return cls(whole, files=files)

    def save(self, folder: str | Path) -> None:
        """Writes the same bytes that were loaded, and `tokenizer.json` where there was only a vocabulary."""
        folder = Path(folder)
        files = {"tokenizer.json": self.definition().encode(), **self._files}
        for name, content in files.items():
            disk.write_bytes(folder / name, content)

    def definition(self) -> str:
        """All that decides which tokens a text becomes, as `tokenizer.json`."""
        return str(self._whole.to_str(pretty=True))

    def parts(self) -> tuple[bool, bool]:
        """Whether no token depends on what stands beyond a space, and none on what stands beside a Chinese character.

        Known of BERT's own rules; of all others it is not, and of added tokens that hold or look at such characters.
        """
        about = json.loads(self.definition())
        kinds = [(about[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
        added = about["added_tokens"]
        if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"] or any(
            token["lstrip"] or token["rstrip"] or token["single_word"] or " " in token["content"] for token in added
        ):
            return False, False
        chinese = any(re.search(f"[{KNOWN}]", token["content"]) for token in added)
        return True, about["normalizer"]["handle_chinese_chars"] and not chinese

    @property
    def size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._whole.get_vocab_size(with_added_tokens=True))

    def token(self, number: int) -> str:
        """The token of an id, for example `##ing`."""
        return str(self._whole.id_to_token(number))

    def tokens(self, encoding: Encoding) -> list[str]:
        """The tokens of an encoding, special tokens included."""
        return [self.token(int(number)) for number in encoding.ids]

    def number(self, token: str) -> int | None:
        """The id of a token, or None where the vocabulary lacks it."""
        found = self._whole.token_to_id(token)
        return None if found is None else int(found)

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int = 512,
        stride: int = 0,
        detail: bool = False,
    ) -> list[Encoding]:
        """Encodings of texts, or of texts with their pairs.

        A text of more than `max_length` tokens is cut, longest of a pair first, and what was cut is counted in
        `dropped`; with `stride` it becomes several windows instead, which overlap by `stride` tokens.
        `detail` adds character offsets and word numbers, at about twice the time.
        """
        least = self._whole.num_special_tokens_to_add(is_pair=pairs is not None)
        if max_length < least or stride < 0:
            raise Problem(
                f"max_length must be {least} or more and stride 0 or more; they are {max_length} and {stride}."
            )
        if isinstance(texts, str) or (pairs is not None and len(pairs) != len(texts)):
            raise Problem("Give a list of texts, and as many pairs as texts where there are pairs.")
        inputs: list[Any] = [clean(t) for t in texts]
        if pairs is not None:
            inputs = list(zip(inputs, (clean(p) for p in pairs), strict=True))
        run = self._whole.encode_batch if detail else self._whole.encode_batch_fast
        out: list[Encoding] = []
        for source, found in enumerate(run(inputs)):
            if len(found) <= max_length:
                out.append(_encoding(found, source, detail))
            elif stride:
                out += self._windows(inputs[source], found, source, (max_length, stride), detail)
            else:
                cut = self._cutter(max_length, 0, "longest_first").encode_batch([inputs[source]])[0]
                out.append(_encoding(cut, source, detail, dropped=len(found) - len(cut)))
        return out

    def encode_words(self, sentences: Sequence[Sequence[str]], *, max_length: int) -> list[Encoding]:
        """Encodings of sentences that are words already; `words` tells each token's place in the list of words.

        A word that the tokenizer makes nothing of keeps its number, and no token has it. What does not fit is cut, be
        it within a word, and counted in `dropped`. Offsets are within the token's own word.
        """
        least = self._whole.num_special_tokens_to_add(is_pair=False)
        if max_length < least:
            raise Problem(f"max_length must be {least} or more; it is {max_length}.")
        if any(isinstance(words, str) for words in sentences):
            raise Problem("Give each sentence as a list of words; a text as it is goes through encode.")
        inputs = [[clean(word) for word in words] for words in sentences]
        out: list[Encoding] = []
        for source, found in enumerate(self._whole.encode_batch(inputs, is_pretokenized=True)):
            cut = found
            if len(found) > max_length:
                cutter = self._cutter(max_length, 0, "longest_first")
                cut = cutter.encode_batch([inputs[source]], is_pretokenized=True)[0]
            out.append(_encoding(cut, source, True, dropped=len(found) - len(cut)))
        return out

    def _windows(
        self, text: Any, found: tokenizers.Encoding, source: int, size: tuple[int, int], detail: bool
    ) -> list[Encoding]:
        """Windows over the longer text, each beside the shorter one, or what of it leaves them half the room."""
        sides = [sum(s == side for s in found.sequence_ids) for side in (0, 1)]
        special, longer = len(found) - sum(sides), int(sides[1] > sides[0])
        beside = min(sides)
        if size[0] - special - beside <= size[1]:
            beside = max(0, (size[0] - special - size[1]) // 2)
        if size[0] - special - beside <= size[1]:
            raise Problem(
                f"Windows of {size[0]} tokens with a stride of {size[1]} leave no room to move on. Raise max_length or "
                "lower the stride."
            )
        dropped = min(sides) - beside
        if dropped:
            whole = self._whole.encode(text[1 - longer], add_special_tokens=False)
            end = whole.offsets[beside - 1][1] if beside else 0
            text = (text[0], text[1][:end]) if longer == 0 else (text[0][:end], text[1])
        cut = self._cutter(*size, ("only_first", "only_second")[longer]).encode_batch([text])[0]
        parts = [_encoding(part, source, detail) for part in (cut, *cut.overflowing)]
        return [replace(parts[0], dropped=dropped), *parts[1:]] if dropped else parts

    def _cutter(self, max_length: int, stride: int, strategy: str) -> tokenizers.Tokenizer:
        # Copies, because truncation is state of the library's tokenizer; kept, because one takes 30 ms to make.
        key = (max_length, stride, strategy)
        if key not in self._cutters:
            cutter = tokenizers.Tokenizer.from_str(self._whole.to_str())
            cutter.enable_truncation(max_length, stride=stride, strategy=strategy)
            self._cutters[key] = cutter
        return self._cutters[key]


def clean(text: str) -> str:
    """The text, with half surrogate pairs, which no UTF-8 can hold, replaced by `?`."""
    if not isinstance(text, str):
        raise Problem(f"A text must be a string; {text!r} is {type(text).__name__}. Convert it with str(...) first.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def vocabulary(content: bytes) -> list[str]:
    """The tokens of a `vocab.txt`; only a line feed ends one, for published ones hold U+2028 and its like as tokens."""
    lines = content.decode("utf-8-sig").split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def wordpiece(vocabulary: Iterable[str], settings: dict[str, Any] | None = None) -> tokenizers.Tokenizer:
    """BERT's tokenizer over a vocabulary, one token a line, with the settings of a `tokenizer_config.json`."""
    settings = settings or {}
    ids = {token: number for number, token in enumerate(vocabulary)}
    special = {k: _text(settings.get(f"{k}_token", f"[{k.upper()}]")) for k in ("unk", "cls", "sep", "pad", "mask")}
    missing = [special[k] for k in ("unk", "cls", "sep") if special[k] not in ids]
    if missing:
        raise Problem(f"vocab.txt has no {' and no '.join(missing)}. Is it a BERT vocabulary, one token a line?")
    whole = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=special["unk"]))
    whole.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.post_processor = processors.TemplateProcessing(
        single=f"{special['cls']}:0 $A:0 {special['sep']}:0",
        pair=f"{special['cls']}:0 $A:0 {special['sep']}:0 $B:1 {special['sep']}:1",
        special_tokens=[(special[k], ids[special[k]]) for k in ("cls", "sep")],
    )
    whole.add_special_tokens([token for token in special.values() if token in ids])
    return whole


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _encoding(found: tokenizers.Encoding, source: int, detail: bool, dropped: int = 0) -> Encoding:
    ids = np.array(found.ids, dtype=np.int64)
    segments = np.array(found.type_ids, dtype=np.int64)
    if not detail:
        return Encoding(ids, segments, source, dropped)
    words = np.array([-1 if w is None else w for w in found.word_ids], dtype=np.int64)
    return Encoding(ids, segments, source, dropped, np.array(found.offsets, dtype=np.int64).reshape(-1, 2), words)
