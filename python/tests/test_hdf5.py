"""HDF5 files as sources; h5py is the oracle."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

import voxquarry as vq

SHAPE = (23, 18, 31)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def voxels(dtype: str = "u2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(7).normal(90, 30, shape)
    return np.clip(values, 0, 127).astype(dtype)


def write(path: Path, data: np.ndarray, name: str = "raw", **options: Any) -> Path:
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=data, **options)
    return path


def ingest(source: Any, tmp_path: Path, **options: Any) -> vq.Dataset:
    return vq.ingest(source, tmp_path / "s.zarr", patch_size=16, **options)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str, order: str) -> None:
    data = voxels(dtype)
    path = write(tmp_path / "a.h5", data.astype(data.dtype.newbyteorder(order)))
    volume = ingest(path, tmp_path)["a"]["image"]
    assert volume.dtype == data.dtype
    assert np.array_equal(volume[...], data)


FILTERS: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "szip": {"compression": "szip"},
    "scale and offset": {"scaleoffset": 0},
    "blosc": dict(hdf5plugin.Blosc(cname="lz4")),
    "blosc with zstd": dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "lz4": dict(hdf5plugin.LZ4()),
    "zstd": dict(hdf5plugin.Zstd()),
    "bitshuffle": dict(hdf5plugin.Bitshuffle()),
    "bzip2": dict(hdf5plugin.BZip2()),
}


@pytest.mark.parametrize("chunks", [(23, 18, 31), (5, 7, 8), (1, 18, 31), (16, 16, 16)])
@pytest.mark.parametrize("name", FILTERS)
def test_filters(tmp_path: Path, name: str, chunks: tuple[int, ...]) -> None:
    data = voxels()
    path = write(tmp_path / "a.h5", data, chunks=chunks, **FILTERS[name])
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
@pytest.mark.parametrize("userblock", [0, 512])
def test_versions_of_the_file(tmp_path: Path, libver: str, userblock: int) -> None:
    data = voxels()
    with h5py.File(tmp_path / "a.h5", "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("deep/er/raw", data=data, chunks=(8, 8, 8), maxshape=(None, 18, 31))
    assert np.array_equal(ingest(tmp_path / "a.h5", tmp_path)["a"]["image"][...], data)


def test_channels(tmp_path: Path) -> None:
    first, last = voxels("u2", (2, *SHAPE)), voxels("u2", (*SHAPE, 3))
    path = write(tmp_path / "a.h5", first, "first", chunks=(1, 8, 8, 8))
    write(path, last, "last", chunks=(8, 8, 8, 2))
    write(path, first[None], "five")
    with h5py.File(path, "a") as file:
        tags = ", ".join(f'{{"key": "{key}"}}' for key in "zyxc")
        file["last"].attrs["axistags"] = f'{{"axes": [{tags}]}}'
    subject = ingest(path, tmp_path)["a"]
    assert list(subject) == ["first", "five", "last"]
    assert np.array_equal(subject["first"][...], first)
    assert np.array_equal(subject["five"][...], first)
    assert np.array_equal(subject["last"][...], np.moveaxis(last, -1, 0))


def test_several_data_sets_are_volumes_by_their_names(tmp_path: Path) -> None:
    data = voxels()
    path = write(tmp_path / "a.h5", data, "volumes/raw")
    write(path, (data > 90).astype("u2"), "volumes/labels")
    write(path, np.arange(9), "numbers")
    with h5py.File(path, "a") as file:
        file["again"] = h5py.SoftLink("/volumes/raw")
    subject = ingest(path, tmp_path)["a"]
    assert {name: subject[name].kind for name in subject} == {
        "volumes_raw": "image",
        "volumes_labels": "labels",
    }
    source = {"b": {"ct": path, "seg": vq.Labels(path)}}
    with pytest.raises(vq.UsageError, match="::/volumes/raw"):
        ingest(source, tmp_path)
    source = {"b": {"ct": f"{path}::/volumes/raw", "seg": vq.Labels(f"{path}::volumes/labels")}}
    subject = ingest(source, tmp_path)["b"]
    assert np.array_equal(subject["ct"][...], data)
    assert np.array_equal(subject["seg"][...], data > 90)
    with pytest.raises(vq.DataError, match="nothing"):
        ingest({"c": {"ct": f"{path}::nothing"}}, tmp_path)


@pytest.mark.parametrize(
    ("attributes", "spacing", "unit"),
    [
        ({"element_size_um": (0.3, 0.1, 0.2)}, (0.3, 0.1, 0.2), "micrometer"),
        ({"resolution": (40.0, 4.0, 4.0)}, (0.04, 0.004, 0.004), "micrometer"),
        ({"spacing": (3, 1, 2), "unit": "nm"}, (0.003, 0.001, 0.002), "micrometer"),
        ({"voxel_size": (3.0, 1.0, 2.0)}, (3, 1, 2), "millimeter"),
        ({"spacing": (3.0, 0.0, 2.0)}, (1, 1, 1), "millimeter"),
        ({}, (1, 1, 1), "millimeter"),
    ],
)
def test_size_of_voxels(
    tmp_path: Path, attributes: dict[str, Any], spacing: tuple[float, ...], unit: str
) -> None:
    path = write(tmp_path / "a.h5", voxels())
    with h5py.File(path, "a") as file:
        file["raw"].attrs.update(attributes)
    volume = ingest(path, tmp_path)["a"]["image"]
    assert volume.unit == unit
    assert np.allclose(volume.spacing, spacing)


def test_voxels_in_other_files(tmp_path: Path) -> None:
    data = voxels()
    part = write(tmp_path / "part.h5", data)
    inside, outside = tmp_path / "inside.h5", tmp_path / "folder" / "outside.h5"
    outside.parent.mkdir()
    for path, source in ((inside, "part.h5"), (outside, "../part.h5")):
        layout = h5py.VirtualLayout(SHAPE, "u2")
        layout[...] = h5py.VirtualSource(source, "raw", SHAPE)
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("view", layout)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["raw"] = h5py.ExternalLink("part.h5", "raw")
    (tmp_path / "voxels.bin").write_bytes(data.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("raw", SHAPE, "u2", external=[("voxels.bin", 0, data.nbytes)])
    assert np.array_equal(ingest(inside, tmp_path)["inside"]["image"][...], data)
    with pytest.raises(vq.UsageError, match="outside of its folder"):
        ingest(outside, tmp_path)
    with pytest.raises(vq.UsageError, match="another file"):
        ingest({"a": {"ct": f"{tmp_path / 'linked.h5'}::raw"}}, tmp_path)
    with pytest.raises(vq.UsageError, match="another file"):
        ingest(tmp_path / "external.h5", tmp_path)
    assert part.exists()


def test_what_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, voxels("u2", (4, 5)), "flat")
    write(path, np.zeros((2, 2, 2), "c8"), "complex")
    write(path, np.zeros((2, 2, 2), [("a", "u1"), ("b", "u2")]), "compound")
    with pytest.raises(vq.DataError, match="no volume"):
        ingest(path, tmp_path)
    with pytest.raises(vq.DataError, match="no elements of the type"):
        ingest({"a": {"ct": f"{path}::compound"}}, tmp_path)
    write(path, voxels("bool"), "mask")
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], voxels("bool"))


def test_a_run_that_is_repeated_finds_the_same_voxels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", voxels(), chunks=(8, 8, 8))
    ingest(path, tmp_path)
    assert ingest(path, tmp_path).report.skipped == ["a"]
    with h5py.File(path, "a") as file:
        file["raw"][3, 4, 5] += 1
    with pytest.raises(vq.UsageError, match="changed"):
        ingest(path, tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Cut at 50 places, a byte changed at 150: an error or the same description, never a crash."""
    path = write(tmp_path / "a.h5", voxels(), chunks=(8, 9, 16), compression="gzip")
    whole = path.read_bytes()
    damaged = tmp_path / "b.h5"
    random = np.random.default_rng(3)
    cuts = [whole[: len(whole) * i // 50] for i in range(50)]
    flips = []
    for at in random.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[at] ^= int(random.integers(1, 256))
        flips.append(bytes(flipped))
    refused = 0
    for i, content in enumerate(itertools.chain(cuts, flips)):
        damaged.write_bytes(content)
        try:
            vq.ingest(damaged, tmp_path / f"s{i}.zarr", patch_size=16, memory_bytes="200MiB")
        except vq.Error:
            refused += 1
            assert not (tmp_path / f"s{i}.zarr" / "b").exists()
    assert refused >= 50
