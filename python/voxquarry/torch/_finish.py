"""What happens to blended voxels on a device, as on the host: labels, thresholds, steps, casts."""

from __future__ import annotations

import numpy as np
import torch

from .._types import Finish

#: Types of results that voxels have on a device; uint16 goes home as int32.
WIRE_DTYPES = {
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
    "float16": torch.float16,
    "float32": torch.float32,
}


def probabilities(patch: torch.Tensor) -> torch.Tensor:
    """Softmax over the channels of ``(k, z, y, x)`` in float32.

    Channels that are infinite alike share what there is.
    """
    patch = patch.to(torch.float32)
    largest = patch.amax(0, keepdim=True)
    shifted = torch.where(patch == largest, 0.0, patch - largest).exp_()
    return shifted.div_(shifted.sum(0, keepdim=True))


class Finisher:
    """Turns blended voxels ``(k, z, y, x)`` in float32 into voxels of a result."""

    def __init__(self, finish: Finish, dtype: np.dtype, device: torch.device) -> None:
        self.finish = finish
        self.dtype = dtype
        self.wire = WIRE_DTYPES[dtype.name]
        # Metal has no doubles.
        self._wide = torch.float32 if device.type == "mps" else torch.float64

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """The voxels, ``(k, z, y, x)``, or ``(z, y, x)`` for labels."""
        finish = self.finish
        if isinstance(finish, str) and finish.endswith("argmax"):
            return planes.argmax(0).to(self.wire)
        kind, *numbers = (finish,) if isinstance(finish, str) else finish
        if kind == "threshold":
            (least,) = numbers or (0.5,)
            return (planes.to(self._wide) >= least).to(self.wire)
        if kind == "quantize":
            slope, intercept = numbers
            planes = (planes.to(self._wide) - intercept) / slope
        if self.dtype.kind == "f":
            return planes.to(self.wire)
        limits = np.iinfo(self.dtype)
        # NaN becomes 0, as on the host.
        whole = torch.nan_to_num(planes.to(self._wide).round(), nan=0.0)
        return whole.clamp_(float(limits.min), float(limits.max)).to(self.wire)

    def to_host(self, voxels: torch.Tensor) -> np.ndarray:
        """The voxels in the result's dtype, from CPU memory."""
        return voxels.numpy().astype(self.dtype, copy=False)
