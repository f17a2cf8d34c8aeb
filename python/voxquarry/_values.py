"""Stored values as the tools of the field show them: scaled, and in types that torch computes with."""

from __future__ import annotations

import numpy as np

from ._native import Volume

# torch has these types, but hardly an operation for them; TorchIO and MONAI widen them alike.
_WIDER = {"uint16": np.int32, "uint32": np.int64}


def real_values(voxels: np.ndarray, volume: Volume) -> np.ndarray:
    """``voxels`` of ``volume`` times its slope plus its intercept; the same array if there is nothing to do.

    Scaled values are float32, or float64 where the stored ones have 32 bits or more that float32 cannot hold. Unscaled uint16 becomes
    int32, and uint32 int64.
    """
    slope, intercept = volume.slope, volume.intercept
    if (slope, intercept) == (1.0, 0.0):
        return voxels.astype(_WIDER.get(voxels.dtype.name, voxels.dtype), copy=False)
    narrow = voxels.dtype.itemsize < 4 or voxels.dtype == np.float32
    real = voxels.astype(np.float32 if narrow else np.float64)
    real *= real.dtype.type(slope)
    real += real.dtype.type(intercept)
    return real
