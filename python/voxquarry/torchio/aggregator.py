"""TorchIO's aggregator with weights as three one-dimensional arrays instead of a volume."""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torchio as tio


class GridAggregator(tio.data.GridAggregator):
    """``torchio.GridAggregator``: overlapping patches become one volume, by cropping, averaging or
    a Hann window.

    The output is the only volume that is held: a window is separable and a grid is a product, so
    the sums of weights are three one-dimensional arrays. If patches are missing or came twice, one
    channel of weights is made at the end. Integers are averaged in floating point, where TorchIO's
    wrap round. A ``downsampling_factor`` scales overlaps and borders as it scales locations.
    """

    def __init__(
        self,
        sampler: tio.data.GridSampler,
        overlap_mode: str = "crop",
        downsampling_factor: int = 1,
    ) -> None:
        super().__init__(sampler, overlap_mode, downsampling_factor)
        self.patch_overlap = np.asarray(sampler.patch_overlap) // downsampling_factor
        grid = np.asarray(sampler.locations) // downsampling_factor
        self._grid = sorted(map(tuple, grid.tolist()))
        self._added: list[tuple[int, ...]] = []
        self._windows: list[torch.Tensor] = []
        self._dtype = torch.float32

    def add_batch(self, batch_tensor: torch.Tensor, locations: torch.Tensor) -> None:
        """Adds the network's answers ``(b, c, i, j, k)`` at ``locations``, ``(b, 6)``, in any
        order.
        """
        if self.overlap_mode == "crop":
            super().add_batch(batch_tensor, locations)
            return
        batch = batch_tensor.detach().cpu()
        places = locations.cpu().numpy() // self._downsampling_factor
        target = {tuple(shape) for shape in (places[:, 3:] - places[:, :3]).tolist()}
        if target != {tuple(batch.shape[2:])}:
            raise RuntimeError(
                f"The shape of the input batch, {tuple(batch.shape[2:])}, does not match the"
                f" shape of the target location, which is {', '.join(map(str, target))}"
            )
        if self._output_tensor is None:
            self._begin(batch)
        assert self._output_tensor is not None
        weights = _outer(self._windows)
        for patch, place in zip(
            batch.to(self._output_tensor.dtype), map(tuple, places.tolist()), strict=True
        ):
            self._output_tensor[(slice(None), *_box(place))].addcmul_(patch, weights)
            self._added.append(place)

    def _begin(self, batch: torch.Tensor) -> None:
        """Chooses types and windows by the first batch: sums are as exact as the answers, and the
        result has TorchIO's type.
        """
        hann = self.overlap_mode == "hann"
        if batch.dtype == torch.int64 and not hann:
            message = (
                "Medical image frameworks such as ITK do not support int64. Casting to int32..."
            )
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        floating = batch.dtype.is_floating_point
        self._dtype = (
            torch.float32 if hann else batch.dtype if floating else torch.get_default_dtype()
        )
        wide = batch.dtype.itemsize > (4 if floating else 2)
        size = len(batch[0]), *self.spatial_shape
        self._output_tensor = torch.zeros(size, dtype=torch.float64 if wide else torch.float32)
        lines = [
            torch.hann_window(p + 2, periodic=False)[1:-1] if hann else torch.ones(p)
            for p in batch.shape[2:]
        ]
        self._windows = [line.to(self._output_tensor.dtype) for line in lines]

    def get_output_tensor(self) -> torch.Tensor:
        """The volume ``(c, i, j, k)``, without the sampler's padding."""
        if self.overlap_mode == "crop":
            return super().get_output_tensor()
        if self._output_tensor is None:
            raise RuntimeError("no batch was added: there is no volume yet")
        total = self._output_tensor
        output = torch.empty(total.shape, dtype=self._dtype)
        # Plane by plane, so that neither weights nor quotients need a volume more.
        for i, weights in enumerate(self._weights()):
            output[:, i] = total[:, i] / weights
        if not self.volume_padded:
            return output
        ini = self.patch_overlap // 2
        return output[
            (
                slice(None),
                *(slice(a, n - a) for a, n in zip(ini.tolist(), self.spatial_shape, strict=True)),
            )
        ]

    def _weights(self) -> torch.Tensor | map[torch.Tensor]:
        """The sums of the weights, a plane ``(j, k)`` for each ``i``."""
        assert self._output_tensor is not None
        if sorted(self._added) == self._grid:
            lines = [torch.zeros(n, dtype=self._output_tensor.dtype) for n in self.spatial_shape]
            for axis, (line, window) in enumerate(zip(lines, self._windows, strict=True)):
                for start in {place[axis] for place in self._grid}:
                    line[start : start + len(window)] += window
            plane = torch.outer(lines[1], lines[2])
            return map(plane.__mul__, lines[0])
        weights = torch.zeros(self.spatial_shape, dtype=self._output_tensor.dtype)
        window = _outer(self._windows)
        for place in self._added:
            weights[_box(place)] += window
        return weights


def _outer(lines: list[torch.Tensor]) -> torch.Tensor:
    i, j, k = lines
    return i[:, None, None] * j[:, None] * k


def _box(place: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(place[:3], place[3:], strict=True))
