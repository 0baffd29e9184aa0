"""Bytes out of files that are packed or not, told by their first bytes, and into them, told by their name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from regard.errors import Problem

ENDINGS = (".gz", ".xz", ".bz2", ".zst")
BROKEN = (EOFError, zlib.error, lzma.LZMAError, OSError)  # what reading a file raises that breaks off or is damaged


def kind_by_name(path: Path, kinds: Mapping[str, str]) -> str:
    """The kind that goes by the ending of a file's name, whatever it is packed by; nothing where the name says none."""
    name = path.name.lower()
    name = name.removesuffix(next((ending for ending in ENDINGS if name.endswith(ending)), ""))
    return next((kind for ending, kind in kinds.items() if name.endswith(ending)), "")


@dataclass(slots=True)
class Progress:
    """How many bytes of a file have been read."""

    done: int = 0


@contextmanager
def opened(path: Path, progress: Progress) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file; what damage raises becomes a `Problem`, where no reader has said more."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
    try:
        with raw:
            counted = io.BufferedReader(_Counted(raw, progress), 1 << 16)
            start = counted.peek(6)[:6]
            # By content, not by name: downloads are often unpacked on the way.
            opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
            yield io.BufferedReader(opener(counted), 1 << 20) if opener else counted
    except BROKEN as error:
        raise Problem(f"{path} breaks off or is damaged ({error}). Fetch it again.") from None


def packed(data: bytes, path: Path) -> bytes:
    """The bytes for a file of this name, packed as its ending asks."""
    match path.suffix.lower():
        case ".gz":
            return gzip.compress(data, mtime=0)  # the same bytes at any time
        case ".xz":
            return lzma.compress(data)
        case ".bz2":
            return bz2.compress(data)
        case ".zst":
            return _zstandard().ZstdCompressor().compress(data)  # type: ignore[no-any-return]
    return data


class _Counted(io.RawIOBase):
    """A file that says how far it has been read."""

    def __init__(self, raw: BinaryIO, progress: Progress) -> None:
        self._raw, self._progress = raw, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        self._progress.done += got
        return int(got)


class _Zstandard(io.RawIOBase):
    """Bytes out of Zstandard frames; unlike the library's own reader, it complains of a frame that breaks off."""

    def __init__(self, packed: BinaryIO) -> None:
        zstandard = _zstandard()
        # Frames made with --long may ask for as much as 2 GB at once, as published dumps do.
        self._new = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj
        self._packed, self._error = packed, zstandard.ZstdError
        self._frame, self._begun, self._rest, self._out = self._new(), False, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            data = self._rest or self._packed.read(1 << 17)
            if not data:
                if self._begun:
                    raise EOFError("a frame ends before its end mark")
                return 0
            try:
                self._out = self._frame.decompress(data)
            except self._error as error:
                raise EOFError(str(error)) from None
            self._rest, self._begun = b"", True
            if self._frame.eof:
                self._rest, self._begun, self._frame = self._frame.unused_data, False, self._new()
        size = min(len(buffer), len(self._out))
        buffer[:size], self._out = self._out[:size], self._out[size:]
        return size


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise Problem("Files in .zst are read and written by zstandard. Run: pip install 'regard[corpus]'") from None
    return zstandard


_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open, b"\x28\xb5\x2f\xfd": _Zstandard,
}  # fmt: skip
