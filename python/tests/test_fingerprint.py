"""The fingerprint of a data set against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voxquarry as vq

SHAPES = ((40, 33, 21), (17, 40, 40), (64, 50, 20))
SPACINGS = ((1.0, 2.0, 3.0), (0.5, 0.5, 0.5), (2.0, 1.0, 1.0))


def subjects(dtype: str) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(7)
    found = {}
    for number, shape in enumerate(SHAPES):
        ct = random.normal(50, 300, shape)
        ct[: number + 2] = ct[:, :, -3:] = 0
        mr = random.random((2, *shape)) * 100
        mr[:, : number + 1] = mr[..., -3:] = 0
        seg = random.choice([0, 0, 0, 1, 2], shape).astype("u1")
        seg[shape[0] // 2 :] = 0
        found[f"case{number}"] = {"ct": ct.astype(dtype), "mr": mr.astype("f4"), "seg": seg}
    return found


def store(data: dict[str, dict[str, np.ndarray]], path: Path) -> vq.Dataset:
    for (name, volumes), spacing in zip(data.items(), SPACINGS, strict=True):
        marked = {k: vq.Labels(v) if k == "seg" else v for k, v in volumes.items()}
        vq.ingest({name: marked}, path, patch_size=16, spacing=spacing)
    return vq.open(path)


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
def test_every_number_is_numpys(tmp_path: Path, dtype: str) -> None:
    data = subjects(dtype)
    found = vq.fingerprint(store(data, tmp_path / "s.zarr"))
    assert found["subjects"] == list(data)
    assert found["spacings"] == [list(spacing) for spacing in SPACINGS]
    assert found["channel_names"] == {"0": "ct", "1": "mr 0", "2": "mr 1"}
    relative = []
    for volumes, shape in zip(data.values(), found["shapes_after_crop"], strict=True):
        there = np.argwhere((volumes["ct"] != 0) | (volumes["mr"] != 0).any(0))
        assert shape == (np.ptp(there, axis=0) + 1).tolist()
        relative.append(np.prod(shape) / volumes["seg"].size)
    np.testing.assert_allclose(found["median_relative_size_after_cropping"], np.median(relative))
    for channel in range(3):
        values = np.concatenate(
            [
                (v["ct"] if channel == 0 else v["mr"][channel - 1])[v["seg"] > 0]
                for v in data.values()
            ]
        ).astype("f8")
        expected = {
            "voxels": values.size,
            "mean": values.mean(),
            "median": np.median(values),
            "std": values.std(),
            "min": values.min(),
            "max": values.max(),
            "percentile_00_5": np.percentile(values, 0.5),
            "percentile_99_5": np.percentile(values, 99.5),
        }
        properties = found["foreground_intensity_properties_per_channel"][str(channel)]
        assert properties.keys() == expected.keys()
        for name, value in expected.items():
            # Percentiles are those of the values as float32.
            np.testing.assert_allclose(properties[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    segs = [volumes["seg"] for volumes in data.values()]
    for label in (1, 2):
        total = {"name": None, "subjects": 3, "voxels": sum(int((s == label).sum()) for s in segs)}
        assert found["labels"][str(label)] == total
    assert found["labels"].keys() == {"1", "2"}


def test_channels_labels_and_what_lacks_them(tmp_path: Path) -> None:
    data = subjects("i2")
    del data["case1"]["seg"]
    ds = store(data, tmp_path / "s.zarr")
    calls: list[tuple[str, int, int]] = []
    found = vq.fingerprint(ds, volumes=["mr", "ct"], progress=lambda *call: calls.append(call))
    assert found["channel_names"] == {"0": "mr 0", "1": "mr 1", "2": "ct"}
    values = np.concatenate([data[c]["ct"][data[c]["seg"] > 0] for c in ("case0", "case2")])
    properties = found["foreground_intensity_properties_per_channel"]["2"]
    assert properties["voxels"] == values.size and found["labels"]["1"]["subjects"] == 2
    assert len(found["spacings"]) == 3
    assert calls[-1][1] == calls[-1][2] and {c[0] for c in calls} == set(data)
    for options, match in [
        ({"volumes": "t1"}, 'no volume "t1"'),
        ({"labels": "other"}, 'labels "other"'),
    ]:
        arguments: dict[str, Any] = options
        with pytest.raises(vq.UsageError, match=match):
            vq.fingerprint(ds, **arguments)


def test_real_values_count_and_no_foreground_is_told(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype="i2").reshape(2, 3, 4)
    empty = vq.Labels(np.zeros((2, 3, 4), "u1"))
    ds = vq.ingest({"a": {"ct": voxels, "seg": empty}}, tmp_path / "1.zarr", patch_size=16)
    found = vq.fingerprint(ds)
    assert found["foreground_intensity_properties_per_channel"] == {} and found["labels"] == {}
    ds = vq.ingest({"a": {"ct": voxels}}, tmp_path / "2.zarr", patch_size=16)
    assert vq.fingerprint(ds)["foreground_intensity_properties_per_channel"] == {}
    ds = vq.ingest({"a": {"seg": empty}}, tmp_path / "3.zarr", patch_size=16)
    with pytest.raises(vq.UsageError, match="image"):
        vq.fingerprint(ds)
    two = {"ct": voxels, "a": empty, "b": empty}
    ds = vq.ingest({"a": two}, tmp_path / "4.zarr", patch_size=16)
    with pytest.raises(vq.UsageError, match="several label maps could be the foreground: a, b"):
        vq.fingerprint(ds)
