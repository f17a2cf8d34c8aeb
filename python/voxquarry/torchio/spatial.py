"""Crops and pads subjects without loading their volumes from the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from .._values import is_scaled
from .subjects import LabelMap, ScalarImage, box_of


def cut(subject: tio.Subject, index_ini: Iterable[int], patch_size: Iterable[int]) -> tio.Subject:
    """The patch at ``index_ini``, with its ``location``, all attributes of the subject, and the
    crop in its history.

    It draws and changes nothing, so threads may share the subject.
    """
    low = [int(i) for i in index_ini]
    size = [int(n) for n in patch_size]
    high = [n - i - p for n, i, p in zip(subject.spatial_shape, low, size, strict=True)]
    crop = _Crop(tuple(n for pair in zip(low, high, strict=True) for n in pair))
    patch = crop.apply_transform(subject)
    patch.add_transform(crop, {"cropping": crop.cropping})
    patch[tio.LOCATION] = torch.tensor([*low, *(i + p for i, p in zip(low, size, strict=True))])
    patch.update_attributes()
    return patch


class _Crop(tio.Crop):
    """``torchio.Crop``, which reads only the part that remains of an image in a store."""

    @staticmethod
    def _crop_image(
        image: tio.Image, index_ini: Sequence[int], index_fin: Sequence[int], *, copy_patch: bool
    ) -> tio.Image:
        box = box_of(image)
        if box is not None:
            box = box.part(index_ini, np.subtract(index_fin, index_ini))
            return _plain(image, box.read(), box.affine)
        part = tio.Crop._crop_image(image, index_ini, index_fin, copy_patch=copy_patch)
        return (
            _plain(part, part.data, part.affine)
            if isinstance(part, ScalarImage | LabelMap)
            else part
        )

    @property
    def name(self) -> str:
        return "Crop"


def _plain(image: tio.Image, tensor: torch.Tensor, affine: np.ndarray) -> tio.Image:
    """An image of TorchIO's own class, for patches, which are in memory."""
    kind = tio.LabelMap if isinstance(image, LabelMap) else tio.ScalarImage
    return kind(tensor=tensor, affine=affine, path=image.path)


class _InMemory(tio.Pad):
    """Pads the images that are not in a store, or whose mode needs the whole image."""

    def get_images(self, subject: tio.Subject) -> list[tio.Image]:
        return [
            image
            for image in super().get_images(subject)
            if _filling(image, self.padding_mode) is None
        ]

    @property
    def name(self) -> str:
        return "Pad"


def pad(subject: tio.Subject, border: NDArray[np.int64], mode: str | float) -> tio.Subject:
    """A copy of ``subject`` with ``border`` more voxels on both sides of each axis, filled as
    ``torchio.Pad`` fills them.
    """
    padding = tuple(int(n) for n in np.repeat(border, 2))
    # What else a transform does at the end would read every image.
    transform = _InMemory(padding, padding_mode=mode, parse_input=False)
    padded = transform(subject)
    for image in padded.get_images(intensity_only=False):
        filling = _filling(image, mode)
        if filling is not None:
            image.reader = image.reader.padded(border, filling)
    padded.add_transform(transform, {"padding": padding, "padding_mode": mode})
    return padded


def _filling(image: tio.Image, mode: str | float) -> float | str | None:
    """The padding for ``Volume.read``, in stored values; None if the image has to be padded in
    memory.
    """
    box = box_of(image)
    # What is padded already has no voxels of its own outside the volume; a scale turns a number
    # into another.
    if box is None or not box.is_whole or is_scaled(box.volume):
        return None
    if isinstance(mode, Real):
        return _constant(float(mode), box.volume.dtype)
    if mode in ("edge", "reflect"):
        return mode
    if mode not in ("minimum", "maximum") or box.volume.stats["non_finite"]:
        return None
    return box.volume.stats["min" if mode == "minimum" else "max"]


def _constant(value: float, dtype: np.dtype) -> float | None:
    """``value`` as ``numpy.pad`` writes it into that type, truncated; None where TorchIO's wider
    type holds another value.
    """
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype)
    return int(value) if limits.min <= value <= limits.max else None
