"""TorchIO's samplers, which cut patches out of a store without loading it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torchio as tio
from torchio.utils import to_tuple

from .spatial import Crop, pad


class _Patches(tio.data.PatchSampler):
    """What all samplers share: sizes as wide as Python's integers, and crops that read no more than the patch.

    TorchIO keeps sizes in 16 bits, which wrap round on axes over 65,535.
    """

    def __init__(self, patch_size: int | Sequence[int]) -> None:
        tio.data.PatchSampler.__init__(self, patch_size)
        self.patch_size = np.array(to_tuple(patch_size, length=3), dtype=np.int64)

    @staticmethod
    def _get_crop_transform(subject: tio.Subject, index_ini: Sequence[int], patch_size: Sequence[int]) -> Crop:
        low = [int(i) for i in index_ini]
        high = [int(n - i - p) for n, i, p in zip(subject.spatial_shape, low, patch_size, strict=True)]
        return Crop(tuple(cut for pair in zip(low, high, strict=True) for cut in pair))


class UniformSampler(_Patches, tio.data.UniformSampler):
    """``torchio.UniformSampler``: every place of a patch in the volume is equally likely."""


class GridSampler(_Patches, tio.data.GridSampler):
    """``torchio.GridSampler``: patches across a whole volume.

    A padded subject is not padded again when it is iterated over, as TorchIO's is. Paddings by number, ``"edge"``,
    ``"reflect"``, ``"minimum"`` and ``"maximum"`` read patches only; other modes load the images of the subject.
    """

    def __init__(
        self,
        subject: tio.Subject,
        patch_size: int | Sequence[int],
        patch_overlap: int | Sequence[int] = (0, 0, 0),
        padding_mode: str | float | None = None,
    ) -> None:
        super().__init__(patch_size)
        self.patch_overlap = np.array(to_tuple(patch_overlap, length=3))
        self.padding_mode = padding_mode
        self.subject = self._pad(subject)
        self.locations = self._compute_locations(self.subject)

    def _pad(self, subject: tio.Subject) -> tio.Subject:
        if self.padding_mode is None or subject is self.__dict__.get("subject"):
            return subject
        return pad(subject, self.patch_overlap // 2, self.padding_mode)
