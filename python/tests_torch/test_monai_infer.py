"""``voxquarry.monai.sliding_window_inference`` against MONAI's own: the same arguments, the same
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import monai.inferers
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import voxquarry as vq
from voxquarry.monai import sliding_window_inference


def image(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (
        torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        .add(0.5)
        .to(dtype)
    )


def uneven(windows: torch.Tensor) -> torch.Tensor:
    """Answers that differ wherever windows overlap: they depend on the place within the window."""
    ramps = [torch.linspace(0.5, 2, n, dtype=windows.dtype) for n in windows.shape[2:]]
    weights = ramps[0]
    for ramp in ramps[1:]:
        weights = weights[..., None] * ramp
    return torch.cat([windows * weights, windows + weights], 1)


def both(
    inputs: torch.Tensor,
    roi: Sequence[int] | int,
    batch: int,
    predictor: Callable[..., Any],
    **settings: Any,
) -> tuple[Any, Any]:
    theirs = monai.inferers.sliding_window_inference(
        inputs.clone(), roi, batch, predictor, **settings
    )
    return sliding_window_inference(inputs.clone(), roi, batch, predictor, **settings), theirs


def assert_same(found: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-6) -> None:
    assert type(found) is type(expected)
    assert (found.shape, found.dtype, found.device) == (
        expected.shape,
        expected.dtype,
        expected.device,
    )
    np.testing.assert_allclose(found.double().numpy(), expected.double().numpy(), rtol=rtol, atol=0)


SHAPES = [
    ((16, 12, 21), (8, 8, 8)),
    ((9, 17, 10), (9, 5, 6)),
    ((5, 20, 3), (8, 8, 6)),
    ((31, 18), (8, 9)),
    ((7, 30), (9, 8)),
    ((29,), (8,)),
]


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize(("size", "roi"), SHAPES)
def test_sizes(size: tuple[int, ...], roi: tuple[int, ...], overlap: float, mode: str) -> None:
    # The last batch of an image holds windows of the next.
    assert_same(*both(image(2, 1, *size), roi, 5, uneven, overlap=overlap, mode=mode))


@pytest.mark.parametrize("sigma", [0.05, 0.125, 0.4, (0.3, 0.1, 0.2)])
def test_sigmas(sigma: float | tuple[float, ...]) -> None:
    settings = {"overlap": (0.5, 0.25, 0.0), "mode": "gaussian", "sigma_scale": sigma}
    assert_same(*both(image(1, 2, 20, 13, 17), (8, 6, 9), 1, uneven, **settings))


@pytest.mark.parametrize(
    ("padding", "cval"),
    [("constant", 0.0), ("constant", 7.5), ("replicate", 0.0), ("reflect", 0.0)],
)
def test_padding(padding: str, cval: float) -> None:
    assert_same(
        *both(
            image(1, 1, 7, 20, 6),
            (10, 8, 9),
            2,
            uneven,
            padding_mode=padding,
            cval=cval,
            mode="gaussian",
        )
    )


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float32, 2e-6), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)]
)
def test_dtypes(dtype: torch.dtype, rtol: float) -> None:
    """The wider the tolerance, the more MONAI rounds: it sums in the inputs' dtype."""
    assert_same(
        *both(image(1, 1, 20, 13, 17, dtype=dtype), 8, 3, uneven, overlap=0.5, mode="constant"),
        rtol,
    )


def test_forms_of_answers() -> None:
    inputs = image(2, 1, 12, 14, 10)
    found, expected = both(inputs, 6, 4, lambda w: (w * 2, uneven(w)), overlap=0.5)
    assert isinstance(found, tuple) and isinstance(expected, tuple)
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)
    found, expected = both(
        inputs, 6, 4, lambda w: {"b": w * 2, "a": uneven(w)}, overlap=0.5, mode="gaussian"
    )
    assert list(found) == list(expected) == ["a", "b"]
    for name in found:
        assert_same(found[name], expected[name])


def test_answers_of_half_the_resolution() -> None:
    found, expected = both(
        image(1, 1, 16, 24, 8), 8, 2, lambda w: torch.nn.functional.avg_pool3d(w, 2), overlap=0.5
    )
    assert found.shape == (1, 1, 8, 12, 4)
    assert_same(found, expected)


def test_places_arguments_and_metadata() -> None:
    places: list[Any] = []

    def predictor(
        windows: torch.Tensor, coords: Any, factor: float, *, shift: float
    ) -> torch.Tensor:
        places.append(coords)
        return windows * factor + shift + coords[0][2].start

    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    inputs = MetaTensor(image(1, 1, 14, 10, 9), affine=affine)
    settings = (
        0.25,
        "constant",
        0.125,
        "constant",
        0.0,
        None,
        None,
        False,
        None,
        None,
        None,
        -1,
        True,
        3.0,
    )
    theirs = monai.inferers.sliding_window_inference(inputs, 6, 2, predictor, *settings, shift=1.0)
    split = len(places)
    ours = sliding_window_inference(inputs, 6, 2, predictor, *settings, shift=1.0)
    assert places[split:] == places[:split]
    assert_same(ours, theirs)
    assert torch.equal(ours.affine, theirs.affine)


def test_what_is_left_to_monai() -> None:
    inputs = image(1, 1, 12, 14, 10)
    weights = image(6, 6, 6)
    assert_same(*both(inputs, 6, 2, uneven, roi_weight_map=weights))


def test_refusals() -> None:
    inputs = image(1, 1, 12, 14, 10)
    for arguments in ({"overlap": 1.0}, {"overlap": -0.1}, {"mode": "hann"}):
        with pytest.raises(ValueError):
            sliding_window_inference(inputs, 6, 2, uneven, **arguments)
    with pytest.raises(ValueError, match="roi_size"):
        sliding_window_inference(inputs, (6, 6), 2, uneven)
    with pytest.raises(vq.UsageError, match="predictor answered"):
        sliding_window_inference(inputs, 6, 2, lambda w: w.mean((2, 3, 4)))
