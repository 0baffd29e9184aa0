"""A pass over a corpus: its table, its questions in SQL, and that killed it goes on to the same numbers."""

import gzip
import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command import typed

import regard
from regard.data.corpus import Corpus
from regard.errors import Problem
from regard.lens.statistics import Moments
from regard.study import heads, texts
from regard.study.store import query


@pytest.fixture(scope="module")
def system(tiny):
    return regard.load(tiny, precision="float32")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list("abcdef ."), rng.integers(1, 60))) for _ in range(400)]
    path.write_text("\n".join(line if n % 7 else "" for n, line in enumerate(lines)) + "\n")
    return path


def numbers(found):
    return {(r["layer"], r["head"], r["statistic"]): (r["n"], r["mean"], r["deviation"]) for r in found.rows}


def test_a_text_counts_once_and_agrees_with_a_look_at_it(system, corpus):
    found = heads.study(system, Corpus(corpus), heads.Plan())
    texts = [line for line in corpus.read_text().splitlines() if line.strip()]
    assert found.texts == len(texts)
    weights = [system.look(text).weights for text in texts[:400]]
    entropy = [-np.where(w > 0, w * np.log(np.maximum(w, 1e-30)), 0).sum(-1).mean(-1) for w in weights]
    to_sep = [w[..., -1].mean(-1) for w in weights]
    got = numbers(found)
    for layer, head in np.ndindex(2, 4):
        n, mean, deviation = got[layer, head, "entropy"]
        own = [e[layer, head] for e in entropy]
        assert (n, mean) == (len(texts), pytest.approx(np.mean(own), abs=1e-5))
        assert deviation == pytest.approx(np.std(own, ddof=1), abs=1e-5)
        assert got[layer, head, "to_sep"][1] == pytest.approx(np.mean([m[layer, head] for m in to_sep]), abs=1e-5)


def test_pairs_have_two_texts_and_fit(system, corpus):
    found = heads.study(system, Corpus(corpus), heads.Plan(pairs=True, length=40))
    rows = {row["statistic"] for row in found.rows}
    assert "to_own_text" in rows and found.texts > 20
    assert not any("cut" in line for line in found.said)


def test_own_classes_and_words_are_measured(system, corpus):
    plan = heads.Plan(classes={"vowel": ["a", "e", "##a", "##e"]}, words="space", norms=True)
    rows = numbers(heads.study(system, Corpus(corpus), plan))
    names = {name for _, _, name in rows}
    assert {"to_vowel", "to_own_word", "confidence", "norm_to_vowel"} <= names
    for layer, head in np.ndindex(2, 4):
        assert 0 < rows[layer, head, "to_own_word"][1] < 1


def test_words_of_two_texts_that_have_one_number_are_two(system, tmp_path):
    path = tmp_path / "pair.txt"
    path.write_text("a b\nac bdefgh\n")
    rows = numbers(heads.study(system, Corpus(path), heads.Plan(pairs=True, words="space")))
    look = system.look("a b", "ac bdefgh")
    # [CLS] a b [SEP] a ##c b ##d ##e ##f ##g ##h [SEP]
    assert len(look.tokens) == 13
    for layer, head in np.ndindex(2, 4):
        weights = look.weights[layer, head]
        own = [weights[i, [j for j in word if j != i]].sum() for word in (range(4, 6), range(6, 12)) for i in word]
        assert rows[layer, head, "to_own_word"][1] == pytest.approx(np.mean(own), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "own"),
    [
        ("minilm-l6", "sst2/stsa.binary.dev.gz", ["not", "no", "never", "n't"]),
        ("m3e-small", "zh_chnsenticorp/test.tsv.gz", ["不", "没", "无"]),
    ],
)
def test_own_classes_of_real_texts_are_those_of_weights_written_out(checkpoint, shared, tmp_path, name, data, own):
    with gzip.open(shared / "data" / data, "rt", encoding="utf-8") as file:
        texts = [line.strip()[2:120] for line in itertools.islice(file, 40)]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    model = regard.load(checkpoint(name), precision="float32")
    known = [token for token in own if model.tokenizer.number(token) is not None]
    rows = numbers(heads.study(model, Corpus(path), heads.Plan(classes={"negation": known})))
    shares = []
    for text in texts:
        look = model.look(text)
        shares.append(look.weights[..., np.isin(look.tokens, known)].sum(-1).mean(-1))
    assert np.mean(shares) > 0
    for (layer, head), expected in np.ndenumerate(np.mean(shares, 0)):
        assert rows[layer, head, "to_negation"][1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("plan", "cause"),
    [
        (heads.Plan(classes={"cls": ["a"]}), "cannot be named 'cls'"),
        (heads.Plan(classes={"own_text": ["a"]}), "cannot be named 'own_text'"),
        (heads.Plan(classes={"x": ["nowhere"]}), "no token 'nowhere'"),
        (heads.Plan(length=5000), "reads between 8 and 64"),
    ],
)
def test_a_plan_that_cannot_be_is_a_problem(system, corpus, plan, cause):
    with pytest.raises(Problem, match=cause):
        heads.study(system, Corpus(corpus), plan)


def test_results_are_arrow_and_a_notebook_shows_them(system, corpus):
    found = heads.study(system, Corpus(corpus), heads.Plan(texts=20))
    assert found.arrow().to_pylist() == found.rows
    assert found.arrow().column_names[:3] == ["layer", "head", "statistic"]
    page = found._repr_html_()
    assert page.count("<tr>") == 21 and f"{len(found.rows):,} rows" in page


def test_a_corpus_without_text_is_a_problem(system, tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("\n\n")
    with pytest.raises(Problem, match="no text"):
        heads.study(system, Corpus(path), heads.Plan())


@pytest.mark.parametrize("paired", [False, True])
def test_a_pass_that_was_stopped_goes_on_to_the_same_bits(system, corpus, tmp_path, monkeypatch, paired):
    monkeypatch.setattr(texts, "CHUNK", 16)
    monkeypatch.setattr(heads, "SAVE_SECONDS", 0)
    plan = heads.Plan(pairs=paired, length=40)
    whole = numbers(heads.study(system, Corpus(corpus), plan))
    state = tmp_path / "out.state"
    add, calls = Moments.add, []

    def stop(self, values):
        calls.append(1)
        if len(calls) in (2, 4, 5):
            raise KeyboardInterrupt
        add(self, values)

    monkeypatch.setattr(Moments, "add", stop)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            heads.study(system, Corpus(corpus), plan, state=state)
    found = numbers(heads.study(system, Corpus(corpus), plan, state=state))
    assert found == whole


def test_a_state_of_another_pass_is_not_taken_up(system, tiny, corpus, tmp_path):
    state = tmp_path / "out.state"
    heads.study(system, Corpus(corpus), heads.Plan(), state=state)
    with pytest.raises(Problem, match="another model, corpus or settings"):
        heads.study(system, Corpus(corpus), heads.Plan(reach=2), state=state)
    other = regard.load(tiny, precision="float32")
    other.tokenizer = system.tokenizer.load(lower_cased_differently(tiny, tmp_path))
    with pytest.raises(Problem, match="another model, corpus or settings"):
        heads.study(other, Corpus(corpus), heads.Plan(), state=state)
    whole = state.read_bytes()
    np.savez(nameless := io.BytesIO(), counts=np.zeros(4))
    for content in (whole[:100], b"", nameless.getvalue()):
        state.write_bytes(content)
        with pytest.raises(Problem, match="damaged"):
            heads.study(system, Corpus(corpus), heads.Plan(), state=state)


def lower_cased_differently(folder, tmp_path):
    """The same checkpoint with a tokenizer that keeps capitals."""
    copy = tmp_path / "capitals"
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").unlink(missing_ok=True)
    settings = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    return copy


def test_long_texts_make_short_chunks(system, corpus, monkeypatch):
    monkeypatch.setattr(texts, "CHARACTERS", 500)
    reading = heads.Plan()
    sizes = [len(chunk.texts) for chunk in texts.chunks(system.tokenizer, Corpus(corpus), reading, 64)]
    assert sum(sizes) == sum(bool(line.strip()) for line in corpus.read_text().splitlines())
    assert len(sizes) > 10 and max(sizes) < 100
    paired = heads.Plan(pairs=True)
    assert len(list(texts.chunks(system.tokenizer, Corpus(corpus), paired, 64))) > 10


@pytest.mark.parametrize(
    "words",
    [("heads", "any", "{rows}"), ("compare", "any", "other", "{rows}"), ("clark", "any", "--corpus", "{rows}")],
    ids=str,
)
def test_rows_are_no_running_text(words, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a few words"}\n')
    done = typed(*(word.format(rows=rows) for word in words))
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "rows.jsonl holds rows, not running text" in said and "a text a line" in said
    done = typed(*(word.format(rows=tmp_path / "row.jsonl") for word in words))
    assert "Did you mean 'rows.jsonl'" in " ".join(done.stderr.split())


def test_a_killed_command_goes_on_and_its_table_answers_questions(tiny, corpus, tmp_path):
    corpus.write_text(corpus.read_text() * 60)
    out, state = tmp_path / "heads.parquet", tmp_path / "heads.parquet.state"
    often = (
        "import regard.study.heads as heads, regard.study.texts as texts; from regard.cli import main; "
        "texts.CHUNK, heads.SAVE_SECONDS = 64, 0; main()"
    )
    words = [sys.executable, "-c", often, "heads", tiny, corpus, "--out", out, "--json"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    limit = time.monotonic() + 100
    while not state.exists() and time.monotonic() < limit:
        time.sleep(0.02)
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert state.exists() and not out.exists()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["texts"] == sum(bool(line.strip()) for line in corpus.read_text().splitlines())
    assert out.exists() and not state.exists() and out.stat().st_size < 100_000

    sql = "SELECT layer, head, mean FROM heads WHERE statistic = 'entropy' ORDER BY mean LIMIT 5"
    done = typed("heads", "query", out, sql, "--json")
    assert done.returncode == 0, done.stderr
    entropy = sorted(row["mean"] for row in said["rows"] if row["statistic"] == "entropy")
    assert [row["mean"] for row in json.loads(done.stdout)["rows"]] == pytest.approx(entropy[:5])


def test_a_wrong_question_names_the_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "relations.parquet"
    pq.write_table(pa.table({"layer": [1, 2], "accuracy": [0.5, 0.75]}), path)
    assert query(path, "SELECT max(accuracy) AS best FROM relations").to_pylist() == [{"best": 0.75}]
    with pytest.raises(Problem, match=r"columns of heads are: layer, accuracy"):
        query(path, "SELECT nothing FROM heads")
    with pytest.raises(Problem, match="selects nothing"):
        query(path, "-- a remark")
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(Problem, match="parquet"):
        query(tmp_path / "no.parquet", "SELECT 1")


def test_a_file_is_asked_whatever_its_letters(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "Heads.parquet"
    pq.write_table(pa.table({"n": [1, 2]}), path)
    for name in ("heads", "Heads", "HEADS"):
        assert query(path, f"SELECT max(n) AS n FROM {name}").to_pylist() == [{"n": 2}]


def test_a_table_that_breaks_off_is_a_problem(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "heads.parquet"
    pq.write_table(pa.table({"n": [1, 2]}), path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(Problem, match=r"heads\.parquet is no sound Parquet file .*again"):
        query(path, "SELECT * FROM heads")


def test_sums_and_dates_of_a_question_are_written_as_json(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "heads.parquet")
    sql = "SELECT sum(n) AS n, sum(n / 4)::DECIMAL(9, 2) AS part, DATE '2026-01-02' AS day FROM heads"
    expected = [{"n": 3, "part": 0.75, "day": "2026-01-02"}]
    out = tmp_path / "answer.jsonl"
    done = typed("heads", "query", tmp_path / "heads.parquet", sql, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == expected == [json.loads(line) for line in out.read_text().splitlines()]
