"""Blends answers where they are computed, and hands finished planes to an aggregator's sink."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import torch

from .. import Aggregator, UsageError
from .._stage import Blend
from ._finish import WIRE_DTYPES, Finisher, probabilities
from ._slab import GROUP_BYTES, AxisWeights, Slab, depth_of
from ._streams import Lane

#: Most patches of a voxel for which float32 means are kept: each rounds once.
_MOST_PATCHES = 32
#: Least quotient of two weights: quotients of products stay far within float32.
_LEAST_QUOTIENT = 1e-30
#: Groups of finished planes that wait for the sink.
_WAITING = 2


class Unfit(Exception):
    """Why answers cannot be blended on a device."""


class DeviceBlender:
    """Blends the answers of one head in a slab on a device.

    ``aggregator`` writes the result, and blends what a device cannot.
    """

    def __init__(self, aggregator: Aggregator, blend: Blend, lane: Lane, memory_bytes: int) -> None:
        axes, least = aggregator.axis_weights()
        _check(aggregator, blend, axes, least)
        channels = blend.answers.shape[1] if blend.answers.ndim == 5 else 1
        size = aggregator.shape[-3:]
        self.bytes = _bytes(axes, size, channels, blend, least)
        if self.bytes > memory_bytes:
            raise Unfit(
                f"{self.bytes >> 20} MiB of unfinished planes exceed the device's"
                f" {memory_bytes >> 20} MiB (device_memory_bytes)"
            )
        merge = blend.merge if blend.merge != "mean" or blend.window != "crop" else "crop"
        sums_weights = least > 0 or blend.skips
        # The planes are filled by the stream that uses them.
        with lane.running(None):
            self._slab = Slab(
                axes, least, size, channels, blend.outer, merge, lane.device, sums_weights
            )
        self._aggregator, self._lane, self._blend = aggregator, lane, blend
        self._nonfinite = blend.nonfinite
        self._is_moved = False
        self._finisher = Finisher(blend.finish, np.dtype(aggregator.dtype), lane.device)
        self._layers = _Layers(aggregator, blend.outer)
        self._softmax = blend.finish == "softmax+argmax"
        # The number of each start along its axis.
        self._numbers = [
            {start: i for i, start in enumerate(np.unique(blend.starts[:, axis]).tolist())}
            for axis in range(3)
        ]
        self._lock = Lock()
        self._sink = ThreadPoolExecutor(1, "voxquarry-sink")
        self._waiting: deque[Future[None]] = deque()
        self._checked: deque[tuple[Any, torch.Tensor, np.ndarray]] = deque()

    def add(self, patches: torch.Tensor, starts: np.ndarray) -> None:
        """Adds answers in the order of the work."""
        with self._lock, self._lane.running(patches) as lane:
            found, expected = patches.shape, self._blend.answers.shape[1:]
            if found != (len(starts), *expected):
                # It says what it expects.
                self._aggregator.add(patches.detach().cpu(), starts)
                raise UsageError(f"the model answered with {tuple(found)}: expected {expected}")
            patches = patches.to(self._slab.device)
            self._check_values(patches, starts)
            if patches.ndim == 4:
                patches = patches[:, None]
            for patch, start in zip(patches, starts.tolist(), strict=True):
                index = [self._numbers[axis][start[axis]] for axis in range(3)]
                first, end = self._slab.used[self._slab.outer][index[self._slab.outer]]
                if first > self._slab.first:
                    self._slab.advance(first, self._take)
                self._slab.add(probabilities(patch) if self._softmax else patch, index)
                self._layers.touch(first, end)
            lane.bound()

    def move_to_host(self) -> bool:
        """Goes on in the host's memory; returns whether that is news."""
        with self._lock, self._lane.running(None):
            if self._is_moved:
                return False
            self._is_moved = True
            self._slab.move_to_host()
            return True

    def _take(self, first: int, planes: torch.Tensor) -> None:
        """Sends finished planes to the sink; another thread waits for them."""
        outer = self._slab.outer
        count = planes.shape[outer + 1]
        if not self._layers.are_touched(first, first + count):
            return
        voxels = self._finisher(planes)
        if voxels.ndim > len(self._aggregator.shape):
            voxels = voxels[0]
        sent, arrived = self._lane.send_home(voxels)

        def put() -> None:
            arrived()
            self._layers.put(first, self._finisher.to_host(sent))

        self._waiting.append(self._sink.submit(put))
        while len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def _check_values(self, patches: torch.Tensor, starts: np.ndarray) -> None:
        """Finds NaN and infinite values; which patch has them is known a batch later."""
        nonfinite = self._nonfinite
        if nonfinite == "keep" or not patches.is_floating_point():
            return
        is_bad = patches.isnan() if nonfinite == "warn" else ~patches.isfinite()
        sent, arrived = self._lane.send_home(is_bad.flatten(1).any(1))
        self._checked.append(((sent, arrived), patches, starts))
        while len(self._checked) > (self._lane.depth if nonfinite == "warn" else 0):
            self._tell_values()

    def _tell_values(self) -> None:
        (sent, arrived), patches, starts = self._checked.popleft()
        arrived()
        for i in np.flatnonzero(sent.numpy()).tolist():
            # It warns, or refuses the patch; what it blends is replaced by what comes from here.
            self._aggregator.add(patches[i : i + 1].detach().cpu(), starts[i : i + 1])
            if self._nonfinite == "warn":
                self._checked.clear()
                self._nonfinite = "keep"
                return

    def needed(self) -> np.ndarray:
        """Starts of the patches that are missing."""
        return self._aggregator.needed()

    def finish(self) -> Any:
        """Sends the last planes and completes the result."""
        with self._lock, self._lane.running(None):
            self._slab.advance(self._aggregator.shape[-3:][self._slab.outer], self._take)
            while self._checked:
                self._tell_values()
        for waiting in self._waiting:
            waiting.result()
        self._layers.flush()
        self._sink.shutdown()
        return self._aggregator.finish()

    def close(self) -> None:
        """Releases unfinished work."""
        self._sink.shutdown(cancel_futures=True)
        self._aggregator.close()


class _Layers:
    """Collects finished planes until they are a layer of the aggregator's boxes."""

    def __init__(self, aggregator: Aggregator, outer: int) -> None:
        self._aggregator, self._outer = aggregator, outer
        self._depth = aggregator.box_size[outer]
        self._size = aggregator.shape[-3:][outer]
        self._touched = np.zeros(self._size, dtype=np.bool_)
        self._layer: np.ndarray | None = None
        self._first = 0

    def touch(self, first: int, end: int) -> None:
        """Marks planes that patches counted for."""
        self._touched[first:end] = True

    def are_touched(self, first: int, end: int) -> bool:
        """Whether any of the layers that have one of these planes was touched: the others were
        written by an earlier run, or have nothing that is predicted.
        """
        first -= first % self._depth
        return bool(self._touched[first : -(-end // self._depth) * self._depth].any())

    def put(self, first: int, voxels: np.ndarray) -> None:
        """Takes planes, ascending, and hands each layer that is complete to the aggregator."""
        axis = voxels.ndim - 3 + self._outer
        at, count = 0, voxels.shape[axis]
        while at < count:
            layer_first = (first + at) // self._depth * self._depth
            planes = min(self._depth, self._size - layer_first)
            if self._layer is None or self._first != layer_first:
                self.flush()
                shape = list(voxels.shape)
                shape[axis] = planes
                self._layer, self._first = np.zeros(shape, voxels.dtype), layer_first
            inside = first + at - layer_first
            some = min(count - at, planes - inside)
            np.moveaxis(self._layer, axis, 0)[inside : inside + some] = np.moveaxis(
                voxels, axis, 0
            )[at : at + some]
            at += some
            if inside + some == planes:
                self.flush()

    def flush(self) -> None:
        """Hands over the layer, whose planes are all there or count for nothing."""
        if self._layer is not None:
            start = [0, 0, 0]
            start[self._outer] = self._first
            self._aggregator.put(self._layer, start)
            self._layer = None


def _check(aggregator: Aggregator, blend: Blend, axes: Sequence[AxisWeights], least: float) -> None:
    """Raises where a slab would not give the host's result."""
    if blend.merge == "vote":
        raise Unfit('merge="vote"')
    if str(aggregator.dtype) not in WIRE_DTYPES:
        raise Unfit(f"dtype {aggregator.dtype}")
    dtype = blend.answers.dtype
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise Unfit(f"answers of {dtype}")
    if blend.merge != "mean" or blend.window == "crop":
        return
    most, quotient = 1, 1.0
    for _, used, weights in axes:
        starts = np.array([start for start, _ in used])
        most *= max(int(((starts <= s) & (s < [e for _, e in used])).sum()) for s in starts)
        quotient *= min(weights) / max(weights)
    if most > _MOST_PATCHES:
        raise Unfit(f"{most} patches count for one voxel, more than {_MOST_PATCHES}")
    if least == 0 and quotient < _LEAST_QUOTIENT:
        raise Unfit("a window whose weights differ by more than float32 holds")


def _bytes(
    axes: Sequence[AxisWeights], size: Sequence[int], channels: int, blend: Blend, least: float
) -> int:
    """Memory on the device: the slab, a copy of a channel of it, and temporary groups."""
    shape = list(size)
    shape[blend.outer] = depth_of(axes[blend.outer][1])
    plane = 4 * int(np.prod(shape))
    has_weights = (least > 0 or blend.skips) and blend.merge == "mean" and blend.window != "crop"
    return plane * (channels + 1 + has_weights) + 6 * GROUP_BYTES
