"""The shell of a page: one HTML file that needs no network and runs no script but its own, known by its hash."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from regard.page.markup import escape, language


def page(title: str, sections: Mapping[str, tuple[str, str]], *, kind: str, lead: str = "", script: str = "") -> str:
    """A whole page: `sections` are key -> (heading, HTML), `lead` goes under the title; HTML is escaped already."""
    links = "".join(f'<li><a href="#{key}">{heading}</a></li>' for key, (heading, _) in sections.items())
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{heading}</h2>\n{content}</section>'
        for key, (heading, content) in sections.items()
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    first, (heading, _) = next(iter(sections.items()))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{asset("regard.page", "style.css")}</style>
</head>
<body>
<a class="skip" href="#{first}">To: {heading}</a>
<header><p class="kind">{escape(kind)}</p><h1 dir="auto"{language(title)}>{escape(title)}</h1>{lead}</header>
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{body}
</main>
<footer>Written by Regard. This page loads nothing from anywhere.</footer>
<script>{script}</script>
</body>
</html>
"""


def asset(room: str, file: str) -> str:
    """A text file that lies beside the code of a room."""
    return resources.files(room).joinpath(file).read_text(encoding="utf-8")


def data(value: Any) -> str:
    """Plain values as an element that a page's script reads.

    ASCII JSON without a single angle bracket or ampersand: nothing in it can end the element or start another.
    """
    inert = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json">{inert}</script>'
