"""Documents out of every kind of file, plain and packed, good and damaged."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from regard.data.compression import Progress
from regard.data.corpora.markup import plain
from regard.data.corpora.plan import Source
from regard.data.corpora.sources import documents
from regard.errors import Problem

PACKINGS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}

PAGE = "<page><title>{}</title><ns>{}</ns>{}<revision><text>{}</text></revision></page>"
DUMP = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><siteinfo/>{}</mediawiki>'


def all_of(path, **settings):
    return list(documents(path, Source(name="s", path=str(path), **settings), Progress()))


@pytest.mark.parametrize("ending", PACKINGS)
def test_blank_lines_part_documents_plain_or_packed(tmp_path, ending):
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(PACKINGS[ending]("\ufeff一。\r\ntwo\r\n\r\n \nthree\n".encode()))
    progress = Progress()
    found = list(documents(path, Source(name="s", path=""), progress))
    assert [(document.text, document.place.split()[-1]) for document in found] == [("一。\ntwo", "1"), ("three", "5")]
    assert progress.done == path.stat().st_size


def test_a_line_or_a_file_may_be_a_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\nthree\n")
    assert [document.text for document in all_of(path, document="line")] == ["one", "two", "three"]
    assert [document.text for document in all_of(path, document="file")] == ["one\ntwo\nthree"]


def test_a_document_beyond_all_memory_is_parted_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.data.corpora.sources.LONGEST", 100)
    path = tmp_path / "a.txt"
    lines = [f"line {number}" for number in range(100)]
    path.write_text("\n".join(lines))
    found = [document.text for document in all_of(path)]
    assert "\n".join(found).split("\n") == lines
    assert max(map(len, found)) < 120


def test_a_line_beyond_all_memory_is_parted_too(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.data.corpora.sources.LONGEST", 50)
    path = tmp_path / "a.txt"
    path.write_text("short\n" + "x" * 120 + "\n\nlast\n")
    found = [document.text for document in all_of(path)]
    assert found[-1] == "last" and all(len(text) <= 50 for text in found)
    assert "".join(found).replace("\n", "") == "short" + "x" * 120 + "last"


def test_frames_with_a_long_window_are_read(tmp_path):
    path = tmp_path / "a.txt.zst"
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    with path.open("wb") as file, zstandard.ZstdCompressor(compression_params=settings).stream_writer(file) as stream:
        stream.write(b"one\n\ntwo\n")
    assert [document.text for document in all_of(path)] == ["one", "two"]


@pytest.mark.parametrize("ending", [".gz", ".xz", ".bz2", ".zst"])
def test_a_truncated_archive_says_where(tmp_path, ending):
    path = tmp_path / f"a.txt{ending}"
    whole = PACKINGS[ending](b"".join(b"%d\n\n" % (n**5) for n in range(100_000)))
    path.write_bytes(whole[:-20_000])
    with pytest.raises(Problem, match=r"a\.txt.* (breaks off|after line [\d,]+) .*Fetch it again"):
        all_of(path)
    path.write_bytes(whole[: len(whole) // 2] + b"\0" * 64 + whole[len(whole) // 2 + 64 :])
    with pytest.raises(Problem, match=r"damaged|to its end"):
        all_of(path)


def test_zstandard_files_may_have_several_frames(tmp_path):
    path = tmp_path / "a.txt.zst"
    path.write_bytes(PACKINGS[".zst"](b"one\n\n") + PACKINGS[".zst"](b"two\n"))
    assert [document.text for document in all_of(path)] == ["one", "two"]


def test_a_bad_byte_spoils_its_document_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("善\n\n".encode() * 5 + b"b\xffad\n\ngo\0od\n")
    found = all_of(path)
    assert [document.reason for document in found] == [""] * 5 + ["undecodable", ""]
    assert [document.text for document in found[5:]] == ["b\ufffdad", "go\ufffdod"]


@pytest.mark.parametrize(("encoding", "cure"), [("gb18030", "gb18030"), ("utf-16", "utf-16-le")])
def test_a_wrong_encoding_is_told_with_the_right_one(tmp_path, encoding, cure):
    path = tmp_path / "a.txt"
    path.write_bytes(("上海口岸服务条例\n为了规范口岸开放\n" * 20).encode(encoding))
    with pytest.raises(Problem, match=rf'not text in utf-8.*encoding = "{cure}"'):
        all_of(path)
    assert len(all_of(path, encoding=encoding)[0].text) == 20 * 18 - 1
    path.write_bytes("上海口岸".encode("utf-16-le"))
    with pytest.raises(Problem, match=r"not text in utf-16 after line 0 .*BOM"):
        all_of(path, encoding="utf-16")
    with pytest.raises(Problem, match="is no text encoding"):
        all_of(path, encoding="klingon")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_what_is_no_text_is_not_sent_to_another_encoding(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(Problem, match=f"not text in {encoding}: it is damaged or binary"):
        all_of(path, encoding=encoding)


@pytest.mark.parametrize(("said", "cure"), [("utf8-sigg", "utf-8"), ("gb-18031", "gb18030"), ("klingon", "utf-8")])
def test_an_encoding_that_there_is_not_is_told_with_the_nearest(tmp_path, said, cure):
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    with pytest.raises(Problem, match=f'is no text encoding. Say encoding = "{cure}" for source'):
        all_of(path, encoding=said)


def test_carriage_returns_end_lines_where_nothing_else_does(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("一。\rtwo\r\rthree\r".encode())
    assert [document.text for document in all_of(path)] == ["一。\ntwo", "three"]
    path.write_bytes(b"far\roff " + b"-" * 70_000 + b"\n\nwhole\n\nlast")
    assert [document.text[-5:] for document in all_of(path)] == ["-----", "whole", "last"]
    path.write_bytes(b"near\rby\n\nlast")
    assert [document.text for document in all_of(path)] == ["near\rby", "last"]


def test_a_column_is_looked_for_in_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.data.corpora.sources.SAMPLE", 3)
    path, head, row = tmp_path / "a.jsonl", '{"title": "Head"}\n', '{"text": "one"}\n'
    path.write_text("broken\n" + 2 * head + row + head)
    assert [document.reason for document in all_of(path)] == ["no json", "no text", "no text", "", "no text"]
    for rows in (3 * head + row, head):
        path.write_text(rows)
        with pytest.raises(Problem, match=r"no column 'text'\..*It has title\."):
            all_of(path)


def test_json_lines_keep_or_report_every_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one\\ntwo"}\n\n{"text": 3}\nbroken\n{"text": "half \\ud83d"}\n')
    found = all_of(path)
    assert [document.reason for document in found] == ["", "no text", "no json", "undecodable"]
    assert found[0].text == "one\ntwo"
    with pytest.raises(Problem, match="Did you mean 'text'"):
        all_of(path, text="texts")


@pytest.mark.parametrize("indent", [None, 1])
def test_questions_give_the_passages_that_they_are_about(tmp_path, indent):
    path = tmp_path / "dev.json.gz"
    table = {"data": [{"paragraphs": [{"context": "one\ntwo", "qas": []}, {"context": "二"}]}, {"paragraphs": []}]}
    path.write_bytes(gzip.compress(json.dumps(table, indent=indent).encode()))
    found = all_of(path, format="squad")
    assert [(document.text, document.place) for document in found] == [
        ("one\ntwo", "dev.json.gz passage 1"), ("二", "dev.json.gz passage 2"),
    ]  # fmt: skip
    for damaged in ('{"data": [{"title": "one"}]}', "[]", '{"data": ', "3"):
        path.write_bytes(gzip.compress(damaged.encode()))
        with pytest.raises(Problem, match="not in the form of SQuAD"):
            all_of(path, format="squad")


def test_parquet_is_read_row_by_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["one", None, "二"]}), path)
    found = all_of(path, text="body")
    assert [(document.text, document.reason) for document in found] == [("one", ""), ("", "no text"), ("二", "")]
    with pytest.raises(Problem, match=r"no column 'bodi'.*Did you mean 'body'"):
        all_of(path, text="bodi")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(Problem, match="no Parquet file"):
        all_of(path)


def test_a_dump_of_wikipedia_gives_its_articles(tmp_path):
    path = tmp_path / "wiki.xml.bz2"
    pages = [
        PAGE.format("A", 0, "", "An '''article''' on [[b|bees]] &amp;amp; wax."),
        PAGE.format("B", 0, '<redirect title="A"/>', "#REDIRECT [[A]]"),
        PAGE.format("Talk:A", 1, "", "Nonsense"),
    ]
    path.write_bytes(bz2.compress(DUMP.format("".join(pages)).encode()))
    found = all_of(path)
    assert [(document.place, document.reason) for document in found] == [
        ("wiki.xml.bz2 A", ""),
        ("wiki.xml.bz2 B", "redirect"),
        ("wiki.xml.bz2 Talk:A", "no article"),
    ]
    assert plain(found[0].text) == "An article on bees & wax."
    path.write_bytes(bz2.compress(DUMP.format("".join(pages)).encode()[:-40]))
    with pytest.raises(Problem, match="no XML after page 2"):
        all_of(path)


def test_markup_becomes_running_text():
    markup = """{{Infobox|name=A|born={{date|1900}}}}
'''Ada''' ({{lang|fr|x}}) was a [[mathematician|scholar]]<ref name="a">Smith [[x]].</ref>.[[File:a.jpg|thumb|A [[b]] c]]
{| class="wikitable"
! a !! b
|-
| 1 || 2
|}
== Life ==
* She wrote ''notes''.

[[Category:People]]
[[fr:Ada]]"""
    assert plain(markup).split("\n") == ["Ada was a scholar.", "Life", "She wrote notes."]
    assert plain("-{zh-hans:计算机;zh-hant:電腦;}-与-{计算}-") == "计算机与计算"
    assert plain("-{H|zh-cn:博客;zh-tw:部落格;}--{T|zh-hans:甲;zh-hant:乙;}-正文") == "正文"
    assert plain("one<br />two<BR>three").split("\n") == ["one", "two", "three"]
    assert (
        plain("[[3:10 to Yuma (2007 film)|3:10 to Yuma]], [[Re:Zero]], [[:fr:Ada|Ada]]") == "3:10 to Yuma, Re:Zero, Ada"
    )
    assert plain("正文[[文件:甲.jpg|缩略图|乙]][[分类:丙]][[zh-min-nan:丁]]") == "正文"


TABLES = {
    "one in another": "{| class=a\n|-\n| b\n{| class=c\n| d\n|}\n| e\n|-\n| f\n|}",
    "ended by a template": "{| class=a\n| b\n\n| c\n{{S-end}}",
    "ended after a space": "{| class=a\n| b\n :|}",
    "never ended": "{| class=a\n! b\n| c",
    "indented": ":{| class=a\n| b\n|}",
    "in a template": "{{center|{|\n| b\n|}\n}}",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_leave_nothing_and_take_nothing_with_them(table):
    assert plain(f"Before.\n{table}\n\nBetween.\n\n{table}\n\nBehind.").split("\n") == [
        "Before.",
        "Between.",
        "Behind.",
    ]
    assert plain(f"{table}\n== Life ==\nText.\n{{|\n| b\n|}} And more.").split("\n") == ["Life", "Text.", "And more."]


def test_sections_that_list_what_else_there_is_are_left_out():
    markup = """Text.
== See also ==
* [[Other]]
=== Books ===
* A book
== Life ==
=== References ===
<references />
=== Youth ===
More.<ref name=x>
== 參考資料 ==
* 甲"""
    assert plain(markup).split("\n") == ["Text.", "Life", "Youth", "More."]
    assert plain("[[:Category:People]] and [[:File:a.jpg|a picture]]") == "Category:People and a picture"


def test_a_name_that_tells_nothing_is_a_problem(tmp_path):
    (tmp_path / "a.dat").write_text("one")
    with pytest.raises(Problem, match="Say format"):
        all_of(tmp_path / "a.dat")
    assert len(all_of(tmp_path / "a.dat", format="text")) == 1


def test_real_archives_are_read(shared):
    for name in ("en_novels", "zh_laws"):
        found = documents(shared / "data" / "corpora" / f"{name}.txt.xz", Source(name="s", path=""), Progress())
        some = [next(found) for _ in range(3)]
        assert all(not document.reason and len(document.text) > 200 for document in some)
        assert json.dumps(some[0].text)
