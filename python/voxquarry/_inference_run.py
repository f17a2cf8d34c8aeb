"""One inference: reads ahead, asks the model and blends behind it."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _native
from ._answers import head, heads, is_number, named, of, shape_of, whole_dtype
from ._errors import UsageError
from ._regions import Region, margins_of, margins_shown
from ._stage import Blend, Blender, Stage
from ._types import Bytes, Finish, Head, Merge, NonFinite, Path, Scale, Window

# Batches that are read before the model needs them, and batches that wait to be blended.
_AHEAD = 2
_BEHIND = 2


@dataclass(kw_only=True)
class Run:
    """One call of :func:`infer`."""

    stage: Stage
    volume: Any
    #: The grid of the answers.
    grid: _native.GridSampler
    laid: Callable[[Sequence[int]], _native.GridSampler]
    region: Region
    merge: Merge | Mapping[Head, Merge]
    outside: float
    scale: Scale | Mapping[Head, Scale] | None
    valid: bool | int | Sequence[int] | None
    channels: list[int] | None
    out: Any
    batch_size: int
    window: Window | Mapping[Head, Window]
    dtype: DTypeLike | Mapping[Head, DTypeLike] | None
    finish: Finish | Mapping[Head, Finish]
    memory_bytes: Bytes
    nonfinite: NonFinite
    threads: int | None
    resume: str | bool
    # One for each prediction by name, created with the first batch; ``None`` names a single one.
    aggregators: dict[Head | None, Blender] = field(default_factory=dict, init=False)
    buffers: Buffers = field(init=False)
    #: Voxels that patches are larger than answers, in front and behind.
    margins: tuple[int, ...] = field(default=(0, 0, 0), init=False)
    patch_size: tuple[int, int, int] = field(init=False)

    @property
    def space(self) -> Any:
        """What the grid covers: a volume, or the extents of a view."""
        is_stored = isinstance(self.volume, _native.Volume | _native.ScaledVolume)
        return self.volume if is_stored else tuple(self.volume.shape[-3:])

    def __post_init__(self) -> None:
        self.patch_size = self.grid.patch_size
        axis = self.volume.shape[:-3] if self.channels is None else (len(self.channels),)
        shape = (self.batch_size, *axis, *self.patch_size)
        self.buffers = Buffers(shape, self.volume.dtype, self.stage.empty)
        if self.valid is not None and not isinstance(self.valid, bool):
            self._set_margins(margins_of(self.valid, self.patch_size))

    def _set_margins(self, margins: tuple[int, ...]) -> None:
        """Lays the grid of answers that are smaller than patches."""
        if self.grid.padding is None:
            raise UsageError(
                f"valid: patches reach {margins} voxels (z, y, x) beyond the volume: choose a"
                ' padding (padding=0, "edge" or "reflect")'
            )
        self.margins, self.grid = margins, self.laid(margins)

    def __call__(self, report: Callable[[int, int], None]) -> Any:
        try:
            return self._run(report)
        except BaseException:
            # A notebook keeps the last traceback and with it this object, which would keep the
            # unfinished work locked: the same call has to be able to continue it.
            for aggregator in self.aggregators.values():
                aggregator.close()
            raise
        finally:
            self.stage.close()

    def _run(self, report: Callable[[int, int], None]) -> Any:
        starts, done = self._first()
        report(done, done + len(starts))
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as blender:
            try:
                self._slide(starts, done, reader, blender, report)
            finally:
                reader.shutdown(cancel_futures=True)
                blender.shutdown(cancel_futures=True)
        results = {name: aggregator.finish() for name, aggregator in self.aggregators.items()}
        if all(isinstance(name, int) for name in results):
            return list(results.values())
        return results.get(None, results)

    def _starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts of the patches that are wanted, in the order of the work, and those of others."""
        starts = ordered(self.grid.locations(self.space), self._outer())
        is_wanted = self.region.wants(starts, self.grid.patch_size)
        return starts[is_wanted], starts[~is_wanted]

    def _first(self) -> tuple[np.ndarray, int]:
        """Runs the model on the first batch, which shows the shape of the results, and creates the
        aggregators. Returns the starts that are left and how many patches are done.
        """
        starts, skipped, patches, predictions, shapes = self._try()
        if margins := margins_shown(shapes, self.patch_size, self.scale, self.valid, self.margins):
            self._set_margins(margins)
            starts, skipped, patches, predictions, shapes = self._try()
        first = starts[: self.batch_size]
        for name, prediction in predictions.items():
            whole = whole_dtype(prediction)
            if whole is not None and is_number(prediction, patches[: len(first)]):
                whole = None
            self.aggregators[name] = self._aggregator(name, whole, prediction, skipped)
        needed = {tuple(start) for a in self.aggregators.values() for start in a.needed().tolist()}
        is_needed = np.array([tuple(start) in needed for start in starts.tolist()])
        if not is_needed[: len(first)].all():
            return starts[is_needed], 0
        self._blend(predictions, first, patches)
        return starts[len(first) :][is_needed[len(first) :]], len(first)

    def _try(
        self,
    ) -> tuple[
        np.ndarray,
        np.ndarray,
        np.ndarray,
        dict[Head | None, Any],
        dict[Head | None, tuple[int, ...]],
    ]:
        """The starts of the grid, wanted ones and others, and the patches, predictions and their
        shapes of the first batch.
        """
        starts, skipped = self._starts()
        first = starts[: self.batch_size]
        patches = self._read(first)
        predictions = self._predict(patches[: len(first)])
        shapes = {name: shape_of(answer, len(first)) for name, answer in predictions.items()}
        return starts, skipped, patches, predictions, shapes

    def _predict(self, patches: np.ndarray) -> dict[Head | None, Any]:
        return named(self._ask(patches)())

    def _ask(self, patches: np.ndarray) -> Callable[[], Any]:
        return self.stage.ask(patches if patches.ndim == 5 else patches[:, None])

    def _slide(
        self,
        starts: np.ndarray,
        done: int,
        reader: ThreadPoolExecutor,
        blender: ThreadPoolExecutor,
        report: Callable[[int, int], None],
    ) -> None:
        batches = iter(
            starts[n : n + self.batch_size] for n in range(0, len(starts), self.batch_size)
        )
        ahead: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()
        asked: deque[tuple[np.ndarray, np.ndarray, Callable[[], Any]]] = deque()
        behind: deque[Future[None]] = deque()
        total = done + len(starts)

        def read_next() -> None:
            if (batch := next(batches, None)) is not None:
                ahead.append((batch, reader.submit(self._read, batch)))

        def ask_next() -> None:
            batch, reading = ahead.popleft()
            patches = reading.result()
            read_next()
            asked.append((batch, patches, self._ask(patches[: len(batch)])))

        for _ in range(_AHEAD + self.stage.width - 1):
            read_next()
        while ahead or asked:
            while ahead and len(asked) < self.stage.width:
                ask_next()
            batch, patches, answers = asked.popleft()
            predictions = named(answers())
            behind.append(blender.submit(self._blend, predictions, batch, patches))
            del patches, predictions, answers
            if len(behind) > _BEHIND:
                behind.popleft().result()
            done += len(batch)
            report(done, total)
        for blending in behind:
            blending.result()

    def _read(self, batch: np.ndarray) -> np.ndarray:
        buffer = self.buffers.take()
        chosen: dict[str, Any] = {} if self.channels is None else {"channels": self.channels}
        self.volume.read_batch(
            batch - np.array(self.margins),
            self.patch_size,
            out=buffer[: len(batch)],
            padding=self.grid.padding,
            **chosen,
        )
        return buffer

    def _blend(
        self, predictions: dict[Head | None, Any], batch: np.ndarray, patches: np.ndarray
    ) -> None:
        if predictions.keys() != self.aggregators.keys():
            raise UsageError(
                f"the model answered with {heads(predictions)}, expected"
                f" {heads(self.aggregators)} as for the first batch"
            )
        for name, aggregator in self.aggregators.items():
            aggregator.add(predictions.pop(name), batch)
        self.stage.release(patches)
        self.buffers.give(patches)

    def _aggregator(
        self, name: Head | None, classes: str | None, answers: Any, skipped: np.ndarray
    ) -> Blender:
        """What blends a head, of which ``answers`` are the first predictions.

        ``classes`` is their type if they may be classes.
        """
        shape = tuple(answers.shape)
        window, finish, merge = (of(v, name) for v in (self.window, self.finish, self.merge))
        dtype = of(self.dtype, name)
        if finish == "none" and classes is not None:
            is_number = dtype is not None and np.dtype(dtype).kind == "f"
            if merge == "mean" and not is_number and window != "crop":
                raise UsageError(
                    f"{head(name)} has {classes} voxels, and a mean would make numbers of"
                    ' classes: blend scores (finish="argmax"), keep one patch a voxel'
                    ' (window="crop") or let patches vote (merge="vote"); if they are numbers, ask'
                    ' for dtype="float32"'
                )
            dtype = classes if dtype is None else dtype
        aggregator = _native.Aggregator(
            self.grid,
            self.space,
            channels=shape[1] if len(shape) == 5 else None,
            dtype=dtype,
            window=window,
            out=self._path(name),
            memory_bytes=self.memory_bytes,
            finish=finish,
            threads=self.threads,
            scale=[n / p for n, p in zip(shape[-3:], self.grid.patch_size, strict=True)],
            nonfinite=self.nonfinite,
            resume=self.resume if self.out is not None else False,
            merge=merge,
            mask=self.region.voxels,
            skipped=skipped if len(skipped) else None,
            outside=self.outside,
        )
        starts = self.grid.locations(self.space)
        blend = Blend(
            name=name,
            answers=answers,
            finish=finish,
            merge=merge,
            window=window,
            nonfinite=self.nonfinite,
            starts=starts,
            outer=self._outer(),
            skips=len(skipped) > 0,
        )
        return self.stage.blender(aggregator, blend)

    def _outer(self) -> int:
        """The axis along which patches come last."""
        return outer_axis(self.volume.shape[-3:], self.grid.patch_size, self.finish)

    def _path(self, name: Head | None) -> Path | None:
        """The path in ``out`` for a head."""
        out = self.out
        if out is None:
            return None
        if callable(out):
            chosen: Path = out(name)
            return chosen
        if isinstance(out, str | os.PathLike):
            if name is not None:
                raise UsageError(f"out {out!r}: several predictions need as many paths")
            return out
        if name is None:
            raise UsageError(f"out {out!r}: a single prediction needs a single path")
        paths: Mapping[Head, Path] = out if isinstance(out, Mapping) else dict(enumerate(out))
        if name not in paths:
            raise UsageError(f"out {out!r}: expected a path for {head(name)}")
        return paths[name]


class Buffers:
    """Arrays for batches, reused when nothing refers to them: new memory costs a page fault for
    each page.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        empty: Callable[[tuple[int, ...], np.dtype[Any]], np.ndarray],
    ) -> None:
        self.shape, self.dtype, self.empty = shape, dtype, empty
        self.idle: deque[np.ndarray] = deque(maxlen=_AHEAD + _BEHIND + 2)

    def take(self) -> np.ndarray:
        while self.idle:
            buffer = self.idle.popleft()
            # Out of the deque, only this name and the call's argument may refer to it.
            if sys.getrefcount(buffer) <= 2:
                return buffer
        return self.empty(self.shape, self.dtype)

    def give(self, buffer: np.ndarray) -> None:
        self.idle.append(buffer)


def outer_axis(
    size: Sequence[int], patch: Sequence[int], finish: Finish | Mapping[Head, Finish]
) -> int:
    """The axis along which patches come last, so that unfinished voxels take least memory.

    A layer of patches is smallest across the axis that is longest in patches. But a result that is
    written in another order than that of its shards is held encoded until a shard is complete, so
    the order changes only for labels, which are small beside their sums.
    """
    finishes = finish.values() if isinstance(finish, Mapping) else [finish]
    if not all(isinstance(f, str) and f.endswith("argmax") for f in finishes):
        return 0
    return max(range(3), key=lambda axis: (size[axis] / patch[axis], -axis))


def ordered(starts: np.ndarray, outer: int) -> np.ndarray:
    """The grid's patches, in whose order ``outer`` changes last."""
    rest = [axis for axis in range(3) if axis != outer]
    return starts[np.lexsort([starts[:, axis] for axis in (*reversed(rest), outer)])]
