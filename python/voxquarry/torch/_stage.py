"""A torch model during an inference: patches go to its device, and answers are blended there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from .. import Aggregator, OutOfMemoryError, ScaledVolume
from .._stage import Blend, Blender, Stage
from .._types import Padding
from ._blending import DeviceBlender, Unfit
from ._streams import Lane

Answers = Any
#: What torch raises where a device has no memory left.
OutOfMemory = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


#: Kinds of devices that get stored values and scale them: half of the bytes of float32, or less.
SCALING = {"cuda"}


class Worker:
    """A model on one device, which answers patches on ``device``."""

    def __init__(self, answer: Callable[[torch.Tensor], Answers], device: torch.device) -> None:
        self.answer, self.device = answer, device
        #: Most patches that fit the device at a time, once one did not.
        self.most: int | None = None
        self.pool: ThreadPoolExecutor | None = None
        self._copies: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(
        self, patches: np.ndarray, convert: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, Any]:
        """Patches on the device, converted there, and what the copy ends with: a stream of its own
        copies while the model works.
        """
        given = torch.from_numpy(patches)
        if self._copies is None:
            return convert(given.to(self.device)), None
        model = torch.cuda.current_stream(self.device)
        with torch.cuda.device(self.device), torch.cuda.stream(self._copies):
            there = convert(given.to(self.device, non_blocking=True))
            copied = torch.cuda.Event()
            copied.record(self._copies)
        model.wait_event(copied)
        there.record_stream(model)
        return there, copied


class TorchStage(Stage):
    """Calls models with patches as ``input_dtype``, each on its own device, in turn.

    ``blend`` says where answers are blended: ``"auto"``, ``"device"`` (the first) or ``"host"``.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        input_dtype: torch.dtype | None,
        blend: str,
        device_memory_bytes: int | None,
    ) -> None:
        self._workers, self._input_dtype = workers, input_dtype
        self._device = workers[0].device
        self._blend = blend
        self._memory_bytes = device_memory_bytes
        ready: dict[int, Any] = {}
        self._lanes = {worker.device: Lane(worker.device, ready) for worker in workers}
        self._lane = self._lanes[self._device]
        self._blenders: list[DeviceBlender] = []
        self._scale: tuple[float, float] | None = None
        self._copied: dict[int, Any] = {}
        self._said: set[str] = set()
        self._turn = 0
        self.width = len(workers)
        if len(workers) > 1:
            for worker in workers:
                worker.pool = ThreadPoolExecutor(1, f"voxquarry-{worker.device}")

    def ask(self, patches: np.ndarray) -> Callable[[], Answers]:
        worker = self._workers[self._turn % len(self._workers)]
        self._turn += 1
        if worker.pool is not None:
            return worker.pool.submit(self._answers, worker, patches).result
        answers = self._answers(worker, patches)
        return lambda: answers

    def _answers(self, worker: Worker, patches: np.ndarray) -> Answers:
        """The answers to a batch, or to as much of it at a time as fits the device."""
        while True:
            most = min(worker.most or len(patches), len(patches))
            try:
                parts = [
                    self._answer(worker, patches[first : first + most])
                    for first in range(0, len(patches), most)
                ]
                answers = joined(parts)
                each(answers, self._mark)
                return answers
            except OutOfMemory:
                self._make_room(worker, most)

    def _answer(self, worker: Worker, patches: np.ndarray) -> Answers:
        with torch.inference_mode():
            given, copied = worker.send(patches, self._converted)
        if copied is not None:
            self._copied[patches.ctypes.data] = copied
        return worker.answer(given)

    def _make_room(self, worker: Worker, most: int) -> None:
        """After a device had no memory left: fewer patches at a time, then blending elsewhere."""
        if worker.device.type == "cuda":
            torch.cuda.empty_cache()
        if most > 1:
            worker.most = most // 2
            self._say(f"{worker.device} has no memory left: {worker.most} patches at a time")
            return
        if not [blender for blender in self._blenders if blender.move_to_host()]:
            raise OutOfMemoryError(f"{worker.device} has no memory left for one patch")
        self._say(f"{worker.device} has no memory left: blending on the host")

    def _converted(self, given: torch.Tensor) -> torch.Tensor:
        if self._scale is not None:
            slope, intercept = self._scale
            given = given.to(torch.float64).mul_(slope).add_(intercept).to(torch.float32)
        return given if self._input_dtype is None else given.to(self._input_dtype)

    def _mark(self, answer: Any) -> None:
        if isinstance(answer, torch.Tensor):
            self._lane.mark(answer)

    def reader(self, volume: Any, padding: Padding) -> Any:
        # A number as padding is a real value, which may be that of no stored one.
        is_number = padding is not None and not isinstance(padding, str)
        is_real = isinstance(volume, ScaledVolume) and volume.dtype == np.float32
        if is_number or not is_real or not all(w.device.type in SCALING for w in self._workers):
            return volume
        self._scale = (volume.volume.slope, volume.volume.intercept)
        return volume.volume

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        if self._device.type != "cuda":
            return np.empty(shape, dtype)
        # The device copies from such memory while the processor goes on.
        same = torch.from_numpy(np.empty(0, dtype)).dtype
        pinned: np.ndarray = torch.empty(shape, dtype=same, pin_memory=True).numpy()
        return pinned

    def release(self, patches: np.ndarray) -> None:
        copied = self._copied.pop(patches.ctypes.data, None)
        if copied is not None:
            copied.synchronize()

    def close(self) -> None:
        for worker in self._workers:
            if worker.pool is not None:
                worker.pool.shutdown(cancel_futures=True)

    def blender(self, aggregator: Aggregator, blend: Blend) -> Blender:
        if self._blend == "host" or (self._blend == "auto" and self._device.type != "cuda"):
            return HostBlender(aggregator, self._lanes)
        try:
            if not isinstance(blend.answers, torch.Tensor):
                raise Unfit(f"answers that are no tensors but {type(blend.answers).__name__}")
            blender = DeviceBlender(aggregator, blend, self._lane, self._memory_left())
        except Unfit as reason:
            self._say(f"blending on the host, not on {self._device}: {reason}")
            return HostBlender(aggregator, self._lanes)
        except OutOfMemory:
            self._say(f"blending on the host: {self._device} has no memory left for it")
            return HostBlender(aggregator, self._lanes)
        if self._memory_bytes is not None:
            self._memory_bytes -= blender.bytes
        self._blenders.append(blender)
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

    def __init__(self, aggregator: Aggregator, lanes: Mapping[torch.device, Lane]) -> None:
        self._aggregator, self._lanes = aggregator, lanes
        self.needed, self.finish, self.close = (
            aggregator.needed,
            aggregator.finish,
            aggregator.close,
        )

    def add(self, patches: Any, starts: np.ndarray) -> None:
        """Adds answers, in the type that they have."""
        if isinstance(patches, torch.Tensor) and patches.device.type != "cpu":
            lane = self._lanes.get(patches.device) or next(iter(self._lanes.values()))
            with lane.running(patches):
                patches, arrived = lane.send_home(patches)
            arrived()
        self._aggregator.add(patches, starts)


def each(answers: Answers, change: Callable[[Any], Any]) -> Answers:
    """Changes every tensor of answers, which are one, or a dict, list or tuple of them."""
    if isinstance(answers, Mapping):
        return {name: change(answer) for name, answer in answers.items()}
    if isinstance(answers, list | tuple):
        return [change(answer) for answer in answers]
    return change(answers)


def joined(parts: list[Answers]) -> Answers:
    """The answers to parts of a batch as those to the batch."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Mapping):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], list | tuple):
        return [torch.cat(list(some)) for some in zip(*parts, strict=True)]
    return torch.cat(parts)
