"""Methods of attribution measured on a model with the texts of a file, and the figures kept beside the model.

`faithful.json`, in the model's folder:

    {"deletion": "mask", "level": "token", "drawn": 200, "texts": 199, "seed": 0, "data": "test.csv",
     "methods": {"rollout": {"comprehensiveness": [value, low, high], "sufficiency": [..], "leave_one_out": [..],
                             "spearman": [..], "flips": [..], "reversed": [..], "against_random": [..],
                             "beats_random": true, "seconds": 0.01}, ...},
     "random": {the same but for the last four}, "refused": {"flow": "why it was left out"}}

`texts` are those of the drawn that have something to take away, `leave_one_out` is Kendall's tau-b, `seconds` are of
one text's scores, intervals are 95 %; `eval/faithful.py` defines the rest. A method measured later joins the others of
a table whose setting is its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard import disk
from regard.data.sources import read
from regard.disk import locate
from regard.errors import Problem
from regard.eval.faithful import faithful, units
from regard.lens.attribute.methods import METHODS, method
from regard.lens.guards import verdicts
from regard.study.rows import examples
from regard.system import MEASURED, find_folder, load, measured, warn_of_cuts

log = logging.getLogger("regard")
LEVELS = ("token", "word")
OPTIONS = {"drawn": "texts", "deletion": "deletion", "level": "level", "seed": "seed"}  # field -> what sets it
SETTING = ("data", "texts", *OPTIONS)  # fields that tables have in common where their figures may stand side by side
NEAR = 1e-5  # of the figures of random rankings on the same texts and model, which batches alone make differ


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

    What is there already of other methods stays if it is of the same setting, and is replaced, with a warning, if not.
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
    setting = {"level": level, "drawn": len(drawn), "seed": seed, "data": path.name}
    table = _joined(target, found.table() | setting)
    disk.write_text(target, disk.to_json(table) + "\n")
    return {**table, "out": str(target)}


def _joined(target: Path, new: dict[str, Any]) -> dict[str, Any]:
    """The new table with the methods of the one that is in the file, if they were asked the same questions."""
    try:
        old = measured(target)
    except Problem:
        log.warning("What %s held cannot be read as figures of methods, and is replaced.", target)
        return new
    if old is None:
        return new
    if not _alike(old, new):
        log.warning(
            "%s held figures of another setting or model, which are replaced: of %s, on %s texts of %s (deletion: %s). "
            "Another file, named by --out, leaves such figures where they are.",
            target, ", ".join(old["methods"]), old["texts"], old["data"], old["deletion"],
        )  # fmt: skip
        return new
    methods = old["methods"] | new["methods"]
    refused = {name: why for name, why in (old["refused"] | new["refused"]).items() if name not in methods}
    return new | {"methods": methods, "refused": refused}


def _alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two tables are of one setting, and random rankings, then the same, did the same to the model."""
    before, now = (table.get("random", {}).get("comprehensiveness", math.nan) for table in (old, new))
    return all(old.get(name) == new[name] for name in SETTING) and np.allclose(before, now, rtol=0, atol=NEAR)


def guard(found: Mapping[str, Any] | None, name: str) -> str:
    """What a reader of one method's scores should know: whether they were measured on this model, and what came out."""
    known = verdicts(found)
    if found is None or not known:
        return (
            "Whether these scores tell what the answer depends on has not been measured on this model: "
            "regard faithful MODEL data.csv."
        )
    where = f"Measured on {found['texts']} texts of {found['data']} (deletion: {found['deletion']})"
    if name in known:
        return f"{where}: {_said(found, known, name)}"
    if name in found.get("refused", {}):
        return f"{where}, but {name} was left out: {found['refused'][name]}"
    options = "".join(f" --{option} {found[field]}" for field, option in OPTIONS.items() if field in found)
    return f"{where}, but not with {name}: regard faithful MODEL {found['data']} --methods {name}{options}."


def _said(found: Mapping[str, Any], known: Mapping[str, tuple[float, float, float, bool]], name: str) -> str:
    value, low, high, beats_random = known[name]
    chance = found.get("random", {}).get("comprehensiveness")
    beside = f", without random ones by {chance[0]:.3f}" if chance else ""
    verdict = "more than by chance" if beats_random else "not more than by chance: do not rely on these scores"
    best = max(known, key=lambda other: known[other][0])
    better = "" if best == name else f" The best measured is {best} ({known[best][0]:.3f})."
    return (
        f"without the tokens that {name} puts first the answer's probability falls by {value:.3f} "
        f"[{low:.3f}, {high:.3f}]{beside}, {verdict}.{better}"
    )
