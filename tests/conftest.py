"""What tests share: real data beside the checkout, and real checkpoints out of packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHECKPOINTS = Path(os.environ.get("REGARD_CHECKPOINTS", Path(__file__).resolve().parents[1] / ".cache" / "checkpoints"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; a test that asks for it is skipped where the folder is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real data is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def checkpoint(shared: Path):
    """A function from a checkpoint's name to its folder, fetched from a package on first use."""

    def fetch(name: str) -> Path:
        folder = CHECKPOINTS / name
        if not (folder / "config.json").exists():
            script = shared / "models" / "get.py"
            subprocess.run([sys.executable, script, name, "--to", CHECKPOINTS], check=True, capture_output=True)
        return folder

    return fetch
