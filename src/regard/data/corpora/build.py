"""A corpus built from its plan in bounded memory, on all cores: the same bytes, however many and however often killed.

One process reads (on a cluster several do), the others clean runs of documents and leave each on disk; then duplicates
are found by the numbers about all documents, and shards written. `corpus.json` comes last: a folder without it is no
corpus.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regard import disk
from regard.data.cluster import Cluster
from regard.data.compression import Progress
from regard.data.corpora import chunks, duplicates, plan, shards
from regard.data.corpora import sources as readers
from regard.data.corpora.counts import manifest
from regard.data.processes import Here, Workers
from regard.errors import Problem

FORMAT = 2  # goes up when other text comes out of the same plan
CHUNK = (1_000_000, 2_000)  # characters and documents at most, that a process cleans at once
MANIFEST = "corpus.json"
WORK = ".work"  # the folder of what is half done
DONE = "done.json"  # comes last in the folder of a file's chunks
STREAM = 64_000_000  # bytes of files that one process reads, where several do
CURE = "Call again with fewer --processes: what is done is kept."
BUILDING = "building a corpus"
READING = 0.8  # share of the time that reading and cleaning take, as the progress bar shows it

Advance = Callable[[float], object]


class File(NamedTuple):
    """A file of a source, and the folder where its cleaned chunks are."""

    path: Path
    source: int
    stamp: tuple[int, int]
    folder: Path


def build(
    wanted: plan.Plan,
    out: str | Path,
    *,
    processes: int = 0,
    cluster: str = "",
    advance: Advance = lambda _: None,
) -> dict[str, Any]:
    """Writes the corpus of a plan into a folder and returns its manifest; a killed build goes on when called again.

    A finished corpus of the same plan and files is left as it is; one of others is a `Problem`. `processes` is how many
    clean at once, 0 as many as there are cores; or all machines of a Ray `cluster` do, which share the disk.
    """
    out = Path(out).expanduser().resolve()  # which is the same folder to processes elsewhere
    files = _files(wanted, out)
    if not _finished(wanted, files, out):
        disk.make_folder(out)
        with disk.alone(out, BUILDING):
            if not _finished(wanted, files, out):  # by another process meanwhile
                _check(out, files)
                workers = Cluster(cluster, out / WORK) if cluster else Workers(processes, cure=CURE)
                with workers:
                    _make(wanted, files, out, workers, advance)
    return read(out)


def is_of(wanted: plan.Plan, out: Path) -> bool:
    """Whether a finished corpus is of this plan and of its files as they are now; `Problem` where one is gone."""
    return _same(wanted, _files(wanted, out), out)


def _same(wanted: plan.Plan, files: list[File], out: Path) -> bool:
    found = read(out)
    # Files that were copied or touched have other times, and may say the same.
    return found.get("key") == _stamped(wanted, files) or found.get("content") == _key(
        wanted, [(file.path.name, readers.digest(file.path)) for file in files]
    )


def _files(wanted: plan.Plan, out: Path) -> list[File]:
    """All files of a plan as they are now."""
    listed = [(number, path) for number, source in enumerate(wanted.source) for path in plan.files(wanted, source)]
    stamps = [readers.stamp(path) for _, path in listed]
    return [
        File(
            path.absolute(),
            number,
            stamp,
            out / WORK / _key(_decisive(wanted, number), [(str(path.resolve()), *stamp)]),
        )
        for (number, path), stamp in zip(listed, stamps, strict=True)
    ]


def _stamped(wanted: plan.Plan, files: list[File]) -> str:
    return _key(wanted, [(file.path.name, *file.stamp) for file in files])


def _finished(wanted: plan.Plan, files: list[File], out: Path) -> bool:
    """Whether the corpus is there; raises `Problem` for one of another plan or of other files."""
    if not (out / MANIFEST).exists():
        return False
    if not _same(wanted, files, out):
        raise Problem(f"{out} holds a corpus of another plan or of other files. Name another folder, or remove it.")
    return True


def _make(wanted: plan.Plan, files: list[File], out: Path, workers: Workers | Cluster, advance: Advance) -> None:
    work = out / WORK
    for file in files:
        disk.make_folder(file.folder)
    _clean(wanted, files, workers, lambda share: advance(READING * share))
    table = _table(files)
    same, near = _duplicates(wanted, table, work)
    todo = shards.planned(table, [source.name for source in wanted.source], same, near)
    digests = []
    for digest in workers.ordered(partial(shards.write, shard, out) for shard in todo):
        digests.append(digest)
        advance(READING + (1 - READING) * len(digests) / len(todo))
    shards.clear(out, [shard.name for shard in todo])
    facts = [{"path": file.path.name, "source": wanted.source[file.source].name} | _done(file) for file in files]
    content = _key(wanted, [(fact["path"], fact["sha256"]) for fact in facts])
    made = {"format": FORMAT, "key": _stamped(wanted, files), "content": content}
    made |= manifest(wanted, facts, table, same, near, todo, digests)
    disk.write_text(out / MANIFEST, json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)


def _check(out: Path, files: list[File]) -> None:
    """Raises `Problem` where shards would be written over what no build has made, or be read by the next call."""
    there = [path for form in shards.NAMES for path in sorted(out.glob(form))]
    mine = {path.resolve() for path in there}
    if source := next((file.path for file in files if file.path.resolve() in mine), None):
        raise Problem(f"{source} is a source, and is named like what is written to {out}. Name another folder.")
    if there and not (out / WORK).exists():
        raise Problem(f"{out} holds {there[0].name}, which no build has left there. Name another folder, or remove it.")


def read(folder: str | Path) -> dict[str, Any]:
    """The manifest of a finished corpus."""
    path = Path(folder).expanduser() / MANIFEST
    if (path.parent / WORK).is_dir() and not path.exists():
        with disk.alone(path.parent, BUILDING):  # or there is a process to wait for
            raise Problem(f"The corpus in {folder} is not finished. Call `regard corpus build` again, and it goes on.")
    if not path.exists():
        raise Problem(f"{folder} holds no corpus: it is no folder with a {MANIFEST}. Name the one that --out named.")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read ({error}). Build the corpus again in another folder.") from None
    return found


def _decisive(wanted: plan.Plan, number: int) -> dict[str, Any]:
    """What decides how documents of a source come out clean."""
    source = dataclasses.asdict(wanted.source[number])
    del source["weight"], source["path"]
    return {"format": FORMAT, "source": source, "clean": dataclasses.asdict(wanted.clean)}


def _key(*parts: Any) -> str:
    def simple(part: Any) -> Any:
        return dataclasses.asdict(part) | {"folder": ""} if isinstance(part, plan.Plan) else part

    said = json.dumps([FORMAT, *map(simple, parts)], sort_keys=True)
    return hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _clean(wanted: plan.Plan, files: list[File], workers: Workers | Cluster, advance: Advance) -> None:
    """Leaves the cleaned chunks of every file on disk, but for those that are there."""
    read, total = 0, max(1, sum(file.stamp[0] for file in files))
    for size in workers.streamed(partial(_pieces, wanted, some) for some in _together(files)):
        read += size
        advance(read / total)


def _together(files: list[File]) -> Iterator[list[File]]:
    """Files in runs of some size, each of which one process reads."""
    run: list[File] = []
    size = 0
    for file in files:
        run.append(file)
        size += file.stamp[0]
        if size >= STREAM:
            yield run
            run, size = [], 0
    if run:
        yield run


def _pieces(wanted: plan.Plan, files: list[File]) -> Iterator[Callable[[], int]]:
    """The cleaning of some files, piece by piece; each gives how many bytes were read for it."""
    for file in files:
        source, count, progress, before = wanted.source[file.source], 0, Progress(), 0
        if not (file.folder / DONE).exists():
            markup = readers.kind(file.path, source) == "wikipedia"
            for count, documents in enumerate(_runs(file, source, progress), 1):
                target, read = file.folder / f"{count - 1:06d}.npz", min(progress.done, file.stamp[0])
                task = chunks.Task(target, source, markup, wanted.clean, documents)
                yield Here(int, read - before) if target.exists() else partial(_piece, task, read - before)
                before = read
            yield Here(_end, file, count)
        yield Here(int, file.stamp[0] - before)


def _piece(task: chunks.Task, read: int) -> int:
    chunks.work(task)
    return read


def _end(file: File, count: int) -> int:
    """Writes down that all of a file is cleaned; raises `Problem` where it is not what it was when it was begun."""
    fact = {"chunks": count, "bytes": file.stamp[0], "sha256": readers.digest(file.path)}
    if readers.stamp(file.path) != file.stamp:
        raise Problem(f"{file.path} was changed while the corpus was built. Call again when nothing writes to it.")
    disk.write_bytes(file.folder / DONE, disk.to_json(fact).encode(), shared=True)
    return 0


def _runs(file: File, source: plan.Source, progress: Progress) -> Iterator[list[readers.Document]]:
    """Documents of a file in runs, whose bounds depend on nothing but the file."""
    if not file.path.exists():
        raise Problem(
            f"{file.path} cannot be read: it is not there on {platform.node()}. Put it back, or where a cluster builds "
            "onto a disk that all its machines share."
        )
    run: list[readers.Document] = []
    size = 0
    for document in readers.documents(file.path, source, progress):
        run.append(document)
        size += len(document.text)
        if size >= CHUNK[0] or len(run) >= CHUNK[1]:
            yield run
            run, size = [], 0
    if run:
        yield run


def _done(file: File) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.folder / DONE).read_text(encoding="utf-8"))
    return found


def _table(files: list[File]) -> shards.Table:
    found = [(file.folder / f"{n:06d}.npz", file.source) for file in files for n in range(_done(file)["chunks"])]
    return shards.Table([path for path, _ in found], [source for _, source in found])


def _duplicates(wanted: plan.Plan, table: shards.Table, work: Path) -> tuple[Any, Any]:
    """Which document each exact and each near duplicate repeats."""
    none = np.full(len(table), duplicates.NONE, dtype=np.int64)
    same = duplicates.exact(table.kept["digest"]) if wanted.duplicates.exact else none
    if not wanted.duplicates.near:
        return same, none
    path = work / "signatures"
    disk.write_whole(path, lambda file: [file.write(data) for data in table.signatures()])
    try:
        near = duplicates.near(path, same, wanted.duplicates.similarity)
        # What repeats a document that is dropped itself is told the one that is kept.
        return np.where((same >= 0) & (near[same] >= 0), near[same], same), near
    finally:
        with suppress(OSError):
            path.unlink()
