"""The part of a volume, and of a patch, that a model answers for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._errors import UsageError
from ._types import Head, Scale

#: A volume, an array, a box, or a function of the box of a patch.
Mask: TypeAlias = Any


class Region:
    """What is wanted of a volume.

    ``mask`` is a volume or an array ``(z, y, x)`` on the volume's grid, a box ``(z0, y0, x0, z1,
    y1, x1)``, a function that is called with the box of a patch, or None for everything.
    """

    def __init__(self, mask: Mask, volume: _native.Volume | _native.ScaledVolume) -> None:
        size = tuple(volume.shape[-3:])
        self._wants: Callable[[tuple[int, ...]], Any] | None = None
        #: The voxels that are wanted, if not whole patches are.
        self.voxels: NDArray[np.bool_] | None = None
        if mask is None:
            return
        if isinstance(mask, _native.Volume | _native.ScaledVolume):
            self.voxels = _of_volume(mask, volume)
        elif callable(mask):
            self._wants = mask
        else:
            self.voxels = _of_array(mask, size)
        if self.voxels is not None and self.voxels.shape != size:
            raise UsageError(
                f"mask of {self.voxels.shape} voxels (z, y, x): expected the volume's {size}"
            )

    def wants(self, starts: np.ndarray, size: Sequence[int]) -> NDArray[np.bool_]:
        """Whether each of the patches is wanted."""
        boxes = np.hstack([starts, starts + np.array(size)]).tolist()
        if self._wants is not None:
            wanted = [bool(self._wants(tuple(box))) for box in boxes]
        elif self.voxels is not None:
            wanted = [bool(self.voxels[_inside(box)].any()) for box in boxes]
        else:
            wanted = [True] * len(boxes)
        if not any(wanted):
            raise UsageError("mask: no patch is wanted: expected at least one voxel of the volume")
        return np.array(wanted)


def _inside(box: Sequence[int]) -> tuple[slice, ...]:
    """The part of a box in front of which no voxel lies."""
    return tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(box[:3], box[3:], strict=True))


def _of_volume(
    mask: _native.Volume | _native.ScaledVolume, volume: _native.Volume | _native.ScaledVolume
) -> NDArray[np.bool_]:
    shown, other = (v.volume if isinstance(v, _native.ScaledVolume) else v for v in (mask, volume))
    if mask.shape[-3:] != volume.shape[-3:] or not np.allclose(
        shown.affine, other.affine, atol=1e-3 * min(other.spacing)
    ):
        raise UsageError(
            f"mask {shown.name!r} of {tuple(mask.shape[-3:])} voxels (z, y, x) lies on another grid"
            f" than {other.name!r} of {tuple(volume.shape[-3:])}: resample it first"
        )
    if mask.ndim == 4 and mask.shape[0] != 1:
        raise UsageError(f"mask {shown.name!r} has {mask.shape[0]} channels: expected one")
    voxels: NDArray[np.bool_] = np.asarray(mask).reshape(mask.shape[-3:]) != 0
    return voxels


def _of_array(mask: Any, size: tuple[int, ...]) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.shape == (6,) and array.dtype.kind in "iu":
        voxels = np.zeros(size, dtype=np.bool_)
        voxels[_inside(array.tolist())] = True
        return voxels
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise UsageError(
            f"mask of shape {array.shape} and dtype {array.dtype}: expected a volume, an array"
            " (z, y, x), six integers (z0, y0, x0, z1, y1, x1) or a function of them"
        )
    chosen: NDArray[np.bool_] = array != 0
    return chosen


def margins_of(valid: int | Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """The margins ``(z, y, x)`` that ``valid`` states."""
    margins = tuple(np.broadcast_to(np.asarray(valid), 3).tolist())
    if any(m != int(m) or m < 0 or 2 * m >= p for m, p in zip(margins, patch_size, strict=True)):
        raise UsageError(
            f"valid {valid!r}: expected True, False, or voxels of a margin of which two are less"
            f" than the patch {tuple(patch_size)}"
        )
    return tuple(map(int, margins))


def margins_shown(
    shapes: Mapping[Head | None, tuple[int, ...]],
    patch_size: Sequence[int],
    scale: Scale | Mapping[Head, Scale] | None,
    valid: bool | int | Sequence[int] | None,
    known: Sequence[int],
) -> tuple[int, ...] | None:
    """The margins that the first answers show, if they are not ``known``; None if there are none.

    Answers that may be coarser as well as smaller are refused, as are those that are neither what
    ``scale`` nor what ``valid`` says.
    """
    found: set[tuple[int, ...]] = set()
    for name, shape in shapes.items():
        own = scale[name] if isinstance(scale, Mapping) else scale  # type: ignore[index]
        found.add(_margins(name, shape[-3:], patch_size, own, valid, known))
    if len(found) > 1:
        raise UsageError(
            f"the model's answers have margins of {sorted(found)} voxels (z, y, x): expected one"
        )
    margins = found.pop()
    return margins if any(margins) and margins != tuple(known) else None


def _margins(
    name: Head | None,
    shape: tuple[int, ...],
    patch_size: Sequence[int],
    scale: Scale | None,
    valid: bool | int | Sequence[int] | None,
    known: Sequence[int],
) -> tuple[int, ...]:
    """The margins of one answer."""
    head = "" if name is None else f" {name!r}"
    answered = f"the model answered{head} with {shape} for patches of {tuple(patch_size)}"
    if scale is not None:
        asked = np.array(patch_size) * np.broadcast_to(np.asarray(scale, dtype=float), 3)
        if not np.allclose(asked, shape):
            raise UsageError(f"{answered}: scale {scale!r} asks for {tuple(asked.tolist())}")
        return (0, 0, 0)
    less = [p - n for p, n in zip(patch_size, shape, strict=True)]
    if any(known):
        if less != [2 * m for m in known]:
            raise UsageError(f"{answered}: valid {valid!r} asks for a margin of {tuple(known)}")
        return tuple(known)
    can_be_middle = all(n >= 0 and n % 2 == 0 for n in less) and any(less)
    can_be_coarse = all(p % n == 0 or n % p == 0 for p, n in zip(patch_size, shape, strict=True))
    if valid is True or (valid is None and can_be_middle and not can_be_coarse):
        if not can_be_middle and any(less):
            raise UsageError(
                f"{answered}: a middle has the same margin in front and behind, and is no larger"
            )
        return tuple(n // 2 for n in less)
    if not any(n > 0 for n in less) or valid is False:
        return (0, 0, 0)
    if can_be_middle:
        raise UsageError(
            f"{answered}: this may be a coarser resolution"
            f" (scale={_ratio(shape, patch_size)!r}) or the middle of a patch (valid=True): say"
            " which"
        )
    raise UsageError(
        f"{answered}, which is smaller: expected that size; for a coarser resolution say"
        f" scale={_ratio(shape, patch_size)!r}"
    )


def _ratio(shape: Sequence[int], patch_size: Sequence[int]) -> float | tuple[float, ...]:
    ratios = tuple(n / p for n, p in zip(shape, patch_size, strict=True))
    return ratios[0] if len(set(ratios)) == 1 else ratios
