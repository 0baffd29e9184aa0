"""The encoder that Regard ships: small, there without a hub, the same in transformers, and it knows some words."""

import gzip
import json

import pytest
import torch

import regard
from regard import hub
from regard.data.passages import of_documents
from regard.data.tokens import Document
from regard.eval.words import guesses

FOLDER = hub.SHIPPED["regard-mini"]


@pytest.fixture(scope="module")
def mini():
    return regard.load("regard-mini")


def test_it_is_small_and_says_what_it_is(mini):
    assert 6e6 < sum(p.numel() for p in mini.model.parameters()) < 12e6
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 30e6
    said = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(word in said for word in ("license:", "CMRC", "WikiText-2", "regard pretrain"))


def test_a_folder_of_its_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.model_folder("regard-mini") == FOLDER
    (tmp_path / "regard-mini").mkdir()
    assert hub.model_folder("regard-mini").resolve() == tmp_path / "regard-mini"


@pytest.mark.parametrize("text", ["The film was very [MASK] .", "他是一名[MASK]生，在医院工作。"])
def test_transformers_guesses_the_same(mini, text):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model, report = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    found = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        shares = model.eval()(**found).logits[found["input_ids"] == tokenizer.mask_token_id].softmax(-1)[0]
    for word, share in mini.fill(text, top=20)[0]:
        assert share == pytest.approx(shares[tokenizer.convert_tokens_to_ids(word)].item(), abs=1e-5)


def test_it_guesses_words_of_texts_that_it_never_read(mini, shared):
    with gzip.open(shared / "data" / "wikitext2" / "valid.raw.gz", "rt") as file:
        english = [Document(line, "en") for line in file if len(line) > 300]
    with gzip.open(shared / "data" / "zh_cmrc2018" / "cmrc2018_trial.json.gz", "rt") as file:
        parts = (part for article in json.load(file)["data"] for part in article["paragraphs"])
        chinese = [Document(text, "zh") for text in dict.fromkeys(part["context"] for part in parts)]
    passages = of_documents([*english[:40], *chinese[:40]], mini.tokenizer, length=128)
    least = {"en": 0.35, "zh": 0.33}
    for found in guesses(mini.model, mini.tokenizer, passages):
        assert found.places > 500 and found.top1.low > least[found.language], found
