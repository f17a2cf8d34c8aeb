"""Several devices, devices without memory, and values that are scaled on a device."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import smooth, write_nifti

import voxquarry as vq
import voxquarry.torch as vt
from voxquarry.torch import _stage

SIZE = (22, 30, 26)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> vq.Volume:
    """A volume with a slope and an intercept."""

    def scale(header: Any) -> None:
        header["scl_slope"], header["scl_inter"] = 0.37, -11.3

    folder = tmp_path_factory.mktemp("devices")
    path = write_nifti(folder / "ct.nii", smooth(SIZE, "i2").T, edit=scale)
    return vq.ingest(path, folder / "in.zarr", patch_size=8)["ct"]["image"]


def scores(patches: torch.Tensor) -> torch.Tensor:
    """Two channels that depend on the place in the patch."""
    ramp = torch.linspace(0, 1, patches.shape[-1])
    return torch.cat([patches / 100 + ramp, ramp - patches / 50], dim=1)


@pytest.mark.parametrize("blend", ["host", "device"])
@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["cpu"] * 3])
def test_devices_answer_in_turn(
    ct: vq.Volume, tmp_path: Path, blend: str, devices: list[str]
) -> None:
    threads, network = set(), torch.nn.Conv3d(1, 2, 3, padding=1)

    def model(patches: torch.Tensor) -> torch.Tensor:
        threads.add(threading.current_thread().name)
        return network(patches)

    options: dict[str, Any] = {"batch_size": 3, "blend": blend}
    expected = vt.infer(network, ct, 8, 4, **options)
    out = tmp_path / "out.zarr" / "a" / "pred"
    found = vt.infer(model, ct, 8, 4, out, devices=devices, **options)
    assert np.array_equal(found[...], expected)
    assert np.array_equal(vt.infer(network, ct, 8, 4, devices=devices, **options), expected)
    # The first batch of all shows the shape.
    assert len(threads) in (1, len(devices), len(devices) + 1)


def test_an_error_on_one_device_ends_all(ct: vq.Volume) -> None:
    calls = [0]

    def model(patches: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 7:
            raise ZeroDivisionError("seven")
        return scores(patches)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="seven"):
        vt.infer(model, ct, 8, 4, devices=["cpu", "cpu"])
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    "options",
    [
        {"devices": []},
        {"devices": ["cpu"], "device": "cpu"},
        {"devices": ["cuda:99"]},
        {"device": "cuda:99"},
        {"device": "abacus"},
    ],
)
def test_devices_that_do_not_exist(ct: vq.Volume, options: dict[str, Any]) -> None:
    with pytest.raises(vq.UsageError, match="device"):
        vt.infer(scores, ct, 8, 4, **options)


@pytest.mark.parametrize("blend", ["host", "device"])
@pytest.mark.parametrize("heads", [False, True])
def test_a_device_without_memory_gets_smaller_batches(
    ct: vq.Volume, blend: str, heads: bool
) -> None:
    sizes = []

    def model(patches: torch.Tensor) -> Any:
        sizes.append(len(patches))
        if len(patches) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        answer = scores(patches)
        return {"a": answer, "b": answer[:, 0]} if heads else answer

    options: dict[str, Any] = {"batch_size": 7, "blend": blend}
    expected = vt.infer(scores, ct, 8, 4, **options)
    with pytest.warns(RuntimeWarning, match="patches at a time") as told:
        found = vt.infer(model, ct, 8, 4, **options)
    assert [str(t.message).split(": ")[1][0] for t in told] == ["3", "1"]
    assert set(sizes[3:]) == {1}, "what does not fit is not tried again"
    assert np.array_equal(found["a"] if heads else found, expected)


def test_then_the_host_blends(ct: vq.Volume) -> None:
    calls = [0]

    def model(patches: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] in (40, 41):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return scores(patches)

    for window in ("hann", "gaussian"):
        calls[0] = 0
        options: dict[str, Any] = {"batch_size": 2, "blend": "device", "window": window}
        expected = vt.infer(scores, ct, 8, 4, **options)
        with pytest.warns(RuntimeWarning, match="no memory left") as told:
            found = vt.infer(model, ct, 8, 4, **options)
        assert [str(t.message).split(": ")[1] for t in told] == [
            "1 patches at a time",
            "blending on the host",
        ]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    with warnings.catch_warnings(), pytest.raises(vq.OutOfMemoryError, match="one patch"):
        warnings.simplefilter("ignore")
        vt.infer(never_fits, ct, 8, 4)


def never_fits(patches: torch.Tensor) -> torch.Tensor:
    """A model that is too large."""
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("padding", [None, "edge", "reflect", 5.0])
def test_values_are_scaled_on_the_device(
    ct: vq.Volume, monkeypatch: pytest.MonkeyPatch, padding: Any
) -> None:
    """Stored values go there, 2 bytes each; the model sees the same real values."""
    seen: list[torch.Tensor] = []

    def model(patches: torch.Tensor) -> torch.Tensor:
        seen.append(patches.clone())
        return patches

    options: dict[str, Any] = {"padding": padding, "batch_size": 3}
    if padding is not None:
        options["margin"] = "half-overlap"
    expected = vt.infer(model, ct, 8, 4, **options)
    on_host, seen = seen, []
    monkeypatch.setattr(_stage, "SCALING", {"cpu"})
    found = vt.infer(model, ct, 8, 4, **options)
    assert np.array_equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(on_host, seen, strict=True))
    assert seen[0].dtype == torch.float32
