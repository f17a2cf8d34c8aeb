"""``infer``: runs a torch model over a whole volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import combinations
from typing import Any, Literal, Unpack

import torch

from .. import ScaledVolume, UsageError, Volume
from .. import infer as infer_arrays
from .._native import byte_count
from .._progress import Progress
from .._types import Bytes, Head, InferOptions, Path, Size, Window
from ._stage import TorchStage, Worker, each

Answers = Any


def infer(
    model: Callable[[torch.Tensor], Answers],
    volume: Volume | ScaledVolume,
    patch_size: Size,
    overlap: float | Sequence[int] = 0.5,
    out: Path | Sequence[Path] | Mapping[Head, Path] | None = None,
    batch_size: int = 4,
    window: Window | Mapping[Head, Window] = "hann",
    progress: Progress = False,
    *,
    device: torch.device | str | None = None,
    devices: Sequence[torch.device | str | int] | None = None,
    autocast: torch.dtype | bool = False,
    mirror_axes: Sequence[int] = (),
    input_dtype: torch.dtype | None = torch.float32,
    blend: Literal["auto", "device", "host"] = "auto",
    device_memory_bytes: Bytes | None = None,
    **options: Unpack[InferOptions],
) -> Any:
    """Slides ``model`` over ``volume`` as :func:`voxquarry.infer` does, with tensors and without
    gradients.

    On the CPU neither the patches nor the answers are copied between torch and Voxquarry. On a GPU
    the answers stay there: overlapping patches are blended in a slab of planes as deep as a patch,
    and only finished voxels go home, with ``finish="argmax"`` one byte each.

    Args:
        model: Called with ``(n, c, z, y, x)``; answers ``(n, k, z, y, x)`` or ``(n, z, y, x)``, or
            a dict, list or tuple of them, on any device. It is neither moved nor set to ``eval()``.
        volume, patch_size, overlap, out, batch_size, window, progress: As for
            :func:`voxquarry.infer`.
        device: Where patches are sent; by default where the model's first parameter is, or the CPU.
        devices: Several devices, as ``[0, 1]``, which answer batches in turn: one thread reads for
            all, and answers are blended in one place, the first device or the host. A module is
            copied to each device; a function is called with tensors of any of them, from a thread
            for each.
        autocast: ``True`` or a dtype runs the model under ``torch.autocast``.
        mirror_axes: Axes of ``(z, y, x)``, as 0, 1 and 2. The model is asked once for each choice
            of axes to mirror the patch along, and the answers, mirrored back, are averaged in
            float32 (float64 if they are): 2, 4 or 8 times the work.
        input_dtype: What patches are converted to; ``None`` leaves what was read.
        blend: Where answers are blended: on the ``"device"``, on the ``"host"``, or ``"auto"``: on
            a CUDA device. The results differ by the rounding of float32. What a device cannot
            blend, or has no memory for, is blended on the host, and one warning says so:
            ``merge="vote"``, answers that are no floats of up to 32 bits, results of 64 bits or
            uint32, and over 32 patches for a voxel.
        device_memory_bytes: Memory on the device for blending, an int or a string such as
            ``"1GiB"``; by default half of what is free there. It takes 4 bytes for each voxel and
            channel of a layer of patches, and 200 MiB.
        options: All other arguments of :func:`voxquarry.infer`, by name: ``dtype``, ``finish`` and
            ``merge`` say what overlapping answers become; ``mask`` and ``outside`` which part of
            the volume is predicted, and what the rest is; ``scale`` and ``valid`` how large answers
            are beside patches; ``channels``, ``scaled``, ``padding``, ``placement`` and ``margin``
            what patches are read; ``spacing``, ``orientation`` and ``back_order`` at which spacing
            the model sees the volume; ``memory_bytes``, ``threads``, ``nonfinite`` and ``resume``;
            ``part`` which part of the result this process computes.

    Returns:
        As :func:`voxquarry.infer`: an array or the volume at ``out``, or a dict of them.

    Raises:
        UsageError, DataError, StorageError: As :func:`voxquarry.infer`; also for an axis that is
            none, or given twice, and a device that does not exist.
        OutOfMemoryError: The device has no memory for one patch. Before that, batches are halved,
            and then answers are blended on the host; a warning says each once.
    """
    axes = [int(axis) for axis in mirror_axes]
    if len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
        raise UsageError(
            f"mirror_axes {tuple(axes)}: expected some of 0, 1 and 2 (z, y, x), each once"
        )
    if blend not in ("auto", "device", "host"):
        raise UsageError(f"blend {blend!r}: expected 'auto', 'device' or 'host'")
    if device is not None and devices is not None:
        raise UsageError("device and devices: expected one of them")
    names = list(devices) if devices is not None else [device]
    if not names:
        raise UsageError("devices: expected at least one")
    targets = [_device_of(model) if name is None else _device(name) for name in names]
    memory = None if device_memory_bytes is None else byte_count(device_memory_bytes)
    workers = [
        Worker(_answering(copy, axes, target, autocast), target)
        for copy, target in zip(_copies(model, targets), targets, strict=True)
    ]
    stage = TorchStage(workers, input_dtype, blend, memory)
    return infer_arrays(
        stage, volume, patch_size, overlap, out, batch_size, window, progress, **options
    )


def _answering(
    model: Callable[[torch.Tensor], Answers],
    axes: list[int],
    device: torch.device,
    autocast: torch.dtype | bool,
) -> Callable[[torch.Tensor], Answers]:
    """The model without gradients, averaged over all choices of axes to mirror along."""
    # The empty choice comes last: a model that changes its input changes none that is still to be
    # mirrored.
    choices = [
        [axis - 3 for axis in some]
        for count in range(len(axes), -1, -1)
        for some in combinations(axes, count)
    ]

    def answer(given: torch.Tensor) -> Answers:
        with torch.inference_mode(), _casting(device, autocast):
            answers: Answers = None
            for choice in choices:
                answers = _sum(
                    answers, _mirrored(model(given.flip(choice) if choice else given), choice)
                )
            if len(choices) > 1:
                answers = each(answers, lambda total: total.div_(len(choices)))
            return answers

    return answer


def _device(name: torch.device | str | int) -> torch.device:
    """A device that exists."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device {name!r}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise UsageError(f"device {name!r}: expected one of {count} CUDA devices, or 'cpu'")
        # Tensors name their device with its number.
        return torch.device(
            "cuda", torch.cuda.current_device() if device.index is None else device.index
        )
    return device


def _copies(model: Any, devices: Sequence[torch.device]) -> list[Any]:
    """The model for each device: a copy where its parameters are not there."""
    if len(devices) == 1 or not isinstance(model, torch.nn.Module):
        return [model] * len(devices)
    copies = {_device_of(model): model}
    for device in devices:
        if device not in copies:
            copies[device] = deepcopy(model).to(device)
    return [copies[device] for device in devices]


def _device_of(model: Any) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def _casting(device: torch.device, autocast: torch.dtype | bool) -> torch.autocast:
    dtype = autocast if isinstance(autocast, torch.dtype) else None
    return torch.autocast(device.type, dtype=dtype, enabled=autocast is not False)


def _mirrored(answers: Answers, axes: list[int]) -> Answers:
    return each(answers, lambda answer: answer.flip(axes)) if axes else answers


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
