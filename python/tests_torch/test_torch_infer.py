"""``voxquarry.torch.infer``: a torch model over a stored volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Pair

import voxquarry as vq
import voxquarry.torch as vt

PATCH = (16, 12, 20)


@pytest.fixture
def volume(pair: Pair) -> vq.Volume:
    return pair.open()["a"]["ct"]


def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Conv3d(1, 3, 3, padding=1, dtype=torch.float64).eval()


def by_hand(volume: vq.Volume, model: torch.nn.Module, flips: list[list[int]]) -> np.ndarray:
    """Every patch read, mirrored, asked, mirrored back, averaged and added."""
    grid = vq.GridSampler(PATCH, overlap=0.5)
    result = vq.Aggregator(grid, volume, channels=3, dtype="float64")
    for start in grid.locations(volume):
        patch = torch.from_numpy(volume.read(start, PATCH)).double().reshape(1, 1, *PATCH)
        with torch.no_grad():
            answers = [model(patch.flip(axes)).flip(axes) for axes in flips]
        result.add(torch.stack(answers).mean(0).numpy(), start)
    return result.finish()


MIRRORS = {
    (): [[]],
    (2,): [[], [-1]],
    (0, 2): [[], [-3], [-1], [-3, -1]],
    (0, 1, 2): [[], [-3], [-2], [-1], [-3, -2], [-3, -1], [-2, -1], [-3, -2, -1]],
}


@pytest.mark.parametrize("axes", MIRRORS)
def test_mirrored_answers_are_averaged(volume: vq.Volume, axes: tuple[int, ...]) -> None:
    model = network()
    found = vt.infer(
        model,
        volume,
        PATCH,
        mirror_axes=axes,
        input_dtype=torch.float64,
        dtype="float64",
        batch_size=3,
    )
    np.testing.assert_allclose(found, by_hand(volume, model, MIRRORS[axes]), rtol=1e-12, atol=1e-9)
    if axes:
        plain = by_hand(volume, model, [[]])
        assert np.abs(found - plain).max() > 1e-3 * np.abs(plain).max(), (
            "mirroring changes nothing here"
        )


def test_a_model_that_changes_its_input(volume: vq.Volume) -> None:
    """What is mirrored is the patch as it was read."""

    def model(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"answer": x.mul_(2)}

    found = vt.infer(model, volume, PATCH, mirror_axes=(0, 1, 2))
    expected = np.asarray(volume[:]).astype(np.float64).reshape(1, *volume.shape[-3:])
    np.testing.assert_allclose(found["answer"], 2 * expected, rtol=1e-6)


def test_patches_are_lent_and_converted(volume: vq.Volume) -> None:
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append((x.dtype, x.device.type, torch.is_inference_mode_enabled()))
        return x.float()

    vt.infer(model, volume, PATCH)
    vt.infer(model, volume, PATCH, input_dtype=None, device="cpu")
    stored = torch.from_numpy(volume.read((0, 0, 0), 1)).dtype
    assert set(seen) == {(torch.float32, "cpu", True), (stored, "cpu", True)}


def test_autocast(volume: vq.Volume) -> None:
    torch.manual_seed(2)
    model = torch.nn.Conv3d(1, 2, 1)
    exact = vt.infer(model, volume, PATCH)
    seen = []
    hook = model.register_forward_hook(lambda module, given, answer: seen.append(answer.dtype))
    for autocast in (True, torch.bfloat16):
        found = vt.infer(model, volume, PATCH, autocast=autocast, mirror_axes=(1,))
        # bfloat16 has 8 bits; a constant model of size 1 answers alike when mirrored.
        np.testing.assert_allclose(found, exact, rtol=0.02, atol=0.02 * np.abs(exact).max())
        assert not np.array_equal(found, exact)
    hook.remove()
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("axes", [(3,), (-1,), (0, 0)])
def test_axes_that_are_none(volume: vq.Volume, axes: tuple[int, ...]) -> None:
    with pytest.raises(vq.UsageError, match="mirror_axes"):
        vt.infer(network(), volume, PATCH, mirror_axes=axes)


def test_a_list_of_heads(volume: vq.Volume) -> None:
    """Deep supervision answers with a list, which was taken for the patches (MONAI#4299)."""

    def heads(patches: torch.Tensor) -> list[torch.Tensor]:
        return [patches, patches.repeat(1, 2, 1, 1, 1), -patches]

    for axes in ((), (0, 2)):
        found = vt.infer(heads, volume, 8, 4, batch_size=3, mirror_axes=axes)
        assert [len(answer) for answer in found] == [1, 2, 1]
        assert np.allclose(found[0][0], volume[...], rtol=1e-5)
        assert np.allclose(found[2], -found[0], rtol=1e-5)
    with pytest.raises(vq.UsageError, match="classes have no mean"):
        vt.infer(lambda p: p.long(), volume, 8, 4, mirror_axes=(0,))
    for options in ({"merge": "vote"}, {"window": "crop"}):
        chosen = vt.infer(lambda p: p[:, 0] > 0, volume, 8, 4, **options)
        assert chosen.dtype == np.uint8 and np.array_equal(chosen, volume[...] > 0)
