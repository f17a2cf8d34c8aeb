"""TorchIO's queue, filled by threads during training."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import torchio as tio

from .samplers import RandomSampler

_THREADS = min(4, os.cpu_count() or 1)


class Queue(tio.Queue):
    """``torchio.Queue``: patches of the subjects of a ``SubjectsDataset``, shuffled.

    Subjects, places and order are drawn as TorchIO draws them: with the same seed of torch, the
    same patches come in the same order. Threads cut the patches ahead of training, where TorchIO
    cuts them all while training waits. Subjects of a store are read patch by patch, so
    ``num_workers=0`` is as fast as any other number. At most ``max_length`` patches are held, also
    of a subject that has more. Samplers of other modules cut as they do in TorchIO.
    """

    patches_list: list[Any]
    _incomplete_subject: tio.Subject | None
    _num_patches_incomplete: int

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pool: ThreadPoolExecutor | None = None

    def __getitem__(self, index: int) -> tio.Subject:
        patch = super().__getitem__(index)
        return patch.result() if isinstance(patch, _Ahead) else patch

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
        if isinstance(self.sampler, RandomSampler):
            self.patches_list.extend(self.sampler.planned(subject, count))
        else:
            self.patches_list.extend(islice(self.sampler(subject), count))

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
