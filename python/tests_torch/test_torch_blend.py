"""Blending on a device against blending on the host: the same result whatever is asked for."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import smooth

import voxquarry as vq
import voxquarry.torch as vt
from voxquarry.torch import _slab

SIZE = (22, 30, 26)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> vq.Subject:
    """``ct``, and ``multi`` with three channels."""
    multi = np.stack([smooth(SIZE, "i2") + n for n in range(3)])
    sources = {"ct": smooth(SIZE, "i2"), "multi": multi}
    folder = tmp_path_factory.mktemp("blend")
    return vq.ingest({"a": sources}, folder / "in.zarr", patch_size=8)["a"]


def scores(patches: torch.Tensor) -> torch.Tensor:
    """Three channels that depend on the place in the patch, so that patches disagree."""
    values = patches[:, :1] / 1000
    ramps = [torch.linspace(0, 1 + axis, patches.shape[axis]) for axis in (2, 3, 4)]
    z, y, x = (r.view([-1 if a == axis else 1 for a in range(3)]) for axis, r in enumerate(ramps))
    return torch.cat([values + x, values * y - z, 2 - values + z * y * x], dim=1)


def both(volume: vq.Volume, model: Any = scores, **options: Any) -> tuple[Any, Any]:
    """The result of the host, and that of the device, which blends without a warning."""
    options = {"patch_size": (8, 10, 9), "overlap": (4, 6, 4), "batch_size": 3} | options
    host = vt.infer(model, volume, blend="host", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return host, vt.infer(model, volume, blend="device", **options)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    if expected.dtype.kind == "f":
        largest = np.nanmax(np.abs(np.where(np.isfinite(expected), expected, 0)), initial=1.0)
        half = 1e-3 if expected.dtype == np.float16 else 1e-6
        np.testing.assert_allclose(found, expected, rtol=0, atol=half * largest)
    else:
        # Scores that are equal but for rounding, and steps of which a value is halfway.
        assert (found != expected).mean() < 1e-3
        if len(np.unique(expected)) > 4:
            assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


custom = [np.linspace(0.1, 1, n) for n in (8, 10, 9)]
WINDOWS = ["hann", "average", "crop", "gaussian", ("gaussian", 0.25), "gaussian-nnunet", custom]
FINISHES = [
    ("none", None),
    ("none", "float16"),
    ("none", "int16"),
    ("argmax", None),
    ("softmax+argmax", "uint16"),
    (("threshold", 0.9), None),
    (("quantize", 1 / 50, -2.0), "uint8"),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("finish", "dtype"), FINISHES, ids=str)
def test_every_window_and_finish(
    subject: vq.Subject, window: Any, finish: Any, dtype: str | None
) -> None:
    host, device = both(subject["ct"], window=window, finish=finish, dtype=dtype)
    assert_close(device, host)
    assert len(np.unique(host)) > 1


@pytest.mark.parametrize("merge", ["mean", "max", "min"])
@pytest.mark.parametrize("padding", [None, 0, "edge", "reflect"])
@pytest.mark.parametrize("placement", ["flush", "even"])
@pytest.mark.parametrize("margin", ["none", "half-overlap"])
def test_every_padding_placement_and_merge(
    subject: vq.Subject, merge: str, padding: Any, placement: str, margin: str
) -> None:
    options = {"padding": padding, "placement": placement, "merge": merge}
    if padding is not None:
        options["margin"] = margin
    for finish in ("none", "argmax"):
        host, device = both(subject["ct"], finish=finish, **options)
        assert_close(device, host)


@pytest.mark.parametrize("window", ["hann", "gaussian", "crop"])
@pytest.mark.parametrize("merge", ["mean", "max"])
@pytest.mark.parametrize("finish", ["none", "argmax"])
def test_masks(subject: vq.Subject, window: str, merge: str, finish: str) -> None:
    roi = np.zeros(SIZE, dtype=np.bool_)
    roi[3:12, 14:27, 5:9] = True

    def some(box: tuple[int, ...]) -> bool:
        return sum(box) % 3 != 1

    for mask in (roi, (2, 3, 4, 15, 16, 20), some):
        options = {"window": window, "merge": merge, "finish": finish, "outside": 7}
        host, device = both(subject["ct"], mask=mask, **options)
        assert_close(device, host)
        assert (host == 7).any()


@pytest.mark.parametrize("scale", [0.5, 2, (1, 0.5, 2)])
def test_other_resolutions(subject: vq.Subject, scale: Any) -> None:
    factors = np.broadcast_to(scale, 3).tolist()

    def model(patches: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(scores(patches), scale_factor=factors)

    for window, overlap in itertools.product(["hann", "crop"], [(4, 4, 4), (0, 4, 4)]):
        sizes = {"patch_size": (8, 8, 8), "overlap": overlap, "window": window}
        roi = np.zeros(SIZE, dtype=np.bool_)
        roi[3:12, 14:27, 5:9] = True
        assert_close(*both(subject["ct"], model, scale=scale, **sizes))
        assert_close(*both(subject["ct"], model, scale=scale, mask=roi, **sizes))


def test_valid_answers_and_channels(subject: vq.Subject) -> None:
    def middle(patches: torch.Tensor) -> torch.Tensor:
        return scores(patches)[:, :, 2:-2, 1:-1, 2:-2]

    options = {"patch_size": 12, "overlap": (2, 2, 2), "padding": "reflect"}
    assert_close(*both(subject["multi"], middle, valid=(2, 1, 2), channels=2, **options))


@pytest.mark.parametrize("size", [(8, 10, 9), SIZE, (1, 30, 7)])
def test_patches_as_large_as_the_volume(subject: vq.Subject, size: tuple[int, ...]) -> None:
    for finish in ("none", "argmax"):
        assert_close(*both(subject["ct"], patch_size=size, overlap=0.0, finish=finish))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_answers(subject: vq.Subject, dtype: torch.dtype) -> None:
    assert_close(*both(subject["ct"], lambda p: scores(p).to(dtype)))


def test_several_heads_and_no_channel_axis(subject: vq.Subject) -> None:
    def heads(patches: torch.Tensor) -> dict[str, torch.Tensor]:
        answer = scores(patches)
        return {"all": answer, "one": answer[:, 0], "half": answer[:, :2, ::2, ::2, ::2]}

    options = {"scale": {"all": None, "one": None, "half": 0.5}, "patch_size": 8, "overlap": 4}
    options |= {"finish": {"all": "argmax", "one": "none", "half": "none"}}
    host, device = both(subject["ct"], heads, **options)
    for name in host:
        assert_close(device[name], host[name])
    assert device["one"].shape == SIZE


@pytest.mark.parametrize("window", ["hann", "gaussian", "average"])
def test_constants_come_out_as_they_went_in(subject: vq.Subject, window: str) -> None:
    for value in (0.1, -3e38, -0.0, torch.inf, -torch.inf):
        found = vt.infer(
            lambda p, v=value: torch.full_like(p, v),
            subject["ct"],
            (8, 10, 9),
            0.5,
            window=window,
            blend="device",
        )
        expected = np.float32(value)
        assert (found.view(np.uint32) == expected.view(np.uint32)).all(), value


def test_what_is_not_finite(subject: vq.Subject) -> None:
    def holes(patches: torch.Tensor) -> torch.Tensor:
        answer = scores(patches)
        for value, level in ((torch.nan, 1.2), (torch.inf, 0.4), (-torch.inf, 0.1)):
            answer[:, 0][(patches[:, 0] / 1000 - level).abs() < 0.01] = value
        return answer

    for finish in ("none", "argmax", "softmax+argmax"):
        host, device = both(subject["ct"], holes, nonfinite="keep", finish=finish)
        assert_close(device, host)
    for blend in ("host", "device"):
        with pytest.warns(RuntimeWarning, match="has NaN at") as told:
            found = vt.infer(holes, subject["ct"], 8, 4, blend=blend)
        assert len(told) == 1
        assert np.isnan(found).any()
        with pytest.raises(vq.Error, match="the patch that begins at") as refused:
            vt.infer(holes, subject["ct"], 8, 4, blend=blend, nonfinite="error")
        assert "nan" in str(refused.value).lower() or "inf" in str(refused.value).lower()


class Stopped(Exception):
    """Stops an inference after some calls of the model."""


@pytest.mark.parametrize("finish", ["none", "argmax"])
@pytest.mark.parametrize("first", ["host", "device"])
@pytest.mark.parametrize("then", ["host", "device"])
def test_stopped_and_continued(tmp_path: Path, finish: str, first: str, then: str) -> None:
    size = (150, 70, 60)
    volume = vq.ingest({"a": {"ct": smooth(size, "i2")}}, tmp_path / "in.zarr", patch_size=16)
    options = {"finish": finish, "batch_size": 4, "memory_bytes": "2MiB"}
    calls = [0]

    def stopping(patches: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 60:
            raise Stopped
        return scores(patches)

    def counted(patches: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return scores(patches)

    ct = volume["a"]["ct"]
    expected = vt.infer(counted, ct, 16, 8, blend="host", **options)
    all_calls, calls[0] = calls[0], 0
    out = tmp_path / "out.zarr" / "a" / "pred"
    with pytest.raises(Stopped):
        vt.infer(stopping, ct, 16, 8, out, blend=first, **options)
    calls[0] = 0
    found = vt.infer(counted, ct, 16, 8, out, blend=then, **options)
    assert_close(found[...], expected)
    assert calls[0] < all_calls
    assert found.kind == ("labels" if finish == "argmax" else "image")


def test_stored_results_have_their_scale(subject: vq.Subject, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr" / "a" / "pred"
    quantize = ("quantize", 0.25, -1.0)
    options = {"finish": quantize, "dtype": "int16"}
    found = vt.infer(scores, subject["ct"], 8, 4, out, blend="device", **options)
    assert (found.slope, found.intercept) == (0.25, -1.0)
    expected = vt.infer(scores, subject["ct"], 8, 4, blend="host")
    np.testing.assert_allclose(found.scaled[...], expected, atol=0.126)


def test_what_a_device_cannot_blend_is_blended_on_the_host(subject: vq.Subject) -> None:
    def infer(**options: Any) -> np.ndarray:
        given = {"model": scores, "overlap": 4} | options
        return vt.infer(volume=subject["ct"], patch_size=8, **given)

    cases: dict[str, dict[str, Any]] = {
        'merge="vote"': {"merge": "vote", "finish": "argmax"},
        "dtype float64": {"dtype": "float64"},
        "answers of torch.float64": {"model": lambda p: scores(p).double()},
        "answers of torch.int16": {"model": lambda p: p.to(torch.int16), "window": "crop"},
        "device_memory_bytes": {"device_memory_bytes": "1MiB"},
        "512 patches count": {"overlap": 7, "batch_size": 64},
        "more than float32 holds": {"window": [np.geomspace(1e-12, 1, 8)] * 3},
    }
    for reason, options in cases.items():
        with pytest.warns(RuntimeWarning, match="blending on the host") as told:
            found = infer(blend="device", **options)
        assert len(told) == 1 and reason in str(told[0].message), told[0].message
        assert np.array_equal(found, infer(blend="host", **options))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infer(blend="auto", merge="vote", finish="argmax")
    with pytest.raises(vq.UsageError, match="blend 'gpu'"):
        infer(blend="gpu")
    with pytest.raises(vq.UsageError, match="much"):
        infer(blend="device", device_memory_bytes="much")


def test_answers_that_change_are_refused(subject: vq.Subject) -> None:
    for broken in (lambda a: a[:, :2], lambda a: {"now": a}, lambda a: a[:, :, 1:]):
        calls = [0]

        def model(patches: torch.Tensor, broken: Any = broken, calls: list[int] = calls) -> Any:
            calls[0] += 1
            return scores(patches) if calls[0] < 3 else broken(scores(patches))

        with pytest.raises(vq.UsageError):
            vt.infer(model, subject["ct"], 8, 4, blend="device")


def test_groups_of_channels_and_planes(
    subject: vq.Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary tensors of few voxels give what large ones give."""
    expected = vt.infer(scores, subject["ct"], 8, 4, blend="device")
    labels = vt.infer(scores, subject["ct"], 8, 4, blend="device", finish="argmax")
    monkeypatch.setattr(_slab, "GROUP_BYTES", 4096)
    assert np.array_equal(vt.infer(scores, subject["ct"], 8, 4, blend="device"), expected)
    again = vt.infer(scores, subject["ct"], 8, 4, blend="device", finish="argmax")
    assert np.array_equal(again, labels)
