"""The state of a run on disk: written whole or not at all, and enough to go on to the same bits."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from regard import disk
from regard.errors import Problem


def random_state() -> dict[str, Any]:
    """The state of torch's generators, from which all dropout noise comes."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Takes up a saved state of the generators."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def write_whole(path: Path, content: Any) -> None:
    """Saves tensors and plain values so that a reader, or a kill at any moment, sees the old file or the new one."""
    disk.write_whole(path, lambda file: torch.save(content, file))


def read(path: Path) -> dict[str, Any]:
    """What `write_whole` saved; no object is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the sums that it writes
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} in it is damaged")
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise Problem(f"There is no state at {path} to resume from. Start the run without --resume.") from None
    except Exception as error:  # a damaged archive raises whatever its reader meets first
        raise Problem(
            f"The state at {path} cannot be read ({error}). Delete it and call again with --resume: a run that has a "
            "trunk.pt goes on from that, another begins anew."
        ) from error
