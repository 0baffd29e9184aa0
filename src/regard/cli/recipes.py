"""How verbs that carry out a recipe find it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regard.errors import Problem

if TYPE_CHECKING:
    from regard.recipe import Kind


def recipe_of(kind: type[Kind], words: Sequence[str], given: dict[str, str], *, resume: bool, source: str) -> Kind:
    """The recipe that a command line asks for: a file's or that of a run to resume, with all that is given over it.

    `words` are the name of at most one recipe, and changes; `given` values of options by key, of which empty ones say
    nothing; the folder of a run that names none goes by its recipe or by `source`, the key of what it reads.
    """
    from regard import recipe as recipes
    from regard.toml import override

    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise Problem(f"{' and '.join(files)}: one recipe at a time. Changes are written key=value.")
    out = next((word.removeprefix("out=") for word in reversed(words) if word.startswith("out=")), given["out"])
    if resume and not (out or files or any(given.values())):
        raise Problem("--resume goes on with the run in a folder. Name it with --out, for example --out runs/name.")
    old = Path(out) / "recipe.toml" if resume and out and not files else None
    if old and not old.exists() and any(value for key, value in given.items() if key != "out"):
        old = None  # --resume from the first call on, as a scheduler's jobs have it
    path = files[0] if files else old
    recipe = recipes.read(path, kind) if path else kind()
    recipe = override(recipe, {key: value for key, value in given.items() if value})
    recipe = override(recipe, [word for word in words if "=" in word])
    if not recipe.out:
        read = recipe
        for name in source.split("."):
            read = getattr(read, name)
        stem = Path(files[0]).stem if files else re.sub(r"[*?\[\]]", "", Path(str(read)).name.split(".")[0])
        recipe = override(recipe, {"out": f"runs/{stem or 'run'}"})
    return recipe
