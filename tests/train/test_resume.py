"""A run killed at any moment goes on to the same bits."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from command import Running

SETTINGS = ["train.epochs=6", "train.batch_tokens=256", "train.learning_rate=0.001", "train.precision=float32"]


def start(out: Path, tiny: Path, reviews: Path, *more: str, save: str = "0.002") -> Running:
    files = ["--data", reviews, "--model", tiny, "--out", out]
    return Running("train", *SETTINGS, f"train.save_minutes={save}", *files, *more, "--json")


def finish(running: Running) -> None:
    done = running.end()
    assert done.returncode == 0, done.stderr


def rows(folder: Path) -> list[dict]:
    """What the log says of training, without the time that it took."""
    clock = "seconds", "tokens_per_second"
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[:-1]]
    return [{key: value for key, value in row.items() if key not in clock} for row in found]


@pytest.mark.timeout(600)
def test_a_run_killed_several_times_ends_in_the_same_bits(tmp_path: Path, tiny: Path, reviews: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole, tiny, reviews, save="1000"))
    rng, kills = random.Random(), 0
    for attempt in range(20):
        running = start(broken, tiny, reviews, *(["--resume"] if attempt else []))
        if kills < 3:
            running.until_new(broken / "state.pt")
            time.sleep(rng.uniform(0, 0.4))
            running.send(signal.SIGKILL)
        done = running.end()
        kills += done.returncode == -signal.SIGKILL and (broken / "state.pt").exists()
        if done.returncode == 0:
            break
    assert kills, "no kill came after a state was saved: the test has shown nothing"
    for name in ("model.safetensors", "config.json", "regard.json"):
        assert (whole / "model" / name).read_bytes() == (broken / "model" / name).read_bytes(), name
    assert rows(whole) == rows(broken)
    assert not (broken / "state.pt").exists()


def test_without_a_saved_state_a_resumed_run_begins_anew(tmp_path: Path, tiny: Path, reviews: Path):
    running = start(tmp_path / "run", tiny, reviews, save="1000")
    running.until((tmp_path / "run" / "recipe.toml").exists)
    running.send(signal.SIGKILL)
    running.end()
    finish(start(tmp_path / "run", tiny, reviews, "--resume"))
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
