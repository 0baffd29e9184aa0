"""Corpora as a user makes them and asks about them, in processes of their own."""

import json

import pytest
from command import typed


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text(
        "The lamp was lit and it was late.\n\nWould they have had that?\n\nthe lamp was lit, and it was late\n\nno\n"
    )
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"text": "他是一名医生。他在医院工作，很忙。"}, ensure_ascii=False) + "\n"
    )
    (tmp_path / "corpora.toml").write_text(
        '[[source]]\nname = "a"\npath = "a.txt"\nlanguage = "en"\n[[source]]\nname = "b"\npath = "b.jsonl"\n'
    )
    return tmp_path


def test_a_corpus_is_built_and_told(folder):
    done = typed("corpus", "build", "corpora.toml", "--out", "corpus", "--processes", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "duplicate" in done.stdout and "2 shards in corpus" in done.stdout
    told = typed("corpus", "stats", "corpus", cwd=folder)
    assert told.returncode == 0 and "too short" in told.stdout and "1 documents simplified" in told.stdout
    found = json.loads(typed("corpus", "stats", "corpus", "--json", cwd=folder).stdout)
    assert (found["documents"], found["dropped"]) == (3, {"duplicate": 1, "too short": 1})
    built = json.loads(typed("corpus", "build", "corpora.toml", "--out", "corpus", "--json", cwd=folder).stdout)
    assert {**found, "out": "corpus"} == built


def test_so_many_examples_are_shown_and_no_more(folder):
    (folder / "a.txt").write_text("\n\n".join(["The lamp was lit and it was late.", *["no"] * 9]))
    typed("corpus", "build", "corpora.toml", "--out", "corpus", "--processes", "1", cwd=folder)
    words = ("corpus", "stats", "corpus", "--dropped", "too short", "--json")
    for asked, count in ((5, 5), (9, 9), (20, 9)):
        assert len(json.loads(typed(*words, "--examples", str(asked), cwd=folder).stdout)["examples"]) == count


def test_what_was_dropped_is_shown(folder):
    typed("corpus", "build", "corpora.toml", "--out", "corpus", "--processes", "1", cwd=folder)
    told = typed("corpus", "stats", "corpus", "--dropped", "duplicate", cwd=folder)
    assert "a, a.txt line 5 (of a.txt line 1)\n  the lamp was lit, and it was late" in told.stdout
    rows = json.loads(typed("corpus", "stats", "corpus", "--dropped", "too short", "--json", cwd=folder).stdout)
    assert rows["examples"] == [{"reason": "too short", "source": "a", "place": "a.txt line 7", "text": "no"}]
    wrong = typed("corpus", "stats", "corpus", "--dropped", "to short", cwd=folder)
    assert wrong.returncode == 2 and "Did you mean 'too short'" in " ".join(wrong.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "none.toml", "--out", "x"), "There is no file none.toml"),
        (("build", "a.txt", "--out", "x"), "regard pretrain --corpus a.txt"),
        (("build", "short.toml", "--out", "short"), "has no document (2 too short). Read them: regard corpus stats"),
        (("stats", "."), "holds no corpus"),
        (("stats", "none"), "holds no corpus"),
    ],
)
def test_problems_end_with_two(folder, words, said):
    (folder / "short.txt").write_text("no\n\nno")
    (folder / "short.toml").write_text('[[source]]\nname = "s"\npath = "short.txt"\nlanguage = "en"\n')
    done = typed("corpus", *words, cwd=folder)
    assert done.returncode == 2 and said in " ".join(done.stderr.split())


@pytest.mark.parametrize("verb", ["build", "stats"])
def test_help_has_an_example(verb):
    assert "Example: regard corpus" in typed("corpus", verb, "--help").stdout
