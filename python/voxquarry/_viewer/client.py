"""Finds the files of neuroglancer's client, which its package holds ready built."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .._extras import missing

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
}


def folder() -> Path:
    """The folder of the client; the package itself is not imported.

    Raises:
        ModuleNotFoundError: The package is missing, or has no client; the message says what
            installs it.
    """
    spec = find_spec("neuroglancer")
    for place in (spec.submodule_search_locations or []) if spec else []:
        client = Path(place) / "static" / "client"
        if (client / "index.html").is_file():
            return client
    raise missing(ModuleNotFoundError(name="neuroglancer"), "view")


def file(client: Path, name: str) -> tuple[bytes, str] | None:
    """A file of the client and its type; None if there is no such file."""
    path = client / name
    kind = _TYPES.get(path.suffix)
    if kind is None or path.name != name or not path.is_file():
        return None
    return path.read_bytes(), kind
