"""Arrays of Zarr and images of OME-Zarr that are read in place, against zarr-python and against the
stores that they are ingested into (issue 25).
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import identical
from test_zarr_source import DTYPES, SHAPE, VERSION_2, VERSION_3, ome, voxels, write
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

import voxquarry as vq

PADDINGS: list[Any] = [None, 5, "edge", "reflect"]


def patch_of(data: np.ndarray, start: Any, size: Any, padding: Any) -> np.ndarray:
    """The patch of ``(…, z, y, x)`` that numpy would cut out of a padded array."""
    for axis, (first, n) in enumerate(zip(start, size, strict=True), data.ndim - 3):
        extent, at = data.shape[axis], np.arange(first, first + n)
        outside = (at < 0) | (at >= extent)
        if padding == "reflect" and extent > 1:
            at = np.abs((at + extent - 1) % (2 * extent - 2) - (extent - 1))
        data = data.take(np.clip(at, 0, extent - 1), axis)
        if not isinstance(padding, str):
            shape = [1] * data.ndim
            shape[axis] = n
            data = np.where(outside.reshape(shape), np.asarray(padding or 0, data.dtype), data)
    return data


def check(volume: vq.Volume, data: np.ndarray) -> None:
    """The whole volume, and random regions with every padding."""
    assert volume.shape == data.shape
    assert volume.dtype == data.dtype
    assert identical(volume[...], data)
    random = np.random.default_rng(11)
    for padding in PADDINGS:
        for _ in range(4):
            space = np.array(data.shape[-3:])
            size = random.integers(1, np.minimum(space, 12) + 1)
            low, high = (0, space - size) if padding is None else (-9, space + 4)
            start = random.integers(low, high + 1)
            found = volume.read(tuple(start), tuple(size), padding=padding)
            assert identical(found, patch_of(data, start, size, padding)), (padding, start, size)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str, version: int) -> None:
    data = voxels(dtype)
    path = write(tmp_path / "a.zarr", data, zarr_format=version)
    volume = vq.open_zarr(path)
    assert volume.is_foreign
    assert (volume.kind, volume.name, volume.subject.name) == ("image", "image", "a")
    check(volume, data.astype("u1") if dtype == "bool" else data)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", VERSION_2)
def test_version_2(tmp_path: Path, name: str, order: str) -> None:
    data = voxels().astype(f"{order}u2")
    path = write(tmp_path / "a.zarr", data, zarr_format=2, **VERSION_2[name])
    check(vq.open_zarr(path), data.astype("u2"))


MORE_3: dict[str, dict[str, Any]] = {
    "index at the start": {
        "serializer": ShardingCodec(
            chunk_shape=(4, 9, 8), codecs=[BytesCodec(), ZstdCodec()], index_location="start"
        ),
        "compressors": None,
    },
    "transposed shards": {
        "filters": TransposeCodec(order=(2, 1, 0)),
        "serializer": ShardingCodec(chunk_shape=(8, 3, 4), codecs=[BytesCodec(), GzipCodec()]),
        "compressors": None,
    },
    "packed twice": {"compressors": [GzipCodec(), ZstdCodec(), Crc32cCodec()]},
    "one chunk": {"chunks": SHAPE},
    "single voxels": {"chunks": (1, 1, 31), "shards": (5, 4, 31)},
    "chunks larger than the array": {"chunks": (64, 64, 64)},
}


@pytest.mark.filterwarnings("ignore:Combining a")
@pytest.mark.parametrize("name", [*VERSION_3, *MORE_3])
def test_version_3(tmp_path: Path, name: str) -> None:
    data = voxels()
    path = write(tmp_path / "a.zarr", data, **(VERSION_3 | MORE_3)[name])
    check(vq.open_zarr(path), data)


AXES = {
    "zyx": (23, 18, 31),
    "xyz": (31, 18, 23),
    "yxz": (18, 31, 23),
    "czyx": (3, 23, 18, 31),
    "zyxc": (23, 18, 31, 3),
    "zcyx": (23, 3, 18, 31),
    "cxyz": (3, 31, 18, 23),
    "tczyx": (1, 3, 23, 18, 31),
    "xyczt": (31, 18, 3, 23, 1),
    "yx": (18, 31),
    "tyxc": (1, 18, 31, 3),
}


def in_order(data: np.ndarray, axes: str) -> np.ndarray:
    """``data`` as ``(z, y, x)`` or ``(c, z, y, x)``."""
    for single in [axis for axis in axes if axis not in "czyx"]:
        data, axes = data.take(0, axes.index(single)), axes.replace(single, "")
    if "z" not in axes:
        data, axes = data[None], "z" + axes
    return data.transpose([axes.index(axis) for axis in "czyx" if axis in axes])


@pytest.mark.parametrize("together", [1, 2, 3, 5])
@pytest.mark.parametrize("axes", AXES)
def test_axes_by_name(tmp_path: Path, axes: str, together: int) -> None:
    data = voxels("i2", AXES[axes])
    chunks = tuple({"c": together, "t": 2}.get(axis, 8 + i) for i, axis in enumerate(axes))
    path = write(tmp_path / "a.zarr", data, chunks=chunks)
    expected = in_order(data, axes)
    volume = vq.open_zarr(path, axes)
    check(volume, expected)
    assert identical(vq.open_zarr(path, list(axes))[...], expected)
    if "c" in axes:
        some = volume.read((0, 2, 3), (1, 8, 9), channels=[2, 0])
        assert identical(some, expected[[2, 0], :1, 2:10, 3:12])
    named = write(tmp_path / "b.zarr", data, chunks=chunks, dimension_names=list(axes))
    assert identical(vq.open_zarr(named)[...], expected)


def test_axes_by_default(tmp_path: Path) -> None:
    """The last three are z, y, x; names that say nothing are no names."""
    data = voxels("u1", (2, *SHAPE))
    chunks = (1, 8, 9, 16)
    assert identical(vq.open_zarr(write(tmp_path / "a.zarr", data, chunks=chunks))[...], data)
    names = ["dim_0", "dim_1", "dim_2", "dim_3"]
    path = write(tmp_path / "b.zarr", data, chunks=chunks, dimension_names=names)
    assert identical(vq.open_zarr(path)[...], data)
    flat = write(tmp_path / "c.zarr", data[0, 0], chunks=(8, 9))
    with pytest.raises(vq.DataError, match="no volume"):
        vq.open_zarr(flat)
    for axes, match in [
        ("xyz", "has not the axes"),
        ("zzyx", "at most once"),
        ("tzyx", "'t'|\"t\""),
    ]:
        with pytest.raises(vq.DataError, match=match):
            vq.open_zarr(tmp_path / "a.zarr", axes)
    with pytest.raises(vq.UsageError, match="axes"):
        vq.open_zarr(tmp_path / "a.zarr", 3)


def cells() -> np.ndarray:
    """Labels of two boxes that are small, and one voxel."""
    labels = np.zeros(SHAPE, "u1")
    labels[2:6, 3:8, 4:9], labels[10:15, 9:14, 20:26], labels[20, 16, 30] = 1, 2, 1
    return labels


@pytest.fixture(params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of two levels with labels."""
    version, data = request.param, voxels("u2", (1, 2, *SHAPE))
    scales = (1, 1, 2.0, 0.5, 0.25), (0, 0, 10.0, 20.0, 30.0)
    path = ome(
        tmp_path / "a.ome.zarr", {"0": data, "1": data[..., ::2, ::2]}, "tczyx", *scales, version
    )
    zarr.open_group(path / "labels", mode="w", zarr_format=2 if version == "0.4" else 3)
    label: dict[str, Any] = {"image-label": {"version": version}}
    space = tuple(scale[2:] for scale in scales)
    ome(path / "labels" / "cells", {"0": cells()}, "zyx", *space, version, **label)
    return path


def test_ome(image: Path, tmp_path: Path) -> None:
    data = zarr.open_array(image / "0")[0]
    store = vq.ingest(image, tmp_path / "s.zarr", patch_size=16)["a"]
    for path, name in [(image, "image"), (image / "0", "image"), (image / "labels/cells", "cells")]:
        volume, stored = vq.open_zarr(path), store[name]
        check(volume, data if name == "image" else cells())
        assert np.array_equal(volume.affine, stored.affine)
        assert (volume.unit, volume.kind, volume.spacing) == (
            stored.unit,
            stored.kind,
            stored.spacing,
        )
        assert volume.stats["min"] == stored.stats["min"]
        assert volume.stats["max"] == stored.stats["max"]
        assert np.isclose(volume.stats["mean"], stored.stats["mean"])
        assert np.isclose(volume.stats["std"], stored.stats["std"])
        assert volume.labels == stored.labels
    assert identical(vq.open_zarr(image / "1")[...], data[..., ::2, ::2])
    assert vq.open_zarr(image / "labels/cells", kind="image").kind == "image"


def test_turned_and_resampled_patches(image: Path, tmp_path: Path) -> None:
    stored = vq.ingest(image, tmp_path / "s.zarr", patch_size=16)["a"]["image"]
    volume = vq.open_zarr(image)
    matrices = [[[0.9, -0.2, 0, 3], [0.2, 0.8, 0.1, 2], [0, 0.3, 1.1, 5]], np.eye(4)[:3]]
    for order in (0, 1, 3):
        for padding in (0, "edge", "reflect"):
            found, wanted = (
                v.read_affine_batch(matrices, 16, order=order, padding=padding)
                for v in (volume, stored)
            )
            assert identical(found, wanted)
    views = [v.at(spacing=(3, 1, 1), orientation="LPS") for v in (volume, stored)]
    assert views[0].shape == views[1].shape
    found, wanted = (view.read((0, 0, 0), 7) for view in views)
    assert identical(found, wanted)
    assert identical(volume.scaled[3:9], stored.scaled[3:9])


def epochs(queue: vq.Queue) -> Iterator[dict[str, Any]]:
    for _ in range(2):
        for batch in queue:
            yield {key: np.array(value) for key, value in batch.items()}


def samplers() -> dict[str, Any]:
    return {
        "uniform": vq.UniformSampler(9),
        "labels": vq.LabelSampler(9, labels="seg", probabilities={1: 2.0, 0: 1.0}),
        "weights": vq.WeightedSampler(9, weights="seg", border="clamp"),
        "objects": vq.ObjectSampler(9, labels="seg"),
        "grid": vq.GridSampler(9, overlap=3, padding="reflect"),
    }


@pytest.mark.parametrize("name", samplers())
def test_queues_equal_those_of_the_store(image: Path, tmp_path: Path, name: str) -> None:
    """Patches, augmented ones and those of views, on several threads: bit for bit.

    Voxels of a label, and weights, are numbered chunk by chunk: the same locations need the same
    chunks.
    """
    sources = {"ct": f"{image}::", "seg": vq.Labels(image / "labels/cells")}
    stored = vq.ingest({"a": sources}, tmp_path / "s.zarr", patch_size=9)
    level = image / "labels/cells/0"
    version = 2 if (level / ".zarray").exists() else 3
    shutil.rmtree(level)
    write(level, cells(), zarr_format=version, chunks=stored["a"]["seg"].chunks)
    seg = vq.open_zarr(image / "labels/cells")
    foreign = vq.dataset({"a": {"ct": vq.open_zarr(image), "seg": seg}})
    assert {key: list(subject) for key, subject in foreign.items()} == {"a": ["ct", "seg"]}
    sampler = samplers()[name]
    plain: dict[str, Any] = {"patches_per_subject": 12, "batch_size": 4, "seed": 3, "threads": 3}
    changed = {
        **plain,
        "augment": vq.Augment(rotation_degrees=30, flip=True, noise=(0, 3)),
        "dtype": "float16",
    }
    window = {**plain, "normalize": {"ct": (0, 200)}, "channels": {"ct": [1]}}
    for keywords in (plain, changed, window):
        queues = [vq.Queue(ds, sampler, ["ct", "seg"], **keywords) for ds in (stored, foreign)]
        assert len(queues[0]) == len(queues[1])
        for wanted, found in zip(*map(epochs, queues), strict=True):
            for key in wanted:
                assert identical(found[key], wanted[key]), key
    if name == "objects":
        return
    sampler = (
        samplers()[name] if name != "labels" else vq.LabelSampler(9, labels="seg", border="pad")
    )
    views = [ds.at(spacing=(3, 0.5, 0.5)) for ds in (stored, foreign)]
    queues = [vq.Queue(view, sampler, ["ct", "seg"], padding="edge", **plain) for view in views]
    for wanted, found in zip(*map(epochs, queues), strict=True):
        assert all(identical(found[key], wanted[key]) for key in wanted)


def test_the_sampler_alone(image: Path, tmp_path: Path) -> None:
    """Locations of a lone volume are those of its subject in a store."""
    stored = vq.ingest(image, tmp_path / "s.zarr", patch_size=9)["a"]["image"]
    volume = vq.open_zarr(image)
    for sampler in (vq.UniformSampler(9), vq.GridSampler(9, overlap=2)):
        keywords = {} if isinstance(sampler, vq.GridSampler) else {"n": 20}
        found, wanted = (sampler.locations(v.subject, **keywords) for v in (volume, stored))
        assert identical(found, wanted)


def model(patches: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [patches[:, :1].astype("f4") * 0.5, patches.astype("f4").mean(1)[:, None]], 1
    )


@pytest.mark.parametrize("finish", ["none", "argmax"])
def test_inference_equals_that_of_the_store(image: Path, tmp_path: Path, finish: str) -> None:
    stored = vq.ingest(image, tmp_path / "s.zarr", patch_size=9)["a"]["image"]
    volume = vq.open_zarr(image)
    for keywords in ({}, {"padding": "reflect"}, {"spacing": (3, 0.5, 0.5)}):
        if finish == "argmax" and "spacing" in keywords:
            continue
        found, wanted = (
            vq.infer(model, v, 9, 3, finish=finish, **keywords) for v in (volume, stored)
        )
        assert identical(found, wanted)
    out = vq.infer(model, volume, 9, 3, finish=finish, out=tmp_path / "p.zarr" / "a" / "pred")
    assert identical(out[...], vq.infer(model, stored, 9, 3, finish=finish))
    assert np.array_equal(out.affine, stored.affine)


def test_pickle_and_export(image: Path, tmp_path: Path) -> None:
    volume = vq.open_zarr(image / "0", "tczyx", cache_bytes="1MiB", threads=2)
    again = pickle.loads(pickle.dumps(volume))
    assert identical(again[...], volume[...])
    assert (again.subject.name, again.unit) == (volume.subject.name, volume.unit)
    both = vq.dataset({"s": {"ct": volume, "second": volume}})
    again = pickle.loads(pickle.dumps(both))
    assert identical(again["s"]["second"][...], volume[...])
    assert list(again) == ["s"]
    queue = pickle.loads(pickle.dumps(vq.Queue(both, vq.UniformSampler(5), "ct")))
    assert next(iter(queue))["ct"].shape == (4, 2, 5, 5, 5)
    vq.export(volume, tmp_path / "a.nrrd")
    back = vq.ingest(tmp_path / "a.nrrd", tmp_path / "back.zarr", patch_size=9)["a"]["image"]
    assert identical(back[...], volume[...])
    assert "a.ome.zarr" in repr(volume.subject.dataset)
    assert "<table>" in volume._repr_html_()


def test_what_no_data_set_is(image: Path, tmp_path: Path) -> None:
    volume = vq.open_zarr(image)
    small = vq.open_zarr(image / "1")
    for wrong in (3, {"s": 3}, {"s": {"ct": 3}}, {"s": {"ct": volume.scaled}}):
        with pytest.raises(vq.UsageError, match="mapping from subjects"):
            vq.dataset(wrong)
    with pytest.raises(vq.UsageError, match="different subjects"):
        vq.dataset({"s": {"ct": volume, "small": small}})
    moved = vq.open_zarr(write(tmp_path / "b.zarr", voxels()))
    with pytest.raises(vq.UsageError, match="affines"):
        vq.dataset({"s": {"ct": volume, "moved": moved}})
    for name in ("", "a/b", ".."):
        with pytest.raises(vq.UsageError, match="name"):
            vq.dataset({name: {"ct": volume}})
    assert list(vq.dataset({})) == []
    with pytest.raises(KeyError, match="no volume 'mr'|no volume \"mr\""):
        vq.dataset({"s": {"ct": volume}})["s"]["mr"]


@pytest.mark.parametrize("shards", [None, (16, 18, 32)])
@pytest.mark.parametrize("fill", [0, 7, -3, "NaN"])
def test_absent_chunks_have_the_fill_value(tmp_path: Path, fill: Any, shards: Any) -> None:
    dtype = "f4" if fill == "NaN" else "i2"
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=SHAPE,
        dtype=dtype,
        chunks=(8, 9, 16),
        shards=shards,
        fill_value=np.nan if fill == "NaN" else fill,
    )
    check(vq.open_zarr(tmp_path / "a.zarr"), array[...])
    array[3:9, :7, 20:] = 3
    check(vq.open_zarr(tmp_path / "a.zarr"), array[...])


def chunk_files(path: Path) -> list[Path]:
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return [file for file in found if file.name not in ("zarr.json", ".zarray", ".zattrs")]


ONE_CODEC: dict[str, dict[str, Any]] = {
    **{name: {"zarr_format": 2, **options} for name, options in VERSION_2.items()},
    **{f"3 {name}": options for name, options in VERSION_3.items()},
}


@pytest.mark.parametrize("name", ONE_CODEC)
def test_cut_chunks_are_told_with_their_path(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.zarr", voxels(), **ONE_CODEC[name])
    victim = chunk_files(path)[-1]
    content = victim.read_bytes()
    for keep in (0, 1, len(content) // 2, len(content) - 1):
        victim.write_bytes(content[:keep])
        volume = vq.open_zarr(path)
        with pytest.raises(vq.DataError, match=str(victim)):
            volume[...]
        assert volume.read((0, 0, 0), (4, 4, 4)).shape == (4, 4, 4)


def test_damage_is_an_error_or_voxels(tmp_path: Path) -> None:
    """Changed bytes in every kind of file: an error of ours or some voxels, never a crash."""
    random, refused = np.random.default_rng(5), 0
    for i in range(120):
        options = list(ONE_CODEC.values())[i % len(ONE_CODEC)]
        path = write(tmp_path / f"{i}.zarr", voxels(), **options)
        files = sorted(p for p in path.rglob("*") if p.is_file())
        victim = files[int(random.integers(len(files)))]
        content = bytearray(victim.read_bytes())
        for at in random.integers(0, len(content), 4):
            content[at] ^= int(random.integers(1, 256))
        victim.write_bytes(bytes(content))
        try:
            assert vq.open_zarr(path, threads=1)[...].ndim >= 3
        except (vq.Error, MemoryError):
            refused += 1
        shutil.rmtree(path)
    assert refused >= 20


def test_metadata_that_lie(tmp_path: Path) -> None:
    """Sizes of documents neither end the process nor loop for ever."""
    path = write(tmp_path / "a.zarr", voxels(), compressors=None)
    document = path / "zarr.json"
    text = document.read_text()
    for old, new in [
        ('"chunk_shape": [', '"chunk_shape": [1099511627776, 1, 1], "x": ['),
        ('"shape": [', '"shape": [1099511627776, 1099511627776, 9], "y": ['),
        ('"chunk_shape": [', '"chunk_shape": [4611686018427387904, 2, 2], "x": ['),
        ('"chunk_shape": [', '"chunk_shape": [0, 1, 1], "x": ['),
        ('"data_type": "uint16"', '"data_type": "complex64"'),
        ('"data_type": "uint16"', '"data_type": "float64"'),
        ('"name": "regular"', '"name": "rectilinear"'),
        ('"separator": "/"', '"separator": "/../"'),
        ("{", "["),
    ]:
        changed = "".join(text.replace(old, new, 1).replace("\n", ""))
        assert changed != text
        document.write_text(changed)
        with pytest.raises((vq.Error, MemoryError)):
            vq.open_zarr(path).read((0, 0, 0), (1, 1, 1))


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """A file that unpacks to more than a chunk, and a file that is longer than any chunk."""
    data = voxels("u1")
    for name, codec in {
        "gzip": numcodecs.GZip(),
        "zlib": numcodecs.Zlib(),
        "zstd": numcodecs.Zstd(),
        "bz2": numcodecs.BZ2(),
        "blosc": numcodecs.Blosc("zstd"),
    }.items():
        path = write(tmp_path / f"{name}.zarr", data, zarr_format=2, compressors=codec)
        chunk_files(path)[0].write_bytes(codec.encode(np.zeros(300_000_000, "u1")))
        with pytest.raises(vq.DataError, match=str(chunk_files(path)[0])):
            vq.open_zarr(path)[...]
    with chunk_files(path)[0].open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(vq.DataError, match="at most"):
        vq.open_zarr(path)[...]


def test_links_are_refused_unless_they_are_wanted(image: Path, tmp_path: Path) -> None:
    path = image / "0"
    wanted = vq.open_zarr(path)[...]
    link = tmp_path / "linked.zarr"
    link.symlink_to(path)
    assert identical(vq.open_zarr(link, "tczyx")[...], wanted)
    victim = chunk_files(path)[0]
    outside = tmp_path / "outside"
    victim.rename(outside)
    victim.symlink_to(outside)
    for opened in (path, image):
        with pytest.raises(vq.DataError, match="link"):
            vq.open_zarr(opened)[...]
    assert identical(vq.open_zarr(path, follow_links=True)[...], wanted)
    victim.unlink()
    outside.rename(victim)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(vq.DataError, match="link"):
        vq.open_zarr(image)
    assert identical(vq.open_zarr(image, follow_links=True)[...], wanted)


def test_what_is_refused(image: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        vq.open_zarr(tmp_path / "nothing.zarr")
    with pytest.raises(vq.UsageError, match="local path"):
        vq.open_zarr("s3://bucket/image.zarr")
    store = tmp_path / "own.zarr"
    vq.ingest({"s": {"ct": voxels()}}, store, patch_size=16)
    for path in (store, store / "s", store / "s" / "ct"):
        with pytest.raises(vq.UsageError, match="Voxquarry store already"):
            vq.open_zarr(path)
    check(vq.open_zarr(store / "s" / "ct" / "0"), voxels())
    group = tmp_path / "group.zarr"
    zarr.open_group(group, mode="w")
    with pytest.raises(vq.DataError, match="no volume"):
        vq.open_zarr(group)
    write(group / "one", voxels())
    assert identical(vq.open_zarr(group)[...], voxels())
    write(group / "two", voxels())
    with pytest.raises(vq.UsageError, match="one, two: name one of them"):
        vq.open_zarr(group)
    path = write(tmp_path / "l.zarr", voxels(), zarr_format=2, compressors=numcodecs.LZMA())
    with pytest.raises(vq.UsageError, match=r"lzma.*other codecs.*ingest"):
        vq.open_zarr(path)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(vq.DataError, match="no array and no group"):
        vq.open_zarr(tmp_path / "empty.zarr")
    with pytest.raises(vq.UsageError, match="integers"):
        vq.open_zarr(write(tmp_path / "f.zarr", voxels("f4")), kind="labels")
    with pytest.raises(vq.UsageError, match="kind"):
        vq.open_zarr(image, kind="mask")


def test_an_array_that_goes_away(tmp_path: Path) -> None:
    """What is gone is not the fill value."""
    path = write(tmp_path / "a.zarr", voxels())
    volume = vq.open_zarr(path, cache_bytes=0)
    shutil.rmtree(path)
    with pytest.raises(vq.DataError, match="gone"):
        volume[...]


def test_the_cache_is_bounded_and_used(tmp_path: Path) -> None:
    data = voxels("u2", (64, 64, 64))
    path = write(tmp_path / "a.zarr", data, chunks=(16, 16, 16))
    budget = 5 * 16**3 * 2
    volume = vq.open_zarr(path, cache_bytes=budget)
    starts = np.random.default_rng(0).integers(0, 40, (50, 3))
    for start in starts:
        assert identical(volume.read(tuple(start), 24), patch_of(data, start, (24,) * 3, None))
        assert 0 < volume.subject.dataset.cached_bytes <= budget
    # All chunks fit: the second time no file is read.
    volume = vq.open_zarr(path, cache_bytes="1MiB")
    assert identical(volume[...], data)
    assert volume.subject.dataset.cached_bytes == data.nbytes
    for file in chunk_files(path):
        file.unlink()
    assert identical(volume[...], data)
    assert not volume.subject.dataset.cached_bytes > data.nbytes
    assert not vq.open_zarr(path, cache_bytes=0)[...].any()
