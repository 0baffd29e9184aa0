"""`regard pretrain`: from running text to a model that guesses, within a budget, killed and gone on with to the bit."""

import json
import lzma
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pytest
import safetensors.torch
import torch
from command import Running, typed

import regard
from regard import recipe as recipes
from regard import toml
from regard.errors import Problem
from regard.model.heads import Model
from regard.pretrain import pretrain
from regard.screen import Screen

for library in ("ftfy", "mwparserfromhell", "opencc", "py3langid"):
    pytest.importorskip(library)

WHO = ["the old sailor", "a young teacher", "his sister", "the tall doctor", "my neighbour", "the baker of the town"]
WHAT = ["walked slowly to", "was never seen in", "had always lived in", "wrote a long letter about", "came back from"]
WHERE = ["the quiet harbour", "a house by the river", "the market that he loved", "the dark woods", "her garden"]
WHY = ["because the rain had stopped", "with a dog and two cats", "and nobody knew why", "when it was late in the year"]


@pytest.fixture(scope="module")
def novel(tmp_path_factory):
    """A few hundred made-up paragraphs of plain English."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "novel.txt"
    lines = []
    for _ in range(300):
        lines += [f"{' '.join(map(rng.choice, (WHO, WHAT, WHERE, WHY)))}." for _ in range(rng.randint(3, 7))] + [""]
    path.write_text("\n".join(lines))
    return path


SHAPE = [
    "text.size=300", "text.length=32", "text.held_out=0.1", "model.width=32", "model.layers=2", "model.heads=2",
    "model.inner_width=64", "train.batch_tokens=512", "train.step_tokens=1024", "train.ramp=5000", "train.warmup=5",
    "train.precision=float32", "train.learning_rate=0.003", "evaluation.pseudo=30",
]  # fmt: skip


def recipe(out: Path, novel: Path, *changes: str) -> recipes.Pretraining:
    return toml.override(recipes.Pretraining(), [f"text.corpus={novel}", f"out={out}", *SHAPE, *changes])


def command(out: Path, novel: Path, *more: str) -> list[str]:
    return ["pretrain", "--corpus", str(novel), "--out", str(out), *SHAPE, *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory, novel):
    """A finished run of four hundred steps, and all that it said and logged."""
    out, said, rows = tmp_path_factory.mktemp("runs") / "novel", [], []
    result = pretrain(recipe(out, novel, "budget=400steps"), tell=said.append, watch=rows.append)
    return out, result, said, rows


def curve(folder: Path) -> list[tuple]:
    """What the log says of learning."""
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"], row["accuracy_en"]) for row in found if row["kind"] == "step"]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_run_learns_to_guess_hidden_words_of_text_that_was_held_out(made):
    out, result, said, rows = made
    (english,) = result.guesses
    assert english.language == "en" and english.top1.value > 0.5 and english.pseudo.value < 10
    steps = [row for row in rows if row["kind"] == "step"]
    assert steps[0]["loss"] > 3.5 > 2.5 > steps[-1]["loss"]
    wanted = {"accuracy_en", "tokens_per_second", "operations_per_second", "share_of_peak", "seconds_left"}
    assert wanted <= steps[-1].keys() and steps[-1]["seconds_left"] == 0 < steps[0]["seconds_left"]
    measured = [row for row in rows if row["kind"] == "evaluation"]
    assert [row["step"] for row in measured] == [100, 200, 300, 400]
    assert measured[-1]["top-1 accuracy"] == english.top1.value > measured[0]["top-1 accuracy"]
    assert any("tokens of en" in line for line in said) and any("400steps" in line for line in said)
    assert {path.name for path in out.iterdir()} == {
        "recipe.toml", "metrics.jsonl", "model", "report.html", "corpus", "vocab", "trunk.pt",
    }  # fmt: skip
    assert recipes.read(out / "recipe.toml", recipes.Pretraining).budget == "400steps"


def test_the_report_shows_scores_curves_and_guesses(made, browse):
    out, result, *_ = made
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page and "https://" not in page
    assert (
        f"guess of the model is right: {100 * result.guesses[0].top1.value:.1f} % in" in page
        and "pseudo-perplexity" in page
    )
    shown = browse(out / "report.html")
    assert shown.count("first guess") == 4 and "Training loss" in shown and 'budget = "400steps"' in shown


@pytest.mark.parametrize(("positions", "reach"), [(0, 32), (50, 50), (100, 64)])
def test_texts_that_begin_anywhere_teach_to_read_twice_as_far(positions, reach, made, novel, tmp_path):
    changes = ["text.begin=any", f"model.positions={positions}", f"text.vocabulary={made[0] / 'vocab'}"]
    pretrain(recipe(tmp_path / "run", novel, *changes, "budget=1steps", "evaluation.pseudo=0"))
    assert regard.load(tmp_path / "run").card.max_length == reach


def test_the_model_is_what_regard_and_transformers_load(made):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    out, *_ = made
    system = regard.load(out)
    assert system.card.max_length == 32 and system.card.lineage["budget"] == "400steps"
    text = "the [MASK] doctor had always lived in a house by the river."
    assert system.fill(text)[0][0][0] == "tall"
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    model, report = AutoModelForMaskedLM.from_pretrained(out / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    found = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**found).logits[found["input_ids"] == tokenizer.mask_token_id]
    assert tokenizer.convert_ids_to_tokens(logits.argmax(-1).tolist()) == ["tall"]
    assert system.encode([text, "his sister"]).shape == (2, 32)


def test_a_larger_budget_goes_on_to_the_bits_of_a_run_that_had_it_from_the_start(made, novel, tmp_path):
    first, again, once = tmp_path / "again", tmp_path / "again", tmp_path / "once"
    pretrain(recipe(first, novel, "budget=40steps"))
    small = weights(first)
    assert pretrain(recipe(again, novel, "budget=60steps"), resume=True).tokens
    rows = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
    pretrain(recipe(once, novel, "budget=60steps", "evaluation.times=1"))
    assert weights(again) == weights(once) != small
    steps = [row["step"] for row in rows if row["kind"] == "step"]
    assert steps == sorted(set(steps)) and steps[-1] == 60 and [row["kind"] for row in rows].count("result") == 1
    with pytest.raises(Problem, match="is finished"):
        pretrain(recipe(again, novel, "budget=60steps"), resume=True)
    with pytest.raises(Problem, match="too long for this budget"):
        pretrain(recipe(again, novel, "budget=30steps"), resume=True)
    with pytest.raises(Problem, match=r"with another recipe \(masking\.rate=0\.15, now 0\.2, seed=0, now 1\)"):
        pretrain(recipe(again, novel, "budget=90steps", "seed=1", "masking.rate=0.2"), resume=True)
    with pytest.raises(Problem, match="already holds a run"):
        pretrain(recipe(again, novel, "budget=90steps"))
    assert weights(again) == weights(once)


@pytest.mark.parametrize(
    ("said", "amount"),
    [
        ("25min", (25, "minutes")), ("25Min", (25, "minutes")), ("1.5h", (90, "minutes")), ("90 s", (1.5, "minutes")),
        ("1,000steps", (1000, "steps")), ("10_000 steps", (10_000, "steps")), ("50Mtokens", (5e7, "tokens")),
        ("50 M tokens", (5e7, "tokens")), ("2epochs", (2, "epochs")), (".5epochs", (0.5, "epochs")),
        *dict.fromkeys(("1,5h", "1.2.3h", "h", "5", "", "5 parsecs", "-1h", "0h", "1__0steps", "5mtokens"), ()).items(),
    ],
)  # fmt: skip
def test_a_budget_is_an_amount_and_a_unit(said, amount):
    if amount:
        assert recipes.budget(said) == pytest.approx(amount)
        return
    with pytest.raises(Problem, match="needs a budget"):
        recipes.budget(said)


@pytest.mark.parametrize(
    ("first", "cooldown"), [("budget=13steps", 0.2), ("budget=9ktokens", 0.2), ("budget=8steps", 0)]
)
def test_wherever_a_budget_ends_a_larger_one_goes_on_to_the_same_bits(novel, tmp_path, first, cooldown):
    more = ["evaluation.times=1", f"train.cooldown={cooldown}"]
    pretrain(recipe(tmp_path / "again", novel, first, *more))
    pretrain(recipe(tmp_path / "again", novel, "budget=24steps", *more), resume=True)
    pretrain(recipe(tmp_path / "once", novel, "budget=24steps", *more))
    rows = [json.loads(line) for line in (tmp_path / "again" / "metrics.jsonl").read_text().splitlines()]
    assert next(row["step"] for row in rows if row["kind"] == "step") == 1  # it was gone on with, and not begun again
    assert weights(tmp_path / "again") == weights(tmp_path / "once")


def test_what_cannot_be_gone_on_with_is_not_begun_again(novel, tmp_path):
    out = tmp_path / "run"
    pretrain(recipe(out, novel, "budget=4steps", "evaluation.times=1"))
    before = weights(out), (out / "metrics.jsonl").read_bytes()
    (out / "trunk.pt").unlink()
    with pytest.raises(Problem, match=r"its trunk\.pt is gone"):
        pretrain(recipe(out, novel, "budget=9steps", "evaluation.times=1"), resume=True)
    assert before == (weights(out), (out / "metrics.jsonl").read_bytes())


def test_a_run_that_is_refused_leaves_its_folder_open(novel, tmp_path):
    out = tmp_path / "run"
    pairs = tmp_path / "lines.txt"
    pairs.write_text("".join(f"{line}\n\n" for line in novel.read_text().splitlines() if line))
    with pytest.raises(Problem, match="two sentences"):
        pretrain(recipe(out, pairs, "budget=2steps", "text.pairs=next"))
    with pytest.raises(Problem, match="a call that was refused has left it"):
        pretrain(recipe(out, pairs, "budget=2steps", "text.document=line"))
    more = ["evaluation.times=1", "text.size=200"]  # another size than that of the vocabulary which is there
    pretrain(recipe(out, pairs, "budget=2steps", *more))
    assert len((out / "vocab" / "vocab.txt").read_text().splitlines()) <= 200
    before = (out / "recipe.toml").read_text()
    pretrain(recipe(out, pairs, "budget=20steps", *more), resume=True)
    later = (out / "recipe.toml").read_text()
    with pytest.raises(Problem, match="too long for this budget"):
        pretrain(recipe(out, pairs, "budget=3steps", *more), resume=True)
    assert before != later == (out / "recipe.toml").read_text()


@pytest.mark.parametrize("word", ["sailor", "[PAD]"])  # the very first token as well
def test_a_vocabulary_of_other_words_is_refused(word, made, novel, tmp_path):
    parent, *_ = made
    other = tmp_path / "vocab"
    shutil.copytree(parent / "vocab", other)
    whole = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(whole.replace(f'"{word}"', '"saylor"'))
    with pytest.raises(Problem, match=re.escape(f"'saylor' in the vocabulary and '{word}' in")):
        pretrain(recipe(tmp_path / "run", novel, "budget=2steps", f"model.name={parent}", f"text.vocabulary={other}"))


def test_a_run_goes_on_with_the_text_that_it_began_with(novel, tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "run"

    def run(budget, folder=out, *, resume=True):
        said: list[str] = []
        made = pretrain(recipe(folder, text, f"budget={budget}", "evaluation.times=1"), resume=resume, tell=said.append)
        assert any(line.startswith("goes on from step") for line in said) == resume
        return any("has changed or is gone since this run began" in line for line in said), made.folder

    shutil.copy(novel, text)
    run("10steps", resume=False)
    os.utime(text, (1, 1))
    assert not run("12steps")[0]
    text.write_bytes(novel.read_bytes() + b"And so they went home, and nobody ever spoke of it again.\n")
    assert run("15steps")[0]
    text.unlink()
    assert run("20steps")[0]
    text.write_bytes(novel.read_bytes())
    assert weights(out) == weights(run("20steps", tmp_path / "once", resume=False)[1])
    (out / "recipe.toml").unlink()  # no run was begun: what was built may be of another file
    text.unlink()
    for folder in (out, tmp_path / "another"):
        with pytest.raises(Problem, match=r"text\.txt"):
            run("20steps", folder)


@pytest.fixture(scope="module")
def paragraphs(shared):
    """Real English, some of it, a paragraph each."""
    with lzma.open(shared / "data" / "corpora" / "en_movie_reviews.txt.xz", "rt", encoding="utf-8") as file:
        return [line for line in islice(file, 400) if line.strip()]


@pytest.mark.parametrize(
    ("document", "pairs", "problem"),
    [("blank line", "none", ""), ("blank line", "next", "no second part is of another"), ("line", "none", "")],
)
def test_a_text_a_line_is_one_document_unless_it_is_told(paragraphs, tmp_path, document, pairs, problem):
    text, said = tmp_path / "lines.txt", []
    text.write_text("".join(paragraphs), encoding="utf-8")
    asked = recipe(tmp_path / "run", text, f"text.document={document}", f"text.pairs={pairs}", "budget=2steps")
    with pytest.raises(Problem, match=problem) if problem else nullcontext():
        pretrain(asked, tell=said.append)
    assert any("nothing is held out" in line for line in said) == (document != "line")


def test_how_files_are_read_is_said_where_they_are_files(paragraphs, tmp_path):
    text, plan = tmp_path / "text.jsonl", tmp_path / "plan.toml"
    text.write_text("".join(json.dumps({"said": paragraph}) + "\n" for paragraph in paragraphs), encoding="utf-8")
    plan.write_text('[[source]]\nname = "novel"\npath = "text.jsonl"\ntext = "said"\n')
    with pytest.raises(Problem, match=r"text\.text=said"):
        pretrain(recipe(tmp_path / "run", text, "budget=2steps"))
    assert pretrain(recipe(tmp_path / "run", text, "budget=2steps", "text.text=said")).tokens
    with pytest.raises(Problem, match=r"text\.text would tell .* a plan"):
        pretrain(recipe(tmp_path / "planned", plan, "budget=2steps", "text.text=said"))
    with pytest.raises(Problem, match=r"without a corpus.*/\*\.txt"):
        pretrain(recipe(tmp_path / "planned", tmp_path, "budget=2steps"))


def test_what_learns_is_compiled_where_the_recipe_says_so(novel, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr("regard.pretrain.compile_training", compiled.append)
    pretrain(recipe(tmp_path / "plain", novel, "budget=2steps"))
    assert not compiled
    pretrain(recipe(tmp_path / "compiled", novel, "budget=2steps", "train.compile=on"))
    assert [type(model) for model in compiled] == [Model]


def test_a_precision_that_is_emulated_is_said_to_be_slow(novel, tmp_path, monkeypatch):
    for fast in (True, False):
        said = []
        monkeypatch.setattr("regard.pretrain.has_bfloat16", lambda device, fast=fast: fast)
        asked = recipe(tmp_path / str(fast), novel, "budget=1steps", "train.precision=bfloat16", "text.held_out=0")
        pretrain(asked, tell=said.append)
        assert any(line.startswith("bfloat16 is emulated") for line in said) != fast


def test_a_model_is_gone_on_with_in_smaller_steps(made, novel, tmp_path):
    for name, most in (("", 1e-3), (str(made[0] / "model"), 1e-4)):
        rows, said = [], []
        changes = [f"model.name={name}", "budget=12steps", "train.learning_rate=0", "text.held_out=0"]
        pretrain(recipe(tmp_path / f"run{most}", novel, *changes), watch=rows.append, tell=said.append)
        assert max(row["learning_rate"] for row in rows if row["kind"] == "step") == pytest.approx(most)
        assert said.count("hidden words are not measured, for nothing is held out") == 1
        assert "evaluation" not in {row["kind"] for row in rows}


def test_what_is_left_aside_is_said(made, novel, tmp_path):
    said, parent = [], made[0] / "model"
    changes = [f"model.name={parent}", "model.positions=512", "model.start=random", "replaced.width=0.5"]
    pretrain(recipe(tmp_path / "run", novel, *changes, "budget=1steps", "text.held_out=0"), tell=said.append)
    assert [line.split(":")[0] for line in said if "left aside" in line] == [
        "model.start=random", "text.size=300", "replaced.width=0.5", "model.positions=512",
    ]  # fmt: skip
    said.clear()
    pretrain(recipe(tmp_path / "plain", novel, "budget=1steps", "text.held_out=0"), tell=said.append)
    assert not any("left aside" in line for line in said)


def test_a_vocabulary_that_cannot_write_the_text_is_said_to_lack_it(made, novel, tmp_path):
    chinese = "".join(f"第{number}位医生在医院工作，他住在上海。\n\n" for number in range(200))
    (tmp_path / "mixed.txt").write_text(novel.read_text() + "\n\n" + chinese, encoding="utf-8")
    words = [f"text.vocabulary={made[0] / 'vocab'}", "budget=2steps", "evaluation.times=1"]
    shown = " ".join(typed(*command(tmp_path / "run", tmp_path / "mixed.txt", *words)).stderr.split())
    assert re.search(r"\d+\.\d% of the tokens are \[UNK\], for the vocabulary", shown)
    assert re.search(r"zh: top-1 [^;]*; \d+% of these tokens are \[UNK\]", shown)
    assert re.search(r"\[UNK\] is right: \d+ in zh\.", (tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"en: top-1 [^;]*; ", shown.partition("zh: top-1")[0])


def test_one_document_has_no_interval_on_the_screen(capsys):
    score, none = {"value": 0.25, "low": math.nan, "high": math.nan}, {"low": math.nan, "high": math.nan}
    row = {"kind": "evaluation", "step": 5, "epoch": 0.1, "top-1 accuracy": 0.25, **none}
    row["languages"] = [
        {"language": "en", "places": 9, "unknown": 0, "pseudo": None, "top1": score, "top5": score, "loss": score}
    ]
    with Screen(quiet=False) as screen:
        screen.watch(row)
    shown = capsys.readouterr().err
    assert "accuracy 0.250 (a language has one document)" in shown and "25.0% (of one document)" in shown
    assert "nan" not in shown


def test_a_budget_that_ends_while_the_rate_still_rises_is_said_to_be_little(novel, tmp_path):
    for steps in 4, 5:
        said = []
        asked = recipe(tmp_path / f"run{steps}", novel, f"budget={steps}steps", "text.held_out=0")
        pretrain(asked, tell=said.append)
        assert any(line.startswith("the budget ended in step 4 of 5 in") for line in said) == (steps < 5)


def test_a_damaged_state_is_said(novel, tmp_path):
    out = tmp_path / "run"
    pretrain(recipe(out, novel, "budget=4steps", "evaluation.times=1"))
    data = bytearray((out / "trunk.pt").read_bytes())
    data[len(data) // 2] ^= 64
    (out / "trunk.pt").write_bytes(data)
    with pytest.raises(Problem, match="is damaged"):
        pretrain(recipe(out, novel, "budget=9steps", "evaluation.times=1"), resume=True)


def test_a_larger_budget_that_was_killed_before_its_first_step_is_not_taken_for_finished(novel, tmp_path):
    out = tmp_path / "run"
    done = []

    def share(what):
        done.append(what)
        return lambda share: None

    pretrain(recipe(out, novel, "budget=10steps", "evaluation.times=1"), share=share)
    assert "counting neighbours" in done
    larger = recipe(out, novel, "budget=20steps", "evaluation.times=1")
    toml.write(larger, out / "recipe.toml")  # as far as the killed call came
    done.clear()
    pretrain(larger, resume=True, share=share)
    assert "counting neighbours" not in done  # the weights are there, and need no start
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "result"] == [20]


BUDGETS = [("6000tokens", range(11, 15)), ("0.5epochs", range(25, 45)), ("2s", None)]


@pytest.mark.parametrize(("budget", "steps"), BUDGETS)
def test_a_budget_may_be_tokens_epochs_or_time(novel, tmp_path, budget, steps):
    rows = []
    result = pretrain(recipe(tmp_path / "run", novel, f"budget={budget}"), watch=rows.append)
    last = [row for row in rows if row["kind"] == "step"][-1]
    assert last["progress"] == 1 and (tmp_path / "run" / "trunk.pt").exists()
    if steps:
        assert last["step"] in steps
    else:
        assert 1.9 < result.seconds < 6


def test_a_published_checkpoint_is_gone_on_with(made, novel, tmp_path):
    parent, *_ = made
    out = tmp_path / "further"
    result = pretrain(recipe(out, novel, f"model.name={parent}", "budget=20steps", "train.learning_rate=0.001"))
    assert result.guesses[0].top1.value > 0.5  # not from nothing in so few steps
    before, after = (safetensors.torch.load_file(folder / "model" / "model.safetensors") for folder in (parent, out))
    assert before.keys() == after.keys() and not (out / "vocab").exists()
    assert (out / "model" / "vocab.txt").read_bytes() == (parent / "model" / "vocab.txt").read_bytes()
    lineage = regard.load(out).card.lineage
    assert lineage["model"] == str(parent) and lineage["parent"]["budget"] == "400steps"


def test_an_encoder_without_a_head_for_words_gets_one(novel, tiny, tmp_path):
    out = tmp_path / "run"
    pretrain(recipe(out, novel, f"model.name={tiny}", "budget=3steps", "evaluation.times=1"))
    assert "cls.predictions.bias" in safetensors.torch.load_file(out / "model" / "model.safetensors")
    assert regard.load(out).fill("a [MASK]")


def test_weights_stored_in_half_precision_compute_in_float32(made, novel, tmp_path):
    from transformers import AutoModelForMaskedLM

    parent, *_ = made
    out = tmp_path / "half"
    changes = ["model.stored=float16", f"model.name={parent}", "budget=2steps", "train.learning_rate=1e-9"]
    pretrain(recipe(out, novel, *changes))
    sizes = [len(weights(folder)) for folder in (parent, out)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)
    assert AutoModelForMaskedLM.from_pretrained(out / "model").dtype == torch.float32
    text = "the [MASK] doctor had always lived in a house by the river."
    whole, half = (regard.load(folder).fill(text)[0][0] for folder in (parent, out))
    assert whole[0] == half[0] and whole[1] == pytest.approx(half[1], abs=0.01)


def test_probes_try_the_vectors(made, novel, tmp_path):
    table = tmp_path / "rows.tsv"
    lines = [f"{' '.join((who, what, WHERE[0]))}\t{number % 2}" for number, (who, what) in enumerate(
        (who, what) for what in WHAT for who in (WHO[0], WHO[1]))]  # fmt: skip
    table.write_text("text\tlabel\n" + "\n".join(lines * 3) + "\n")
    path = tmp_path / "recipe.toml"
    changed = recipe(tmp_path / "run", novel, "budget=30steps", "evaluation.times=1")
    toml.write(changed, path)
    with path.open("a") as file:
        file.write(f'\n[[probe]]\nname = "who"\ntrain = "{table}"\ntest = "{table}"\n')
    rows = []
    result = pretrain(recipes.read(path, recipes.Pretraining), watch=rows.append)
    assert result.probes["who"].value > 0.9
    assert rows[-1]["probes"]["who"][0] == result.probes["who"].value
    again = recipes.read(tmp_path / "run" / "recipe.toml", recipes.Pretraining)
    assert [made.name for made in again.probe] == ["who"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_ends_in_the_same_bits(novel, tmp_path, times):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain(recipe(whole, novel, f"budget={100 * times}steps", "evaluation.times=2", "train.save_minutes=1000"))
    more = [f"budget={100 * times}steps", "evaluation.times=2", "train.save_minutes=0.002", "--json", "--resume"]
    rng, kills = random.Random(), 0
    for _ in range(40):
        running = Running(*command(broken, novel, *more))
        if kills < times:
            running.until_new(broken / "state.pt")
            time.sleep(rng.uniform(0, 0.3))
            running.send(signal.SIGKILL)
        done = running.end()
        kills += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert kills == times and weights(whole) == weights(broken)


def test_a_run_that_is_interrupted_saves_what_it_has_learnt(novel, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["budget=120steps", "evaluation.times=1", "train.save_minutes=1000"]
    log = broken / "metrics.jsonl"
    pretrain(recipe(whole, novel, *words))
    for number, code, said in (
        (signal.SIGINT, 130, "Stopped. A training run goes on"),
        (signal.SIGTERM, -15, "stopping"),
    ):
        before = log.read_bytes() if broken.exists() else b""
        running = Running(*command(broken, novel, *words, "--resume"))
        running.until(lambda before=before: log.exists() and log.read_bytes() != before)
        running.send(number)
        done = running.end()
        assert done.returncode == code and said in " ".join(done.stderr.split()), done.stderr
        assert (broken / "state.pt").exists()
    pretrain(recipe(broken, novel, *words), resume=True)
    assert weights(whole) == weights(broken) and curve(whole) == curve(broken)


BAD = {
    "no budget": (["budget="], "The run needs a budget"),
    "a budget of nothing": (["budget=0min"], "'0min' is none"),
    "a budget in no unit": (["budget=5parsecs"], "'5parsecs' is none"),
    "a corpus that is nowhere": (["text.corpus=nowhere.txt"], "nowhere.txt"),
    "a corpus that is not built": (
        ["text.corpus=nowhere/corpus"],
        "Build it (regard corpus build PLAN.toml --out nowhere",
    ),
    "a vocabulary that is not learnt": (["text.vocabulary=./nowhere"], "Learn it (regard vocab train "),
    "heads that do not share": (["model.heads=3"], "cannot be shared by model.heads=3"),
    "too few positions": (["model.positions=16"], "positions for 16 tokens"),
    "a vocabulary too large": (["model.name={tiny}", "text.vocabulary={vocab}"], "Leave text.vocabulary out"),
    "an unknown key": (["text.lenght=12"], "Did you mean 'length'?"),
    "a rate of no hidden words": (["masking.rate=0"], "masking.rate must be above 0"),
    "a rate that hides next to nothing": (["masking.rate=0.001"], "hides less than one of a batch's 512 tokens"),
    "shares that do not add up": (["masking.mask=0.5"], "sum to 1"),
    "everything held out": (["text.held_out=1"], "text.held_out must be"),
    "shares that do not add up, before anything is read": (["masking.mask=0.5", "text.corpus=/none"], "sum to 1"),
    "a probe without its files": (["probe.name=x"], "does not name one value"),
    "texts too long for the model": (["model.name={tiny}", "text.length=4096"], "positions for 64 tokens"),
}
AT_ONCE = {"heads that do not share", "too few positions", "texts too long for the model"}  # before text is read


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_said(case, made, novel, tiny, tmp_path):
    changes, said = BAD[case]
    parent, *_ = made
    known = {"{tiny}": tiny, "{vocab}": parent / "vocab"}
    for name, path in known.items():
        changes = [change.replace(name, str(path)) for change in changes]
    with pytest.raises(Problem, match=said.replace("(", r"\(").replace("?", r"\?")):
        pretrain(recipe(tmp_path / "run", novel, "budget=2steps", *changes))
    assert case not in AT_ONCE or not (tmp_path / "run").exists()


def test_a_damaged_file_of_tokens_is_said_and_what_was_learnt_is_kept(novel, tmp_path):
    out = tmp_path / "run"
    pretrain(recipe(out, novel, "budget=10steps", "evaluation.times=1"))
    before = weights(out), (out / "trunk.pt").read_bytes()
    (ids,) = out.glob("corpus/tokens/*/ids.bin")
    whole = ids.read_bytes()
    ids.write_bytes(whole[:-10])
    with pytest.raises(Problem, match="is truncated"):
        pretrain(recipe(out, novel, "budget=20steps"), resume=True)
    ids.write_bytes(whole[:100] + b"\xff\xff" + whole[102:])
    with pytest.raises(Problem, match="beyond the vocabulary"):
        pretrain(recipe(out, novel, "budget=20steps"), resume=True)
    ids.write_bytes(whole)
    assert before == (weights(out), (out / "trunk.pt").read_bytes())
    pretrain(recipe(out, novel, "budget=20steps"), resume=True)


def test_a_full_disk_is_said_and_the_run_goes_on_to_the_same_bits(novel, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    pretrain(recipe(whole, novel, "budget=40steps", "evaluation.times=1"))
    pretrain(recipe(out, novel, "budget=10steps", "evaluation.times=1"))
    before = weights(out), (out / "trunk.pt").read_bytes()
    more = ["budget=40steps", "evaluation.times=1", "train.save_minutes=0", "--resume"]
    room = len(before[1]) // 2  # bytes of a file: more than the weights have, fewer than a state
    done = subprocess.run(
        [sys.executable, "-m", "regard", *command(out, novel, *more)], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )  # fmt: skip
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "cannot be written: File too large. Free some space" in said, said
    assert before == (weights(out), (out / "trunk.pt").read_bytes()) and not list(out.glob("*.partial"))
    pretrain(recipe(out, novel, *more[:-1]), resume=True)
    assert weights(out) == weights(whole)


def test_a_bad_byte_spoils_its_document_alone(novel, tmp_path):
    text = tmp_path / "novel.txt"
    text.write_bytes(novel.read_bytes().replace(b"sailor", b"sail\xffr", 1))
    pretrain(recipe(tmp_path / "run", text, "budget=2steps", "evaluation.times=1"))
    about = json.loads((tmp_path / "run" / "corpus" / "corpus.json").read_text())
    assert about["dropped"]["undecodable"] == 1 and about["documents"] > 100
    assert list((tmp_path / "run" / "corpus").glob("dropped-undecodable-*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--corpus", "a.txt", "--corpus", "b.txt"],
            "--corpus names 2 texts. Name several files by a pattern in quotes",
        ),
        (["--corpus", "a.txt", "{novel}"], "novel.txt is no recipe, which is a .toml file."),
        (["{plan}"], "is the plan of a corpus, and no recipe."),
        (["--resume"], "--resume goes on with the run in a folder."),
    ],
)
def test_what_is_named_in_the_wrong_place_is_told_its_own(words, said, novel, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('[[source]]\nname = "a"\npath = "a.txt"\n')
    words = [word.format(novel=novel, plan=plan) for word in words]
    done = typed("pretrain", *words, "budget=1steps")
    assert done.returncode == 2 and said in " ".join(done.stderr.split())


def test_the_verb_shows_what_it_does(novel, tmp_path):
    done = typed(*command(tmp_path / "run", novel, "budget=20steps", "--json"))
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert table["languages"][0]["language"] == "en" and table["tokens"] > 9000
    wrong = typed("pretrain", tmp_path, "budget=40steps")
    assert wrong.returncode == 2 and "is no recipe that can be read" in wrong.stderr
    shown = typed("pretrain", "--resume", f"out={tmp_path / 'run'}", "budget=40steps")
    assert shown.returncode == 0, shown.stderr
    assert "pseudo-perplexity" in shown.stderr and "of peak" not in shown.stdout
    told = typed("pretrain", "--help")
    assert told.returncode == 0 and "budget=25min" in told.stdout, told.stderr
