"""``voxquarry.torchio.GridAggregator`` beside TorchIO's, and where TorchIO's is wrong, beside
numpy.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchio as tio

import voxquarry.torchio as vt

SHAPE = (26, 21, 30)
PATCH = (12, 10, 8)
OVERLAP = (4, 2, 6)
MODES = ["crop", "average", "hann"]


def subject(channels: int = 1) -> tio.Subject:
    return tio.Subject(image=tio.ScalarImage(tensor=torch.rand(channels, *SHAPE)))


def answers(
    grid: tio.GridSampler, channels: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches that disagree wherever they overlap."""
    generator = torch.Generator().manual_seed(3)
    batch = (torch.rand((len(grid), channels, *PATCH), generator=generator) * 50).to(dtype)
    return batch, torch.from_numpy(np.asarray(grid.locations))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [None, 0, "reflect"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.uint8])
def test_equals_torchios(mode: str, padding: object, dtype: torch.dtype) -> None:
    source = subject()
    batch, places = answers(tio.GridSampler(source, PATCH, OVERLAP, padding), 3, dtype)
    if dtype == torch.uint8:
        # So few that TorchIO's sums do not wrap round.
        batch = batch // 13
    volumes = []
    for module in (vt, tio):
        aggregator = module.GridAggregator(
            module.GridSampler(source, PATCH, OVERLAP, padding), mode
        )
        for first in range(0, len(batch), 7):
            aggregator.add_batch(batch[first : first + 7], places[first : first + 7])
        volumes.append(aggregator.get_output_tensor())
        assert torch.equal(aggregator.get_output_tensor(), volumes[-1])
    found, expected = volumes
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape == (3, *SHAPE)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_stays_one(mode: str) -> None:
    grid = vt.GridSampler(subject(), PATCH, OVERLAP)
    batch, places = answers(grid, 1, torch.float32)
    aggregator = vt.GridAggregator(grid, mode)
    aggregator.add_batch(torch.full_like(batch, 7.25), places)
    assert torch.allclose(aggregator.get_output_tensor(), torch.tensor(7.25), rtol=1e-6)


@pytest.mark.parametrize("mode", ["average", "hann"])
def test_patches_that_are_missing_or_come_twice(mode: str) -> None:
    source = subject()
    batch, places = answers(tio.GridSampler(source, PATCH, OVERLAP), 2, torch.float32)
    for chosen in (range(0, len(batch), 2), [*range(len(batch)), 3, 3, 8]):
        volumes = []
        for module in (vt, tio):
            aggregator = module.GridAggregator(module.GridSampler(source, PATCH, OVERLAP), mode)
            aggregator.add_batch(batch[list(chosen)], places[list(chosen)])
            volumes.append(aggregator.get_output_tensor())
        assert torch.allclose(*volumes, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [None, "reflect"])
def test_downsampled(mode: str, padding: object) -> None:
    """TorchIO's average and Hann go wrong here, and its crop leaves gaps: what counts is that a
    volume in comes out.
    """
    shape = (32, 24, 40)
    volume = torch.rand(1, *shape)
    source = tio.Subject(image=tio.ScalarImage(tensor=volume))
    grid = vt.GridSampler(source, (16, 12, 8), 4, padding)
    aggregator = vt.GridAggregator(grid, mode, downsampling_factor=2)
    for patch in grid:
        aggregator.add_batch(patch.image.data[None, :, ::2, ::2, ::2], patch[tio.LOCATION][None])
    assert torch.allclose(aggregator.get_output_tensor(), volume[:, ::2, ::2, ::2], rtol=1e-5)


def test_integers_do_not_wrap_round() -> None:
    grid = vt.GridSampler(subject(), PATCH, OVERLAP)
    batch, places = answers(grid, 1, torch.uint8)
    aggregator = vt.GridAggregator(grid, "average")
    aggregator.add_batch(torch.full_like(batch, 255), places)
    assert (aggregator.get_output_tensor() == 255).all()


@pytest.mark.parametrize("mode", MODES)
def test_int64_is_told(mode: str) -> None:
    outcomes = []
    for module in (vt, tio):
        grid = module.GridSampler(subject(), PATCH, OVERLAP)
        batch, places = answers(grid, 1, torch.int64)
        aggregator = module.GridAggregator(grid, mode)
        if mode == "hann":
            aggregator.add_batch(batch, places)
            outcomes.append(aggregator.get_output_tensor())
            continue
        with pytest.warns(RuntimeWarning, match="int64"):
            aggregator.add_batch(batch, places)
            outcomes.append(aggregator.get_output_tensor())
    assert outcomes[0].dtype == outcomes[1].dtype
    assert torch.allclose(*outcomes, rtol=1e-5)


def test_what_cannot_be() -> None:
    grid = vt.GridSampler(subject(), PATCH, OVERLAP)
    batch, places = answers(grid, 1, torch.float32)
    with pytest.raises(ValueError, match="Overlap mode"):
        vt.GridAggregator(grid, "gaussian")
    for mode in MODES:
        with pytest.raises(RuntimeError, match="does not match the shape of the target location"):
            vt.GridAggregator(grid, mode).add_batch(batch[:, :, 1:], places)
