"""Synthetic CTs with an organ to find: as NIfTI files, and in a store."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

import voxquarry as vq

#: Voxels of a CT, ``(x, y, z)``.
SIZE = (48, 44, 40)
AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])


def make(folder: Path, count: int = 4) -> tuple[list[Path], list[Path], vq.Dataset]:
    """Files of images and of labels, and their store with the volumes ``ct`` and ``seg``."""
    images, labels = [], []
    grid = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1)
    for case in range(count):
        random = np.random.default_rng(case)
        organ = np.linalg.norm(grid - random.uniform(0.35, 0.65, 3) * SIZE, axis=-1) < 9
        body = np.linalg.norm((grid - np.array(SIZE) / 2) / SIZE, axis=-1) < 0.48
        ct = np.where(body, random.normal(20, 25, SIZE) + 130 * organ, -1000)
        images.append(folder / f"case{case}_ct.nii.gz")
        labels.append(folder / f"case{case}_seg.nii.gz")
        for path, voxels in ((images[-1], ct.astype("i2")), (labels[-1], organ.astype("u1"))):
            nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    sources = {
        f"case{case}": {"ct": images[case], "seg": vq.Labels(labels[case])} for case in range(count)
    }
    return images, labels, vq.ingest(sources, folder / "store.zarr", patch_size=16)
