"""Fine-tuning in scikit-learn's manners, with scikit-learn's own tools as the judges."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import regard

TEXTS = [f"{'good' if i % 2 else 'bad'} {'abcdefgh'[i % 8]} {'hgfedcba'[i % 7]}" for i in range(120)]
LABELS = ["up" if i % 2 else "down" for i in range(120)]


def quick(kind: type, tiny: Path, **more):
    settings = {"epochs": 12, "learning_rate": 0.01, "batch_tokens": 128, "options": ("train.precision=float32",)}
    return kind(str(tiny), **(settings | more))


def test_it_learns_what_one_word_decides(tiny: Path):
    model = quick(regard.Classifier, tiny).fit(TEXTS, LABELS)
    assert model.classes_.tolist() == ["down", "up"]
    assert model.predict(["good a b", "bad a b"]).tolist() == ["up", "down"]
    assert model.score(TEXTS, LABELS) > 0.95
    np.testing.assert_allclose(model.predict_proba(TEXTS).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "labels", [[i % 2 for i in range(120)], [bool(i % 2) for i in range(120)], [i % 2 + 0.5 for i in range(120)]]
)
def test_labels_come_back_in_the_type_they_were_given_in(tiny: Path, labels: list):
    model = quick(regard.Classifier, tiny, epochs=1).fit(TEXTS, labels)
    assert set(model.predict(TEXTS).tolist()) <= set(labels)
    assert isinstance(model.predict(TEXTS).tolist()[0], type(labels[0]))


def test_the_same_seed_gives_the_same_model_and_leaves_the_world_as_it_was(tiny: Path):
    import torch

    before = torch.get_rng_state()
    first, second, third = (quick(regard.Classifier, tiny, epochs=1, seed=s).fit(TEXTS, LABELS) for s in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first.predict_proba(TEXTS), second.predict_proba(TEXTS))
    assert (first.predict_proba(TEXTS) != third.predict_proba(TEXTS)).any()


def test_scikit_learn_can_clone_pipe_and_cross_validate_it(tiny: Path):
    model = quick(regard.Classifier, tiny, seed=5)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(epochs=2).epochs == 2
    piped = make_pipeline(FunctionTransformer(lambda texts: [t.upper() for t in texts]), quick(regard.Classifier, tiny))
    assert cross_val_score(piped, TEXTS, LABELS, cv=2).mean() > 0.9


def test_several_labels_a_number_and_pairs(tiny: Path):
    several = [["up", "any"] if i % 2 else ["any"] for i in range(120)]
    model = quick(regard.Classifier, tiny).fit(TEXTS, several)
    assert model.predict(["good a b"]) == [["any", "up"]]
    numbers = [10.0 if i % 2 else -10.0 for i in range(120)]
    regressor = quick(regard.Regressor, tiny).fit(TEXTS, numbers)
    assert regressor.score(TEXTS, numbers) > 0.95
    assert regressor.predict(["good a b"])[0] > 5
    pairs = [("a b", text) for text in TEXTS]
    assert quick(regard.Classifier, tiny).fit(pairs, LABELS).score(pairs, LABELS) > 0.95


def test_a_fitted_model_is_saved_for_everybody(tiny: Path, tmp_path: Path):
    model = quick(regard.Classifier, tiny, epochs=1).fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    np.testing.assert_allclose(regard.load(tmp_path / "model").predict(TEXTS), model.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "labels", "expected"),
    [
        ([], [], "0 texts"),
        (["a"], ["x", "y"], "1 texts and 2 labels"),
        (["a", "b"], ["x", "x"], "two classes"),
        ("a text", ["x"], "not one string"),
        (["a", ("b", "c")], ["x", "y"], "rows"),
    ],
)
def test_what_cannot_be_learned_is_said(tiny: Path, texts, labels, expected: str):
    with pytest.raises(regard.Problem, match=expected):
        quick(regard.Classifier, tiny).fit(texts, labels)


def test_before_fit_and_with_unknown_parameters(tiny: Path):
    with pytest.raises(regard.Problem, match="not been fitted"):
        quick(regard.Classifier, tiny).predict(["a"])
    with pytest.raises(regard.Problem, match="no parameter 'epoch'"):
        quick(regard.Classifier, tiny).set_params(epoch=1)
    with pytest.raises(regard.Problem, match=r"train\.epoch"):
        quick(regard.Classifier, tiny, options=("train.epoch=2",)).fit(TEXTS, LABELS)


@pytest.mark.parametrize("form", ["lists of numbers", "an indicator matrix"])
def test_several_labels_come_back_as_they_were_given(tiny: Path, form: str):
    lists = [[1, 7] if i % 2 else [7] for i in range(120)]
    given = lists if form == "lists of numbers" else np.array([[0, i % 2, 1] for i in range(120)])
    model = quick(regard.Classifier, tiny).fit(TEXTS, given)
    found = model.predict(TEXTS)
    assert type(found) is type(given)
    assert np.shape(found[0]) == np.shape(given[0]) or set(found[0]) <= {1, 7}
    assert model.score(TEXTS, given) > 0.95


def test_labels_may_come_in_a_series_whose_index_lacks_zero(tiny: Path):
    class Series(list):
        def __getitem__(self, place):
            raise KeyError(place)

    quick(regard.Classifier, tiny, epochs=1).fit(TEXTS, Series(LABELS))


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_label_or_half_a_pair_is_a_problem(tiny: Path, missing):
    with pytest.raises(regard.Problem, match="missing"):
        quick(regard.Classifier, tiny).fit(TEXTS, [missing, *LABELS[1:]])
    with pytest.raises(regard.Problem, match="no text"):
        quick(regard.Classifier, tiny).fit([("a", missing)] * 120, LABELS)


def test_patience_keeps_the_best_weights_and_needs_something_to_look_at(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    from regard import run
    from regard.train.loop import Evaluation

    values, seen = iter([0.9, 0.1, 0.1, 0.1]), []

    def evaluate(system, examples, metric):
        seen.append({name: weight.clone() for name, weight in system.model.state_dict().items()})
        value = next(values)
        return Evaluation(metric, value, value, value, value, np.full(len(examples), value))

    monkeypatch.setattr(run, "evaluation", evaluate)
    model = quick(regard.Classifier, tiny, validation=0.2, patience=2).fit(TEXTS, LABELS)
    assert len(seen) == 3
    assert all((weight == seen[0][name]).all() for name, weight in model.system_.model.state_dict().items())
    with pytest.raises(regard.Problem, match="validation"):
        quick(regard.Classifier, tiny, patience=2).fit(TEXTS, LABELS)


def test_texts_that_are_cut_are_announced(tiny: Path, caplog: pytest.LogCaptureFixture):
    quick(regard.Classifier, tiny, epochs=1, max_length=4).fit(TEXTS, LABELS)
    assert "120 of 120 texts are longer than 4 tokens and were cut" in caplog.text
