"""Coarser levels: numpy's own pyramid, other readers of OME-Zarr, pickling, queues, the viewer."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr
from helpers import INTEGERS, NUMBERS, identical, noise, smooth, write_nifti
from ome_zarr_models.v05.image import Image
from view_client import ask, read_by_tensorstore

import voxquarry as vq


def boxes(voxels: np.ndarray, step: tuple[int, ...]) -> np.ndarray:
    """The voxels under each voxel of the next level, in C order, an object array of lists."""
    size = [-(-n // s) for n, s in zip(voxels.shape[-3:], step, strict=True)]
    out = np.empty((*voxels.shape[:-3], *size), object)
    for at in np.ndindex(*out.shape):
        box = tuple(slice(i * s, (i + 1) * s) for i, s in zip(at[-3:], step, strict=True))
        out[at] = voxels[at[:-3]][box].ravel().tolist()
    return out


def mean(values: list, dtype: np.dtype) -> object:
    if dtype.kind != "f":
        return round(Fraction(sum(values), len(values)))
    there, total = [value for value in values if value == value], 0.0
    for value in there:
        total += value
    return total / len(there) if there else np.nan


def mode(values: list) -> object:
    return max(values, key=lambda value: (values.count(value), value != 0, -value))


def pyramid(voxels: np.ndarray, factors: tuple, labels: bool) -> list[np.ndarray]:
    levels = [voxels]
    for before, now in pairwise(factors):
        step = tuple(n // b for n, b in zip(now, before, strict=True))
        under = boxes(levels[-1], step)
        out = np.zeros(under.shape, voxels.dtype)
        for at in np.ndindex(*under.shape):
            out[at] = mode(under[at]) if labels else mean(under[at], voxels.dtype)
        levels.append(out)
    return levels


def assert_levels(volume: vq.Volume, voxels: np.ndarray) -> None:
    expected = pyramid(voxels, volume.levels, volume.kind == "labels")
    for number, array in enumerate(expected):
        level = volume.level(number)
        found = level[...]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f"), number
        factors = np.array(volume.levels[number])
        assert np.allclose(level.spacing, volume.spacing * factors)
        centre = volume.affine @ [*((factors[::-1] - 1) / 2), 1]
        assert np.allclose(level.affine[:, 3], centre)
        finite = array[np.isfinite(array)]
        assert level.stats["max"] == finite.max() and level.stats["voxels"] == array.size


@pytest.mark.parametrize("dtype", [*NUMBERS, "f2"])
def test_images_are_means(tmp_path: Path, dtype: str) -> None:
    voxels = {"odd": noise((9, 22, 35), dtype), "channels": noise((3, 17, 5, 18), dtype, 1)}
    voxels["odd"].flat[100:900] = voxels["odd"].flat[0]  # NaN of floats
    sources = {name: {"ct": array} for name, array in voxels.items()}
    with np.errstate(over="ignore"):
        ds = vq.ingest(sources, tmp_path / "s.zarr", patch_size=8, spacing=(3, 1, 1.2), levels=3)
        for name, array in voxels.items():
            volume = ds[name]["ct"]
            assert volume.levels == ((1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8))
            assert_levels(volume, array)
    assert vq.verify(tmp_path / "s.zarr")["volumes"] == 2


@pytest.mark.parametrize("dtype", [*INTEGERS, "f4", "f8"])
def test_label_maps_are_modes(tmp_path: Path, dtype: str) -> None:
    random, limits = (
        np.random.default_rng(2),
        np.iinfo("i8" if dtype == "u8" else dtype) if (dtype[0] != "f") else np.iinfo("i2"),
    )
    ids = [0, 0, 1, 2, limits.max, limits.max // 2, limits.min]
    voxels = random.choice(np.array(ids, object), (11, 12, 13))
    voxels = np.where(voxels < 0, 0, voxels) if dtype[0] == "u" else voxels
    seg = voxels.astype(dtype)
    source = {"a": {"seg": vq.Labels(seg)}}
    ds = vq.ingest(source, tmp_path / "s.zarr", patch_size=8, levels=2)
    volume = ds["a"]["seg"]
    assert_levels(volume, seg)
    level = volume.level(1)
    labels, counts = np.unique(level[...], return_counts=True)
    found = {int(n): int(c) for n, c in zip(labels, counts, strict=True) if n}
    assert level.labels == found


def test_what_a_volume_was_made_for(tmp_path: Path) -> None:
    volumes = {"ct": np.ones((20, 20, 20), "i2"), "seg": vq.Labels(np.ones((20, 20, 20), "u1"))}
    ds = vq.ingest({"a": volumes}, tmp_path / "s.zarr", (8, 12, 16), levels=1)
    ct, seg = ds["a"]["ct"], ds["a"]["seg"]
    assert ct.patch_sizes == seg.patch_sizes == seg.level(1).patch_sizes == ((8, 12, 16),)
    assert (ct.has_label_counts, seg.has_label_counts) == (False, True)
    # A level has none of its own: its labels are counted.
    assert not seg.level(1).has_label_counts and seg.level(1).labels == {1: 1000}
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((9, 9, 9), "u1"))
    foreign = vq.open_zarr(tmp_path / "a.zarr", kind="labels")
    assert (foreign.patch_sizes, foreign.has_label_counts) == ((), False)


def test_auto_ends_at_128_voxels(tmp_path: Path) -> None:
    sources = {"a": smooth((10, 260, 300)), "b": smooth((128, 20, 20))}
    ds = vq.ingest(sources, tmp_path / "s.zarr", spacing=(6, 1, 1), levels="auto")
    assert ds["a"]["image"].levels == ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    assert ds["a"]["image"].level(2).shape == (10, 65, 75)
    assert ds["b"]["image"].levels == ((1, 1, 1),)


def test_other_readers_see_the_levels(tmp_path: Path) -> None:
    voxels = smooth((2, 20, 30, 40))
    ds = vq.ingest(
        {"a": {"ct": voxels}}, tmp_path / "s.zarr", patch_size=16, spacing=(4, 0.5, 0.5), levels=2
    )
    volume = ds["a"]["ct"]
    group = zarr.open_group(tmp_path / "s.zarr/a/ct", mode="r")
    (scales,) = Image.from_zarr(group).ome_attributes.multiscales
    assert scales.type == "mean"
    assert [dataset.path for dataset in scales.datasets] == ["0", "1", "2"]
    for number, dataset in enumerate(scales.datasets):
        level, factors = volume.level(number), volume.levels[number]
        assert identical(group[dataset.path][...], level[...])
        scale, *moves = dataset.coordinateTransformations
        assert scale.scale == [1.0, *level.spacing]
        middle = [(f - 1) / 2 * s for f, s in zip(factors, volume.spacing, strict=True)]
        assert [move.translation for move in moves] == ([[0.0, *middle]] if number else [])


def test_a_level_is_a_volume(tmp_path: Path) -> None:
    seg = (smooth((40, 40, 40)) % 3).astype("u1")
    ds = vq.ingest(
        {"a": {"ct": smooth((40, 40, 40)), "seg": vq.Labels(seg)}},
        tmp_path / "s.zarr",
        patch_size=8,
        levels=2,
    )
    volume = ds["a"]["ct"]
    level = volume.level(1)
    assert identical(level.read((3, 4, 5), 8), level[3:11, 4:12, 5:13])
    assert level.read_batch([(-2, 0, 0), (15, 1, 2)], 8, padding="edge").shape == (2, 8, 8, 8)
    assert level.at(spacing=4).shape == (10, 10, 10)
    assert level.levels == ((1, 1, 1),) and level.level(0).shape == level.shape
    assert len({volume.content_id, level.content_id, volume.level(2).content_id}) == 3
    again = pickle.loads(pickle.dumps(level))
    assert identical(again[...], level[...]) and again.content_id == level.content_id

    coarse = vq.open(tmp_path / "s.zarr", level=1)
    assert identical(coarse["a"]["ct"][...], level[...])
    queue = vq.Queue(
        coarse,
        vq.LabelSampler(8, labels="seg"),
        volumes=["ct", "seg"],
        patches_per_subject=4,
        batch_size=2,
        seed=1,
    )
    for batch in queue:
        for patch, location in zip(batch["ct"], batch["location"], strict=True):
            z, y, x = (int(n) for n in location[:3])
            assert identical(np.asarray(patch)[0], level[z : z + 8, y : y + 8, x : x + 8])
    item = pickle.loads(pickle.dumps(coarse["a"]["ct"]))
    assert item.shape == (20, 20, 20) and identical(item[...], level[...])
    with pytest.raises(vq.UsageError, match="0 to 2"):
        volume.level(7)
    with pytest.raises(vq.UsageError, match="0 to 2"):
        vq.open(tmp_path / "s.zarr", level=3)["a"]["ct"]
    with pytest.raises(vq.UsageError, match="level -1"):
        volume.level(-1)
    with pytest.raises(vq.UsageError, match="level -1"):
        vq.open(tmp_path / "s.zarr", level=-1)


def test_a_level_is_exported_with_a_header_of_its_own(tmp_path: Path) -> None:
    source = write_nifti(
        tmp_path / "ct.nii", smooth((31, 20, 17)), edit=lambda h: h.set_zooms((1, 2, 3))
    )
    ds = vq.ingest(source, tmp_path / "s.zarr", levels=2)
    level = ds["ct"]["image"].level(2)
    vq.export(level, tmp_path / "out.nii.gz")
    image = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj).T, level[...])
    assert np.allclose(image.affine, level.affine)


@pytest.mark.parametrize("levels", [-1, 1.5, "all", True, 99])
def test_bad_levels_are_refused(tmp_path: Path, levels: object) -> None:
    with pytest.raises(vq.UsageError, match="levels"):
        vq.ingest({"a": smooth((9, 9, 9))}, tmp_path / "s.zarr", levels=levels)
    assert not (tmp_path / "s.zarr").exists()


def test_a_damaged_level_is_refused_and_the_volume_still_reads(tmp_path: Path) -> None:
    voxels = smooth((20, 20, 20))
    ds = vq.ingest({"a": {"ct": voxels}}, tmp_path / "s.zarr", levels=1)
    path = tmp_path / "s.zarr/a/ct/1/c/0/0/0"
    damaged = bytearray(path.read_bytes())
    damaged[9] ^= 4
    path.write_bytes(damaged)
    fresh = vq.open(ds.path)["a"]["ct"]
    with pytest.raises(vq.DataError):
        fresh.level(1)[...]
    assert identical(fresh[...], voxels)
    with pytest.raises(vq.DataError):
        vq.verify(ds.path)


def test_the_viewer_hands_out_stored_levels(tmp_path: Path) -> None:
    seg = (smooth((30, 40, 50)) % 4).astype("i4")
    ds = vq.ingest(
        {"a": {"ct": smooth((30, 40, 50)), "seg": vq.Labels(seg)}},
        tmp_path / "s.zarr",
        patch_size=16,
        spacing=(2, 1, 1),
        levels=2,
    )
    with vq.view(ds["a"]) as shown:
        for key, name in (("v0", "ct"), ("v1", "seg")):
            volume = ds["a"][name]
            group = json.loads(ask(shown.url, f"arrays/0/{key}/zarr.json")[2])
            datasets = group["attributes"]["ome"]["multiscales"][0]["datasets"]
            assert len(datasets) == 3
            for number, dataset in enumerate(datasets):
                scale, move = dataset["coordinateTransformations"]
                assert tuple(scale["scale"]) == volume.levels[number]
                assert move["translation"] == [(f - 1) / 2 for f in volume.levels[number]]
                found = read_by_tensorstore(shown.url, f"arrays/0/{key}/{number}/")
                assert np.array_equal(found, volume.level(number)[...])
