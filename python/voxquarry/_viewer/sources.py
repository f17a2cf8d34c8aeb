"""What is shown: volumes and arrays, each read as the types that the client knows.

Images are real values; float64, float16 and 64-bit integers become float32. Labels are ids; those
that may be below 0 or beyond 32 bits become uint64, ids below 0 as 2**64 more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._native import ResampledVolume, ScaledVolume, Volume
from .._values import is_scaled, real_range

Size3 = tuple[int, int, int]

_IMAGE_TYPES = {
    "bool": "uint8",
    "float16": "float32",
    "float64": "float32",
    "int64": "float32",
    "uint64": "float32",
}
_LABEL_TYPES = {"bool": "uint8", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32"}
#: Metres in a unit.
METRES = {"meter": 1.0, "millimeter": 1e-3, "micrometer": 1e-6}


@dataclass(frozen=True)
class Source:
    """A volume as the client gets it."""

    #: Part of the addresses of its voxels; unique in its subject.
    key: str
    title: str
    kind: str
    #: ``(z, y, x)``.
    size: Size3
    #: None without a channel axis.
    channels: int | None
    #: As it is handed out.
    dtype: np.dtype[Any]
    #: Index ``(x, y, z, 1)`` to RAS+ positions in ``unit``.
    affine: NDArray[np.float64]
    unit: str
    #: Reads ``(start, size, channels)`` as ``([c,] z, y, x)`` in any type.
    reader: Callable[[Size3, Size3, list[int] | None], NDArray[Any]]
    #: Reads several boxes of one size at once, if that is quicker than one after the other.
    batch_reader: Callable[[list[Size3], Size3, list[int] | None], NDArray[Any]] | None = None
    #: The least and the greatest real value, if known.
    extent: tuple[float, float] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    #: The voxels of each label, if that is known without reading them.
    counts: Mapping[int, int] = field(default_factory=dict)
    #: The stored levels that are coarser, by their factors along ``(z, y, x)``.
    coarser: Mapping[Size3, Source] = field(default_factory=dict)

    @property
    def is_colour(self) -> bool:
        """Whether its channels are red, green and blue, and perhaps opacity."""
        return self.kind == "image" and self.channels in (3, 4) and self.dtype == np.uint8

    def read(self, start: Size3, size: Size3, channels: list[int] | None = None) -> NDArray[Any]:
        """Voxels ``([c,] z, y, x)`` in the type that is handed out."""
        return self._handed_out(self.reader(start, size, channels))

    def read_batch(
        self, starts: list[Size3], size: Size3, channels: list[int] | None = None
    ) -> NDArray[Any]:
        """The voxels of several boxes, ``(n, [c,] z, y, x)``."""
        if self.batch_reader is not None:
            return self._handed_out(self.batch_reader(starts, size, channels))
        return np.stack([self.read(start, size, channels) for start in starts])

    def _handed_out(self, voxels: NDArray[Any]) -> NDArray[Any]:
        if self.kind == "labels" and voxels.dtype.kind == "f":
            voxels = voxels.astype(np.int64)
        with np.errstate(over="ignore"):
            return voxels.astype(self.dtype, copy=False)


def of_volume(volume: Volume | ResampledVolume, key: str, title: str) -> Source:
    """A stored volume, or a view of one at another spacing or orientation."""
    stored = volume if isinstance(volume, Volume) else volume.volume
    is_image = volume.kind == "image"
    reader = _real(volume) if isinstance(volume, Volume) else volume
    extent = real_range(stored)
    read = _resampled(reader) if isinstance(reader, ResampledVolume) else _plain(reader)
    found = Source(
        key=key,
        title=title,
        kind=volume.kind,
        size=_size(volume.shape),
        channels=volume.shape[0] if len(volume.shape) == 4 else None,
        dtype=_image_type(reader.dtype) if is_image else _label_type(reader.dtype, extent),
        affine=volume.affine,
        unit=volume.unit,
        reader=read,
        batch_reader=None if isinstance(reader, ResampledVolume) else _plain_batch(reader),
        extent=extent,
        names={} if is_image else _all_names(stored),
        colours={} if is_image else stored.label_colors,
        counts={} if is_image else _known_counts(stored),
    )
    if not isinstance(volume, Volume) or len(volume.levels) == 1:
        return found
    coarser = {factors: volume.level(n) for n, factors in enumerate(volume.levels) if n > 0}
    return replace(found, coarser={f: _level(found, level) for f, level in coarser.items()})


def _level(finest: Source, level: Volume) -> Source:
    """A stored level, in the type of the finest one."""
    size, affine = _size(level.shape), level.affine
    read = _real(level)
    reader, batch_reader = _plain(read), _plain_batch(read)
    return replace(finest, size=size, affine=affine, reader=reader, batch_reader=batch_reader)


def _real(volume: Volume) -> Volume | ScaledVolume:
    """What is read of a stored volume: real values of an image."""
    return volume.scaled if volume.kind == "image" and is_scaled(volume) else volume


def _plain(
    volume: Volume | ScaledVolume,
) -> Callable[[Size3, Size3, list[int] | None], NDArray[Any]]:
    """Reads boxes of a stored volume."""

    def read(start: Size3, size: Size3, channels: list[int] | None) -> NDArray[Any]:
        return volume.read(start, size, channels=channels)

    return read


def _plain_batch(
    volume: Volume | ScaledVolume,
) -> Callable[[list[Size3], Size3, list[int] | None], NDArray[Any]]:
    """Reads several boxes of a stored volume: what a server has to send is asked for at once."""

    def read(starts: list[Size3], size: Size3, channels: list[int] | None) -> NDArray[Any]:
        return volume.read_batch(starts, size, channels=channels)

    return read


def _resampled(
    volume: ResampledVolume,
) -> Callable[[Size3, Size3, list[int] | None], NDArray[Any]]:
    """Reads boxes of a view, which has all channels."""

    def read(start: Size3, size: Size3, channels: list[int] | None) -> NDArray[Any]:
        voxels = volume.read(start, size)
        return voxels if channels is None else voxels[channels]

    return read


def of_array(
    voxels: NDArray[Any], key: str, title: str, affine: NDArray[np.float64], unit: str
) -> Source:
    """An array in memory, ``([c,] z, y, x)``: bool and whole numbers are labels."""
    kind = "image" if voxels.dtype.kind == "f" else "labels"
    extent = (float(voxels.min()), float(voxels.max())) if voxels.size else None
    if extent is not None and not np.isfinite(extent).all():
        finite = voxels[np.isfinite(voxels)]
        extent = (float(finite.min()), float(finite.max())) if finite.size else None

    def read(start: Size3, size: Size3, channels: list[int] | None) -> NDArray[Any]:
        ends = [first + n for first, n in zip(start, size, strict=True)]
        z, y, x = (slice(*bounds) for bounds in zip(start, ends, strict=True))
        found = voxels[..., z, y, x]
        return found if channels is None else found[channels]

    return Source(
        key=key,
        title=title,
        kind=kind,
        size=_size(voxels.shape),
        channels=voxels.shape[0] if voxels.ndim == 4 else None,
        dtype=_image_type(voxels.dtype) if kind == "image" else _label_type(voxels.dtype, extent),
        affine=affine,
        unit=unit,
        reader=read,
        extent=extent,
    )


def _size(shape: tuple[int, ...]) -> Size3:
    z, y, x = shape[-3:]
    return z, y, x


def _image_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(_IMAGE_TYPES.get(dtype.name, dtype.name))


def _label_type(dtype: np.dtype[Any], extent: tuple[float, float] | None) -> np.dtype[Any]:
    if dtype.name in _LABEL_TYPES:
        return np.dtype(_LABEL_TYPES[dtype.name])
    fits = extent is not None and extent[0] >= 0 and extent[1] < 2**32
    return np.dtype(np.uint32 if fits else np.uint64)


def _all_names(volume: Volume) -> dict[int, str]:
    """The names of labels; a label of several names has them joined."""
    names = dict(volume.label_names)
    for region, ids in volume.label_regions.items():
        for label in ids:
            names[label] = f"{names[label]}, {region}" if label in names else region
    return names


def _known_counts(volume: Volume) -> dict[int, int]:
    """The voxels of each label, if the store holds them; counting could take minutes."""
    return volume.labels if volume.has_label_counts else {}
