"""Blending against TorchIO's aggregator and MONAI's sliding window, with patches that disagree
wherever they overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torchio as tio
from monai.inferers import sliding_window_inference

import voxquarry as vq

Triple = tuple[int, int, int]


def answer(start: Sequence[int], patch: np.ndarray, channels: int) -> np.ndarray:
    """A model whose answer depends on where the patch lies: ``(z, y, x)`` to ``(c, z, y, x)``,
    positive.
    """
    random = np.random.default_rng([int(at) + 1000 for at in start])
    return (patch + 1.0) * random.uniform(0.5, 2.0, (channels, *patch.shape))


def image(size: Triple) -> np.ndarray:
    return np.random.default_rng(4).uniform(0.0, 1.0, size)


# Size, patch, overlap: (z, y, x).
TORCHIO = {
    "no overlap": ((9, 8, 13), (3, 4, 5), (0, 0, 0)),
    "even fit": ((10, 8, 13), (4, 4, 5), (2, 2, 2)),
    "last patch moved back": ((11, 9, 14), (4, 5, 6), (2, 0, 4)),
    "one patch on an axis": ((7, 12, 5), (7, 6, 5), (2, 2, 4)),
    "one patch": ((6, 5, 7), (6, 5, 7), (2, 4, 0)),
    "slices": ((6, 20, 9), (1, 8, 9), (0, 4, 2)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [None, 0, "edge"])
@pytest.mark.parametrize("window", ["crop", "average", "hann"])
@pytest.mark.parametrize("case", TORCHIO)
def test_torchio(case: str, window: str, padding: float | str | None, channels: int) -> None:
    size, patch, overlap = TORCHIO[case]
    grid = vq.GridSampler(patch, overlap=overlap, padding=padding)
    starts = grid.locations(size)
    values = [answer(start, np.zeros(patch), channels) for start in starts]
    patches = np.stack(values).astype("f4" if window == "hann" else "f8")

    subject = tio.Subject(image=tio.ScalarImage(tensor=torch.zeros(1, *size[::-1])))
    sampler = tio.GridSampler(subject, patch[::-1], overlap[::-1], padding_mode=padding)
    theirs = tio.GridAggregator(sampler, overlap_mode=window)
    margin = [o // 2 if padding is not None else 0 for o in overlap]
    numbers = {tuple(start): n for n, start in enumerate((starts + margin).tolist())}
    for location in sampler.locations:
        n = numbers.pop(tuple(location[2::-1].tolist()))
        tensor = torch.from_numpy(patches[n].transpose(0, 3, 2, 1).copy())
        theirs.add_batch(tensor[None], torch.from_numpy(location[None]))
    assert not numbers
    expected = theirs.get_output_tensor().numpy().transpose(0, 3, 2, 1)

    ours = vq.Aggregator(grid, size, channels=channels, window=window, dtype=patches.dtype)
    # In an order of its own: what comes out does not depend on it.
    order = np.random.default_rng(5).permutation(len(starts))
    ours.add(patches[order], starts[order])
    found = ours.finish()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if window == "crop":
        assert np.array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


def monai_blend(
    voxels: np.ndarray, roi: Triple, overlap: Sequence[float], mode: str, channels: int
) -> np.ndarray:
    padding = [max(p - s, 0) // 2 for p, s in zip(roi, voxels.shape, strict=True)]

    def predictor(windows: torch.Tensor, places: Sequence[Sequence[slice]]) -> torch.Tensor:
        starts = [
            [s.start - m for s, m in zip(place[2:], padding, strict=True)] for place in places
        ]
        answers = [
            answer(start, w[0].numpy(), channels) for start, w in zip(starts, windows, strict=True)
        ]
        return torch.from_numpy(np.stack(answers))

    whole = torch.from_numpy(voxels)[None, None]
    return sliding_window_inference(whole, roi, 3, predictor, overlap, mode, with_coord=True)[
        0
    ].numpy()


def our_blend(grid: vq.GridSampler, voxels: np.ndarray, window: str, channels: int) -> np.ndarray:
    room = [max(p - s, 0) for p, s in zip(grid.patch_size, voxels.shape, strict=True)]
    padded = np.pad(voxels, [(r, r) for r in room])
    result = vq.Aggregator(grid, voxels.shape, channels=channels, window=window, dtype="float64")
    for start in grid.locations(voxels.shape):
        box = tuple(
            slice(at + r, at + r + p) for at, r, p in zip(start, room, grid.patch_size, strict=True)
        )
        result.add(answer(start, padded[box], channels), start)
    return result.finish()


@pytest.mark.parametrize(("mode", "window"), [("constant", "average"), ("gaussian", "gaussian")])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize(
    ("size", "roi"),
    [
        ((16, 12, 21), (8, 8, 8)),
        ((9, 17, 10), (9, 5, 6)),
        ((7, 6, 5), (7, 6, 5)),
        ((3, 30, 20), (1, 16, 16)),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_monai(
    size: Triple, roi: Triple, overlap: float, mode: str, window: str, channels: int
) -> None:
    voxels = image(size)
    expected = monai_blend(voxels, roi, [overlap] * 3, mode, channels)
    found = our_blend(vq.GridSampler(roi, overlap=overlap), voxels, window, channels)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mode", "window"), [("constant", "average"), ("gaussian", "gaussian")])
@pytest.mark.parametrize(
    ("size", "roi"),
    [
        ((5, 6, 3), (8, 9, 8)),
        ((1, 6, 7), (4, 6, 8)),
        ((5, 20, 12), (8, 8, 5)),
        ((20, 11, 3), (8, 4, 7)),
    ],
)
def test_monai_of_an_image_smaller_than_the_patch(
    size: Triple, roi: Triple, mode: str, window: str
) -> None:
    """Without overlap a padding adds nothing to the long axes, as in MONAI, which pads the short
    ones alone.
    """
    voxels = image(size)
    expected = monai_blend(voxels, roi, [0.0] * 3, mode, 2)
    found = our_blend(vq.GridSampler(roi, overlap=0, padding=0), voxels, window, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mode", "window"), [("constant", "average"), ("gaussian", "gaussian")])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize(
    ("size", "roi"),
    [
        ((5, 20, 13), (8, 8, 6)),
        ((20, 9, 3), (8, 4, 8)),
        ((5, 6, 3), (8, 9, 8)),
        ((16, 8, 30), (8, 8, 8)),
    ],
)
def test_monai_pads_short_axes_alone(
    size: Triple, roi: Triple, overlap: float, mode: str, window: str
) -> None:
    voxels = image(size)
    expected = monai_blend(voxels, roi, [overlap] * 3, mode, 2)
    grid = vq.GridSampler(roi, overlap=overlap, padding=0, margin="none")
    np.testing.assert_allclose(our_blend(grid, voxels, window, 2), expected, rtol=1e-6, atol=0)


def test_patches_that_disagree_are_told_apart() -> None:
    """The windows give different volumes, so that each test above can fail."""
    voxels = image((16, 12, 21))
    grid = vq.GridSampler(8, overlap=4)
    windows = ["crop", "average", "hann", "gaussian", "gaussian-nnunet"]
    results = [our_blend(grid, voxels, window, 1) for window in windows]
    for n, one in enumerate(results):
        for other in results[n + 1 :]:
            assert np.abs(one / other - 1).max() > 0.01
