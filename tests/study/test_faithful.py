"""From a file of texts to a table beside the model, and the sentence that warns a reader."""

import json
import shutil

import pytest
import torch
from command import typed

import regard
from regard.card import Card
from regard.errors import Problem
from regard.model.heads import Head, Model
from regard.model.pooling import First
from regard.study.faithful import guard, measure
from regard.system import System, measured


@pytest.fixture(scope="module")
def classifier(tiny, tmp_path_factory):
    """The folder of a random classifier."""
    folder = tmp_path_factory.mktemp("classifier")
    base = regard.load(tiny)
    torch.manual_seed(5)
    head = Head(32, 2, 0.0)
    torch.nn.init.normal_(head.linear.weight)
    pooling = First(32)
    pooling.load_state_dict(base.model.pooling.state_dict())
    card = Card(task="classify", labels=("negative", "positive"), max_length=64, columns={"text": "review"})
    System(base.tokenizer, Model(base.model.encoder, pooling, head), base.origin, card).save(folder)
    return folder


@pytest.fixture
def model(classifier, tmp_path):
    return shutil.copytree(classifier, tmp_path / "model")


def test_the_table_lies_beside_the_model_and_is_what_was_returned(model, reviews):
    assert measured(model) is None
    counted = []
    table = measure(
        str(model), str(reviews), methods=["rollout", "relevance"], texts=9, seed=1,
        counter=lambda total: counted.append(total) or (lambda done: counted.append(done)),
    )  # fmt: skip
    assert counted[0] == 9 == sum(counted[1:])
    kept = measured(model)
    assert table["out"] == str(model / "faithful.json")
    assert kept == {key: value for key, value in table.items() if key != "out"}
    assert (kept["data"], kept["deletion"], kept["level"]) == ("reviews.csv", "mask", "token")
    assert [*kept["methods"]] == ["rollout", "relevance"]
    for one in kept["methods"].values():
        for name in ("comprehensiveness", "sufficiency", "leave_one_out", "against_random"):
            value, low, high = one[name]
            assert low <= value <= high
        assert one["beats_random"] == (one["against_random"][1] > 0) and one["seconds"] > 0
    again = measure(str(model), str(reviews), methods=["rollout", "relevance"], texts=9, seed=1)
    for name, one in again["methods"].items():
        assert {**one, "seconds": 0} == {**table["methods"][name], "seconds": 0}


def test_a_method_measured_later_joins_the_others(model, reviews, caplog):
    setting = {"texts": 9, "seed": 1, "level": "word", "deletion": "drop"}
    first = measure(str(model), str(reviews), methods=["rollout"], **setting)
    both = measure(str(model), str(reviews), methods=["relevance"], **setting)
    assert [*both["methods"]] == ["rollout", "relevance"] and not caplog.records
    assert both["methods"]["rollout"] == first["methods"]["rollout"]
    assert measured(model) == {key: value for key, value in both.items() if key != "out"}
    assert (both["seed"], both["drawn"], both["texts"]) == (1, 9, 9)
    again = measure(str(model), str(reviews), methods=["rollout", "relevance"], **setting)
    for name, one in again["methods"].items():
        for figure in one.keys() - {"seconds"}:
            assert one[figure] == pytest.approx(both["methods"][name][figure], abs=1e-6)


def test_the_cure_of_a_method_not_measured_cures_it(model, reviews):
    """Whoever follows the guard's word, method by method, has them all in the end."""
    measure(str(model), str(reviews), methods=["rollout"], texts=7, seed=3, deletion="pad")
    said = guard(measured(model), "relevance")
    command = said[said.index("regard faithful") :].removesuffix(".").split()
    assert command[2:4] == ["MODEL", "reviews.csv"]
    done = typed("faithful", model, reviews, *command[4:])
    assert done.returncode == 0 and "replaced" not in done.stderr, done.stderr
    for name in ("rollout", "relevance"):
        assert "the answer's probability falls by" in guard(measured(model), name)


@pytest.mark.parametrize("change", [{"seed": 2}, {"texts": 8}, {"deletion": "drop"}, {"level": "word"}], ids=str)
def test_figures_of_another_setting_are_replaced_and_that_is_said(change, model, reviews, caplog):
    setting = {"texts": 9, "seed": 1}
    measure(str(model), str(reviews), methods=["rollout"], **setting)
    elsewhere = measure(str(model), str(reviews), methods=["relevance"], out=str(model / "b.json"), **setting | change)
    assert [*measured(model)["methods"]] == ["rollout"] and measured(elsewhere["out"]) and not caplog.records
    table = measure(str(model), str(reviews), methods=["relevance"], **setting | change)
    assert [*table["methods"]] == [*measured(model)["methods"]] == ["relevance"]
    assert "are replaced: of rollout, on 9 texts of reviews.csv (deletion: mask)" in caplog.text


def test_figures_of_another_file_of_that_name_are_replaced(model, reviews, tmp_path, caplog):
    measure(str(model), str(reviews), methods=["rollout"], texts=9)
    other = tmp_path / "other" / reviews.name
    other.parent.mkdir()
    header, *rows = reviews.read_text().splitlines()
    other.write_text("\n".join([header, *rows[len(rows) // 2 :], *rows[: len(rows) // 2]]) + "\n")
    table = measure(str(model), str(other), methods=["relevance"], texts=9)
    assert [*table["methods"]] == ["relevance"] and "are replaced" in caplog.text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"methods": ["rolout"]}, "Did you mean 'rollout'"),
        ({"level": "sentence"}, "Known: token, word"),
        ({"texts": 0}, "--texts"),
        ({"deletion": "cut"}, "no deletion"),
        ({"columns": {"text": "txt"}}, "txt"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(settings, expected, model, reviews):
    with pytest.raises(Problem, match=expected):
        measure(str(model), str(reviews), **{"methods": ["rollout"], "texts": 3} | settings)
    assert measured(model) is None


def test_a_broken_table_says_how_to_mend_it(model):
    (model / "faithful.json").write_text("[]")
    with pytest.raises(Problem, match="measure again"):
        measured(model)


@pytest.mark.parametrize("methods", [{"rollout": {}}, {"rollout": {"comprehensiveness": [0.1, None, 0.2]}}, [], {}])
def test_figures_that_are_missing_count_as_not_measured(methods, model, reviews, caplog):
    random = {"comprehensiveness": [0.2, 0.1, 0.3]}
    table = {"deletion": "mask", "texts": 9, "data": "x.csv", "random": random, "methods": methods}
    assert "has not been measured" in guard(table, "rollout")
    (model / "faithful.json").write_text(json.dumps(table))
    with pytest.raises(Problem, match="measure again"):
        measured(model)
    assert regard.load(model).faithful is None
    measure(str(model), str(reviews), methods=["rollout"], texts=3)
    assert regard.load(model).faithful == measured(model) and "is replaced" in caplog.text


def test_the_guard_says_what_is_known():
    assert "has not been measured" in guard(None, "rollout")

    def one(value, beats):
        return {"comprehensiveness": [value, value - 0.1, value + 0.1], "beats_random": beats}

    table = {
        "deletion": "mask", "texts": 50, "data": "test.csv", "random": {"comprehensiveness": [0.2, 0.1, 0.3]},
        "methods": {"rollout": one(0.25, False), "relevance": one(0.6, True)},
    }  # fmt: skip
    assert "50 texts of test.csv (deletion: mask)" in guard(table, "relevance")
    assert "0.600 [0.500, 0.700]" in guard(table, "relevance") and "best measured" not in guard(table, "relevance")
    assert "do not rely" in guard(table, "rollout") and "The best measured is relevance (0.600)" in guard(
        table, "rollout"
    )
    assert "--methods flow" in guard(table, "flow")
    assert guard(table | {"refused": {"flow": "It is slow."}}, "flow").endswith("but flow was left out: It is slow.")


def test_an_answer_is_explained_by_every_method_and_for_any_label(model):
    from regard.lens.attribute.methods import METHODS

    system = regard.load(model)
    for method in METHODS:
        found = system.explain("a good film", method=method)
        assert found.tokens == ("[CLS]", "a", "good", "film", "[SEP]") and found.scores.shape == (5,)
        assert found.label == system("a good film").label and found.method == method
        assert (found.gap is None) == (method not in ("integrated-gradients", "decompx"))
    logits = [
        float(system.explain("a bad", label=label, method="decompx").scores.sum()) for label in system.card.labels
    ]
    assert abs(system.explain("a bad", method="decompx").gap) < 1e-4
    answer = system("a bad")
    shares = torch.tensor(logits).softmax(0).tolist()
    assert shares == pytest.approx([*answer.probabilities.values()], abs=1e-4)
    with pytest.raises(Problem, match="Did you mean 'positive'"):
        system.explain("a", label="positiv")
    with pytest.raises(Problem, match="no method"):
        system.explain("a", method="magic")


def test_a_model_without_a_head_is_explained_by_its_attention_alone(tiny):
    system = regard.load(tiny)
    found = system.explain("a good film", method="rollout")
    assert found.label == "" and found.probability is None and abs(found.scores.sum() - 1) < 1e-5
    with pytest.raises(Problem, match="no head"):
        system.explain("a good film", method="relevance")


def test_the_commands_as_a_user_types_them(model, reviews):
    plain = typed("explain", model, "a good film")
    assert plain.returncode == 0, plain.stderr
    assert "good" in plain.stdout and "has not been measured" in " ".join(plain.stdout.split())
    done = typed("faithful", model, reviews, "--methods", "rollout,decompx", "--texts", "5", "--deletion", "pad")
    assert done.returncode == 0, done.stderr
    assert "decompx" in done.stdout and "random" in done.stdout and "faithful.json" in done.stdout
    said = typed("explain", model, "a good film", "bad", "--method", "decompx", "--label", "positive", "--json")
    assert said.returncode == 0, said.stderr
    table = json.loads(said.stdout)
    assert table["label"] == "positive" and len(table["scores"]) == len(table["tokens"]) == 7
    assert table["guard"].startswith("Measured on 5 texts of reviews.csv (deletion: pad)")


def test_a_seed_below_0_is_refused_before_the_work(reviews):
    done = typed("faithful", "no/such-model", reviews, "--seed", "-1")
    assert done.returncode == 2 and "--seed" in done.stderr and "unexpected" not in done.stderr, done.stderr
