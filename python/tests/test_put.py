"""Finished voxels that were blended elsewhere, and the weights that this takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import voxquarry as vq


@pytest.mark.parametrize("stored", [False, True])
def test_voxels_that_were_blended_elsewhere(tmp_path: Path, stored: bool) -> None:
    """Layers of boxes come as they are; the rest is what patches make of it."""
    grid = vq.GridSampler(8, overlap=4)
    out = tmp_path / "pred.zarr" / "a" / "pred" if stored else None
    result = vq.Aggregator(grid, (40, 24, 20), channels=2, out=out, resume=stored)
    depth, ny, nx = result.box_size
    assert (depth, ny >= 24, nx >= 20) == (depth, True, True) and depth < 40
    assert result.dtype == np.float32
    layer = np.arange(2 * depth * 24 * 20, dtype="f4").reshape(2, depth, 24, 20)
    result.put(layer, (0, 0, 0))
    needed = result.needed()
    assert 0 < len(needed) < len(grid.locations((40, 24, 20)))
    for start in needed:
        result.add(np.full((2, 8, 8, 8), 5, "f4"), start)
    found = result.finish()[...]
    assert np.array_equal(found[:, :depth], layer) and (found[:, depth:] == 5).all()


def test_boxes_that_are_refused() -> None:
    result = vq.Aggregator(vq.GridSampler(8, overlap=4), (24, 16, 16), channels=2)
    whole = np.zeros((2, 24, 16, 16), "f4")
    for voxels, start in [
        (whole[0], (0, 0, 0)),
        (whole[:1], (0, 0, 0)),
        (whole.astype("f8"), (0, 0, 0)),
        (whole[:, :3], (0, 0, 0)),
        (whole, (8, 0, 0)),
        (whole, (-8, 0, 0)),
        (whole[:, :, :, :8], (0, 0, 0)),
    ]:
        with pytest.raises(vq.UsageError):
            result.put(voxels, start)
    result.put(np.asfortranarray(whole), (0, 0, 0))
    assert result.missing == 0


def test_weights_of_the_axes() -> None:
    (z, _, x), least = vq.Aggregator(
        vq.GridSampler((4, 4, 6), overlap=(2, 2, 2)), (8, 8, 10), window="gaussian"
    ).axis_weights()
    assert z[:2] == ([0, 2, 4], [(0, 4), (2, 6), (4, 8)])
    assert x[:2] == ([0, 4], [(0, 6), (4, 10)])
    np.testing.assert_allclose(x[2], np.exp(-((np.arange(6) - 2.5) ** 2) / (2 * 0.75**2)))
    assert 0 < least <= 1e-3 or least == pytest.approx(np.min(z[2]) ** 2 * np.min(x[2]))
