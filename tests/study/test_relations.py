"""A study of relations from files to rows: which heads are chosen on which half, and what is left out and said."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from command import typed
from rich.console import Console

from regard.data.sources import read as read_rows
from regard.data.splits import split
from regard.data.treebank import read as read_treebank
from regard.errors import Problem
from regard.lens.words import merged, units
from regard.study import probes, relations, tables
from regard.system import load


def sentence(random, size):
    """Words of letters, each depending on the next by `near` or on the first by `far`; the last is a full stop."""
    rows = []
    for j in range(size):
        head, relation = (0, "root") if j == 0 else (1, "punct") if j == size - 1 else (1, "far")
        if 0 < j < size - 2 and random.random() < 0.5:
            head, relation = j + 2, "near:on"
        form = "." if j == size - 1 else "".join(random.choice(list("abcdefg"), random.integers(1, 4)))
        rows.append(f"{j + 1}\t{form}\t_\t{'PUNCT' if form == '.' else 'NOUN'}\t_\t_\t{head}\t{relation}\t_\t_\n")
    return "".join(rows) + "\n"


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    random = np.random.default_rng(5)
    text = "".join(sentence(random, random.integers(4, 10)) for _ in range(40))
    text += "1\tlong\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n"  # one word
    text += "".join(f"{j + 1}\ta\t_\tNOUN\t_\t_\t{j}\tfar\t_\t_\n" for j in range(70)) + "\n"  # does not fit
    text += (
        "1\ta\t_\tNOUN\t_\t_\t0\troot\t_\t_\n2\t\x01\t_\tNOUN\t_\t_\t1\tfar\t_\t_\n3\tb\t_\tX\t_\t_\t2\tfar\t_\t_\n\n"
    )
    text += "1\tbad line\n"
    path = tmp_path_factory.mktemp("bank") / "made.conllu"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def system(tiny):
    return load(tiny, precision="float32")


@pytest.fixture(scope="module")
def corpus(system, bank):
    return relations.read(system, read_treebank(bank))


def test_what_is_left_out_is_said(corpus):
    assert len(corpus.sentences) == 41
    assert corpus.names == ("far", "near:on")
    said = " ".join(corpus.said)
    assert "1 sentences cannot be read" in said and "2 columns" in said
    assert "1 sentences are longer than 64" in said and "1 sentences are one word" in said


def test_head_and_offset_are_chosen_on_one_half_and_scored_on_the_other(system, corpus):
    found = relations.study(system, corpus, seed=3, reach=2)
    assert any("1 words became no token" in line for line in found.said)
    texts = [" ".join(s.forms) for s in corpus.sentences]
    first, second = (set(part) for part in split(len(texts), (0.5, 0.5), seed=3, groups=texts))
    right = {part: {} for part in ("choice", "score")}
    totals = dict.fromkeys(right, 0)
    for number, (one, gold) in enumerate(zip(corpus.encodings, corpus.golds, strict=True)):
        part = "choice" if number in first else "score"
        assert (number in second) == (part == "score")
        look = system.look(" ".join(corpus.sentences[number].forms))
        if number == 40:
            continue  # the word without a token is another word in a text that is not cut into words
        weights = merged(torch.as_tensor(look.weights), units(one.words))[..., 1:-1, 1:-1].numpy()
        for j, head in enumerate(gold.heads):
            if head < 0 or gold.punctuation[j] or corpus.names[gold.relations[j]] != "near:on":
                continue
            totals[part] += 1
            for layer in range(2):
                for h in range(4):
                    for direction, row in (("to the head", weights[layer, h, j]), ("from", weights[layer, h, :, j])):
                        other = np.delete(np.arange(len(row)), j)
                        key = (layer, h, direction.partition(" ")[0])
                        hit = other[row[other].argmax()] == head
                        right[part][key] = right[part].get(key, 0) + int(hit)
    rows = [r for r in found.rows if r["relation"] == "near:on" and r["source"] == "model"]
    assert len(rows) == 2 * 4 * 2
    for row in rows:
        key = (row["layer"], row["head"], row["direction"].partition(" ")[0])
        assert row["choice_accuracy"] == pytest.approx(right["choice"][key] / totals["choice"])
        assert row["accuracy"] == pytest.approx(right["score"][key] / totals["score"])
        assert (row["choice_n"], row["n"]) == (totals["choice"], totals["score"])
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert (row["offset"], row["offset_accuracy"], row["gain"]) == (1, 1.0, pytest.approx(row["accuracy"] - 1))
    chosen = [row for row in rows if row["chosen"]]
    assert len(chosen) == 1
    assert chosen[0]["choice_accuracy"] == max(row["choice_accuracy"] for row in rows)


def test_chance_stands_beside_the_best(system, corpus):
    found = relations.study(system, corpus, random_weights=True)
    best = found.best()
    assert [(row["measure"], row["relation"]) for row in best] == [
        ("accuracy", "all"), ("accuracy", "far"), ("accuracy", "near:on"), ("uuas", "all"),
    ]  # fmt: skip
    assert all(0 <= row[name] <= 1 for row in best[:3] for name in relations.CHANCES)
    assert best[3]["shuffled heads"] is None and 0 <= best[3]["random weights"] <= 1
    again = relations.study(system, corpus, random_weights=False)
    assert again.best()[0] == best[0] | {"random weights": None}
    assert relations.study(system, corpus, random_weights=False, seed=1).best()[0] != again.best()[0]


def test_a_relation_of_few_sentences_has_no_interval(system, bank):
    """However many words it has: here it is in two sentences, one of each half."""
    whole = read_treebank(bank).first(40)
    halves = split(40, (0.5, 0.5), seed=0, groups=[" ".join(s.forms) for s in whole.sentences])
    sentences = list(whole.sentences)
    for i in (next(i for i in half if "near:on" in sentences[i].relations) for half in halves):
        renamed = tuple(name.replace("near:on", "rare") for name in sentences[i].relations)
        sentences[i] = dataclasses.replace(sentences[i], relations=renamed)
    corpus = relations.read(system, dataclasses.replace(whole, sentences=tuple(sentences)))
    found = relations.study(system, corpus, random_weights=False)
    bounds = ("low", "high", "offset_low", "offset_high", "gain_low", "gain_high")
    for row in found.rows:
        assert all((row[name] is None) == (row["relation"] == "rare") for name in bounds)
    row = next(row for row in found.best() if row["relation"] == "rare")
    many = dataclasses.replace(found, rows=[row | {"n": 20, "accuracy": 1.0, "gain": 1.0}])
    console = Console(width=200, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(tables.relations(many))
    said = " ".join(console.file.getvalue().split())
    assert " 100.0 " in said and "too few texts for an interval" in said  # neither in bold nor with bounds


def test_probes_scored_on_few_sentences_have_no_interval(system, bank):
    corpus = relations.read(system, read_treebank(bank).first(9))
    rows = probes.study(system, corpus, seeds=1, random_weights=False)
    assert all(row["low"] is None and row["high"] is None for row in rows)
    console = Console(width=200, file=io.StringIO())
    console.print(tables.probes(rows))
    lines = console.file.getvalue().splitlines()
    assert not any("[" in line for line in lines) and "too few texts for an interval" in lines[-1]


def test_a_treebank_too_small(system, bank):
    with pytest.raises(Problem, match="fewer than two sentences"):
        relations.read(system, read_treebank(bank).first(1))
    whole = read_treebank(bank)
    equal = relations.read(system, dataclasses.replace(whole, sentences=whole.sentences[:1] * 2))
    for study in (relations.study, probes.study):
        with pytest.raises(Problem, match=r"too few different .*, 1: .* Name a treebank with more sentences"):
            study(system, equal)
    words = tuple(dataclasses.replace(s, relations=("punct",) * len(s.relations)) for s in whole.sentences[:4])
    with pytest.raises(Problem, match="no word with a head"):
        relations.read(system, dataclasses.replace(whole, sentences=words))
    corpus = relations.read(system, whole.first(4))
    marks = [dataclasses.replace(gold, punctuation=np.ones(len(gold.heads), bool)) for gold in corpus.golds]
    with pytest.raises(Problem, match="no word to score"):
        probes.study(system, dataclasses.replace(corpus, golds=tuple(marks)))


def test_sentences_whose_words_become_no_tokens_are_left_out(system, bank):
    """Control characters are nothing to the tokenizer; a word alone has no other to depend on."""
    whole = read_treebank(bank).first(3)
    bare = dataclasses.replace(whole.sentences[0], forms=("\x01",) * len(whole.sentences[0].forms))
    lone = dataclasses.replace(bare, forms=("a", *bare.forms[1:]))
    corpus = relations.read(system, dataclasses.replace(whole, sentences=(*whole.sentences[:2], bare, lone)))
    assert corpus.sentences == whole.sentences[:2]
    assert "2 sentences have fewer than two words that become tokens, and are left out." in corpus.said
    for sentences in ((bare,) * 4, (*whole.sentences[:1], bare, lone)):
        with pytest.raises(Problem, match="fewer than two sentences that the model can read"):
            relations.read(system, dataclasses.replace(whole, sentences=sentences))


def test_probes_of_a_treebank(system, corpus):
    seen = []
    rows = probes.study(system, corpus, seeds=2, advance=seen.append)
    assert sum(seen) == 2 * probes.steps(corpus, seeds=2) == 2 * 40 * 2
    kinds = [(row["probe"], row["source"]) for row in rows]
    assert kinds == [
        ("attention", "model"), ("attention and words", "model"), ("distance and words", "model"),
        ("attention", "random weights"), ("attention and words", "random weights"), ("right-branching", "no model"),
    ]  # fmt: skip
    for row in rows[:-1]:
        assert 0 <= row["low"] <= row["uas"] <= row["high"] <= 1
        assert row["selectivity"] == pytest.approx(row["uas"] - row["control"])
        assert row["seeds"] == 2 and row["deviation"] >= 0
    _, held = split(40, (0.75, 0.25), seed=0, groups=[" ".join(s.forms) for s in corpus.sentences[:40]])
    words = [(j, g.heads[j], len(g.heads)) for g in (corpus.golds[i] for i in held) for j in range(len(g.heads) - 1)]
    assert rows[-1]["n"] == len(words)
    assert rows[-1]["uas"] == pytest.approx(np.mean([head == j + 1 for j, head, _ in words]))


def test_control_heads_are_decided_by_the_form(corpus):
    heads, other = (probes.control_heads(corpus, seed) for seed in (0, 1))
    behaviours = {}
    for s, row in zip(corpus.sentences, heads, strict=True):
        for j, form in enumerate(s.forms):
            fits = {name for name, place in (("self", j), ("first", 0), ("last", len(s.forms) - 1)) if row[j] == place}
            behaviours[form.lower()] = behaviours.get(form.lower(), {"self", "first", "last"}) & fits
    assert all(behaviours.values())
    assert any((a != b).any() for a, b in zip(heads, other, strict=True))


def regard(*words):
    return typed("relations", *words, columns=80, strict=True)


def test_the_verb_prints_and_writes(tiny, bank, tmp_path):
    out = tmp_path / "there" / "heads.parquet"
    done = regard(tiny, bank, "--out", out, "--probe", "--seeds", "1", "--no-subtypes")
    assert done.returncode == 0, done.stderr
    assert "near " in done.stdout and "trees (UUAS)" in done.stdout and "right-branching" in done.stdout
    assert "…" not in done.stdout
    rows = read_rows(out)
    assert set(rows.columns["source"]) == {"model", *relations.CHANCES}
    assert len(read_rows(tmp_path / "there" / "heads.probes.parquet")) == 6
    said = json.loads(regard(tiny, bank, "--json", "--no-random-weights", "--sentences", "9").stdout)
    assert said["sentences"] == 9 and said["best"][0]["relation"] == "all" and said["out"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nowhere.conllu"], "no file"), (["{tiny}/config.json"], "CoNLL-U"), (["{bank}", "--out", "a.doc"], "a.doc")],
)
def test_what_cannot_be_done_is_said_at_once(words, said, tiny, bank):
    done = regard(tiny, *(word.format(tiny=tiny, bank=bank) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_too_few_sentences_for_probes_are_said_before_heads_are_read(tiny, tmp_path):
    path = tmp_path / "few.conllu"
    first = "1\ta\t_\tX\t_\t_\t0\troot\t_\t_\n2\tb\t_\tX\t_\t_\t1\tfar\t_\t_\n"
    path.write_text(f"{first}\n{first}3\t\x01\t_\tX\t_\t_\t1\tfar\t_\t_\n\n")  # one has a word without tokens
    done = regard(tiny, path, "--probe", "--out", tmp_path / "heads.parquet")
    assert done.returncode == 2 and "Name a treebank with more sentences" in " ".join(done.stderr.split())
    assert not (tmp_path / "heads.parquet").exists()


@pytest.mark.slow
def test_heads_of_a_real_model_find_objects_and_determiners(checkpoint, shared):
    bank = read_treebank(shared / "data/ud_en_ewt/en_ewt-ud-dev.conllu.gz").first(400)
    model = load(checkpoint("gte-small"), precision="float32")
    found = relations.study(model, relations.read(model, bank), random_weights=False)
    best = {row["relation"]: row for row in found.best() if row["measure"] == "accuracy"}
    assert best["det"]["accuracy"] > 0.75 and best["obj"]["accuracy"] > 0.7
    for name in ("det", "obj", "case"):
        assert best[name]["gain_low"] > 0.1
        assert best[name]["accuracy"] > best[name]["shuffled heads"] + 0.4
    assert tables.relations(found) is not None
