"""How verbs that carry out a recipe find it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regard.errors import Problem

if TYPE_CHECKING:
    from regard.recipe import Kind


def recipe_of(blank: Kind, words: Sequence[str], given: dict[str, str], *, resume: bool, source: str) -> Kind:
    """The recipe that a command line asks for: a file's or that of a run to resume, with all that is given over it.

    `words` are the name of at most one recipe, and changes; `given` values of options by key, of which empty ones say
    nothing; the folder of a run that names none goes by its recipe or by `source`, the key of what it reads.
    """
    from regard import recipe as recipes

    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise Problem(f"{' and '.join(files)}: one recipe at a time. Changes are written key=value.")
    if files:
        _refuse_other(Path(files[0]))
    out = next((word.removeprefix("out=") for word in reversed(words) if word.startswith("out=")), given["out"])
    if resume and not (out or files or any(given.values())):
        raise Problem("--resume goes on with the run in a folder. Name it with --out, for example --out runs/name.")
    old = Path(out) / "recipe.toml" if resume and out and not files else None
    if old and not old.exists() and any(value for key, value in given.items() if key != "out"):
        old = None  # --resume from the first call on, as a scheduler's jobs have it
    path = files[0] if files else old
    recipe = recipes.read(path, blank) if path else blank
    recipe = recipes.override(recipe, {key: value for key, value in given.items() if value})
    recipe = recipes.override(recipe, [word for word in words if "=" in word])
    if not recipe.out:
        read = recipe
        for name in source.split("."):
            read = getattr(read, name)
        stem = Path(files[0]).stem if files else re.sub(r"[*?\[\]]", "", Path(str(read)).name.split(".")[0])
        recipe = recipes.override(recipe, {"out": f"runs/{stem or 'run'}"})
    return recipe


def _refuse_other(path: Path) -> None:
    """Raises `Problem` for files of other kinds, which are named elsewhere."""
    if path.is_file() and path.suffix != ".toml":
        raise Problem(
            f"{path} is no recipe, which is a .toml file. What is read is named by an option, and several files by a "
            "pattern in quotes."
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # what is wrong with it is said where it is read
    if "source" in table:
        raise Problem(
            f"{path} is the plan of a corpus, and no recipe. Name it with regard pretrain --corpus {path}, or build "
            f"it: regard corpus build {path} --out corpus/."
        )
