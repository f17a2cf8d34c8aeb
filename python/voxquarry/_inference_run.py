"""One inference: reads ahead, asks the model and blends behind it."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _native
from ._answers import head, heads, is_number, named, of, shape_of, whole_dtype
from ._errors import Error, UsageError
from ._regions import Region, margins_of, margins_shown
from ._stage import Blend, Blender, Stage
from ._types import Bytes, Finish, Head, Merge, NonFinite, Path, Scale, Window

# Batches that are read before the model needs them, and batches that wait to be blended.
_AHEAD = 2
_BEHIND = 2
# Patches that a server is asked for before they are read: as many as hide its latency, by their
# voxels, most of which overlap.
_FETCHED_BYTES = 256 << 20
_FETCHED_PATCHES = (32, 1024)


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
    #: The number of this part and of all, of a result that several processes compute.
    part: tuple[int, int] | None
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
        batches, done = self._first()
        total = done + sum(len(batch.starts) for batch in batches)
        report(done, total)
        with (
            ThreadPoolExecutor(1) as fetcher,
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as blender,
        ):
            try:
                self._slide(self._fetched(batches, fetcher), done, total, reader, blender, report)
            finally:
                for thread in (fetcher, reader, blender):
                    thread.shutdown(cancel_futures=True)
        results = {name: aggregator.finish() for name, aggregator in self.aggregators.items()}
        if self.part is not None:
            return None
        if all(isinstance(name, int) for name in results):
            return list(results.values())
        return results.get(None, results)

    def _starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts of the patches that are wanted, in the order of the work, and those of others."""
        starts = ordered(self.grid.locations(self.space), self._outer())
        is_wanted = self.region.wants(starts, self.grid.patch_size)
        return starts[is_wanted], starts[~is_wanted]

    def _first(self) -> tuple[list[_Batch], int]:
        """Runs the model on a first batch, which shows the shape of the results, and creates the
        aggregators. Returns the batches that are left and how many patches are done.
        """
        starts, skipped, first, shapes = self._try()
        if margins := margins_shown(shapes, self.patch_size, self.scale, self.valid, self.margins):
            self._set_margins(margins)
            starts, skipped, first, shapes = self._try()
        assert first.patches is not None
        for name, prediction in first.predictions.items():
            whole = whole_dtype(prediction)
            if self.part is not None:
                self._refuse_unstated(name, whole)
                whole = None
            elif whole is not None and is_number(prediction, first.patches[: len(first.starts)]):
                whole = None
            self.aggregators[name] = self._aggregator(name, whole, prediction, skipped)
        needed = {tuple(start) for a in self.aggregators.values() for start in a.needed().tolist()}
        is_needed = np.array([tuple(start) in needed for start in starts.tolist()])
        at = self._first_of(starts)
        is_first = np.zeros(len(starts), np.bool_)
        is_first[at : at + len(first.starts)] = True
        held = first.only(is_needed[is_first])
        before = self._batches(starts[:at][is_needed[:at]])
        after = self._batches(starts[at:][(is_needed & ~is_first)[at:]])
        if self.part is not None:
            # Sums depend on the order of patches, so what was tried waits for its turn.
            return [*before, *([held] if len(held.starts) else []), *after], 0
        if len(held.starts) < len(first.starts):
            # Batches are those of a run that was not interrupted, as far as they can be.
            return self._batches(starts[is_needed]), 0
        self._blend(first.predictions, first.starts, first.patches)
        return after, len(first.starts)

    def _first_of(self, starts: np.ndarray) -> int:
        """The number of the first patch of the batch that is tried: of a part one in its middle,
        which is likely to be one of its own.
        """
        if self.part is None:
            return 0
        number, count = self.part
        middle = (2 * (number % count) + 1) * len(starts) // (2 * count)
        return max(0, min(middle, len(starts) - self.batch_size))

    def _batches(self, starts: np.ndarray) -> list[_Batch]:
        step = self.batch_size
        return [_Batch(starts[n : n + step]) for n in range(0, len(starts), step)]

    def _refuse_unstated(self, name: Head | None, whole: str | None) -> None:
        """Refuses whole numbers of which nobody says what they become: each part would decide it
        by its own patches.
        """
        if whole is not None and of(self.finish, name) == "none" and of(self.dtype, name) is None:
            raise UsageError(
                f"part: {head(name)} has {whole} voxels: state the dtype of the result"
                f' (dtype="{whole}"), which a run without parts infers from their values'
            )

    def _try(
        self,
    ) -> tuple[np.ndarray, np.ndarray, _Batch, dict[Head | None, tuple[int, ...]]]:
        """The starts of the grid, wanted ones and others, and the first batch with its predictions
        and their shapes.
        """
        starts, skipped = self._starts()
        at = self._first_of(starts)
        first = starts[at : at + self.batch_size]
        patches = self._read(first)
        predictions = self._predict(patches[: len(first)])
        shapes = {name: shape_of(answer, len(first)) for name, answer in predictions.items()}
        return starts, skipped, _Batch(first, patches, predictions), shapes

    def _predict(self, patches: np.ndarray) -> dict[Head | None, Any]:
        return named(self._ask(patches)())

    def _ask(self, patches: np.ndarray) -> Callable[[], Any]:
        return self.stage.ask(patches if patches.ndim == 5 else patches[:, None])

    def _fetched(self, batches: Sequence[_Batch], fetcher: ThreadPoolExecutor) -> Iterator[_Batch]:
        """The batches; of a store behind a URL, the chunks of later ones are asked for before."""
        if not self.volume.is_remote:
            yield from batches
            return
        patch_bytes = self.volume.dtype.itemsize * math.prod(self.buffers.shape[1:])
        least, most = _FETCHED_PATCHES
        patches = max(least, min(most, _FETCHED_BYTES // patch_bytes))
        ahead = -(-patches // self.batch_size)
        asked = 0
        for number, batch in enumerate(batches):
            # In steps, which join neighbouring chunks into one request.
            if asked < len(batches) and asked - number <= ahead // 2:
                later = batches[asked : number + ahead]
                asked = number + ahead
                fetcher.submit(self._fetch, np.concatenate([each.starts for each in later]))
            yield batch

    def _fetch(self, starts: np.ndarray) -> None:
        # What goes wrong is the error of the read that follows.
        with suppress(Error):
            chosen: dict[str, Any] = {} if self.channels is None else {"channels": self.channels}
            self.volume.read_ahead(starts - np.array(self.margins), self.patch_size, **chosen)

    def _slide(
        self,
        work: Iterable[_Batch],
        done: int,
        total: int,
        reader: ThreadPoolExecutor,
        blender: ThreadPoolExecutor,
        report: Callable[[int, int], None],
    ) -> None:
        batches = iter(work)
        ahead: deque[tuple[_Batch, Future[np.ndarray] | None]] = deque()
        asked: deque[tuple[np.ndarray, np.ndarray, Callable[[], Any]]] = deque()
        behind: deque[Future[None]] = deque()

        def read_next() -> None:
            if (batch := next(batches, None)) is not None:
                is_read = batch.patches is not None
                reading = None if is_read else reader.submit(self._read, batch.starts)
                ahead.append((batch, reading))

        def ask_next() -> None:
            batch, reading = ahead.popleft()
            if reading is None:
                assert batch.patches is not None
                read_next()
                asked.append((batch.starts, batch.patches, lambda: batch.predictions))
                return
            patches = reading.result()
            read_next()
            answers = self._ask(patches[: len(batch.starts)])
            asked.append((batch.starts, patches, lambda: named(answers())))

        for _ in range(_AHEAD + self.stage.width - 1):
            read_next()
        while ahead or asked:
            while ahead and len(asked) < self.stage.width:
                ask_next()
            starts, patches, answers = asked.popleft()
            predictions = answers()
            behind.append(blender.submit(self._blend, predictions, starts, patches))
            del patches, predictions, answers
            if len(behind) > _BEHIND:
                behind.popleft().result()
            done += len(starts)
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
            part=self.part,
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


@dataclass
class _Batch:
    """Patches that the model is asked about together."""

    #: ``(n, 3)``.
    starts: np.ndarray
    #: Read already, and answered; patches that are still to be read have none.
    patches: np.ndarray | None = None
    predictions: dict[Head | None, Any] = field(default_factory=dict)

    def only(self, chosen: np.ndarray) -> _Batch:
        """Some of the patches, and their answers."""
        if chosen.all():
            return self
        at = np.flatnonzero(chosen).tolist()
        kept = {name: answers[at] for name, answers in self.predictions.items()}
        return _Batch(self.starts[chosen], self.patches, kept)


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
