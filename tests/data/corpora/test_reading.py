"""A finished corpus is read document by document; what is not whole is said; and its tokens are numbered."""

import gzip
import json

import pytest

from regard.data import tokens
from regard.data.corpora.reading import documents, times
from regard.errors import Problem
from regard.text.tokenizer import Tokenizer

ROWS = {
    "shard-00000.jsonl.gz": [("one\ntwo", "en"), ("three", "en")],
    "shard-00001.jsonl.gz": [("四五六", "zh")],
}

MIX = [
    {"source": "s", "language": "en", "weight": 0.9, "times": 0.8},
    {"source": "s", "language": "zh", "weight": 0.1, "times": 2.5},
]


@pytest.fixture
def corpus(tmp_path):
    """As `regard corpus build` leaves it."""
    for name, rows in ROWS.items():
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text, "language": of, "source": "s"}) + "\n" for text, of in rows)
    shards = [{"name": name, "documents": len(rows), "source": "s"} for name, rows in ROWS.items()]
    (tmp_path / "corpus.json").write_text(json.dumps({"shards": shards, "mix": MIX}))
    return tmp_path


def test_every_document_is_read_in_order(corpus, tiny):
    told = []
    found = [(document.text, document.language) for document in documents(corpus, told.append)]
    assert found == [row for rows in ROWS.values() for row in rows] and told[-1] == 1.0
    store = tokens.write(corpus / "tokens", documents(corpus), Tokenizer.load(tiny))
    assert store.languages == ["en", "zh"] and len(store.documents) == 3


def test_a_damaged_shard_is_named_and_not_the_disk_that_its_tokens_go_to(corpus, tiny):
    path = corpus / "shard-00000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))  # its checksum
    with pytest.raises(Problem, match=r"shard-00000.jsonl.gz is broken off or damaged"):
        tokens.write(corpus / "tokens", documents(corpus), Tokenizer.load(tiny))
    assert not list(corpus.glob("tokens*"))


@pytest.mark.parametrize(  # what is packed has no time in it: processes that share the tests must name them alike
    ("name", "content", "said"),
    [
        ("shard-00001.jsonl.gz", None, "has lost shard-00001"),
        ("shard-00000.jsonl.gz", b"", "has 0 documents where"),
        ("shard-00000.jsonl.gz", gzip.compress(b'{"text": 1', mtime=0), "Line 1 of"),
        ("shard-00000.jsonl.gz", gzip.compress(b"abcdef" * 99, mtime=0)[:-20], "broken off"),
        ("corpus.json", None, "holds no corpus"),
    ],
)
def test_what_is_not_whole_is_said(corpus, name, content, said):
    path = corpus / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Problem, match=said):
        list(documents(corpus))


def test_the_mix_says_how_often_documents_are_drawn(corpus):
    assert times(corpus) == {("s", "en"): 0.8, ("s", "zh"): 2.5}
    assert [document.source for document in documents(corpus)] == ["s"] * 3
