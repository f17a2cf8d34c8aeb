"""Pictures of volumes: what ``volume.show()`` gives, drawn as ``voxquarry preview`` draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ._errors import UsageError
from ._native import Volume, picture
from ._types import Path as AnyPath


class Picture:
    """A picture that notebooks show: the bytes of a PNG file.

    Attributes:
        png: The bytes.
    """

    def __init__(self, png: bytes) -> None:
        self.png = png

    def save(self, path: AnyPath) -> None:
        """Writes the file, which ends in ``.png``; one that is there is replaced.

        Raises:
            UsageError: Another ending.
        """
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"file {str(path)!r}: expected a name that ends in .png")
        Path(path).write_bytes(self.png)

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        width, height = (int.from_bytes(self.png[at : at + 4], "big") for at in (16, 20))
        return f"<voxquarry.Picture of {width} × {height} pixels>"


def show(
    volume: Volume,
    at: str | Sequence[float] | None,
    window: str | Sequence[float] | None,
    convention: str,
    labels: bool,
) -> Picture:
    """What ``Volume.show`` does."""
    return Picture(picture(volume, _text(at), _text(window), convention, labels))


def _text(choice: str | Sequence[float] | None) -> str | None:
    """A choice as the command reads it."""
    if choice is None or isinstance(choice, str):
        return choice
    return ",".join(repr(float(number)) for number in choice)
