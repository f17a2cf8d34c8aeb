"""``read_affine`` against scipy's ``affine_transform`` and ``map_coordinates``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import voxquarry as vq

MODES = {"constant": "grid-constant", "edge": "nearest", "reflect": "mirror"}
SHAPE = (40, 45, 52)


def turned(random: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """A matrix that turns and scales about a point in the volume or a little outside."""
    z, y, x = random.uniform(-0.6, 0.6, 3)
    about_z = [[1, 0, 0], [0, np.cos(z), -np.sin(z)], [0, np.sin(z), np.cos(z)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_x = [[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]]
    turn = np.array(about_z) @ about_y @ about_x @ np.diag(random.uniform(0.6, 1.5, 3))
    centre = random.uniform(-3, np.array(SHAPE) + 3)
    return np.column_stack([turn, centre - turn @ (patch - 1) / 2])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    folder: Path = tmp_path_factory.mktemp("resample")
    random = np.random.default_rng(4)
    volumes = {}
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"):
        voxels = random.normal(0, 20, SHAPE) if "f" in dtype else random.integers(0, 100, SHAPE)
        volumes[dtype] = voxels.astype(dtype)
    return vq.ingest({"case": volumes}, folder / "store.zarr", patch_size=16)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("border", list(MODES))
def test_scipy_gives_the_same(dataset: vq.Dataset, order: int, border: str) -> None:
    random = np.random.default_rng(len(border) + order)
    padding = 7.5 if border == "constant" else border
    ties = 0
    for name, volume in dataset["case"].items():
        stored = volume[:].astype("f8")
        for _ in range(20):
            patch = random.integers(1, 24, 3)
            matrix = turned(random, patch)
            found = volume.read_affine(matrix, patch, order=order, padding=padding)
            expected = ndimage.affine_transform(
                stored,
                matrix[:, :3],
                matrix[:, 3],
                tuple(patch),
                order=order,
                mode=MODES[border],
                cval=7.5,
                prefilter=False,
            )
            error = np.abs(found - expected)
            if order == 0:
                index = np.tensordot(matrix[:, :3], np.indices(tuple(patch)), 1)
                index += matrix[:, 3].reshape(3, 1, 1, 1)
                is_tie = (np.abs(index % 1 - 0.5) < 1e-6).any(0)
                ties += is_tie.sum()
                error[is_tie] = 0
            limit = 1e-5 * np.ptp(stored) if order else 2e-7 * np.abs(stored).max()
            assert error.max() <= limit, (name, matrix, patch)
    assert ties < 100


def test_a_displacement_is_scipys_map_coordinates(dataset: vq.Dataset) -> None:
    random, volume, patch = np.random.default_rng(2), dataset["case"]["i2"], (20, 24, 32)
    matrix = turned(random, np.array(patch))
    knots = random.uniform(-4, 4, (3, 3, 4, 5))
    # Knot k of n lies at index k · size / (n - 1).
    places = [np.arange(n) * (k - 1) / n for n, k in zip(patch, knots.shape[1:], strict=True)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    index = np.tensordot(matrix[:, :3], np.indices(patch), 1) + matrix[:, 3].reshape(3, 1, 1, 1)
    index += np.stack([ndimage.map_coordinates(axis, grid, order=1) for axis in knots])
    expected = ndimage.map_coordinates(volume[:].astype("f8"), index, order=1, mode="mirror")
    found = volume.read_affine(matrix, patch, padding="reflect", displacement=knots)
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(volume[:])
