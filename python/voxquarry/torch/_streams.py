"""Work beside a model's own stream: blending and copies that the model does not wait for.

Devices other than CUDA have no streams; there everything happens in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _nothing() -> None:
    """Waits for nothing: the voxels are there."""


class Lane:
    """One thread's place for work on a device, beside the model."""

    def __init__(self, device: torch.device, ready: dict[int, Any]) -> None:
        self.device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._events: deque[Any] = deque()
        # By the identity of answers, what their computation ends with; all lanes share it.
        self._ready = ready
        #: Batches that may be unfinished at a time.
        self.depth = 2 if self._stream is not None else 0

    def mark(self, answers: torch.Tensor) -> None:
        """Notes that what the calling thread's stream has been given computes ``answers``."""
        if answers.device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(answers.device))
            self._ready[id(answers)] = event

    @contextmanager
    def running(self, answers: torch.Tensor | None) -> Iterator[Lane]:
        """Runs what is inside on this lane, after the model has given ``answers``."""
        with torch.inference_mode():
            if self._stream is None:
                yield self
                return
            with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
                if answers is not None:
                    ready = self._ready.pop(id(answers), None)
                    if ready is not None:
                        self._stream.wait_event(ready)
                    if answers.device == self.device:
                        answers.record_stream(self._stream)
                yield self

    def bound(self) -> None:
        """Waits until no more than ``depth`` batches are unfinished on this lane."""
        if self._stream is None:
            return
        event = torch.cuda.Event()
        event.record(self._stream)
        self._events.append(event)
        while len(self._events) > self.depth:
            self._events.popleft().synchronize()

    def send_home(self, voxels: torch.Tensor) -> tuple[torch.Tensor, Callable[[], None]]:
        """A copy in the host's memory, and what waits until it has arrived."""
        if voxels.device.type != "cuda":
            # Planes of the slab change afterwards.
            return voxels.cpu() if voxels.device.type != "cpu" else voxels.clone(), _nothing
        home = torch.empty(voxels.shape, dtype=voxels.dtype, pin_memory=True)
        home.copy_(voxels, non_blocking=True)
        event = torch.cuda.Event()
        event.record(self._stream)
        return home, event.synchronize
