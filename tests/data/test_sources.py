import bz2
import gzip
import json
import lzma
import random
import sys
from decimal import Decimal

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.sources import Table, read, ready, write
from regard.disk import locate
from regard.errors import Problem

PACKINGS = {
    ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstandard.ZstdCompressor().compress,
}  # fmt: skip
REAL = [
    ("sst2/stsa.binary.train.gz", "lines", "utf-8", 6920),
    ("sst2/stsa.binary.dev.gz", "lines", "utf-8", 872),
    ("sst2/stsa.binary.test.gz", "lines", "utf-8", 1821),
    ("trec/TREC.train.all.gz", "lines", "latin-1", 5452),
    ("trec/TREC.test.all", "lines", "latin-1", 500),
    ("mrpc/msr_paraphrase_train.txt.gz", "auto", "utf-8", 4076),
    ("mrpc/msr_paraphrase_test.txt.gz", "tsv", "utf-8", 1725),
    ("snli/snli_1.0_test.jsonl.gz", "auto", "utf-8", 10000),
    ("stsb/stsbenchmark.tsv.gz", "auto", "utf-8", 8628),
    ("cola/in_domain_train.tsv.gz", "auto", "utf-8", 8551),
    ("cola/in_domain_dev.tsv", "auto", "utf-8", 527),
    ("cola/out_of_domain_dev.tsv", "auto", "utf-8", 516),
    ("zh_chnsenticorp/train.tsv.gz", "auto", "utf-8", 9600),
    ("zh_chnsenticorp/dev.tsv.gz", "auto", "utf-8", 1200),
    ("zh_ocnli/train.10k.json.gz", "auto", "utf-8", 10000),
    ("zh_ocnli/dev.json.gz", "auto", "utf-8", 3000),
    ("zh_afqmc/train.txt.gz", "auto", "utf-8", 34334),
    ("zh_afqmc/dev.txt.gz", "tsv", "utf-8", 4316),
    ("zh_lcqmc/dev.txt.gz", "auto", "utf-8", 8802),
    ("zh_lcqmc/test.txt.gz", "auto", "utf-8", 12500),
    ("zh_thucnews_titles/dev.txt.gz", "auto", "utf-8", 10000),
    ("zh_thucnews_titles/test.txt.gz", "tsv", "utf-8", 10000),
]


@pytest.fixture
def made(tmp_path):
    """A function that writes bytes or text to a new file and returns its path."""

    def make(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


@pytest.mark.parametrize(("name", "kind", "encoding", "rows"), REAL)
def test_published_files_are_read_as_they_are(shared, name, kind, encoding, rows):
    table = read(shared / "data" / name, format=kind, encoding=encoding)
    assert (len(table), table.skipped) == (rows, [])


def test_a_large_published_file(shared):
    assert len(read(shared / "data/snli/snli_1.0_train_subset.jsonl.gz")) == 100_000


def test_stray_quotes_of_published_pairs_stay(shared):
    table = read(shared / "data/mrpc/msr_paraphrase_train.txt.gz")
    assert list(table.columns) == ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    assert sum(cell.startswith('"') for cell in table.columns["#1 String"]) > 100
    assert table.columns["#1 String"][0].count('"') == 2


def test_quotes_of_a_writer_go(shared):
    table = read(shared / "data/contrast_sets_imdb/data/dev_contrast.tsv.gz")
    assert len(table) == 100
    assert not any(cell.startswith('"I had quite high hopes') or '""' in cell for cell in table.columns["Text"])


def test_accents_that_were_read_wrongly_are_said(shared):
    path = shared / "data/sst2/stsa.binary.test.gz"
    assert "crème brûlée" in read(path, format="lines").columns["text"][1]
    wrong = read(path, format="lines", encoding="latin-1")
    assert len(wrong) == 1821
    assert "data.encoding=utf-8" in wrong.said[0]


def test_one_line_of_another_encoding_is_skipped_and_the_cure_named(shared):
    table = read(shared / "data/trec/TREC.train.all.gz", format="lines")
    assert len(table) == 5451
    assert [bad.line for bad in table.skipped] == [66]
    assert "data.encoding=latin-1" in table.skipped[0].reason


def test_csv_with_quoted_line_ends_keeps_line_numbers(made):
    table = read(made("a.csv", 'text,label\n"one\ntwo, three",pos\nfour,neg\r\n"say ""hi""\r\n",pos\nlast,neg\n'))
    assert table.columns["text"] == ["one\ntwo, three", "four", 'say "hi"\r\n', "last"]
    assert table.lines == [2, 4, 5, 7]
    assert "line 1 holds the names" in table.said[0]


def test_windows_line_ends_and_a_byte_order_mark(made):
    for name, separator in (("a.csv", ","), ("b.tsv", "\t"), ("c.txt", "\t")):
        content = "\r\n".join(["label,text", "pos,好的", "neg,😞 bad", ""]).replace(",", separator)
        table = read(made(name, b"\xef\xbb\xbf" + content.encode()))
        assert table.columns == {"label": ["pos", "neg"], "text": ["好的", "😞 bad"]}
        assert table.lines == [2, 3]


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_separators_of_csv_are_found(made, separator):
    rows = ["text,label", "a fine day,pos", "no; not so fine,neg" if separator != ";" else "no not so fine,neg"]
    table = read(made("a.csv", "\n".join(rows).replace(",", separator)))
    assert list(table.columns) == ["text", "label"]
    assert len(table) == 2


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("pos\ta film to see\nneg\ta film to flee\npos\tall is well", ["0", "1"]),
        ("体验2D巅峰\t8\n港股缩量\t2", ["0", "1"]),
        ("opinion\tmark\nquite a good film\t4\nquite a bad one\t1", ["opinion", "mark"]),
        ("评论\t类别\n很好的酒店\t正面\n太差了\t负面", ["评论", "类别"]),
        ("\ttext\tlabel\n0\tgood\t1\n1\tbad\t0", ["0", "text", "label"]),
        ("text\tlabel\tlabel\na b\tx\ty\nc d\tz\tx", ["text", "label", "label_2"]),
    ],
)
def test_headers_are_told_from_data(made, content, names):
    table = read(made("a.tsv", content))
    assert list(table.columns) == names
    assert len(table) + (names != ["0", "1"]) == content.count("\n") + 1


def test_double_names_are_said(made):
    assert any("'label_2'" in sentence for sentence in read(made("a.csv", "text,label,label\na b,x,y\n")).said)


def test_bad_rows_are_reported_with_line_and_reason(made):
    table = read(made("a.csv", 'text,label\na,1\nb\nc,1,2\n\n"un"closed,1\n' + "fine,0\n" * 9))
    assert [bad.line for bad in table.skipped] == [3, 4, 5, 6]
    assert table.lines == [2, *range(7, 16)]
    reasons = ["1 cells where there are 2", "3 cells where", "an empty line", "quotes are not closed"]
    assert all(part in bad.reason for part, bad in zip(reasons, table.skipped, strict=True))


def test_an_open_quote_does_not_swallow_the_lines_after_it(made):
    table = read(made("a.csv", 'text,label\ngood,1\n"open,0\nnext,1\nlater,0\n'))
    assert table.lines == [2, 4, 5]
    assert [bad.line for bad in table.skipped] == [3]


def test_bad_json_lines(made):
    lines = ['{"text": "a", "label": 1}', "[1, 2]", '{"text": ', "", '{"text": "b"}', '{"text": null}', "[" * 100_000]
    table = read(made("a.jsonl", "\n".join([*lines, *['{"text": "c"}'] * 3])))
    assert table.columns == {"text": ["a", "b", None, "c", "c", "c"], "label": [1, *[None] * 5]}
    assert [bad.line for bad in table.skipped] == [2, 3, 4, 7]
    assert "not a json object" in table.skipped[0].reason


def test_json_arrays_know_their_lines(made):
    table = read(made("a.json", '[\n  {"text": "a",\n "label": 1},\n  7,\n {"text": "b"}, {"text": "c"}\n]\n'))
    assert (table.columns["text"], table.lines) == (["a", "b", "c"], [2, 5, 5])
    assert table.skipped[0].line == 4
    assert len(read(made("b.json", '[{"text": "a"}, {"text": "b"}]'))) == 2
    with pytest.raises(Problem, match="line 2"):
        read(made("c.json", '[{"text": "a"},\n {"text": }]'))


def test_nul_and_half_characters_are_replaced_and_said(made):
    table = read(made("a.csv", "text,label\na\0b is a longer text,1\nc d e f g,0\n"))
    assert table.columns["text"][0] == "a\ufffdb is a longer text"
    assert "1 NUL" in table.said[0]
    table = read(made("a.jsonl", '{"text": "a\\u0000b\\ud83d"}\n{"text": "\\ud83d\\ude00"}\n'))
    assert table.columns["text"] == ["a\ufffdb\ufffd", "😀"]
    assert "1 rows" in table.said[0]


def test_texts_may_be_very_long(made):
    import csv

    before = csv.field_size_limit()
    long = "长" * 300_000
    for name in ("a.csv", "a.tsv", "a.txt"):
        table = read(
            made(
                name,
                f"text\n{long}\n"
                if name == "a.txt"
                else f'text,label\n"{long}",1\n'.replace(",", "\t" if name == "a.tsv" else ","),
            )
        )
        assert table.columns["text"][0].strip('"') == long
    assert csv.field_size_limit() == before


def test_old_line_ends_and_a_few_control_characters(made):
    table = read(made("a.tsv", "text\tlabel\ra b\t1\rc\x01d\t0\r"))
    assert (table.columns["text"], table.lines) == (["a b", "c\x01d"], [2, 3])
    assert read(made("a.csv", "text,label\ra b,1\rc d,0\r")).lines == [2, 3]


@pytest.mark.parametrize("ending", PACKINGS)
def test_packed_files_and_truncated_ones(made, ending):
    data = PACKINGS[ending]("".join(f"text {random.random()},{i % 2}\n" for i in range(1000)).encode())
    assert len(read(made(f"a.csv{ending}", data))) == 1000
    with pytest.raises(Problem, match="damaged"):
        read(made(f"b.csv{ending}", data[: len(data) // 2]))


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "latin-1", "cp1252", "utf-8"])
def test_other_encodings_are_honoured_or_named(made, encoding):
    chinese = [f"服务很好，房间干净，下次还来{i},{i % 2}" for i in range(50)]
    latin = [f"le café était agréable et très propre {i},{i % 2}" for i in range(50)]
    latin += ["“so it goes”,0"] * 5 if encoding == "cp1252" else []
    content = "\n".join(["text,label", *(latin if encoding in ("latin-1", "cp1252") else chinese)])
    path = made("a.csv", content.encode(encoding))
    wanted = [line.split(",")[0] for line in content.split("\n")[1:]]
    assert read(path, encoding=encoding).columns["text"] == wanted
    if encoding in ("utf-16", "utf-8"):
        assert read(path).columns["text"] == wanted
    else:
        with pytest.raises(Problem, match=f"data.encoding={encoding}"):
            read(path)
    if encoding != "gb18030":
        return
    with pytest.raises(Problem, match="no text encoding"):
        read(path, encoding="klingon")


def test_a_utf8_file_that_is_called_something_else(made):
    path = made("a.csv", "text,label\n" + "服务很好,1\n房间小了,0\n" * 20)
    with pytest.raises(Problem, match="encoding=utf-8"):
        read(path, encoding="utf-16")


@pytest.mark.parametrize(
    "junk", [random.Random(0).randbytes(5000), bytes(range(256)) * 4, b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
)
def test_binary_junk_is_refused(made, junk):
    with pytest.raises(Problem, match="damaged or binary"):
        read(made("a.csv", junk))


def test_what_cannot_be_read_is_a_problem_with_a_cure(made, tmp_path):
    path = made("reviews.csv", "text,label\na,1\n")
    assert locate(str(path)) == path
    for name, part in [
        (tmp_path / "review.csv", "Did you mean 'reviews.csv'"),
        (tmp_path / "nowhere" / "a.csv", "no folder"),
        (tmp_path, "is a folder. Name one file in it: .*reviews.csv"),
        (made("a.dat", "x"), "Known endings: .csv"),
        (made("empty.csv", ""), "is empty"),
        (made("blank.tsv", b"\xef\xbb\xbf\r\n \n"), "is empty"),
        (made("head.csv", "text,label\n"), "no rows below its header"),
        (made("bad.jsonl", '{"text": 1}\nx\ny\nz\nv\n'), "4 of 5 rows .*line 2: .*line 3: .*line 4: "),
        (made("no.parquet", "x"), "no parquet file"),
    ]:
        with pytest.raises(Problem, match=part):
            read(name)
    with pytest.raises(Problem, match="is no format"):
        read(path, format="excel")


def test_lines_without_a_text_are_reported(made):
    table = read(made("a.all", "1 good film\n0\n\n0 bad film\n0 so so\n1 fine\n"), format="lines")
    assert table.columns == {"label": ["1", "0", "0", "1"], "text": ["good film", "bad film", "so so", "fine"]}
    assert [bad.line for bad in table.skipped] == [2, 3]


def test_parquet_keeps_kinds_and_names_its_extra(tmp_path, monkeypatch):
    rows = [{"text": "a", "label": 1, "tags": ["x", "y"]}, {"text": None, "label": 2, "tags": []}]
    for name in ("a.parquet", "a.parquet.gz"):
        write(rows, tmp_path / name)
        table = read(tmp_path / name)
        assert table.columns == {"text": ["a", None], "label": [1, 2], "tags": [["x", "y"], []]}
        assert table.lines == [1, 2]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(Problem, match=r"pip install 'regard\[parquet\]'"):
        read(tmp_path / "a.parquet")


def test_rows_of_mixed_kinds_become_cells(tmp_path):
    rows = [{"text": "a", "label": ["x", "y"], "sure": 0.5}, {"text": "b", "ok": True, "scores": {"x": 1}}]
    write(rows, tmp_path / "new" / "a.csv")
    table = read(tmp_path / "new" / "a.csv")
    assert list(zip(*table.columns.values(), strict=True)) == [
        ("a", "x|y", "0.5", "", ""),
        ("b", "", "", "true", '{"x": 1}'),
    ]
    with pytest.raises(Problem, match="one kind"):
        write([{"a": 1}, {"a": "x"}], tmp_path / "a.parquet")


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ['"', '""', '"a"', "a\tb", "a\nb", "\r", "\r\n", "", " ", "a,b;c", "-", "\u2028", "\ufeff", '"a" b', "'"]
)
NAMES = st.sampled_from([["text", "label"], ["text"], ["sentence1", "sentence2", "label", "prediction"]])
FLOAT = st.floats(allow_nan=False, allow_infinity=False)  # the others JSON does not have
VALUE = CELL | st.none() | st.booleans() | st.integers() | FLOAT | st.lists(CELL, max_size=3)


def _junk_free(columns):
    cells = [str(cell) for column in columns.values() for cell in column]
    junk = sum(1 for cell in cells for sign in cell if sign < " " and sign not in "\t\n\r\v\f\x1b")
    return junk < 10 and any(cell.strip() for cell in cells)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    ending=st.sampled_from([".csv", ".tsv", ".csv.gz", ".jsonl", ".json", ".jsonl.xz", ".tsv.bz2", ".json.zst"]),
)
def test_what_is_written_is_read_again(tmp_path_factory, data, ending):
    names = data.draw(NAMES)
    count = data.draw(st.integers(1, 5))
    kind = VALUE if "json" in ending else CELL
    columns = {name: data.draw(st.lists(kind, min_size=count, max_size=count)) for name in names}
    path = tmp_path_factory.mktemp("law") / f"rows{ending}"
    write(Table(columns, list(range(count)), [], "memory"), path)
    if "json" in ending or _junk_free(columns):  # control characters throughout are binary junk to the reader
        again = read(path)
        assert again.columns == columns
        write(again, path.with_name(f"again{ending}"))
        assert read(path.with_name(f"again{ending}")).columns == columns


def test_json_is_written_for_people(tmp_path):
    write([{"text": "好"}], tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{"text": "好"}\n'
    write([{"text": "好"}, {"text": "坏"}], tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [{"text": "好"}, {"text": "坏"}]


def test_json_that_is_written_is_json(tmp_path):
    """Numbers that are none are null: no other program would read NaN or Infinity."""
    rows = [{"score": float("nan"), "parts": [float("inf"), Decimal("0.5")]}, {"score": Decimal(2)}]
    first, second = '{"score": null, "parts": [null, 0.5]}', '{"score": 2, "parts": null}'
    write(rows, tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == f"{first}\n{second}\n"
    write(rows, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == f"[\n{first},\n{second}\n]\n"
    write([{"a": [Decimal(1), Decimal("0.5")]}], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == 'a\n"[1, 0.5]"\n'


def test_a_place_that_cannot_be_written_is_a_problem(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(Problem, match="cannot be written"):
        write([{"text": "a"}], tmp_path / "a.csv")
    with pytest.raises(Problem, match="Known endings"):
        write([{"text": "a"}], tmp_path / "a.xlsx")
    with pytest.raises(Problem, match="is a folder"):
        ready(tmp_path / "a.csv")
