"""Counts the iterations of a loader whose worker processes cannot ask its main process."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info


class IterationCount:
    """The number of iterations that a loader has begun, in memory that its workers share.

    A loader gives all workers that it starts together one random seed, and those that live on begin
    each of its iterations in step. So a worker knows from the seed and from its own iterations
    whether another worker has counted the present one already.
    """

    def __init__(self) -> None:
        #: Iterations that were begun in this process.
        self.own = 0
        self._seed: int | None = None
        # In one number, which is written at once: which iteration came last, and how many came.
        self._cell = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def begun(self) -> int:
        """Iterations that were begun in worker processes."""
        return int(self._cell) & 0xFFFF_FFFF

    def next(self) -> int:
        """The number of the iteration that begins in this worker, counted from 1."""
        worker = get_worker_info()
        if worker is None:
            raise RuntimeError("iterations are counted in worker processes only")
        if self._seed != worker.seed:
            self._seed, self.own = worker.seed, 0
        self.own += 1
        mark = hash((worker.seed - worker.id, self.own)) & 0x7FFF_FFFF
        last = int(self._cell)
        if last >> 32 != mark:
            self._cell.fill_(mark << 32 | (last + 1) & 0xFFFF_FFFF)
        return self.begun

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "own": 0, "_seed": None}
