"""Connected components and joined instance labels, beside scipy and dense arrays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from test_parts import digests

import voxquarry as vq


def ingested(folder: Path, voxels: np.ndarray, patch_size: int = 16) -> vq.Volume:
    store = vq.ingest(
        {"case": {"v": vq.Labels(voxels)}}, folder, patch_size=patch_size, overwrite=True
    )
    return store["case"]["v"]


def random_voxels(rng: np.random.Generator) -> np.ndarray:
    """Noise, or blobs, of a few classes."""
    shape = rng.integers(1, 24, 3)
    values = rng.random(shape)
    if rng.random() < 0.5:
        values = ndimage.uniform_filter(values, 3)
    share = rng.uniform(0.1, 0.8)
    dtype = rng.choice(["u1", "i2", "u4", "i8"])
    return ((values < np.quantile(values, share)) * rng.integers(1, 4, shape)).astype(dtype)


def by_scipy(voxels: np.ndarray, connectivity: int, join: str) -> np.ndarray:
    structure = ndimage.generate_binary_structure(3, connectivity)
    if join == "foreground":
        return ndimage.label(voxels, structure)[0]
    joined = np.zeros(voxels.shape, np.int64)
    for value in np.unique(voxels[voxels != 0]):
        found = ndimage.label(voxels == value, structure)[0]
        joined += np.where(found > 0, found + joined.max(), 0)
    return renumbered(joined)


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The same objects, numbered in C order of their first voxels."""
    values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = [i for i in np.argsort(first) if values[i] != 0]
    numbers = np.zeros(len(values), np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers[inverse.reshape(labels.shape)]


def predicted(truth: np.ndarray, blocks: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Objects as a model sees them that labels each block by itself."""
    ids = np.zeros(truth.shape, np.uint16)
    for start in np.ndindex(*(-(-n // b) for n, b in zip(truth.shape, blocks, strict=True))):
        box = tuple(slice(s * b, (s + 1) * b) for s, b in zip(start, blocks, strict=True))
        found, count = ndimage.label(truth[box])
        names = rng.permutation(np.arange(1, count + 60))[:count].astype(np.uint16)
        ids[box] = np.concatenate([np.zeros(1, np.uint16), names])[found]
    return ids


def test_components_are_those_of_scipy(tmp_path: Path) -> None:
    """Issue 25: 200 volumes, in boxes of every size."""
    seed = int(os.environ.get("VOXQUARRY_SEED", np.random.default_rng().integers(2**32)))
    print(f"VOXQUARRY_SEED={seed}")
    rng = np.random.default_rng(seed)
    for case in range(200):
        voxels = random_voxels(rng)
        volume = ingested(tmp_path / "in.zarr", voxels, int(rng.choice([1, 4, 16])))
        connectivity, join = int(rng.integers(1, 4)), str(rng.choice(["foreground", "equal"]))
        expected = by_scipy(voxels, connectivity, join)
        block = None if case % 10 == 0 else tuple(int(n) for n in rng.integers(1, 30, 3))
        found = vq.label_components(
            volume,
            connectivity=connectivity,
            join=join,
            block_size=block,
            threads=int(rng.integers(1, 4)),
        )
        assert np.array_equal(found, expected), (case, voxels.shape, block, connectivity, join)
        assert found.dtype == np.min_scalar_type(expected.max())

        blocks = tuple(int(n) for n in rng.integers(1, 14, 3))
        ids = predicted(voxels != 0, blocks, rng)
        merged = vq.merge_labels(ingested(tmp_path / "in.zarr", ids, 4), blocks)
        assert np.array_equal(merged, ndimage.label(voxels)[0]), (case, blocks)
        dense = vq.merge_labels(vq.open(tmp_path / "in.zarr")["case"]["v"], voxels.shape)
        assert np.array_equal(dense, renumbered(ids)), case


def test_a_stored_result_is_a_label_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    voxels = (ndimage.uniform_filter(rng.random((70, 60, 50)), 3) > 0.55).astype("u1")
    volume = ingested(tmp_path / "in.zarr", voxels)
    expected, count = ndimage.label(voxels)
    calls: list[tuple[int, int]] = []
    labels = vq.label_components(
        volume,
        tmp_path / "in.zarr" / "case" / "n",
        memory_bytes=1,
        progress=lambda *step: calls.append(step),
    )
    assert np.array_equal(labels[...], expected)
    assert (labels.kind, labels.dtype, labels.stats["max"]) == ("labels", np.uint16, count)
    assert np.array_equal(labels.affine, volume.affine) and calls[-1] == (2 * voxels.size,) * 2
    assert calls == sorted(calls) and vq.verify(tmp_path / "in.zarr")["volumes"] == 2
    sizes = np.bincount(expected.ravel())[1:]
    several = vq.label_components(volume, min_voxels=5, connectivity=6)
    assert several.max() == (sizes >= 5).sum()
    kept = np.flatnonzero(np.isin(expected, 1 + np.flatnonzero(sizes >= 5)))
    assert np.array_equal(np.flatnonzero(several), kept)
    largest = vq.label_components(volume, largest=1, dtype="int64")
    assert largest.dtype == np.int64
    assert np.array_equal(largest, expected == 1 + sizes.argmax())


def test_parts_are_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    voxels = (rng.random((80, 40, 40)) > 0.7).astype("u1")
    volume = ingested(tmp_path / "in.zarr", voxels)
    options = {"memory_bytes": 1, "connectivity": 2}
    vq.label_components(volume, tmp_path / "whole.zarr/case/n", **options)
    out = tmp_path / "parts.zarr/case/n"
    for part in [(0, 3), (1, 3), (2, 3)]:
        assert vq.label_components(volume, out, part=part, **options) is None
    assert np.array_equal(vq.finalize(out)[...], by_scipy(voxels, 2, "foreground"))
    assert digests(tmp_path / "parts.zarr") == digests(tmp_path / "whole.zarr")


def test_what_has_no_components_is_refused(tmp_path: Path) -> None:
    floats = vq.ingest({"c": {"v": np.ones((8, 8, 8), "f4")}}, tmp_path / "f.zarr")["c"]["v"]
    with pytest.raises(vq.UsageError, match="threshold"):
        vq.label_components(floats)
    channels = vq.ingest({"c": {"v": np.ones((2, 8, 8, 8), "u1")}}, tmp_path / "c.zarr")["c"]["v"]
    with pytest.raises(vq.UsageError, match="channel"):
        vq.merge_labels(channels, 4)
    volume = ingested(tmp_path / "in.zarr", np.ones((8, 8, 8), "u1"))
    for options, words in [
        ({"connectivity": 4}, "6, 18 or 26"),
        ({"join": "classes"}, "equal"),
        ({"block_size": 0}, "at least 1"),
        ({"largest": 0}, "at least 1"),
        ({"dtype": "float32"}, "integer"),
        ({"part": (0, 2)}, "give an out"),
        ({"out": "no-place"}, "STORE/SUBJECT/VOLUME"),
        ({"out": tmp_path / "in.zarr/case/v"}, "exists"),
    ]:
        with pytest.raises(vq.UsageError, match=words):
            vq.label_components(volume, **options)
    with pytest.raises(vq.UsageError, match="ingest arrays first"):
        vq.label_components(np.ones((8, 8, 8), "u1"))


LIMITED = """
import resource, sys, voxquarry as vq
volume = vq.open(sys.argv[1])["case"]["v"]
vq.label_components(volume)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    vq.label_components(volume, dtype="int64", block_size=volume.shape)
except MemoryError as error:
    print(error)
"""


def test_memory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    voxels = np.zeros((160, 200, 200), "u1")
    voxels[::2, ::2, ::2] = 1
    ingested(tmp_path / "in.zarr", voxels)
    limited = [sys.executable, "-c", LIMITED, str(tmp_path / "in.zarr"), str(20 << 20)]
    told = subprocess.run(limited, capture_output=True, text=True, check=True).stdout
    assert "not enough memory" in told and "MiB" in told, told


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    volume = ingested(tmp_path / "in.zarr", np.ones((40, 40, 40), "u1"))
    out = tmp_path / "out.zarr"

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        vq.label_components(volume, out / "case" / "n", memory_bytes=1, progress=stop)
    assert not out.exists()
    assert vq.label_components(volume, out / "case" / "n").stats["max"] == 1


def test_the_command_does_the_same(tmp_path: Path) -> None:
    voxels = (np.random.default_rng(7).random((40, 30, 20)) > 0.8).astype("u1")
    ingested(tmp_path / "in.zarr", voxels)
    command = [sys.executable, "-m", "voxquarry", "components", str(tmp_path / "in.zarr/case/v")]
    options = ["--connectivity", "26", "--min-voxels", "2", "--json"]
    run = subprocess.run(
        [*command, "--out", str(tmp_path / "out.zarr/case/n"), *options],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout)
    expected = vq.label_components(
        vq.open(tmp_path / "in.zarr")["case"]["v"], connectivity=3, min_voxels=2
    )
    assert told["objects"] == expected.max() and told["dtype"] == "uint8"
    assert np.array_equal(vq.open(tmp_path / "out.zarr")["case"]["n"][...], expected)
    again = subprocess.run([*command, "--out", "nowhere"], capture_output=True, text=True)
    assert again.returncode == 2 and "STORE/SUBJECT/VOLUME" in again.stderr
