"""``PatchDataset``: patches by number, for loaders that choose the order themselves."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DistributedSampler, get_worker_info

from .. import (
    ConstrainedSampler,
    Dataset,
    GridSampler,
    LabelSampler,
    ObjectSampler,
    ScaledVolume,
    UniformSampler,
    UsageError,
    Volume,
    WeightedSampler,
)
from .._types import Channels, OnMissing, Padding
from .._values import scaled_volumes

Patch = dict[str, Any]
Sampler = (
    UniformSampler
    | WeightedSampler
    | LabelSampler
    | ObjectSampler
    | ConstrainedSampler
    | GridSampler
)


class _Place(NamedTuple):
    """A patch of an epoch."""

    subject: str
    #: Its number among the patches of the subject.
    number: int
    epoch: int


class PatchDataset(torch.utils.data.Dataset[Patch]):
    """A map-style dataset: item ``n`` is a patch of subject ``n // patches_per_subject``, read when
    it is requested.

    An item is a dictionary: each volume's tensor ``(c, z, y, x)`` under its name, ``"location"``,
    six int64 voxel indices ``(z0, y0, x0, z1, y1, x1)``, and ``"subject"``, the name. A forked or
    spawned worker reads with a cache of its own; a spawned worker gets a small pickle.

    Each iteration of a loader has other random patches: the ``k``-th time that a loader reads a
    number, in whichever process, it gets the patch of epoch ``k - 1``. Indexing, ``dataset[n]``,
    gives the patch that was read last, and does not count. Once ``set_epoch`` was called, a number
    gives the patch of that epoch until it is called again.

    Args:
        dataset: The store.
        sampler: Where to look. A grid gives all of its patches, whatever ``patches_per_subject``.
        volumes: Names of the volumes that are read; all of the first subject's if None.
        patches_per_subject: Patches of a subject in an epoch.
        seed: What random samplers draw from.
        padding: Fills what lies outside the volume, a number, ``"edge"`` or ``"reflect"``. If None,
            the grid's own padding, and zero for samplers with ``border="pad"``.
        transform: Called with each item.
        scaled: Give real values, stored value × slope + intercept, of volumes that have a slope or
            an intercept in any subject: as float32, or float64 where that is stored. Other volumes
            keep their dtype. ``False`` gives stored values.
        on_missing: What is done with subjects in which a random sampler can draw no patch, as for
            ``voxquarry.Queue``.
        channels: The channels to read, an int or a list, or a mapping from volumes to these, as for
            ``voxquarry.Queue``.

    Raises:
        UsageError: A subject without one of the volumes, or in which no patch can be drawn; fewer
            than one patch.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler,
        volumes: Sequence[str] | None = None,
        patches_per_subject: int = 1,
        *,
        seed: int = 0,
        padding: Padding = None,
        transform: Callable[[Patch], Any] | None = None,
        scaled: bool = True,
        on_missing: OnMissing = "error",
        channels: Channels | Mapping[str, Channels] | None = None,
    ) -> None:
        if patches_per_subject < 1:
            raise UsageError(f"patches_per_subject {patches_per_subject}: expected at least 1")
        self.dataset, self.sampler, self.seed, self.transform = dataset, sampler, seed, transform
        self.subjects = list(dataset)
        #: The subjects in which the sampler can draw no patch, each with the reason.
        self.missing: dict[str, str] = {}
        if not isinstance(sampler, GridSampler):
            self.missing = sampler.missing(dataset, self.subjects, on_missing)
        if on_missing == "skip":
            self.subjects = [name for name in self.subjects if name not in self.missing]
        self.volumes = _names(dataset, self.subjects, volumes)
        self.padding = _padding(sampler) if padding is None else padding
        self._channels = _channels(channels, self.volumes)
        self._scaled = scaled_volumes(dataset, self.subjects, self.volumes) if scaled else ()
        self._ends = np.array(
            list(accumulate(self._count(name, patches_per_subject) for name in self.subjects)),
            dtype=np.int64,
        )
        # Both are shared with worker processes, which may live for several epochs.
        self._chosen = torch.full((), -1, dtype=torch.int64).share_memory_()
        # How often a loader has read each random patch while no epoch was chosen.
        self._reads = torch.zeros(
            0 if isinstance(sampler, GridSampler) else len(self), dtype=torch.int32
        ).share_memory_()

    def _count(self, subject: str, patches_per_subject: int) -> int:
        """Patches of a subject in an epoch."""
        if isinstance(self.sampler, GridSampler):
            return len(self.sampler.locations(self.dataset[subject]))
        return operator.index(patches_per_subject)

    @property
    def epoch(self) -> int:
        """The epoch that ``set_epoch`` chose; 0 if it was not called."""
        return max(int(self._chosen), 0)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, in worker processes that live on (``persistent_workers``) too; set it
        before the loader is iterated over.
        """
        chosen = operator.index(epoch)
        if chosen < 0:
            raise UsageError(f"epoch {epoch}: expected at least 0")
        self._chosen.fill_(chosen)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        number = self._number(index)
        # A worker reads for a loader, or for a dataset around this one that a loader reads.
        if get_worker_info() is not None:
            self._count_reads([number])
        return self._items([number])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[Any]:
        """The items of a loader's batch; chunks that patches of one subject share are decoded
        once.
        """
        numbers = [self._number(index) for index in indices]
        self._count_reads(numbers)
        return self._items(numbers)

    def _number(self, index: int) -> int:
        index = operator.index(index)
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"patch {index}: expected below {len(self)}")
        return number

    def _count_reads(self, numbers: list[int]) -> None:
        if len(self._reads) and int(self._chosen) < 0:
            self._reads[sorted(set(numbers))] += 1

    def _items(self, numbers: list[int]) -> list[Any]:
        places = [self._place(number) for number in numbers]
        items: list[Patch] = [{} for _ in places]
        for subject in dict.fromkeys(place.subject for place in places):
            members = [n for n, place in enumerate(places) if place.subject == subject]
            self._read(subject, [places[n] for n in members], [items[n] for n in members])
        return [self._finish(item, place.number) for item, place in zip(items, places, strict=True)]

    def _finish(self, item: Patch, number: int) -> Any:
        """Turns an item that was read, patch ``number`` of its subject, into the item that is
        returned.
        """
        return item if self.transform is None else self.transform(item)

    def _place(self, number: int) -> _Place:
        at = int(np.searchsorted(self._ends, number, side="right"))
        first = int(self._ends[at - 1]) if at else 0
        is_counted = len(self._reads) > 0 and int(self._chosen) < 0
        epoch = max(int(self._reads[number]) - 1, 0) if is_counted else self.epoch
        return _Place(self.subjects[at], number - first, epoch)

    def _read(self, name: str, places: list[_Place], items: list[Patch]) -> None:
        subject = self.dataset[name]
        if isinstance(self.sampler, GridSampler):
            starts = self.sampler.locations(subject)[[place.number for place in places]]
        else:
            sampler = self.sampler
            if name in self.missing:
                sampler = UniformSampler(sampler.patch_size, sampler.border)
            draw = sampler.locations
            starts = np.concatenate(
                [draw(subject, 1, seed=self.seed, epoch=p.epoch, first=p.number) for p in places]
            )
        ends = starts + np.array(self.sampler.patch_size)
        for volume in self.volumes:
            source = subject[volume].scaled if volume in self._scaled else subject[volume]
            chosen = self._channels.get(volume)
            batch = batch_of(source, starts, self.sampler.patch_size, self.padding, chosen)
            for item, patch in zip(items, batch, strict=True):
                item[volume] = patch
        for item, location in zip(items, torch.from_numpy(np.hstack([starts, ends])), strict=True):
            item["location"], item["subject"] = location, name


class PatchSampler(DistributedSampler[Any]):
    """Numbers of the patches of a ``PatchDataset`` for a ``DataLoader(…, sampler=…)``: it chooses
    the epoch of the dataset and the order of the patches together.

    Trainers such as Lightning and ignite call its ``set_epoch``, so that a run that is resumed in
    epoch 7 gets the patches of epoch 7. Without a call each iteration takes the next epoch, from 0
    on. On several ranks each gets its own part of the patches, as many as the others; it is a
    ``DistributedSampler``, so no other one is put in its place.

    Args:
        dataset: The patches.
        shuffle: Whether the patches come in another order in each epoch.
        rank, world_size: The place of this process; those of ``torch.distributed`` if None, and a
            single process where that is not in use.
        seed: What the order is drawn from, the same on every rank.
        drop_last: Leave out the patches that do not divide evenly among the ranks, instead of
            repeating the first ones.

    Raises:
        UsageError: A rank outside of ``world_size``.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        shuffle: bool = True,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        is_distributed = distributed.is_available() and distributed.is_initialized()
        if world_size is None:
            world_size = distributed.get_world_size() if is_distributed else 1
        if rank is None:
            rank = distributed.get_rank() if is_distributed else 0
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank}: expected 0 to {world_size - 1}, below world_size")
        super().__init__(dataset, world_size, rank, shuffle, seed, drop_last)
        self._patches = dataset
        self._is_chosen = False

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration."""
        self._patches.set_epoch(epoch)
        super().set_epoch(operator.index(epoch))
        self._is_chosen = True

    def __iter__(self) -> Iterator[Any]:
        # At the first number, before the loader asks any worker for a patch.
        if not self._is_chosen:
            self.set_epoch(self.epoch)
        self._is_chosen = False
        yield from super().__iter__()
        if not self._is_chosen:
            self.epoch += 1


def batch_of(
    volume: Volume | ScaledVolume,
    starts: np.ndarray,
    size: Sequence[int],
    padding: Padding = None,
    channels: Channels | None = None,
) -> torch.Tensor:
    """Patches as a tensor ``(n, c, z, y, x)`` over the memory that they were read into."""
    chosen: dict[str, Any] = {} if channels is None else {"channels": channels}
    voxels = volume.read_batch(starts, size, padding=padding, **chosen)
    batch = torch.from_numpy(voxels)
    return batch if batch.ndim == 5 else batch[:, None]


def _names(
    dataset: Mapping[str, Any], subjects: list[str], volumes: Sequence[str] | None
) -> list[str]:
    if volumes is None:
        volumes = list(dataset[subjects[0]]) if subjects else []
    if isinstance(volumes, str):
        raise UsageError(f"volumes {volumes!r}: expected a list of names")
    names = list(volumes)
    if taken := {"location", "subject"}.intersection(names):
        raise UsageError(f"volume {taken.pop()!r}: items have that name for something else")
    for subject in subjects:
        there = dataset[subject]
        for name in names:
            if name not in there:
                raise UsageError(
                    f"subject {subject!r} has no volume {name!r}; it has: {', '.join(there)}"
                )
    return names


def _channels(
    channels: Channels | Mapping[str, Channels] | None, volumes: list[str]
) -> dict[str, Channels]:
    """The channels of each volume of which not all are read."""
    if channels is None:
        return {}
    if not isinstance(channels, Mapping):
        return dict.fromkeys(volumes, channels)
    if unread := set(channels).difference(volumes):
        raise UsageError(
            f"channels name {unread.pop()!r}, which is not read: leave it out, or add it to volumes"
        )
    return dict(channels)


def _padding(sampler: Sampler) -> Padding:
    if isinstance(sampler, GridSampler):
        return sampler.padding
    return 0 if sampler.border == "pad" else None
