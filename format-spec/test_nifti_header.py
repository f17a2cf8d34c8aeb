"""reader.py reads the NIfTI headers beside volumes, and nibabel understands them."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import reader
from golden_store import V1, volume_of


def test_the_nifti_header_repeats_the_metadata() -> None:
    golden = reader.open_store(V1.with_name("v1-nifti"))["grid"]
    for name, volume in golden.items():
        data = volume.nifti_header()
        if name == "f16":
            assert data is None
            continue
        header = nibabel.Nifti2Header(data)
        shape = volume.shape[::-1] if volume.array().ndim == 3 else (20, 10, 6, 1, 2)
        assert header.get_data_shape() == shape
        assert header.get_data_dtype() == volume.array().dtype
        assert np.array_equal(header.get_sform(), volume.affine) and header["sform_code"] == 2
        assert header["qform_code"] == 0
        assert header.get_xyzt_units()[0] == "micron"
        assert (header["scl_slope"], header["scl_inter"]) == (
            (0.5, -1024.0) if name == "i16" else (1.0, 0.0)
        )
        assert header.get_intent(code_repr="label")[0] == (
            "label" if volume.kind == "labels" else "none"
        )


def test_every_flipped_bit_of_the_nifti_header_is_refused(tmp_path: Path) -> None:
    shutil.copytree(V1.with_name("v1-nifti"), tmp_path / "store")
    volume = volume_of(tmp_path / "store", "i16")
    for path in (volume.folder / "nifti/zarr.json", volume.folder / "nifti/c/0"):
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(reader.Refused):
                volume.nifti_header()
        path.write_bytes(whole)
    assert volume.nifti_header()
