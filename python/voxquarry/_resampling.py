"""Volumes on the grid of another one: ``resample_to``, and results of models at another spacing.

A box of the target is read through the kernels of ``Volume.read_affine``, finished, and handed to
an :class:`Aggregator`, which writes arrays and stores. So memory is bounded by a few boxes, and
work on a store that was killed is continued.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _native
from ._errors import UsageError
from ._progress import Progress, steps
from ._types import Bytes, Finish, Padding, Path

Order: TypeAlias = Literal[0, 1, 3]
Box: TypeAlias = tuple[list[int], list[int]]


def resample_to(
    volume: _native.Volume,
    like: _native.Volume | _native.ScaledVolume,
    out: Path | None = None,
    *,
    order: Order | None = None,
    padding: Padding = 0,
    finish: Finish = "none",
    dtype: DTypeLike | None = None,
    mask: Any = None,
    outside: float = 0.0,
    memory_bytes: Bytes = "1GiB",
    threads: int | None = None,
    resume: bool | str = True,
    progress: Progress = False,
) -> Any:
    """Gives ``volume`` on the grid of ``like``: its extents, spacing and orientation.

    It is read and written box by box. With ``finish="argmax"`` scores are resampled and then become
    labels, and the scores never exist on the new grid as a whole.

    Args:
        volume: A stored volume, of any spacing and orientation.
        like: The volume whose grid the result has.
        out: ``"STORE/SUBJECT/VOLUME"``, or ``None`` for an array.
        order: 0 for the nearest voxel, 1 for linear, 3 for cubic, as for ``Volume.read_affine``;
            by default 1, and 0 for labels.
        padding: What lies outside of ``volume``: a number, ``"edge"`` or ``"reflect"``.
        finish: What resampled voxels become, as for :class:`Aggregator`; not
            ``"softmax+argmax"``, for a softmax comes before blending.
        dtype: Type of the result; by default float32, the type that ``finish`` gives, or that of
            the labels.
        mask: A boolean array ``(z, y, x)`` of ``like``'s voxels; others become ``outside``.
        outside: The value of what the mask excludes.
        memory_bytes: Memory for boxes on their way; a result that is an array does not count.
        threads: Threads that resample and encode; all cores by default.
        resume: With ``out``, the same arguments continue work that was killed; a text is one more
            argument that has to be the same.
        progress: As for :func:`infer`, in boxes.

    Returns:
        An array ``(z, y, x)`` or ``(c, z, y, x)``, or the volume at ``out``.

    Raises:
        UsageError: Arguments that are not accepted; labels with another order than 0.
        DataError: Damaged chunks.
        StorageError: The result cannot be written.
    """
    target = like.volume if isinstance(like, _native.ScaledVolume) else like
    if not isinstance(volume, _native.Volume) or not isinstance(target, _native.Volume):
        raise UsageError("resample_to: expected stored volumes; ingest arrays first (vq.ingest)")
    if finish == "softmax+argmax":
        raise UsageError('finish "softmax+argmax" comes before resampling: expected "argmax"')
    is_labels = volume.kind == "labels"
    order = (0 if is_labels else 1) if order is None else order
    if is_labels and dtype is None:
        dtype = volume.dtype
    note = resume if isinstance(resume, str) else ""
    note += f"|{volume!r}|{volume.content_id}|{order}|{padding!r}"
    with Resampling(
        volume,
        target,
        order,
        padding,
        finish,
        affine=volume.affine,
        read_as=volume.dtype if is_labels else np.dtype(np.float32),
        out=out,
        dtype=dtype,
        mask=mask,
        outside=outside,
        memory_bytes=memory_bytes,
        threads=threads,
        resume=note if resume is not False else False,
    ) as work:
        return work(steps(progress, "box"))


class Resampling:
    """One resampling of a stored volume."""

    def __init__(
        self,
        source: _native.Volume,
        target: _native.Volume,
        order: Order,
        padding: Padding,
        finish: Finish,
        *,
        affine: NDArray[np.float64],
        read_as: np.dtype[Any],
        out: Path | None,
        memory_bytes: Bytes,
        threads: int | None,
        resume: str | bool,
        **options: Any,
    ) -> None:
        self._source, self._order, self._padding = source, order, padding
        self._matrix = index_matrix(target.affine, affine)
        self._finish, self._read_as = finish, read_as
        self._channels = source.shape[0] if source.ndim == 4 else None
        self._threads = threads or os.cpu_count() or 1
        size = target.shape[-3:]
        # Voxels of the result are blended nowhere: the grid only says what is done.
        self._patch = [min(64, n) for n in size]
        self._aggregator = _native.Aggregator(
            _native.GridSampler(self._patch, overlap=0),
            target,
            channels=self._channels,
            window="average",
            out=out,
            memory_bytes=memory_bytes,
            finish=finish,
            threads=threads,
            resume=resume if out is not None else False,
            **options,
        )
        # Of the memory, one half is for boxes that are encoded.
        self._box_bytes = _native.byte_count(memory_bytes) // 2 // self._threads

    def __enter__(self) -> Resampling:
        return self

    def __exit__(self, *_: object) -> None:
        # A finished aggregator is not affected.
        self._aggregator.close()

    def __call__(self, report: Callable[[int, int], None]) -> Any:
        boxes = list(self._boxes())
        report(0, len(boxes))
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for done, _ in enumerate(pool.map(self._put, boxes), 1):
                    report(done, len(boxes))
            finally:
                pool.shutdown(cancel_futures=True)
        return self._aggregator.finish()

    def _boxes(self) -> Iterator[Box]:
        """Boxes of the sink that an earlier run has not written."""
        size, step = self._aggregator.shape[-3:], self._aggregator.box_size
        needed = self._aggregator.needed()
        ends = needed + np.array(self._patch)
        for start in itertools.product(*(range(0, n, s) for n, s in zip(size, step, strict=True))):
            extents = [min(s, n - at) for s, n, at in zip(step, size, start, strict=True)]
            box_end = np.array(start) + extents
            if ((needed < box_end) & (ends > np.array(start))).all(axis=1).any():
                yield list(start), extents

    def _put(self, box: Box) -> None:
        """Resamples a box in parts, and hands it over."""
        start, extents = box
        lead = self._aggregator.shape[:-3]
        voxels = np.empty((*lead, *extents), self._aggregator.dtype)
        plane_bytes = 4 * (self._channels or 1) * extents[1] * extents[2]
        step = max(1, self._box_bytes // (2 * plane_bytes))
        for first in range(0, extents[0], step):
            planes = min(step, extents[0] - first)
            shifted = self._matrix.copy()
            shifted[:3, 3] += self._matrix[:3, :3] @ [start[0] + first, *start[1:]]
            values = self._source.read_affine(
                shifted,
                (planes, *extents[1:]),
                self._order,
                self._padding,
                dtype=self._read_as,
            )
            part = voxels[..., first : first + planes, :, :]
            finished(values, self._finish, part)
        self._aggregator.put(voxels, start)


def index_matrix(target: NDArray[np.float64], source: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(4, 4)``: maps the index ``(z, y, x, 1)`` in one grid to that in another; affines are
    nibabel's.
    """
    turned = [2, 1, 0, 3]
    return (np.linalg.inv(source) @ target)[np.ix_(turned, turned)]


def finished(values: NDArray[Any], finish: Finish, out: NDArray[Any]) -> None:
    """Writes what ``finish`` makes of values ``([k,] z, y, x)``, as an aggregator does."""
    kind, *numbers = (finish,) if isinstance(finish, str) else finish
    if kind == "argmax":
        _label(values, out)
        return
    if kind == "threshold":
        (least,) = numbers or (0.5,)
        np.copyto(out, values.astype(np.float64) >= least, casting="unsafe")
        return
    if kind == "quantize":
        slope, intercept = numbers
        values = (values.astype(np.float64) - intercept) / slope
    if out.dtype.kind == "f" or values.dtype == out.dtype:
        np.copyto(out, values, casting="same_kind")
        return
    limits = np.iinfo(out.dtype)
    # NaN becomes 0, as in an aggregator.
    whole = np.nan_to_num(
        np.rint(values.astype(np.float64)), nan=0.0, posinf=np.inf, neginf=-np.inf
    )
    np.copyto(out, np.clip(whole, limits.min, limits.max), casting="unsafe")


def _label(values: NDArray[Any], out: NDArray[Any]) -> None:
    """The number of the channel with the largest value, the first of equal ones; NaN is largest."""
    if values.ndim == 3:
        out[...] = 0
        return
    if np.isnan(values.max()):
        out[...] = values.argmax(0)
        return
    largest, labels = values[0].copy(), np.zeros(out.shape, out.dtype)
    is_larger = np.empty(out.shape, np.bool_)
    for channel in range(1, len(values)):
        np.greater(values[channel], largest, out=is_larger)
        np.copyto(largest, values[channel], where=is_larger)
        np.copyto(labels, out.dtype.type(channel), where=is_larger)
    out[...] = labels
