"""``DataModule``: the queues of a store for Lightning's ``Trainer``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import Dataset, Queue, UsageError
from . import open as open_store
from ._extras import missing
from ._types import Path

try:
    from lightning import LightningDataModule

    from .torch.queues import Batch, EpochSampler, Loader
except ModuleNotFoundError as error:
    raise missing(error, "lightning") from error

# Names of a split, or of subjects.
Part = str | Sequence[str] | None


class DataModule(LightningDataModule):
    """Batches of a store for ``Trainer.fit``, ``validate``, ``test`` and ``predict``.

    Each rank reads its own part of one plan, without a ``DistributedSampler``. Each training epoch
    has other patches, also after a resume; a checkpoint that is made within an epoch continues with
    the next batch. Validation, test and prediction read the same patches each time, subject after
    subject.

    A batch is that of ``voxquarry.torch.loader``: tensors ``(B, C, z, y, x)`` under the volumes'
    names, ``"location"`` and ``"subject"``.

    Args:
        store: The path of a store, or an open one.
        sampler: Chooses the patches of training.
        volumes: Names of the volumes that are read; all of the first subject's if None.
        train: A key of the store's ``splits``, or names of subjects; None for all subjects.
        val, test, predict: The same for the other loaders; without them there is no such loader.
        eval_sampler: Chooses the patches of those: a ``GridSampler`` for all patches of a subject;
            ``sampler`` if None.
        loader_options: Options of torch's ``DataLoader``, as for ``voxquarry.torch.loader``.
        queue_options: Options of ``voxquarry.Queue``: ``patches_per_subject``, ``batch_size``,
            ``seed``, …; rank and world size are the trainer's.

    Raises:
        UsageError: A split that is not there; an option that the trainer settles. Others as
            ``voxquarry.Queue``, when a loader is made.
    """

    def __init__(
        self,
        store: Path | Dataset,
        sampler: Any,
        volumes: Sequence[str] | None = None,
        *,
        train: Part = None,
        val: Part = None,
        test: Part = None,
        predict: Part = None,
        eval_sampler: Any = None,
        loader_options: Mapping[str, Any] | None = None,
        **queue_options: Any,
    ) -> None:
        super().__init__()
        if settled := {"rank", "world_size", "subjects"}.intersection(queue_options):
            raise UsageError(
                f"{settled.pop()}: the trainer has rank and world size, and train=, val=, test= and"
                " predict= name subjects; leave it out"
            )
        self.dataset = store if isinstance(store, Dataset) else open_store(store)
        self.sampler, self.volumes = sampler, volumes
        self.eval_sampler = sampler if eval_sampler is None else eval_sampler
        self.loader_options, self.queue_options = dict(loader_options or {}), queue_options
        self.parts: dict[str, Part] = {"val": val, "test": test, "predict": predict, "train": train}
        for part in self.parts.values():
            self._subjects(part)

    def _subjects(self, part: Part) -> list[str] | None:
        if part is None or not isinstance(part, str):
            return None if part is None else list(part)
        splits = self.dataset.splits
        if part not in splits:
            raise UsageError(f"no split {part!r}; the store has: {', '.join(splits) or 'none'}")
        return splits[part]

    def _queue(self, part: str, sampler: Any, **options: Any) -> Queue:
        trainer = self.trainer
        return Queue(
            self.dataset,
            sampler,
            self.volumes,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            subjects=self._subjects(self.parts[part]),
            **self.queue_options | options,
        )

    def train_dataloader(self) -> Loader:
        """Batches of training; the next epoch with each iteration."""
        return Loader(self._queue("train", self.sampler), **self.loader_options)

    def _eval_dataloader(self, part: str) -> Loader | list[Loader]:
        if self.parts[part] is None:
            return []
        queue = self._queue(part, self.eval_sampler, shuffle="none", drop_last=False)
        return _SameEachTime(queue, **self.loader_options)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Batches of validation, the same each time."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> Loader | list[Loader]:
        """Batches of a test."""
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> Loader | list[Loader]:
        """Batches of a prediction; with a ``GridSampler`` all patches of each subject, in the order
        of the grid on one rank.
        """
        return self._eval_dataloader("predict")


class _Unmoved(EpochSampler):
    """A sampler whose epoch stays the first."""

    def set_epoch(self, epoch: int) -> None:
        """Nothing: every iteration is of epoch 0."""


class _SameEachTime(Loader):
    """A loader whose iterations all read the patches of epoch 0."""

    def __init__(self, queue: Queue, **options: Any) -> None:
        super().__init__(queue, **options)
        object.__setattr__(self, "sampler", _Unmoved(self.dataset))

    def __iter__(self) -> Iterator[Batch]:
        self.set_epoch(0)
        yield from super().__iter__()
