"""Runs a model over a whole volume: reading, model and blending overlap in time."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _native
from ._errors import UsageError
from ._types import Bytes, Finish, Margin, NonFinite, Padding, Path, Placement, Size, Window
from ._values import real_values

# Batches that are read before the model asks for them, and that wait behind it to be blended.
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
    """Slides ``model`` over ``volume`` and blends its answers.

    One thread reads ahead and another blends behind, so the model waits for neither. Memory is one
    layer of patches and a few batches.

    Args:
        model: Called with patches ``(n, c, z, y, x)`` (``c`` is 1 for a volume without channels) in
            the volume's dtype, or float32 for real values; the last batch may be smaller. Answers
            ``(n, k, z, y, x)``, or ``(n, z, y, x)`` for a result without channels, as an array or a
            CPU tensor; or a dict of them. The answer's resolution may be a whole multiple or
            fraction of the patch's. The array that the model is given is used again once its answer
            is blended, unless the model keeps it.
        volume: What is read; a ``ScaledVolume`` chooses the type of real values.
        patch_size: An int or ``(z, y, x)``.
        overlap: Voxels, an int or ``(z, y, x)``; or a fraction of the patch, a float below 1.
        out: ``"STORE/SUBJECT/VOLUME"`` for each result, or ``None`` for arrays; a dict where the
            model answers with one.
        batch_size: Patches for each call of the model.
        window: As for :class:`Aggregator`.
        progress: ``True`` writes a line to standard error; a function is called with patches done
            and patches in all.
        dtype: Of the result, as for :class:`Aggregator`; by default float32, or what ``finish``
            makes.
        finish: As for :class:`Aggregator`. ``dtype``, ``finish`` and ``window`` may be dicts with a
            value for each answer.
        padding: How patches that leave the volume are read; needed where it is smaller than a
            patch.
        placement: As for :class:`GridSampler`.
        margin: As for :class:`GridSampler`.
        memory_bytes: For unfinished voxels of each result, as for :class:`Aggregator`.
        nonfinite: As for :class:`Aggregator`.
        resume: With ``out``, work that a killed run left is continued by the same arguments: only
            patches that are still needed are computed, and the first batch, which says what the
            answers are like. A text is one argument more, such as the model's name. ``False``
            begins afresh.
        threads: Threads that blend and encode; all cores by default.
        scaled: Give the model real values, stored value × slope + intercept, as float32, where the
            volume has a slope or an intercept. ``False`` gives stored values.

    Returns:
        An array or the volume at ``out``, or a dict of them.

    Raises:
        UsageError: Arguments that cannot be; answers of another shape than the first; work to be
            resumed that was begun with other arguments.
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
    note = f"{resume if isinstance(resume, str) else ''}|{volume!r}|{padding!r}"
    run = _Run(
        model,
        volume,
        grid,
        out,
        int(batch_size),
        {"window": window, "dtype": dtype, "finish": finish},
        {"memory_bytes": memory_bytes, "nonfinite": nonfinite, "threads": threads},
        note if resume is not False else False,
    )
    return run(_reporter(progress))


class _Run:
    """One call of :func:`infer`."""

    def __init__(
        self,
        model: Callable[[np.ndarray], Any],
        volume: _native.Volume | _native.ScaledVolume,
        grid: _native.GridSampler,
        out: Path | Mapping[str, Path] | None,
        batch_size: int,
        each: dict[str, Any],
        common: dict[str, Any],
        resume: str | bool,
    ) -> None:
        self.model, self.volume, self.grid, self.out = model, volume, grid, out
        self.batch_size, self.each, self.common, self.resume = batch_size, each, common, resume
        self.aggregators: dict[str | None, _native.Aggregator] | None = None
        self.buffers = _Buffers((batch_size, *volume.shape[:-3], *grid.patch_size), volume.dtype)

    def __call__(self, report: Callable[[int, int], None]) -> Any:
        try:
            return self._run(report)
        except BaseException:
            # A notebook keeps the last traceback, and with it all this: the same call again has to
            # find its work free.
            for aggregator in (self.aggregators or {}).values():
                aggregator.close()
            raise

    def _run(self, report: Callable[[int, int], None]) -> Any:
        starts = _ordered(
            self.grid.locations(self.volume),
            self.volume.shape[-3:],
            self.grid.patch_size,
            self.each["finish"],
        )
        starts, done = self._first(starts)
        report(done, done + len(starts))
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as blender:
            try:
                self._slide(starts, done, reader, blender, report)
            finally:
                reader.shutdown(cancel_futures=True)
                blender.shutdown(cancel_futures=True)
        assert self.aggregators is not None
        results = {name: aggregator.finish() for name, aggregator in self.aggregators.items()}
        return results.get(None, results)

    def _first(self, starts: np.ndarray) -> tuple[np.ndarray, int]:
        """Asks the model once, which shows what results to make. Returns the starts that are left
        to compute, and the number of those that are done.
        """
        first = starts[: self.batch_size]
        patches = self._read(first)
        answers = self._answers(patches[: len(first)])
        self._begin(answers, len(first))
        assert self.aggregators is not None
        needed = {tuple(start) for a in self.aggregators.values() for start in a.needed().tolist()}
        is_needed = np.array([tuple(start) in needed for start in starts.tolist()])
        if not is_needed[: len(first)].all():
            return starts[is_needed], 0
        self._blend(answers, first, patches)
        return starts[len(first) :][is_needed[len(first) :]], len(first)

    def _answers(self, patches: np.ndarray) -> dict[str | None, Any]:
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

        def read_on() -> None:
            if (batch := next(batches, None)) is not None:
                ahead.append((batch, reader.submit(self._read, batch)))

        for _ in range(_AHEAD):
            read_on()
        while ahead:
            batch, reading = ahead.popleft()
            patches = reading.result()
            del reading
            read_on()
            answers = self._answers(patches[: len(batch)])
            behind.append(blender.submit(self._blend, answers, batch, patches))
            del patches, answers
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
        self, answers: dict[str | None, Any], batch: np.ndarray, patches: np.ndarray
    ) -> None:
        assert self.aggregators is not None
        if answers.keys() != self.aggregators.keys():
            raise UsageError(
                f"the model answered {sorted(map(str, answers))},"
                f" before {sorted(map(str, self.aggregators))}"
            )
        for name, aggregator in self.aggregators.items():
            aggregator.add(answers.pop(name), batch)
        self.buffers.give(patches)

    def _begin(self, answers: Mapping[str | None, Any], count: int) -> None:
        """Makes the aggregators for the first answers."""
        patch = self.grid.patch_size
        made = self.aggregators = {}
        for name, answer in answers.items():
            shape = tuple(answer.shape)
            if len(shape) not in (4, 5) or shape[0] != count:
                expected = f"({count}, k, z, y, x) or ({count}, z, y, x)"
                raise UsageError(
                    f"the model answered with shape {shape} for {count} patches:"
                    f" expected {expected}"
                )
            scale = [size / side for size, side in zip(shape[-3:], patch, strict=True)]
            made[name] = self._aggregator(name, shape[1] if len(shape) == 5 else None, scale)

    def _aggregator(
        self, name: str | None, channels: int | None, scale: Sequence[float]
    ) -> _native.Aggregator:
        out = self.out
        if out is not None and isinstance(out, Mapping) != (name is not None):
            answer = (
                "a dict of answers needs a dict of outs"
                if name is not None
                else "one answer needs one out"
            )
            raise UsageError(f"out {out!r}: {answer}")
        if isinstance(out, Mapping):
            if name is None or name not in out:
                raise UsageError(f"out has no path for the answer {name!r}")
            out = out[name]
        each = {
            key: value[name] if isinstance(value, Mapping) else value
            for key, value in self.each.items()
        }
        if each["dtype"] is None:
            del each["dtype"]
        resume = self.resume if out is not None else False
        return _native.Aggregator(
            self.grid,
            self.volume,
            channels=channels,
            out=out,
            scale=list(scale),
            resume=resume,
            **each,
            **self.common,
        )


class _Buffers:
    """Arrays for batches, reused once nothing refers to them: fresh memory costs a fault for each
    page.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self.idle: deque[np.ndarray] = deque(maxlen=_AHEAD + _BEHIND + 2)

    def take(self) -> np.ndarray:
        while self.idle:
            buffer = self.idle.popleft()
            # The deque is left: this name and the call's argument are all that may refer to it.
            if sys.getrefcount(buffer) <= 2:
                return buffer
        return np.empty(self.shape, self.dtype)

    def give(self, buffer: np.ndarray) -> None:
        self.idle.append(buffer)


def _named(answers: Any) -> dict[str | None, Any]:
    """Answers by name; a single answer has the name None."""
    if isinstance(answers, Mapping):
        return {str(name): _array(answer) for name, answer in answers.items()}
    return {None: _array(answers)}


def _array(answer: Any) -> Any:
    return answer if hasattr(answer, "shape") else np.asarray(answer)


def _ordered(
    starts: np.ndarray, size: Sequence[int], patch: Sequence[int], finish: Any
) -> np.ndarray:
    """The grid's patches in the order that needs least memory for unfinished voxels.

    A layer of patches is thinnest across the axis that is longest in patches. But voxels that are
    written in another order than the shards' are kept encoded, so this is worth it only for labels,
    which are small beside their sums.
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
