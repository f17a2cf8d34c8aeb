"""Stored values as other tools show them: scaled, and in types that torch computes with."""

from __future__ import annotations

import numpy as np

from ._native import Volume

# torch has these types, but hardly an operation for them; TorchIO and MONAI widen them alike.
_WIDER = {"uint16": np.int32, "uint32": np.int64}


def real_values(voxels: np.ndarray, volume: Volume) -> np.ndarray:
    """``voxels`` of ``volume`` times its slope plus its intercept; the same array if there is
    nothing to do.

    Scaled values are float32, as ITK makes them of every integer, or float64 if that is what is
    stored. Unscaled uint16 becomes int32, and uint32 int64.
    """
    slope, intercept = volume.slope, volume.intercept
    if (slope, intercept) == (1.0, 0.0):
        return voxels.astype(_WIDER.get(voxels.dtype.name, voxels.dtype), copy=False)
    # In double precision until the end, as ITK.
    real = voxels.astype(np.float64)
    real *= slope
    real += intercept
    return real.astype(np.float64 if voxels.dtype == np.float64 else np.float32, copy=False)
