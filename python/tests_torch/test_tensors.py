"""Torch's memory and ours are the same memory: patches become tensors, and tensors are read into
and from, uncopied.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import noise, store_of

import voxquarry as vq

SIZE = (33, 40, 36)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def copied_bytes(call: Callable[[], object]) -> int:
    """The most that numpy held meanwhile; it counts its arrays there, which are the only copies a
    call could make.
    """
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_patch_becomes_a_tensor(tmp_path: Path, dtype: str) -> None:
    voxels = noise(SIZE, dtype)
    patch = store_of(tmp_path, voxels).read((3, 0, 11), (16, 17, 25))
    expected = np.ascontiguousarray(voxels[3:19, 0:17, 11:36])
    tensor = torch.from_numpy(patch)
    assert tensor.data_ptr() == patch.ctypes.data
    assert tensor.is_contiguous()
    assert tensor.numpy().tobytes() == expected.tobytes()
    # The array may be written to, so the tensor may.
    tensor.zero_()
    assert not patch.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_is_read_into(tmp_path: Path, dtype: str) -> None:
    voxels = noise(SIZE, dtype)
    volume = store_of(tmp_path, voxels)
    starts = np.array([[0, 0, 0], [17, 8, 4], [5, 24, 20]])
    batch = torch.zeros((3, 16, 16, 16), dtype=torch.from_numpy(voxels).dtype)
    out = batch.numpy()
    found = volume.read_batch(starts, 16, out=out)
    assert found is out
    for tensor, (z, y, x) in zip(batch, starts, strict=True):
        expected = voxels[z : z + 16, y : y + 16, x : x + 16]
        assert tensor.numpy().tobytes() == np.ascontiguousarray(expected).tobytes()
    # One sample of a batch, as a collate function would fill it: the others stay.
    before = batch.clone()
    volume.read((9, 9, 9), 16, out=batch[1].numpy())
    assert batch[1].numpy().tobytes() == np.ascontiguousarray(voxels[9:25, 9:25, 9:25]).tobytes()
    for n in (0, 2):
        assert batch[n].numpy().tobytes() == before[n].numpy().tobytes()


def test_tensors_say_where(tmp_path: Path) -> None:
    voxels = noise(SIZE, "i2")
    volume, starts = store_of(tmp_path, voxels), torch.tensor([[1, 2, 3], [17, 8, 4]])
    for dtype in (torch.int64, torch.int32, torch.uint8):
        batch = volume.read_batch(starts.to(dtype), 9)
        for patch, start in zip(batch, starts.to(dtype), strict=True):
            z, y, x = start.tolist()
            assert np.array_equal(patch, voxels[z : z + 9, y : y + 9, x : x + 9])
            assert np.array_equal(volume.read(start, 9), patch)
    for wrong in (starts[0].float(), starts[0, :2], starts):
        with pytest.raises(TypeError, match="start"):
            volume.read(wrong, 9)


def test_tensors_that_cannot_be_read_into(tmp_path: Path) -> None:
    volume = store_of(tmp_path, noise(SIZE, "i2"))
    wrong = [
        torch.zeros((16, 16, 16), dtype=torch.int32).numpy(),
        torch.zeros((16, 16, 32), dtype=torch.int16)[..., ::2].numpy(),
        torch.zeros((16, 16, 15), dtype=torch.int16).numpy(),
        torch.zeros((16, 16, 16), dtype=torch.int16),
    ]
    for out in wrong:
        with pytest.raises(vq.UsageError, match="expected a C-contiguous int16 of shape"):
            volume.read((0, 0, 0), 16, out=out)
        assert not np.asarray(out).any()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float32, torch.float64, torch.uint8, torch.int64]
)
def test_tensors_are_added_in_place(dtype: torch.dtype) -> None:
    size, grid = (48, 40, 64), vq.GridSampler((16, 24, 32), overlap=(0, 8, 0))
    starts = grid.locations(size)
    torch.manual_seed(6)
    tensors = (torch.rand((len(starts), 2, 16, 24, 32)) * 200).to(dtype)

    def blend(patches: object, locations: object) -> np.ndarray:
        result = vq.Aggregator(grid, size, channels=2, dtype="float64")
        result.add(patches, locations)
        return result.finish()

    expected = blend(tensors.numpy().copy(), starts)
    untouched = tensors.clone()
    result = vq.Aggregator(grid, size, channels=2, dtype="float64")
    held = copied_bytes(lambda: result.add(tensors, torch.from_numpy(starts)))
    assert held < tensors.nbytes // 20
    assert np.array_equal(result.finish(), expected)
    assert torch.equal(tensors, untouched)

    # What is not contiguous has to be copied, and this measure sees it.
    strided = tensors.transpose(2, 4).contiguous().transpose(2, 4)
    result = vq.Aggregator(grid, size, channels=2, dtype="float64")
    assert copied_bytes(lambda: result.add(strided, starts)) >= tensors.nbytes
    assert np.array_equal(result.finish(), expected)


def test_one_tensor_at_a_time_in_the_models_own_memory() -> None:
    """A model may answer into the same tensor again and again: what was added has been taken."""
    size, grid = (20, 20, 20), vq.GridSampler(8, overlap=4)
    starts = grid.locations(size)
    answers = torch.rand((len(starts), 8, 8, 8), generator=torch.Generator().manual_seed(7))
    together = vq.Aggregator(grid, size, channels=None)
    together.add(answers, starts)
    apart, answer = vq.Aggregator(grid, size, channels=None), torch.empty(8, 8, 8)
    for n, start in enumerate(torch.from_numpy(starts)):
        answer.copy_(answers[n])
        assert not apart.has(start)
        apart.add(answer, start)
        assert apart.has(start)
        answer.fill_(torch.nan)
    assert np.array_equal(apart.finish(), together.finish())


def test_tensors_that_need_a_gradient_are_added_by_value() -> None:
    grid = vq.GridSampler(4)
    result = vq.Aggregator(grid, (4, 4, 4))
    answer = torch.arange(64, dtype=torch.float32).reshape(4, 4, 4).requires_grad_()
    result.add(answer, (0, 0, 0))
    assert np.array_equal(result.finish()[0], answer.detach().numpy())
    assert answer.requires_grad
