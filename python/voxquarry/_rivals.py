"""Random patches of the same images by the loaders of several projects, for ``bench --against``.

Each loader runs in a process of its own, ``python -m voxquarry._rivals TASK``, and is used as its
project documents it for training from files. The process prints what it measured as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

# Patches of a batch.
BATCH = 4
# Patches that are cropped from a volume each time it is loaded, by loaders that load volumes.
PER_LOAD = 8


@dataclass(frozen=True)
class Task:
    """What one process does. Files are in the order of the subjects."""

    loader: str
    store: str
    subjects: list[str]
    volume: str
    files: list[str]
    # For what a loader writes before training.
    folder: str
    # (z, y, x)
    patch: list[int]
    workers: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What one loader did."""

    patches: int
    seconds: float
    first_batch_seconds: float
    # None if it reads the files as they are.
    prepare_seconds: float | None


class Loader:
    """A loader: what it needs, and how it yields batches."""

    # The packages that it imports.
    packages: ClassVar[tuple[str, ...]]
    # How it is used, for the table.
    used: ClassVar[str]

    def __init__(self, task: Task) -> None:
        self.task = task

    def prepare(self) -> bool:
        """Writes what training reads instead of the files; False if it reads the files."""
        return False

    def batches(self) -> Iterator[int]:
        """The number of patches of each batch, without end."""
        raise NotImplementedError


class Voxquarry(Loader):
    packages = ()
    used = "vq.Queue, from the store"

    def batches(self) -> Iterator[int]:
        from ._native import Queue, UniformSampler
        from ._native import open as open_store

        task = self.task
        queue = Queue(
            open_store(task.store),
            UniformSampler(task.patch),
            subjects=task.subjects,
            volumes=[task.volume],
            patches_per_subject=1024,
            batch_size=BATCH,
            threads=task.workers,
        )
        while True:
            for batch in queue:
                yield len(batch[task.volume])


class Nibabel(Loader):
    """What one writes first: load a volume, crop a few patches, load the next."""

    packages = ("nibabel",)
    used = f"loads a .nii.gz, crops {PER_LOAD} patches, in this process"

    def batches(self) -> Iterator[int]:
        import nibabel

        draw = np.random.default_rng(0)
        size = self.task.patch[::-1]
        for path in itertools.cycle(self.task.files):
            image: Any = nibabel.load(path)
            voxels = np.asanyarray(image.dataobj)
            for _ in range(PER_LOAD // BATCH):
                batch = []
                for _ in range(BATCH):
                    batch.append(voxels[_random_box(draw, voxels.shape[:3], size)])
                yield len(np.stack(batch))


class TorchIO(Loader):
    packages = ("torch", "torchio")
    used = f"Queue over .nii.gz, {PER_LOAD} patches of each volume"

    def batches(self) -> Iterator[int]:
        import torchio

        task = self.task
        subjects = [torchio.Subject(image=torchio.ScalarImage(path)) for path in task.files]
        queue = torchio.Queue(
            torchio.SubjectsDataset(subjects),
            max_length=max(len(subjects), 4) * PER_LOAD,
            samples_per_volume=PER_LOAD,
            sampler=torchio.UniformSampler(task.patch[::-1]),
            num_workers=task.workers,
        )
        while True:
            for batch in torchio.SubjectsLoader(queue, batch_size=BATCH):
                yield len(batch["image"]["data"])


class Monai(Loader):
    packages = ("torch", "monai", "nibabel")
    used = f"PersistentDataset and {PER_LOAD} random crops of each volume"

    def prepare(self) -> bool:
        for item in self._dataset():
            del item
        return True

    def _dataset(self) -> Any:
        import monai.data
        import monai.transforms as mt

        transform = mt.Compose([
            mt.LoadImaged(["image"], dtype=None),
            mt.EnsureChannelFirstd(["image"]),
            mt.RandSpatialCropSamplesd(
                ["image"], self.task.patch[::-1], PER_LOAD, random_size=False
            ),
        ])  # fmt: skip
        files = [{"image": path} for path in self.task.files]
        return monai.data.PersistentDataset(files, transform, self.task.folder)

    def batches(self) -> Iterator[int]:
        import monai.data
        import torch

        dataset = self._dataset()
        # Small data sets: an epoch is long, as with many subjects.
        many = torch.utils.data.ConcatDataset([dataset] * (1 + 64 // len(self.task.files)))
        loader = monai.data.DataLoader(
            many,
            batch_size=1,
            shuffle=True,
            num_workers=self.task.workers,
            persistent_workers=True,
        )
        while True:
            for batch in loader:
                for first in range(0, len(batch["image"]), BATCH):
                    yield len(batch["image"][first : first + BATCH])


class NnUNet(Loader):
    packages = ("torch", "nnunetv2", "blosc2", "nibabel")
    used = "DataLoader over cases that nnU-Net's own writer compressed"

    def prepare(self) -> bool:
        import nibabel
        from nnunetv2.training.dataloading.nnunet_dataset import (
            comp_blosc2_params,
            nnUNetDatasetBlosc2,
        )

        for number, path in enumerate(self.task.files):
            image: Any = nibabel.load(path)
            voxels = np.asanyarray(image.dataobj).T[None].astype(np.float32)
            labels = np.zeros(voxels.shape, np.int8)
            patch = tuple(self.task.patch)
            blocks, chunks = comp_blosc2_params(voxels.shape, patch, 4)
            seg_blocks, seg_chunks = comp_blosc2_params(labels.shape, patch, 1)
            nnUNetDatasetBlosc2.save_case(
                np.ascontiguousarray(voxels),
                labels,
                {},
                str(Path(self.task.folder) / f"case{number}"),
                chunks=chunks,
                blocks=blocks,
                chunks_seg=seg_chunks,
                blocks_seg=seg_blocks,
            )
        return True

    def batches(self) -> Iterator[int]:
        import torch

        loader = torch.utils.data.DataLoader(
            _NnUNetCases(self.task.folder, self.task.patch),
            batch_size=BATCH,
            num_workers=self.task.workers,
            persistent_workers=True,
        )
        while True:
            for batch in loader:
                yield len(batch)


class _NnUNetCases:
    """Like nnU-Net's loader: opens and maps the files of a random case for every patch."""

    def __init__(self, folder: str, patch: list[int]) -> None:
        self._folder, self._patch = folder, patch

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> Any:
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        cases = nnUNetDatasetBlosc2(self._folder)
        draw = np.random.default_rng(index)
        voxels = cases.load_case(cases.identifiers[draw.integers(len(cases.identifiers))])[0]
        box = _random_box(draw, voxels.shape[1:], self._patch)
        return np.ascontiguousarray(voxels[(slice(None), *box)])


def _random_box(
    draw: np.random.Generator, extents: Sequence[int], size: Sequence[int]
) -> tuple[slice, ...]:
    """A box of ``size`` that lies in ``extents``, all places alike."""
    starts = [int(draw.integers(m - n + 1)) for m, n in zip(extents, size, strict=True)]
    return tuple(slice(start, start + n) for start, n in zip(starts, size, strict=True))


LOADERS: dict[str, type[Loader]] = {
    "voxquarry": Voxquarry,
    "monai": Monai,
    "torchio": TorchIO,
    "nnunet": NnUNet,
    "nibabel": Nibabel,
}


def measure(task: Task) -> Measured:
    """Takes batches until ``task.seconds`` have passed since the first."""
    loader = LOADERS[task.loader](task)
    for package in loader.packages:
        __import__(package)
    begun = time.monotonic()
    is_prepared = loader.prepare()
    prepare_seconds = time.monotonic() - begun if is_prepared else None
    begun = time.monotonic()
    batches = loader.batches()
    next(batches)
    first = time.monotonic()
    patches, now = 0, first
    while now - first < task.seconds:
        patches += next(batches)
        now = time.monotonic()
    return Measured(patches, now - first, first - begun, prepare_seconds)


if __name__ == "__main__":
    result = measure(Task(**json.loads(sys.argv[1])))
    print("measured " + json.dumps(asdict(result)), flush=True)
