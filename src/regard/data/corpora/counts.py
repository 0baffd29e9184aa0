"""What is in a corpus, by source and language, and how often each part is drawn; what was dropped for which reason."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard.data.corpora import chunks
from regard.data.corpora.plan import Plan
from regard.data.corpora.shards import DUPLICATE, NEAR, Shard, Table
from regard.errors import Problem, nearest


def manifest(
    plan: Plan, files: list[dict[str, Any]], table: Table, same: NDArray[np.int64], near: NDArray[np.int64],
    made: list[Shard], digests: list[str],
) -> dict[str, Any]:  # fmt: skip
    """All that is to be known of a corpus, in plain data."""
    sources = {}
    for number, source in enumerate(plan.source):
        own = table.source == number
        dropped = Counter({DUPLICATE: int((own & (same >= 0)).sum()), NEAR: int((own & (near >= 0)).sum())})
        for of, (reasons, _) in zip(table.sources, table.dropped, strict=True):
            dropped.update(reasons if of == number else ())
        sources[source.name] = _counted(table, own & (same < 0) & (near < 0)) | {
            "dropped": {reason: dropped[reason] for reason in sorted(dropped) if dropped[reason]},
            "files": [
                {key: fact[key] for key in ("path", "bytes", "sha256")}
                for fact in files
                if fact["source"] == source.name
            ],
        }
    kept = (same < 0) & (near < 0)
    named = list(zip(made, digests, strict=True))
    return {
        "plan": {key: value for key, value in dataclasses.asdict(plan).items() if key != "folder"},
        **_counted(table, kept),
        "dropped": dict(sorted(sum((Counter(part["dropped"]) for part in sources.values()), Counter()).items())),
        "sources": sources,
        "mix": mixed(plan, {name: part["languages"] for name, part in sources.items()}),
        "shards": [
            {"name": shard.name, "source": shard.source, "language": shard.language, "documents": shard.documents,
             "bytes": shard.bytes, "sha256": digest} for shard, digest in named if not shard.reason
        ],
        "dropped_files": [
            {"name": shard.name, "reason": shard.reason, "documents": shard.documents, "sha256": digest}
            for shard, digest in named if shard.reason
        ],
    }  # fmt: skip


def refuse_empty(found: dict[str, Any], folder: str | Path) -> None:
    """Raises `Problem` for the manifest of a corpus that has no document, with what became of them."""
    if not found["shards"]:
        dropped = found["dropped"]
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        cure = f"Read them: regard corpus stats {folder} --dropped '{next(iter(dropped))}'" if dropped else "Give text"
        raise Problem(f"The corpus in {folder} has no document ({reasons or 'nothing was read'}). {cure}.")


def _counted(table: Table, kept: NDArray[np.bool_]) -> dict[str, Any]:
    def sums(chosen: NDArray[np.bool_]) -> dict[str, int]:
        names = ("characters", "sentences")
        return {"documents": int(chosen.sum())} | {name: int(table.kept[name][chosen].sum()) for name in names}

    languages = {name: sums(kept & (table.kept["language"] == number)) for number, name in enumerate(chunks.LANGUAGES)}
    scripts = {
        name: int((kept & (table.kept["script"] == number)).sum()) for number, name in enumerate(chunks.SCRIPTS) if name
    }
    return sums(kept) | {
        "boilerplate_lines": int(table.kept["lines_out"][kept].sum()),
        "languages": {name: found for name, found in languages.items() if found["documents"]},
        "scripts": {name: count for name, count in scripts.items() if count},
    }


def mixed(plan: Plan, sizes: dict[str, dict[str, dict[str, int]]]) -> list[dict[str, Any]]:
    """How often each source and language is drawn, and how many times as often as without a temperature and weights.

    Of all groups g, sources or languages as `by` says, with n_g characters each, a draw falls on g with a probability
    in proportion to n_g^temperature; within a group on a member by its size; all times the weight of the source.
    """
    weights = {source.name: source.weight for source in plan.source}
    parts = [(name, lang, found["characters"]) for name, of in sizes.items() for lang, found in of.items()]
    whole = sum(size for *_, size in parts)
    groups: Counter[str] = Counter()
    for name, language, size in parts:
        groups[name if plan.mix.by == "source" else language] += size
    raw = []
    for name, language, size in parts:
        group = groups[name if plan.mix.by == "source" else language]
        raw.append((group / whole) ** plan.mix.temperature * size / group * weights[name])
    total = sum(raw) or 1.0
    return [
        {"source": name, "language": language, "weight": share / total, "times": share / total * whole / size}
        for (name, language, size), share in zip(parts, raw, strict=True)
    ]


def dropped(folder: Path, found: dict[str, Any], reason: str, count: int) -> Iterator[dict[str, Any]]:
    """Some documents that were dropped for a reason, spread evenly over all of them."""
    files = [file for file in found["dropped_files"] if file["reason"] == reason]
    if not files:
        known = list(found["dropped"])
        raise Problem(
            f"Nothing was dropped as '{reason}'. {nearest(reason, known)}Reasons here: {', '.join(known) or 'none'}."
        )
    step = max(1, sum(file["documents"] for file in files) // max(1, count))
    rows = (row for file in files for row in _rows(folder / file["name"]))
    return islice(islice(rows, step // 2, None, step), count) if count else rows


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from chunks.read_rows(path)
    except (OSError, EOFError, ValueError) as error:
        raise Problem(f"{path} cannot be read ({error}). Build the corpus again in another folder.") from None


def columns(found: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Of each source, and of all, a row of what `regard corpus stats` shows, and how many were dropped for what."""
    whole = max(1, found["characters"])
    for name, part in [*found["sources"].items(), ("all", found)]:
        languages = " ".join(part["languages"])
        drawn = sum(row["weight"] for row in found["mix"] if name in ("all", row["source"]))
        row = [name, languages, *(f"{part[key]:,}" for key in ("documents", "characters", "sentences"))]
        row += [f"{part['characters'] / whole:.1%}", f"{drawn:.1%}"]
        often = sorted(part["dropped"].items(), key=lambda item: -item[1])
        yield row, ", ".join(f"{count:,} {reason}" for reason, count in often)
