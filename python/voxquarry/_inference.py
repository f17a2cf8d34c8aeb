"""Runs a model over a whole volume: reading, model and blending overlap in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _native
from ._errors import UsageError
from ._inference_run import Run
from ._native_grid import AtSpacing
from ._parts import checked_part
from ._progress import Progress, steps
from ._regions import Mask, Region
from ._resampling import Order
from ._stage import Stage
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

# What an inference at another spacing takes as it is.
_PASSED_ON = frozenset(
    [
        "model",
        "patch_size",
        "overlap",
        "batch_size",
        "window",
        "progress",
        "merge",
        "outside",
        "scale",
        "valid",
        "channels",
        "padding",
        "placement",
        "margin",
        "memory_bytes",
        "nonfinite",
        "threads",
    ]
)


def infer(
    model: Callable[[np.ndarray], Any],
    volume: _native.Volume | _native.ScaledVolume,
    patch_size: Size,
    overlap: float | Sequence[int] = 0.5,
    out: Path | Sequence[Path] | Mapping[Head, Path] | None = None,
    batch_size: int = 4,
    window: Window | Mapping[Head, Window] = "hann",
    progress: Progress = False,
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
    spacing: float | Sequence[float] | None = None,
    orientation: str | None = None,
    back_order: Order | None = None,
    memory_bytes: Bytes = "1GiB",
    nonfinite: NonFinite = "warn",
    resume: bool | str = True,
    threads: int | None = None,
    scaled: bool = True,
    part: tuple[int, int] | None = None,
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
        progress: ``True`` shows a bar (tqdm's, where it is installed; lines elsewhere) with patches
            a second and the time left, ``None`` does on a terminal; a function is called with the
            number of patches done and of all patches.
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
        spacing, orientation: The model sees the volume at another spacing, a number or
            ``(z, y, x)``, or in another orientation such as ``"RAS"``, as ``volume.at`` gives it;
            sizes and overlaps are in its voxels. What is blended there comes back to the volume's
            own grid, and only then becomes what ``finish`` says: scores are resampled, not labels.
            Blended scores wait in a scratch store beside ``out``, or in the system's temporary
            folder: 4 bytes a voxel and channel at that spacing. ``mask`` is on the volume's own
            grid.
        back_order: How results come back: 1 for linear, 3 for cubic, 0 for the nearest; by default
            1, and 0 for classes.
        memory_bytes: Memory for unfinished voxels of each result, as for :class:`Aggregator`.
        nonfinite: As for :class:`Aggregator`; by default one warning says where the first NaN is.
        resume: With ``out``, the same arguments continue the work of a run that was killed: only
            patches that are still needed are computed, and the first batch, which shows the shape
            of the predictions. A text, such as the model's name, is one more argument that has to
            be the same. ``False`` starts again.
        threads: Threads that blend and encode; all cores by default.
        scaled: Give the model real values, stored value × slope + intercept, as float32, where the
            volume has a slope or an intercept. ``False`` gives stored values.
        part: ``(i, n)`` with ``out``: of n processes, each with the same arguments, this one
            computes the shards of part i, from 0 (n is 0 too, for those that count from 1). It
            asks the model about the patches that count for them, also those that other parts ask
            about; nothing is exchanged. The batch that shows the shape of the answers comes from
            the middle of the part. What a killed process has written stays, and the same call goes
            on; :func:`finalize` makes the volume, which is byte for byte that of one process if
            the model's answer to a patch does not depend on the others of its batch. Not with
            ``spacing`` and ``orientation``.

    Returns:
        An array or the volume at ``out``, or a dict or list of them; ``None`` for a part.

    Raises:
        UsageError: Invalid arguments; a mask of another grid; predictions whose shape or heads
            differ from the first; integers whose mean is asked for; a smaller answer that may be a
            coarser one or the middle of a patch; unfinished work, or another part, that was begun
            with other arguments.
        DataError: The volume is damaged.
        StorageError: The result cannot be written.
    """
    if part is not None:
        part = checked_part(part, out=out, resume=resume, views=(spacing, orientation))
    if spacing is not None or orientation is not None:
        given = {name: value for name, value in locals().items() if name in _PASSED_ON}
        there = AtSpacing(volume, spacing, orientation, back_order, scaled)
        return there(infer, given, out=out, finish=finish, dtype=dtype, mask=mask, resume=resume)
    stage = model if isinstance(model, Stage) else Stage(model)
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

    run = Run(
        stage=stage,
        volume=stage.reader(volume, padding),
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
        part=part,
    )
    return run(steps(progress, "patch"))
