"""What `regard demo` trains: the encoder that comes with Regard, on rated movie snippets that a Python package carries.

Movie snippets with the mean of 20 people's ratings come from VADER (Hutto and Gilbert 2014; MIT licence).
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from regard import recipe as recipes
from regard import toml
from regard.errors import Problem
from regard.recipe import Recipe

SNIPPETS = "vaderSentiment==0.5"
CHANGES = {
    "model.name": "regard-mini",
    "train.epochs": 2,
    "train.learning_rate": 2e-4,
    "train.evaluations": 2,
    "train.minutes": 2.0,  # a slow machine ends early rather than late
}


def recipe(out: str, *, tell: Callable[[str], None]) -> Recipe:
    """The demo's recipe, with its package fetched; an earlier demo in the folder is removed."""
    data = cache() / "snippets.csv"
    if not data.exists():
        tell(f"fetching {SNIPPETS} (10,605 rated movie snippets) with pip")
        _fetch(data)
    previous = Path(out)
    if (previous / "recipe.toml").exists():
        if recipes.read(previous / "recipe.toml", Recipe).data.train != str(data):
            raise Problem(f"{out} holds a run that is no demo. Name another folder with --out.")
        shutil.rmtree(previous)
    return toml.override(Recipe(), {"data.train": str(data), "out": out, **CHANGES})


def cache() -> Path:
    """Where the demo keeps what it has fetched."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "regard" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "--no-deps", "--no-binary=:all:", "-d", folder]
        command = [sys.executable, "-m", "pip", "download", *options, SNIPPETS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(folder).iterdir())
        if done.returncode or not archives:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no file"]
            raise Problem(f"pip could not fetch {SNIPPETS}: {lines[-1]}. Check the network, then call again.")
        _take_snippets(archives[0], target)


def _take_snippets(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as box:
        inner = next(name for name in box.namelist() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(box.read(inner))) as files:
            member = next(n for n in files.getnames() if n.endswith("movieReviewSnippets_GroundTruth.txt"))
            file = files.extractfile(member)
            assert file is not None
            lines = file.read().decode("latin-1").splitlines()
    partial = target.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "label"])
        for line in lines:
            _, rating, text = line.split("\t", 2)
            rows.writerow([text, "positive" if float(rating) > 0 else "negative"])
    partial.replace(target)
