"""Tensors become volumes."""

from pathlib import Path

import pytest
import torch

import voxquarry as vq


def test_tensors(tmp_path: Path) -> None:
    voxels = torch.arange(2 * 9 * 8 * 7, dtype=torch.int16).reshape(2, 9, 8, 7)
    given = {
        "plain": voxels,
        "turned": vq.Array(voxels.permute(3, 2, 1, 0), dims="xyzc"),
        "half": voxels.half().requires_grad_(),
        "mask": vq.Labels(voxels % 2 == 1),
    }
    subject = vq.ingest({"s": given}, tmp_path / "s.zarr", patch_size=4, spacing=2)["s"]
    for name, volume in subject.items():
        expected = voxels % 2 if name == "mask" else voxels
        assert torch.equal(torch.from_numpy(volume[...]).to(torch.int16), expected)
    assert subject["half"].dtype.name == "float16"
    assert subject["mask"].labels == {1: voxels.numel() // 2}
    with pytest.raises(vq.UsageError, match=r"torch.Tensor of torch.bfloat16.*convert it first"):
        vq.ingest({"t": voxels[0].bfloat16()}, tmp_path / "s.zarr")
