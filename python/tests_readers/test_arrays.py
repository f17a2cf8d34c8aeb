"""Arrays of dask, xarray, h5py and zarr, and images of SimpleITK, become the volumes that they
show.
"""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import xarray as xr
import zarr

import voxquarry as vq

VOXELS = (np.arange(3 * 41 * 30 * 20) * 7 % 30011 - 15000).reshape(3, 41, 30, 20).astype("i2")


def ingested(folder: Path, source: object, **options: object) -> vq.Volume:
    return vq.ingest({"s": {"v": source}}, folder / "s.zarr", patch_size=16, **options)["s"]["v"]


def same(volume: vq.Volume, expected: np.ndarray) -> bool:
    return volume.dtype == expected.dtype and np.array_equal(volume[...], expected)


@pytest.mark.parametrize("chunks", [(1, 7, 30, 20), (3, 20, 11, 13), (3, 41, 30, 20)])
def test_dask(tmp_path: Path, chunks: tuple[int, ...]) -> None:
    computed = []

    def compute(block: np.ndarray) -> np.ndarray:
        if block.size:
            computed.append(block.shape)
        return block

    array = da.from_array(VOXELS, chunks=chunks).map_blocks(compute, dtype="i2")
    assert same(ingested(tmp_path, array), VOXELS)
    # Each chunk is computed for each channel that it holds, and no more.
    held = VOXELS.size * min(chunks[0], 3)
    assert sum(np.prod(shape) for shape in computed) == held


def test_dask_with_channels_inside(tmp_path: Path) -> None:
    array = da.from_array(np.moveaxis(VOXELS, 0, -1), chunks=(8, 30, 20, 3))
    assert same(ingested(tmp_path, array, dims="zyxc"), VOXELS)


@pytest.mark.parametrize("dims", [("c", "z", "y", "x"), ("x", "Y", "z", "c")])
@pytest.mark.parametrize("lazy", [False, True])
def test_xarray_by_its_own_dimensions(tmp_path: Path, dims: tuple[str, ...], lazy: bool) -> None:
    order = ["czyx".index(name.lower()) for name in dims]
    array = xr.DataArray(VOXELS.transpose(order), dims=dims)
    assert same(ingested(tmp_path, array.chunk(9) if lazy else array), VOXELS)
    with pytest.raises(vq.UsageError, match="rename them"):
        ingested(tmp_path, xr.DataArray(VOXELS[0], dims=("depth", "row", "column")))


def test_arrays_on_disk(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v", data=VOXELS, chunks=(1, 16, 16, 16))
        assert same(ingested(tmp_path, file["v"]), VOXELS)
    array = zarr.create_array(tmp_path / "a.zarr", data=VOXELS, chunks=(1, 9, 30, 20))
    volume = ingested(tmp_path, array, overwrite=True)
    assert same(volume, VOXELS)
    # A volume is an array as well.
    again = vq.ingest({"s": {"v": volume}}, tmp_path / "again.zarr", patch_size=8)["s"]["v"]
    assert same(again, VOXELS)


@pytest.mark.parametrize("is_vector", [False, True])
@pytest.mark.parametrize("rank", [3, 4])
def test_simpleitk(tmp_path: Path, is_vector: bool, rank: int) -> None:
    if is_vector and rank == 4:
        image = sitk.Image([4, 5, 6, 7], sitk.sitkVectorUInt8, 2)
        with pytest.raises(vq.UsageError, match="several components"):
            ingested(tmp_path, image)
        return
    if is_vector:
        image, expected = sitk.GetImageFromArray(np.moveaxis(VOXELS, 0, -1), isVector=True), VOXELS
    elif rank == 4:
        image, expected = sitk.GetImageFromArray(VOXELS, isVector=False), VOXELS
    else:
        image, expected = sitk.GetImageFromArray(VOXELS[0]), VOXELS[0]
    turn = sitk.VersorTransform((0, 0.6, 0.8), 0.4).GetMatrix()
    if rank == 3:
        image.SetDirection(turn)
        image.SetSpacing((0.5, 0.75, 3))
        image.SetOrigin((-10, 20, 35.5))
    volume = ingested(tmp_path, image)
    del image
    assert same(volume, expected)
    if rank == 3 and not is_vector:
        vq.export(volume, tmp_path / "a.nii")
        read = sitk.ReadImage(tmp_path / "a.nii")
        assert np.allclose(read.GetDirection(), turn, atol=1e-6)
        assert np.allclose(read.GetOrigin(), (-10, 20, 35.5), atol=1e-5)
        assert np.allclose(read.GetSpacing(), (0.5, 0.75, 3))
        assert volume.spacing == pytest.approx((3, 0.75, 0.5))


def test_simpleitk_images_keep_their_affine_beside_arrays(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VOXELS[0])
    image.SetOrigin((1, 2, 3))
    mask = sitk.GetArrayFromImage(image) > 0
    volumes = {"seg": vq.Labels(mask), "ct": image}
    subject = vq.ingest({"s": volumes}, tmp_path / "s.zarr", patch_size=16)["s"]
    assert np.array_equal(subject["seg"].affine[:3, 3], (-1, -2, 3))
    with pytest.raises(vq.UsageError, match="2 dimensions"):
        ingested(tmp_path, image[:, :, 0])
