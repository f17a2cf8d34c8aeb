"""TorchIO 2 over a store, while it is an alpha: its own names, with images that read their volumes
patch by patch.

A script imports from ``voxquarry.torchio`` instead of ``torchio``, and makes its subjects by
``subject(ds["case01"])`` or by images of paths ``store.zarr/case01/ct``. Axes are ``(c, i, j, k)``;
values are real ones.

Differences from TorchIO 2.0.0a2: loading a subject loads no image of a store, so its queue reads
patches alone; weighted and label samplers find their places by sums and counts in the store; and a
Hann window is divided by the sum of its weights where TorchIO divides by at least 1, which dims
what few patches cover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from torchio.data.backends import normalize_index

from .. import LabelSampler as StoreLabelSampler
from .. import Subject as StoreSubject
from .. import UsageError, Volume
from .. import WeightedSampler as StoreWeightedSampler
from .._paths import is_volume, path_of, volume_at
from .._values import is_scaled, real_values, widened

__all__ = [
    "GridSampler",
    "LabelMap",
    "LabelSampler",
    "PatchAggregator",
    "Queue",
    "ScalarImage",
    "Subject",
    "UniformSampler",
    "WeightedSampler",
    "subject",
]

GridSampler, UniformSampler, Queue = tio.GridSampler, tio.UniformSampler, tio.Queue

# How many places of a store are drawn at a time.
_DRAWN = 8


class VolumeBackend:
    """A volume as TorchIO's lazy backend: slicing reads that part."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self._real = real_values(volume)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(c, i, j, k)``."""
        z, y, x = self.volume.shape[-3:]
        return (self.volume.shape[0] if self.volume.ndim == 4 else 1), x, y, z

    @property
    def affine(self) -> torch.Tensor:
        """``(4, 4)`` float64: voxel ``(i, j, k)`` to RAS+ millimetres."""
        return torch.from_numpy(self.volume.affine)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the real values."""
        return widened(np.empty(0, self._real.dtype)).dtype

    def __getitem__(self, slices: Any) -> torch.Tensor:
        channels, *axes = normalize_index(slices)
        spans = [part.indices(n) for part, n in zip(axes, self.shape[1:], strict=True)]
        if any(step != 1 for _, _, step in spans) or any(a >= b for a, b, _ in spans):
            return self.to_tensor()[(channels, *axes)]
        start = [a for a, _, _ in spans][::-1]
        size = [b - a for a, b, _ in spans][::-1]
        return self._tensor(self._real.read(start, size))[channels]

    def to_tensor(self) -> torch.Tensor:
        """All voxels."""
        return self._tensor(self._real[...])

    def _tensor(self, voxels: np.ndarray) -> torch.Tensor:
        channels = widened(voxels).reshape(self.shape[0], *voxels.shape[-3:])
        return torch.from_numpy(channels).permute(0, 3, 2, 1)


class VolumeReader:
    """The reader of an image in a store, for TorchIO's ``reader`` argument."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume

    def create_backend(self, request: Any) -> VolumeBackend:
        """What TorchIO reads shape, affine and patches from."""
        return VolumeBackend(self.volume)

    def __call__(self, path: Any, **_: Any) -> tuple[torch.Tensor, np.ndarray]:
        backend = VolumeBackend(self.volume)
        return backend.to_tensor(), self.volume.affine

    def __deepcopy__(self, _memo: Any) -> VolumeReader:
        # A published volume never changes.
        return self


class _Stored(tio.Image):
    """Base of both kinds of images: a path of a volume in a store has a reader of its own."""

    _reader: Any
    _data: torch.Tensor | None

    def __init__(self, source: Any = None, **named: Any) -> None:
        if isinstance(source, str | Path) and named.get("reader") is None and is_volume(source):
            named["reader"] = VolumeReader(volume_at(source))
        super().__init__(source, **named)

    @property
    def volume(self) -> Volume | None:
        """The volume in the store, while no voxel of it was loaded or replaced."""
        reader = self._reader
        is_lazy = isinstance(reader, VolumeReader) and self._data is None
        return reader.volume if is_lazy else None


class ScalarImage(_Stored, tio.ScalarImage):
    """A ``torchio.ScalarImage`` that may be in a store."""


class LabelMap(_Stored, tio.LabelMap):
    """A ``torchio.LabelMap`` that may be in a store."""


class Subject(tio.Subject):
    """A ``torchio.Subject`` that may be in a store."""

    def load(self) -> None:
        """Loads the images that are not in a store; a patch needs no more. An image of a store is
        read as a whole by its own ``load()``, or when its ``data`` are requested.
        """
        for image in self.images.values():
            if getattr(image, "volume", None) is None:
                image.load()


def subject(
    stored: StoreSubject, volumes: Sequence[str] | None = None, **attributes: object
) -> Subject:
    """A lazy TorchIO subject over a subject of a store, such as ``subject(ds["case01"])``.

    Args:
        stored: The subject in the store.
        volumes: Names of the volumes it has; all if None.
        attributes: Its metadata; ``name`` is the subject's own unless given.

    Raises:
        UsageError: A volume that is not there, or an attribute with the name of one.
    """
    names = list(stored) if volumes is None else list(volumes)
    if clash := set(names).intersection(attributes):
        raise UsageError(f"attribute {clash.pop()!r}: a volume of the subject has that name")
    images = {name: _image(stored[name]) for name in names}
    return Subject(**{"name": stored.name, **attributes, **images})


def _image(volume: Volume) -> ScalarImage | LabelMap:
    kind = LabelMap if volume.kind == "labels" else ScalarImage
    return kind(Path(path_of(volume)), reader=VolumeReader(volume))


class WeightedSampler(tio.WeightedSampler):
    """``torchio.WeightedSampler``; a map in a store is not loaded. Of a patch of even size TorchIO
    never draws the last place on an axis; for maps in a store it is drawn, too.
    """

    def __call__(self, subject: tio.Subject, num_patches: int | None = None) -> Iterator[Any]:
        volume: Any = getattr(subject.images[self.probability_map], "volume", None)
        sampler = None if volume is None else self._store_sampler(volume)
        if sampler is None:
            yield from super().__call__(subject, num_patches)
            return
        limit = num_patches or self.num_patches
        seed = int(torch.randint(2**63 - 1, (1,)))
        for first in count(0, _DRAWN):
            starts = self._starts(sampler, volume, seed, first)
            for number, (k, j, i) in enumerate(starts.tolist(), start=first):
                if limit is not None and number >= limit:
                    return
                place = tio.PatchLocation(index=(i, j, k), size=self.patch_size)
                yield self._extract_patch(subject, place)

    def _starts(self, sampler: Any, volume: Volume, seed: int, first: int) -> np.ndarray:
        try:
            return sampler.locations(volume.subject, _DRAWN, seed=seed, first=first)
        except UsageError as error:
            raise RuntimeError(f"{path_of(volume)}: no place for a patch: {error}") from error

    def _store_sampler(self, volume: Volume) -> Any:
        """The sampler that draws from the volume in the store; None if it has to be loaded."""
        return StoreWeightedSampler(self.patch_size[::-1], volume.name)


class LabelSampler(WeightedSampler, tio.LabelSampler):
    """``torchio.LabelSampler``; for all labels, or one of them, a label map in a store is not
    loaded: its label counts choose a chunk, and only that one is decoded.

    As in TorchIO 2, a number in ``label_probabilities`` is the weight of each voxel of the label;
    for several labels TorchIO needs the whole map.
    """

    def __init__(
        self,
        subject: tio.Subject,
        patch_size: Any,
        label_name: str,
        label_probabilities: Mapping[int, float] | None = None,
        num_patches: int | None = None,
    ) -> None:
        chosen = None if label_probabilities is None else dict(label_probabilities)
        tio.LabelSampler.__init__(self, subject, patch_size, label_name, chosen, num_patches)

    def _store_sampler(self, volume: Volume) -> Any:
        size = self.patch_size[::-1]
        if volume.dtype.kind == "f" or is_scaled(volume) or volume.ndim == 4:
            return None
        if self.label_probabilities is None:
            return StoreLabelSampler(size, volume.name)
        drawn = {label: w for label, w in self.label_probabilities.items() if w > 0}
        # Among several labels the store's sampler chooses by weights of labels, not of voxels.
        return StoreLabelSampler(size, volume.name, drawn) if len(drawn) == 1 else None


class PatchAggregator(tio.PatchAggregator):
    """``torchio.PatchAggregator``, which divides by the sum of the weights."""

    def get_output(self, key: str | None = None) -> torch.Tensor:
        """The volume ``(c, i, j, k)``; voxels that no patch covers are zero."""
        name = "__default__" if key is None else key
        if self.overlap_mode == "crop" or name not in self._outputs:
            return super().get_output(key)
        weights = self._counts[name]
        return self._outputs[name] / torch.where(weights > 0, weights, 1)
