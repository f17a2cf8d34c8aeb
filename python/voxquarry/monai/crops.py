"""MONAI's crops by labels and weights for volumes of a store: they read only the patches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import monai.transforms as mt
import numpy as np
import torch
from monai.transforms.utils import fall_back_tuple

from .. import LabelSampler, UniformSampler, UsageError, Volume, WeightedSampler
from .._values import real_range, real_values
from ..torch.patches import batch_of
from .dataset import meta_tensor
from .subjects import unwrapped

Size = tuple[int, ...]

# Tries for a centre with an image value above the threshold, before its class counts as empty.
_ATTEMPTS = 10_000
_DRAWN = 100


class _Cropper(Protocol):
    """The part of MONAI's croppers that is used here."""

    spatial_size: Sequence[int] | int
    num_samples: int
    R: np.random.RandomState


class _ClassCropper(_Cropper, Protocol):
    allow_smaller: bool
    image_threshold: float


class _PosNegCropper(_ClassCropper, Protocol):
    pos_ratio: float


class _LabelCropper(_ClassCropper, Protocol):
    num_classes: int | None
    ratios: Sequence[float] | None
    warn: bool


class _StoredCrop(mt.Randomizable, mt.MapTransform):
    """Base of the three crops: reads patches if the deciding image is a volume of a store, and is
    MONAI's own transform otherwise.

    Volumes that are not among the keys are not in the patches.
    """

    cropper: _Cropper

    def _starts(
        self, data: Mapping[Hashable, Any], volume: Volume, size: Size, seed: int
    ) -> np.ndarray:
        """First voxels ``(n, 3)`` of the patches."""
        raise NotImplementedError

    def _crop_stored(
        self, data: Mapping[Hashable, Any], volume: Volume, *, allow_smaller: bool
    ) -> list[dict[Hashable, Any]]:
        whole = volume.shape[-3:]
        wanted = tuple(map(int, fall_back_tuple(self.cropper.spatial_size, whole)))
        size = tuple(map(min, wanted, whole))
        if size != wanted and not allow_smaller:
            raise UsageError(
                f"spatial_size {wanted} is larger than the volume {whole}:"
                " pass allow_smaller=True, or a smaller one"
            )
        starts = self._starts(
            data,
            volume,
            size,
            int(self.cropper.R.randint(2**31, size=2, dtype=np.int64) @ [1, 2**31]),
        )
        locations = torch.from_numpy(np.hstack([starts, starts + size]))
        # No loader can join whole volumes to a batch, and a transform can read none.
        others = {
            k: v for k, v in data.items() if k in self.keys or not isinstance(unwrapped(v), Volume)
        }
        patches: list[dict[Hashable, Any]] = [dict(others) for _ in starts]
        for key in self.key_iterator(dict(data)):
            source = unwrapped(data[key])
            values = _read(source, starts, size, volume)
            for n, (patch, value) in enumerate(zip(patches, values, strict=True)):
                if isinstance(source, Volume):
                    value = meta_tensor(value, source, locations[n], n)
                patch[key] = value
        for patch, location in zip(patches, locations, strict=True):
            patch["location"] = location
        return patches


def _read(source: Any, starts: np.ndarray, size: Size, like: Volume) -> list[Any]:
    """Patches ``(c, z, y, x)`` of a volume, or of an array ``(c, z, y, x)`` on its grid."""
    if tuple(source.shape[-3:]) != tuple(like.shape[-3:]):
        raise UsageError(
            f"an image of {tuple(source.shape)} beside a volume of {like.shape}: expected one grid"
        )
    if isinstance(source, Volume):
        return list(batch_of(real_values(source), starts, size))
    boxes = (
        [slice(a, a + n) for a, n in zip(start, size, strict=True)] for start in starts.tolist()
    )
    return [source[(..., *box)] for box in boxes]


class RandCropByPosNegLabeld(_StoredCrop, mt.RandCropByPosNegLabeld):
    """``monai.transforms.RandCropByPosNegLabeld``; ``label_key`` and ``keys`` may be volumes of a
    store (``subjects``).

    The centre of a patch has a label with probability ``pos / (pos + neg)``, and is background
    otherwise; each voxel of the two is equally likely. The patch is moved so that it lies in the
    volume. This is MONAI's distribution, found by the label counts in the store. With
    ``image_key``, background is drawn again until the image exceeds ``image_threshold`` there. The
    dictionaries have ``"location"``, too, and no volume that is not among ``keys``.
    """

    cropper: _PosNegCropper

    def __call__(
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> list[dict[Hashable, Any]]:
        labels = unwrapped(data[self.label_key])
        if not isinstance(labels, Volume):
            return super().__call__(data, lazy)
        if unused := {self.fg_indices_key, self.bg_indices_key}.intersection(data):
            raise UsageError(
                f"{unused.pop()!r}: indices are not needed for labels in a store;"
                " leave their keys out"
            )
        return self._crop_stored(data, labels, allow_smaller=self.cropper.allow_smaller)

    def _starts(
        self, data: Mapping[Hashable, Any], volume: Volume, size: Size, seed: int
    ) -> np.ndarray:
        count, positive = self.cropper.num_samples, self.cropper.pos_ratio
        if self.image_key is None:
            sampler = LabelSampler(
                size, volume.name, border="clamp", pos_neg=(positive, 1 - positive)
            )
            return sampler.locations(volume.subject, count, seed=seed)
        classes = [
            LabelSampler(size, volume.name, border="pad", pos_neg=parts)
            for parts in ((1.0, 0.0), (0.0, 1.0))
        ]
        # Only background is held to the threshold.
        checked = [None, unwrapped(data[self.image_key])]
        weights = [positive, 1 - positive]
        return _above(self.cropper, classes, weights, checked, volume, size, count, seed)


class RandCropByLabelClassesd(_StoredCrop, mt.RandCropByLabelClassesd):
    """``monai.transforms.RandCropByLabelClassesd``; ``label_key`` and ``keys`` may be volumes of a
    store (``subjects``).

    The class of a patch's centre is drawn by ``ratios`` among the classes of the volume, then a
    voxel of that class. The patch is moved so that it lies in the volume. This is MONAI's
    distribution, found by the label counts in the store. The dictionaries have ``"location"``, too,
    and no volume that is not among ``keys``.

    Classes without a voxel get the ratio zero, as in MONAI; with ``warn`` a warning names them.
    """

    cropper: _LabelCropper

    def __call__(
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> list[dict[Hashable, Any]]:
        labels = unwrapped(data[self.label_key])
        if not isinstance(labels, Volume):
            return super().__call__(data, lazy)
        if self.indices_key in data:
            raise UsageError(
                f"{self.indices_key!r}: indices are not needed for labels in a store;"
                " leave their key out"
            )
        return self._crop_stored(data, labels, allow_smaller=self.cropper.allow_smaller)

    def _starts(
        self, data: Mapping[Hashable, Any], volume: Volume, size: Size, seed: int
    ) -> np.ndarray:
        count, ratios = self.cropper.num_samples, self._ratios(volume)
        if self.image_key is None:
            if self.cropper.warn:
                _warn_of_empty_classes(volume, ratios)
            sampler = LabelSampler(size, volume.name, dict(enumerate(ratios)), border="clamp")
            return sampler.locations(volume.subject, count, seed=seed)
        classes = [
            LabelSampler(size, volume.name, {label: 1.0}, border="pad")
            for label in range(len(ratios))
        ]
        checked = [unwrapped(data[self.image_key])] * len(classes)
        return _above(
            self.cropper,
            classes,
            ratios,
            checked,
            volume,
            size,
            count,
            seed,
            warn=self.cropper.warn,
        )

    def _ratios(self, volume: Volume) -> list[float]:
        classes = (
            volume.shape[0]
            if volume.ndim == 4 and volume.shape[0] > 1
            else self.cropper.num_classes
        )
        if classes is None:
            raise UsageError("num_classes is None: expected a number, as labels have one channel")
        ratios = (
            [1.0] * classes
            if self.cropper.ratios is None
            else [float(r) for r in self.cropper.ratios]
        )
        if len(ratios) != classes:
            raise UsageError(f"{len(ratios)} ratios for {classes} classes: expected one each")
        return ratios


class RandWeightedCropd(_StoredCrop, mt.RandWeightedCropd):
    """``monai.transforms.RandWeightedCropd``; ``w_key`` and ``keys`` may be volumes of a store
    (``subjects``).

    Centres are drawn by the weights among the voxels whose patch lies in the volume. If all of
    these weights are zero, they count as equal. Unlike in MONAI, the last place of a patch on each
    axis is drawn, too, and weights below zero are an error. The dictionaries have ``"location"``,
    too, and no volume that is not among ``keys``.
    """

    def __call__(
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> list[dict[Hashable, Any]]:
        weights = unwrapped(data[self.w_key])
        if not isinstance(weights, Volume):
            return super().__call__(data, lazy)
        return self._crop_stored(data, weights, allow_smaller=True)

    def _starts(
        self, data: Mapping[Hashable, Any], volume: Volume, size: Size, seed: int
    ) -> np.ndarray:
        is_zero = real_range(volume) == (0.0, 0.0)
        sampler = UniformSampler(size) if is_zero else WeightedSampler(size, volume.name)
        return sampler.locations(volume.subject, self.cropper.num_samples, seed=seed)


def _above(
    cropper: _ClassCropper,
    classes: Sequence[LabelSampler],
    weights: Sequence[float],
    checked: Sequence[Volume | None],
    labels: Volume,
    size: Size,
    count: int,
    seed: int,
    *,
    warn: bool = True,
) -> np.ndarray:
    """Starts of patches whose centre has a class drawn by ``weights``, and an image value above the
    cropper's threshold where an image is checked.
    """
    left = np.array(weights, dtype=np.float64)
    begun = [0] * len(classes)
    starts: list[np.ndarray] = []
    while len(starts) < count:
        if left.sum() == 0:
            raise UsageError(
                f"no voxel of the classes has an image above {cropper.image_threshold}"
            )
        chosen = int(cropper.R.choice(len(classes), p=left / left.sum()))
        start, begun[chosen] = _try(
            classes[chosen],
            checked[chosen],
            labels,
            size,
            cropper.image_threshold,
            seed,
            begun[chosen],
        )
        if start is None:
            if warn:
                _warn_of_class(labels, chosen)
            left[chosen] = 0
        else:
            starts.append(start)
    # A centre near the border moves inward, as MONAI corrects it.
    return np.clip(np.array(starts), 0, np.array(labels.shape[-3:]) - size)


def _warn_of_empty_classes(labels: Volume, ratios: Sequence[float]) -> None:
    """Warns of the classes with a ratio that have no voxel, as far as ingest has counted them."""
    if labels.kind != "labels" or (labels.ndim == 4 and labels.shape[0] > 1):
        return
    counts = labels.labels
    counts[0] = math.prod(labels.shape) - sum(counts.values())
    for label, ratio in enumerate(ratios):
        if ratio > 0 and not counts.get(label):
            _warn_of_class(labels, label)


def _warn_of_class(labels: Volume, label: int) -> None:
    warnings.warn(
        f"class {label} has no voxel to crop around in {labels.subject.name}/{labels.name}:"
        " its ratio becomes zero",
        stacklevel=2,
    )


def _try(
    sampler: LabelSampler,
    image: Volume | None,
    labels: Volume,
    size: Size,
    threshold: float,
    seed: int,
    begin: int,
) -> tuple[np.ndarray | None, int]:
    """The sampler's first start from number ``begin`` on that exceeds the threshold, and the number
    after it.
    """
    for first in range(begin, begin + _ATTEMPTS, _DRAWN):
        try:
            starts = sampler.locations(labels.subject, _DRAWN, seed=seed, first=first)
        except UsageError:
            # The class has no voxel.
            return None, begin
        for n, start in enumerate(starts):
            if image is None or _is_above(image, start + np.array(size) // 2, threshold):
                return start, first + n + 1
    return None, begin


def _is_above(image: Any, centre: np.ndarray, threshold: float) -> bool:
    if isinstance(image, Volume):
        voxel = real_values(image).read(centre, 1)
    else:
        voxel = np.asarray(image[(..., *centre.tolist())])
    return bool((voxel > threshold).any())


RandCropByPosNegLabelD = RandCropByPosNegLabelDict = RandCropByPosNegLabeld
RandCropByLabelClassesD = RandCropByLabelClassesDict = RandCropByLabelClassesd
RandWeightedCropD = RandWeightedCropDict = RandWeightedCropd
