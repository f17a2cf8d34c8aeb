"""Voxels that ingest changes: crop, clip, orientation, spacing, normalisation and type."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers import noise, smooth

import voxquarry as vq

SHAPE = (21, 26, 33)


def turned(random: np.random.Generator, order: tuple[int, ...], flips: tuple[int, ...]) -> Any:
    """An affine whose axes go in that order and direction, perhaps a little oblique."""
    angle = random.uniform(-0.4, 0.4)
    about = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    axes = np.eye(3)[list(order)] @ np.diag(flips) @ np.diag(random.uniform(0.5, 3, 3))
    affine = np.eye(4)
    affine[:3, :3] = about @ axes
    affine[:3, 3] = random.uniform(-100, 100, 3)
    return affine


def store_of(volumes: dict[str, Any], path: Path, **options: Any) -> vq.Subject:
    return vq.ingest({"case": volumes}, path, patch_size=16, **options)["case"]


def zyx(image: Any) -> np.ndarray:
    """The voxels of nibabel's image in our axes."""
    return np.ascontiguousarray(np.asarray(image.dataobj).T)


def test_canonical_is_nibabels(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    images = {}
    turns = itertools.product(
        itertools.permutations(range(3)), itertools.product((-1, 1), repeat=3)
    )
    for number, (order, flips) in enumerate(turns):
        dtype = ("i2", "f4", "u1", "i4")[number % 4]
        shape = (7, 12, 19, 3) if number % 5 == 0 else (7, 12, 19)
        voxels = noise(shape, dtype, seed=number)
        affine = turned(random, order, flips)
        if number % 3 == 0:
            affine[:3, :3] += random.normal(0, 0.15, (3, 3))
        images[f"s{number}"] = nib.Nifti1Image(voxels, affine)
    ds = vq.ingest(
        {name: {"a": image} for name, image in images.items()},
        tmp_path / "s.zarr",
        patch_size=16,
        canonical=True,
    )
    for name, image in images.items():
        expected = nib.as_closest_canonical(image)
        found = ds[name]["a"]
        np.testing.assert_array_equal(found[...], zyx(expected))
        np.testing.assert_allclose(found.affine, expected.affine, rtol=0, atol=1e-9)
        already = nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert (found.changes is None) == already


def test_canonical_turns_labels_and_wide_integers_exactly(tmp_path: Path) -> None:
    affine = turned(np.random.default_rng(0), (2, 0, 1), (-1, 1, -1))
    wide = noise((9, 8, 7), "i8")
    subject = store_of(
        {"a": wide, "seg": vq.Labels(wide)}, tmp_path / "s.zarr", affine=affine, canonical=True
    )
    expected = zyx(nib.as_closest_canonical(nib.Nifti1Image(wide.T, affine, dtype="int64")))
    for name in ("a", "seg"):
        np.testing.assert_array_equal(subject[name][...], expected)
        assert subject[name].dtype == np.int64


def test_images_are_resampled_as_simpleitk_does(tmp_path: Path) -> None:
    voxels = smooth((20, 24, 32), "f4")
    voxels = voxels + np.random.default_rng(0).normal(0, 900, voxels.shape).astype("f4")
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10, -20, 30))
    ct = store_of({"ct": image}, tmp_path / "s.zarr", target_spacing=(1, 1.5, 1.0))["ct"]
    assert ct.shape == (40, 12, 16) and ct.dtype == np.float32
    np.testing.assert_allclose(ct.spacing, (1, 1.5, 1.0), rtol=1e-12)
    resample = sitk.ResampleImageFilter()
    resample.SetSize(ct.shape[::-1])
    resample.SetOutputSpacing((1.0, 1.5, 1.0))
    resample.SetOutputDirection(image.GetDirection())
    first = ct.affine[:3, 3] * (-1, -1, 1)
    resample.SetOutputOrigin(first.tolist())
    expected = sitk.GetArrayFromImage(resample.Execute(image))
    np.testing.assert_allclose(ct[...], expected, rtol=0, atol=1e-5 * np.ptp(voxels))
    # The outer faces stay in place.
    np.testing.assert_allclose(first, (10.25, -19.625, 29.5))


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_integers_are_rounded_and_keep_their_scaling(tmp_path: Path, dtype: str) -> None:
    image = nib.Nifti1Image(smooth(SHAPE, dtype), np.eye(4))
    image.header.set_slope_inter(0.5, -100)
    nib.save(image, tmp_path / "ct.nii")
    plain = store_of({"ct": tmp_path / "ct.nii"}, tmp_path / "plain.zarr")["ct"]
    assert plain.slope == 0.5
    found = store_of({"ct": tmp_path / "ct.nii"}, tmp_path / "s.zarr", target_spacing=1.25)["ct"]
    view = plain.at(spacing=1.25)
    assert found.shape == view.shape and found.dtype == plain.dtype
    np.testing.assert_array_equal(found.affine, view.affine)
    assert (found.slope, found.intercept) == (0.5, -100)
    matrix = np.column_stack([np.eye(3) * 1.25, np.full(3, 0.125)])
    exact = plain.read_affine(matrix, view.shape, padding="edge", dtype="float64")
    expected = (exact + 100) / 0.5
    if dtype == "f4":
        np.testing.assert_allclose(found[...], expected, rtol=1e-6, atol=1e-6)
    else:
        assert np.abs(found[...] - expected).max() <= 0.5 + 1e-3
    real = store_of(
        {"ct": tmp_path / "ct.nii"}, tmp_path / "r.zarr", target_spacing=1.25, dtype="float64"
    )["ct"]
    assert (real.slope, real.intercept, real.dtype) == (1, 0, np.float64)
    np.testing.assert_array_equal(real[...], exact)


def test_all_volumes_end_on_one_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    seg = random.integers(0, 5, SHAPE).astype("u1")
    heat = random.random(SHAPE).astype("f4")
    volumes = {"ct": smooth(SHAPE), "seg": vq.Labels(seg), "heat": vq.Weights(heat)}
    options: dict[str, Any] = {"spacing": (2, 1, 0.5), "target_spacing": (1.3, 1.3, 1.3)}
    subject = store_of(
        volumes, tmp_path / "s.zarr", **options, clip=(0, 10), normalize=(0, 10), dtype="float16"
    )
    shape = tuple(
        int(np.ceil(n * mm / 1.3 - 1e-3)) for n, mm in zip(SHAPE, (2, 1, 0.5), strict=True)
    )
    assert {subject[name].shape for name in subject} == {shape}
    assert subject["ct"].dtype == np.float16
    at = [
        np.clip(np.floor((np.arange(n) + 0.5) * 1.3 / mm), 0, m - 1).astype(int)
        for n, m, mm in zip(shape, SHAPE, (2, 1, 0.5), strict=True)
    ]
    np.testing.assert_array_equal(subject["seg"][...], seg[np.ix_(*at)])
    assert subject["seg"].kind == "labels" and subject["seg"].dtype == np.uint8
    assert subject["heat"].dtype == np.float32
    assert subject["heat"].stats["max"] <= heat.max()
    assert set(subject["seg"].changes) == {"spacing", "native"}
    assert vq.verify(tmp_path / "s.zarr")["volumes"] == 3


def cropped(*images: np.ndarray) -> tuple[slice, ...]:
    """The box of the voxels that are not 0 in all images."""
    there = np.argwhere(np.any([image != 0 for image in images], axis=0))
    return tuple(slice(a, b + 1) for a, b in zip(there.min(0), there.max(0), strict=True))


def sparse(seed: int, low: int, high: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    voxels = np.zeros(SHAPE, "i2")
    voxels[low:high, 5:20, 3:-2] = random.integers(-50, 50, voxels[low:high, 5:20, 3:-2].shape)
    return voxels


@pytest.mark.parametrize("resampled", [False, True])
def test_subjects_are_cropped_to_what_is_not_zero(tmp_path: Path, resampled: bool) -> None:
    t1, t2 = sparse(1, 4, 9), sparse(2, 7, 15)
    seg = np.ones(SHAPE, "u1") * np.arange(SHAPE[2]).astype("u1")
    box = cropped(t1, t2)
    affine = turned(np.random.default_rng(2), (0, 2, 1), (1, -1, 1))
    options: dict[str, Any] = {"affine": affine}
    more: dict[str, Any] = {"target_spacing": (0.9, 2.1, 1.4)} if resampled else {}
    volumes = {"t1": t1, "t2": t2, "seg": vq.Labels(seg)}
    subject = store_of(volumes, tmp_path / "s.zarr", **options, **more, crop_foreground=True)
    # As if numpy had cropped them before.
    inner = affine.copy()
    inner[:3, 3] += affine[:3, :3] @ [box[2].start, box[1].start, box[0].start]
    parts = {"t1": t1[box], "t2": t2[box], "seg": vq.Labels(seg[box])}
    expected = store_of(parts, tmp_path / "e.zarr", affine=inner, **more)
    for name in volumes:
        np.testing.assert_array_equal(subject[name][...], expected[name][...])
        np.testing.assert_allclose(subject[name].affine, expected[name].affine, atol=1e-9)
        crop = subject[name].changes["crop"]
        assert crop["start"] == [part.start for part in box]
        assert crop["size"] == [part.stop - part.start for part in box]
        assert subject[name].changes["native"]["shape"] == list(SHAPE)


def test_nothing_but_zeros_is_not_cropped(tmp_path: Path) -> None:
    ds = vq.ingest(
        {"a": {"ct": np.zeros(SHAPE, "i2")}, "b": {"seg": vq.Labels(np.ones(SHAPE, "u1"))}},
        tmp_path / "s.zarr",
        patch_size=16,
        crop_foreground=True,
    )
    assert ds["a"]["ct"].shape == ds["b"]["seg"].shape == SHAPE
    notes = sorted(note for note in ds.report.notes if "not cropped" in note)
    assert notes == [
        "a: not cropped: all voxels of its images are 0",
        "b: not cropped: it has no image",
    ]


def test_labels_are_added_to_a_cropped_subject(tmp_path: Path) -> None:
    ct, seg = sparse(1, 4, 9), np.ones(SHAPE, "u1")
    options: dict[str, Any] = {"crop_foreground": True, "target_spacing": 1.5}
    store_of({"ct": ct}, tmp_path / "s.zarr", **options)
    subject = store_of({"seg": vq.Labels(seg)}, tmp_path / "s.zarr", **options, add=True)
    assert subject["seg"].shape == subject["ct"].shape
    assert subject["seg"].changes["crop"] == subject["ct"].changes["crop"]
    store_of({"ct": ct}, tmp_path / "whole.zarr", target_spacing=1.5)
    with pytest.raises(vq.UsageError, match="crop to the foreground: none, now asked for"):
        store_of({"seg": vq.Labels(seg)}, tmp_path / "whole.zarr", **options, add=True)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f2", "f4", "f8"])
def test_values_are_clipped_and_normalised_as_numpy_does(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(0)
    voxels = (random.random((2, *SHAPE)) * 200).astype(dtype)
    x = voxels.astype("f8")
    clipped = np.clip(x, 20.5, 90.25)
    results = {
        (): x,
        (("clip", (30, 90)),): np.clip(x, 30, 90),
        (("clip", (20.5, 90.25)), ("dtype", "float64")): clipped,
        (("clip", (-np.inf, 90)), ("dtype", "f8")): np.clip(x, None, 90),
        (("normalize", (20, 120)),): np.clip((x - 20) / 100, 0, 1),
        (("normalize", "zscore"),): (x - x.mean()) / x.std(),
        (("clip", (20.5, 90.25)), ("normalize", "zscore"), ("dtype", "f8")): (
            (clipped - clipped.mean()) / clipped.std()
        ),
        (("dtype", "uint8"),): np.round(x),
    }
    for number, (options, expected) in enumerate(results.items()):
        found = store_of({"a": voxels}, tmp_path / f"{number}.zarr", **dict(options))["a"]
        tolerance = 1e-6 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(found[...].astype("f8"), expected, rtol=0, atol=tolerance)
        named = dict(options)
        wanted = named.get("dtype", "float32" if "normalize" in named else dtype)
        assert found.dtype == np.dtype(wanted)
    # The bounds lie between integers: rounded inwards where the type stays.
    found = store_of({"a": voxels}, tmp_path / "inward.zarr", clip=(20.5, 90.25))["a"]
    low, high = (20.5, 90.25) if "f" in dtype else (21, 90)
    np.testing.assert_array_equal(found[...], np.clip(voxels, low, high).astype(dtype))


def test_the_order_is_clip_resample_normalise(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(0, 100, SHAPE).astype("f4")
    clipped = store_of({"a": np.clip(voxels, -50, 80)}, tmp_path / "c.zarr")["a"]
    view = clipped.at(spacing=1.7)
    expected = view.read((0, 0, 0), view.shape).astype("f8")
    expected = (expected - expected.mean()) / expected.std()
    found = store_of(
        {"a": voxels}, tmp_path / "s.zarr", clip=(-50, 80), target_spacing=1.7, normalize="zscore"
    )["a"]
    np.testing.assert_allclose(found[...], expected, rtol=0, atol=1e-5)
    assert abs(found.stats["mean"]) < 1e-5 and abs(found.stats["std"] - 1) < 1e-5
    assert found.changes["std"] > 10


def test_scaled_values_are_real_ones(tmp_path: Path) -> None:
    image = nib.Nifti1Image(smooth(SHAPE), np.eye(4))
    image.header.set_slope_inter(2.0, -1024)
    nib.save(image, tmp_path / "ct.nii")
    real = zyx(nib.load(tmp_path / "ct.nii")).astype("f8")
    path = tmp_path / "ct.nii"
    clipped = store_of({"a": path}, tmp_path / "1.zarr", clip=(-1000, 400))["a"]
    np.testing.assert_array_equal(clipped[...] * 2.0 - 1024, np.clip(real, -1000, 400))
    assert (clipped.dtype, clipped.slope, clipped.intercept) == (np.int16, 2.0, -1024)
    window = store_of({"a": path}, tmp_path / "2.zarr", normalize=(-1000, 400))["a"]
    np.testing.assert_allclose(window[...], np.clip((real + 1000) / 1400, 0, 1), atol=1e-6)
    assert (window.dtype, window.slope, window.intercept) == (np.float32, 1.0, 0.0)


def test_constant_and_non_finite_voxels(tmp_path: Path) -> None:
    constant = store_of({"a": np.full(SHAPE, 7, "i2")}, tmp_path / "1.zarr", normalize="zscore")[
        "a"
    ]
    assert not constant[...].any()
    voxels = np.ones(SHAPE, "f4")
    voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, 3
    found = store_of({"a": voxels}, tmp_path / "2.zarr", normalize="zscore")["a"][...]
    finite = voxels[np.isfinite(voxels)].astype("f8")
    assert np.isnan(found[0, 0, 0]) and np.isnan(found).sum() == 1
    np.testing.assert_allclose(found[1, 1, 1], (3 - finite.mean()) / finite.std(), rtol=1e-5)
    with pytest.raises(vq.DataError, match="no mean"):
        store_of({"a": np.full(SHAPE, np.nan, "f4")}, tmp_path / "3.zarr", normalize="zscore")
    assert not (tmp_path / "3.zarr").exists()


@pytest.mark.parametrize(
    ("voxels", "dtype", "match"),
    [
        (np.full(SHAPE, 300, "i2"), "uint8", r"voxel \[0, 0, 0\] .* is 300, which uint8"),
        (np.full(SHAPE, -1, "i2"), "uint16", "is -1, which uint16 does not hold: clip"),
        (np.full(SHAPE, np.nan, "f4"), "int16", "NaN"),
        (np.full(SHAPE, 1e6, "f4"), "float16", "is 1000000, which float16"),
    ],
)
def test_no_value_is_wrapped(tmp_path: Path, voxels: np.ndarray, dtype: str, match: str) -> None:
    with pytest.raises(vq.DataError, match=match):
        store_of({"a": voxels}, tmp_path / "s.zarr", dtype=dtype)
    assert not (tmp_path / "s.zarr").exists()
    if np.isfinite(voxels).all():
        found = store_of({"a": voxels}, tmp_path / "s.zarr", dtype=dtype, clip=(0, 100))["a"]
        assert found.dtype == np.dtype(dtype)
        assert set(np.unique(found[...])) <= {0, 100}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target_spacing": 0}, "spacing"),
        ({"target_spacing": (1, -1, 1)}, "spacing"),
        ({"target_spacing": float("nan")}, "spacing"),
        ({"target_spacing": (1, 2)}, "target_spacing is"),
        ({"target_spacing": 1e-9}, "spacing"),
        ({"clip": (1, 0)}, "clip"),
        ({"clip": (float("nan"), 0)}, "clip"),
        ({"clip": 3}, "clip is 3: expected two numbers"),
        ({"clip": (0.2, 0.8)}, "clip .*: expected bounds between which a stored int16"),
        ({"normalize": "minmax"}, "normalize"),
        ({"normalize": (1, 1)}, "normalize"),
        ({"normalize": "zscore", "dtype": "int16"}, "dtype int16"),
        ({"dtype": "complex64"}, "dtype"),
        ({"dtype": "nonsense"}, "dtype"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(vq.UsageError, match=match):
        store_of({"a": smooth(SHAPE)}, tmp_path / "s.zarr", **options)
    assert not (tmp_path / "s.zarr").exists()


def test_a_repeated_run_says_which_change_differs(tmp_path: Path) -> None:
    image = nib.Nifti1Image(sparse(1, 4, 9).T, np.diag([-1.0, 1, 1, 1]))
    nib.save(image, tmp_path / "ct.nii")
    options: dict[str, Any] = {
        "crop_foreground": True,
        "clip": (-20, 30),
        "canonical": True,
        "target_spacing": (1, 1.5, 2),
        "normalize": (-20, 30),
    }

    def run(**other: Any) -> vq.Dataset:
        path = {"case": {"ct": tmp_path / "ct.nii"}}
        return vq.ingest(path, tmp_path / "s.zarr", patch_size=16, **(options | other))

    run()
    assert run().report.skipped == ["case"]
    for other, match in [
        ({"crop_foreground": False}, "crop to the foreground: asked for, now none"),
        ({"clip": None}, r"clip: \[-20.0,30.0\], now none"),
        ({"canonical": False}, 'orientation: "RAS", now none'),
        ({"target_spacing": 1}, r"spacing to resample to: \[1.0,1.5,2.0\], now \[1.0,1.0,1.0\]"),
        ({"normalize": "zscore"}, r'normalisation: \[-20.0,30.0\], now "zscore"'),
        ({"dtype": "float16"}, 'dtype to convert to: none, now "float16"'),
    ]:
        with pytest.raises(vq.UsageError, match=match):
            run(**other)
    assert run(clip=None, overwrite=True)["case"]["ct"].changes.keys() == {
        "crop",
        "orientation",
        "spacing",
        "normalize",
        "native",
    }


def test_sources_that_are_read_once_and_channels(tmp_path: Path) -> None:
    voxels = noise((3, *SHAPE), "i2")
    lazy = vq.Planes((voxels[:, z] for z in range(SHAPE[0])), voxels.shape, "int16")
    options: dict[str, Any] = {"crop_foreground": True, "target_spacing": 1.5, "dtype": "float32"}
    found = store_of({"a": lazy}, tmp_path / "1.zarr", **options)["a"]
    expected = store_of({"a": voxels}, tmp_path / "2.zarr", **options)["a"]
    np.testing.assert_array_equal(found[...], expected[...])
    view = store_of({"a": voxels}, tmp_path / "3.zarr")["a"].at(spacing=1.5)
    np.testing.assert_array_equal(found[...], view.read((0, 0, 0), view.shape[1:]))
    calls: list[tuple[str, int, int]] = []
    store_of(
        {"a": voxels},
        tmp_path / "4.zarr",
        normalize="zscore",
        progress=lambda *call: calls.append(call),
        **options,
    )
    assert calls[-1][1] == calls[-1][2] and [c[1] for c in calls] == sorted(c[1] for c in calls)
