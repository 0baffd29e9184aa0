"""The commands as a user types them, in processes of their own."""

import csv
import gzip
import json
import signal
from pathlib import Path

import pytest
from command import Running, typed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path, reviews: Path) -> Path:
    """A run of the main job."""
    out = tmp_path_factory.mktemp("runs") / "reviews"
    done = typed(
        "train", "--data", reviews, "--model", tiny, "--out", out, "--json",
        "train.epochs=16", "train.learning_rate=0.01", "train.batch_tokens=256", "train.precision=float32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["scores"][0]["name"] == "accuracy"
    assert result["scores"][0]["value"] > 0.9
    assert result["baselines"]["majority"][0]["value"] < 0.7
    return out


def test_a_run_writes_its_folder(trained: Path):
    assert {p.name for p in trained.iterdir()} == {"recipe.toml", "metrics.jsonl", "model", "report.html"}
    names = {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "regard.json"}
    assert {p.name for p in (trained / "model").iterdir()} == names
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"step", "evaluation", "result"}
    page = (trained / "report.html").read_text()
    assert "positive" in page and "http://" not in page and "https://" not in page


def test_the_run_can_be_predicted_with(trained: Path):
    done = typed("predict", trained, "a b good c", "a bad b")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["positive", "negative"]
    answers = json.loads(typed("predict", trained, "a bad b", "--json").stdout)["answers"]
    assert answers[0]["label"] == "negative"
    assert answers[0]["probabilities"].keys() == {"negative", "positive"}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".tsv"])
def test_a_file_is_predicted_into_a_file_of_its_kind(trained: Path, tmp_path: Path, suffix: str):
    from regard.data.sources import read, write

    write(
        [{"review": "a good b", "id": "1"}, {"review": "", "id": "2"}, {"review": "bad c", "id": "3"}],
        tmp_path / f"in{suffix}",
    )
    done = typed("predict", trained, f"in{suffix}", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["rows"], said["predicted"], len(said["skipped"])) == (3, 2, 1)
    out = read(tmp_path / f"in.predicted{suffix}")
    assert [str(v or "") for v in out.columns["predicted"]] == ["positive", "", "negative"]
    assert [str(v) for v in out.columns["id"]] == ["1", "2", "3"]


def test_a_published_file_without_an_ending_is_named_its_format(trained: Path, tmp_path: Path):
    with gzip.open(tmp_path / "reviews.test.gz", "wt") as file:
        file.write("positive a good b\nnegative a bad c\n")
    done = typed("predict", trained, "reviews.test.gz", "--format", "lines", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "negative" in (tmp_path / "reviews.predicted.csv").read_text()
    done = typed("eval", trained, "reviews.test.gz", "--format", "lines", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["scores"][0]["value"] == 1.0


@pytest.mark.parametrize(
    ("words", "said"), [(["a.csv"], "no file a.csv"), (["b.csv", "--out", "c.doc"], "c.doc does not")]
)
def test_a_mistyped_name_is_no_text_and_costs_no_work(words, said, trained: Path, tmp_path: Path):
    (tmp_path / "b.csv").write_text("text\na good film\n")
    done = typed("predict", trained, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_a_model_is_measured_on_a_file(trained: Path, reviews: Path):
    done = typed("eval", trained, reviews, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 400
    accuracy = found["scores"][0]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert "accuracy" in typed("eval", trained, reviews).stdout


def test_attention_is_shown_and_sums_to_one(trained: Path):
    done = typed("look", trained, "a good film", "bad film", "--layer", "1", "--head", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tokens"] == ["[CLS]", "a", "good", "film", "[SEP]", "bad", "film", "[SEP]"]
    assert (found["layers"], found["heads"]) == ([1], [3])
    assert [round(sum(row), 4) for row in found["weights"][0][0]] == [1.0] * 8
    assert "what each head mostly looks at" in typed("look", trained, "a good film").stdout
    assert "layer 0, head 2" in typed("look", trained, "a good film", "--layer", "0", "--head", "2").stdout
    assert "2 good looks at" in typed("look", trained, "a good film", "--from", "good").stdout
    assert "who looks at 2 good" in typed("look", trained, "a good film", "--to", "good").stdout


def test_a_page_is_written_and_said(trained: Path, tmp_path: Path):
    done = typed("look", trained, "a good film", "--from", "a", "--to", "film", "--html", tmp_path / "a.html")
    assert done.returncode == 0, done.stderr
    assert "how much 1 a looks at 3 film" in done.stdout and "a.html" in done.stdout
    assert "not measured on this model" in done.stdout
    assert "</html>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_recipe_and_changes_give_the_same_run_again(trained: Path, tmp_path: Path):
    out = tmp_path / "again"
    assert typed("train", trained / "recipe.toml", f"out={out}").returncode == 0
    first, second = (folder / "model" / "model.safetensors" for folder in (trained, out))
    assert first.read_bytes() == second.read_bytes()


def test_a_model_of_pairs_asks_for_the_second_text(tiny: Path, tmp_path: Path):
    rows = [
        {"sentence1": f"a good {chr(97 + i % 26)}", "sentence2": "bad"[: 1 + i % 3], "score": i % 13 / 3}
        for i in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = typed(
        "train", "--data", "pairs.jsonl", "--model", tiny, "--out", "run", "train.epochs=1", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout, parse_constant=pytest.fail)["task"] == "regress"
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    (tmp_path / "new.jsonl").write_text(json.dumps({"sentence1": "a", "other": "b"}))
    done = typed("predict", "run", "new.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "trained on pairs" in " ".join(done.stderr.split())
    assert typed("predict", "run", "new.jsonl", "--pair", "other", cwd=tmp_path).returncode == 0


def test_rows_that_share_a_line_have_answers_of_their_own(trained: Path, tmp_path: Path):
    (tmp_path / "in.json").write_text(json.dumps([{"review": "a good b"}, {"review": "a bad b"}, {"review": "good c"}]))
    done = typed("predict", trained, "in.json", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["predicted"] == 3
    rows = json.loads((tmp_path / "in.predicted.json").read_text())
    assert [row["predicted"] for row in rows] == ["positive", "negative", "positive"]


def test_a_finished_run_is_not_resumed(trained: Path):
    before = (trained / "model" / "model.safetensors").read_bytes()
    for words in ([], ["seed=9"]):
        done = typed("train", "--resume", "--out", trained, *words)
        assert done.returncode == 2
        assert "is finished" in " ".join(done.stderr.split())
    assert (trained / "model" / "model.safetensors").read_bytes() == before


def test_resume_may_be_said_from_the_first_call_on(tiny: Path, reviews: Path, tmp_path: Path):
    words = ("--data", reviews, "--model", tiny, "--out", tmp_path / "run", "train.epochs=0.2")
    assert typed("train", "--resume", *words).returncode == 0


def test_a_run_is_not_resumed_on_other_data(tiny: Path, reviews: Path, tmp_path: Path):
    data, run = tmp_path / "data.csv", tmp_path / "run"
    data.write_bytes(reviews.read_bytes())
    words = ("train", "--data", data, "--model", tiny, "--out", run, "train.epochs=60", "train.save_minutes=0")
    running = Running(*words)
    running.until((run / "state.pt").exists)
    running.send(signal.SIGKILL)
    running.end()
    data.write_text(reviews.read_text().replace("good", "fine"))
    done = typed("train", "--resume", "--out", run)
    assert done.returncode == 2
    assert "The data has changed" in " ".join(done.stderr.split())


def test_an_interrupted_run_saves_what_it_has_learnt(tiny: Path, reviews: Path, tmp_path: Path):
    run = tmp_path / "run"
    words = ("train", "--data", reviews, "--model", tiny, "--out", run, "train.epochs=20", "train.save_minutes=1000")
    running = Running(*words)
    running.until((run / "metrics.jsonl").exists)
    running.send(signal.SIGINT)
    stopped = running.end()
    assert stopped.returncode == 130 and "goes on with --resume" in " ".join(stopped.stderr.split()), stopped.stderr
    done = typed("train", "--resume", "--out", run, "train.epochs=20")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.epochs=0", "never end"), ("train.batch_size=-1", "batch_size"), ("train.accumulate=0", "accumulate"),
        ("seed=-1", "seed"), ("model.dropout=1", "dropout"), ("data.held_out=0.5", "held_out"),
        ("data.held_out=0", "held_out"), ("train.metric=acuracy", "no metric 'acuracy'"), ("train.warmup=1", "warmup"),
    ],
)  # fmt: skip
def test_numbers_with_which_no_run_can_be(change, said, tiny: Path, reviews: Path, tmp_path: Path):
    done = typed("train", "--data", reviews, "--model", tiny, "--out", tmp_path / "run", change)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_run_is_not_resumed_with_another_recipe(trained: Path, tmp_path: Path):
    (tmp_path / "recipe.toml").write_bytes((trained / "recipe.toml").read_bytes())
    (tmp_path / "state.pt").write_bytes(b"")
    done = typed("train", "--resume", "--out", tmp_path, "train.epochs=3")
    assert done.returncode == 2
    assert "another recipe" in done.stderr


def test_early_stopping_keeps_the_best_weights(tiny: Path, reviews: Path, tmp_path: Path):
    done = typed(
        "train", "--data", reviews, "--model", tiny, "--out", tmp_path / "run",
        "train.epochs=50", "train.patience=2", "train.learning_rate=0.01", "train.precision=float32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 evaluations without progress" in done.stderr
    assert not (tmp_path / "run" / "best.pt").exists()


BAD = {
    "no data": (["train", "--model", "{tiny}"], "--data"),
    "missing file": (["train", "--data", "nowhere.csv", "--model", "{tiny}"], "nowhere.csv"),
    "missing model": (["train", "--data", "{reviews}", "--model", "no/such-model"], "no/such-model"),
    "bad key": (["train", "--data", "{reviews}", "train.epoch=2"], "train.epoch"),
    "bad value": (["train", "--data", "{reviews}", "train.epochs=many"], "must be a number"),
    "missing column": (["train", "--data", "{reviews}", "--model", "{tiny}", "data.text=txt"], "txt"),
    "used folder": (["train", "--data", "{reviews}", "--model", "{tiny}", "--out", "{trained}"], "--resume"),
    "no run": (["predict", "nowhere/at-all/x", "text"], "nowhere"),
    "no head": (["predict", "{tiny}", "text"], "no head"),
    "no layer": (["look", "{trained}", "text", "--layer", "7"], "numbered from 0 to 1"),
    "no position": (["look", "{trained}", "film", "--from", "zebra"], "zebra"),
    "no edit": (["edit", "{trained}", "{reviews}"], "Name edits"),
    "an edit and a ranking": (["edit", "{trained}", "{reviews}", "--rank", "--drop", "0.1"], "one of the two"),
    "an edit of nothing": (["edit", "{trained}", "{reviews}", "--drop", "2.0"], "no layer 2"),
    "an edit unread": (["edit", "{trained}", "{reviews}", "--forbid", "1.1:a"], "1.1:a"),
    "an edit of no token": (["edit", "{trained}", "{reviews}", "--drop", "0.0:goodness"], "goodness"),
    "an empty row": (["edit", "{trained}", "{reviews}", "--forbid", "0.0:*->*"], "nothing to attend to"),
    "a patch from nowhere": (["edit", "{trained}", "{reviews}", "--patch", "0.0"], "--with"),
    "no edits file": (["edit", "{trained}", "{reviews}", "--edits", "nowhere.json"], "nowhere.json"),
    "no ranking": (["edit", "{trained}", "{reviews}", "--drop", "0.0", "--out", "x.parquet"], "--out is for --rank"),
    "a ranking kept": (["edit", "{trained}", "{reviews}", "--rank", "--save", "x.json"], "--rank makes none"),
    "no precision": (["eval", "{trained}", "{reviews}", "--precision", "float16"], "no precision 'float16'"),
    "no recipe": (["train", "nowhere.toml"], "nowhere.toml"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_error_is_one_paragraph_with_its_cure(name: str, trained: Path, tiny: Path, reviews: Path, tmp_path: Path):
    words, expected = BAD[name]
    filled = [word.format(tiny=tiny, reviews=reviews, trained=trained) for word in words]
    out = ["--out", tmp_path / "run"] if words[0] == "train" and "--out" not in words else []
    done = typed(*filled, *out)
    assert done.returncode == 2
    assert expected in done.stderr
    paragraph = done.stderr[done.stderr.index("regard: ") :].strip()
    assert "Traceback" not in done.stderr and "\n\n" not in paragraph
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{model}", "{reviews}"],
        ["edit", "{model}", "{reviews}", "--rank"],
        ["faithful", "{model}", "{reviews}"],
        ["heads", "{model}", "{reviews}"],
        ["heads", "query", "{model}", "SELECT 1"],
        ["clark", "{model}", "--corpus", "{reviews}"],
    ],
    ids=" ".join,
)
def test_a_folder_as_out_is_refused_before_the_work(words, reviews: Path, tmp_path: Path):
    """The model, which would be a problem as well, is not asked for."""
    (tmp_path / "a.csv").mkdir()
    done = typed(*(word.format(model="no/such-model", reviews=reviews) for word in words), "--out", tmp_path / "a.csv")
    assert done.returncode == 2
    assert "a.csv is a folder" in " ".join(done.stderr.split())


def test_debug_shows_the_traceback(tmp_path: Path):
    done = typed("train", "--data", "nowhere.csv", "--out", tmp_path / "run", "--debug")
    assert "Traceback" in done.stderr


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    return path


def test_hard_texts_train_and_predict(tiny: Path, tmp_path: Path):
    hard = ["good " * 20000, "😀😀", "bad\x00film", "中文", "good\nfilm", "   bad ", "\u202egood", "a" * 500]
    rows = [[f"{text}{copy}", "yes" if "good" in text else "no"] for text in hard for copy in range(8)]
    data = write_rows(tmp_path / "hard.csv", rows)
    done = typed("train", "--data", data, "--model", tiny, "--out", tmp_path / "run", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "were cut" in done.stderr
    windows = typed(
        "train", "--data", data, "--model", tiny, "--out", tmp_path / "windows", "train.epochs=1", "data.stride=8"
    )
    assert windows.returncode == 0, windows.stderr
    assert "windows for" in windows.stderr
    for run in ("run", "windows"):
        assert typed("predict", tmp_path / run, *[t.replace("\x00", "") for t in hard]).returncode == 0


@pytest.mark.parametrize("name", ["empty", "header only", "one class", "latin-1"])
def test_a_file_that_cannot_be_trained_on_says_why(name: str, tiny: Path, tmp_path: Path):
    content = {
        "empty": b"",
        "header only": b"text,label\n",
        "one class": b"text,label\na,x\nb,x\nc,x\nd,x\n",
        "latin-1": ("text,label\n" + "café crème,x\nnaïve,y\n" * 10).encode("latin-1"),
    }[name]
    (tmp_path / "bad.csv").write_bytes(content)
    done = typed("train", "--data", tmp_path / "bad.csv", "--model", tiny, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert {"one class": "class", "latin-1": "encoding"}.get(name, "bad.csv") in done.stderr


def test_edits_are_typed_kept_and_measured(trained: Path, reviews: Path, tmp_path: Path):
    words = ("--drop", "0.1,1.0-2", "--force", "1.3:[CLS]->good=0.9", "--patch", "0.0:first", "--with", "a bad film")
    done = typed("edit", trained, reviews, *words, "--save", tmp_path / "edits.json", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n"] == 400
    assert found["edits"][0] == "force 1.3:[CLS]->good=0.9"
    assert (
        found["difference"]["low"] <= found["after"]["value"] - found["before"]["value"] <= found["difference"]["high"]
    )
    again = typed("edit", trained, reviews, "--edits", tmp_path / "edits.json", "--json")
    assert json.loads(again.stdout) == found
    said = typed("edit", trained, reviews, "--edits", tmp_path / "edits.json", "--scale", "*.*=0").stdout
    assert "force 1.3:[CLS]->good=0.9, drop 0.1" in said and "paired" in said and "spoilt" in said


def test_heads_are_ranked_into_a_table(trained: Path, reviews: Path, tmp_path: Path):
    from regard.data.sources import read

    done = typed("edit", trained, reviews, "--rank", "--out", tmp_path / "importance.parquet")
    assert done.returncode == 0, done.stderr
    assert "do 8 heads stand in the same order?" in done.stdout
    table = read(tmp_path / "importance.parquet").columns
    assert [*table] == ["layer", "head", "statistic", "n", "mean", "low", "high", "rank"]
    assert len(table["rank"]) == 7 * 8
