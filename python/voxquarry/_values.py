"""Real values, stored value × slope + intercept, wherever voxels are handed out.

``Volume.scaled`` computes them. This module decides where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import Dataset, ScaledVolume, Volume

# torch has these types, but hardly an operation for them; TorchIO and MONAI widen them alike.
_WIDER = {"uint16": np.int32, "uint32": np.int64}


def is_scaled(volume: Volume) -> bool:
    """Whether real values differ from stored ones."""
    return (volume.slope, volume.intercept) != (1.0, 0.0)


def real_values(volume: Volume) -> Volume | ScaledVolume:
    """The reader of a volume's real values: the volume itself if these are the stored values."""
    return volume.scaled if is_scaled(volume) else volume


def scaled_volumes(
    dataset: Dataset, subjects: Iterable[str], volumes: Iterable[str]
) -> frozenset[str]:
    """Names of the volumes that have a slope or an intercept in any of the subjects.

    They are read as real values from all subjects, so that batches have one dtype.
    """
    opened = [dataset[subject] for subject in subjects]
    return frozenset(name for name in volumes if any(is_scaled(s[name]) for s in opened))


def real_range(volume: Volume) -> tuple[float, float] | None:
    """The least and the greatest real value; None where no voxel is finite."""
    low, high = volume.stats["min"], volume.stats["max"]
    if low is None or high is None:
        return None
    ends = (low * volume.slope + volume.intercept, high * volume.slope + volume.intercept)
    return min(ends), max(ends)


def widened(voxels: NDArray[Any]) -> NDArray[Any]:
    """uint16 as int32 and uint32 as int64; the same array if it has another type."""
    return voxels.astype(_WIDER.get(voxels.dtype.name, voxels.dtype), copy=False)
