"""The examples of both READMEs run as they stand, and an identity model gives the image back."""

import re
from pathlib import Path
from types import CodeType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers import smooth, write_nifti

import voxquarry as vq

PYTHON = Path(__file__).parents[1]


def example_of(readme: Path) -> CodeType:
    """The only Python program of a README, compiled."""
    (example,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    return compile(example, str(readme), mode="exec")


def voxels(path: str) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_the_project_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    write_nifti(tmp_path / "demo/phantom.nii.gz", smooth((97, 100, 120)))
    names: dict[str, Any] = {}
    exec(example_of(PYTHON.parent / "README.md"), names)
    assert names["batch"]["t1"].shape == (4, 1, 64, 64, 64)
    prediction = voxels("prediction.nii.gz")
    assert np.array_equal(prediction[..., 0], voxels("demo/phantom.nii.gz"))


def test_the_package_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nifti(tmp_path / "ct.nii.gz", smooth((97, 100, 120)))
    write_nifti(tmp_path / "seg.nii.gz", smooth((97, 100, 120), "u1") % 4)
    names: dict[str, Any] = {"model": lambda patch: patch}
    exec(example_of(PYTHON / "README.md"), names)
    assert names["batch"].shape == (8, 96, 96, 96)
    prediction = voxels("pred.nii.gz")
    assert prediction.dtype == np.float32
    assert np.array_equal(prediction, voxels("ct.nii.gz"))


def test_the_page_for_the_first_minutes_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_nifti(tmp_path / "phantom.nii.gz", smooth((97, 100, 120)))
    vq.ingest("phantom.nii.gz", "store.zarr", patch_size=64)
    names: dict[str, Any] = {}
    exec(example_of(PYTHON.parent / "docs" / "start.md"), names)
    assert names["batch"]["image"].shape == (4, 1, 64, 64, 64)
