"""``QueueDataset`` and ``loader``: the batches of a ``voxquarry.Queue`` as tensors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, get_worker_info

from .. import Queue, UsageError
from ._iterations import IterationCount

Batch = dict[str, Any]


class QueueDataset(IterableDataset[Batch]):
    """The batches of a queue, for ``DataLoader(…, batch_size=None)`` and torchdata's
    ``StatefulDataLoader``.

    A batch is the queue's: each volume's tensor ``(B, c, z, y, x)`` under its name, over the memory
    that it was read into; ``"location"``, ``(B, 6)`` int64; and ``"subject"``, ``B`` names. With
    worker processes a loader delivers the same batches in the same order: each of ``n`` workers
    reads every ``n``-th batch, with threads of its own. Workers are not needed, as the queue reads
    ahead without them.

    Each iteration takes the next epoch, in workers that live on and in those that a loader starts
    anew, unless ``set_epoch`` or ``load_state_dict`` choose.

    A pickle holds the queue's arguments and the start of the next iteration.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        # Where this process's latest iteration began, and its batches that were delivered since.
        self._origin, self._delivered = queue.start_state(), 0
        # Whether the next iteration of this process begins behind them.
        self._is_loaded = False
        self._count = IterationCount()
        self._plan = _SharedPlan(self._origin)

    def __len__(self) -> int:
        return len(self.queue)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is None and not self._is_loaded:
            yield from map(tensors, self.queue)
            return
        num_shards, index = (1, 0) if worker is None else (worker.num_workers, worker.id)
        if worker is not None:
            self._start_in_worker()
        if not self._is_loaded:
            self._delivered = 0
        self._is_loaded = False
        for batch in self.queue.shard(num_shards, index + self._delivered * num_shards):
            self._delivered += 1
            yield tensors(batch)
        if worker is None:
            self.queue.set_epoch(self._origin["epoch"] + 1)

    def _start_in_worker(self) -> None:
        """Puts this worker's queue at the start of the loader's iteration."""
        number = self._count.next()
        here = self._origin if self._is_loaded else self.queue.start_state()
        if self._is_loaded or (self._count.own == 1 and not self._plan.is_of(here)):
            # A state was loaded here, or the queue was moved before this worker was started.
            self._plan.write(here, number)
        elif self._count.own > 1 and not self._plan.has_weights_of(here):
            raise UsageError(
                "the queue's weights were updated, but workers that live on keep those that they"
                " were started with: leave out persistent_workers, or num_workers"
            )
        epoch, position = self._plan.start(number)
        self._origin = {**here, "epoch": epoch, "position": position}
        self.queue.load_state_dict(self._origin)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, also in workers that live on
        (``persistent_workers``).
        """
        self.queue.set_epoch(epoch)
        self.tell()

    def update_weights(self, *args: Any, **keywords: Any) -> None:
        """``voxquarry.Queue.update_weights``, and tells workers that live on
        (``persistent_workers``), which refuse to go on without the new weights.
        """
        self.queue.update_weights(*args, **keywords)
        self._plan.write_weights(self.queue.start_state())

    def tell(self) -> None:
        """Tells workers that live on where the next iteration starts; ``set_epoch`` and
        ``load_state_dict`` call it.
        """
        self._plan.write(self.queue.start_state(), self._count.begun + 1)

    def state_dict(self) -> dict[str, Any]:
        """The position of this process: a state of the queue, and the number of this process's
        batches after it.
        """
        if get_worker_info() is None:
            return {"queue": self.queue.state_dict(), "delivered": 0}
        return {"queue": self._origin, "delivered": self._delivered}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The next iteration continues after the batches of the state."""
        self.queue.load_state_dict(state_dict["queue"])
        self._origin, self._delivered = state_dict["queue"], state_dict["delivered"]
        in_worker = get_worker_info() is not None
        self._is_loaded = in_worker or self._delivered > 0
        if not in_worker:
            self.tell()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_origin": self.queue.start_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A pickled queue goes on behind its last batch; an iteration here begins where one there
        # would.
        self.queue.load_state_dict(self._origin)


class _SharedPlan:
    """Which epoch an iteration reads, in memory that the worker processes of a loader share."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        # Epoch and position of an iteration, its number, and a digest of the weights.
        self._cells = torch.zeros(4, dtype=torch.int64).share_memory_()
        self.write(start, 1)

    def write(self, start: Mapping[str, Any], number: int) -> None:
        """Iteration ``number`` begins at ``start``, and each later one with the next epoch."""
        self._cells[:] = torch.tensor([start["epoch"], start["position"], number, _digest(start)])

    def write_weights(self, start: Mapping[str, Any]) -> None:
        """Each later iteration has the weights of ``start``."""
        self._cells[3] = _digest(start)

    def has_weights_of(self, start: Mapping[str, Any]) -> bool:
        """Whether it was written with the weights of this start."""
        return int(self._cells[3]) == _digest(start)

    def is_of(self, start: Mapping[str, Any]) -> bool:
        """Whether it was written for this start."""
        return self._cells[:2].tolist() == [start["epoch"], start["position"]]

    def start(self, number: int) -> tuple[int, int]:
        """Epoch and position at which iteration ``number`` begins."""
        epoch, position, first = self._cells[:3].tolist()
        return (epoch, position) if number <= first else (epoch + number - first, 0)


def _digest(start: Mapping[str, Any]) -> int:
    """A number that tells the latest weights of a state from others; 0 without any."""
    latest = start.get("weights", [])[-1:]
    return zlib.crc32(json.dumps(latest, sort_keys=True).encode()) if latest else 0


class EpochSampler(Sampler[None]):
    """The ``sampler`` of a loader, for trainers such as Lightning and ignite: they call its
    ``set_epoch``. The queue itself chooses the patches.
    """

    def __init__(self, dataset: QueueDataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[None]:
        # What a loader draws from for an iterable dataset.
        return repeat(None)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; one that goes on behind a loaded state keeps its
        position.
        """
        self.dataset.set_epoch(epoch)


class Loader(DataLoader[Batch]):
    """Batches of a queue: a ``DataLoader`` that can be interrupted; see ``loader``."""

    dataset: QueueDataset

    def __init__(self, queue: Queue, **options: Any) -> None:
        super().__init__(QueueDataset(queue), batch_size=None, **options)
        # A loader takes none for an iterable dataset, and refuses another later.
        object.__setattr__(self, "sampler", EpochSampler(self.dataset))
        self._state = queue.start_state

    @property
    def queue(self) -> Queue:
        """The queue that is read."""
        return self.dataset.queue

    def __iter__(self) -> Iterator[Batch]:
        if self.num_workers == 0:
            self._state = self.queue.state_dict
            yield from super().__iter__()
            return
        start, taken = self.queue.start_state(), 0
        step = self.queue.batch_size * self.queue.world_size
        end = self.queue.patches * self.queue.world_size

        def state() -> dict[str, Any]:
            position = min(start["position"] + taken * step, end)
            return _with_weights({**start, "position": position}, self.queue.start_state())

        self._state = state
        self.dataset.tell()
        batches = super().__iter__()
        # The workers have it; what comes after is the next epoch.
        self.queue.set_epoch(start["epoch"] + 1)
        for batch in batches:
            taken += 1
            yield batch
        self._state = self.queue.start_state

    def update_weights(self, *args: Any, **keywords: Any) -> None:
        """``voxquarry.Queue.update_weights``; workers follow from the next iteration on."""
        self.dataset.update_weights(*args, **keywords)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, with other patches in another order."""
        self.dataset.set_epoch(epoch)
        self._state = self.queue.start_state

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that came out, in the form of ``Queue.state_dict``; it
        does not depend on workers.
        """
        return self._state()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The next iteration starts with the next patch of the state, on any number of workers."""
        self.queue.load_state_dict(state_dict)
        self._state = self.queue.start_state


def _with_weights(state: dict[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """A state with the weights that have been updated since, which begin later."""
    new = later.get("weights", [])
    if not new:
        return state

    def point(update: Mapping[str, Any]) -> tuple[int, int]:
        return update["epoch"], update["position"]

    old = [update for update in state.get("weights", []) if point(update) < point(new[0])]
    return {**state, "weights": [*old, *new]}


def loader(queue: Queue, pin_memory: bool | None = None, **options: Any) -> Loader:
    """Batches of a queue as tensors, ready for a training loop, epoch after epoch.

    It is a torch ``DataLoader`` that also has ``set_epoch``, ``state_dict`` and
    ``load_state_dict``. The queue's own threads read ahead, so no worker process is needed; with
    ``num_workers`` the same batches come in the same order.

    Args:
        queue: A ``voxquarry.Queue``; it settles batches, order, seed and ranks.
        pin_memory: Copy batches to pinned memory, from where a GPU fetches them while it computes;
            where there is a GPU if None.
        options: Others of ``DataLoader``: ``num_workers``, ``multiprocessing_context``,
            ``persistent_workers``, …
    """
    pinned = torch.cuda.is_available() if pin_memory is None else pin_memory
    return Loader(queue, pin_memory=pinned, **options)


def tensors(batch: Mapping[str, Any]) -> Batch:
    """A batch of a queue with tensors over the memory of its arrays."""
    return {
        name: value if name == "subject" else torch.from_numpy(value)
        for name, value in batch.items()
    }
