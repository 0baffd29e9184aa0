"""Running text as a stream, and neighbouring lines as pairs."""

import bz2
import gzip
import lzma

import pytest

from regard.data.corpus import Corpus, pairs, parted, sentences
from regard.errors import Problem

LINES = ["one", "", "two \u4e2d", "  three", ""]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("opener", [open, gzip.open, lzma.open, bz2.open])
def test_every_line_is_read_plain_or_packed(tmp_path, opener, ending):
    path = tmp_path / "corpus"
    with opener(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + ending.join(LINES).encode() + ending.encode())
    corpus = Corpus(path)
    assert list(corpus.lines()) == LINES
    assert corpus.undecodable == 0


def test_the_share_grows_to_one(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("word " * 20 + "\n" + ("line\n" * 100_000))
    corpus = Corpus(path)
    shares = [corpus.share for _ in corpus.lines()]
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] == 1


def test_bytes_that_are_no_text_are_counted_and_stay_in_their_line(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"good\nb\xffad\nz\0ero\n\xef\xbf\xbd honest\n")
    corpus = Corpus(path)
    assert list(corpus.lines()) == ["good", "b\ufffdad", "z\ufffdero", "\ufffd honest"]
    assert corpus.undecodable == 1


@pytest.mark.parametrize("opener", [gzip.open, lzma.open, bz2.open])
def test_a_file_that_is_broken_off_says_where(tmp_path, opener):
    path = tmp_path / "corpus"
    with opener(path, "wb") as file:
        file.write(b"".join(b"%d\n" % (n**5) for n in range(100_000)))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(Problem, match=r"after line [\d,]+ .*Fetch it again"):
        list(Corpus(path).lines())


def test_a_folder_and_a_missing_file_are_problems(tmp_path):
    with pytest.raises(Problem, match="is a folder"):
        Corpus(tmp_path)
    with pytest.raises(Problem, match="There is no file"):
        Corpus(tmp_path / "none.txt")


def test_lines_are_parted_where_the_halves_are_most_alike():
    assert parted(["a", "b", "c"], [5, 1, 1]) == ("a", "b c")
    assert parted(["a", "b", "c"], [1, 1, 5]) == ("a b", "c")
    assert parted(["a", "b"], [1, 90]) == ("a", "b")


def test_pairs_hold_as_many_lines_as_fit_and_leave_what_later_lines_may_join():
    lines, sizes = list("abcdefg"), [4, 4, 4, 20, 3, 3, 3]
    found, used = pairs(lines, sizes, 10)
    # c stands alone before d, which is longer than the room; e, f and g may still be joined by the next line
    assert found == [("a", "b")]
    assert lines[used:] == ["e", "f", "g"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He left. "Why?" she said. So ... on. 3 men!', ["He left.", '"Why?" she said.', "So ... on.", "3 men!"]),
        ("a . B ? ( C ) v. 2", ["a .", "B ? ( C ) v.", "2"]),
        ("他来了。“好吗？”她问。好！！走吧……", ["他来了。", "“好吗？”", "她问。", "好！！", "走吧……"]),
        ("Mr. A and J. K. Poe (Dr. No), U.S. Army. Yes.", ["Mr. A and J. K. Poe (Dr. No), U.S. Army.", "Yes."]),
        ("So do I. He is No. 7. St. Paul's? Yes.", ["So do I.", "He is No. 7.", "St. Paul's?", "Yes."]),
        ("A first. Amr. Then.", ["A first.", "Amr.", "Then."]),
        ("no stop", ["no stop"]),
        ("", [""]),
        ("  ", ["  "]),
    ],
)  # fmt: skip
def test_paragraphs_are_parted_into_sentences(text, expected):
    assert sentences(text) == expected


def test_sentences_stand_for_lines_where_lines_are_paragraphs(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("One. Two!\n\nThree.\n")
    assert list(Corpus(path, paragraphs=True).lines()) == ["One.", "Two!", "", "Three."]
    assert list(Corpus(path).lines()) == ["One. Two!", "", "Three."]
