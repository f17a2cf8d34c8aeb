"""What surrounds a model during an inference: memory for patches, and where answers are blended.

``voxquarry.torch`` has a stage for other devices; this one calls a function and blends on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._types import Finish, Head, Merge, NonFinite, Padding, Window


@dataclass(frozen=True, kw_only=True)
class Blend:
    """How the answers of one head become a result."""

    name: Head | None
    #: The answers to the first batch, ``(n, k, z, y, x)`` or ``(n, z, y, x)``.
    answers: Any
    finish: Finish
    merge: Merge
    window: Window
    nonfinite: NonFinite
    #: Starts of the grid, ``(n, 3)``.
    starts: NDArray[np.int64]
    #: The axis along which patches come last.
    outer: int
    #: Whether some of the patches never come.
    skips: bool


class Blender(Protocol):
    """Takes answers in the order of the work; an :class:`Aggregator` is one."""

    def add(self, patches: Any, starts: Any) -> None:
        """Adds the answers to the patches that begin at ``starts``."""

    def needed(self) -> NDArray[np.int64]:
        """Starts of the patches that are missing."""

    def finish(self) -> Any:
        """Completes and returns the result."""

    def close(self) -> None:
        """Releases unfinished work."""


class Stage:
    """Calls a function with arrays, and blends its answers on the host."""

    def __init__(self, model: Callable[[np.ndarray], Any]) -> None:
        self._model = model

    def __call__(self, patches: np.ndarray) -> Any:
        """The answers to patches ``(n, c, z, y, x)``."""
        return self._model(patches)

    #: Batches that the model is asked at a time.
    width = 1

    def ask(self, patches: np.ndarray) -> Callable[[], Any]:
        """Begins to answer; what is returned waits for the answers."""
        answers = self(patches)
        return lambda: answers

    def reader(
        self, volume: _native.Volume | _native.ScaledVolume, padding: Padding
    ) -> _native.Volume | _native.ScaledVolume:
        """What patches are read from, instead of ``volume``."""
        return volume

    def release(self, patches: np.ndarray) -> None:
        """Waits until nothing reads from memory of :meth:`empty`."""

    def close(self) -> None:
        """Ends what was begun."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Memory for a batch of patches."""
        return np.empty(shape, dtype)

    def blender(self, aggregator: _native.Aggregator, blend: Blend) -> Blender:
        """Blends into ``aggregator``."""
        return aggregator
