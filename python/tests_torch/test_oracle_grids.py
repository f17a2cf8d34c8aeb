"""Grids against TorchIO's sampler, MONAI's dense patches and nnU-Net's formula, over many sizes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torchio as tio
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

import voxquarry as vq

Triple = tuple[int, int, int]


def torchio_starts(
    size: Triple, patch: Triple, overlap: Triple, padding: float | str | None
) -> list[list[int]]:
    """TorchIO's starts, in our order of axes and counted from the volume's corner, not the
    padding's.
    """
    image = tio.ScalarImage(tensor=torch.zeros(1, *size[::-1]))
    grid = tio.GridSampler(
        tio.Subject(image=image), patch[::-1], overlap[::-1], padding_mode=padding
    )
    margin = [o // 2 if padding is not None else 0 for o in overlap]
    return sorted((grid.locations[:, 2::-1] - margin).tolist())


@pytest.mark.parametrize("padding", [None, 0, "edge", "reflect"])
def test_torchio(padding: float | str | None) -> None:
    random = np.random.default_rng(1)
    larger = 0
    for _ in range(120):
        patch = tuple(int(p) for p in random.integers(1, 12, 3))
        overlap = tuple(int(random.integers(0, (p + 1) // 2)) * 2 for p in patch)
        # Padded, a patch may be larger than the volume by the overlap.
        room = [o if padding is not None else 0 for o in overlap]
        size = tuple(
            int(random.integers(max(p - r, 2), 30)) for p, r in zip(patch, room, strict=True)
        )
        larger += any(p > s for p, s in zip(patch, size, strict=True))
        found = vq.GridSampler(patch, overlap=overlap, padding=padding).locations(size).tolist()
        assert found == torchio_starts(size, patch, overlap, padding), (size, patch, overlap)
    assert (larger > 0) == (padding is not None)


@pytest.mark.parametrize("axis", range(3))
def test_torchio_axis_by_axis(axis: int) -> None:
    def on_axis(n: int, others: int) -> Triple:
        return tuple(n if a == axis else others for a in range(3))

    for s, p in itertools.product(range(1, 14), range(1, 14)):
        for o in range(0, p, 2):
            if p <= s:
                triples = on_axis(s, 1), on_axis(p, 1), on_axis(o, 0)
                starts = vq.GridSampler(triples[1], overlap=triples[2]).locations(triples[0])
                assert starts.tolist() == torchio_starts(*triples, None), triples


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.7, 0.75, 0.9, 0.99])
def test_monai(overlap: float) -> None:
    random = np.random.default_rng(2)
    for _ in range(60):
        patch = tuple(int(p) for p in random.integers(1, 13, 3))
        size = tuple(int(random.integers(p, p + 15)) for p in patch)
        interval = _get_scan_interval(size, patch, 3, [overlap] * 3)
        expected = [
            [s.start for s in window] for window in dense_patch_slices(size, patch, interval)
        ]
        assert vq.GridSampler(patch, overlap=overlap).locations(size).tolist() == expected, (
            size,
            patch,
        )


def nnunet_axis(s: int, p: int, step: float) -> list[int]:
    """``compute_steps_for_sliding_window`` of nnU-Net v2, for one axis."""
    n = math.ceil((s - p) / (p * step)) + 1
    apart = (s - p) / (n - 1) if n > 1 else 0
    return [int(np.round(apart * i)) for i in range(n)]


def test_nnunet() -> None:
    seen = set()
    for p, s in ((n, s) for n in range(1, 33) for s in range(n, 4 * n + 9)):
        starts = vq.GridSampler((1, p, 1), overlap=0.5, placement="even").locations((1, s, 1))
        # A patch of one voxel has no half: the stride is at least a voxel.
        expected = nnunet_axis(s, p, 0.5 if p > 1 else 1.0)
        assert starts[:, 1].tolist() == expected, (s, p)
        seen.add(len(expected))
    assert seen >= set(range(1, 8))


def test_nnunet_is_a_product_of_axes() -> None:
    size, patch = (50, 31, 90), (16, 31, 28)
    axes = [nnunet_axis(s, p, 0.5) for s, p in zip(size, patch, strict=True)]
    starts = vq.GridSampler(patch, overlap=0.5, placement="even").locations(size)
    assert starts.tolist() == [list(start) for start in itertools.product(*axes)]
