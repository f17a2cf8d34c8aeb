"""The page of several subjects: a list with a search box beside the client."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from .scene import Scene

# More are found by searching.
_MOST_LISTED = 200


@cache
def html() -> bytes:
    """The page; it asks for what it lists."""
    return Path(__file__).with_name("page.html").read_bytes()


def listed(scene: Scene, search: str) -> dict[str, Any]:
    """The first subjects whose names hold all words of ``search``, and how many there are."""
    words = search.casefold().split()
    found = [
        number
        for number, name in enumerate(scene.names)
        if all(word in name.casefold() for word in words)
    ]
    subjects = [
        {"number": number, "name": scene.names[number], "size": scene.size(number)}
        for number in found[:_MOST_LISTED]
    ]
    return {"subjects": subjects, "found": len(found), "all": len(scene.names)}
