"""Files are whole or not there at all, whatever interrupts."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest

import regard
from regard import disk
from regard.data.corpora import build
from regard.data.corpora.plan import Plan, Source
from regard.errors import Problem
from regard.pretrain import pretrain
from regard.recipe import Pretraining, Recipe
from regard.run import train
from regard.toml import override


def test_what_breaks_half_way_leaves_the_old_file_and_no_rest(tmp_path: Path):
    path = tmp_path / "file"
    disk.write_text(path, "old")

    def broken(file):
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        disk.write_whole(path, broken)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def taken(tmp_path: Path):
    """A folder in which another process holds that it does something, until the function given with it is called."""
    folder = tmp_path / "taken"
    folder.mkdir()
    program = f"from regard import disk\nwith disk.alone({str(folder)!r}, 'x'): print('in', flush=True), input()"
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"in\n"

    def kill():
        other.kill()
        other.communicate()

    yield folder, kill
    kill()


def test_two_processes_do_not_do_the_same_in_one_folder(taken):
    folder, kill = taken
    with (
        pytest.raises(Problem, match=rf"Another process is training in {folder}\. Wait"),
        disk.alone(folder, "training"),
    ):
        pass
    kill()
    with disk.alone(folder, "training"):
        assert list(folder.iterdir())
    assert not list(folder.iterdir())
    with disk.alone(folder / "none", "training"):  # where there is no folder there is no one
        pass


def test_who_waits_comes_in_when_the_other_is_gone(taken):
    folder, kill = taken
    with disk.alone(folder, "training", waiting=kill):
        assert (folder / ".lock").exists()
    assert not (folder / ".lock").exists()


def test_only_what_the_disk_says_is_a_problem_of_the_disk(tmp_path):
    def handling(error):
        with disk.refusing(tmp_path):
            try:
                (tmp_path / "none").read_text()
            except OSError:
                raise error from None

    for error in (KeyboardInterrupt(), KeyError("a bug")):
        with pytest.raises(type(error)):
            handling(error)
    with pytest.raises(Problem, match="cannot be written: No such file"):
        handling(RuntimeError("as torch's writer has it"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_which_a_process_trains_or_builds_is_left_alone(resume, taken, tmp_path):
    folder, _ = taken
    (folder / "recipe.toml").write_text("")
    (tmp_path / "text.txt").write_text("a few words\n")
    for recipe, verb in ((Recipe(), train), (Pretraining(), pretrain)):
        with pytest.raises(Problem, match="Another process is training"):
            verb(override(recipe, [f"out={folder}", *(["budget=1steps"] if verb is pretrain else [])]), resume=resume)
    with pytest.raises(Problem, match="Another process is building"):
        build.build(Plan((Source(name="x", path=str(tmp_path / "text.txt")),)), folder)
    (folder / ".work").mkdir()
    with pytest.raises(Problem, match="Another process is building"):
        build.read(folder)


def test_who_waited_for_a_lock_that_was_taken_away_has_none(tmp_path, monkeypatch):
    """Between opening the file and locking it, its holder has ended and removed it."""
    real, opened = Path.open, []

    def slow(path, mode):
        opened.append(real(path, mode))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(Path, "open", slow)
    with disk.alone(tmp_path, "training"):
        assert len(opened) == 2 and opened[0].closed and (tmp_path / ".lock").exists()


def on_a_full_disk(*lines: str) -> str:
    """What the `Problem` says that the last line runs into, in a process that may write no file above 20 kB."""
    *before, last = lines
    program = f"""
import resource, signal, sys
from pathlib import Path
from regard.errors import Problem
{chr(10).join(before)}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    {last}
except Problem as problem:
    sys.exit(str(problem))
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("content", ["torch.zeros(100000)", "'a' * 100000"])
def test_a_full_disk_is_explained_and_leaves_the_old_file(content, tmp_path: Path):
    path = tmp_path / "state.pt"
    path.write_text("old")
    said = on_a_full_disk(
        "import torch",
        "from regard.train.state import write_whole",
        f"write_whole(Path({str(path)!r}), {{'content': {content}}})",
    )
    assert "state.pt cannot be written" in said
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_a_full_disk_leaves_a_saved_model_as_it_was(tiny: Path, tmp_path: Path):
    regard.load(tiny).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said = on_a_full_disk(
        "import regard",
        f"system = regard.load({str(tiny)!r})",
        "system.model.encoder.embeddings.word.data += 1",
        f"system.save({str(tmp_path)!r})",
    )
    assert "model.safetensors cannot be written" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_is_a_problem(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="Name another folder"):
        disk.make_folder(tmp_path / "file" / "run")
    disk.make_folder(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_place_that_is_a_folder_is_a_problem(tmp_path: Path):
    with pytest.raises(Problem, match="is a folder"):
        disk.make_place(tmp_path)
    assert disk.make_place(str(tmp_path / "a" / "b.csv")) == tmp_path / "a" / "b.csv" and (tmp_path / "a").is_dir()


def test_json_has_no_nan():
    value = {"a": [float("nan"), 1.5, (float("inf"), "NaN")], "b": {"c": -float("inf")}, "d": "中"}
    assert json.loads(disk.to_json(value)) == {"a": [None, 1.5, [None, "NaN"]], "b": {"c": None}, "d": "中"}
    assert "中" in disk.to_json(value)


def test_json_has_no_decimals_and_no_dates():
    value = [Decimal(7), Decimal("7.00"), Decimal("0.25"), Decimal("NaN"), Decimal("-Infinity")]
    assert disk.to_json(value) == "[7, 7.0, 0.25, null, null]"
    value = {"day": date(2026, 1, 2), "then": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "hour": time(3, 4)}
    assert json.loads(disk.to_json(value)) == {
        "day": "2026-01-02", "then": "2026-01-02T03:04:00+00:00", "hour": "03:04:00",
    }  # fmt: skip


def test_a_name_that_is_no_utf8_is_explained(tmp_path: Path):
    with pytest.raises(Problem, match="Rename"):
        disk.write_text(tmp_path / "recipe.toml", "name = '\udcff'")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_fills_is_let_alone_and_what_a_killed_one_left_is_not(tmp_path: Path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left, busy = (tmp_path / f"store.{number}.partial" for number in (int(ended.stdout), 1))
    for folder in (left, busy):
        folder.mkdir()
    with disk.folder_whole(tmp_path / "store") as place:
        (place / "file").write_text("new")
        with disk.folder_whole(tmp_path / "other") as other:
            (other / "file").write_text("other")
    assert {path.name for path in tmp_path.iterdir()} == {"store", "other", busy.name}
    assert (tmp_path / "store" / "file").read_text() == "new"
