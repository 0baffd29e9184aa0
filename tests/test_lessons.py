"""What a pre-training run can teach beside hidden words: pairs of sentences, and replaced tokens."""

import json
import random

import pytest
import safetensors.torch
import torch
from command import typed

import regard
from regard import recipe as recipes
from regard import toml
from regard.errors import Problem
from regard.pretrain import pretrain

for library in ("ftfy", "mwparserfromhell", "opencc", "py3langid"):
    pytest.importorskip(library)

WHO = {
    "sailor": ["ship", "harbour", "sails"], "farmer": ["field", "plough", "horses"],
    "baker": ["oven", "bread", "flour"], "doctor": ["patient", "hospital", "medicine"],
    "king": ["crown", "castle", "throne"],
}  # fmt: skip
WHEN = ["At dawn", "At noon", "At dusk", "At night"]
WHAT = ["saw", "found", "left", "sold"]


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Several hundred days, each of one person, from morning to night."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "days.txt"
    lines = []
    for _ in range(600):
        who = rng.choice(sorted(WHO))
        lines += [f"{when} the {who} {rng.choice(WHAT)} {' and '.join(rng.sample(WHO[who], 2))}." for when in WHEN] + [
            ""
        ]
    path.write_text("\n".join(lines))
    return path


SHAPE = [
    "text.size=300", "text.length=64", "text.held_out=0.1", "model.width=32", "model.layers=2", "model.heads=2",
    "model.inner_width=64", "train.batch_tokens=1024", "train.step_tokens=1024", "train.ramp=0", "train.warmup=20",
    "train.precision=float32", "train.learning_rate=0.003", "evaluation.pseudo=0", "evaluation.times=1",
]  # fmt: skip


def recipe(out, days, *changes):
    return toml.override(recipes.Pretraining(), [f"text.corpus={days}", f"out={out}", *SHAPE, *changes])


def weights(folder, part="model"):
    return (folder / part / "model.safetensors").read_bytes()


class KilledError(Exception):
    """What ends a run in the midst of it."""


def broken_off(recipe, step):
    """Carries out a recipe until a step, with the state saved at each."""

    def watch(row):
        if row["kind"] == "step" and row["step"] >= step:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain(recipe, watch=watch)


@pytest.fixture(scope="module", params=["next", "order"])
def paired(request, days, tmp_path_factory):
    """A run that has learnt pairs: which, where it is, what it came to, and what it logged."""
    out, rows = tmp_path_factory.mktemp("runs") / request.param, []
    changes = [f"text.pairs={request.param}", "budget=600steps", "train.learning_rate=0.004"]
    return request.param, out, pretrain(recipe(out, days, *changes), watch=rows.append), rows


def test_pairs_are_learnt_beside_words(paired):
    _, out, result, rows = paired
    assert result.scores["pairs in en"].low > 0.6 and result.guesses[0].top1.value > 0.4
    steps = [row["accuracy_pairs"] for row in rows if row["kind"] == "step"]
    assert steps[-1] > 0.75 > 0.65 > steps[1]
    (measured,) = [row for row in rows if row["kind"] == "evaluation"]
    assert measured["scores"]["pairs in en"][0] == result.table()["scores"]["pairs in en"] > 0.7
    assert '"pairs in en"' in (out / "metrics.jsonl").read_text()


def test_transformers_loads_both_heads_with_its_own_meaning_of_labels(paired):
    from transformers import AutoTokenizer, BertForPreTraining

    kind, out, *_ = paired
    model, report = BertForPreTraining.from_pretrained(out / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert json.loads((out / "model" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    first, second = "At dawn the king saw crown and castle.", "At noon the king left throne and castle."
    other = "At noon the baker left oven and bread."
    false = (first, other) if kind == "next" else (second, first)
    system = regard.load(out)
    assert system.card.pooling == "first" and system.model.pairs is not None
    for (one, two), label in (((first, second), 0), (false, 1)):
        with torch.no_grad():
            found = model.eval()(**tokenizer(one, two, return_tensors="pt"))
            encoding = system.tokenizer.encode([one], [two], max_length=64)
            ((_, packed),) = system.packs(encoding)
            ours = system.model.pairs(system.model(packed, hidden=False).pooled)
        assert found.seq_relationship_logits.argmax(-1).item() == label
        torch.testing.assert_close(ours, found.seq_relationship_logits, atol=1e-4, rtol=1e-4)


def test_what_was_learnt_of_pairs_is_gone_on_with(paired, days, tmp_path):
    kind, out, *_ = paired
    rows = []
    changes = [f"text.pairs={kind}", f"model.name={out}", "budget=12steps"]
    pretrain(recipe(tmp_path / "on", days, *changes), watch=rows.append)
    assert rows[0]["accuracy_pairs"] > 0.75  # not from nothing
    before, after = (
        safetensors.torch.load_file(folder / "model" / "model.safetensors") for folder in (out, tmp_path / "on")
    )
    assert before.keys() == after.keys()
    assert not torch.equal(before["cls.seq_relationship.weight"], after["cls.seq_relationship.weight"])


def test_a_pooler_that_a_checkpoint_has_is_kept(tiny, days, tmp_path):
    out = tmp_path / "run"
    pretrain(recipe(out, days, "text.pairs=next", f"model.name={tiny}", "budget=1steps", "train.learning_rate=1e-6"))
    before, after = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (tiny, out / "model"))
    torch.testing.assert_close(before["pooler.dense.weight"], after["bert.pooler.dense.weight"], atol=1e-4, rtol=0)


def test_pairs_that_are_not_there_to_be_measured_are_said(days, tmp_path):
    path, said = tmp_path / "days.txt", []
    path.write_text(days.read_text() + "\n\nno more was said on that day\n")  # the shortest, which is held out
    pretrain(
        recipe(tmp_path / "run", path, "text.pairs=next", "text.held_out=0.00001", "budget=1steps"), tell=said.append
    )
    assert any(line.startswith("pairs of what is held out are not measured: No sequence holds two") for line in said)


@pytest.fixture(scope="module")
def replaced(days, tmp_path_factory):
    """A run that has learnt to detect replaced tokens: where it is, what it came to, and what it logged."""
    out, rows = tmp_path_factory.mktemp("runs") / "replaced", []
    changes = ["train.objective=replaced", "budget=300steps", "masking.unit=token"]
    return out, pretrain(recipe(out, days, *changes), watch=rows.append), rows


def test_replaced_tokens_are_detected_and_words_guessed(replaced):
    out, result, rows = replaced
    assert result.guesses[0].top1.value > 0.4
    found, kept = (result.scores[f"{name} tokens in en"] for name in ("replaced", "original"))
    assert found.low + kept.low > 1.1 and kept.low > 0.9  # by chance the two would add up to 1
    steps = [row for row in rows if row["kind"] == "step"]
    assert {"accuracy_en", "accuracy_replaced", "accuracy_original"} <= steps[-1].keys()
    assert "Guessed by the generator." in (out / "report.html").read_text(encoding="utf-8")
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"] and steps[-1]["accuracy_replaced"] > 0.3
    assert '"replaced tokens in en"' in (out / "metrics.jsonl").read_text()


def test_the_generator_fills_and_is_measured_and_the_discriminator_is_a_bert(replaced):
    from transformers import AutoModelForMaskedLM, AutoTokenizer, BertModel

    out, *_ = replaced
    place, text = out / "generator", "At dawn the king saw crown [MASK] castle."
    assert regard.load(place, precision="float32").fill(text)[0][0][0] == "and"
    model, report = AutoModelForMaskedLM.from_pretrained(place, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(place)
    found = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**found).logits[found["input_ids"] == tokenizer.mask_token_id]
    assert tokenizer.convert_ids_to_tokens(logits.argmax(-1).tolist()) == ["and"]
    assert (model.config.hidden_size, model.config.num_attention_heads) == (16, 1)  # of two heads as wide
    corpus = recipes.read(out / "recipe.toml", recipes.Pretraining).text.corpus
    done = typed("perplexity", place, corpus, "--length", "64", "--pseudo", "0", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["languages"][0]["top1"]["value"] > 0.4

    system = regard.load(out)
    assert system.model.detector is not None and system.model.words is None
    _, report = BertModel.from_pretrained(out / "model", output_loading_info=True, add_pooling_layer=False)
    strangers = [name for name in report["unexpected_keys"] if not name.startswith("discriminator_predictions.")]
    assert not report["missing_keys"] and not strangers


def test_what_detects_is_gone_on_with(replaced, days, tmp_path):
    out, *_ = replaced
    rows = []
    changes = ["train.objective=replaced", f"model.name={out}", "budget=1steps", "train.learning_rate=1e-7"]
    pretrain(recipe(tmp_path / "on", days, *changes), watch=rows.append)
    before, after = (safetensors.torch.load(weights(folder)) for folder in (out, tmp_path / "on"))
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(before[name], after[name], atol=1e-4, rtol=0)


def test_replaced_tokens_and_pairs_are_not_learnt_together(days, tmp_path):
    with pytest.raises(Problem, match="texts of one part"):
        pretrain(recipe(tmp_path / "run", days, "train.objective=replaced", "text.pairs=next", "budget=1steps"))
    with pytest.raises(Problem, match=r"replaced\.width must be above 0"):
        pretrain(recipe(tmp_path / "run", days, "train.objective=replaced", "replaced.width=0", "budget=1steps"))


LESSONS = {"next": ["text.pairs=next"], "order": ["text.pairs=order"], "replaced": ["train.objective=replaced"]}


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_broken_run_and_a_larger_budget_end_in_the_bits_of_a_whole_run(lesson, days, tmp_path):
    changes = [*LESSONS[lesson], "model.dropout=0.1"]
    whole, broken, larger = (tmp_path / name for name in ("whole", "broken", "larger"))
    pretrain(recipe(whole, days, *changes, "budget=40steps", "evaluation.times=2"))
    broken_off(recipe(broken, days, *changes, "budget=40steps", "train.save_minutes=0"), 20)
    assert (broken / "state.pt").exists() and not (broken / "model").exists()
    pretrain(recipe(broken, days, *changes, "budget=40steps", "train.save_minutes=0"), resume=True)
    pretrain(recipe(larger, days, *changes, "budget=20steps"))
    small = weights(larger)
    pretrain(recipe(larger, days, *changes, "budget=40steps"), resume=True)
    assert weights(whole) == weights(broken) == weights(larger) != small
    if lesson == "replaced":
        assert weights(whole, "generator") == weights(broken, "generator") == weights(larger, "generator")
