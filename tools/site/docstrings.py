"""What griffe changes in docstrings before they become Markdown.

References in Sphinx' notation become code, and examples are fenced.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`")


class Docstrings(griffe.Extension):
    """Changes each docstring once, when it has been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every object that has been read from a source or a stub."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring with its roles and examples in Markdown's notation."""
    lines: list[str] = []
    inside = False
    for line in _ROLE.sub("`", text).split("\n"):
        begins = line.startswith(">>> ")
        if begins and not inside:
            lines += ["```pycon"]
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)
