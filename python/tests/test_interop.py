"""Other readers open the store: zarr-python and tensorstore see the same voxels, OME-Zarr's models
accept it.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tensorstore
import zarr
from helpers import NUMBERS, RGB, identical, noise, smooth, write_nifti
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

import voxquarry as vq

GOLDEN = Path(__file__).parents[2] / "format-spec" / "golden" / "v1"
# Odd in every axis; 4-D and RGB are channels.
SHAPES = [(37, 21, 13), (1, 1, 1), (65, 3, 40), (11, 9, 17, 3)]


def level(volume: vq.Volume, store: Path, subject: str) -> Path:
    return store / subject / volume.name / "0"


def seen_by_zarr(path: Path) -> np.ndarray:
    array = zarr.open_array(path, mode="r")
    assert array.metadata.dimension_names[-3:] == ("z", "y", "x")
    return array[...]


def seen_by_tensorstore(path: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec, read=True).result().read().result()


def assert_seen_alike(store: Path) -> int:
    volumes = 0
    for subject, content in vq.open(store).items():
        for name, volume in content.items():
            expected, path = volume[...], level(volume, store, subject)
            assert identical(seen_by_zarr(path), expected), f"{subject}/{name}"
            assert identical(seen_by_tensorstore(path), expected), f"{subject}/{name}"
            volumes += 1
    return volumes


@pytest.mark.parametrize("codec", ["fast", "compact", "none"])
def test_every_dtype_and_shape(tmp_path: Path, codec: str) -> None:
    sources, voxels = {}, {}
    for i, dtype in enumerate([*NUMBERS, RGB]):
        for k, shape in enumerate(SHAPES):
            # Noise is stored as it is, smooth voxels are compressed.
            values = noise(shape, dtype, i) if (i + k) % 2 or dtype is RGB else smooth(shape, dtype)
            name = f"{i}-{k}"
            sources[name] = write_nifti(tmp_path / f"{name}.nii", values)
            voxels[name] = values
    vq.ingest(sources, tmp_path / "store.zarr", patch_size=[16, (1, 24, 24)], codec=codec)
    assert assert_seen_alike(tmp_path / "store.zarr") == len(sources)
    # What all see alike is what went in.
    plain = vq.open(tmp_path / "store.zarr")["1-0"]["image"]
    assert identical(plain[...], np.ascontiguousarray(voxels["1-0"].T))


def test_golden_stores_with_float16(tmp_path: Path) -> None:
    stores = [path for path in GOLDEN.iterdir() if (path / "zarr.json").is_file()]
    dtypes = set()
    for store in stores:
        # A golden store's folder is a subject of the data set above it.
        subject = vq.open(GOLDEN)[store.name]
        dtypes |= {volume.dtype.name for volume in subject.values()}
    assert assert_seen_alike(GOLDEN) >= 12
    assert "float16" in dtypes


def test_predictions_and_label_maps(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "a.nii", smooth((20, 13, 9), "u1") % 5)
    subject = vq.ingest({"a": {"seg": vq.Labels(source)}}, tmp_path / "store.zarr", patch_size=8)[
        "a"
    ]
    labels, counts = np.unique(subject["seg"][...], return_counts=True)
    assert subject["seg"].labels == {
        int(n): int(c) for n, c in zip(labels, counts, strict=True) if n
    }
    grid = vq.GridSampler(8)
    out = vq.Aggregator(
        grid, subject, channels=2, dtype="f2", window="average", out=tmp_path / "pred.zarr/a/pred"
    )
    starts = grid.locations(subject)
    out.add(np.random.default_rng(1).normal(size=(len(starts), 2, 8, 8, 8)).astype("f2"), starts)
    assert out.finish().dtype == np.float16
    assert assert_seen_alike(tmp_path / "store.zarr") == 1
    assert assert_seen_alike(tmp_path / "pred.zarr") == 1


def test_models_of_ome_zarr_accept_the_metadata(tmp_path: Path) -> None:
    sources = {
        "plain": write_nifti(
            tmp_path / "a.nii", smooth((9, 8, 7)), edit=lambda h: h.set_zooms((0.5, 0.75, 2.5))
        ),
        "channels": write_nifti(tmp_path / "b.nii", smooth((9, 8, 7, 2))),
    }
    store = vq.ingest(sources, tmp_path / "store.zarr", patch_size=8)
    for name, axes in (("plain", "zyx"), ("channels", "czyx")):
        group = zarr.open_group(tmp_path / "store.zarr" / name / "image", mode="r")
        (scales,) = Image.from_zarr(group).ome_attributes.multiscales
        assert [axis.name for axis in scales.axes] == list(axes)
        (dataset,) = scales.datasets
        scale = dataset.coordinateTransformations[0].scale
        assert tuple(scale[-3:]) == store[name]["image"].spacing
        assert [axis.unit for axis in scales.axes][-3:] == ["millimeter"] * 3
    assert store["plain"]["image"].spacing == (2.5, 0.75, 0.5)
    root = zarr.open_group(tmp_path / "store.zarr", mode="r")
    assert sorted(root.group_keys()) == ["channels", "plain"]


@pytest.mark.parametrize(
    ("stated", "unit"),
    [("unknown", "millimeter"), ("mm", "millimeter"), ("micron", "micrometer"), ("meter", "meter")],
)
def test_the_unit_of_a_file_is_kept(tmp_path: Path, stated: str, unit: str) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header.set_zooms((0.5, 0.75, 2.5))
        header.set_xyzt_units(stated)

    source = write_nifti(tmp_path / "a.nii", smooth((9, 8, 7)) % 5, edit=edit)
    volumes = {"a": {"ct": source, "seg": vq.Labels(source)}}
    subject = vq.ingest(volumes, tmp_path / "s.zarr", patch_size=8)["a"]
    for name, volume in subject.items():
        # nibabel's numbers, in the unit that the file states.
        assert (volume.unit, volume.spacing) == (unit, (2.5, 0.75, 0.5))
        assert np.array_equal(volume.affine, nib.load(source).affine)
        group = zarr.open_group(tmp_path / "s.zarr/a" / name, mode="r")
        (scales,) = Image.from_zarr(group).ome_attributes.multiscales
        assert [axis.unit for axis in scales.axes] == [unit] * 3
    label = ImageLabel.from_zarr(zarr.open_group(tmp_path / "s.zarr/a/seg", mode="r"))
    assert label.ome_attributes.image_label.source.image == "../ct"
    # Of an image in memory too, whose header is a new one when it is exported.
    image = vq.ingest({"b": nib.load(source)}, tmp_path / "b.zarr", patch_size=8)["b"]["image"]
    assert image.unit == unit
    vq.export(image, tmp_path / "b.nii")
    written = nib.load(tmp_path / "b.nii")
    assert np.array_equal(written.affine, nib.load(source).affine)
    assert written.header.get_xyzt_units()[0] == ("mm" if stated == "unknown" else stated)
