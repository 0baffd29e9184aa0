import pytest

from regard.data.examples import balance, choose
from regard.data.sources import Skipped, Table, read
from regard.errors import Problem


def table(skipped=(), **columns):
    rows = len(next(iter(columns.values())))
    return Table(columns, list(range(2, rows + 2)), list(skipped), "reviews.csv", ["line 1 holds the names."])


TEXTS = ["a good film", "a bad film", "fine", "awful indeed"]


@pytest.mark.parametrize(
    ("name", "kind", "encoding", "rows", "chosen", "task", "classes"),
    [
        ("sst2/stsa.binary.dev.gz", "lines", "utf-8", 872, ("text", "", "label"), "classify", 2),
        ("trec/TREC.test.all", "lines", "latin-1", 500, ("text", "", "label"), "classify", 6),
        ("mrpc/msr_paraphrase_test.txt.gz", "tsv", "utf-8", 1725, ("#1 String", "#2 String", "Quality"), "classify", 2),
        ("snli/snli_1.0_test.jsonl.gz", "auto", "utf-8", 9824, ("sentence1", "sentence2", "gold_label"), "classify", 3),
        ("stsb/stsbenchmark.tsv.gz", "auto", "utf-8", 8628, ("sentence1", "sentence2", "score"), "regress", 0),
        ("cola/in_domain_dev.tsv", "auto", "utf-8", 527, ("3", "", "1"), "classify", 2),
        ("zh_chnsenticorp/dev.tsv.gz", "auto", "utf-8", 1200, ("text_a", "", "label"), "classify", 2),
        ("zh_ocnli/dev.json.gz", "auto", "utf-8", 2950, ("sentence1", "sentence2", "label"), "classify", 3),
        ("zh_afqmc/dev.txt.gz", "auto", "utf-8", 4316, ("0", "1", "2"), "classify", 2),
        ("zh_lcqmc/dev.txt.gz", "auto", "utf-8", 8802, ("0", "1", "2"), "classify", 2),
        ("zh_thucnews_titles/test.txt.gz", "auto", "utf-8", 10000, ("0", "", "1"), "classify", 10),
        (
            "contrast_sets_imdb/data/test_original.tsv.gz",
            "auto",
            "utf-8",
            488,
            ("Text", "", "Sentiment"),
            "classify",
            2,
        ),
    ],
)
def test_columns_of_published_files_are_guessed(shared, name, kind, encoding, rows, chosen, task, classes):
    found = choose(read(shared / "data" / name, format=kind, encoding=encoding))
    assert len(found) == rows
    assert tuple(found.chosen[part] for part in ("text", "pair", "label")) == chosen
    assert (found.task, len(found.names)) == (task, classes)
    assert (found.pairs is None) == (not chosen[1])


def test_rows_without_agreement_are_skipped(shared):
    found = choose(read(shared / "data/zh_ocnli/train.10k.json.gz"))
    assert (len(found), len(found.skipped)) == (9985, 15)
    assert {bad.reason for bad in found.skipped} == {"no label"}
    assert sum(count for _, count, _ in balance(found)) == 9985


def test_guesses_are_said_with_the_keys_that_overrule_them():
    found = choose(table(id=["1", "2", "3", "4"], review=TEXTS, sentiment=["pos", "neg", "pos", "neg"]))
    assert found.said == [
        "line 1 holds the names.",
        "text is column 'review', label is column 'sentiment' (guessed; name them with data.text=, data.label=).",
        "task is classify (guessed; name it with data.task=).",
    ]
    assert (found.texts, found.labels, found.names) == (TEXTS, [1, 0, 1, 0], ("neg", "pos"))
    assert found.lines == [2, 3, 4, 5]
    assert balance(found) == [("neg", 2, 0.5), ("pos", 2, 0.5)]
    named = choose(table(review=TEXTS, sentiment=["pos", "neg"] * 2), text="review", label="sentiment", task="classify")
    assert named.said[1:] == ["text is column 'review', label is column 'sentiment'."]


@pytest.mark.parametrize(("text", "label"), [("评论", "类别"), ("Sentence", "LABEL"), ("blurb", "verdict"), ("0", "1")])
def test_names_known_and_unknown(text, label):
    found = choose(table(**{label: ["pos", "neg"] * 2, text: TEXTS}))
    assert found.chosen == {"text": text, "pair": "", "label": label}


def test_a_named_text_has_no_guessed_pair():
    both = table(sentence1=TEXTS, sentence2=TEXTS, label=["1", "0"] * 2)
    assert choose(both).pairs == TEXTS
    assert choose(both, text="sentence1").pairs is None
    assert choose(both, pair="sentence1").chosen["text"] == "sentence2"


def test_without_labels_none_are_wanted_and_none_is_taken_for_text():
    found = choose(table(label=["a very long name of a class"] * 4, review=TEXTS), labelled=False)
    assert (found.texts, found.labels, found.chosen["label"]) == (TEXTS, None, "")
    assert balance(found) == []
    assert choose(table(**{"0": TEXTS}), labelled=False, names=["a", "b"]).names == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["10", "9", "10", "9"], ("9", "10"), [1, 0, 1, 0]),
        ([1, 0, 1.0, 0.0], ("0", "1"), [1, 0, 1, 0]),
        (["1.0", "0", "1", "0.0"], ("0", "1"), [1, 0, 1, 0]),
        ([True, False, True, False], ("false", "true"), [1, 0, 1, 0]),
        ([" b", "a", "B ", "a "], ("B", "a", "b"), [2, 1, 0, 1]),
        (["-1", "1", "0", "0"], ("-1", "0", "1"), [0, 2, 1, 1]),
        (["好", "坏", "好", "坏"], ("坏", "好"), [1, 0, 1, 0]),
    ],
)
def test_classes_are_words_in_a_stable_order(labels, names, numbers):
    found = choose(table(text=TEXTS, label=labels))
    assert (found.task, found.names, found.labels) == ("classify", names, numbers)


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["a|b", "b", "c | a", "c"], ("a", "b", "c"), [[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]]),
        ([["a", "b"], [], ["c"], ["b"]], ("a", "b", "c"), [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]),
        ([[0, 2], [2], [0], [2]], ("0", "2"), [[1, 1], [0, 1], [1, 0], [0, 1]]),
        ([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]], ("0", "1", "2"), [[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]),
    ],
)
def test_several_labels_a_row(labels, names, numbers):
    found = choose(table(text=TEXTS, label=labels))
    assert (found.task, found.names, found.labels) == ("multilabel", names, numbers)
    assert [count for _, count, _ in balance(found)] == [sum(column) for column in zip(*numbers, strict=True)]


def test_many_different_fractions_are_a_regression():
    found = choose(table(text=TEXTS, score=["0.5", "1.25", "x", "nan"]), task="regress")
    assert (found.labels, found.names) == ([0.5, 1.25], ())
    assert [bad.reason for bad in found.skipped] == ["label 'x' is no number", "label 'nan' is no number"]
    assert choose(table(text=TEXTS, score=[0.5, 1.25, 3.0, 4.5])).task == "regress"
    assert choose(table(text=TEXTS * 10, score=[0.5, 1.5, 3.0, 4.5] * 10)).task == "classify"
    assert choose(table(text=TEXTS * 20, score=[str(i) for i in range(80)])).task == "regress"
    assert choose(table(text=TEXTS, score=[1.0] * 4), task="regress", names=()).labels == [1.0] * 4


def test_rows_without_text_or_label_are_reported_by_line():
    found = choose(
        table(
            [Skipped(9, "not a json object")],
            sentence1=["a", "", "c", None, "e", ["f"], "g", 8],
            sentence2=["a", "b", " ", "d", "e", "f", "g", "h"],
            label=["x", "x", "x", "x", "-", "y", None, "y"],
        )
    )
    assert (found.texts, found.pairs, found.labels) == (["a", "8"], ["a", "h"], [0, 1])
    assert found.lines == [2, 9]
    assert found.skipped == [
        Skipped(3, "no text in column 'sentence1'"),
        Skipped(4, "no text in column 'sentence2'"),
        Skipped(5, "no text in column 'sentence1'"),
        Skipped(6, "no label"),
        Skipped(7, "column 'sentence1' holds a list, not text"),
        Skipped(8, "no label"),
        Skipped(9, "not a json object"),
    ]


def test_classes_of_a_trained_model_are_kept():
    found = choose(table(text=TEXTS, label=["1.0", "2", "0", "7"]), names=["2", "1", "0"])
    assert (found.names, found.labels) == (("2", "1", "0"), [1, 0, 2])
    assert found.skipped == [Skipped(5, "label '7' is none of the classes ('2', '1', '0')")]
    assert choose(table(text=TEXTS, label=["1"] * 4), names=["0", "1"]).labels == [1] * 4
    several = choose(table(text=TEXTS, label=["a|b", "b", "z", "a"]), task="multilabel", names=["a", "b"])
    assert (several.labels, [bad.line for bad in several.skipped]) == ([[1, 1], [0, 1], [1, 0]], [4])


def test_a_long_text_and_a_face():
    found = choose(table(text=["😀" * 100_000, "b"], label=[0, 1]))
    assert len(found.texts[0]) == 100_000


@pytest.mark.parametrize(
    ("columns", "named", "part"),
    [
        ({"review": TEXTS, "stars": ["1"] * 4}, {}, "one class only .*'stars' of reviews.csv: '1'"),
        ({"review": TEXTS, "stars": [2.0] * 4}, {"task": "regress"}, "nothing can be learnt"),
        ({"review": TEXTS, "stars": ["1", "2"] * 2}, {"text": "reviews"}, "no column 'reviews'. Did you mean 'review'"),
        ({"review": TEXTS, "stars": ["1", "2"] * 2}, {"label": "x"}, "There are 'review', 'stars'; say data.label="),
        ({"review": TEXTS, "stars": ["1", "2"] * 2}, {"text": "stars", "label": "stars"}, "named twice"),
        ({"review": TEXTS}, {}, "looks like a label. Add a column"),
        ({"review": TEXTS, "a": TEXTS, "b": TEXTS}, {}, "looks like a label. Name it: data.label= one of 'a', 'b'"),
        ({"a": [1, 2, 3, 4], "label": ["x", "y"] * 2}, {}, "looks like text. Name it: data.text= one of"),
        ({"text": [""] * 4, "label": ["x", "y"] * 2}, {}, "No row of reviews.csv can be used .line 2: no text"),
        ({"text": TEXTS, "label": ["z"] * 4}, {"names": ["x", "y"]}, "No row of .*none of the classes"),
        ({"text": TEXTS * 10, "label": [f"w{i}" for i in range(40)]}, {}, "40 different values in 40 rows"),
    ],
)
def test_what_cannot_be_learnt_is_a_problem_with_a_cure(columns, named, part):
    with pytest.raises(Problem, match=part):
        choose(table(**columns), **named)
