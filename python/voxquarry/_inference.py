"""Runs a model over a whole volume: reading, model and blending overlap in time."""

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
from ._errors import UsageError
from ._regions import Mask, Region, margins_of, margins_shown
from ._types import (
    Bytes,
    Channels,
    Finish,
    Head,
    Margin,
    Merge,
    NonFinite,
    Padding,
    Path,
    Placement,
    Scale,
    Size,
    Window,
)
from ._values import real_values

# Batches that are read before the model needs them, and batches that wait to be blended.
_AHEAD = 2
_BEHIND = 2
# More than a segmentation has: integers of more values are numbers.
_MOST_CLASSES = 128


def infer(
    model: Callable[[np.ndarray], Any],
    volume: _native.Volume | _native.ScaledVolume,
    patch_size: Size,
    overlap: float | Sequence[int] = 0.5,
    out: Path | Sequence[Path] | Mapping[Head, Path] | None = None,
    batch_size: int = 4,
    window: Window | Mapping[Head, Window] = "hann",
    progress: bool | Callable[[int, int], None] = False,
    *,
    dtype: DTypeLike | Mapping[Head, DTypeLike] | None = None,
    finish: Finish | Mapping[Head, Finish] = "none",
    merge: Merge | Mapping[Head, Merge] = "mean",
    mask: Mask = None,
    outside: float = 0.0,
    scale: Scale | Mapping[Head, Scale] | None = None,
    valid: bool | int | Sequence[int] | None = None,
    channels: Channels | None = None,
    padding: Padding = None,
    placement: Placement = "flush",
    margin: Margin = "none",
    memory_bytes: Bytes = "1GiB",
    nonfinite: NonFinite = "warn",
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
            array or a CPU tensor; or a dict, list or tuple of them, its heads. Its resolution may
            be a whole multiple of the patch's, with ``scale`` a fraction, and with ``valid`` it may
            answer only for the middle of a patch. The array of patches is reused once its
            prediction is blended, unless the model keeps a reference.
        volume: The volume to read; a ``ScaledVolume`` chooses the type of real values.
        patch_size: An int or ``(z, y, x)``.
        overlap: Voxels, an int or ``(z, y, x)``; or a fraction of the patch, a float below 1.
        out: ``"STORE/SUBJECT/VOLUME"``, or ``None`` for an array; a dict or a list of paths where
            the model returns one.
        batch_size: Patches for each call of the model.
        window: As for :class:`Aggregator`.
        progress: ``True`` writes a line to standard error; a function is called with the number of
            patches done and of all patches.
        dtype: Dtype of the result, as for :class:`Aggregator`; by default float32, or the dtype
            that ``finish`` gives.
        finish: As for :class:`Aggregator`. ``dtype``, ``finish``, ``window``, ``merge`` and
            ``scale`` may be dicts with a value for each head, by its name or its number.
        merge: ``"mean"``, ``"max"``, ``"min"`` or ``"vote"``, as for :class:`Aggregator`. Integers
            and booleans, which may be classes, have no mean unless ``dtype`` is a float. Integers
            of the patches' own type are taken for numbers if they are the patches themselves, or
            have more than 128 values.
        mask: What is predicted: a volume or an array ``(z, y, x)`` on the same grid, where it is
            not 0; a box ``(z0, y0, x0, z1, y1, x1)``; or a function that is called with the box of
            each patch, and whose answer says whether it is wanted. Other patches are neither read
            nor given to the model.
        outside: The value of what is not predicted.
        scale: Voxels of the answer for each voxel of a patch, a number or ``(z, y, x)``, as for
            :class:`Aggregator`; ``None``: the answer shows it, unless it is smaller than the patch.
        valid: The model answers for the middle of each patch alone, as without padding in its
            convolutions: ``True``, or the voxels of the margin. Patches then overlap by their
            answers, and margins are read from the neighbours, and beyond the volume as ``padding``
            says. ``False``: it does not; ``None``: only if the answer can be nothing else.
        channels: The channels that the model gets, an int or a list; by default all.
        padding: How patches that leave the volume are read; required where the volume is smaller
            than a patch.
        placement: As for :class:`GridSampler`.
        margin: As for :class:`GridSampler`.
        memory_bytes: Memory for unfinished voxels of each result, as for :class:`Aggregator`.
        nonfinite: As for :class:`Aggregator`; by default one warning says where the first NaN is.
        resume: With ``out``, the same arguments continue the work of a run that was killed: only
            patches that are still needed are computed, and the first batch, which shows the shape
            of the predictions. A text, such as the model's name, is one more argument that has to
            be the same. ``False`` starts again.
        threads: Threads that blend and encode; all cores by default.
        scaled: Give the model real values, stored value × slope + intercept, as float32, where the
            volume has a slope or an intercept. ``False`` gives stored values.

    Returns:
        An array or the volume at ``out``, or a dict or list of them.

    Raises:
        UsageError: Invalid arguments; a mask of another grid; predictions whose shape or heads
            differ from the first; integers whose mean is asked for; a smaller answer that may be a
            coarser one or the middle of a patch; unfinished work that was begun with other
            arguments.
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
    chosen = None if channels is None else np.atleast_1d(np.asarray(channels)).tolist()
    # A volume that was replaced by one of the same name has another content.
    user_note = resume if isinstance(resume, str) else ""
    note = f"{user_note}|{volume!r}|{volume.content_id}|{padding!r}"
    note += "" if chosen is None else f"|channels {chosen}"

    def laid(margins: Sequence[int]) -> _native.GridSampler:
        """The grid of the answers, each smaller than a patch by the margins."""
        size = [p - 2 * m for p, m in zip(grid.patch_size, margins, strict=True)]
        return _native.GridSampler(
            size, overlap=overlap, padding=padding, placement=placement, margin=margin
        )

    run = _Run(
        model=model,
        volume=volume,
        grid=grid,
        laid=laid,
        region=Region(mask, volume),
        merge=merge,
        outside=outside,
        scale=scale,
        valid=valid,
        channels=chosen,
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
    #: The grid of the answers.
    grid: _native.GridSampler
    laid: Callable[[Sequence[int]], _native.GridSampler]
    region: Region
    merge: Merge | Mapping[Head, Merge]
    outside: float
    scale: Scale | Mapping[Head, Scale] | None
    valid: bool | int | Sequence[int] | None
    channels: list[int] | None
    out: Path | Sequence[Path] | Mapping[Head, Path] | None
    batch_size: int
    window: Window | Mapping[Head, Window]
    dtype: DTypeLike | Mapping[Head, DTypeLike] | None
    finish: Finish | Mapping[Head, Finish]
    memory_bytes: Bytes
    nonfinite: NonFinite
    threads: int | None
    resume: str | bool
    # One for each prediction by name, created with the first batch; ``None`` names a single one.
    aggregators: dict[Head | None, _native.Aggregator] = field(default_factory=dict, init=False)
    buffers: _Buffers = field(init=False)
    #: Voxels that patches are larger than answers, in front and behind.
    margins: tuple[int, ...] = field(default=(0, 0, 0), init=False)
    patch_size: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.patch_size = self.grid.patch_size
        axis = self.volume.shape[:-3] if self.channels is None else (len(self.channels),)
        shape = (self.batch_size, *axis, *self.patch_size)
        self.buffers = _Buffers(shape, self.volume.dtype)
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
        size = self.volume.shape[-3:]
        starts = _ordered(self.grid.locations(self.volume), size, self.grid.patch_size, self.finish)
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
            whole = _whole_dtype(prediction)
            if whole is not None and _is_number(prediction, patches[: len(first)]):
                whole = None
            self.aggregators[name] = self._aggregator(name, whole, shapes[name], skipped)
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
        shapes = {name: _shape_of(answer, len(first)) for name, answer in predictions.items()}
        return starts, skipped, patches, predictions, shapes

    def _predict(self, patches: np.ndarray) -> dict[Head | None, Any]:
        return _named(self.model(patches if patches.ndim == 5 else patches[:, None]))

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
                f"the model answered with {_heads(predictions)}, expected"
                f" {_heads(self.aggregators)} as for the first batch"
            )
        for name, aggregator in self.aggregators.items():
            aggregator.add(predictions.pop(name), batch)
        self.buffers.give(patches)

    def _aggregator(
        self, name: Head | None, classes: str | None, shape: tuple[int, ...], skipped: np.ndarray
    ) -> _native.Aggregator:
        """The aggregator of a head, whose first predictions are of ``shape``.

        ``classes`` is their type if they may be classes.
        """
        window, finish, merge = (_of(v, name) for v in (self.window, self.finish, self.merge))
        dtype = _of(self.dtype, name)
        if finish == "none" and classes is not None:
            is_number = dtype is not None and np.dtype(dtype).kind == "f"
            if merge == "mean" and not is_number and window != "crop":
                raise UsageError(
                    f"{_head(name)} has {classes} voxels, and a mean would make numbers of"
                    ' classes: blend scores (finish="argmax"), keep one patch a voxel'
                    ' (window="crop") or let patches vote (merge="vote"); if they are numbers, ask'
                    ' for dtype="float32"'
                )
            dtype = classes if dtype is None else dtype
        return _native.Aggregator(
            self.grid,
            self.volume,
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

    def _path(self, name: Head | None) -> Path | None:
        """The path in ``out`` for a head."""
        out = self.out
        if out is None:
            return None
        if isinstance(out, str | os.PathLike):
            if name is not None:
                raise UsageError(f"out {out!r}: several predictions need as many paths")
            return out
        if name is None:
            raise UsageError(f"out {out!r}: a single prediction needs a single path")
        paths: Mapping[Head, Path] = out if isinstance(out, Mapping) else dict(enumerate(out))
        if name not in paths:
            raise UsageError(f"out {out!r}: expected a path for {_head(name)}")
        return paths[name]


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


def _named(predictions: Any) -> dict[Head | None, Any]:
    """Predictions by name, or by number; a single one is named ``None``."""
    if isinstance(predictions, Mapping):
        return {str(name): _array(prediction) for name, prediction in predictions.items()}
    if isinstance(predictions, list | tuple) and all(hasattr(p, "shape") for p in predictions):
        if not predictions:
            raise UsageError("the model answered with an empty list: expected predictions")
        return {number: _array(prediction) for number, prediction in enumerate(predictions)}
    return {None: _array(predictions)}


def _array(prediction: Any) -> Any:
    return prediction if hasattr(prediction, "shape") else np.asarray(prediction)


def _shape_of(prediction: Any, count: int) -> tuple[int, ...]:
    """The shape of the predictions of ``count`` patches."""
    shape = tuple(prediction.shape)
    if len(shape) not in (4, 5) or shape[0] != count:
        expected = f"({count}, k, z, y, x) or ({count}, z, y, x)"
        raise UsageError(
            f"the model answered with shape {shape} for {count} patches: expected {expected}"
        )
    return shape


def _whole_dtype(prediction: Any) -> str | None:
    """The name of the dtype of integers or booleans, as a volume has it; None for floats."""
    name = str(prediction.dtype).removeprefix("torch.")
    if name == "bool":
        return "uint8"
    return name if name.startswith(("int", "uint")) else None


def _is_number(answer: Any, patches: np.ndarray) -> bool:
    """Whether integers are numbers, as of a filter, and no classes.

    They are if they have the type of the patches, and are the patches themselves or have more
    values than a segmentation has classes.
    """
    values = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
    if values.dtype != patches.dtype:
        return False
    if np.array_equal(values.ravel(), patches.ravel()):
        return True
    return values.itemsize > 1 and len(np.unique(values)) > _MOST_CLASSES


def _head(name: Head | None) -> str:
    return "the answer" if name is None else f"the answer {name!r}"


def _heads(named: Mapping[Head | None, Any]) -> str:
    if None in named:
        return "one prediction"
    return f"the predictions {list(named)}"


def _of(value: Any, name: Head | None) -> Any:
    """The value of an option for a prediction."""
    return value[name] if isinstance(value, Mapping) else value


def _ordered(
    starts: np.ndarray,
    size: Sequence[int],
    patch: Sequence[int],
    finish: Finish | Mapping[Head, Finish],
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
