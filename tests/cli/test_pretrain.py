"""The verbs of pre-training as a user types them."""

import json
from functools import partial

import command
import numpy as np
import pytest

typed = partial(command.typed, columns=80)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Texts of letters in one file; in another of a language that the vocabulary has no word of."""
    folder, random = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    lines = [" ".join(random.choice([*"abcdefghij", "bad", "fig"], 4)) for _ in range(40)]
    (folder / "en.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "zh.txt").write_text("他是一名医生。\n" * 5, encoding="utf-8")
    return folder / "en.txt", folder / "zh.txt"


def test_guesses_are_measured_by_language(guesser, files):
    command = ["perplexity", guesser, *files, "--length", 16, "--pseudo", 30, "--seed", 3]
    done = typed(*command, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    english, chinese = said["languages"]
    assert (english["language"], english["passages"], english["unknown"]) == ("en", 40, 0)
    assert (chinese["language"], chinese["passages"]) == ("zh", 5) and chinese["unknown"] == chinese["places"] > 0
    assert english["top1"]["low"] <= english["top1"]["value"] <= english["top5"]["value"] < 1
    assert english["pseudo"]["n"] == 30 and english["pseudo"]["low"] < english["pseudo"]["value"]
    shown = typed(*command)
    assert f"{english['loss']['low']:.3f}-{english['loss']['high']:.3f}" in shown.stdout
    assert "hidden tokens are [UNK]" in shown.stdout
    assert f"{english['pseudo']['value']:,.1f}" in shown.stdout and max(map(len, shown.stdout.splitlines())) <= 80


def test_few_texts_whole_words_and_no_pseudo_perplexity(guesser, files):
    command = ["perplexity", guesser, files[0], "--length", 16, "--texts", 7, "--unit", "word", "--pseudo", 0]
    [english] = json.loads(typed(*command, "--json").stdout)["languages"]
    assert english["passages"] == 7 and english["pseudo"] is None
    [english] = json.loads(typed(*command[:-4], "--texts", 1, "--json").stdout)["languages"]
    assert english["passages"] == 1 and english["top1"]["low"] is None  # there is nothing to resample
    assert "of one" in typed(*command[:-4], "--texts", 1).stdout


def test_what_cannot_be_measured_is_said(guesser, tiny, files, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    for words, message in (
        ([tiny, files[0], "--length", 16], "no head that guesses"),
        ([guesser, files[0], "--rate", 0], "equal to 0.01"),
        ([guesser, files[0], "--length", 16, "--unit", "wrd"], "Did you mean 'word'?"),
        ([guesser, tmp_path / "empty.txt", "--length", 16], "There is no text in"),
    ):
        done = typed("perplexity", *words)
        assert done.returncode == 2 and message in " ".join(done.stderr.split()), done.stderr
        assert done.stdout == ""
