"""All experiments end to end on the tiny model: their numbers are those of their parts, and a killed call goes on."""

import dataclasses
import json
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from command import typed

from regard.card import Card
from regard.data.corpus import Corpus
from regard.data.packing import pack
from regard.data.treebank import read
from regard.errors import Problem
from regard.lens.capture import capture
from regard.lens.divergence import divergence
from regard.model.heads import Head
from regard.study import heads, probes, relations
from regard.study.clark import antecedents, experiments, gradients
from regard.study.texts import chunks, room
from regard.system import System

NAMES = {"model": "tiny", "corpus": "corpus", "treebank": "bank"}
PLAN = experiments.Plan(texts=30, length=48, seeds=1, probe=True)


@pytest.fixture(scope="module")
def found(system, corpus_file, treebank_file):
    shares = []
    out = experiments.study(system, Corpus(corpus_file), read(treebank_file), PLAN, names=NAMES, advance=shares.append)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    return out


def texts(system, corpus_file, **changes):
    plan = heads.Plan(pairs=True, length=48, texts=30, reach=1, norms=True, **changes)
    found = chunks(system.tokenizer, Corpus(corpus_file), plan, room(system, plan))
    return [encoding for chunk in found for encoding in chunk.encodings]


def weights_of(system, encodings):
    """(layers, heads, S, S) of each text, written out."""
    out = []
    for e in encodings:
        one = capture(system.model.encoder, pack([e]))
        out.append(torch.stack([one.weights(layer, 0) for layer in range(2)]).numpy())
    return out


def test_what_heads_do_is_that_of_the_weights_written_out(system, corpus_file, found):
    encodings = texts(system, corpus_file)
    assert found.setup["texts"] == len(encodings) == 30
    assert found.setup["tokens"] == sum(len(e.ids) for e in encodings)
    assert found.setup["uniform_entropy"] == pytest.approx(np.mean([math.log(len(e.ids)) for e in encodings]))
    assert found.setup["uniform"]["sep"] == pytest.approx(np.mean([2 / len(e.ids) for e in encodings]))
    all_weights = weights_of(system, encodings)
    means = found.means()
    # An offset of -1 is the token before: row i, column i - 1, which is below the diagonal.
    for name, diagonal in (("offset_-1", -1), ("offset_+0", 0), ("offset_+1", 1)):
        own = [w.diagonal(diagonal, 2, 3).sum(-1) / w.shape[-1] for w in all_weights]
        np.testing.assert_allclose(means[name], np.mean(own, 0), atol=1e-5)
    seps = [e.ids == 3 for e in encodings]
    own, other, norms = [], [], []
    for w, sep in zip(all_weights, seps, strict=True):
        own.append(w[:, :, sep][..., sep].sum(-1).mean(-1))
        other.append(w[:, :, ~sep][..., sep].sum(-1).mean(-1))
        norms.append(-(w * np.log(w)).sum(-1)[..., 0])
    np.testing.assert_allclose(means["sep_to_sep"], np.mean(own, 0), atol=1e-5)
    np.testing.assert_allclose(means["other_to_sep"], np.mean(other, 0), atol=1e-5)
    np.testing.assert_allclose(means["cls_entropy"], np.mean(norms, 0), atol=1e-4)


def test_segments_are_told_apart_or_not(system, corpus_file, found):
    told, untold = texts(system, corpus_file), texts(system, corpus_file, segments=False)
    assert all(e.segments.any() for e in told) and not any(e.segments.any() for e in untold)
    plan = dataclasses.replace(PLAN, segments=False)
    zero = experiments.study(system, Corpus(corpus_file), None, plan, names=NAMES)
    expected = np.mean([w[..., 0].mean(-1) for w in weights_of(system, untold)], 0)
    np.testing.assert_allclose(zero.means()["to_cls"], expected, atol=1e-5)
    assert not np.allclose(zero.means()["to_cls"], found.means()["to_cls"], atol=1e-4)
    # The two texts are parted for the contrastive loss all the same.
    assert zero.gradients["texts"] == 30 and json.dumps(zero.gradients) == json.dumps(found.gradients)
    assert zero.relations["missing"] == zero.coreference["missing"] == experiments.NO_TREES


def test_parts_are_those_of_the_studies(system, treebank_file, found):
    trees = relations.read(system, read(treebank_file))
    study = relations.study(system, trees, random_weights=False)
    best = [row for row in study.best() if row["measure"] == "accuracy"]
    assert [{k: v for k, v in row.items() if k != "same_sentences"} for row in found.relations["rows"]] == best
    for row in found.relations["rows"]:
        rows = [r for r in study.rows if r["relation"] == row["relation"] and r["source"] == "model"]
        rows = [r for r in rows if r["measure"] == "accuracy"]
        shares = [
            (r["accuracy"] * r["n"] + r["choice_accuracy"] * r["choice_n"]) / (r["n"] + r["choice_n"]) for r in rows
        ]
        assert row["same_sentences"] == pytest.approx(max(shares))
    assert found.probes == probes.study(system, trees, seeds=1)
    assert found.coreference == antecedents.study(system, read(treebank_file), length=48, seed=0)
    split = [len(e.words) - 2 > 6 for e in trees.encodings]
    assert found.setup["words"] == 360 and (found.setup["split_words"] > 0) == any(split)


def test_heads_are_compared_on_the_texts_that_are_said(system, corpus_file, found):
    encodings = texts(system, corpus_file)
    assert found.clusters["texts"] == 30  # all, for there are fewer than are compared
    total = np.zeros((8, 8))
    for e in encodings:
        one = capture(system.model.encoder, pack([e]))
        total += divergence(one, one, 0).numpy()
    mean = total / 30
    inside = [mean[i, j] for i in range(8) for j in range(8) if i != j and i // 4 == j // 4]
    outside = [mean[i, j] for i in range(8) for j in range(8) if i // 4 != j // 4]
    assert found.clusters["within"] == pytest.approx(np.mean(inside), rel=1e-4)
    assert found.clusters["between"] == pytest.approx(np.mean(outside), rel=1e-4)
    nearest = [min((j for j in range(8) if j != i), key=lambda j: mean[i, j]) for i in range(8)]
    assert found.clusters["neighbours"] == np.mean([i // 4 == j // 4 for i, j in enumerate(nearest)])
    assert len(found.clusters["rows"]) == 8


def test_antecedents_are_those_of_attention_looked_up_by_hand(system, treebank_file):
    """Every mention of every stretch, by the definition, for the chosen head and the baselines."""
    bank = read(treebank_file)
    found = antecedents.study(system, bank, length=64, seed=0)
    row = found["rows"][0]
    assert row["kind"] == "all" and row["documents"] == 6 and found["missing"] == ""
    kinds = {r["kind"]: r["n"] for r in found["rows"]}
    assert kinds["all"] == sum(n for kind, n in kinds.items() if kind != "all")

    from regard.data.splits import split

    _, scored = split(12, (0.5, 0.5), seed=0)
    right, nearest, total = 0, 0, 0
    pieces, _ = antecedents._stretches(system, antecedents.documents(bank.sentences), 64)
    for piece in (p for p in pieces if p.number in scored):
        encoding = system.tokenizer.encode_words([piece.forms], max_length=64)[0]
        one = capture(system.model.encoder, pack([encoding]))
        weights = one.weights(row["layer"], 0)[row["head"]]
        for m in piece.mentions:
            before = [c for c in piece.mentions if c.end <= m.start]
            if any(c.entity == m.entity for c in before):
                here = encoding.words == m.head
                score = [float(weights[here][:, encoding.words == c.head].sum(1).mean()) for c in before]
                total += 1
                right += before[int(np.argmax(score))].entity == m.entity
                nearest += before[-1].entity == m.entity
    assert row["n"] == total
    assert row["accuracy"][0] == pytest.approx(right / total)
    assert row["nearest"][0] == pytest.approx(nearest / total)


def test_a_treebank_without_entities_or_with_one_document_says_so(system, treebank_file, tmp_path):
    plain = tmp_path / "a.conllu"
    plain.write_text(re.sub("Entity=.*", "_", treebank_file.read_text()))
    assert "says nothing of entities" in antecedents.study(system, read(plain), length=48, seed=0)["missing"]
    plain.write_text(treebank_file.read_text().replace("# newdoc\n", ""))
    assert antecedents.study(system, read(plain), length=48, seed=0)["missing"] == antecedents.FEW


def test_finished_parts_are_taken_up(system, corpus_file, treebank_file, found, tmp_path, monkeypatch):
    state = tmp_path / "out.state"
    asked = []

    def stop(*args, **options):
        asked.append(1)
        raise KeyboardInterrupt

    make = lambda: experiments.study(  # noqa: E731
        system, Corpus(corpus_file), read(treebank_file), PLAN, names=NAMES, state=state
    )
    with monkeypatch.context() as patch:
        patch.setattr(relations, "study", stop)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert set(json.loads(state.read_text())["parts"]) == {"heads", "gradients", "clusters"}
    with monkeypatch.context() as patch:
        patch.setattr(heads, "study", stop)
        patch.setattr(gradients, "study", stop)
        again = make()
    assert len(asked) == 1
    # NaN is not equal to itself; the same bits read the same.
    assert json.dumps(again.plain()) == json.dumps(found.plain())
    with pytest.raises(Problem, match="another model, corpus or settings"):
        experiments.study(
            system, Corpus(corpus_file), None, dataclasses.replace(PLAN, seed=1), names=NAMES, state=state
        )
    state.write_text("{")
    with pytest.raises(Problem, match="damaged"):
        make()


def test_another_treebank_leaves_what_does_not_depend_on_it(
    system, corpus_file, treebank_file, found, tmp_path, monkeypatch
):
    state = tmp_path / "out.state"
    bank = read(treebank_file)
    plan = dataclasses.replace(PLAN, probe=False)
    experiments.study(system, Corpus(corpus_file), bank.first(30), plan, names=NAMES, state=state)
    assert set(json.loads(state.read_text())["parts"]) == {"heads", "gradients", "clusters", "relations", "coreference"}

    def stop(*args, **options):
        raise AssertionError

    with monkeypatch.context() as patch:
        for module, name in ((heads, "study"), (gradients, "study"), (experiments, "_clusters")):
            patch.setattr(module, name, stop)
        again = experiments.study(system, Corpus(corpus_file), bank, PLAN, names=NAMES, state=state)
        assert json.dumps(again.plain()) == json.dumps(found.plain())
        patch.setattr(relations, "study", stop)
        patch.setattr(antecedents, "study", stop)
        more = dataclasses.replace(PLAN, seeds=2)
        again = experiments.study(system, Corpus(corpus_file), bank, more, names=NAMES, state=state)
    assert {row["seeds"] for row in again.probes if row["source"] == "model"} == {2}
    assert again.relations == found.relations


def test_gradients_are_of_the_head_as_well(system, corpus_file, tmp_path):
    """Two models of one encoder whose heads differ: the loss is not the same."""
    state = tmp_path / "out.state"
    plan = dataclasses.replace(PLAN, texts=8)

    def asked(shift):
        head = Head(32, 3, 0.0)
        torch.nn.init.constant_(head.linear.weight, shift)
        model = type(system.model)(system.model.encoder, system.model.pooling, head)
        labelled = System(system.tokenizer, model, system.origin, Card(task="classify", labels=("a", "b", "c")))
        return experiments.study(labelled, Corpus(corpus_file), None, plan, names=NAMES, state=state)

    asked(0.1)
    with pytest.raises(Problem, match="another model, corpus or settings"):
        asked(0.2)


def test_a_pass_is_kept_until_what_it_gave_is(system, corpus_file, tmp_path, monkeypatch):
    state = tmp_path / "out.state"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiments.disk, "write_text", stop)
        with pytest.raises(KeyboardInterrupt):
            experiments.study(system, Corpus(corpus_file), None, PLAN, names=NAMES, state=state)
    assert [path.name for path in tmp_path.iterdir()] == ["out.state.heads"]
    experiments.study(system, Corpus(corpus_file), None, PLAN, names=NAMES, state=state)
    assert [path.name for path in tmp_path.iterdir()] == ["out.state"]


def test_a_corpus_without_pairs_names_the_cure(system, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Abc def. Gab bed.\n\nFed bad. Cab dab.\n\n" * 3)
    with pytest.raises(Problem, match="--paragraphs"):
        experiments.study(system, Corpus(path), None, PLAN, names=NAMES)
    found = experiments.study(system, Corpus(path, paragraphs=True), None, PLAN, names=NAMES)
    assert found.setup["texts"] == 6
    with pytest.raises(Problem, match="hold next to nothing"):
        experiments.study(system, Corpus(path), None, experiments.Plan(length=10), names=NAMES)


def test_a_treebank_too_small_is_said_before_the_corpus_is_read(system, corpus_file, treebank_file, monkeypatch):
    bank = read(treebank_file)
    monkeypatch.setattr(experiments, "chunks", None)  # by which the corpus is read
    equal = dataclasses.replace(bank, sentences=bank.sentences[:1] * 4)
    lost = dataclasses.replace(bank.sentences[0], forms=(*bank.sentences[0].forms[:-1], "\x01"))
    halves = dataclasses.replace(bank, sentences=(bank.sentences[0], lost))  # for probes one is not whole
    for few in (equal, halves):
        with pytest.raises(Problem, match="Name a treebank with more sentences"):
            experiments.study(system, Corpus(corpus_file), few, PLAN, names=NAMES)


def test_the_command_writes_a_page_and_prints_the_findings(tiny, corpus_file, treebank_file, tmp_path):
    regard = partial(typed, "clark", cwd=tmp_path)
    words = (tiny, "--corpus", corpus_file, "--treebank", treebank_file, "--texts", "20", "--length", "48")
    done = regard(*words, "--json", "--segments", "zero")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["out"] == "clark.html" and said["plan"]["segments"] is False and len(said["heads"]) == 12 * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clark.html"]
    done = regard(*words, "--out", "b.html")
    assert "on the previous token" in done.stdout and "b.html" in done.stdout
    done = regard(*words, "--segments", "none")
    assert done.returncode == 2 and "paired or zero" in done.stderr
