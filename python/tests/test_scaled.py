"""Real values, stored value × slope + intercept, wherever voxels are handed out."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import NUMBERS, identical, noise, smooth, write_nifti

import voxquarry as vq

SCALE = (0.5, -1024.0)


def source(path: Path, voxels: np.ndarray, scale: tuple[float, float] = SCALE) -> Path:
    """``voxels`` are ``(z, y, x)``."""

    def edit(header: nib.Nifti1Header) -> None:
        header["scl_slope"], header["scl_inter"] = scale

    return write_nifti(path, voxels.T, edit=edit)


def expected(
    voxels: np.ndarray, dtype: str = "f4", scale: tuple[float, float] = SCALE
) -> np.ndarray:
    if scale == (1.0, 0.0):
        return voxels.astype(dtype)
    slope, intercept = scale
    return (voxels.astype("f8") * slope + intercept).astype(dtype)


@pytest.fixture
def voxels() -> np.ndarray:
    return smooth((20, 18, 17))


@pytest.fixture
def volume(tmp_path: Path, voxels: np.ndarray) -> vq.Volume:
    store = vq.ingest({"a": {"ct": source(tmp_path / "a.nii", voxels)}}, tmp_path / "store.zarr", 8)
    return store["a"]["ct"]


@pytest.mark.filterwarnings("ignore:invalid value encountered|overflow encountered")
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_dtype(tmp_path: Path, dtype: str) -> None:
    voxels = noise((7, 6, 5), dtype)
    sources = {
        "a": source(tmp_path / "a.nii", voxels),
        "b": source(tmp_path / "b.nii", voxels, (1, 0)),
    }
    store = vq.ingest(sources, tmp_path / "store.zarr", 8)
    own = "f8" if dtype == "f8" else "f4"
    for name, scale in (("a", SCALE), ("b", (1.0, 0.0))):
        volume = store[name]["image"]
        assert identical(volume.scaled[...], expected(voxels, own, scale))
        assert volume.scaled.dtype == volume.scaled[0, 0, 0].dtype == np.dtype(own)
        for asked in ("f4", "f8"):
            assert identical(volume.scaled.astype(asked)[...], expected(voxels, asked, scale))


def test_it_reads_as_a_volume_does(volume: vq.Volume, voxels: np.ndarray) -> None:
    scaled, real = volume.scaled, expected(voxels)
    assert (scaled.shape, scaled.ndim, len(scaled)) == (volume.shape, 3, 20)
    assert scaled.volume.name == "ct"
    for index in (3, (..., 2), (slice(1, 9, 3), slice(None), -1), (slice(4, 4),)):
        assert identical(np.ascontiguousarray(scaled[index]), np.ascontiguousarray(real[index]))
    starts = [[0, 0, 0], [12, 10, 9]]
    batch = scaled.read_batch(starts, 8)
    for patch, (z, y, x) in zip(batch, starts, strict=True):
        assert identical(np.ascontiguousarray(patch), real[z : z + 8, y : y + 8, x : x + 8].copy())
    out = np.zeros((4, 5, 6))
    assert scaled.astype("f8").read((1, 2, 3), (4, 5, 6), out=out) is out
    assert np.array_equal(out, real[1:5, 2:7, 3:9])
    with pytest.raises(vq.UsageError, match="out is float64 .*: expected a C-contiguous float32"):
        scaled.read((1, 2, 3), (4, 5, 6), out=out)
    with pytest.raises(vq.UsageError, match="expected float32 or float64"):
        scaled.astype("i2")


def test_it_is_an_array(volume: vq.Volume, voxels: np.ndarray) -> None:
    for given in (volume, volume.scaled):
        with pytest.raises(vq.UsageError, match="copy=False"):
            np.asarray(given, copy=False)
    assert identical(np.asarray(volume), voxels)
    assert identical(np.asarray(volume.scaled), expected(voxels))
    # Nothing is rounded to float32 on the way to float64.
    thirds = volume.scaled.astype("f8")[...]
    assert identical(np.asarray(volume.scaled, dtype="f8"), thirds)
    assert identical(np.array(volume.scaled, dtype="i2"), expected(voxels).astype("i2"))


@pytest.mark.parametrize("padding", [0, -1000.5, "edge", "reflect"])
def test_padding_is_a_real_value(
    volume: vq.Volume, voxels: np.ndarray, padding: float | str
) -> None:
    mode = {"mode": padding} if isinstance(padding, str) else {"constant_values": padding}
    around = np.pad(expected(voxels), 9, **mode)
    for z, y, x in ((-9, -9, -9), (-3, 4, 10), (19, 17, 16), (2, 3, 4), (20, 18, 17)):
        found = volume.scaled.read((z, y, x), 9, padding=padding)
        assert np.array_equal(found, around[z + 9 : z + 18, y + 9 : y + 18, x + 9 : x + 18])
    with pytest.raises(vq.UsageError, match="padding"):
        volume.scaled.read((-1, 0, 0), 4)


def test_pickles_and_repr(volume: vq.Volume) -> None:
    for scaled in (volume.scaled, volume.scaled.astype("f8")):
        again = pickle.loads(pickle.dumps(scaled))
        assert repr(again) == repr(scaled)
        assert identical(again[...], scaled[...])
    assert repr(volume.scaled) == '<voxquarry.ScaledVolume "ct" (image): [20, 18, 17] float32>'


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[vq.Dataset, dict[str, np.ndarray]]:
    """Subjects of one size, of which only ``b`` has a slope; and labels without."""
    random = np.random.default_rng(3)
    voxels = {name: random.integers(-99, 99, (20, 18, 17), "i2") for name in "abc"}
    sources = {
        name: {
            "ct": source(tmp_path / f"{name}.nii", array, SCALE if name == "b" else (1, 0)),
            "seg": vq.Labels(write_nifti(tmp_path / f"{name}-seg.nii", (array.T > 0).astype("u1"))),
        }
        for name, array in voxels.items()
    }
    store = vq.ingest(sources, tmp_path / "store.zarr", 8)
    real = {n: expected(v, scale=SCALE if n == "b" else (1, 0)) for n, v in voxels.items()}
    return store, real


@pytest.mark.parametrize("border", ["exclude", "pad"])
def test_queues_give_real_values(
    mixed: tuple[vq.Dataset, dict[str, np.ndarray]], border: str
) -> None:
    store, real = mixed
    padding = {"ct": -1000.0, "seg": 0} if border == "pad" else None
    sampler = vq.UniformSampler(8, border=border)
    queue = vq.Queue(store, sampler, ["ct", "seg"], 5, batch_size=4, padding=padding)
    around = {name: np.pad(array, 8, constant_values=-1000) for name, array in real.items()}
    seen = set()
    for batch in pickle.loads(pickle.dumps(queue)):
        assert (batch["ct"].dtype, batch["seg"].dtype) == (np.float32, np.uint8)
        for patch, name, (z, y, x, *_) in zip(
            batch["ct"], batch["subject"], batch["location"], strict=True
        ):
            box = around[name][z + 8 : z + 16, y + 8 : y + 16, x + 8 : x + 16]
            assert np.array_equal(patch[0], box)
            seen.add(name)
    assert seen == set(real)


def test_queues_give_stored_values(mixed: tuple[vq.Dataset, dict[str, np.ndarray]]) -> None:
    store, _ = mixed
    for options in ({"scaled": False}, {"subjects": ["a", "c"]}):
        queue = vq.Queue(store, vq.UniformSampler(8), "ct", 5, **options)
        for batch in pickle.loads(pickle.dumps(queue)):
            assert batch["ct"].dtype == np.int16
            for patch, name, (z, y, x, *_) in zip(
                batch["ct"], batch["subject"], batch["location"], strict=True
            ):
                stored = store[name]["ct"].read((z, y, x), 8)
                assert identical(np.ascontiguousarray(patch[0]), stored)


def test_models_see_real_values(volume: vq.Volume, voxels: np.ndarray) -> None:
    def of(*arguments: object, **options: object) -> tuple[str, np.ndarray]:
        seen = []

        def model(patches: np.ndarray) -> np.ndarray:
            seen.append(patches.dtype.name)
            return patches.astype("f8")

        found = vq.infer(model, *arguments, 8, 0.5, dtype="f8", window="average", **options)
        assert len(set(seen)) == 1
        return seen[0], found[0]

    real = expected(voxels)
    for arguments, options, dtype, values in (
        ((volume,), {}, "float32", real),
        ((volume,), {"scaled": False}, "int16", voxels),
        ((volume.scaled.astype("f8"),), {}, "float64", real),
    ):
        found_dtype, found = of(*arguments, **options)
        assert found_dtype == dtype
        np.testing.assert_allclose(found, values, rtol=1e-12)
