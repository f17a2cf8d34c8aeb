"""Readers of OME-Zarr and Zarr open stores and volumes: shapes, voxels, spacing, units, labels."""

from __future__ import annotations

from pathlib import Path

import bioio_ome_zarr
import dask.array as da
import napari_ome_zarr
import ngff_zarr
import niizarr
import numpy as np
import pytest
import xarray as xr
import zarr
from iohub.ngff import open_ome_zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Reader
from ome_zarr_models.common.omero import Window
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

import voxquarry as vq

SPACING = (0.5, 0.25, 0.125)
CT = (np.arange(20 * 30 * 40) * 7 % 1009 - 300).reshape(20, 30, 40).astype("i2")
SEG = (CT > 0).astype("u1")
TWO = np.stack([CT, CT + 1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, its label map and an image of two channels, in micrometres."""
    volumes = {"ct": CT, "two": TWO, "seg": vq.Labels(SEG)}
    arrays = {
        name: vq.Labels(vq.Array(SEG, spacing=SPACING, unit="micrometer"))
        if name == "seg"
        else vq.Array(voxels, spacing=SPACING, unit="micrometer")
        for name, voxels in volumes.items()
    }
    path = tmp_path_factory.mktemp("ome") / "store.zarr"
    vq.ingest({"case01": arrays}, path, patch_size=16)
    return path


def test_the_volumes_themselves(store: Path) -> None:
    for volume in vq.open(store)["case01"].values():
        assert (volume.spacing, volume.unit) == (SPACING, "micrometer")


def test_models_of_ome_zarr(store: Path) -> None:
    for name, axes in (("ct", "zyx"), ("two", "czyx")):
        image = Image.from_zarr(zarr.open_group(store / "case01" / name, mode="r"))
        (scales,) = image.ome_attributes.multiscales
        assert [axis.name for axis in scales.axes] == list(axes)
        assert [axis.unit for axis in scales.axes][-3:] == ["micrometer"] * 3
        voxels = CT if name == "ct" else TWO
        channels = zarr.open_group(store / "case01" / name, mode="r").attrs["ome"]["omero"][
            "channels"
        ]
        assert len(channels) == (1 if name == "ct" else 2)
        window = Window(**channels[0]["window"])
        assert (window.min, window.max) == (voxels.min(), voxels.max())
        assert window.min <= window.start < window.end <= window.max
    labels = ImageLabel.from_zarr(zarr.open_group(store / "case01/seg", mode="r"))
    assert labels.ome_attributes.image_label.source.image == "../ct"


def test_levels(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    volumes = {"ct": vq.Array(CT, spacing=SPACING, unit="micrometer")}
    volume = vq.ingest({"a": volumes}, store, patch_size=16, levels=2)["a"]["ct"]
    levels = [volume.level(n)[...] for n in range(3)]
    path = str(store / "a/ct")
    (node,) = Reader(parse_url(path))()
    ((data, metadata, _),) = napari_ome_zarr.napari_get_reader(path)()
    assert tuple(metadata["scale"]) == SPACING
    scales = ngff_zarr.from_ngff_zarr(path)
    assert [image.scale["x"] for image in scales.images] == [0.125, 0.25, 0.5]
    assert scales.images[2].translation["x"] == volume.level(2).affine[0, 3]
    bio = bioio_ome_zarr.Reader(path)
    assert bio.resolution_levels == (0, 1, 2)
    for number, voxels in enumerate(levels):
        assert np.array_equal(node.data[number].compute(), voxels)
        assert np.array_equal(data[number].compute(), voxels)
        assert np.array_equal(np.asarray(scales.images[number].data), voxels)
        bio.set_resolution_level(number)
        assert np.array_equal(bio.data.squeeze(), voxels)
    # Groups of several levels have dimensions of several sizes, which xarray does not take.
    with pytest.raises(ValueError, match="conflicting sizes"):
        xr.open_datatree(store, engine="zarr", consolidated=False)
    assert np.array_equal(xr.open_dataset(store / "a", engine="voxquarry")["ct"].values, CT)


def test_xarray(store: Path) -> None:
    tree = xr.open_datatree(store, engine="zarr", consolidated=False)
    ct = tree["case01/ct"].dataset["0"]
    assert ct.dims == ("z", "y", "x") and np.array_equal(ct.values, CT)
    assert tree["case01/two"].dataset["0"].dims == ("c", "z", "y", "x")
    summary = tree["case01/seg/summary"].dataset
    assert int(summary["counts"].sum()) == int(SEG.sum())


def test_dask(store: Path) -> None:
    assert np.array_equal(da.from_zarr(store / "case01/two/0").compute(), TWO)


def test_ome_zarr_py(store: Path) -> None:
    (node,) = Reader(parse_url(store / "case01/ct"))()
    assert np.array_equal(node.data[0].compute(), CT)
    assert node.metadata["axes"][0]["unit"] == "micrometer"
    (transforms,) = node.metadata["coordinateTransformations"]
    assert tuple(transforms[0]["scale"]) == SPACING
    # The label map leads to its image.
    nodes = list(Reader(parse_url(store / "case01/seg"))())
    assert [any(isinstance(s, Label) for s in node.specs) for node in nodes] == [False, True]
    assert np.array_equal(nodes[0].data[0].compute(), CT)
    assert np.array_equal(nodes[1].data[0].compute(), SEG)


def test_the_reader_of_napari(store: Path) -> None:
    for name, voxels, kind in (("ct", CT, "image"), ("seg", SEG, "labels"), ("two", TWO, "image")):
        read = napari_ome_zarr.napari_get_reader(str(store / "case01" / name))
        ((data, metadata, layer),) = read()
        assert layer == kind and np.array_equal(data[0].compute(), voxels)
        assert tuple(metadata["scale"]) == SPACING
        assert metadata["units"] == ("micrometer",) * 3
        if kind == "image":
            limits = np.atleast_2d(metadata["contrast_limits"])
            assert (limits[:, 0] < limits[:, 1]).all()


def test_bioio(store: Path) -> None:
    image = bioio_ome_zarr.Reader(str(store / "case01/two"))
    assert image.dims.order == "CZYX" and np.array_equal(image.data, TWO)
    assert tuple(image.scale)[-3:] == SPACING
    assert image.channel_names == ["two 0", "two 1"]


def test_ngff_zarr(store: Path) -> None:
    scales = ngff_zarr.from_ngff_zarr(str(store / "case01/ct"))
    image = scales.images[0]
    assert np.array_equal(np.asarray(image.data), CT)
    assert tuple(image.scale[axis] for axis in "zyx") == SPACING
    assert set(image.axes_units.values()) == {"micrometer"}


def test_iohub(store: Path) -> None:
    with open_ome_zarr(store / "case01/two", mode="r", layout="fov") as position:
        assert np.array_equal(np.asarray(position["0"]), TWO)
        assert tuple(position.scale)[-3:] == SPACING


def test_nifti_zarr(store: Path) -> None:
    subject = vq.open(store)["case01"]
    for name, voxels in (("ct", CT), ("seg", SEG), ("two", TWO)):
        image = niizarr.zarr2nii(str(store / "case01" / name))
        found = np.asarray(image.dataobj)
        # NIfTI has time on its fourth axis and channels on its fifth.
        found = found if voxels.ndim == 3 else found[..., 0, :]
        assert np.array_equal(found, voxels.T)
        assert np.array_equal(image.header.get_best_affine(), subject[name].affine)
        assert image.header.get_xyzt_units()[0] == "micron"
