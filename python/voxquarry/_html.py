"""HTML for notebooks: tables of stores and subjects, pictures of volumes."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator
from html import escape
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import Dataset, Subject, Volume

# A table of more subjects, or a picture of more pixels, helps nobody.
_MOST_SUBJECTS = 20
_MOST_PIXELS = 256
_COLUMNS = ("subject", "volume", "kind", "shape", "dtype", "spacing (mm)", "size")


def dataset(of: Dataset) -> str:
    """A table of the volumes of the first subjects."""
    shown = [of[name] for _, name in zip(range(_MOST_SUBJECTS), of, strict=False)]
    rows = [row for subject in shown for row in _rows(subject)]
    count = f"{len(of)} subjects"
    more = f", the first {len(shown)} of them" if len(shown) < len(of) else ""
    return f"<p><b>{escape(of.path)}</b>: {count}{more}</p>{_table(_COLUMNS, rows)}"


def subject(of: Subject) -> str:
    """A table of the volumes."""
    return _table(_COLUMNS, _rows(of))


def volume(of: Volume) -> str:
    """The three middle slices, and a table of facts."""
    facts = dict(zip(_COLUMNS, _row_of(of), strict=True))
    if (of.slope, of.intercept) != (1.0, 0.0):
        facts["real value"] = f"stored value × {of.slope:g} + {of.intercept:g}"
    # Nobody waits for a whole foreign array to be read.
    stats = None if of.is_foreign else of.stats
    if stats is not None and stats["min"] is not None:
        facts["stored values"] = f"{stats['min']:g} to {stats['max']:g}, mean {stats['mean']:g}"
    return _pictures(of) + _table(("", ""), facts.items())


def _rows(of: Subject) -> Iterator[tuple[str, ...]]:
    return (_row_of(of[name]) for name in of)


def _row_of(of: Volume) -> tuple[str, ...]:
    return (
        of.subject.name,
        of.name,
        of.kind,
        " × ".join(map(str, of.shape)),
        of.dtype.name,
        " × ".join(f"{mm:.4g}" for mm in of.spacing),
        _size(prod(of.shape) * of.dtype.itemsize),
    )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _pictures(of: Volume) -> str:
    """The middle slice across z, y and x, in proportion to the spacing."""
    images = []
    for axis in range(3):
        across = [a for a in range(3) if a != axis]
        steps = [-(-of.shape[-3:][a] // _MOST_PIXELS) for a in across]
        index: list[slice | int] = [slice(None, None, step) for step in steps]
        index.insert(axis, of.shape[-3:][axis] // 2)
        plane = of[(0, *index)] if of.ndim == 4 else of[tuple(index)]
        extents = [of.shape[-3:][a] * of.spacing[a] for a in across]
        height, width = (round(_MOST_PIXELS * mm / max(extents)) or 1 for mm in extents)
        data = base64.b64encode(_png(_pixels(of, plane))).decode()
        title = f"{'zyx'[axis]} = {index[axis]}"
        images.append(
            f'<img title="{title}" width="{width}" height="{height}" '
            f'src="data:image/png;base64,{data}" style="display: inline; margin: 2px">'
        )
    return f"<div>{''.join(images)}</div>"


def _pixels(of: Volume, plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Bytes ``(height, width)`` in grey, or ``(height, width, 3)`` in colours for labels."""
    if of.kind == "labels":
        # Multiples of odd numbers spread neighbouring labels over the colours; 0 stays black.
        labels = plane.astype(np.int64)[..., None] * np.array([89, 151, 211])
        return np.where(plane[..., None] != 0, labels % 192 + 64, 0).astype(np.uint8)
    values = np.nan_to_num(plane.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, [0.5, 99.5])
    grey: NDArray[np.float64] = (values - low) / ((high - low) or 1.0)
    return (grey.clip(0.0, 1.0) * 255).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of 8 bits a channel (https://www.w3.org/TR/png-3)."""
    height, width = pixels.shape[:2]
    grey_or_rgb = 0 if pixels.ndim == 2 else 2

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    # Each row begins with its filter: 0, none.
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, grey_or_rgb, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )
