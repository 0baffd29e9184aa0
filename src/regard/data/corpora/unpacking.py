"""Bytes out of files that are packed or not, told by their first bytes; one that breaks off is a `Problem`."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from regard.data.corpus import PACKED
from regard.errors import Problem

ZSTANDARD = b"\x28\xb5\x2f\xfd"


@dataclass(slots=True)
class Progress:
    """How many bytes of a file have been read."""

    done: int = 0


@contextmanager
def opened(path: Path, progress: Progress) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file, told by its first bytes; what damage raises becomes a `Problem`."""
    try:
        with path.open("rb") as raw:
            counted = io.BufferedReader(_Counted(raw, progress), 1 << 20)
            start = counted.peek(6)[:6]
            opener: Callable[..., Any] | None = _Zstandard if start.startswith(ZSTANDARD) else None
            for magic, packed in PACKED.items():
                opener = packed if start.startswith(magic) else opener
            yield io.BufferedReader(opener(counted), 1 << 20) if opener else counted
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise Problem(f"{path} breaks off or is damaged ({error}). Fetch it again, and call again.") from None
    except OSError as error:
        raise Problem(f"{path} cannot be read to its end: {error.strerror or error}. Fetch it again.") from None


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
        try:
            import zstandard
        except ImportError:
            raise Problem("Files in .zst are unpacked by zstandard. Run: pip install 'regard[corpus]'") from None
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
