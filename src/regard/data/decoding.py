"""Bytes to text and its lines: which encoding they are in, and which other would decode what this one cannot."""

from __future__ import annotations

import re
from pathlib import Path

from regard.errors import Problem

MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    *((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")),
)
LONE = re.compile("[\ud800-\udfff]")  # half a character: how a byte that cannot be decoded shows in the text
JUNK = re.compile("[\x01-\x08\x0e-\x1a\x1c-\x1f]")
ORDINARY = re.compile("[\t\n\r -~\u00a0-\u024f\u2000-\u9fff\uff00-\uffef]")


def decoded(data: bytes, encoding: str, path: Path) -> tuple[str, list[str], str]:
    """The text, what to say of it, and the reason to give for rows with bytes that the encoding does not know.

    NUL characters, which nothing downstream can carry, become U+FFFD.
    """
    marked = next((name for mark, name in MARKS if data.startswith(mark)), "")
    used = marked or encoding
    try:
        text = data.decode(used, "surrogateescape")
    except LookupError:
        raise Problem(
            f"'{used}' is no text encoding. Say for example data.encoding=utf-8, gb18030 or latin-1."
        ) from None
    except UnicodeDecodeError:
        text = ""
    if not text or _misread(text):
        better = guess(data)
        if better in ("", used):
            raise Problem(
                f"{path} is not text in {used}: it is damaged or binary. Give rows as text (csv, tsv, txt, "
                "jsonl or json); a spreadsheet or an archive must be exported to one of these first."
            )
        raise Problem(f"{path} is not in {used}; it can be decoded as {better}. Say data.encoding={better}.")
    said = [f"{path.name} is read as {used}, as its first bytes say."] if marked not in ("", "utf-8") else []
    if not data.isascii() and used.lower() in ("latin-1", "iso-8859-1", "cp1252") and guess(data) == "utf-8":
        said.append(
            f"{path.name} is read as {used}, but it is utf-8 throughout: data.encoding=utf-8 is likelier right."
        )
    undecodable = ""
    if LONE.search(text):
        better = guess(data) if _foreign(text)[2] else ""
        cure = f"; as {better} it could be read: data.encoding={better}" if better else ""
        undecodable = f"bytes that are not {used}{cure}"
    if nuls := text.count("\0"):
        text = text.replace("\0", "\ufffd")
        said.append(f"{path.name}: {nuls} NUL characters are replaced by U+FFFD.")
    return text.removeprefix("\ufeff"), said, undecodable


def numbered(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers; only line feeds (or in an old file carriage returns) end a line, nothing else."""
    lines = [line.removesuffix("\r") for line in text.split("\n")] if "\n" in text else text.split("\r")
    return list(enumerate(lines if lines[-1] else lines[:-1], 1))


def _foreign(text: str) -> tuple[int, int, bool]:
    """Lines, lines with undecodable bytes, and whether most lines beyond ASCII have them: a sign of another encoding.

    One damaged line in a good file is a bad row; accents that fail throughout are a file in another encoding.
    """
    lines = text.rstrip("\r\n").split("\n")
    beyond = [line for line in lines if not line.isascii()]
    bad = sum(1 for line in beyond if LONE.search(line))
    return len(lines), bad, 2 * bad > len(beyond)


def _misread(text: str) -> bool:
    size = max(len(text), 200)  # a few odd characters in a tiny file are no sign of anything
    if text.count("\0") * 4 > size or len(JUNK.findall(text)) * 20 > size:
        return True
    lines, bad, mostly = _foreign(text) if LONE.search(text) else (1, 0, False)
    return 2 * bad > lines or (mostly and bad >= 3 and 100 * bad > lines)


def guess(data: bytes) -> str:
    """The encoding that plausibly wrote these bytes, or nothing for what is no text at all.

    Many encodings accept any bytes, so acceptance alone proves little: UTF-16 must give ordinary characters, and in
    Chinese text high bytes come in runs where in accented Latin text they stand alone.
    """
    high = sum(map(len, re.findall(rb"[\x80-\xff]+", data)))
    runs = sum(map(len, re.findall(rb"[\x80-\xff]{2,}", data)))
    tries = ["utf-8"]
    tries += ["utf-16-le", "utf-16-be"] if b"\0" in data else []
    tries += ["gb18030"] if 2 * runs > high else []
    tries += ["cp1252"] if re.search(rb"[\x80-\x9f]", data) else []
    for name in [*tries, "latin-1"]:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        ordinary = "utf-16" not in name or len(ORDINARY.findall(text)) > 0.9 * len(text)
        if ordinary and not _misread(text):
            return name
    return ""
