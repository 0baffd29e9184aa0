"""Plans in TOML: what they may say, and what is answered to what they may not."""

import os

import pytest

from regard.data.corpora.plan import Clean, Mix, files, read
from regard.errors import Problem

SOURCE = '[[source]]\nname = "a"\npath = "a.txt"\n'


def plan(tmp_path, text):
    path = tmp_path / "corpora.toml"
    path.write_text(text)
    return path


def test_a_plan_is_read_with_its_defaults(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    found = read(plan(tmp_path, SOURCE + "weight = 2\n[clean]\nword_length = [2, 12]\n[mix]\ntemperature = 0.5\n"))
    assert found.source[0].weight == 2.0
    assert (found.clean, found.mix) == (Clean(word_length=(2.0, 12.0)), Mix(temperature=0.5))
    assert files(found, found.source[0]) == [tmp_path / "a.txt"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no source"),
        ("a = = 1", "not valid TOML"),
        (SOURCE + "langauge = 'en'", "no key 'langauge' in \\[\\[source\\]\\] 1 of .*Did you mean 'language'"),
        (SOURCE + "[cleaning]", "no key 'cleaning' in .*Did you mean 'clean'"),
        (SOURCE + "[clean]\nsymbol = 1", "no key 'symbol'.*Did you mean 'symbols'"),
        (SOURCE + "language = 'fr'", "can be '', 'en', 'zh'; 'fr' is none"),
        (SOURCE + "format = 'wiki'", "Did you mean 'wikipedia'"),
        (SOURCE + "weight = 'much'", "must be a number"),
        (SOURCE + "[clean]\nwords = 2.5", "must be a whole number"),
        (SOURCE + "[clean]\nrepair = 1", "repair in \\[clean\\] of .* must be true or false"),
        (SOURCE + "[clean]\nword_length = 3", "two numbers"),
        (SOURCE + "[clean]\nlines = 3", "must be a list"),
        (SOURCE + "[clean]\nlines = ['(']", "no regular expression"),
        (SOURCE + "[clean]\nletters = 2", "from 0 to 1"),
        (SOURCE + "[mix]\ntemperature = -1", "at least 0"),
        (SOURCE + "[mix]\ntemperature = nan", "at least 0"),
        (SOURCE + "weight = 0", "weight 0"),
        (SOURCE + SOURCE, "two sources named 'a'"),
        ('[[source]]\nname = "a"', "has no path"),
        ('[source]\nname = "a"', "names no source"),
    ],
)
def test_what_a_plan_may_not_say_is_a_problem(tmp_path, text, said):
    with pytest.raises(Problem, match=said):
        read(plan(tmp_path, text))


def test_a_file_whose_name_is_no_utf_8_is_a_problem(tmp_path):
    (tmp_path / os.fsdecode("上海.txt".encode("gbk"))).write_text("text")
    found = read(plan(tmp_path, SOURCE.replace("a.txt", "*.txt")))
    with pytest.raises(Problem, match=r"is no UTF-8\. Rename that file"):
        files(found, found.source[0])


def test_paths_begin_at_the_plan_or_where_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one")
    plan(tmp_path, 'folder = "texts"\n' + SOURCE)
    found = read("~/corpora.toml")
    assert files(found, found.source[0]) == [tmp_path / "texts" / "a.txt"]
    plan(tmp_path, 'folder = "~/texts"\n' + SOURCE)
    assert files(read("~/corpora.toml"), found.source[0]) == [tmp_path / "texts" / "a.txt"]


def test_a_pattern_names_many_files_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text("one")
    found = read(plan(tmp_path, SOURCE.replace("a.txt", "*.txt")))
    assert [path.name for path in files(found, found.source[0])] == ["a.txt", "b.txt"]
    for path, said in (
        ("*.xml", "no file is named"),
        ("d.txt", "Did you mean"),
        ("../" + tmp_path.name, "is a folder"),
    ):
        found = read(plan(tmp_path, SOURCE.replace("a.txt", path)))
        with pytest.raises(Problem, match=said):
            files(found, found.source[0])
