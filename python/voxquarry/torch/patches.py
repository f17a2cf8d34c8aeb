"""``PatchDataset``: patches by number, for loaders that choose the order themselves."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from .. import (
    ConstrainedSampler,
    Dataset,
    GridSampler,
    LabelSampler,
    ScaledVolume,
    UniformSampler,
    UsageError,
    Volume,
    WeightedSampler,
)
from .._types import Padding
from .._values import scaled_volumes

Patch = dict[str, Any]
Sampler = UniformSampler | WeightedSampler | LabelSampler | ConstrainedSampler | GridSampler


class PatchDataset(torch.utils.data.Dataset[Patch]):
    """A map-style dataset: item ``n`` is a patch of subject ``n // patches_per_subject``, read when
    it is requested.

    An item is a dictionary: each volume's tensor ``(c, z, y, x)`` under its name, ``"location"``,
    six int64 voxel indices ``(z0, y0, x0, z1, y1, x1)``, and ``"subject"``, the name. A number
    gives the same patch in every process, and another one after ``set_epoch``. A forked or spawned
    worker reads with a cache of its own; a spawned worker gets a small pickle.

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

    Raises:
        UsageError: A subject without one of the volumes; fewer than one patch.
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
    ) -> None:
        if patches_per_subject < 1:
            raise UsageError(f"patches_per_subject {patches_per_subject}: expected at least 1")
        self.dataset, self.sampler, self.seed, self.transform = dataset, sampler, seed, transform
        self.subjects = list(dataset)
        self.volumes = _names(dataset, self.subjects, volumes)
        self.padding = _padding(sampler) if padding is None else padding
        self._scaled = scaled_volumes(dataset, self.subjects, self.volumes) if scaled else ()
        # Shared with worker processes, which may live for several epochs.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._ends = np.array(
            list(accumulate(self._count(name, patches_per_subject) for name in self.subjects)),
            dtype=np.int64,
        )

    def _count(self, subject: str, patches_per_subject: int) -> int:
        """Patches of a subject in an epoch."""
        if isinstance(self.sampler, GridSampler):
            return len(self.sampler.locations(self.dataset[subject]))
        return operator.index(patches_per_subject)

    @property
    def epoch(self) -> int:
        """The epoch, which random samplers draw from."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, in worker processes that live on (``persistent_workers``) too; set it
        before the loader is iterated over.
        """
        self._epoch.fill_(operator.index(epoch))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[Any]:
        """The items of a batch; chunks that patches of one subject share are decoded once."""
        places = [self._place(operator.index(index)) for index in indices]
        items: list[Patch] = [{} for _ in places]
        for subject in dict.fromkeys(subject for subject, _ in places):
            members = [n for n, (name, _) in enumerate(places) if name == subject]
            self._read(subject, [places[n][1] for n in members], [items[n] for n in members])
        return [self._finish(item) for item in items]

    def _finish(self, item: Patch) -> Any:
        """Turns an item that was read into the item that is returned."""
        return item if self.transform is None else self.transform(item)

    def _place(self, index: int) -> tuple[str, int]:
        """A subject and the number of a patch in it."""
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"patch {index}: expected below {len(self)}")
        at = int(np.searchsorted(self._ends, number, side="right"))
        return self.subjects[at], number - (int(self._ends[at - 1]) if at else 0)

    def _read(self, name: str, numbers: list[int], items: list[Patch]) -> None:
        subject = self.dataset[name]
        if isinstance(self.sampler, GridSampler):
            starts = self.sampler.locations(subject)[numbers]
        else:
            draw = self.sampler.locations
            starts = np.concatenate(
                [draw(subject, 1, seed=self.seed, epoch=self.epoch, first=n) for n in numbers]
            )
        ends = starts + np.array(self.sampler.patch_size)
        for volume in self.volumes:
            source = subject[volume].scaled if volume in self._scaled else subject[volume]
            batch = batch_of(source, starts, self.sampler.patch_size, self.padding)
            for item, patch in zip(items, batch, strict=True):
                item[volume] = patch
        for item, location in zip(items, torch.from_numpy(np.hstack([starts, ends])), strict=True):
            item["location"], item["subject"] = location, name


def batch_of(
    volume: Volume | ScaledVolume,
    starts: np.ndarray,
    size: Sequence[int],
    padding: Padding = None,
) -> torch.Tensor:
    """Patches as a tensor ``(n, c, z, y, x)`` over the memory that they were read into."""
    batch = torch.from_numpy(volume.read_batch(starts, size, padding=padding))
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


def _padding(sampler: Sampler) -> Padding:
    if isinstance(sampler, GridSampler):
        return sampler.padding
    return 0 if sampler.border == "pad" else None
