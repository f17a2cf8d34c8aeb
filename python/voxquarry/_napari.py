"""napari's reader plugin: the volumes of a subject as layers (``napari.yaml`` names it)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import Volume
from ._paths import document, is_store, is_volume, volumes_at
from ._values import real_range, real_values

Layer = tuple[Any, dict[str, Any], str]
_UNITS = {"millimeter": "mm", "micrometer": "um", "meter": "m"}


def get_reader(path: str | list[str]) -> Callable[[Any], list[Layer]] | None:
    """The reader of a path, ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME``; None of other paths."""
    paths = [path] if isinstance(path, str | Path) else list(path)
    known = (is_volume(p) or is_store(Path(p).parent) or is_store(p) for p in paths)
    return read if all(known) else None


def read(path: str | list[str]) -> list[Layer]:
    """Layers with name, window and affine; label maps are labels. Voxels are read where napari
    shows them.

    Raises:
        UsageError: A store, and not one of its subjects; the message has their names.
    """
    paths = [path] if isinstance(path, str | Path) else path
    return [_layer(volume) for p in paths for volume in volumes_at(p)]


class _Lazy:
    """A volume as napari slices arrays."""

    def __init__(self, volume: Volume) -> None:
        self._volume = real_values(volume)
        self.shape, self.ndim, self.dtype = volume.shape, volume.ndim, self._volume.dtype
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._volume[index]
        except (IndexError, TypeError):
            # Lists and steps that the store does not slice by.
            return np.asarray(self._volume[...])[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._volume[...], dtype)


def _window(volume: Volume) -> tuple[float, float] | None:
    """The real values between which viewers show the volume first, as its document has them;
    without them those from the least to the greatest.
    """
    channels = document(volume)["ome"].get("omero", {}).get("channels")
    if not channels:
        return real_range(volume)
    window = channels[0]["window"]
    ends = [window[end] * volume.slope + volume.intercept for end in ("start", "end")]
    return min(ends), max(ends)


def _layer(volume: Volume) -> Layer:
    # napari's axes are those of the array, also in the world: (z, y, x).
    order = [2, 1, 0, 3]
    affine = volume.affine[np.ix_(order, order)]
    options: dict[str, Any] = {
        "name": f"{volume.subject.name} {volume.name}",
        "affine": affine,
        "units": (_UNITS[volume.unit],) * 3,
        "metadata": {"voxquarry": {"subject": volume.subject.name, "volume": volume.name}},
    }
    has_channels = volume.ndim == 4
    if volume.kind == "labels":
        if has_channels:
            wide = np.eye(5)
            wide[1:, 1:] = affine
            options |= {"affine": wide, "units": ("pixel", *options["units"])}
        options["metadata"]["label_names"] = dict(volume.label_names)
        return _Lazy(volume), options, "labels"
    window = _window(volume)
    if window is not None and window[0] < window[1]:
        options["contrast_limits"] = window
    if has_channels:
        names = [f"{options['name']} {channel}" for channel in range(volume.shape[0])]
        options |= {"channel_axis": 0, "name": names}
    return _Lazy(volume), options, "image"
