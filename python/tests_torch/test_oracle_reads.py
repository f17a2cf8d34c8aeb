"""Patches of a store against TorchIO's patches of the NIfTI file it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torchio as tio
from helpers import noise, smooth, write_nifti

import voxquarry as vq

SIZE = (21, 17, 26)
PATCH = (6, 8, 10)
OVERLAP = (2, 4, 6)


def subjects(folder: Path, voxels: np.ndarray, **options: object) -> tuple[vq.Subject, tio.Subject]:
    """Ours and TorchIO's of one file; ``voxels`` is in the file's order, ``(x, y, z[, c])``."""
    path = write_nifti(folder / "a.nii.gz", voxels, **options)
    ours = vq.ingest({"a": path}, folder / "store.zarr", patch_size=PATCH)["a"]
    return ours, tio.Subject(image=tio.ScalarImage(path))


def array(patch: tio.Subject) -> np.ndarray:
    """TorchIO's ``(c, i, j, k)`` as ``(c, z, y, x)``."""
    return patch["image"].numpy().transpose(0, 3, 2, 1)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_every_patch_of_a_grid(tmp_path: Path, dtype: str) -> None:
    voxels = smooth(SIZE[::-1], dtype) if dtype[0] == "f" else noise(SIZE[::-1], dtype)
    ours, theirs = subjects(tmp_path, voxels)
    sampler = tio.GridSampler(theirs, PATCH[::-1], OVERLAP[::-1])
    starts = vq.GridSampler(PATCH, overlap=OVERLAP).locations(ours)
    patches = dict(
        zip(map(tuple, starts.tolist()), ours["image"].read_batch(starts, PATCH), strict=True)
    )
    for patch in sampler:
        found = patches.pop(tuple(patch[tio.LOCATION].tolist()[2::-1]))
        assert found.dtype == dtype
        assert np.array_equal(found, array(patch)[0])
    assert not patches


def test_channels(tmp_path: Path) -> None:
    ours, theirs = subjects(tmp_path, noise((*SIZE[::-1], 3), "i2"))
    assert ours["image"].shape == (3, *SIZE)
    for patch in tio.GridSampler(theirs, PATCH[::-1]):
        start = patch[tio.LOCATION].tolist()[2::-1]
        assert np.array_equal(ours["image"].read(start, PATCH), array(patch))


@pytest.mark.parametrize("padding", [-7, "edge", "reflect"])
def test_padding(tmp_path: Path, padding: int | str) -> None:
    ours, theirs = subjects(tmp_path, noise(SIZE[::-1], "i2"))
    sampler = tio.GridSampler(theirs, PATCH[::-1], OVERLAP[::-1], padding_mode=padding)
    outside = 0
    # By index: iterating, TorchIO pads the padded subject once more.
    for n in range(len(sampler)):
        start = sampler.locations[n, 2::-1] - np.array(OVERLAP) // 2
        outside += bool((start < 0).any())
        found = ours["image"].read(start, PATCH, padding=padding)
        assert np.array_equal(found, array(sampler[n])[0]), start
    assert 0 < outside < len(sampler)


def test_space_and_scale(tmp_path: Path) -> None:
    affine = np.array([[0, -1.5, 0, 20], [0.75, 0, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1]])

    def edit(header: object) -> None:
        header.set_sform(affine, 1)
        header.set_qform(affine, 1)
        header["scl_slope"], header["scl_inter"] = 0.5, -1024

    ours, theirs = subjects(tmp_path, noise(SIZE[::-1], "i2"), edit=edit)
    volume, image = ours["image"], theirs["image"]
    np.testing.assert_allclose(volume.affine, image.affine, rtol=0, atol=1e-5)
    assert volume.spacing == pytest.approx(image.spacing[::-1], abs=1e-6)
    scaled = volume[...] * volume.slope + volume.intercept
    assert (volume.slope, volume.intercept) == (0.5, -1024)
    assert np.array_equal(scaled, array(theirs)[0])
