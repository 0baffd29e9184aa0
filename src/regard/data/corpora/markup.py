"""Markup of Wikipedia to running text."""

from __future__ import annotations

import re
from typing import Any

from regard.errors import Problem


def plain(markup: str) -> str:
    """Wikipedia's markup as running text: without tables, notes, templates, files, categories and what else to read."""
    try:
        import mwparserfromhell
    except ImportError:
        raise Problem("Wikipedia's markup is read by mwparserfromhell. Run: pip install 'regard[corpus]'") from None
    markup = _without_apparatus(_without_tables(markup.split("\n")))
    markup = re.sub(r"\[\[:([^|\]]*)\]\]", r"\1", markup)  # a colon shows the name of what would not be seen
    markup = re.sub(r"(?i)<br\s*/?>", "\n", markup)
    markup = re.sub(r"-\{(?:([^{}|]*)\|)?([^{}]*)\}-", lambda found: _form(found[1] or "", found[2]), markup)
    tree = mwparserfromhell.parse(markup)
    for tag in tree.filter_tags(matches=lambda node: str(node.tag).lower() in ("ref", "table", "gallery", "math")):
        _remove(tree, tag)
    for link in tree.filter_wikilinks(matches=lambda node: _UNSEEN.match(str(node.title)) is not None):
        _remove(tree, link)
    text = tree.strip_code(normalize=True, collapse=True)
    # A note that never ends, words that show nothing, and what stays of a template in brackets.
    text = re.sub(r"</?ref\b[^>]*>|__[A-Z]+__|[（(]\s*[，,;；、]*\s*[)）]", "", text)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t]+", " ", text)).strip()


# What a link begins with that shows no words where it stands: files, categories, the same article in other languages.
_UNSEEN = re.compile(
    r"\s*(?:file|image|media|category|文件|档案|檔案|图像|圖像|图片|圖片|媒体|媒體|分类|分類|(?-i:[a-z]{2,3}(?:-[a-z]+)*))\s*:\S",
    re.IGNORECASE,
)


def _form(flags: str, forms: str) -> str:
    """One of the forms by script and region that Chinese markup gives a word: a simplified one, if it has any.

    The flags H and T give a form to other places of the article and to its title, and show nothing.
    """
    if {"H", "T", "-"} & set(flags.replace(" ", "").split(";")):
        return ""
    by_name = {
        name.strip(): form.strip() for name, colon, form in (part.partition(":") for part in forms.split(";")) if colon
    }
    simplified = next((by_name[name] for name in ("zh-hans", "zh-cn", "zh-sg", "zh") if name in by_name), "")
    return simplified or next(iter(by_name.values()), forms)


def _without_tables(lines: list[str]) -> list[str]:
    """Lines without tables, which a parser would turn into rows of cells; one that never ends goes to an empty line."""
    out: list[str] = []
    held: list[str] = []  # of the outermost table that is open
    depth = 0
    for line in lines:
        opens, closes = _OPENS.search(line), _CLOSES.match(line)
        if opens and not depth:
            out.append(line[: opens.end(1)])
        depth += bool(opens)
        (held if depth else out).append(line)
        if depth and closes and not opens:
            depth -= 1
            if not depth:
                held = []
                out.append(line[closes.end() :])
    ends = (number for number, line in enumerate(held) if number and (not line.strip() or line.startswith("==")))
    return out + (_without_tables(held[next(ends, len(held)) :]) if held else [])


_OPENS = re.compile(r"(^|[|=>])[\s:*#;]*\{\|(?!\})")
# A template may hold what ends a table.
_CLOSES = re.compile(r"[\s:]*\|\}(?!\})|\s*\{\{\s*(?:[a-z]+[- ])?end\s*\}\}", re.IGNORECASE)


def _without_apparatus(lines: list[str]) -> str:
    """The text without the sections that list what else there is."""
    out, level = [], 0  # of the heading of a section that is left out
    for line in lines:
        heading = _HEADING.match(line)
        if heading and not 0 < level < len(heading[1]):
            level = len(heading[1]) if _APPARATUS.fullmatch(heading[2]) else 0
        if not level:
            out.append(line)
    return "\n".join(out)


_HEADING = re.compile(r"(={2,6})\s*(.*?)\s*=+\s*$")
_APPARATUS = re.compile(
    r"see also|(?:notes and )?references?|(?:foot)?notes|citations|sources|further reading|external links|bibliography|"
    r"(?:参见|參見|参看|參看|另见|另見|相关条目|相關條目|参考(?:文献|资料|来源)?|參考(?:文獻|資料|來源)?|注释|註釋|注解|註解|脚注|腳註|"
    r"外部链接|外部連結|延伸阅读|延伸閱讀|资料来源|資料來源)",
    re.IGNORECASE,
)


def _remove(tree: Any, node: Any) -> None:
    try:
        tree.remove(node)
    except ValueError:  # it stood inside another that is gone already
        return
