"""Pieces of a page that every section uses: tables, passages, figures in words.

All text passes through `escape`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

SHOWN = 280  # characters of a text before the rest goes into a fold

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_KANA = re.compile("[\u3040-\u30ff]")
_HAN = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")


def escape(text: object) -> str:
    """Text that is inert in an element or a quoted attribute."""
    return html.escape(writable(str(text)), quote=True)


def writable(text: str) -> str:
    """Text with U+FFFD for what no HTML file can hold: control characters and halves of surrogate pairs."""
    return _UNWRITABLE.sub("\ufffd", text)


def number(value: float, *, digits: int = 3) -> str:
    """A number as the report prints it; a dash stands for what is not defined."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:,.1f}"


def language(text: str) -> str:
    """The `lang` attribute that picks the right glyphs for Chinese and Japanese; empty where the page's own will do."""
    start = text[:400]
    if _KANA.search(start):
        return ' lang="ja"'
    return ' lang="zh"' if _HAN.search(start) else ""


def passage(text: str, *, pair: str | None = None) -> str:
    """One text, or both texts of a pair; what is long is cut, and the whole is one click away."""
    second = "" if pair is None else _text(pair, style="text pair")
    return _text(text, style="text") + second


def name(label: object, *, style: str = "") -> str:
    """A label in its own language and direction."""
    words = str(label)
    kind = f' class="{style}"' if style else ""
    return f'<span{kind} dir="auto"{language(words)}>{escape(words)}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, numbers: Sequence[int] = ()) -> str:
    """A table whose first column names its rows; cells are HTML already, `numbers` are the columns set flush right."""
    styles = [' class="number"' if i in numbers else "" for i in range(len(head))]
    top = "".join(f'<th scope="col"{style}>{cell}</th>' for cell, style in zip(head, styles, strict=True))
    body = "".join(
        f'<tr><th scope="row"{styles[0]}>{row[0]}</th>'
        + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row[1:], styles[1:], strict=True))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="wide"><caption>{caption}</caption><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def meter(share: float) -> str:
    """A bar for a share in [0, 1]; the figure beside it says the same."""
    width = share if math.isfinite(share) else 0.0
    return f'<span class="meter" aria-hidden="true"><span style="--w:{width:.3f}"></span></span>'


def bullets(items: Iterable[str]) -> str:
    """Sentences as a list."""
    return f"<ul>{''.join(f'<li>{name(item)}</li>' for item in items)}</ul>"


def caution(items: Sequence[str]) -> str:
    """Sentences that a reader must not miss; nothing where there are none."""
    lines = "".join(f"<p>{name(item)}</p>" for item in items)
    return f'<div class="caution" role="note" aria-label="Caution">{lines}</div>' if items else ""


def count(size: int, noun: str) -> str:
    """A number of things: `1 text`, `2,000 texts`."""
    return f"{size:,} {noun}{'' if size == 1 else 'es' if noun.endswith('s') else 's'}"


def _text(text: str, *, style: str) -> str:
    kind = f'class="{style}" dir="auto"{language(text)}'
    if len(text) <= SHOWN:
        return f"<div {kind}>{escape(text)}</div>"
    return (
        f'<details><summary><span {kind}>{escape(text[:SHOWN])}…</span> <span class="soft">({len(text):,} characters)'
        f"</span></summary><div {kind}>{escape(text)}</div></details>"
    )
