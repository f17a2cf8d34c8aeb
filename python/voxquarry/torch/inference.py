"""``infer``: runs a torch model over a whole volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Unpack

import numpy as np
import torch

from .. import ScaledVolume, UsageError, Volume
from .. import infer as infer_arrays
from .._types import Head, InferOptions, Path, Size, Window

Answers = Any


def infer(
    model: Callable[[torch.Tensor], Answers],
    volume: Volume | ScaledVolume,
    patch_size: Size,
    overlap: float | Sequence[int] = 0.5,
    out: Path | Sequence[Path] | Mapping[Head, Path] | None = None,
    batch_size: int = 4,
    window: Window | Mapping[Head, Window] = "hann",
    progress: bool | Callable[[int, int], None] = False,
    *,
    device: torch.device | str | None = None,
    autocast: torch.dtype | bool = False,
    mirror_axes: Sequence[int] = (),
    input_dtype: torch.dtype | None = torch.float32,
    **options: Unpack[InferOptions],
) -> Any:
    """Slides ``model`` over ``volume`` as :func:`voxquarry.infer` does, with tensors and without
    gradients.

    On the CPU neither the patches nor the answers are copied between torch and Voxquarry.

    Args:
        model: Called with ``(n, c, z, y, x)``; answers ``(n, k, z, y, x)`` or ``(n, z, y, x)``, or
            a dict, list or tuple of them, on any device. It is neither moved nor set to ``eval()``.
        volume, patch_size, overlap, out, batch_size, window, progress: As for
            :func:`voxquarry.infer`.
        device: Where patches are sent; by default where the model's first parameter is, or the CPU.
        autocast: ``True`` or a dtype runs the model under ``torch.autocast``.
        mirror_axes: Axes of ``(z, y, x)``, as 0, 1 and 2. The model is asked once for each choice
            of axes to mirror the patch along, and the answers, mirrored back, are averaged in
            float32 (float64 if they are): 2, 4 or 8 times the work.
        input_dtype: What patches are converted to; ``None`` leaves what was read.
        options: ``scaled``, ``dtype``, ``finish``, ``padding``, ``memory_bytes`` and whatever else
            :func:`voxquarry.infer` takes by name.

    Returns:
        As :func:`voxquarry.infer`: an array or the volume at ``out``, or a dict of them.

    Raises:
        UsageError, DataError, StorageError: As :func:`voxquarry.infer`; also for an axis that is
            none, or given twice.
    """
    axes = [int(axis) for axis in mirror_axes]
    if len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
        raise UsageError(
            f"mirror_axes {tuple(axes)}: expected some of 0, 1 and 2 (z, y, x), each once"
        )
    target = _device_of(model) if device is None else torch.device(device)
    # The empty choice comes last: a model that changes its input changes none that is still to be
    # mirrored.
    choices = [
        [axis - 3 for axis in some]
        for count in range(len(axes), -1, -1)
        for some in combinations(axes, count)
    ]

    def answer(patches: np.ndarray) -> Answers:
        given = torch.from_numpy(patches).to(target, input_dtype)
        with torch.inference_mode(), _casting(target, autocast):
            answers: Answers = None
            for choice in choices:
                answers = _sum(
                    answers, _mirrored(model(given.flip(choice) if choice else given), choice)
                )
            if len(choices) > 1:
                answers = _each(answers, lambda total: total.div_(len(choices)))
            return _each(answers, torch.Tensor.cpu)

    return infer_arrays(
        answer, volume, patch_size, overlap, out, batch_size, window, progress, **options
    )


def _device_of(model: Any) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def _casting(device: torch.device, autocast: torch.dtype | bool) -> torch.autocast:
    dtype = autocast if isinstance(autocast, torch.dtype) else None
    return torch.autocast(device.type, dtype=dtype, enabled=autocast is not False)


def _each(answers: Answers, change: Callable[[torch.Tensor], torch.Tensor]) -> Answers:
    if isinstance(answers, Mapping):
        return {name: change(answer) for name, answer in answers.items()}
    if isinstance(answers, list | tuple):
        return [change(answer) for answer in answers]
    return change(answers)


def _mirrored(answers: Answers, axes: list[int]) -> Answers:
    return _each(answers, lambda answer: answer.flip(axes)) if axes else answers


def _sum(total: Answers, answers: Answers) -> Answers:
    """Adds ``answers`` to ``total`` in place; without a total, returns the first answers."""
    if total is None:
        return answers
    if isinstance(answers, Mapping):
        return {name: _sum(total[name], answer) for name, answer in answers.items()}
    if isinstance(answers, list | tuple):
        return [_sum(one, answer) for one, answer in zip(total, answers, strict=True)]
    if not answers.is_floating_point():
        raise UsageError(
            f"mirror_axes: the answers are {answers.dtype}, and classes have no mean: answer scores"
            ' and take finish="argmax"'
        )
    wide = total if total.dtype in (torch.float32, torch.float64) else total.float()
    return wide.add_(answers)
