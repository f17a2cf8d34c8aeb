"""Arrays of Zarr and images of OME-Zarr as sources; zarr-python is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

import voxquarry as vq

SHAPE = (23, 18, 31)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "bool"]


def voxels(dtype: str = "u2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(7).normal(90, 30, shape)
    return np.clip(values, 0, 127).astype(dtype)


def write(path: Path, data: np.ndarray, **options: Any) -> Path:
    options = {"zarr_format": 3, "chunks": (8, 9, 16), **options}
    array = zarr.create_array(path, shape=data.shape, dtype=data.dtype, **options)
    array[...] = data
    return path


def ingest(source: Any, tmp_path: Path, **options: Any) -> vq.Dataset:
    return vq.ingest(source, tmp_path / "s.zarr", patch_size=16, **options)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str, version: int) -> None:
    data = voxels(dtype)
    path = write(tmp_path / "a.zarr", data, zarr_format=version)
    volume = ingest(path, tmp_path)["a"]["image"]
    assert volume.dtype == (np.uint8 if dtype == "bool" else data.dtype)
    assert np.array_equal(volume[...], data)


VERSION_2: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "zlib": {"compressors": numcodecs.Zlib()},
    "gzip": {"compressors": numcodecs.GZip()},
    "zstd": {"compressors": numcodecs.Zstd()},
    "bz2": {"compressors": numcodecs.BZ2()},
    "blosc": {"compressors": numcodecs.Blosc("lz4", shuffle=numcodecs.Blosc.BITSHUFFLE)},
    "blosclz": {"compressors": numcodecs.Blosc("blosclz")},
    "shuffle": {"filters": [numcodecs.Shuffle(2)], "compressors": numcodecs.Zlib()},
    "order F": {"order": "F"},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", VERSION_2)
def test_version_2(tmp_path: Path, name: str, order: str) -> None:
    data = voxels().astype(f"{order}u2")
    path = write(tmp_path / "a.zarr", data, zarr_format=2, **VERSION_2[name])
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)


VERSION_3: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "gzip": {"compressors": GzipCodec()},
    "zstd and crc32c": {"compressors": [ZstdCodec(), Crc32cCodec()]},
    "blosc": {"compressors": BloscCodec(cname="zlib", shuffle="bitshuffle")},
    "big endian": {"serializer": BytesCodec(endian="big")},
    "transposed": {"filters": TransposeCodec(order=(2, 0, 1))},
    "shards": {"shards": (16, 18, 32)},
    "shards of shards": {
        "serializer": ShardingCodec(chunk_shape=(4, 9, 8), codecs=[BytesCodec(), GzipCodec()]),
        "compressors": None,
    },
}


@pytest.mark.parametrize("name", VERSION_3)
def test_version_3(tmp_path: Path, name: str) -> None:
    data = voxels()
    path = write(tmp_path / "a.zarr", data, **VERSION_3[name])
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)


def test_codecs_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", voxels(), zarr_format=2, compressors=numcodecs.LZMA())
    with pytest.raises(vq.UsageError, match="other codecs"):
        ingest(path, tmp_path)


def ome(
    path: Path,
    images: dict[str, np.ndarray],
    axes: str,
    scale: tuple[float, ...],
    translation: tuple[float, ...] | None = None,
    version: str = "0.5",
    unit: str = "micrometer",
    **extra: Any,
) -> Path:
    kinds = {"t": "time", "c": "channel"}
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
    if translation is not None:
        transforms.append({"type": "translation", "translation": list(translation)})
    named = [
        {"name": axis, "type": kinds.get(axis, "space")} | ({} if axis in kinds else {"unit": unit})
        for axis in axes
    ]
    levels = [{"path": name, "coordinateTransformations": transforms} for name in images]
    multiscales = [{"version": version, "axes": named, "datasets": levels}]
    attributes: dict[str, Any] = {"multiscales": multiscales, **extra}
    old = version == "0.4"
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3)
    group.attrs.update(attributes if old else {"ome": attributes})
    for name, data in images.items():
        chunks = tuple(min(9, n) for n in data.shape)
        write(path / name, data, zarr_format=2 if old else 3, chunks=chunks)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_images_and_labels(tmp_path: Path, version: str) -> None:
    data = voxels("u2", (1, 2, *SHAPE))
    path = ome(
        tmp_path / "a.ome.zarr",
        {"0": data, "1": data[..., ::2, ::2]},
        "tczyx",
        (1, 1, 2.0, 0.5, 0.25),
        (0, 0, 10.0, 20.0, 30.0),
        version,
    )
    labels = (data[0, 0] > 90).astype("u1")
    old = version == "0.4"
    zarr.open_group(path / "labels", mode="w", zarr_format=2 if old else 3)
    label = {"image-label": {"version": version}}
    ome(
        path / "labels" / "cells",
        {"0": labels},
        "zyx",
        (2.0, 0.5, 0.25),
        (10.0, 20.0, 30.0),
        version,
        **label,
    )
    subject = ingest(path, tmp_path)["a"]
    assert {name: subject[name].kind for name in subject} == {"image": "image", "cells": "labels"}
    assert np.array_equal(subject["image"][...], data[0])
    assert np.array_equal(subject["cells"][...], labels)
    assert subject["image"].unit == "micrometer"
    assert np.allclose(subject["image"].spacing, (2.0, 0.5, 0.25))
    assert np.allclose(subject["image"].affine[:3, 3], (30.0, 20.0, 10.0))


def test_units_and_transformations(tmp_path: Path) -> None:
    path = ome(tmp_path / "a.zarr", {"0": voxels()}, "zyx", (40, 4, 4), unit="nanometer")
    volume = ingest(path, tmp_path)["a"]["image"]
    assert np.allclose(volume.spacing, (0.04, 0.004, 0.004))
    path = ome(tmp_path / "b.zarr", {"0": voxels()}, "zyx", (3, 2, 1), unit="millimeter")
    with_all = {"coordinateTransformations": [{"type": "scale", "scale": [2, 2, 2]}]}
    group = zarr.open_group(path, mode="r+")
    attributes = dict(group.attrs["ome"])
    attributes["multiscales"][0] |= with_all
    group.attrs["ome"] = attributes
    assert np.allclose(ingest(path, tmp_path)["b"]["image"].spacing, (6, 4, 2))


def test_channels_at_the_end_and_flat_images(tmp_path: Path) -> None:
    data = voxels("u2", (*SHAPE, 3))
    path = ome(tmp_path / "a.zarr", {"0": data}, "zyxc", (1, 1, 1, 1))
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], np.moveaxis(data, -1, 0))
    flat = voxels("u2", (2, 20, 30))
    path = ome(tmp_path / "b.zarr", {"0": flat}, "cyx", (1, 1, 1))
    assert np.array_equal(ingest(path, tmp_path)["b"]["image"][...], flat[:, None])


def test_groups_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.open_group(path, mode="w")
    data = voxels()
    zarr.open_group(path / "volumes", mode="w")
    write(path / "volumes" / "raw", data)
    write(path / "volumes" / "labels", (data > 90).astype("u2"))
    write(path / "numbers", np.arange(9), chunks=(9,))
    subject = ingest(path, tmp_path)["a"]
    assert {name: subject[name].kind for name in subject} == {
        "volumes_raw": "image",
        "volumes_labels": "labels",
    }
    with pytest.raises(vq.UsageError, match="::volumes/raw"):
        ingest({"b": {"ct": path}}, tmp_path)
    subject = ingest({"b": {"ct": f"{path}::volumes/raw"}}, tmp_path)["b"]
    assert np.array_equal(subject["ct"][...], data)


def test_folders_of_images(tmp_path: Path) -> None:
    data = voxels()
    for name in ("one", "two"):
        (tmp_path / "set" / name).mkdir(parents=True)
        write(tmp_path / "set" / name / "ct.zarr", data)
        write(tmp_path / "set" / name / "seg.zarr", (data > 90).astype("u1"))
    ds = ingest(tmp_path / "set", tmp_path)
    assert list(ds) == ["one", "two"]
    assert ds["two"]["seg"].kind == "labels"
    assert np.array_equal(ds["two"]["ct"][...], data)


def test_absent_chunks_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=SHAPE, dtype="u2", chunks=(8, 9, 16), fill_value=7)
    array[:8] = 3
    ds = ingest(path, tmp_path)
    assert np.array_equal(ds["a"]["image"][...], array[...])
    assert any("8 of its 12 chunks have no file" in note for note in ds.report.notes)


def test_what_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "own.zarr"
    vq.ingest({"s": {"ct": voxels()}}, store, patch_size=16)
    with pytest.raises(vq.UsageError, match="Voxquarry store already"):
        ingest(store, tmp_path)
    path = ome(tmp_path / "a.zarr", {"0": voxels()}, "zyx", (1, 1, 1))
    outside = write(tmp_path / "outside.zarr", voxels())
    group = zarr.open_group(path, mode="r+")
    attributes = dict(group.attrs["ome"])
    attributes["multiscales"][0]["datasets"][0]["path"] = f"../{outside.name}"
    group.attrs["ome"] = attributes
    with pytest.raises(vq.DataError, match="outside of it"):
        ingest(path, tmp_path)
    path = ome(tmp_path / "t.zarr", {"0": voxels("u2", (3, *SHAPE))}, "tzyx", (1, 1, 1, 1))
    with pytest.raises(vq.DataError, match="'t'|\"t\""):
        ingest(path, tmp_path)
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "zarr.json").write_text("{")
    with pytest.raises(vq.DataError, match="no JSON"):
        ingest(tmp_path / "b.zarr", tmp_path)


def test_damaged_chunks_are_refused(tmp_path: Path) -> None:
    """Every file cut to a part, or with changed bytes: an error or some voxels, never a crash."""
    random, refused = np.random.default_rng(3), 0
    for i in range(60):
        path = write(tmp_path / f"{i}.zarr", voxels(), shards=(16, 18, 32) if i % 2 else None)
        files = sorted(p for p in path.rglob("*") if p.is_file())
        victim = files[i // 2 % len(files)]
        content = bytearray(victim.read_bytes())
        if i % 3:
            for at in random.integers(0, len(content), 3):
                content[at] ^= int(random.integers(1, 256))
        else:
            content = content[: int(random.integers(0, len(content)))]
        victim.write_bytes(bytes(content))
        store = tmp_path / f"s{i}.zarr"
        try:
            vq.ingest(path, store, patch_size=16, memory_bytes="200MiB")
        except vq.Error:
            refused += 1
            assert not (store / str(i)).exists()
    assert refused >= 20
