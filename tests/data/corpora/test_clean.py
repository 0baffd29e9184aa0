"""Documents made clean, and good ones told from bad ones."""

import lzma

import pytest

from regard.data.corpora.clean import cleaned, language, repaired
from regard.data.corpora.plan import Clean

GOOD = {
    "dialogue": 'No.\n"No?" she said.\n"I mean... no."\n"But why?" asked the old man with the lamp.\n"Because."',
    "law": "第一条 为了规范口岸开放，提高口岸通关效率，保障口岸安全畅通，制定本条例。\n第二条 本条例自公布之日起施行。",
    "review": 'Not a bad film at all! Bill Pullman ("Ruthless People") is great in it... 8/10',
    "classic": "子曰：“学而时习之，不亦说乎？有朋自远方来，不亦乐乎？”",
    "technical": "使用 `ls -l --color=auto` 命令列出 /usr/local/bin 目录下的所有文件和它们的权限。",
    "verse": "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\n"
    "Could frame thy fearful symmetry?",
}
BAD = {
    "too short": "Wow, great.",
    "another language": "Das ist ein schöner Film, den man nicht so schnell vergessen wird, und die Musik auch.",
    "few letters": "he said ***** ===== ##### ~~~~~ ||||| ///// ***** ===== that it was so",
    "few words": "12 13 14 15 16 17 18 19 20 and the rest",
    "symbols": "#love the #film and #music that #we #have #seen with #friends in the #park",
    "bullets": "\n".join(f"- the point number {n} of a list that has nothing else" for n in "abcdefg"),
    "ellipses": "\n".join(f"And then the {n} of all that ..." for n in ("one", "two", "three", "four", "five")),
    "word length": "it is a do if so to be or he we us me my by at an in on up as no go " * 3 + "ha",
    "stop words": " ".join(f"stock{chr(97 + n % 26)}{chr(97 + n // 26)} price" for n in range(60)),
    "repeated lines": "We will be back with more of this later.\n" * 6 + "That is the end of it.",
    "repeated phrase": " and ".join(f"buy cheap shoes {word} to that" for word in "abcdefghijkl"),
    "boilerplate": "版权所有 © 2020 某某公司\n上一篇：没有了\nhttps://example.org/a/b",
    "empty": " \n\t\n",
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_text_of_every_kind_stays(name):
    found = cleaned(GOOD[name], "", Clean())
    assert found.reason == ""
    assert found.text.replace("\n", "").replace(" ", "") == GOOD[name].replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("reason", BAD)
def test_bad_text_goes_with_its_reason(reason):
    assert (
        cleaned(
            BAD[reason], "en" if reason != "boilerplate" else "", Clean(symbols=0.1 if reason == "symbols" else 1)
        ).reason
        == reason
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("schÃ¶n â€” donâ€™t", "schön — don’t"),
        ("a &amp; b", "a & b"),
        ("“弯引号”，全角！", "“弯引号”，全角！"),
        ("cafe\u0301\u200b\x00\x07", "café"),
        ("ä¸­æ–‡", "中文"),
    ],
)
def test_text_is_repaired_and_chinese_marks_stay(wrong, right):
    assert repaired(wrong) == right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The film was not what they would have hoped.", "en"),
        ("Bright Leaf has everything going for it", "en"),
        ("他是一名医生。", "zh"),
        ("他在Linux下用gcc编译了一个很大的程序。", "zh"),
        ("Un film magnifique qui raconte une histoire que tout le monde connaît.", "another language"),
        ("これは日本語の文章です。とても面白い映画でした。", "another language"),
        ("Это очень хороший фильм.", "another language"),
        ("한국어로 쓰인 글입니다.", "another language"),
        ("Brent", "unsure of the language"),
        ("1.5/10", "unsure of the language"),
    ],
)
def test_languages_are_told_on_short_texts(text, expected):
    assert language(text) == expected
    declared = language(text, "en")
    assert declared == ("en" if expected == "unsure of the language" else expected)


def test_a_language_that_its_source_does_not_name_is_dropped():
    assert cleaned(GOOD["law"], "en", Clean()).reason == "another language"
    assert cleaned(GOOD["law"], "zh", Clean()).reason == ""


def test_scripts_are_told_and_converted():
    text = "漢字的傳統寫法在臺灣和香港仍然使用。"
    found = cleaned(text, "", Clean())
    assert (found.script, found.text) == ("traditional", text)
    assert cleaned(text, "", Clean(chinese="simplified")).text.startswith("汉字的传统写法")
    assert cleaned("汉字的简体写法在大陆使用。", "", Clean(chinese="traditional")).text.startswith("漢字的簡體")
    assert cleaned("汉字的简体写法在大陆使用。", "", Clean()).script == "simplified"


def test_each_line_is_brought_into_the_script_that_is_wanted():
    simple, full = "汉字的简体写法在大陆使用，乾隆皇后的著作也用。", "漢字的傳統寫法在臺灣和香港仍然使用。"
    for first, second in ((simple, full), (full, simple)):
        found = cleaned(f"{first}\n{second}", "", Clean(chinese="simplified")).text.split("\n")
        assert found[(first, second).index(simple)] == simple and found[(first, second).index(full)].startswith(
            "汉字的传统"
        )
        found = cleaned(f"{first}\n{second}", "", Clean(chinese="traditional")).text.split("\n")
        assert found[(first, second).index(full)] == full and found[(first, second).index(simple)].startswith(
            "漢字的簡體"
        )


def test_lines_of_boilerplate_are_taken_out_and_counted():
    text = "The lamp was lit and the door was open.\nAll rights reserved.\nvia: http://example.org/x\nRead more »"
    found = cleaned(text, "", Clean())
    assert (found.text, found.lines_out) == ("The lamp was lit and the door was open.", 3)
    assert cleaned(text, "", Clean(boilerplate=False)).lines_out == 0


def test_lines_of_ones_own_are_taken_out_too():
    found = cleaned("The lamp was lit and it was late.\nPage 12\nPage of a book", "en", Clean(lines=(r"Page \d+", "X")))
    assert (found.text, found.lines_out) == ("The lamp was lit and it was late.\nPage of a book", 1)


def test_expressions_for_lines_keep_their_groups_and_flags_to_themselves():
    settings = Clean(lines=("(Page|Seite) \\d+", "([*-])\\1+", "(?i)advertisement"))
    found = cleaned(GOOD["verse"] + "\nSeite 12\n----\nADVERTISEMENT", "en", settings)
    assert found.lines_out == 3


def test_lines_of_one_width_are_joined_and_verse_is_not():
    text = """THE LETTER
    It was the third of the letters that had come to the house at
    Meudon since the beginning of the winter. He did not open it,
    and put it with the others. "Why?" she
    asked.
    He had no answer, and they went on with the long dinner as if
    nothing had been said of it."""
    assert cleaned(text, "", Clean()).text.split("\n") == [
        "THE LETTER",
        "It was the third of the letters that had come to the house at Meudon since the beginning of the winter.",
        "He did not open it, and put it with the others.",
        '"Why?" she asked.',
        "He had no answer, and they went on with the long dinner as if nothing had been said of it.",
    ]
    assert len(cleaned(text, "", Clean(unwrap=False, sentences=False)).text.split("\n")) == 7


def test_tags_of_breaks_and_readings_are_resolved():
    assert (
        repaired("<ruby>容器<rt>container</rt></ruby>用 <div> 标签<br />第二行")
        == "容器（container）用 <div> 标签\n第二行"
    )


def test_a_line_holds_a_sentence():
    text = "He left. “Why?” she said to the man.  And so on."
    assert cleaned(text, "", Clean()).text.split("\n") == ["He left.", "“Why?” she said to the man.", "And so on."]
    assert cleaned(text, "", Clean(sentences=False)).sentences == 1


@pytest.mark.parametrize(
    ("name", "least"),
    [("en_novels", 1), ("en_movie_reviews", 0.97), ("zh_laws", 0.99), ("zh_tech_articles", 0.98),
     ("zh_classics_in_modern", 0.99)],
)  # fmt: skip
def test_real_good_text_stays(shared, name, least):
    with lzma.open(shared / "data" / "corpora" / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        texts = [text for text in file.read(300_000).split("\n\n")[:-1] if text.strip()]
    kept = [text for text in texts if not cleaned(text, "", Clean()).reason]
    assert sum(map(len, kept)) >= least * sum(map(len, texts))
