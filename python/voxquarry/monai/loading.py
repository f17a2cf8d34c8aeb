"""Whole volumes of a store by MONAI's ``LoadImaged``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import monai.transforms as mt
import numpy as np
from monai.data import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS
from monai.utils import ensure_tuple

from .. import UsageError, Volume
from .._paths import is_volume, path_of, volume_at
from .._values import real_values, widened
from .subjects import name_after_subject, unwrapped

_SUBJECT = "subject"


class StoreReader(ImageReader):
    """A reader for ``monai.transforms.LoadImage``: reads the volume at ``STORE/SUBJECT/VOLUME``.

    Importing ``voxquarry.monai`` registers it, so that every ``LoadImaged`` that is made afterwards
    reads such paths. Values are real ones.

    Args:
        reverse_indexing: If false, axes are MONAI's, ``(x, y, z)`` or ``(x, y, z, c)``, as of a
            NIfTI file; if true, those of the store, ``(z, y, x)`` or ``(c, z, y, x)``. The affine
            belongs to them.
    """

    def __init__(self, *, reverse_indexing: bool = False) -> None:
        self.reverse_indexing = reverse_indexing

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all paths are volumes of stores."""
        return all(is_volume(path) for path in ensure_tuple(filename))

    def read(self, data: Any, **named: Any) -> list[Volume]:
        """Opens the volumes; no voxel is read.

        Raises:
            UsageError: No such store, subject or volume.
        """
        if named:
            raise UsageError(f"{', '.join(named)}: StoreReader.read takes a path and nothing else")
        return [volume_at(path) for path in ensure_tuple(data)]

    def get_data(self, img: Volume | Sequence[Volume]) -> tuple[np.ndarray, dict[str, Any]]:
        """The voxels, and the metadata that MONAI's own readers give. Several volumes are stacked
        on a first axis, as MONAI does it.

        Raises:
            UsageError: Several volumes of different grids.
        """
        volumes: list[Volume] = [img] if isinstance(img, Volume) else list(img)
        first, *others = volumes
        for other in others:
            same = other.shape == first.shape and np.allclose(other.affine, first.affine)
            if not same:
                raise UsageError(
                    f"volumes {first.name!r} and {other.name!r} cannot be stacked: {first.shape}"
                    f" and {other.shape}, or their affines, differ; load them under two keys"
                )
        arrays = [self._voxels(volume) for volume in volumes]
        return (arrays[0] if len(arrays) == 1 else np.stack(arrays)), self._meta(
            first, arrays[0].ndim, is_stacked=len(arrays) > 1
        )

    def _voxels(self, volume: Volume) -> np.ndarray:
        voxels = widened(real_values(volume)[...])
        return voxels if self.reverse_indexing else voxels.T

    def _meta(self, volume: Volume, axes: int, *, is_stacked: bool) -> dict[str, Any]:
        affine, shape = volume.affine, volume.shape[-3:]
        if self.reverse_indexing:
            affine, channel = affine[:, [2, 1, 0, 3]], 0
        else:
            shape, channel = shape[::-1], -1
        return {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.array(shape),
            "space": "RAS",
            "original_channel_dim": 0 if is_stacked else float("nan") if axes == 3 else channel,
            _SUBJECT: volume.subject.name,
            # MONAI's own `LoadImage` names what is written after the last part of the path, the
            # volume, and after this.
            "patch_index": volume.subject.name,
        }


class _Opened(StoreReader):
    """Reads a volume that is open, in the axes of the store."""

    def __init__(self, volume: Volume) -> None:
        super().__init__(reverse_indexing=True)
        self.volume = volume

    def read(self, data: Any, **named: Any) -> list[Volume]:
        return [self.volume]


class LoadImage(mt.LoadImage):
    """``monai.transforms.LoadImage``; what is loaded may be a volume of a store.

    A path ``store.zarr/case01/ct`` gives what MONAI loads from a NIfTI file of that volume, with
    axes ``(x, y, z)``. A lazy volume of ``subjects`` is read in the axes of the store,
    ``(z, y, x)``, as the patches of this module are. Other paths are left to MONAI.

    MONAI's writers name their files after the subject: ``case01/case01_trans.nii.gz``.
    """

    def __call__(self, filename: Any, reader: ImageReader | None = None) -> Any:
        volume = unwrapped(filename)
        if isinstance(volume, Volume):
            filename, reader = path_of(volume), _Opened(volume)
        loaded = super().__call__(filename, reader)
        image, meta = (loaded, None) if self.image_only else loaded
        for named in (getattr(image, "meta", None), meta):
            # Without what `name_after_subject` sets, for MONAI's own `LoadImage`.
            if named and named.get("patch_index", 0) == named.get(_SUBJECT, 1):
                del named["patch_index"]
                named["filename_or_obj"] = name_after_subject(
                    named["filename_or_obj"], named[_SUBJECT]
                )
        return loaded


class LoadImaged(mt.LoadImaged):
    """``monai.transforms.LoadImaged``; what is loaded may be a volume of a store, by its path
    (``datalist``) or lazy (``subjects``): see ``LoadImage``.
    """

    _loader: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        loader = LoadImage.__new__(LoadImage)
        loader.__dict__.update(self._loader.__dict__)
        self._loader = loader


LoadImageD = LoadImageDict = LoadImaged


SUPPORTED_READERS.setdefault(StoreReader.__name__.lower(), StoreReader)
