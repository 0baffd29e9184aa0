"""Whole corpora: the same bytes always, taken up again after a kill, never half; no document lost without a reason."""

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from regard.data import processes
from regard.data.corpora import build as making
from regard.data.corpora import chunks, clean, counts, reading, shards
from regard.data.corpora.plan import Mix, Plan, Source, read
from regard.errors import Problem


def sentence(random):
    words = ["".join(chr(97 + letter) for letter in random.integers(26, size=5)) for _ in range(8)]
    common = random.choice(["the", "and", "that", "with", "it", "be", "they", "which", "not"], size=8)
    return "So " + " ".join(f"{one} {other}" for one, other in zip(common, words, strict=True)) + "."


@pytest.fixture
def plan(tmp_path):
    """Two sources in English and one in Chinese, with planted duplicates, near duplicates, mojibake and a bad byte."""
    random = np.random.default_rng(0)
    texts = ["\n".join(sentence(random) for _ in range(12)) for _ in range(60)]
    texts += [texts[3], texts[4].replace("So", "SO:", 1), "\n".join([*texts[5].split("\n")[:-1], sentence(random)])]
    texts += ["Das ist ein schöner Film, den man nicht so schnell vergessen wird, und die Musik ist herrlich."]
    texts += ["schÃ¶n â€” the word that they have, and it donâ€™t be wrong."]
    (tmp_path / "one.txt.xz").write_bytes(lzma.compress("\n\n".join(texts).encode() + b"\n\nb\xffad"))
    with gzip.open(tmp_path / "two.jsonl.gz", "wt") as file:
        for text in [texts[7], *("\n".join(sentence(random) for _ in range(4)) for _ in range(10))]:
            file.write(json.dumps({"body": text}) + "\n")
    chinese = ["".join(chr(0x4E00 + c) for c in random.integers(3000, size=200)) + "。" for _ in range(9)]
    (tmp_path / "zh.txt").write_text("\n\n".join(chinese), encoding="utf-8")
    (tmp_path / "corpora.toml").write_text("""
[[source]]
name = "one"
path = "one*.xz"
[[source]]
name = "two"
path = "two.jsonl.gz"
text = "body"
weight = 2
[[source]]
name = "zh"
path = "zh.txt"
[mix]
temperature = 0.5
by = "language"
""")
    return tmp_path / "corpora.toml"


def rows(folder, pattern):
    found = []
    for path in sorted(folder.glob(pattern)):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found += [json.loads(line) for line in file]
    return found


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_document_is_kept_or_dropped_with_its_reason(plan, tmp_path):
    made = making.build(read(plan), tmp_path / "out", processes=1)
    assert made["sources"]["one"]["dropped"] == {
        "another language": 1, "duplicate": 2, "near duplicate": 1, "undecodable": 1
    }  # fmt: skip
    assert made["sources"]["two"]["dropped"] == {"duplicate": 1}
    kept, dropped = (rows(tmp_path / "out", f"{kind}-*.jsonl.gz") for kind in ("shard", "dropped"))
    assert len(kept) == made["documents"] == 61 + 10 + 9
    assert len(dropped) == sum(made["dropped"].values()) == 6
    assert {frozenset(row) for row in kept} == {frozenset(("text", "source", "language"))}
    assert any(row["text"].startswith("schön — the word") for row in kept)
    assert sum(row["text"].count("\n") + 1 for row in kept) == made["sentences"]
    again = next(row for row in dropped if row["reason"] == "near duplicate")
    assert again["of"] == "one.txt.xz line 66" and again["text"].startswith(kept[5]["text"][:300])
    assert [row["language"] for row in made["mix"]] == ["en", "en", "zh"]
    assert making.read(tmp_path / "out") == made


def test_processes_make_no_difference(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0)
    monkeypatch.setattr(making, "CHUNK", (5_000, 7))
    monkeypatch.setattr(shards, "SIZE", 10_000)
    for count in (1, 2):
        making.build(read(plan), tmp_path / f"out{count}", processes=count)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")
    assert len(list((tmp_path / "out1").glob("shard-*"))) > 3


def test_a_killed_build_goes_on_to_the_same_bytes(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "CHUNK", (5_000, 7))
    making.build(read(plan), tmp_path / "whole", processes=1)

    class Killed(BaseException):
        pass

    def killed(share):
        if share > limit:
            raise Killed

    limit = 0.0
    for limit in (0.3, 0.5, 0.85):  # noqa: B007 - the kill reads it
        with pytest.raises(Killed):
            making.build(read(plan), tmp_path / "out", processes=1, advance=killed)
        assert not (tmp_path / "out" / "corpus.json").exists()
        with pytest.raises(Problem, match="not finished"):
            making.read(tmp_path / "out")
    for name in ("shard-00099.jsonl.gz", "shard-00000.jsonl.gz.0a1b2c3d.partial"):
        (tmp_path / "out" / name).write_bytes(b"left over")
    making.build(read(plan), tmp_path / "out", processes=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_machines_may_write_the_same_shard_at_once(tmp_path):
    path = tmp_path / "shard-00000.jsonl.gz"

    def found(meanwhile):
        yield {"text": "a first document"}
        if meanwhile:  # the one that was given up is still half way when its successor writes all of it
            chunks.write_rows(found(False), path)
            assert rows(tmp_path, path.name) == [*found(False)]
        yield {"text": "a second document"}

    chunks.write_rows(found(True), path)
    assert rows(tmp_path, path.name) == [*found(False)] and list(tmp_path.iterdir()) == [path]


def test_a_build_killed_by_the_system_leaves_no_process_and_goes_on(plan, tmp_path):
    (tmp_path / "one.txt.xz").write_bytes(
        lzma.compress(b"\n\n".join(b"The word %d that they have, and it is not to be." % n for n in range(9_000)))
    )
    code = "from regard.data import processes; processes.PATIENCE = 0; from regard.cli import main; main()"
    command = [sys.executable, "-c", code, "corpus", "build", str(plan), "--out", str(tmp_path / "out")]
    running = subprocess.Popen([*command, "--processes", "2"], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".work/*/000000.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "out" / "corpus.json").exists()
    for _ in range(500):
        try:
            os.killpg(running.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("a process is left")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert making.read(tmp_path / "out")["documents"] > 10


def test_what_no_build_has_made_is_never_written_over(tmp_path):
    path = tmp_path / "shard-00000.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps({"text": "The lamp was lit and the door was open."}) + "\n")
    before = path.read_bytes()
    (tmp_path / "corpora.toml").write_text('[[source]]\nname = "a"\npath = "**/shard-*.jsonl.gz"\n')
    with pytest.raises(Problem, match="is a source, and is named like what is written"):
        making.build(read(tmp_path / "corpora.toml"), tmp_path, processes=1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "dropped-x-00000.jsonl.gz").write_bytes(b"mine")
    with pytest.raises(Problem, match="which no build has left there"):
        making.build(read(tmp_path / "corpora.toml"), other, processes=1)
    assert path.read_bytes() == before and (other / "dropped-x-00000.jsonl.gz").read_bytes() == b"mine"
    making.build(read(tmp_path / "corpora.toml"), tmp_path / "out", processes=1)
    (tmp_path / "out" / "corpus.json").unlink()
    with pytest.raises(Problem, match="is a source"):  # what is written would be read
        making.build(read(tmp_path / "corpora.toml"), tmp_path / "out", processes=1)


def test_what_repeats_a_dropped_document_is_told_the_kept_one(tmp_path):
    random = np.random.default_rng(0)
    lines = [sentence(random) for _ in range(12)]
    near = "\n".join([*lines[:-1], sentence(random)])
    (tmp_path / "a.txt").write_text("\n\n".join(["\n".join(lines), near, near]))
    (tmp_path / "corpora.toml").write_text('[[source]]\nname = "a"\npath = "a.txt"\n')
    making.build(read(tmp_path / "corpora.toml"), tmp_path / "out", processes=1)
    dropped = rows(tmp_path / "out", "dropped-*.jsonl.gz")
    assert {row["reason"]: row["of"] for row in dropped} == dict.fromkeys(
        ("duplicate", "near duplicate"), "a.txt line 1"
    )


def test_files_that_were_touched_are_the_same(plan, tmp_path):
    made = making.build(read(plan), tmp_path / "out", processes=1)
    os.utime(tmp_path / "zh.txt", (1, 1))
    assert making.build(read(plan), tmp_path / "out", processes=1) == made


def test_a_finished_corpus_is_not_built_over(plan, tmp_path):
    made = making.build(read(plan), tmp_path / "out", processes=1)
    before = (tmp_path / "out" / "corpus.json").stat().st_mtime_ns
    assert making.build(read(plan), tmp_path / "out", processes=1) == made
    assert (tmp_path / "out" / "corpus.json").stat().st_mtime_ns == before
    plan.write_text(plan.read_text() + "[clean]\nwords = 9\n")
    with pytest.raises(Problem, match="another plan"):
        making.build(read(plan), tmp_path / "out", processes=1)


@pytest.mark.parametrize("count", [1, 2])
def test_damage_is_a_problem_and_what_was_done_stays(plan, tmp_path, count, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0)
    whole = (tmp_path / "two.jsonl.gz").read_bytes()
    (tmp_path / "two.jsonl.gz").write_bytes(whole[:-30])
    with pytest.raises(Problem, match=r"two\.jsonl\.gz breaks off"):
        making.build(read(plan), tmp_path / "out", processes=count)
    assert not (tmp_path / "out" / "corpus.json").exists()
    if count == 1:
        assert len(list((tmp_path / "out" / ".work").glob("*/done.json"))) == 1
    (tmp_path / "two.jsonl.gz").write_bytes(whole)
    assert making.build(read(plan), tmp_path / "out", processes=count)["documents"] == 80
    assert not (tmp_path / "out" / ".work").exists()


def test_a_source_that_vanishes_or_changes_is_a_problem(plan, tmp_path):
    def vanish(_):
        (tmp_path / "zh.txt").unlink(missing_ok=True)

    with pytest.raises(Problem, match=r"zh\.txt cannot be read"):
        making.build(read(plan), tmp_path / "out", processes=1, advance=vanish)

    def change(_):
        (tmp_path / "zh.txt").write_text("他们来了，又走了。" * 3, encoding="utf-8")

    change(0)
    with pytest.raises(Problem, match=r"changed while"):
        making.build(read(plan), tmp_path / "out", processes=1, advance=change)


def test_a_full_disk_is_a_problem_and_leaves_no_half_file(plan, tmp_path):
    code = """
import resource, sys
from regard.data.corpora import build, clean, plan
clean.language("Das ist ein Film")  # unpacks its model
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    build.build(plan.read(sys.argv[1]), sys.argv[2], processes=1)
except build.Problem as problem:
    print(problem)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, plan, tmp_path / "out"], capture_output=True, text=True, check=True
    )
    assert "cannot be written: File too large. Free some space" in done.stdout
    assert not list((tmp_path / "out").rglob("*.partial")) and not (tmp_path / "out" / "corpus.json").exists()


def test_a_plan_of_which_nothing_stays_makes_an_empty_corpus(tmp_path):
    (tmp_path / "a.txt").write_text("no\n\nno")
    made = making.build(
        Plan((Source(name="a", path="a.txt", language="en"),), folder=tmp_path), tmp_path / "out", processes=1
    )
    assert (made["documents"], made["dropped"], made["mix"]) == (0, {"too short": 2}, [])
    with pytest.raises(Problem, match=r"no document \(2 too short\)\. Read them: .* --dropped 'too short'"):
        list(reading.documents(tmp_path / "out"))


@pytest.mark.parametrize("by", ["source", "language"])
@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_shares_are_sizes_to_the_power_of_the_temperature(temperature, by):
    sizes = {"a": {"en": {"characters": 900}}, "b": {"en": {"characters": 300}}, "c": {"zh": {"characters": 100}}}
    sources = tuple(Source(name=name, path="") for name in sizes)
    found = counts.mixed(Plan(sources, mix=Mix(temperature=temperature, by=by)), sizes)
    weights = [row["weight"] for row in found]
    assert sum(weights) == pytest.approx(1)
    if by == "source":
        assert weights[0] / weights[2] == pytest.approx(9**temperature)
    else:
        assert (weights[0] + weights[1]) / weights[2] == pytest.approx(12**temperature)
        assert weights[0] / weights[1] == pytest.approx(3)
    doubled = (Source(name="a", path="", weight=2.0), *sources[1:])
    again = counts.mixed(Plan(doubled, mix=Mix(temperature=temperature, by=by)), sizes)
    assert again[0]["weight"] / again[1]["weight"] == pytest.approx(2 * weights[0] / weights[1])


def test_real_corpora_are_built(shared, tmp_path):
    for name in ("en_movie_reviews", "zh_laws"):
        with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
            (tmp_path / f"{name}.txt").write_text(file.read(300_000), encoding="utf-8")
    sources = tuple(Source(name=name, path=f"{name}.txt") for name in ("en_movie_reviews", "zh_laws"))
    made = making.build(Plan(sources, folder=tmp_path), tmp_path / "out", processes=2)
    assert made["languages"].keys() == {"en", "zh"}
    assert made["characters"] > 0.95 * 600_000
    assert len(rows(tmp_path / "out", "dropped-*")) == sum(made["dropped"].values())


def test_a_dump_of_wikipedia_becomes_text(tmp_path):
    page = "<page><title>{}</title><ns>{}</ns><revision><text>{}</text></revision></page>"
    markup = "'''Wax''' is what [[bee|bees]] make.{{cite|x}} They have it, and it is not honey.\n== Use ==\n* Light"
    pages = page.format("Wax", 0, markup) + page.format("Talk:Wax", 1, "no")
    (tmp_path / "wiki.xml").write_text(f"<mediawiki>{pages}</mediawiki>")
    made = making.build(Plan((Source(name="w", path="wiki.xml"),), folder=tmp_path), tmp_path / "out", processes=1)
    assert made["dropped"] == {"no article": 1}
    assert rows(tmp_path / "out", "shard-*")[0]["text"].split("\n") == [
        "Wax is what bees make.",
        "They have it, and it is not honey.",
        "Use",
        "Light",
    ]


@pytest.mark.parametrize("missing", ["ftfy", "py3langid.langid", "opencc"])
def test_a_missing_extra_is_named(plan, tmp_path, monkeypatch, missing):
    for cached in (clean._fixer, clean._identifier, clean._converter):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Problem, match=r"regard\[corpus\]"):
        making.build(read(plan), tmp_path / "out", processes=1)
