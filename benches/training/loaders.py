"""The loaders of `endtoend`: how each keeps subjects on disk and yields batches of patches."""

import itertools
import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from benches.compare.systems_voxquarry import library_digest

SUBJECTS = 4
BATCH = 4
# Patches that are cropped from a volume each time it is loaded, by loaders that load volumes.
PER_LOAD = 8
WORKERS = 2
BUFFER_BYTES = 64 << 20


@dataclass(frozen=True)
class Cases:
    """Subjects: `NAME/volume.nii.gz`, the input of all, and `NAME/volume.npy` for comparison."""

    folder: Path
    side: int
    names: tuple

    def gz(self, name):
        return self.folder / name / "volume.nii.gz"

    def voxels(self, name):
        return np.load(self.folder / name / "volume.npy", mmap_mode="r")


class Loader:
    """Loads patches of side `patch` from `cases`; it is pickled to its process."""

    name: str
    # Batches that it may prepare ahead.
    in_flight = 2 * WORKERS + 1
    # Batches in one cycle of filling and emptying.
    turn = 1

    def __init__(self, cases, patch):
        self.cases = cases
        self.patch = patch

    def recipe(self):
        """What the files of `write` depend on besides the cases; None without files."""

    @property
    def store(self):
        return self.cases.folder / "stores" / type(self).__name__

    def prepare(self, say):
        """Writes the files unless they exist with this recipe."""
        recipe = self.recipe()
        if recipe is None:
            return
        marker = self.store / "recipe.json"
        if marker.exists() and json.loads(marker.read_text()) == recipe:
            return
        say(f"writing {self.name}")
        shutil.rmtree(self.store, ignore_errors=True)
        self.store.mkdir(parents=True)
        self.write()
        marker.write_text(json.dumps(recipe))

    def write(self):
        raise NotImplementedError

    def batches(self):
        """An endless iterator of batches."""
        raise NotImplementedError

    def patches_in(self, batch):
        return len(batch["image"])

    def located(self, batch):
        """Subject, start `(z, y, x)` and voxels of each patch of a batch."""
        raise NotImplementedError


class Voxquarry(Loader):
    """The queue, with so many patches in an epoch that its start does not matter."""

    workers = 0
    options: ClassVar = {}
    in_flight = 64

    @property
    def store(self):
        return self.cases.folder / "stores" / "voxquarry"

    def recipe(self):
        return {"library": library_digest(), "patch": self.patch}

    def write(self):
        import voxquarry

        voxquarry.ingest(
            {name: {"image": self.cases.gz(name)} for name in self.cases.names},
            self.store / "store",
            self.patch,
        )

    def batches(self):
        import voxquarry
        import voxquarry.torch

        dataset = voxquarry.open(self.store / "store")
        sampler = voxquarry.UniformSampler(self.patch)
        queue = voxquarry.Queue(
            dataset,
            sampler,
            patches_per_subject=1024,
            batch_size=BATCH,
            buffer_bytes=BUFFER_BYTES,
            **self.options,
        )
        loader = voxquarry.torch.loader(
            queue, num_workers=self.workers, persistent_workers=self.workers > 0
        )
        for epoch in itertools.count():
            loader.set_epoch(epoch)
            yield from loader

    def located(self, batch):
        for name, location, patch in zip(
            batch["subject"], batch["location"].tolist(), batch["image"], strict=True
        ):
            yield name, location[:3], patch[0].numpy()


class VoxquarryAlone(Voxquarry):
    name = "voxquarry.torch.loader, no worker"


class VoxquarryUncached(Voxquarry):
    name = "voxquarry.torch.loader, no worker, no chunk kept"
    options: ClassVar = {"cache_bytes": 0}


class VoxquarryWorkers(Voxquarry):
    name = "voxquarry.torch.loader, 2 workers"
    workers = WORKERS


class VoxquarryTorchio(Voxquarry):
    """A TorchIO script with its imports changed."""

    name = "voxquarry.torchio.Queue"
    turn = SUBJECTS * PER_LOAD // BATCH
    in_flight = 2 * turn

    def batches(self):
        import torchio

        import voxquarry
        import voxquarry.torchio as vt

        dataset = voxquarry.open(self.store / "store")
        subjects = torchio.SubjectsDataset([vt.subject(dataset[name]) for name in dataset])
        queue = vt.Queue(
            subjects, len(subjects) * PER_LOAD, PER_LOAD, vt.UniformSampler(self.patch)
        )
        while True:
            yield from torchio.SubjectsLoader(queue, batch_size=BATCH)

    def patches_in(self, batch):
        return len(batch["location"])

    def located(self, batch):
        for name, location, patch in zip(
            batch["name"], batch["location"].tolist(), batch["image"]["data"], strict=True
        ):
            yield name, location[2::-1], patch[0].permute(2, 1, 0).numpy()


class TorchioQueue(VoxquarryTorchio):
    name = "TorchIO, Queue from .nii.gz, 2 workers"

    def recipe(self):
        return None

    def batches(self):
        import torchio

        subjects = [
            torchio.Subject(name=name, image=torchio.ScalarImage(self.cases.gz(name)))
            for name in self.cases.names
        ]
        sampler = torchio.UniformSampler(self.patch)
        queue = torchio.Queue(
            torchio.SubjectsDataset(subjects),
            len(subjects) * PER_LOAD,
            PER_LOAD,
            sampler,
            num_workers=WORKERS,
        )
        while True:
            yield from torchio.SubjectsLoader(queue, batch_size=BATCH)


class MonaiPersistent(Loader):
    name = "MONAI, PersistentDataset and random crops, 2 workers"
    in_flight = 2 * WORKERS + 2

    def recipe(self):
        import monai

        return {"monai": monai.__version__, "torch": torch.__version__}

    def write(self):
        """The cache fills as it is used."""

    def batches(self):
        warnings.filterwarnings("ignore", category=FutureWarning)
        import monai.data
        import monai.transforms as mt

        transform = mt.Compose([
            mt.LoadImaged(["image"], dtype=np.int16),
            mt.EnsureChannelFirstd(["image"]),
            mt.RandSpatialCropSamplesd(["image"], self.patch, PER_LOAD, random_size=False),
        ])  # fmt: skip
        files = [{"image": str(self.cases.gz(name)), "subject": name} for name in self.cases.names]
        dataset = monai.data.PersistentDataset(files * 64, transform, self.store / "cache")
        loader = monai.data.DataLoader(
            dataset, batch_size=1, shuffle=True, num_workers=WORKERS, persistent_workers=True
        )
        while True:
            yield from loader

    def located(self, batch):
        for name, patch in zip(batch["subject"], batch["image"], strict=True):
            # A volume's affine is the identity, so a patch's affine contains its start.
            start = np.rint(patch.affine[:3, 3].numpy()).astype(int)[::-1]
            yield name, start.tolist(), patch[0].permute(2, 1, 0).as_tensor().numpy()


class NnunetBlosc2(Loader):
    name = "DataLoader over nnU-Net's blosc2 files, 2 workers"

    def recipe(self):
        import blosc2

        from benches.compare import nnunet

        version, *_ = nnunet.rules(self.cases.folder.parent)
        return {"blosc2": blosc2.__version__, "nnunetv2": version, "patch": self.patch}

    def write(self):
        from benches.compare.systems_blosc2 import write_case

        for name in self.cases.names:
            write_case(
                self.cases.voxels(name),
                (self.patch,) * 3,
                self.store / f"{name}.b2nd",
                self.cases.folder.parent,
            )

    def batches(self):
        patches = Blosc2Patches(
            [(name, self.store / f"{name}.b2nd") for name in self.cases.names], self.patch
        )
        loader = torch.utils.data.DataLoader(
            patches, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True
        )
        while True:
            yield from loader

    def located(self, batch):
        for name, start, patch in zip(
            batch["subject"], batch["start"].tolist(), batch["image"], strict=True
        ):
            yield name, start, patch[0].numpy()


class Blosc2Patches(torch.utils.data.Dataset):
    """Like nnU-Net's loader: opens and maps the file of a random case for every patch."""

    def __init__(self, files, patch):
        self.files = files
        self.patch = patch

    def __len__(self):
        return 4096

    def __getitem__(self, index):
        import blosc2

        blosc2.set_nthreads(1)
        name, path = self.files[int(torch.randint(len(self.files), (1,)))]
        case = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")
        start = [int(torch.randint(n - self.patch + 1, (1,))) for n in case.shape[1:]]
        box = tuple(slice(a, a + self.patch) for a in start)
        return {
            "image": torch.from_numpy(case[(slice(0, 1), *box)]),
            "start": torch.tensor(start),
            "subject": name,
        }


LOADERS = (
    VoxquarryAlone,
    VoxquarryUncached,
    VoxquarryWorkers,
    VoxquarryTorchio,
    TorchioQueue,
    MonaiPersistent,
    NnunetBlosc2,
)
