"""Blends patches on a device: a slab of planes, as deep as a patch, in the order of the work.

Each voxel of the slab is the weighted mean of the patches that were added so far, as on the host:
``mean - (mean - value) * share``, where the share is the patch's weight divided by the sum of the
weights so far. Where all values are equal, the mean equals them, bit for bit.

A grid is a product of three lists of starts and a window one of three profiles, and patches come in
lexicographic order. So the sum of weights before a patch comes from three sums along the axes, and
no volume of weights exists. Where some patches never come, or weights have a lower limit, the slab
has one more channel for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

#: First voxels of patches, the voxels that each counts for, and the weights of a patch's voxels.
AxisWeights: TypeAlias = tuple[list[int], list[tuple[int, int]], list[float]]

# Bytes of a temporary tensor: channels and planes are processed in groups of that size.
GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class _Vectors:
    """One patch along one axis, over the voxels that it counts for: its weights, and the sums over
    earlier patches and over all patches of the axis.
    """

    own: torch.Tensor
    before: torch.Tensor
    total: torch.Tensor


class Slab:
    """Unfinished planes of a result ``(k, z, y, x)``, those that the next patches may change.

    ``merge`` is ``"mean"``, ``"max"``, ``"min"`` or ``"crop"``, of which the last patch counts.
    """

    def __init__(
        self,
        axes: Sequence[AxisWeights],
        least: float,
        size: Sequence[int],
        channels: int,
        outer: int,
        merge: str,
        device: torch.device,
        sums_weights: bool,
    ) -> None:
        self.outer, self.merge, self.device = outer, merge, device
        self.starts = [axis[0] for axis in axes]
        self.used = [axis[1] for axis in axes]
        self.least = least
        self._profiles = [np.asarray(axis[2]) for axis in axes]
        self._sizes = list(size)
        if least == 0:
            # Products of large or small weights would leave float32.
            self._profiles = [profile / profile.max() for profile in self._profiles]
        shape = list(size)
        shape[outer] = depth_of(self.used[outer])
        empty = {"max": -torch.inf, "min": torch.inf}.get(merge, -0.0)
        self._empty = empty
        self.planes = torch.full((channels, *shape), empty, device=device, dtype=torch.float32)
        self._weights = (
            torch.zeros(shape, device=device) if sums_weights and merge == "mean" else None
        )
        #: The first plane that is unfinished.
        self.first = 0
        self._vectors: dict[tuple[int, int], _Vectors] = {}
        self._product: torch.Tensor | None = None

    def add(self, patch: torch.Tensor, index: Sequence[int]) -> None:
        """Adds a patch ``(k, z, y, x)``, the ``index``-th along each axis.

        All planes in front of it are finished: :meth:`advance` was called.
        """
        used = [self.used[a][i] for a, i in enumerate(index)]
        cut = [
            slice(start - first, end - first)
            for (start, end), first in zip(
                used, (self.starts[a][i] for a, i in enumerate(index)), strict=True
            )
        ]
        place = [slice(*ends) for ends in used]
        start, end = used[self.outer]
        place[self.outer] = slice(start - self.first, end - self.first)
        values = patch[(slice(None), *cut)]
        share = self._share(index, cut, place) if self.merge == "mean" else None
        voxels = values[0].numel()
        step = max(1, GROUP_BYTES // max(4 * voxels, 1))
        for channel in range(0, len(values), step):
            some = slice(channel, channel + step)
            self._update(self.planes[(some, *place)], values[some].to(torch.float32), share)

    def _update(self, old: torch.Tensor, new: torch.Tensor, share: torch.Tensor | None) -> None:
        if self.merge == "crop":
            old.copy_(new)
        elif self.merge == "max":
            torch.maximum(old, new, out=old)
        elif self.merge == "min":
            torch.minimum(old, new, out=old)
        else:
            # Subtracting twice keeps -0.0. The difference of two infinite numbers would be NaN.
            moved = old - (old - new).mul_(share)
            old.copy_(torch.where(old.isinf(), old + new, moved))

    def _share(self, index: Sequence[int], cut: list[slice], place: list[slice]) -> torch.Tensor:
        """The patch's weights divided by the sums of weights so far, ``(z, y, x)``."""
        if self._weights is not None:
            weight = self._window()[tuple(cut)]
            sums = self._weights[tuple(place)]
            sums += weight
            return weight / sums
        outer = self.outer
        inner, innermost = (axis for axis in range(3) if axis != outer)
        o, p, q = (self._along(axis, index[axis]) for axis in (outer, inner, innermost))
        # In front of it came all patches of earlier planes, those of earlier rows of its planes,
        # and those of its row.
        own = p.own * q.own
        row = p.own * (q.before + q.own) + p.before * q.total
        return (o.own * own) / (o.own * row + o.before * (p.total * q.total))

    def _along(self, axis: int, number: int) -> _Vectors:
        """The patch of a number along an axis."""
        key = (axis, number)
        if key not in self._vectors:
            sums = np.zeros(self._sizes[axis])
            for i, (start, end) in enumerate(self.used[axis]):
                if i == number:
                    before = sums.copy()
                first = self.starts[axis][i]
                sums[start:end] += self._profiles[axis][start - first : end - first]
            start, end = self.used[axis][number]
            first = self.starts[axis][number]
            own = self._profiles[axis][start - first : end - first]
            shape = [1, 1, 1]
            shape[axis] = -1
            self._vectors[key] = _Vectors(
                *(
                    torch.tensor(v, dtype=torch.float32, device=self.device).view(shape)
                    for v in (own, before[start:end], sums[start:end])
                )
            )
        return self._vectors[key]

    def _window(self) -> torch.Tensor:
        """The weights of a patch, ``(z, y, x)``."""
        if self._product is None:
            z, y, x = self._profiles
            product = np.maximum(z[:, None, None] * y[:, None] * x, self.least)
            self._product = torch.tensor(product, dtype=torch.float32, device=self.device)
        return self._product

    def advance(self, to: int, take: Callable[[int, torch.Tensor], None]) -> None:
        """Finishes the planes in front of ``to``: calls ``take`` with the first plane of each group
        and the group, ``(k, z, y, x)``, which is changed afterwards.
        """
        depth = self.planes.shape[self.outer + 1]
        count = min(to - self.first, depth)
        if count <= 0:
            return
        plane_bytes = 4 * self.planes[(slice(None), *self._planes(0, 1))].numel()
        step = max(1, GROUP_BYTES // plane_bytes)
        for at in range(0, count, step):
            group = self.planes[(slice(None), *self._planes(at, min(at + step, count)))]
            take(self.first + at, group)
        tensors = [*self.planes] if self._weights is None else [*self.planes, self._weights]
        for tensor in tensors:
            kept = tensor[self._planes(count, depth)].clone()
            tensor[self._planes(0, depth - count)] = kept
            tensor[self._planes(depth - count, depth)] = (
                0.0 if tensor is self._weights else self._empty
            )
        self.first = to

    def move_to_host(self) -> None:
        """Moves everything to the host's memory."""
        self.device = torch.device("cpu")
        self.planes = self.planes.cpu()
        if self._weights is not None:
            self._weights = self._weights.cpu()
        self._vectors.clear()
        self._product = None

    def _planes(self, start: int, end: int) -> tuple[slice, ...]:
        places = [slice(None)] * 3
        places[self.outer] = slice(start, end)
        return tuple(places)


def depth_of(used: Sequence[tuple[int, int]]) -> int:
    """Planes that are unfinished at a time, of patches with these ends."""
    ends = np.maximum.accumulate([end for _, end in used])
    return int(max(end - start for end, (start, _) in zip(ends, used, strict=True)))
