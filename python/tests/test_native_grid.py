"""Inference at another spacing or orientation comes back to the volume's own grid."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import smooth

import voxquarry as vq

SIZE = (22, 30, 26)
# Oblique, mirrored and anisotropic: spacing (z, y, x) of 2, 1.5 and 0.75.
AFFINE = np.array([[0, -1.5, 0, 20], [0.75, 0, 0, -30], [0, 0, 2, 7], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> vq.Subject:
    """``ct``, ``multi`` with two channels, and ``seg`` with five labels."""
    ct = smooth(SIZE, "i2")
    labels = (np.abs(ct) // 300 % 5).astype("u1")
    sources = {"ct": ct, "multi": np.stack([ct, -ct]), "seg": vq.Labels(labels)}
    folder = tmp_path_factory.mktemp("native")
    store = vq.ingest({"a": sources}, folder / "in.zarr", patch_size=8, affine=AFFINE)
    return store["a"]


def scores(patches: np.ndarray) -> np.ndarray:
    """Three channels that depend on the place in the patch, so that patches disagree."""
    values = patches[:, :1].astype("f4") / 1000
    ramp = np.arange(values.shape[-1], dtype="f4") / 8
    return np.concatenate([values + ramp, 1 - values * 2, values * values - ramp], axis=1)


def on_own_grid(view: vq.ResampledVolume, blended: np.ndarray) -> np.ndarray:
    """``blended`` at the voxels of the view's volume, linear, one voxel at a time along each axis
    of the view; the faces are repeated.
    """
    turned = [2, 1, 0, 3]
    matrix = (np.linalg.inv(view.affine) @ view.volume.affine)[np.ix_(turned, turned)]
    size = view.volume.shape[-3:]
    index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    at = index @ matrix[:3, :3].T + matrix[:3, 3]
    at = np.clip(at, 0, np.array(blended.shape[-3:]) - 1)
    low = np.minimum(np.floor(at).astype(int), np.maximum(np.array(blended.shape[-3:]) - 2, 0))
    result = np.zeros((*blended.shape[:-3], *size))
    for corner in itertools.product((0, 1), repeat=3):
        near = np.minimum(low + corner, np.array(blended.shape[-3:]) - 1)
        weight = np.prod(np.where(corner, at - low, 1 - (at - low)), axis=-1)
        result += weight * blended[..., near[..., 0], near[..., 1], near[..., 2]]
    return result


def blended_at(view: vq.ResampledVolume, overlap: int = 4) -> np.ndarray:
    """What the model's answers are at the view's own spacing."""
    grid = vq.GridSampler(8, overlap=overlap, padding="edge", margin="none")
    size = view.shape[-3:]
    result = vq.Aggregator(grid, size, channels=3)
    for start in grid.locations(size):
        patch = view.read(start, 8, padding="edge").reshape(1, -1, 8, 8, 8)
        result.add(scores(patch), start[None])
    return result.finish()


VIEWS: list[dict[str, Any]] = [
    {"spacing": 1.5},
    {"spacing": (2, 3, 1.5)},
    {"spacing": (0.9, 1.1, 2.3), "orientation": "LPS"},
    {"orientation": "RAS"},
]


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("stored", [False, True])
def test_scores_come_back(
    subject: vq.Subject, tmp_path: Path, view: dict[str, Any], stored: bool
) -> None:
    ct = subject["ct"]
    out = tmp_path / "out.zarr" / "a" / "pred" if stored else None
    options = {"padding": "edge"} | view
    found = vq.infer(scores, ct, 8, 4, out, **options)
    at = ct.at(view.get("spacing"), view.get("orientation"))
    expected = on_own_grid(at, blended_at(at))
    np.testing.assert_allclose(found[...], expected, atol=2e-5 * np.abs(expected).max())
    labels = vq.infer(scores, ct, 8, 4, finish="argmax", **options)
    sure = np.diff(np.sort(expected, axis=0)[-2:], axis=0)[0] > 1e-4
    assert np.array_equal(labels[sure], expected.argmax(0)[sure]) and sure.mean() > 0.9
    assert labels.dtype == np.uint8
    small = vq.infer(scores, ct, 8, 4, finish=("threshold", 0.3), memory_bytes="1MiB", **options)
    far = np.abs(expected - 0.3) > 1e-4
    assert np.array_equal(small[far], (expected >= 0.3)[far])
    if stored:
        assert np.allclose(found.affine, ct.affine) and found.shape == (3, *SIZE)
        assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"], "scratch is gone"


def test_another_orientation_alone_changes_no_value(subject: vq.Subject) -> None:
    found = vq.infer(lambda p: p, subject["ct"], 8, 4, orientation="PIR")
    assert np.array_equal(found[0], subject["ct"][...])


def test_cubic_and_nearest(subject: vq.Subject) -> None:
    ct = subject["ct"]
    at = ct.at(1.5)
    results = {
        order: vq.infer(lambda p: p, ct, 8, 4, padding="edge", spacing=1.5, back_order=order)[0]
        for order in (None, 0, 1, 3)
    }
    assert np.array_equal(results[None], results[1])
    values = at.read((0, 0, 0), at.shape)
    assert set(np.unique(results[0])) <= set(np.unique(values))
    errors = {order: np.abs(result - ct[...]).mean() for order, result in results.items()}
    assert errors[3] < errors[1] < errors[0], errors


def test_heads_classes_and_channels(subject: vq.Subject, tmp_path: Path) -> None:
    def heads(patches: np.ndarray) -> dict[str, np.ndarray]:
        answer = scores(patches)
        return {"scores": answer, "classes": (patches[:, 0] > 0)}

    options = {"padding": "edge", "spacing": 1.5, "merge": {"scores": "mean", "classes": "vote"}}
    found = vq.infer(heads, subject["ct"], 8, 4, **options)
    assert found["classes"].dtype == np.uint8 and set(np.unique(found["classes"])) == {0, 1}
    assert found["classes"].shape == SIZE
    agrees = found["classes"] == (subject["ct"][...] > 0)
    assert 0.9 < agrees.mean() < 1
    out = {name: tmp_path / "out.zarr" / "a" / name for name in found}
    stored = vq.infer(heads, subject["ct"], 8, 4, out, **options)
    for name, volume in stored.items():
        assert np.array_equal(volume[...], found[name])
    assert stored["classes"].kind == "image" or stored["classes"].kind == "labels"
    one = vq.infer(scores, subject["multi"], 8, 4, channels=1, padding="edge", spacing=1.5)
    two = vq.infer(lambda p: scores(-p), subject["ct"], 8, 4, padding="edge", spacing=1.5)
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_masks_on_the_own_grid(subject: vq.Subject) -> None:
    ct = subject["ct"]
    roi = np.zeros(SIZE, dtype=np.bool_)
    roi[3:6, 14:20, 5:9] = True
    patches = [0]

    def counted(given: np.ndarray) -> np.ndarray:
        patches[0] += len(given)
        return scores(given)

    options = {"padding": "edge", "spacing": (1, 1, 1.5)}
    whole = vq.infer(counted, ct, 8, 4, **options)
    all_patches, patches[0] = patches[0], 0
    for mask in (roi, (3, 14, 5, 6, 20, 9)):
        patches[0] = 0
        found = vq.infer(counted, ct, 8, 4, mask=mask, outside=-5, **options)
        np.testing.assert_allclose(found, np.where(roi, whole, np.float32(-5)), atol=1e-5)
        assert patches[0] < all_patches / 2
    with pytest.raises(vq.UsageError, match="an array or a box"):
        vq.infer(scores, ct, 8, 4, mask=lambda box: True, **options)


class Stopped(Exception):
    """Stops an inference."""


@pytest.mark.parametrize("finish", ["none", "argmax"])
def test_stopped_anywhere_and_continued(tmp_path: Path, finish: str) -> None:
    size = (90, 70, 60)
    ct = vq.ingest({"a": {"ct": smooth(size, "i2")}}, tmp_path / "in.zarr", patch_size=16)["a"][
        "ct"
    ]
    options = {"spacing": 0.8, "finish": finish, "memory_bytes": "1MiB", "threads": 2}
    expected = vq.infer(scores, ct, 16, 8, **options)
    out = tmp_path / "out.zarr" / "a" / "pred"
    calls = [0]

    def stopping(patches: np.ndarray) -> np.ndarray:
        calls[0] += 1
        if calls[0] == 60:
            raise Stopped
        return scores(patches)

    with pytest.raises(Stopped):
        vq.infer(stopping, ct, 16, 8, out, **options)
    first = calls[0]
    # Then the second stage is stopped, after some boxes.
    real = vq.Aggregator.put
    from voxquarry import _resampling

    class Full:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.of = _native_aggregator(*args, **kwargs)
            self.left = 3 if finish == "none" else 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.of, name)

        def put(self, *args: Any) -> None:
            self.left -= 1
            if self.left < 0:
                raise Stopped
            real(self.of, *args)

    _native_aggregator = _resampling._native.Aggregator

    class Module:
        def __getattr__(self, name: str) -> Any:
            return Full if name == "Aggregator" else getattr(native, name)

    native = _resampling._native
    _resampling._native = Module()  # type: ignore[assignment]
    try:
        calls[0] = 61
        with pytest.raises(Stopped):
            vq.infer(stopping, ct, 16, 8, out, **options)
        assert calls[0] - 61 > first / 2, "the rest of the patches"
    finally:
        _resampling._native = native
    calls[0] = 61
    with pytest.raises(vq.UsageError, match="other arguments"):
        vq.infer(stopping, ct, 16, 4, out, **options)
    found = vq.infer(stopping, ct, 16, 8, out, **options)
    assert calls[0] == 61, "no patch is computed again"
    assert np.array_equal(found[...], expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


def test_bad_input(subject: vq.Subject) -> None:
    ct = subject["ct"]

    def refused(**options: Any) -> None:
        vq.infer(scores, ct, **({"patch_size": 8, "padding": 0} | options))

    for options, told in (
        ({"spacing": 0}, "spacing"),
        ({"spacing": (1, 2)}, "spacing"),
        ({"orientation": "XYZ"}, "XYZ"),
        ({"spacing": 1, "back_order": 2}, "back_order"),
        ({"spacing": 1, "finish": "softmax+argmax"}, "softmax"),
        ({"spacing": 1, "mask": np.ones((3, 3, 3), bool)}, "mask"),
    ):
        with pytest.raises(ValueError, match=told):
            refused(**options)


@pytest.mark.parametrize("stored", [False, True])
def test_resample_to(subject: vq.Subject, tmp_path: Path, stored: bool) -> None:
    """Volumes come to the grid of another one, which lies elsewhere."""
    other = AFFINE.copy()
    other[:3, :3] *= [[1.25], [0.5], [2]]
    other[:3, 3] += [3, -2, 1]
    grids = vq.ingest(
        {"b": {"like": np.zeros((14, 33, 40), "u1")}}, tmp_path / "b.zarr", affine=other
    )
    like = grids["b"]["like"]
    turned = [2, 1, 0, 3]
    matrix = (np.linalg.inv(AFFINE) @ other)[np.ix_(turned, turned)]
    for name, order in (("ct", 1), ("ct", 3), ("seg", 0), ("multi", 1)):
        out = tmp_path / "out.zarr" / "b" / f"{name}{order}" if stored else None
        volume = subject[name]
        found = vq.resample_to(volume, like, out, order=order, padding=7)
        expected = volume.read_affine(matrix, (14, 33, 40), order, padding=7)
        assert np.array_equal(found[...], expected) and found.dtype == expected.dtype
        if stored:
            assert np.allclose(found.affine, other)
    same = vq.resample_to(subject["seg"], subject["ct"])
    assert np.array_equal(same, subject["seg"][...])
    with pytest.raises(vq.UsageError):
        vq.resample_to(subject["seg"], like, order=1)
    with pytest.raises(vq.UsageError, match="stored volumes"):
        vq.resample_to(np.zeros((3, 3, 3)), like)
