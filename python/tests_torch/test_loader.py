"""A map-style data set over a store, read by the worker processes of torch's DataLoader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import smooth, write_nifti
from torch.utils.data import DataLoader, Dataset

import voxquarry as vq

SIZE = (72, 90, 81)
# A patch of 55 KiB in two bytes a voxel is read on the caller's thread, one of 512 KiB by the pool.
PATCHES = [(24, 32, 36), (64, 64, 64)]
COUNT = 24


class Patches(Dataset):
    """Holds an open subject, which a fork takes with it and a spawn opens again."""

    def __init__(self, path: str, patch: tuple[int, int, int]) -> None:
        self.patch = patch
        self.subject = vq.open(path, threads=2)["case01"]
        self.starts = vq.UniformSampler(patch).locations(self.subject, COUNT, seed=8)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        volumes = [
            torch.from_numpy(self.subject[name].read(self.starts[n], self.patch))
            for name in ("ct", "seg")
        ]
        return (*volumes, torch.from_numpy(self.starts[n]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("loader")
    voxels = {"ct": smooth(SIZE), "seg": smooth(SIZE, "i4").astype("u1") % 5}
    files = {name: write_nifti(folder / f"{name}.nii", array.T) for name, array in voxels.items()}
    vq.ingest(
        {"case01": files | {"seg": vq.Labels(files["seg"])}}, folder / "store.zarr", patch_size=32
    )
    return str(folder / "store.zarr"), voxels


# Python 3.12 and later warn about any fork of a process with threads; that it works here is what is
# tested.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_deliver_what_one_process_reads(
    store: tuple[str, dict[str, np.ndarray]], method: str, patch: tuple[int, int, int]
) -> None:
    path, voxels = store
    patches = Patches(path, patch)
    # Reads in the parent, so that its pool runs and its cache is warm before there are workers.
    alone = list(DataLoader(patches, batch_size=4))
    assert patches.subject["ct"].read((0, 0, 0), 64).nbytes > 256 << 10
    loader = DataLoader(
        patches, batch_size=4, num_workers=2, multiprocessing_context=method, timeout=60
    )
    # Workers end with an epoch, and the next has new ones.
    for _ in range(2 if method == "fork" else 1):
        batches = list(loader)
        assert len(batches) == len(alone) == COUNT // 4
        for found, expected in zip(batches, alone, strict=True):
            assert all(
                torch.equal(a, b) and a.dtype == b.dtype
                for a, b in zip(found, expected, strict=True)
            )
        for ct, seg, start in zip(
            *(torch.cat(part) for part in zip(*batches, strict=True)), strict=True
        ):
            box = tuple(slice(at, at + p) for at, p in zip(start.tolist(), patch, strict=True))
            assert np.array_equal(ct.numpy(), voxels["ct"][box])
            assert np.array_equal(seg.numpy(), voxels["seg"][box])
    # The parent reads on, with the pool it had.
    assert torch.equal(patches[COUNT - 1][0], alone[-1][0][-1])
