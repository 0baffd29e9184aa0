"""A run killed at any moment goes on to the same bits."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETTINGS = ["train.epochs=6", "train.batch_tokens=256", "train.learning_rate=0.001", "train.precision=float32"]


def start(out: Path, tiny: Path, reviews: Path, *more: str, save: str = "0.002") -> subprocess.Popen:
    words = ["train", *SETTINGS, f"train.save_minutes={save}", "--data", reviews, "--model", tiny, "--out", out, *more]
    command = [sys.executable, "-m", "regard", *map(str, words), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def wait_for_a_new_state(process: subprocess.Popen, path: Path) -> None:
    """Until the run has saved, or is over."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns != before):
        time.sleep(0.005)


@pytest.mark.timeout(600)
def test_a_run_killed_several_times_ends_in_the_same_bits(tmp_path: Path, tiny: Path, reviews: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole, tiny, reviews, save="1000"))
    rng, kills = random.Random(), 0
    for attempt in range(20):
        process = start(broken, tiny, reviews, *(["--resume"] if attempt else []))
        if kills < 3:
            wait_for_a_new_state(process, broken / "state.pt")
            time.sleep(rng.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL and (broken / "state.pt").exists()
        if process.returncode == 0:
            break
    assert kills, "no kill came after a state was saved: the test has shown nothing"
    for name in ("model.safetensors", "config.json", "regard.json"):
        assert (whole / "model" / name).read_bytes() == (broken / "model" / name).read_bytes(), name
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert steps == [json.loads(line)["step"] for line in (whole / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert not (broken / "state.pt").exists()


def test_without_a_saved_state_a_resumed_run_begins_anew(tmp_path: Path, tiny: Path, reviews: Path):
    process = start(tmp_path / "run", tiny, reviews, save="1000")
    while not (tmp_path / "run" / "recipe.toml").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(start(tmp_path / "run", tiny, reviews, "--resume"))
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
