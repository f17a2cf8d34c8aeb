"""Hands voxels out as Zarr v3 arrays with chunks of the viewer's size, raw, at several levels.

Stored levels are handed out as they are. Without them, or beyond them, a level takes every second,
fourth, … voxel, so that a volume beyond memory is seen at a glance: its voxel ``i`` is the volume's
``i * factor + factor // 2``. Nothing is kept. A chunk is computed
from at most one plane of voxels at a time, in bands of at most ``_BAND_BYTES``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sources import Size3, Source

# As many voxels as a chunk has, or a little less; of fewer, a page asks for too many.
_CHUNK_VOXELS = 64**3
# Coarse levels read many voxels for each of theirs.
_COARSE_CHUNK_VOXELS = 32**3
# A level of at most these many voxels needs no coarser one.
_LEVEL_VOXELS = 2**27
_BAND_BYTES = 8 << 20
#: Channels that are shown together; of more, one at a time.
TOGETHER = 4
_OME_UNITS = {"meter": "meter", "millimeter": "millimeter", "micrometer": "micrometer"}


@dataclass(frozen=True)
class Level:
    """A source with every ``factors``-th voxel of ``(z, y, x)``."""

    source: Source
    factors: Size3
    #: Voxels of the volume in one of the source, which may be a stored level.
    covered: Size3 = (1, 1, 1)

    @property
    def whole_factors(self) -> Size3:
        """Voxels of the volume in one of the level, ``(z, y, x)``."""
        z, y, x = (f * c for f, c in zip(self.factors, self.covered, strict=True))
        return z, y, x

    @property
    def size(self) -> Size3:
        """Voxels of the level, ``(z, y, x)``."""
        z, y, x = (-(-n // f) for n, f in zip(self.source.size, self.factors, strict=True))
        return z, y, x

    @property
    def chunk(self) -> Size3:
        """Voxels of a chunk, ``(z, y, x)``."""
        fine = max(self.factors) < 4
        return _chunk(self.size, _CHUNK_VOXELS if fine else _COARSE_CHUNK_VOXELS)

    def document(self) -> bytes:
        """Its ``zarr.json``."""
        lead = [] if self.source.channels is None else [self.source.channels]
        chunk_lead = [] if not lead else [lead[0] if lead[0] <= TOGETHER else 1]
        return _json(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": [*lead, *self.size],
                "data_type": self.source.dtype.name,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [*chunk_lead, *self.chunk]},
                },
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "dimension_names": ["c", "z", "y", "x"][-3 - len(lead) :],
                "attributes": {},
            }
        )

    def chunk_bytes(self, ids: tuple[int, ...]) -> bytes | None:
        """The voxels of a chunk by its ids, ``([c,] z, y, x)``; None if there is no such chunk."""
        channels = self.source.channels
        if len(ids) != (3 if channels is None else 4):
            return None
        counts = [-(-n // c) for n, c in zip(self.size, self.chunk, strict=True)]
        if any(i >= n for i, n in zip(ids[-3:], counts, strict=True)):
            return None
        wanted: list[int] | None = None
        if channels is not None:
            together = channels <= TOGETHER
            if ids[0] >= (1 if together else channels):
                return None
            wanted = list(range(channels)) if together else [ids[0]]
        # Chunks at the end are whole; what lies beyond the volume is 0.
        shape = (*([len(wanted)] if wanted is not None else []), *self.chunk)
        out = np.zeros(shape, self.source.dtype.newbyteorder("<"))
        first = [i * n for i, n in zip(ids[-3:], self.chunk, strict=True)]
        inside = [min(n, s - f) for n, s, f in zip(self.chunk, self.size, first, strict=True)]
        box = out[..., : inside[0], : inside[1], : inside[2]]
        if self.factors == (1, 1, 1):
            box[...] = self.source.read(_three(first), _three(inside), wanted)
        else:
            self._fill(box, first, wanted)
        return out.tobytes()

    def _fill(self, box: NDArray[Any], first: list[int], channels: list[int] | None) -> None:
        """Takes the voxels of the level plane by plane, each in bands."""
        at = [
            np.minimum(np.arange(f, f + n) * factor + factor // 2, extent - 1)
            for f, n, factor, extent in zip(
                first, box.shape[-3:], self.factors, self.source.size, strict=True
            )
        ]
        left, width = int(at[2][0]), int(at[2][-1] - at[2][0] + 1)
        row_bytes = width * self.source.dtype.itemsize * len(channels or [0])
        rows = max(1, _BAND_BYTES // (row_bytes * self.factors[1]))
        for k, begin in product(range(len(at[0])), range(0, len(at[1]), rows)):
            wanted = at[1][begin : begin + rows]
            top, height = int(wanted[0]), int(wanted[-1] - wanted[0] + 1)
            band = self.source.read((int(at[0][k]), top, left), (1, height, width), channels)
            picked = band[..., 0, :, :][..., wanted - top, :][..., at[2] - left]
            box[..., k, begin : begin + rows, :] = picked


def levels(source: Source) -> list[Level]:
    """The levels of a source, the finest first: those that are stored, and more of one with very
    many voxels.
    """
    found = [Level(source, (1, 1, 1))]
    found += [Level(level, (1, 1, 1), covered) for covered, level in source.coarser.items()]
    last = found[-1]
    spacing = np.sqrt((last.source.affine[:3, :3] ** 2).sum(0))[::-1]
    factors = np.ones(3, np.int64)
    while prod(found[-1].size) * (source.channels or 1) > _LEVEL_VOXELS and len(found) < 12:
        step = spacing * factors
        divisible = np.array(found[-1].size) > 1
        # Axes whose voxels are coarse already are left alone.
        chosen = divisible & (step < 1.5 * step[divisible].min())
        factors = np.where(chosen, factors * 2, factors)
        found.append(Level(last.source, _three(factors.tolist()), last.covered))
    return found


def group_document(source: Source) -> bytes:
    """The ``zarr.json`` of all levels together, in voxels of the finest one."""
    lead = source.channels is not None
    axes = [{"name": "c"}] if lead else []
    unit = _OME_UNITS[source.unit]
    axes += [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
    datasets = [
        {
            "path": str(n),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1] * lead + list(level.whole_factors)},
                {
                    "type": "translation",
                    "translation": [0.5] * lead + [(f - 1) / 2 for f in level.whole_factors],
                },
            ],
        }
        for n, level in enumerate(levels(source))
    ]
    multiscales = [{"axes": axes, "datasets": datasets}]
    ome = {"version": "0.5", "multiscales": multiscales}
    return _json({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})


def answer(source: Source, path: list[str]) -> tuple[bytes, bool] | None:
    """The bytes at a path below a source, and whether they are JSON; None if nothing is there."""
    if path == ["zarr.json"]:
        return group_document(source), True
    numbers = [int(part) for part in path if part.isascii() and part.isdecimal()]
    found = levels(source)
    if not numbers or numbers[0] >= len(found) or str(numbers[0]) != path[0]:
        return None
    level = found[numbers[0]]
    if path[1:] == ["zarr.json"]:
        return level.document(), True
    if len(path) < 3 or path[1] != "c" or path[2:] != [str(n) for n in numbers[1:]]:
        return None
    voxels = level.chunk_bytes(tuple(numbers[1:]))
    return None if voxels is None else (voxels, False)


def _chunk(size: Size3, voxels: int) -> Size3:
    """A chunk of at most ``voxels``: a cube, or longer where the volume is flat."""
    chunk = [1, 1, 1]
    while True:
        shorter = [a for a in range(3) if chunk[a] < size[a]]
        if not shorter or 2 * prod(chunk) > voxels:
            break
        axis = min(shorter, key=lambda a: (chunk[a], -a))
        chunk[axis] *= 2
    return _three([min(n, s) for n, s in zip(chunk, size, strict=True)])


def _three(numbers: list[int]) -> Size3:
    z, y, x = numbers
    return z, y, x


def _json(content: object) -> bytes:
    return json.dumps(content).encode()
