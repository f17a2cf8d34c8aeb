"""Runs a model over a whole volume: reading, model and blending overlap in time."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _native
from ._errors import UsageError
from ._types import Bytes, Finish, Margin, NonFinite, Padding, Path, Placement, Size, Window
from ._values import real_values

# Batches that are read before the model needs them, and batches that wait to be blended.
_AHEAD = 2
_BEHIND = 2


def infer(
    model: Callable[[np.ndarray], Any],
    volume: _native.Volume | _native.ScaledVolume,
    patch_size: Size,
    overlap: float | Sequence[int] = 0.5,
    out: Path | Mapping[str, Path] | None = None,
    batch_size: int = 4,
    window: Window | Mapping[str, Window] = "hann",
    progress: bool | Callable[[int, int], None] = False,
    *,
    dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
    finish: Finish | Mapping[str, Finish] = "none",
    padding: Padding = None,
    placement: Placement = "flush",
    margin: Margin = "none",
    memory_bytes: Bytes = "1GiB",
    nonfinite: NonFinite = "keep",
    resume: bool | str = True,
    threads: int | None = None,
    scaled: bool = True,
) -> Any:
    """Slides ``model`` over ``volume`` and blends its predictions.

    One thread reads the next patches and another blends the last predictions while the model runs.
    Memory is one layer of patches and a few batches.

    Args:
        model: Called with patches ``(n, c, z, y, x)`` in the volume's dtype, or float32 for real
            values, where ``c`` is 1 for a volume without channels; the last batch may be smaller.
            Returns ``(n, k, z, y, x)``, or ``(n, z, y, x)`` for a result without channels, as an
            array or a CPU tensor; or a dict of them. Its resolution may be a whole multiple or
            fraction of the patch's. The array of patches is reused once its prediction is blended,
            unless the model keeps a reference.
        volume: The volume to read; a ``ScaledVolume`` chooses the type of real values.
        patch_size: An int or ``(z, y, x)``.
        overlap: Voxels, an int or ``(z, y, x)``; or a fraction of the patch, a float below 1.
        out: ``"STORE/SUBJECT/VOLUME"``, or ``None`` for an array; a dict of paths where the model
            returns a dict.
        batch_size: Patches for each call of the model.
        window: As for :class:`Aggregator`.
        progress: ``True`` writes a line to standard error; a function is called with the number of
            patches done and of all patches.
        dtype: Dtype of the result, as for :class:`Aggregator`; by default float32, or the dtype
            that ``finish`` gives.
        finish: As for :class:`Aggregator`. ``dtype``, ``finish`` and ``window`` may be dicts with a
            value for each prediction.
        padding: How patches that leave the volume are read; required where the volume is smaller
            than a patch.
        placement: As for :class:`GridSampler`.
        margin: As for :class:`GridSampler`.
        memory_bytes: Memory for unfinished voxels of each result, as for :class:`Aggregator`.
        nonfinite: As for :class:`Aggregator`.
        resume: With ``out``, the same arguments continue the work of a run that was killed: only
            patches that are still needed are computed, and the first batch, which shows the shape
            of the predictions. A text, such as the model's name, is one more argument that has to
            be the same. ``False`` starts again.
        threads: Threads that blend and encode; all cores by default.
        scaled: Give the model real values, stored value × slope + intercept, as float32, where the
            volume has a slope or an intercept. ``False`` gives stored values.

    Returns:
        An array or the volume at ``out``, or a dict of them.

    Raises:
        UsageError: Invalid arguments; predictions whose shape differs from the first; unfinished
            work that was begun with other arguments.
        DataError: The volume is damaged.
        StorageError: The result cannot be written.
    """
    if scaled and isinstance(volume, _native.Volume):
        volume = real_values(volume)
    if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
        raise UsageError(f"batch_size {batch_size}: expected an int of at least 1")
    grid = _native.GridSampler(
        patch_size, overlap=overlap, padding=padding, placement=placement, margin=margin
    )
    # A volume that was replaced by one of the same name has another content.
    user_note = resume if isinstance(resume, str) else ""
    note = f"{user_note}|{volume!r}|{volume.content_id}|{padding!r}"
    run = _Run(
        model=model,
        volume=volume,
        grid=grid,
        out=out,
        batch_size=int(batch_size),
        window=window,
        dtype=dtype,
        finish=finish,
        memory_bytes=memory_bytes,
        nonfinite=nonfinite,
        threads=threads,
        resume=note if resume is not False else False,
    )
    return run(_reporter(progress))


@dataclass(kw_only=True)
class _Run:
    """One call of :func:`infer`."""

    model: Callable[[np.ndarray], Any]
    volume: _native.Volume | _native.ScaledVolume
    grid: _native.GridSampler
    out: Path | Mapping[str, Path] | None
    batch_size: int
    window: Window | Mapping[str, Window]
    dtype: DTypeLike | Mapping[str, DTypeLike] | None
    finish: Finish | Mapping[str, Finish]
    memory_bytes: Bytes
    nonfinite: NonFinite
    threads: int | None
    resume: str | bool
    # One for each prediction by name, created with the first batch; ``None`` names a single one.
    aggregators: dict[str | None, _native.Aggregator] = field(default_factory=dict, init=False)
    buffers: _Buffers = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.batch_size, *self.volume.shape[:-3], *self.grid.patch_size)
        self.buffers = _Buffers(shape, self.volume.dtype)

    def __call__(self, report: Callable[[int, int], None]) -> Any:
        try:
            return self._run(report)
        except BaseException:
            # A notebook keeps the last traceback and with it this object, which would keep the
            # unfinished work locked: the same call has to be able to continue it.
            for aggregator in self.aggregators.values():
                aggregator.close()
            raise

    def _run(self, report: Callable[[int, int], None]) -> Any:
        starts = _ordered(
            self.grid.locations(self.volume),
            self.volume.shape[-3:],
            self.grid.patch_size,
            self.finish,
        )
        starts, done = self._first(starts)
        report(done, done + len(starts))
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as blender:
            try:
                self._slide(starts, done, reader, blender, report)
            finally:
                reader.shutdown(cancel_futures=True)
                blender.shutdown(cancel_futures=True)
        results = {name: aggregator.finish() for name, aggregator in self.aggregators.items()}
        return results.get(None, results)

    def _first(self, starts: np.ndarray) -> tuple[np.ndarray, int]:
        """Runs the model on the first batch, which shows the shape of the results, and creates the
        aggregators. Returns the starts that are left and how many patches are done.
        """
        first = starts[: self.batch_size]
        patches = self._read(first)
        predictions = self._predict(patches[: len(first)])
        self._create_aggregators(predictions, len(first))
        needed = {tuple(start) for a in self.aggregators.values() for start in a.needed().tolist()}
        is_needed = np.array([tuple(start) in needed for start in starts.tolist()])
        if not is_needed[: len(first)].all():
            return starts[is_needed], 0
        self._blend(predictions, first, patches)
        return starts[len(first) :][is_needed[len(first) :]], len(first)

    def _predict(self, patches: np.ndarray) -> dict[str | None, Any]:
        return _named(self.model(patches if self.volume.ndim == 4 else patches[:, None]))

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
        behind: deque[Future[None]] = deque()
        total = done + len(starts)

        def read_next() -> None:
            if (batch := next(batches, None)) is not None:
                ahead.append((batch, reader.submit(self._read, batch)))

        for _ in range(_AHEAD):
            read_next()
        while ahead:
            batch, reading = ahead.popleft()
            patches = reading.result()
            del reading
            read_next()
            predictions = self._predict(patches[: len(batch)])
            behind.append(blender.submit(self._blend, predictions, batch, patches))
            del patches, predictions
            if len(behind) > _BEHIND:
                behind.popleft().result()
            done += len(batch)
            report(done, total)
        for blending in behind:
            blending.result()

    def _read(self, batch: np.ndarray) -> np.ndarray:
        buffer = self.buffers.take()
        self.volume.read_batch(
            batch, self.grid.patch_size, out=buffer[: len(batch)], padding=self.grid.padding
        )
        return buffer

    def _blend(
        self, predictions: dict[str | None, Any], batch: np.ndarray, patches: np.ndarray
    ) -> None:
        if predictions.keys() != self.aggregators.keys():
            raise UsageError(
                f"the model answered with {sorted(map(str, predictions))}, expected"
                f" {sorted(map(str, self.aggregators))} as for the first batch"
            )
        for name, aggregator in self.aggregators.items():
            aggregator.add(predictions.pop(name), batch)
        self.buffers.give(patches)

    def _create_aggregators(self, predictions: Mapping[str | None, Any], count: int) -> None:
        """Creates an aggregator for each prediction of the first batch of ``count`` patches."""
        for name, prediction in predictions.items():
            shape = tuple(prediction.shape)
            if len(shape) not in (4, 5) or shape[0] != count:
                expected = f"({count}, k, z, y, x) or ({count}, z, y, x)"
                raise UsageError(
                    f"the model answered with shape {shape} for {count} patches:"
                    f" expected {expected}"
                )
            self.aggregators[name] = _native.Aggregator(
                self.grid,
                self.volume,
                channels=shape[1] if len(shape) == 5 else None,
                dtype=_of(self.dtype, name),
                window=_of(self.window, name),
                out=self._path(name),
                memory_bytes=self.memory_bytes,
                finish=_of(self.finish, name),
                threads=self.threads,
                scale=[n / p for n, p in zip(shape[-3:], self.grid.patch_size, strict=True)],
                nonfinite=self.nonfinite,
                resume=self.resume if self.out is not None else False,
            )

    def _path(self, name: str | None) -> Path | None:
        """The path in ``out`` for a prediction."""
        if not isinstance(self.out, Mapping):
            if self.out is not None and name is not None:
                raise UsageError(f"out {self.out!r}: a dict of predictions needs a dict of paths")
            return self.out
        if name is None:
            raise UsageError(f"out {self.out!r}: a single prediction needs a single path")
        if name not in self.out:
            raise UsageError(f"out {self.out!r}: expected a path for the prediction {name!r}")
        return self.out[name]


class _Buffers:
    """Arrays for batches, reused when nothing refers to them: new memory costs a page fault for
    each page.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self.idle: deque[np.ndarray] = deque(maxlen=_AHEAD + _BEHIND + 2)

    def take(self) -> np.ndarray:
        while self.idle:
            buffer = self.idle.popleft()
            # Out of the deque, only this name and the call's argument may refer to it.
            if sys.getrefcount(buffer) <= 2:
                return buffer
        return np.empty(self.shape, self.dtype)

    def give(self, buffer: np.ndarray) -> None:
        self.idle.append(buffer)


def _named(predictions: Any) -> dict[str | None, Any]:
    """Predictions by name; a single one is named ``None``."""
    if isinstance(predictions, Mapping):
        return {str(name): _array(prediction) for name, prediction in predictions.items()}
    return {None: _array(predictions)}


def _array(prediction: Any) -> Any:
    return prediction if hasattr(prediction, "shape") else np.asarray(prediction)


def _of(value: Any, name: str | None) -> Any:
    """The value of an option for a prediction."""
    return value[name] if isinstance(value, Mapping) else value


def _ordered(
    starts: np.ndarray,
    size: Sequence[int],
    patch: Sequence[int],
    finish: Finish | Mapping[str, Finish],
) -> np.ndarray:
    """The grid's patches in the order in which unfinished voxels take least memory.

    A layer of patches is smallest across the axis that is longest in patches. But a result that is
    written in another order than that of its shards is held encoded until a shard is complete, so
    the order changes only for labels, which are small beside their sums.
    """
    finishes = finish.values() if isinstance(finish, Mapping) else [finish]
    if not all(isinstance(f, str) and f.endswith("argmax") for f in finishes):
        return starts
    outer = max(range(3), key=lambda axis: (size[axis] / patch[axis], -axis))
    rest = [axis for axis in range(3) if axis != outer]
    return starts[np.lexsort([starts[:, axis] for axis in (*reversed(rest), outer)])]


def _reporter(progress: bool | Callable[[int, int], None]) -> Callable[[int, int], None]:
    if callable(progress):
        return progress
    if not progress:
        return lambda done, total: None

    def line(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} patches", end=end, file=sys.stderr, flush=True)

    return line
