"""Files written whole or not at all: a kill or a full disk at any moment leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from regard.errors import Problem, nearest

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


def locate(name: str | Path) -> Path:
    """The path of that name; where there is none, the problem proposes the nearest name in the same folder."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if not path.parent.is_dir():
        raise Problem(f"There is no file {path}, and no folder {path.parent} either. Check the path.")
    there = [p.name for p in path.parent.iterdir()]
    raise Problem(f"There is no file {path}. {nearest(path.name, there)}Check the path.")


def write_whole(path: str | Path, write: Callable[[BinaryIO], object], *, shared: bool = False) -> None:
    """Replaces a file by what `write` puts into the open one; raises `Problem` where the disk refuses it.

    A `shared` one may be written by several processes at once, each of which puts the same into it. Killed, they leave
    more than one file that ends in `.partial`.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial" if shared else f"{path.name}.partial")
    with refusing(path):
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)  # what is half written would hold the space that is missing
            raise


@contextlib.contextmanager
def folder_whole(path: str | Path) -> Iterator[Path]:
    """A folder to be filled that takes the place of `path` in the end; raises `Problem` where the disk refuses it."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # another process may fill the same folder
    with refusing(path):
        for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
            if not _runs(left.name.split(".")[-2]):
                shutil.rmtree(left, ignore_errors=True)  # of a call that was killed
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        try:
            yield partial
            if path.exists():
                shutil.rmtree(path)
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextlib.contextmanager
def alone(folder: str | Path, doing: str, *, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Within, no other process does the same in a folder; raises `Problem` where one does.

    Where `waiting` is given that is called instead, and the other one is waited for. The system lets go when a process
    ends, however it does. Nothing is held where there is no folder, where it cannot be written to, or where the system
    knows no such locks. A process does not shut itself out: not to be nested.
    """
    path = Path(folder) / LOCK
    taken = f"Another process is {doing} in {folder}. Wait until it is done, or name another folder."
    file = _lock(path, taken, waiting)
    try:
        yield
    finally:
        if file:
            path.unlink(missing_ok=True)
            file.close()


def _lock(path: Path, taken: str, waiting: Callable[[], object] | None) -> BinaryIO | None:
    wait = False
    while fcntl is not None:
        try:
            file = path.open("ab")
        except OSError:
            break
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass  # who held it has just removed it, and the next makes another
        except OSError as error:
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                break
            if waiting is None:
                raise Problem(taken) from None
            waiting()
            wait = True
            continue
        file.close()
    return None


def _runs(process: str) -> bool:
    """Whether there is such a process; where that cannot be asked, there may be."""
    try:
        with contextlib.suppress(PermissionError):  # it is someone else's
            if os.name == "posix":
                os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    return True


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns what the system says of a full or forbidden disk into a `Problem` about `path`."""
    try:
        yield
    except Problem:
        raise  # of something else, such as a source that was read to fill the file: it has its own cause and cure
    except Exception as error:
        if refusal := _refusal(error):
            raise Problem(
                f"{path} cannot be written: {refusal.strerror}. Free some space or check the folder's permissions, and "
                "call again; what was there before is unharmed."
            ) from error
        raise


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's own error, or the one behind a RuntimeError: writers such as torch's raise theirs on top of it."""
    while isinstance(error, RuntimeError):
        error = error.__cause__ or error.__context__
    return error if isinstance(error, OSError) else None


def write_bytes(path: str | Path, data: bytes, *, shared: bool = False) -> None:
    """Replaces a file by these bytes."""
    write_whole(path, lambda file: file.write(data), shared=shared)


def write_text(path: str | Path, text: str) -> None:
    """Replaces a file by text in UTF-8."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(
            f"What goes into {path} holds a name that is no UTF-8, such as a file's. Rename that file first."
        ) from None
    write_bytes(path, data)


def make_folder(path: str | Path) -> None:
    """Makes a folder and those above it; raises `Problem` where it cannot be made or written to."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".regard"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Problem(f"{path} cannot be written to: {error.strerror}. Name another folder.") from None


def make_place(path: str | Path) -> Path:
    """Makes the folder of a file that is to be written; raises `Problem` where that, or the file, cannot be."""
    path = Path(path)
    make_folder(path.parent)
    if path.is_dir():
        raise Problem(f"{path} is a folder. Name a file, one in it for example.")
    return path


def to_json(value: Any) -> str:
    """One line of JSON, which has no NaN, no infinity and no dates: null stands for a number that is none.

    Decimals become numbers, and dates and times words as in ISO 8601.
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):  # the exponent of what is no number is a letter
        value = int(value) if value.as_tuple().exponent == 0 else float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
