"""CoNLL-U: what is read, what is passed over, and that nothing is lost without a word."""

import gzip
import lzma
from collections import Counter

import pytest

from regard.data.treebank import read
from regard.errors import Problem

GOOD = """# newdoc id = d
# sent_id = one
# text = He can't go.
1\tHe\the\tPRON\tPRP\t_\t4\tnsubj\t4:nsubj\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\tcan\tAUX\tMD\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod:neg\t_\t_
3.1\tgone\tgo\tVERB\t_\t_\t_\t_\t0:root\t_
4\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# sent_id = two
1\t3 000\t3000\tNUM\tCD\t_\t0\troot\t_\t_
"""


@pytest.fixture
def write(tmp_path):
    def put(content, name="a.conllu"):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return put


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, lambda data: data.replace(b"\n", b"\r\n")])
def test_a_treebank_is_read(write, pack):
    bank = read(write(pack(GOOD.encode())))
    assert bank.skipped == [] and len(bank) == 2
    first, second = bank.sentences
    assert first.forms == ("He", "ca", "n't", "go", ".")
    assert first.tags == ("PRON", "AUX", "PART", "VERB", "PUNCT")
    assert first.heads == (3, 3, 3, -1, 3)
    assert first.relations == ("nsubj", "aux", "advmod:neg", "root", "punct")
    assert (first.identity, first.text, first.line) == ("one", "He can't go.", 1)
    assert (second.forms, second.line) == (("3 000",), 12)
    assert read(write(GOOD), subtypes=False).sentences[0].relations[2] == "advmod"


BAD = {
    "columns": ("4\tgo\tgo\tVERB\n", "4 columns", 9),
    "number": ("7\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_\n", "'7' where 4 is due", 9),
    "head": ("4\tgo\tgo\tVERB\tVB\t_\t_\troot\t_\t_\n", "'_' is no head", 9),
    "far head": ("4\tgo\tgo\tVERB\tVB\t_\t9\troot\t_\t_\n", "head 9 in a sentence of 5", 9),
    "own head": ("4\tgo\tgo\tVERB\tVB\t_\t4\troot\t_\t_\n", "depends on itself", 4),
    "cycle": ("4\tgo\tgo\tVERB\tVB\t_\t1\troot\t_\t_\n", "depends on itself", 4),
    "relation": ("4\tgo\tgo\tVERB\tVB\t_\t0\t_\t_\t_\n", "no relation", 9),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_spoils_its_sentence_and_is_reported(write, name):
    line, reason, place = BAD[name]
    good = "4\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No\n"
    bank = read(write(GOOD.replace(good, line)))
    assert [s.identity for s in bank.sentences] == ["two"]
    assert [bad.line for bad in bank.skipped] == [place]
    assert reason in bank.skipped[0].reason


def test_bytes_that_are_no_text_spoil_their_sentence(write):
    good = GOOD.encode() + "\n1\tnaïve\t_\tADJ\t_\t_\t0\troot\t_\t_\n".encode() * 1
    bank = read(write(good.replace(b"He\the", b"\xffe\the")))
    assert (len(bank), bank.skipped[0].line) == (2, 4)
    assert "utf-8" in bank.skipped[0].reason


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "# only a comment\n", "1\tgo\n\n2\tgo\n", "   \n"])
def test_a_file_that_is_no_treebank(write, content):
    with pytest.raises(Problem, match=r"a\.conllu (has no sentence|is empty)"):
        read(write(content))


def test_a_folder_proposes_its_files(write):
    with pytest.raises(Problem, match=r"a\.conllu"):
        read(write(GOOD).parent)


@pytest.mark.parametrize(
    ("name", "sentences", "words"),
    [
        ("ud_en_ewt/en_ewt-ud-dev", 2001, 25147),
        ("ud_en_ewt/en_ewt-ud-test", 2077, 25094),
        ("ud_zh_gsdsimp/zh_gsdsimp-ud-dev", 500, 12663),
    ],
)
def test_published_treebanks_lose_nothing(shared, name, sentences, words):
    path = shared / "data" / f"{name}.conllu.gz"
    bank = read(path)
    assert (len(bank), bank.skipped) == (sentences, [])
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if line[0].isdigit()]
    rows = [row for row in rows if row[0].isdigit()]
    assert Counter(r for s in bank.sentences for r in s.relations) == Counter(row[7] for row in rows)
    assert sum(len(s.forms) for s in bank.sentences) == len(rows) == words
