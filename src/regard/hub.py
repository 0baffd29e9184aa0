"""Files of a model or a data set by hub name or folder."""

from __future__ import annotations

import difflib
import errno
import glob
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regard.errors import Problem

SHIPPED = {"regard-mini": Path(__file__).parent / "mini"}  # what is there without a hub
SMALL_FILES = (
    *("config.json", "regard.json", "modules.json", "1_Pooling/config.json"),
    *("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
SHARD_INDEX, SHARD = "model.safetensors.index.json", re.compile(r"model-\d+-of-\d+\.safetensors")
FORMATS = (".parquet", ".csv", ".tsv", ".jsonl")  # best first; each also as .gz
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF_WORD = {word: split for split, words in SPLITS.items() for word in words}
USUAL = ("", "data", "default")  # folders whose files are the data set itself, not one of its subsets

CAUSE_AND_CURE = {
    "gated": "{name} is gated: its owner lets in only accounts that asked. Ask for access at {page}, then {token}.",
    "absent": "Nothing here is called {name}, and the hub shows no {noun} of that name. Check the spelling; if the "
    "{noun} is private, {token}.",
    "revision": "{name} has no revision '{revision}'. Use main, or a branch, tag or commit from {page}.",
    "name": "'{name}' is neither a folder here nor a name that the hub allows. Write owner/name, or a folder's path.",
    "offline": "{name} is not in the cache at {cache}, and offline mode forbids fetching it. Call once without "
    "offline mode (unset HF_HUB_OFFLINE), or name {here}.",
    "partial": "Only a part of {name} is in the cache at {cache}, and the hub is out of reach. Call again with a "
    "network to fetch the rest, or name a local folder.",
    "full": "The disk is full: {name} does not fit into the cache at {cache}. Free some space (`hf cache ls` shows "
    "what is there, `hf cache rm` removes it), or set HF_HOME to a folder on a larger disk.",
    "refused": "The hub refuses access to {name}: {said}. The token is wrong or lacks the right; {token}.",
    "broken": "The download of {name} broke off: {said}. Call again: it resumes after the files that arrived whole.",
    "unreachable": "The hub at {hub} cannot be reached ({said}), and {name} is not in the cache at {cache}. Check the "
    "network, the proxy and HF_ENDPOINT, or name {here}.",
    "unwritable": "{name} cannot be stored in the cache at {cache}: {said}. Set HF_HOME to a folder you can write to.",
    "other": "The hub at {hub} gave no usable answer about {name}: {said}. Check HF_ENDPOINT, or try again later.",
}


@dataclass(frozen=True, slots=True)
class _Repository:
    name: str
    revision: str
    kind: str  # model or dataset, as the hub says it


def model_folder(
    name: str | Path, *, revision: str = "main", offline: bool | None = None, weights: bool = True
) -> Path:
    """The folder of a model: a local one as it is, a shipped one, one from the hub with only the files Regard reads.

    `offline=True` keeps to the cache; otherwise the environment's HF_HUB_OFFLINE decides. Without `weights` the hub is
    asked for settings and tokenizer alone.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if str(name) in SHIPPED:
        return SHIPPED[str(name)]
    if _looks_local(str(name)):
        raise _no_folder(folder)
    choose = _model_files if weights else _small_files
    return _fetch(_Repository(str(name), revision, "model"), choose, offline=bool(offline))[0]


def data_files(name: str, *, revision: str = "main") -> dict[str, list[Path]]:
    """The files of a hub data set by split: train, validation, test; `owner/name/folder` names one subset of it."""
    owner_and_name, subset = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
    repository = _Repository(owner_and_name, revision, "dataset")
    folder, files = _fetch(repository, lambda names, holder: _data_files(names, holder, subset=subset))
    split_of = {file: _split(file) or "train" for file in files}
    found = {split: [folder / file for file in files if split_of[file] == split] for split in SPLITS}
    return {split: paths for split, paths in found.items() if paths}


def _fetch(
    repository: _Repository, choose: Callable[[Sequence[str], str], list[str]], *, offline: bool = False
) -> tuple[Path, list[str]]:
    from huggingface_hub import snapshot_download

    with _explained(repository):
        names, reachable = _listing(repository, offline=offline)
    files = choose(names, repository.name if reachable else f"The cached copy of {repository.name}")
    with _explained(repository, begun=reachable):
        folder = snapshot_download(
            repository.name,
            repo_type=repository.kind,
            revision=repository.revision,
            allow_patterns=[glob.escape(file) for file in files],
            local_files_only=not reachable,
        )
    return Path(folder), files


def _listing(repository: _Repository, *, offline: bool) -> tuple[list[str], bool]:
    from huggingface_hub import HfApi, constants, errors

    name, kind, revision = repository.name, repository.kind, repository.revision
    try:
        if offline:
            raise errors.OfflineModeIsEnabled
        # The library asks this too, but without a time limit: a network that swallows packets would hold up even a
        # cached model for minutes.
        info = HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return [file.rfilename for file in getattr(info, "siblings", None) or ()], True
    except errors.RevisionNotFoundError:
        raise
    except Exception as error:  # whatever kept the list from coming, the cache may hold it
        names = _cached_listing(repository)
        if names is None:
            raise error from None
        return names, False


def _cached_listing(repository: _Repository) -> list[str] | None:
    from huggingface_hub import errors, get_cached_repo_tree, snapshot_download

    name, kind, revision = repository.name, repository.kind, repository.revision
    try:
        # With nothing asked for, the library names the snapshot's folder and does not mind what it lacks.
        folder = snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True, allow_patterns=[])
        return [file.path for file in get_cached_repo_tree(name, repo_type=kind, revision=revision)]
    except errors.LocalEntryNotFoundError:
        return None
    except errors.CachedRepoTreeNotFoundError:  # another tool filled the cache, file by file
        return [file.relative_to(folder).as_posix() for file in Path(folder).rglob("*") if file.is_file()]


def _small_files(names: Sequence[str], holder: str) -> list[str]:
    if found := [file for file in SMALL_FILES if file in names]:
        return found
    raise Problem(f"{holder} has no tokenizer; it holds {_some(names)}. Name a BERT model.")


def _model_files(names: Sequence[str], holder: str) -> list[str]:
    if "config.json" not in names:
        raise Problem(
            f"{holder} has no config.json, so it is not a model that Regard can read; it holds {_some(names)}. "
            "Name a BERT model, for example google-bert/bert-base-uncased."
        )
    sharded = [SHARD_INDEX, *sorted(name for name in names if SHARD.fullmatch(name))]
    for weights in (["model.safetensors"], sharded, ["pytorch_model.bin"]):
        if weights[0] in names:
            return [file for file in SMALL_FILES if file in names] + weights
    raise Problem(
        f"{holder} has neither model.safetensors nor pytorch_model.bin, the weights that Regard reads; it holds "
        f"{_some(names)}. Name another model or revision, or convert it to safetensors first."
    )


def _data_files(names: Sequence[str], holder: str, *, subset: str) -> list[str]:
    inside = [name for name in names if not subset or name.startswith(f"{subset}/")]
    by_format = [sorted(n for n in inside if n.lower().removesuffix(".gz").endswith(end)) for end in FORMATS]
    found = [files for files in by_format if files]
    if not found:
        scripts = ", ".join(name for name in inside if name.endswith(".py"))
        held = f"a loading script ({scripts}), which Regard does not run" if scripts else _some(names)
        raise Problem(
            f"{holder} has no Parquet, CSV, TSV or JSON-lines file{f' in {subset}' if subset else ''}; it holds "
            f"{held}. Try the revision refs/convert/parquet, where the hub keeps Parquet copies of many data sets, or "
            "download the data and name its files."
        )
    files = next((files for files in found if any(map(_split, files))), found[0])
    return _one_subset([file for file in files if _split(file)] or files, holder)


def _one_subset(files: list[str], holder: str) -> list[str]:
    subset_of = {file: "/".join(part for part in file.split("/")[:-1] if not _split(part)) for file in files}
    subsets = sorted(set(subset_of.values()))
    wanted = next((name for name in USUAL if name in subsets), subsets[0])
    if len(subsets) > 1 and wanted not in USUAL:
        raise Problem(
            f"{holder} has {len(subsets)} subsets: {_some(subsets)}. Add one to the name, for example "
            f"{holder.split()[-1]}/{subsets[0]}."
        )
    return [file for file in files if subset_of[file] == wanted]


def _split(path: str) -> str:
    # The file's own name speaks before its folders: test/train.csv is a train file.
    words = (word for part in reversed(path.split("/")) for word in re.split(r"[^a-z]+", part.lower()))
    return next((SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD), "")


def _some(names: Sequence[str]) -> str:
    shown = [name for name in names if not name.startswith(".git")]
    return (", ".join(shown[:6]) or "nothing") + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def _looks_local(name: str) -> bool:
    # A name whose first part is a folder here is a mistyped path: asking the hub could bring a stranger's model.
    first, _, rest = name.partition("/")
    by_form = name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or "/" in rest
    return by_form or Path(name).exists() or (bool(rest) and Path(first).is_dir())


def _no_folder(folder: Path) -> Problem:
    if folder.exists():
        return Problem(f"{folder} is a file, not a folder. Name the folder that holds config.json and the weights.")
    parent = next(p for p in folder.parents if p.is_dir())
    here = sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    near = difflib.get_close_matches(folder.relative_to(parent).parts[0], here, n=3) or here[:3]
    nearest = f"Nearest: {', '.join(str(parent / name) for name in near)}" if near else f"{parent} holds no folders"
    return Problem(
        f"There is no folder {folder}. {nearest}. Name a folder that exists, or a model on the hub, for example "
        "google-bert/bert-base-uncased."
    )


@contextmanager
def _explained(repository: _Repository, *, begun: bool = False) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library raises its own errors, its HTTP client's and the system's
        from huggingface_hub import constants

        said = str(error).strip().partition("\n")[0].partition(" for url")[0]
        noun, section, here = "data set", "datasets/", "a local folder"
        if repository.kind == "model":
            noun, section, here = "model", "", f"a local folder, or {', '.join(SHIPPED)}, which comes with Regard"
        message = CAUSE_AND_CURE[_cause(error, begun=begun)].format(
            name=repository.name,
            revision=repository.revision,
            noun=noun,
            hub=constants.ENDPOINT,
            page=f"{constants.ENDPOINT}/{section}{repository.name}",
            cache=constants.HF_HUB_CACHE,
            here=here,
            token="log in with `hf auth login` or set HF_TOKEN",
            said=said.strip().rstrip(".") or type(error).__name__,
        )
        raise Problem(message) from error


def _is_transport(error: Exception) -> bool:
    # By name, because which HTTP client raises it is the library's own affair.
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _cause(error: Exception, *, begun: bool) -> str:
    from huggingface_hub import errors

    code = getattr(error, "errno", None)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    bad_token = "Invalid credentials" in str(error)
    # The first that holds counts: some of the library's errors are special cases of others, and most are an OSError.
    causes = (
        ("gated", isinstance(error, errors.GatedRepoError)),
        ("absent", isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not bad_token)),
        ("revision", isinstance(error, errors.RevisionNotFoundError)),
        ("name", isinstance(error, errors.HFValidationError)),
        ("offline", isinstance(error, errors.OfflineModeIsEnabled)),
        ("partial", isinstance(error, errors.IncompleteSnapshotError)),
        ("full", code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)),
        ("refused", status in (401, 403)),
        ("broken", begun and code is None),
        ("unreachable", _is_transport(error)),
        ("unwritable", code is not None),
    )
    return next((cause for cause, holds in causes if holds), "other")
