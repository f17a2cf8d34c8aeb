"""TorchIO subjects over a store: shape and affine are known at once, voxels are read on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio

from .. import Subject as StoreSubject
from .. import UsageError, Volume
from .._paths import is_volume, path_of, volume_at
from .._types import Padding
from .._values import real_values, widened


class Box:
    """The part of a volume that an image shows, in TorchIO's axes; as a TorchIO ``reader`` it gives
    voxels and affine.

    ``ini`` and ``shape`` are voxels ``(i, j, k)``. ``padding`` fills the voxels outside the volume.
    """

    def __init__(
        self,
        volume: Volume,
        ini: Sequence[int],
        shape: Sequence[int],
        padding: Padding = None,
        *,
        scaled: bool = True,
    ) -> None:
        self.volume, self.ini, self.shape, self.padding = volume, ini, shape, padding
        self.scaled = scaled

    @classmethod
    def whole(cls, volume: Volume, *, scaled: bool = True) -> Box:
        z, y, x = volume.shape[-3:]
        return cls(volume, (0, 0, 0), (x, y, z), scaled=scaled)

    @property
    def is_whole(self) -> bool:
        """Whether it shows the whole volume, without padding."""
        whole = Box.whole(self.volume)
        return (self.ini, self.shape, self.padding) == (whole.ini, whole.shape, None)

    @property
    def channels(self) -> int:
        return self.volume.shape[0] if self.volume.ndim == 4 else 1

    @property
    def affine(self) -> np.ndarray:
        return moved(self.volume.affine, self.ini)

    def part(self, ini: Iterable[int], shape: Iterable[int]) -> Box:
        """The box at ``ini`` in this one."""
        start = tuple(int(a + b) for a, b in zip(self.ini, ini, strict=True))
        size = tuple(map(int, shape))
        return Box(self.volume, start, size, self.padding, scaled=self.scaled)

    def padded(self, border: Iterable[int], padding: float | Literal["edge", "reflect"]) -> Box:
        """This box with ``border`` more voxels on both sides of each axis."""
        start = tuple(int(a - b) for a, b in zip(self.ini, border, strict=True))
        shape = tuple(int(n + 2 * b) for n, b in zip(self.shape, border, strict=True))
        return Box(self.volume, start, shape, padding, scaled=self.scaled)

    def read(self) -> torch.Tensor:
        """Values ``(c, i, j, k)``, a transposed view of what was read."""
        volume = real_values(self.volume) if self.scaled else self.volume
        voxels = widened(volume.read(self.ini[::-1], self.shape[::-1], padding=self.padding))
        return torch.from_numpy(voxels.reshape(self.channels, *self.shape[::-1])).permute(
            0, 3, 2, 1
        )

    def __call__(self, path: object) -> tuple[torch.Tensor, np.ndarray]:
        return self.read(), self.affine

    def __deepcopy__(self, memo: dict[int, Any]) -> Box:
        # A published volume never changes.
        return self


def moved(affine: np.ndarray, ini: Sequence[int]) -> np.ndarray:
    """The affine of the part that begins at ``ini``."""
    result = affine.copy()
    result[:3, 3] += affine[:3, :3] @ np.asarray(ini, dtype=np.float64)
    return result


class _Stored(tio.Image):
    """Base of both kinds of images: with a ``Box`` as reader, shape and affine read no voxels.

    A path of a volume, ``store.zarr/case01/ct``, has one.
    """

    def __init__(self, path: Any = None, *arguments: Any, **named: Any) -> None:
        if isinstance(path, str | Path) and "reader" not in named and is_volume(path):
            named["reader"] = Box.whole(volume_at(path))
        super().__init__(path, *arguments, **named)

    @property
    def box(self) -> Box | None:
        """The box of the voxels, while they are not in memory."""
        return self.reader if isinstance(self.reader, Box) and not self._loaded else None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        if self.box is None:
            return super().shape
        i, j, k = self.box.shape
        return self.box.channels, i, j, k

    @property
    def affine(self) -> np.ndarray:
        return super().affine if self.box is None else self.box.affine

    @affine.setter
    def affine(self, matrix: Any) -> None:
        self[tio.AFFINE] = self._parse_affine(matrix)

    @property
    def num_channels(self) -> int:
        return self.shape[0]


def box_of(image: tio.Image) -> Box | None:
    """The box of an image in a store; None for images in memory or in files of their own."""
    return image.box if isinstance(image, _Stored) else None


class ScalarImage(_Stored, tio.ScalarImage):
    """A ``torchio.ScalarImage`` that may be in a store."""


class LabelMap(_Stored, tio.LabelMap):
    """A ``torchio.LabelMap`` that may be in a store."""


class Subject(tio.Subject):
    """A ``torchio.Subject`` that may be in a store."""

    def load(self) -> None:
        """Loads the images that are not in a store. ``SubjectsDataset`` calls it for every subject,
        and a patch needs no more.

        An image of a store is read as a whole by its own ``load()``, or when its ``data`` are
        requested.
        """
        for image in self.get_images(intensity_only=False):
            if box_of(image) is None:
                image.load()


def subject(
    stored: StoreSubject,
    volumes: Sequence[str] | None = None,
    *,
    scaled: bool = True,
    **attributes: object,
) -> Subject:
    """A lazy TorchIO subject over a subject of a store, such as ``subject(ds["case01"])``.

    Its images have the volumes' names: label maps are ``LabelMap``, the others ``ScalarImage``.
    Nothing is read here.

    Args:
        stored: The subject in the store.
        volumes: Names of the volumes it has; all if None.
        scaled: Give real values, stored value × slope + intercept. ``False`` gives stored values.
        attributes: Items that the subject carries beside its images, as in ``torchio.Subject``;
            ``name`` is the subject's own unless given.

    Raises:
        UsageError: A volume that is not there, or an attribute with the name of one.
    """
    names = list(stored) if volumes is None else list(volumes)
    if clash := set(names).intersection(attributes):
        raise UsageError(f"attribute {clash.pop()!r}: a volume of the subject has that name")
    images = {name: _image(stored[name], scaled) for name in names}
    return Subject({"name": stored.name, **attributes, **images})


def _image(volume: Volume, scaled: bool) -> ScalarImage | LabelMap:
    kind = LabelMap if volume.kind == "labels" else ScalarImage
    return kind(Path(path_of(volume)), reader=Box.whole(volume, scaled=scaled))
