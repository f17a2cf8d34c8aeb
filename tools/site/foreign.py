"""Finds what built pages would load from elsewhere: scripts, styles, fonts, pictures, frames.

Links that a reader follows are no loads.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# Attributes that make a browser load what they name.
_LOADS = {"src", "srcset", "data", "poster", "action", "background", "xlink:href"}
_STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")
_IS_FOREIGN = re.compile(r"(?:https?:)?//")
# Links of pages that name the page itself or a relation, and load nothing.
_NAMES = {"canonical", "next", "prev", "license", "author", "alternate"}


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        values = {name: value or "" for name, value in attrs}
        loads = [values[name] for name in values if name in _LOADS]
        if tag == "link" and not set(values.get("rel", "").split()) <= _NAMES:
            loads.append(values.get("href", ""))
        self.found += [url for url in loads if _IS_FOREIGN.match(url)]
        self.found += _STYLE.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += _STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def foreign_loads(name: str, text: str) -> list[str]:
    """The URLs elsewhere that a file of that name loads."""
    if name.endswith(".html"):
        parser = _Loads()
        parser.feed(text)
        return parser.found
    return _STYLE.findall(text) if name.endswith((".css", ".svg")) else []


def check_folder(folder: Path) -> list[str]:
    """One line for each such URL in the files of a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".css", ".svg"):
            urls = foreign_loads(path.name, path.read_text())
            found += [f"{path.relative_to(folder)}: loads {url}" for url in urls]
    return found
