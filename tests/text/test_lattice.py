"""The words of many runs of Chinese characters at once are those that jieba finds in each."""

import lzma
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.text import lattice as module
from regard.text.chinese import KNOWN
from regard.text.words import lattice

jieba = pytest.importorskip("jieba")


@pytest.fixture(scope="module", autouse=True)
def always_together():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW", -1)
        yield


def by_jieba(runs):
    return [place == start for run in runs for _, start, end in jieba.tokenize(run) for place in range(start, end)]


@pytest.mark.parametrize("name", ["zh_tech_articles", "zh_laws", "zh_classics_in_modern"])
def test_real_text(name, shared):
    with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        runs = [run for line, _ in zip(file, range(2000), strict=False) for run in re.findall(f"[{KNOWN}]+", line)]
    assert len(runs) > 1000
    assert lattice().begins(runs).tolist() == by_jieba(runs)


RUNS = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FD5) | st.sampled_from("的一是不了在人有我他"))


@settings(deadline=None, max_examples=300)
@given(st.lists(RUNS, max_size=5))
def test_any_text(runs):
    assert lattice().begins(runs).tolist() == by_jieba(runs)


@pytest.mark.parametrize(("name", "limit"), [("FEW", 100), ("LONGEST", 3)])
def test_few_and_long_runs_go_one_by_one(name, limit, monkeypatch):
    monkeypatch.setattr(module, name, limit)
    runs = ["他来到了网易杭研大厦", "我们", "小明硕士毕业于中国科学院计算所", "", "的"]
    assert lattice().begins(runs).tolist() == by_jieba(runs)


def test_words_that_a_user_adds_to_jieba_are_found_and_deleted_ones_are_not():
    runs = ["张三丰田野调查局", "丰田野"]
    before = lattice().begins(runs).tolist()
    jieba.add_word("张三丰田野", freq=100_000)
    try:
        assert lattice().begins(runs).tolist() == by_jieba(runs) != before
    finally:
        jieba.del_word("张三丰田野")
    assert lattice().begins(runs).tolist() == by_jieba(runs) == before
    jieba.finalseg.Force_Split_Words.discard("张三丰田野")
