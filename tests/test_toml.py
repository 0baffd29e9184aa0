"""Settings out of TOML, changed by words, and back: nothing is lost, and what has no place is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from regard import toml
from regard.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    name: str
    area: float = 9.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    colour: Literal["white", "grey"] = "white"
    doors: int = 1
    painted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    walls: Walls = field(default_factory=Walls)
    room: tuple[Room, ...] = ()
    range: tuple[float, float] = (0.0, 1.0)
    words: tuple[str, ...] = ()
    at: Path = Path()
    seed: int = 0


def test_what_is_written_is_read_again(tmp_path):
    @dataclass(frozen=True)
    class Written:
        walls: Walls
        room: tuple[Room, ...]
        seed: int

    house = House(walls=Walls(colour="grey", painted=False), room=(Room(name='a "b"'), Room(name="門", area=1e-9)))
    toml.write(Written(house.walls, house.room, house.seed), tmp_path / "house.toml")
    assert toml.made(House, toml.load(tmp_path / "house.toml", "house", ""), "it") == house


def test_a_table_is_read_over_the_defaults():
    table = {"range": [3, 10], "words": ["a"], "at": "x/y", "room": [{"name": "one", "area": 2}]}
    made = toml.made(House, table, "it")
    assert made == House(range=(3.0, 10.0), words=("a",), at=Path("x/y"), room=(Room(name="one", area=2.0),))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("walls.doors=2", None),
        ("walls.painted=false", None),
        ("walls.doors=2.5", "walls.doors must be a whole number; '2.5' is not."),
        ("walls.painted=1", "walls.painted must be true or false; '1' is not."),
        ("walls.color=grey", "There is no key 'walls.color'. Did you mean 'colour'?"),
        ("walls.colour=green", "walls.colour can be 'white', 'grey'; 'green' is none of them. Did you mean 'grey'?"),
        ("walls=white", "'walls' does not name one value."),
        ("room=one", "'room' does not name one value."),
        ("seed.one=1", "'seed.one' does not name one value."),
        ("seed", "'seed' is no change. Write key=value, for example seed=1."),
    ],
)
def test_words_change_one_value_or_are_told_why_not(change, said):
    if said is None:
        made = toml.override(House(), [change]).walls
        assert made in (Walls(doors=2), Walls(painted=False))
        return
    with pytest.raises(Problem) as problem:
        toml.override(House(), [change])
    assert str(problem.value).startswith(said)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"wall": {}}, "There is no key 'wall' in it. Did you mean 'walls'? Known here: walls, room,"),
        ({"walls": 3}, "[walls] of it is no table."),
        ({"walls": {"doors": True}}, "doors in [walls] of it must be a whole number; True is not."),
        ({"walls": {"doors": float("inf")}}, "doors in [walls] of it must be a whole number; inf is not."),
        ({"room": {"name": "one"}}, "room in it is no list of tables. Write [[room]] above each."),
        ({"room": [{"name": "one"}, {"area": 3.0}]}, "[[room]] 2 of it has no name."),
        ({"range": [1]}, "range in it must be two numbers"),
        ({"range": ["a", 2]}, "each of range in it must be a number; 'a' is not."),
        ({"words": "one"}, "words in it must be a list"),
        ({"words": [["one"]]}, "each of words in it must be text; ['one'] is not."),
    ],
)
def test_what_has_no_place_in_a_table_is_told_with_its_place(table, said):
    with pytest.raises(Problem) as problem:
        toml.made(House, table, "it")
    assert str(problem.value).startswith(said)


def test_a_file_that_is_no_toml_is_told_what_it_should_have_been(tmp_path):
    (tmp_path / "house.txt").write_text("seed = 1")
    (tmp_path / "house.toml").write_bytes(b"seed = '\xff'")
    for name, said in (
        ("house.txt", "house.txt is no house, which is a .toml file. Build one."),
        ("house.tom", "Did you mean 'house.toml'?"),
        ("house.toml", "house.toml is not valid TOML:"),
        ("", "is no house that can be read (Is a directory). Build one."),
    ):
        with pytest.raises(Problem) as problem:
            toml.load(tmp_path / name, "house", "Build one.")
        assert said in str(problem.value)
