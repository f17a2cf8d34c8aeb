"""ITK, whose reader is not nibabel's, reads what export compresses in parallel blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torchio as tio
from helpers import noise, smooth, write_nifti

import voxquarry as vq


def test_several_blocks(tmp_path: Path) -> None:
    voxels = smooth((140, 130, 90), "i2") ^ (noise((140, 130, 90), "i2") & 7)
    source = write_nifti(tmp_path / "a.nii", voxels)
    volume = vq.ingest({"a": source}, tmp_path / "store.zarr")["a"]["image"]
    vq.export(volume, tmp_path / "b.nii.gz")
    assert (tmp_path / "b.nii.gz").stat().st_size > 1 << 19
    found, expected = (sitk.ReadImage(tmp_path / name) for name in ("b.nii.gz", "a.nii"))
    assert np.array_equal(sitk.GetArrayFromImage(found), volume[...])
    assert found.GetSpacing() == expected.GetSpacing()
    assert found.GetOrigin() == expected.GetOrigin()
    assert found.GetDirection() == expected.GetDirection()
    assert np.array_equal(tio.ScalarImage(tmp_path / "b.nii.gz").numpy()[0], voxels)


def test_channels_of_a_result(tmp_path: Path) -> None:
    voxels = smooth((3, 70, 80, 90), "f4")
    grid = vq.GridSampler(voxels.shape[1:])
    aggregator = vq.Aggregator(
        grid, voxels.shape[1:], channels=3, out=tmp_path / "pred.zarr/a/pred"
    )
    aggregator.add(voxels, (0, 0, 0))
    vq.export(aggregator.finish(), tmp_path / "pred.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "pred.nii.gz")), voxels)
    assert np.array_equal(
        tio.ScalarImage(tmp_path / "pred.nii.gz").numpy(), voxels.transpose(0, 3, 2, 1)
    )
