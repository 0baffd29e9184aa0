"""Two models compared: a model with itself, with its heads dealt anew, with another shape, and what cannot be."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from command import typed
from rich.console import Console

from regard.data.corpus import Corpus
from regard.data.packing import pack
from regard.data.sources import read as read_rows
from regard.errors import Problem
from regard.lens.capture import capture
from regard.lens.compare import DIVERGENCE, IN_LAYER, MATCHED, NEAREST, SAME
from regard.lens.divergence import divergence
from regard.study import compare, heads, tables
from regard.study.texts import Reading
from regard.system import load

READING = Reading(length=40, texts=60)


@pytest.fixture(scope="module")
def system(tiny):
    return load(tiny, precision="float32")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    random = np.random.default_rng(0)
    lines = ["".join(random.choice(list("abcdef ."), random.integers(2, 70))) for _ in range(100)]
    path.write_text("\n".join(lines) + "\n")
    return path


def copied(system, tiny, change):
    """A system of the same weights, changed."""
    other = load(tiny, precision="float32")
    with torch.no_grad():
        change(other.model.encoder)
    return other


def deal(encoder, orders):
    """Puts head `orders[layer][i]` in place i of each layer, in the maps into the heads and in the one out of them."""
    for block, order in zip(encoder.blocks, orders, strict=True):
        part = block.attention.part
        width = part.output.weight.shape[0]
        rows = torch.arange(width).view(part.heads, -1)[order].flatten()
        joint = torch.cat([rows + third * width for third in range(3)])
        part.joint.weight.copy_(part.joint.weight[joint].clone())
        part.joint.bias.copy_(part.joint.bias[joint].clone())
        part.output.weight.copy_(part.output.weight[:, rows].clone())


def study(first, second, corpus, reading=READING, **more):
    return compare.study((first, second), Corpus(corpus), reading, **more)


def partners(found, kind):
    rows = [row for row in found.rows if row["pairing"] == kind]
    return {(row["layer"], row["head"]): (row["other_layer"], row["other_head"]) for row in rows}


@pytest.mark.parametrize("pairs", [False, True])
def test_a_model_is_itself(system, tiny, corpus, pairs):
    texts = 15 if pairs else 60
    found = study(system, load(tiny, precision="float32"), corpus, Reading(length=60, texts=texts, pairs=pairs))
    same = [row for row in found.rows if row["pairing"] == SAME]
    assert {row["statistic"] for row in same} >= {DIVERGENCE, "entropy", "to_sep", "offset_-1"}
    assert all(row["mean"] == row["low"] == row["high"] == 0 for row in same if row["n"])
    assert all(one.kept == 1 and one.mean == 0 and one.support.min() == 1 for one in found.matchings)
    assert all(place == partner for kind in (MATCHED, IN_LAYER) for place, partner in partners(found, kind).items())
    assert ("to_own_text" in {row["statistic"] for row in same}) == pairs
    assert found.texts == texts and [row["layer"] for row in found.layers] == [0, 1]


def test_one_text_is_shown_without_intervals(system, tiny, corpus):
    other = copied(system, tiny, lambda encoder: encoder.blocks[1].attention.part.joint.weight.mul_(3))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.comparison(study(system, other, corpus, Reading(length=40, texts=1))))
    shown = console.export_text()
    assert "nan" not in shown and shown.count("[") == 0 and "at random" in shown


def test_heads_dealt_anew_are_all_found(system, tiny, corpus):
    orders = [[2, 0, 3, 1], [1, 2, 0, 3]]
    other = copied(system, tiny, lambda encoder: deal(encoder, orders))
    texts = corpus.read_text().splitlines()[:20]
    np.testing.assert_allclose(other.encode(texts), system.encode(texts), atol=1e-5)
    found = study(system, other, corpus)
    expected = {(layer, head): (layer, orders[layer].index(head)) for layer in (0, 1) for head in range(4)}
    for kind in (MATCHED, IN_LAYER, NEAREST):
        assert partners(found, kind) == expected
    kinds = {one.kind: one for one in found.matchings}
    assert kinds[MATCHED].mean < 1e-5 and kinds[SAME].mean > 0.01
    assert kinds[MATCHED].kept == kinds[IN_LAYER].kept == 1 / 8
    assert [row["kept, matched"] for row in found.layers] == [0, 0.25]


def test_rows_are_those_of_single_passes_and_of_texts_alone(system, tiny, corpus):
    def change(encoder):
        encoder.blocks[1].attention.part.joint.weight.mul_(3)

    other = copied(system, tiny, change)
    found = study(system, other, corpus)
    rows = {(row["layer"], row["head"], row["statistic"]): row for row in found.rows if row["pairing"] == SAME}
    plan = heads.Plan(length=40, texts=60)
    single = [heads.study(one, Corpus(corpus), plan).rows for one in (system, other)]
    for one, two in zip(*single, strict=True):
        row = rows[one["layer"], one["head"], one["statistic"]]
        assert (row["of_model"], row["of_other"]) == pytest.approx((one["mean"], two["mean"]), abs=1e-6)
        assert row["mean"] == pytest.approx(two["mean"] - one["mean"], abs=1e-6)
        assert row["low"] <= row["mean"] <= row["high"]
    matrices = []
    for encoding in system.tokenizer.encode(corpus.read_text().splitlines()[:60], max_length=40):
        first, second = (capture(one.model.encoder, pack([encoding])) for one in (system, other))
        matrices.append(divergence(first, second, 0).double().numpy())
    mean = np.mean(matrices, 0)
    for layer, head in np.ndindex(2, 4):
        row = rows[layer, head, DIVERGENCE]
        assert row["mean"] == pytest.approx(mean[4 * layer + head, 4 * layer + head], abs=1e-6)
        half = 1.96 * np.std([m[4 * layer + head, 4 * layer + head] for m in matrices], ddof=1) / 60**0.5
        assert row["high"] - row["mean"] == pytest.approx(half, abs=1e-6)
    assert max(rows[0, head, DIVERGENCE]["mean"] for head in range(4)) < 1e-6
    layer = found.layers[1]
    assert layer["divergence"] == pytest.approx(np.mean([rows[1, head, DIVERGENCE]["mean"] for head in range(4)]))
    for row in (row for row in found.rows if row["pairing"] == MATCHED):
        pair = 4 * row["layer"] + row["head"], 4 * row["other_layer"] + row["other_head"]
        assert row["mean"] == pytest.approx(mean[pair], abs=1e-6)


def test_without_matching_the_same_place_is_the_same(system, tiny, corpus):
    other = copied(system, tiny, lambda encoder: encoder.blocks[0].attention.part.joint.weight.mul_(2))
    whole, part = (study(system, other, corpus, match=match) for match in (True, False))
    assert not part.matchings and {row["pairing"] for row in part.rows} == {SAME}
    for one, two in zip(whole.rows, part.rows, strict=False):
        assert one["mean"] == pytest.approx(two["mean"], abs=1e-6, nan_ok=True)


@pytest.fixture(scope="module")
def deep(tiny, tmp_path_factory):
    """The same vocabulary, three layers: the first two are those of `tiny`, and the last is the first again."""
    import safetensors.torch

    folder = tmp_path_factory.mktemp("deep")
    for name in ("config.json", "vocab.txt"):
        shutil.copy(tiny / name, folder / name)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = safetensors.torch.load_file(tiny / "model.safetensors")
    tensors |= {name.replace("layer.0.", "layer.2."): t.clone() for name, t in tensors.items() if "layer.0." in name}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_student_finds_its_layers_in_a_deeper_teacher(system, deep, corpus):
    teacher = load(deep, precision="float32")
    for first, second in ((system, teacher), (teacher, system)):
        found = study(first, second, corpus)
        assert {row["pairing"] for row in found.rows} == {MATCHED, NEAREST} and not found.layers
        own = {place: partner for place, partner in partners(found, MATCHED).items() if place[0] < 2}
        assert own == {(layer, head): (layer, head) for layer in (0, 1) for head in range(4)}
        assert len(partners(found, MATCHED)) == 8 and len(partners(found, NEAREST)) == 4 * found.shapes[0][0]
        assert all(one.kept is None for one in found.matchings)


@pytest.mark.parametrize("more", [{"match": False}, {"examples": (None, None)}])
def test_what_needs_one_shape_says_so(system, deep, corpus, more):
    with pytest.raises(Problem, match="2 x 4 and 3 x 4 heads"):
        study(system, load(deep, precision="float32"), corpus, **more)


def test_other_vocabularies_and_other_tokens_are_problems(system, tiny, corpus, tmp_path):
    words = (tiny / "vocab.txt").read_text().split("\n")
    cases = {
        "swapped": ([*words[:30], words[31], words[30], *words[32:]], {}, "token 30 is 'z' in the first and '##a'"),
        "short": ([*words[:-2], ""], {}, "vocabularies of 60 and 59 tokens"),
        "cased": (
            words,
            {"do_lower_case": False},
            r"'ABC' is \[CLS\] a ##b ##c \[SEP\] in the first and \[CLS\] \[UNK\]",
        ),
    }
    loud = tmp_path / "loud.txt"
    loud.write_text("abc\nABC\n")
    for name, (vocabulary, settings, cause) in cases.items():
        folder = tmp_path / name
        shutil.copytree(tiny, folder)
        (folder / "vocab.txt").write_text("\n".join(vocabulary))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        with pytest.raises(Problem, match=cause):
            study(system, load(folder, precision="float32"), loud)


def test_an_empty_corpus_is_a_problem(system, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(Problem, match="no text"):
        study(system, system, tmp_path / "empty.txt")


@pytest.fixture(scope="module")
def trained(tiny, reviews, tmp_path_factory):
    from regard.estimator import Classifier

    rows = read_rows(reviews).columns
    found = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"trained{seed}")
        model = Classifier(model=str(tiny), epochs=1, seed=seed).fit(rows["review"][:200], rows["sentiment"][:200])
        model.system_.save(folder)
        found.append(folder)
    return found


def test_the_command_prints_writes_and_compares_importance(trained, corpus, reviews, tmp_path):
    out = tmp_path / "compare.parquet"
    words = ("compare", *trained, corpus, "--length", 40, "--texts", 30, "--data", reviews)
    done = typed(*words, "--out", out)
    assert done.returncode == 0, done.stderr
    for part in (
        "the heads that differ most, of 8, on 30 texts",
        "importance, on 400 rows",
        "matched in layer",
        "again",
    ):
        assert part in done.stdout
    table = read_rows(out)
    assert set(table.columns["pairing"]) == {SAME, MATCHED, IN_LAYER, NEAREST}
    importance = [i for i, name in enumerate(table.columns["statistic"]) if name == "importance"]
    assert len(importance) == 8
    for row in importance:
        one, other, mean, n = (table.columns[name][row] for name in ("of_model", "of_other", "mean", "n"))
        assert n == 400 and one > 0 and mean == pytest.approx(other - one, abs=1e-9)
    said = json.loads(typed(*words, "--json").stdout)
    assert [one["kind"] for one in said["matchings"]] == [SAME, MATCHED, IN_LAYER, NEAREST]
    assert len(said["rows"]) == len(table)


def test_sentences_of_paragraphs_make_pairs(tiny, tmp_path):
    path = tmp_path / "paragraphs.txt"
    path.write_text("Aa bb. Cc dd. Ee ff.\n\n" * 5)
    words = ("compare", tiny, tiny, path, "--length", 40, "--pairs", "--json")
    assert "say --paragraphs" in typed(*words).stderr.replace("\n", " ")
    assert json.loads(typed(*words, "--paragraphs").stdout)["texts"] == 5


def test_the_command_says_what_cannot_be(tiny, trained, corpus, reviews):
    for words, cause in [
        (("compare", tiny, trained[0], corpus, "--length", 40, "--data", reviews), "has no head"),
        (("compare", tiny, tiny, corpus), "reads between 8 and 64"),
        (("compare", tiny, tiny, "nowhere.txt"), "There is no file"),
    ]:
        done = typed(*words)
        assert done.returncode == 2 and cause in done.stderr.replace("\n", " "), done.stderr


def test_heads_of_a_common_ancestor_are_known_again(checkpoint, shared):
    """MiniLM-L6 was every second layer of MiniLM-L12, of whose shape and vocabulary gte-small is; the paths parted."""
    student, teacher = (load(checkpoint(name), precision="float32") for name in ("minilm-l6", "gte-small"))
    reviews = shared / "data" / "corpora" / "en_movie_reviews.txt.xz"
    found = study(student, teacher, reviews, Reading(length=64, texts=12))
    own = [(layer, head) for (layer, head), other in partners(found, MATCHED).items() if other == (2 * layer, head)]
    assert len(own) >= 30
    assert sum(layer == 0 for layer, _ in own) == 12
