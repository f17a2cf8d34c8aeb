"""Volumes that ingest has resampled against scipy's ``affine_transform`` in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import voxquarry as vq

SHAPE = (31, 40, 27)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_resampled_volumes_are_scipys(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(11)
    voxels = (random.random(SHAPE) * 200).astype(dtype)
    labels = random.integers(0, 9, SHAPE).astype("u2")
    for number in range(12):
        old, new = random.uniform(0.5, 3, 3), random.uniform(0.5, 3, 3)
        ds = vq.ingest(
            {"case": {"a": voxels, "seg": vq.Labels(labels)}},
            tmp_path / f"{number}.zarr",
            patch_size=16,
            spacing=tuple(old),
            target_spacing=tuple(new),
            dtype="float64" if dtype in ("i4", "f8") else "float32",
        )
        ratio = new / old
        found = ds["case"]["a"]
        assert found.shape == tuple(np.ceil(SHAPE / ratio - 1e-3).astype(int))
        for name, order, of in (("a", 1, voxels), ("seg", 0, labels)):
            expected = ndimage.affine_transform(
                of.astype("f8"),
                ratio,
                (ratio - 1) / 2,
                output_shape=found.shape,
                order=order,
                mode="nearest",
            )
            tolerance = 0 if order == 0 else 1e-5 * np.ptp(voxels.astype("f8"))
            np.testing.assert_allclose(
                ds["case"][name][...].astype("f8"), expected, rtol=0, atol=tolerance
            )
