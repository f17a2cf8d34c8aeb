"""A torch model during an inference: patches go to its device, and answers are blended there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .. import Aggregator
from .._stage import Blend, Blender, Stage
from ._blending import DeviceBlender, Unfit
from ._streams import Lane

Answers = Any
#: What torch raises where a device has no memory left.
OutOfMemory = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


class TorchStage(Stage):
    """Calls ``answer`` with patches on ``device`` as ``input_dtype``.

    ``blend`` says where answers are blended: ``"auto"``, ``"device"`` or ``"host"``.
    """

    def __init__(
        self,
        answer: Callable[[torch.Tensor], Answers],
        device: torch.device,
        input_dtype: torch.dtype | None,
        blend: str,
        device_memory_bytes: int | None,
    ) -> None:
        self._answer, self._device, self._input_dtype = answer, device, input_dtype
        self._blend = blend
        self._memory_bytes = device_memory_bytes
        self._lane = Lane(device)
        self._said: set[str] = set()

    def __call__(self, patches: np.ndarray) -> Answers:
        with torch.inference_mode():
            given = torch.from_numpy(patches).to(self._device, self._input_dtype)
        answers = self._answer(given)
        each(answers, self._mark)
        return answers

    def _mark(self, answer: Any) -> None:
        if isinstance(answer, torch.Tensor):
            self._lane.mark(answer)

    def blender(self, aggregator: Aggregator, blend: Blend) -> Blender:
        if self._blend == "host" or (self._blend == "auto" and self._device.type != "cuda"):
            return HostBlender(aggregator, self._lane)
        try:
            if not isinstance(blend.answers, torch.Tensor):
                raise Unfit(f"answers that are no tensors but {type(blend.answers).__name__}")
            blender = DeviceBlender(aggregator, blend, self._lane, self._memory_left())
        except Unfit as reason:
            self._say(f"blending on the host, not on {self._device}: {reason}")
            return HostBlender(aggregator, self._lane)
        except OutOfMemory:
            self._say(f"blending on the host: {self._device} has no memory left for it")
            return HostBlender(aggregator, self._lane)
        if self._memory_bytes is not None:
            self._memory_bytes -= blender.bytes
        return blender

    def _memory_left(self) -> int:
        """Bytes of the device that blending may use."""
        if self._memory_bytes is not None:
            return self._memory_bytes
        if self._device.type == "cuda":
            return int(torch.cuda.mem_get_info(self._device)[0] // 2)
        return 1 << 62

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)


class HostBlender:
    """Blends on the host: answers are copied there beside the model's work."""

    def __init__(self, aggregator: Aggregator, lane: Lane) -> None:
        self._aggregator, self._lane = aggregator, lane
        self.needed, self.finish, self.close = (
            aggregator.needed,
            aggregator.finish,
            aggregator.close,
        )

    def add(self, patches: Any, starts: np.ndarray) -> None:
        """Adds answers, in the type that they have."""
        if isinstance(patches, torch.Tensor) and patches.device.type != "cpu":
            with self._lane.running(patches):
                patches, arrived = self._lane.send_home(patches)
            arrived()
        self._aggregator.add(patches, starts)


def each(answers: Answers, change: Callable[[Any], Any]) -> Answers:
    """Changes every tensor of answers, which are one, or a dict, list or tuple of them."""
    if isinstance(answers, Mapping):
        return {name: change(answer) for name, answer in answers.items()}
    if isinstance(answers, list | tuple):
        return [change(answer) for answer in answers]
    return change(answers)
