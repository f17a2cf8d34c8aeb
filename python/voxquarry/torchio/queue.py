"""TorchIO's queue, filled by threads during training."""

from __future__ import annotations

import copy
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torchio as tio
from torch.utils.data import get_worker_info

from .. import UsageError
from .._types import OnMissing
from .samplers import RandomSampler, UniformSampler, WeightedSampler

_THREADS = min(4, os.cpu_count() or 1)


class Queue(tio.Queue):
    """``torchio.Queue``: patches of the subjects of a ``SubjectsDataset``, shuffled.

    Subjects, places and order are drawn as TorchIO draws them: with the same seed of torch, the
    same patches come in the same order. Threads cut the patches ahead of training, where TorchIO
    cuts them all while training waits. Subjects of a store are read patch by patch, so
    ``num_workers=0`` is as fast as any other number. At most ``max_length`` patches are held, also
    of a subject that has more. Samplers of other modules cut as they do in TorchIO.

    In the worker processes of a loader, too, an epoch has ``samples_per_volume`` patches of each
    subject, which TorchIO's has not: item ``n`` is patch ``n`` of an order that all workers share,
    shuffled over ``max_length`` patches at a time. Each worker keeps as many subjects as
    ``max_length`` patches come from.

    Args:
        subjects_dataset, max_length, samples_per_volume, sampler, subject_sampler, num_workers,
            shuffle_subjects, shuffle_patches, start_background, verbose: As for ``torchio.Queue``.
        on_missing: What is done with subjects of a store in which a ``WeightedSampler`` or a
            ``LabelSampler`` can draw no patch, as for ``voxquarry.Queue``.

    Raises:
        UsageError: Subjects in which no patch can be drawn; ``on_missing="skip"`` beside a
            ``subject_sampler``.
    """

    patches_list: list[Any]
    _incomplete_subject: tio.Subject | None
    _num_patches_incomplete: int

    def __init__(
        self,
        subjects_dataset: tio.SubjectsDataset,
        max_length: int,
        samples_per_volume: int,
        sampler: tio.data.PatchSampler,
        *arguments: Any,
        on_missing: OnMissing = "error",
        **named: Any,
    ) -> None:
        subject_sampler = arguments[0] if arguments else named.get("subject_sampler")
        subjects_dataset, self._background = _without_missing(
            subjects_dataset, sampler, on_missing, subject_sampler is not None
        )
        super().__init__(
            subjects_dataset, max_length, samples_per_volume, sampler, *arguments, **named
        )
        self._pool: ThreadPoolExecutor | None = None
        self._worker_order = _WorkerOrder(self._most_patches())

    def __getitem__(self, index: int) -> tio.Subject:
        if get_worker_info() is not None:
            subject = self._worker_order.subject(self, index)
            return next(iter(self._sampler_of(subject)(subject, 1)))
        patch = super().__getitem__(index)
        return patch.result() if isinstance(patch, _Ahead) else patch

    def _most_patches(self) -> int:
        """At least as many patches as an epoch has; 0 if nobody knows."""
        samples = [self._get_subject_num_samples(s) for s in self.subjects_dataset.dry_iter()]
        if self.subject_sampler is None:
            return sum(samples)
        has_length = isinstance(self.subject_sampler, Sized)
        return len(self.subject_sampler) * max(samples) if has_length else 0

    def _fill(self) -> None:
        if self._incomplete_subject is not None:
            taken = min(self._num_patches_incomplete, self.max_length)
            self._take(self._incomplete_subject, taken)
            self._num_patches_incomplete -= taken
            if self._num_patches_incomplete == 0:
                self._incomplete_subject = None
        while self._incomplete_subject is None and len(self.patches_list) < self.max_length:
            subject = self._get_next_subject()
            wanted = self._get_subject_num_samples(subject)
            taken = min(wanted, self.max_length - len(self.patches_list))
            if taken < wanted:
                self._incomplete_subject, self._num_patches_incomplete = subject, wanted - taken
            self._take(subject, taken)
            self._num_sampled_subjects += 1
            if self._num_sampled_subjects >= self.num_subjects:
                break
        if self.shuffle_patches:
            self._shuffle_patches_list()
        # In the order in which they will be wanted.
        self.patches_list = [
            self._begin(patch) if callable(patch) else patch for patch in self.patches_list
        ]

    def _take(self, subject: tio.Subject, count: int) -> None:
        sampler = self._sampler_of(subject)
        if isinstance(sampler, RandomSampler):
            self.patches_list.extend(sampler.planned(subject, count))
        else:
            self.patches_list.extend(islice(sampler(subject), count))

    def _sampler_of(self, subject: tio.Subject) -> tio.data.PatchSampler:
        if self._background and _home(subject) in self._background:
            return UniformSampler(self.sampler.patch_size.tolist())
        return self.sampler

    def _begin(self, cut: Callable[[], tio.Subject]) -> _Ahead:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="voxquarry-queue")
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        return _Ahead(self._pool, cut)


class _Ahead:
    """A patch that a thread is cutting."""

    def __init__(self, pool: ThreadPoolExecutor, cut: Callable[[], tio.Subject]) -> None:
        self._cut, self._process = cut, os.getpid()
        self._future = pool.submit(cut)

    def result(self) -> tio.Subject:
        # A forked process has no such thread.
        return self._future.result() if self._process == os.getpid() else self._cut()


class _WorkerOrder:
    """The patches of a queue in the worker processes of a loader, by their numbers.

    The ``k``-th time that a loader reads a number, it gets a patch of epoch ``k``, of whose order
    all workers know the same.
    """

    def __init__(self, most_patches: int) -> None:
        # How often each number was read, in memory that all workers share.
        self._reads = torch.zeros(most_patches, dtype=torch.int32).share_memory_()
        self._orders: OrderedDict[tuple[int, int], list[int]] = OrderedDict()
        self._subjects: OrderedDict[int, tio.Subject] = OrderedDict()

    def subject(self, queue: Queue, index: int) -> tio.Subject:
        """The subject of the next patch with that number."""
        self._reads[index] += 1
        worker = get_worker_info()
        if worker is None:
            raise RuntimeError("patches have numbers in worker processes only")
        key = (worker.seed - worker.id, int(self._reads[index]))
        if key not in self._orders:
            self._orders[key] = _order(queue, hash(key) & 0x7FFF_FFFF_FFFF_FFFF)
        if len(self._orders) > 2:
            self._orders.popitem(last=False)
        number = self._orders[key][index]
        if number not in self._subjects:
            self._subjects[number] = queue.subjects_dataset[number]
        self._subjects.move_to_end(number)
        if len(self._subjects) > -(-queue.max_length // max(queue.samples_per_volume, 1)):
            self._subjects.popitem(last=False)
        return self._subjects[number]


def _order(queue: Queue, seed: int) -> list[int]:
    """The number of the subject of each patch of an epoch."""
    generator = torch.Generator().manual_seed(seed)
    subjects = queue.subjects_dataset.dry_iter()
    numbers = list(range(len(subjects)))
    if queue.subject_sampler is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            numbers = [int(number) for number in queue.subject_sampler]
    elif queue.shuffle_subjects:
        numbers = torch.randperm(len(subjects), generator=generator).tolist()
    order = [n for n in numbers for _ in range(queue._get_subject_num_samples(subjects[n]))]
    if queue.shuffle_patches:
        for begin in range(0, len(order), queue.max_length):
            part = order[begin : begin + queue.max_length]
            mixed = torch.randperm(len(part), generator=generator).tolist()
            order[begin : begin + len(part)] = [part[n] for n in mixed]
    return order


def _without_missing(
    dataset: tio.SubjectsDataset,
    sampler: tio.data.PatchSampler,
    on_missing: OnMissing,
    has_subject_sampler: bool,
) -> tuple[tio.SubjectsDataset, frozenset[str]]:
    """The subjects that are read, and those of them whose patches are drawn anywhere."""
    if on_missing not in ("error", "skip", "background"):
        raise UsageError(f'on_missing {on_missing!r}: expected "error", "skip" or "background"')
    if not isinstance(sampler, WeightedSampler):
        return dataset, frozenset()
    subjects = dataset.dry_iter()
    missing = sampler.missing(subjects)
    if not missing:
        return dataset, frozenset()
    if on_missing == "background":
        return dataset, frozenset(_home(subjects[number]) for number in missing)
    if on_missing == "error" or len(missing) == len(subjects):
        listed = [f"{subjects[n].get('name', n)}: {why}" for n, why in list(missing.items())[:10]]
        more = [f"… and {len(missing) - 10} more"] if len(missing) > 10 else []
        remedy = (
            "sample by labels or weights that they have"
            if len(missing) == len(subjects)
            else 'leave them out (on_missing="skip"), or draw their patches anywhere'
            ' (on_missing="background")'
        )
        raise UsageError(
            f"no patch can be drawn in {len(missing)} of {len(subjects)} subjects"
            f" ({'; '.join(listed + more)}): {remedy}"
        )
    if has_subject_sampler:
        raise UsageError(
            'on_missing="skip" beside a subject_sampler, which numbers all subjects: leave the'
            f" subjects {sorted(missing)} out of both"
        )
    kept = copy.copy(dataset)
    kept._subjects = [subject for n, subject in enumerate(subjects) if n not in missing]
    return kept, frozenset()


def _home(subject: tio.Subject) -> str:
    """Where a subject's images lie, also once they were loaded and transformed."""
    paths = (image.path for image in subject.get_images(intensity_only=False))
    return str(next((path.parent for path in paths if isinstance(path, Path)), ""))
