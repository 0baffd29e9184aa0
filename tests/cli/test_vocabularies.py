"""The verbs of vocabularies as a user types them."""

import gzip
import itertools
import json
import lzma
from functools import partial

import command
import pytest

from regard.text.tokenizer import Tokenizer

typed = partial(command.typed, columns=120)
ENGLISH = ["The lower the slower; the slowest is lowest.", "Newer and newest doctors work in a hospital."]
CHINESE = ["他是一名医生，在医院工作。", "我爱北京天安门。"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A packed English file and a plain Chinese one."""
    folder = tmp_path_factory.mktemp("texts")
    with lzma.open(folder / "en.txt.xz", "wt", encoding="utf-8") as file:
        file.write("\n".join(f"{line} {n}\n" for n in range(300) for line in ENGLISH))
    (folder / "zh.txt").write_text("\n".join(CHINESE * 300), encoding="utf-8")
    return folder / "en.txt.xz", folder / "zh.txt"


@pytest.fixture(scope="module")
def learnt(files, tmp_path_factory):
    """A vocabulary, and what was said of it."""
    out = tmp_path_factory.mktemp("vocab") / "vocab"
    done = typed("vocab", "train", *files, "--size", 300, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_a_vocabulary_is_learnt_and_measured_on_texts_held_out(learnt):
    out, said = learnt
    assert {path.name for path in out.iterdir()} == {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
    assert said["size"] == Tokenizer.load(out).size == len((out / "vocab.txt").read_text("utf-8").splitlines())
    assert said["texts"] == 1200 - 12  # every hundredth is held out
    assert [(row["language"], row["texts"]) for row in said["languages"]] == [("en", 6), ("zh", 6)]
    assert all(row["word_coverage"] > 0.9 for row in said["languages"])
    assert said["languages"][1]["tokens_per_word"] > 1.2  # a Chinese word is more than a character


def test_the_same_again_is_refused_over_what_is_there_and_equal_beside_it(learnt, files, tmp_path):
    out, _ = learnt
    done = typed("vocab", "train", *files, "--size", 300, "--out", out)
    assert done.returncode == 2 and "holds a vocabulary already" in " ".join(done.stderr.split())
    done = typed("vocab", "train", *files, "--size", 300, "--out", tmp_path / "again")
    assert done.returncode == 0 and "ids are in" in done.stdout
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_corpus_that_was_built_says_the_languages(shared, tmp_path):
    for name, corpus in (("en", "en_novels"), ("zh", "zh_tech_articles")):
        with lzma.open(shared / "data" / "corpora" / f"{corpus}.txt.xz", "rt", encoding="utf-8") as file:
            (tmp_path / f"{name}.txt").write_text("".join(itertools.islice(file, 1000)), encoding="utf-8")
    plan = [f'[[source]]\nname = "{name}"\npath = "{name}.txt"\nlanguage = "{name}"\n' for name in ("en", "zh")]
    (tmp_path / "corpora.toml").write_text("".join(plan))
    done = typed("corpus", "build", tmp_path / "corpora.toml", "--out", tmp_path / "corpus")
    assert done.returncode == 0, done.stderr
    done = typed("vocab", "train", tmp_path / "corpus", "--size", 4000, "--out", tmp_path / "vocab", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["languages"]
    assert [row["language"] for row in rows] == ["en", "zh"] and all(row["word_coverage"] > 0.95 for row in rows)


def test_published_vocabularies_are_measured_as_they_are(shared, files, checkpoint):
    path = shared / "data" / "vocab" / "bert_chinese_vocab_21128.txt.gz"
    done = typed("vocab", "stats", path, *files, "--texts", 50, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["size"] == 21128
    assert [(row["language"], row["texts"], row["word_coverage"]) for row in said["languages"]] == [
        ("en", 50, 1.0), ("zh", 50, 1.0),
    ]  # fmt: skip
    done = typed("vocab", "stats", checkpoint("minilm-l6"), *files)
    assert done.returncode == 0 and "30,522 ids" in done.stdout


def test_help_has_an_example():
    for words in ((), ("vocab",), ("corpus",)):
        assert "Example: regard " in typed(*words, "--help").stdout
    for verb in ("train", "stats"):
        assert f"Example: regard vocab {verb}" in typed("vocab", verb, "--help").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "none.txt", "--out", "{folder}/vocab"), "There is no file"),
        (("train", "{folder}", "--out", "{folder}/vocab"), "holds no corpus"),
        (("train", "{folder}/empty.txt", "--out", "{folder}/vocab"), "There is no text"),
        (("train", "{folder}/plan.toml", "--out", "{folder}/vocab"), "plan.toml is no running text"),
        (("train", "{folder}/few.txt", "--size", "2000000000", "--out", "{folder}/vocab"), "equal to 1000000"),
        (("train", "{folder}/few.txt", "--size", "10", "--out", "{folder}/vocab"), "characters alone need"),
        (("train", "{folder}/gbk.txt", "--out", "{folder}/vocab"), "gbk.txt have bytes that are no UTF-8"),
        (("train", "{folder}/binary", "--out", "{folder}/vocab"), "lines of {folder}/binary have NUL characters"),
        (("train", "{folder}/half", "--out", "{folder}/vocab"), "lines of {folder}/half have NUL characters"),
        (("train", "{folder}/rows.jsonl.gz", "--out", "{folder}/vocab"), "rows.jsonl.gz holds rows, not running text"),
        (("stats", "{folder}/empty.txt", "{folder}/few.txt"), "has no [UNK]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_says_why(words, said, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "few.txt").write_text("a few words\nand a few more\n")
    (tmp_path / "plan.toml").write_text('[[source]]\nname = "a"\npath = "few.txt"\n')
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a few words"}\n'))
    (tmp_path / "gbk.txt").write_text("他是一名医生，在医院工作。\n" * 9, encoding="gb18030")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 99)
    (tmp_path / "half").write_bytes((b"a few words\n" * 17 + b"a \0 word\nan \xff word\n\0\n") * 9)
    done = typed("vocab", *(word.replace("{folder}", str(tmp_path)) for word in words))
    assert done.returncode == 2, done.stderr
    assert said.replace("{folder}", str(tmp_path)) in " ".join(done.stderr.split())


def test_a_few_texts_hold_none_out(tmp_path):
    (tmp_path / "few.txt").write_text("a few words\nand a few more words\n")
    done = typed("vocab", "train", tmp_path / "few.txt", "--size", 50, "--out", tmp_path / "vocab")
    assert done.returncode == 0 and "none was held out" in done.stdout
