"""Methods of attribution measured on a model with the texts of a file, and the figures kept beside the model.

`faithful.json`, in the model's folder:

    {"deletion": "mask", "level": "token", "texts": 200, "data": "test.csv",
     "methods": {"rollout": {"comprehensiveness": [value, low, high], "sufficiency": [..], "leave_one_out": [..],
                             "spearman": [..], "flips": [..], "reversed": [..], "against_random": [..],
                             "beats_random": true, "seconds": 0.01}, ...},
     "random": {the same but for the last four}, "refused": {"flow": "why it was left out"}}

`leave_one_out` is Kendall's tau-b, `seconds` are of one text's scores, intervals are 95 %; `eval/faithful.py` defines
the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard import disk
from regard.data.sources import locate, read
from regard.errors import Problem
from regard.eval.faithful import faithful, units
from regard.lens.attribute.methods import METHODS, method
from regard.study.rows import examples
from regard.system import MEASURED, find_folder, load, warn_of_cuts

LEVELS = ("token", "word")


def measure(
    model: str,
    data: str,
    *,
    methods: Sequence[str] = tuple(METHODS),
    texts: int = 200,
    deletion: str = "mask",
    level: str = "token",
    columns: dict[str, str] | None = None,
    format: str = "auto",  # noqa: A002 - the option's name
    encoding: str = "utf-8",
    out: str = "",
    seed: int = 0,
    counter: Callable[[int], Callable[[int], None]] = lambda total: lambda texts: None,
) -> dict[str, Any]:
    """Measures methods on so many texts of a file, drawn by the seed, and writes the table where `measured` finds it.

    `columns` names those of `text` and `pair`; `counter` is given the number of texts and returns what is told of each.
    """
    for name in methods:
        method(name)
    if level not in LEVELS:
        raise Problem(f"There is no level '{level}'. Known: {', '.join(LEVELS)}.")
    if texts < 1:
        raise Problem("At least one text is needed. Let --texts be 1 or more.")
    path = locate(data)
    target = disk.make_place(out or find_folder(model) / MEASURED)  # now, before any work is done
    system = load(model, precision="float32")
    rows = examples(system, read(path, format=format, encoding=encoding), columns or {}, labelled=False)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows.texts))[:texts]).tolist()
    encodings = system.tokenizer.encode(
        [rows.texts[i] for i in drawn],
        None if rows.pairs is None else [rows.pairs[i] for i in drawn],
        max_length=system.card.max_length,
        detail=True,
    )
    dropped = [e.dropped for e in encodings if e.dropped]
    warn_of_cuts(dropped, len(drawn), system.card.max_length, cure="What was cut is not part of the measurement.")
    found = faithful(
        system, encodings, units(encodings, level=level), methods,
        deletion=deletion, seed=seed, advance=counter(len(drawn)),
    )  # fmt: skip
    table = {**found.table(), "level": level, "data": path.name}
    disk.write_text(target, disk.to_json(table) + "\n")
    return {**table, "out": str(target)}


def measured(folder: str | Path) -> dict[str, Any] | None:
    """What has been measured on the model of a folder, or None."""
    path = Path(folder) / MEASURED
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if {"deletion", "texts", "data", "methods", "random"} <= found.keys():
            return found  # type: ignore[no-any-return]
    except (ValueError, AttributeError):
        pass  # no JSON, or no table
    raise Problem(f"{path} cannot be read. Delete it, or measure again with regard faithful.")


def guard(found: dict[str, Any] | None, name: str) -> str:
    """What a reader of one method's scores should know: whether they were measured on this model, and what came out."""
    if found is None:
        return (
            "Whether these scores tell what the answer depends on has not been measured on this model: "
            "regard faithful MODEL data.csv."
        )
    where = f"Measured on {found['texts']} texts of {found['data']} (deletion: {found['deletion']})"
    if name not in found["methods"]:
        return f"{where}, but not with {name}: regard faithful MODEL data.csv --methods {name}."
    one = found["methods"][name]
    value, low, high = one["comprehensiveness"]
    chance = found["random"]["comprehensiveness"][0]
    best = max(found["methods"], key=lambda other: found["methods"][other]["comprehensiveness"][0])
    verdict = "more than by chance" if one["beats_random"] else "not more than by chance: do not rely on these scores"
    better = (
        "" if best == name else f" The best measured is {best} ({found['methods'][best]['comprehensiveness'][0]:.3f})."
    )
    return (
        f"{where}: without the tokens that {name} puts first the answer's probability falls by {value:.3f} "
        f"[{low:.3f}, {high:.3f}], without random ones by {chance:.3f}, {verdict}.{better}"
    )
