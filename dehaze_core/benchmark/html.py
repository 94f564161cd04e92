# SPDX-License-Identifier: GPL-3.0-or-later
"""HTML out of nested calls; every text and every attribute is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

VOID = frozenset({"img", "meta"})  # elements without content and end tag

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #e6e6e6; }
h1, h2 { font-weight: 600; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
table { border-collapse: collapse; background: #fff; }
th, td { padding: .25rem .7rem; border: 1px solid #ccc; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.pictures { display: flex; gap: 8px; overflow-x: auto; padding-bottom: .4rem; }
figure { margin: 0; flex: 0 0 256px; }
img { width: 256px; height: auto; display: block; }
figcaption { font-size: 13px; }
nav a { margin-right: 1rem; }
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str) -> Html:
    """Return an element.

    Args:
        name: Name of the element.
        content: What is in it; text that is not `Html` is escaped.
        attributes: Its attributes; a trailing underscore is dropped (`class_`).
    """
    marks = "".join(f' {key.rstrip("_")}="{escape(text)}"' for key, text in attributes.items())
    if name in VOID:
        return Html(f"<{name}{marks}>")
    inner = "".join(part if isinstance(part, Html) else escape(part) for part in content)
    return Html(f"<{name}{marks}>{inner}</{name}>")


def link(path: Path) -> str:
    """Return a relative path as an address."""
    return quote(path.as_posix())


def document(title: str, *content: str) -> str:
    """Return a whole page without scripts that needs nothing from elsewhere."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    body = element("body", element("h1", title), *content)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
