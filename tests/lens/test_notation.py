"""What is typed and what is kept in a file are the edits that they say, and bad ones are named where they are bad."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import Problem
from regard.lens.edit import Drop, Forbid, Force, Patch, Recording, Scale, Sharpen, Uniform
from regard.lens.notation import parse, read, said, write


@pytest.mark.parametrize(
    ("kind", "words", "edits"),
    [
        ("drop", "3.5,7.1", [Drop(3, 5), Drop(7, 1)]),
        ("drop", "3.*", [Drop(3, "*")]),
        ("drop", "*.5", [Drop("*", 5)]),
        ("drop", "3.0-4, 0-2.1", [Drop(3, "0-4"), Drop("0-2", 1)]),
        ("drop", "3", [Drop(3)]),
        ("drop", "3.5:[CLS]|-2|film,1.1:','", [Drop(3, 5, queries=["[CLS]", -2, "film"]), Drop(1, 1, queries="','")]),
        ("scale", "3.5=0.5,1.2:first=-1", [Scale(3, 5, 0.5), Scale(1, 2, -1.0, queries="first")]),
        ("scale", "3.5:'='=2", [Scale(3, 5, 2.0, queries="'='")]),
        ("uniform", "3.5", [Uniform(3, 5)]),
        ("sharpen", "3.5=2", [Sharpen(3, 5, 2.0)]),
        ("forbid", "3.5:[CLS]->[SEP]", [Forbid(3, 5, "[CLS]", "[SEP]")]),
        ("forbid", "*.*:*->first|last", [Forbid("*", "*", "*", ["first", "last"])]),
        ("forbid", "3.5:'->'->'|'", [Forbid(3, 5, "'->'", "'|'")]),
        ("force", "3.5:[CLS]->[SEP]=0.9", [Force(3, 5, "[CLS]", "[SEP]", 0.9)]),
        ("patch", "3.5,2:first", [Patch(3, 5, "text"), Patch(2, "*", "text", value="output", queries="first")]),
        ("patch", "3.5.weights", [Patch(3, 5, "text", value="weights")]),
    ],
)
def test_what_is_typed(kind, words, edits):
    assert parse(kind, words, source="text") == edits


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("drop", ""), ("drop", "3.5."), ("drop", "a.5"), ("drop", "3.5:"), ("drop", "3.5=1"), ("drop", "3.5.weights"),
        ("scale", "3.5"), ("scale", "3.5=half"), ("forbid", "3.5"), ("forbid", "3.5:a"), ("forbid", "3.5:a->b->c"),
        ("force", "3.5:a->b"), ("drop", "3.5,"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_shown_how(kind, words):
    with pytest.raises(Problem, match=f"Write it like --{kind}"):
        parse(kind, words)


@pytest.mark.parametrize(("words", "field"), [("3.5-", "head"), ("-1.5", "layer"), ("3.5:|a", "queries")])
def test_what_names_nothing_is_told_by_its_field(words, field):
    with pytest.raises(Problem, match=f"'{field}' of drop"):
        parse("drop", words)


numbers = st.integers(0, 20) | st.sampled_from(["*", "0-4"])
names = st.integers(-20, 20) | st.text(min_size=1, max_size=8)
places = names | st.lists(names, min_size=1, max_size=3)
finite = st.floats(allow_nan=False, allow_infinity=False)
edits = st.lists(
    st.builds(Drop, numbers, numbers, queries=places)
    | st.builds(Uniform, numbers, numbers)
    | st.builds(Scale, numbers, numbers, finite, queries=places)
    | st.builds(Sharpen, numbers, numbers, st.floats(1e-3, 1e3))
    | st.builds(Forbid, numbers, numbers, places, places)
    | st.builds(Force, numbers, numbers, places, places, st.floats(0, 1))
    | st.builds(
        Patch, numbers, numbers, st.text(min_size=1), pair=st.text(), value=st.sampled_from(["mixed", "weights"])
    )
)


@settings(max_examples=60, deadline=None)
@given(edits)
def test_what_is_written_is_read_again(tmp_path_factory, edits):
    path = tmp_path_factory.mktemp("edits") / "edits.json"
    try:
        write(edits, path)
    except Problem as problem:
        assert "UTF-8" in str(problem)  # noqa: PT017 - half a surrogate pair is no token
        return
    assert read(path) == edits
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 1


@pytest.mark.parametrize(
    "words", ["drop 3.5", "drop *.0-4:first", "scale 3.5=0.5", "force 3.5:[CLS]->[SEP]|1=0.9", "forbid 0.1:*->last"]
)
def test_what_is_said_is_what_is_typed(words):
    kind, _, rest = words.partition(" ")
    assert [said(edit) for edit in parse(kind, rest)] == [words]
    assert [said(edit) for edit in parse("patch", "3.5.weights,2", source="a")] == [
        "patch 3.5.weights from 'a'",
        "patch 2 from 'a'",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"regard": "heads"}, "holds no edits"),
        ({"edits": {}}, "holds no edits"),
        ({"version": 2}, "'version'"),
        ({"edits": [3]}, "edit 0: it must be an object"),
        ({"edits": [{"layer": 3}]}, "edit 0: the field 'edit' is None"),
        ({"edits": [{"edit": "drop", "layer": 3}, {"edit": "dorp", "layer": 3}]}, "edit 1: .*Did you mean 'drop'"),
        ({"edits": [{"edit": "drop", "head": 3}]}, "'layer' is missing"),
        ({"edits": [{"edit": "drop", "layer": 3, "factor": 1}]}, "no field 'factor'"),
        ({"edits": [{"edit": "drop", "layer": "three"}]}, "edit 0: The field 'layer' of drop"),
        ({"edits": [{"edit": "scale", "layer": 3, "factor": "half"}]}, "'factor' of scale"),
        ({"edits": [{"edit": "scale", "layer": 3}]}, "'factor' of scale"),
        ({"edits": [{"edit": "force", "layer": 3, "weight": 0.5, "keys": {}}]}, "'keys' of force"),
        ({"edits": [{"edit": "patch", "layer": 3, "source": 4}]}, "'source' of patch"),
    ],
)
def test_a_bad_file_is_named_by_its_field(change, said, tmp_path):
    (tmp_path / "edits.json").write_text(json.dumps({"regard": "edits", "version": 1, "edits": []} | change))
    with pytest.raises(Problem, match=said):
        read(tmp_path / "edits.json")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(Problem, match="cannot be read"):
        read(tmp_path / "edits.json")
    (tmp_path / "edits.json").write_text("{")
    with pytest.raises(Problem, match="is no JSON"):
        read(tmp_path / "edits.json")


def test_a_recording_has_no_line(tmp_path):
    with pytest.raises(Problem, match="cannot be saved"):
        write([Patch(0, 0, Recording(None, {}))], tmp_path / "edits.json")
