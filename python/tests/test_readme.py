"""The README's example runs as it stands, and an identity for a model gives the image back."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import smooth, write_nifti

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nifti(tmp_path / "ct.nii.gz", smooth((97, 100, 120)))
    write_nifti(tmp_path / "seg.nii.gz", smooth((97, 100, 120), "u1") % 4)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {"model": lambda patch: patch}
    exec(compile(example, README.name, "exec"), names)
    assert names["batch"].shape == (8, 96, 96, 96)
    image, prediction = (
        np.asanyarray(nib.load(name).dataobj) for name in ("ct.nii.gz", "pred.nii.gz")
    )
    assert prediction.dtype == np.float32
    assert np.array_equal(prediction, image)
