"""Files that are no image raise a DataError that names them, and leave nothing in the store."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import noise, write_nifti

import voxquarry as vq

Edit = Callable[[nib.Nifti1Header], None]


def field(name: str, value: object, at: object = ()) -> Edit:
    def edit(header: nib.Nifti1Header) -> None:
        if at == ():
            header[name] = value
        else:
            header[name][at] = value

    return edit


def refused(path: Path, message: str = ".") -> str:
    store = path.parent / "store.zarr"
    with pytest.raises(vq.DataError, match=message) as caught:
        vq.ingest({"a": path}, store)
    assert str(path) in str(caught.value) or str(path.with_suffix(".img")) in str(caught.value)
    assert not (store / "a").exists()
    assert not (store / "zarr.json").exists()
    return str(caught.value)


@pytest.mark.parametrize("extension", ["nii", "nii.gz", "hdr"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (field("magic", b"nope"), "magic"),
        (field("datatype", 0), "datatype 0"),
        (field("datatype", 12345), "datatype 12345"),
        (field("datatype", 32), "complex64"),
        (field("datatype", 1), "binary"),
        (field("dim", 0, 0), "dim"),
        (field("dim", 8, 0), "dim"),
        (field("dim", -3, 0), "dim"),
        (field("dim", 0, 2), "dim"),
        (field("dim", -1, 1), "dim"),
        (field("dim", 8, 1), "dim|bytes"),
        (field("dim", 32767, slice(1, 4)), "bytes"),
        (field("vox_offset", 100_000), "bytes"),
        (field("vox_offset", -5), "vox_offset"),
        (
            lambda h: (h.__setitem__("sform_code", 1), h.__setitem__("srow_x", [np.nan, 0, 0, 0])),
            "not finite",
        ),
        (lambda h: (h.__setitem__("sform_code", 1), h.__setitem__("srow_x", 0)), "affine"),
        (lambda h: (h.__setitem__("qform_code", 1), h.__setitem__("quatern_b", 1.5)), "quaternion"),
        (field("pixdim", np.inf, 1), "affine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "edit",
)
def test_headers_that_cannot_be(
    tmp_path: Path, edit: Edit, message: str, version: int, extension: str
) -> None:
    def both(header: nib.Nifti1Header) -> None:
        header["pixdim"][1:4] = 1
        edit(header)

    path = write_nifti(
        tmp_path / f"bad.{extension}", noise((6, 5, 4), "i2"), version=version, edit=both
    )
    refused(path, message)


@pytest.mark.parametrize("order", "<>")
def test_dims_that_overflow(tmp_path: Path, order: str) -> None:
    path = write_nifti(
        tmp_path / "huge.nii",
        noise((6, 5, 4), "i2"),
        version=2,
        order=order,
        edit=field("dim", 2**62, slice(1, 4)),
    )
    refused(path)


@pytest.mark.parametrize("version", [1, 2])
def test_files_that_end_early(tmp_path: Path, version: int) -> None:
    whole = write_nifti(
        tmp_path / "whole.nii", noise((9, 8, 7), "i2"), version=version
    ).read_bytes()
    path = tmp_path / "short.nii"
    for length in (0, 1, 100, 347, 348, 351, 539, 600, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)


def test_gzip_that_ends_early_or_is_damaged(tmp_path: Path) -> None:
    whole = write_nifti(tmp_path / "whole.nii.gz", noise((19, 18, 17), "i2")).read_bytes()
    path = tmp_path / "short.nii.gz"
    for length in (0, 1, 9, 10, 30, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)
    damaged = bytearray(whole)
    damaged[-6] ^= 1  # The checksum.
    path.write_bytes(damaged)
    refused(path)
    plain = gzip.decompress(whole)
    path.write_bytes(gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])[:-3])
    refused(path)
    path.write_bytes(b"not gzip at all")
    refused(path)


def test_analyze_is_refused_by_name(tmp_path: Path) -> None:
    nib.AnalyzeImage(noise((6, 5, 4), "i2"), np.eye(4)).to_filename(tmp_path / "old.img")
    refused(tmp_path / "old.hdr", "Analyze")


def test_pairs_without_their_other_half(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "half.hdr", noise((6, 5, 4), "i2"))
    (tmp_path / "half.img").unlink()
    with pytest.raises(vq.Error, match=r"half\.img"):
        vq.ingest({"a": path}, tmp_path / "store.zarr")


@pytest.mark.parametrize(
    "voxels",
    [noise((6, 5, 4), "f4"), np.full((6, 5, 4), 1.5, "f4"), np.full((2, 2, 2), 2**63 + 1, "u8")],
)
def test_label_maps_hold_labels(tmp_path: Path, voxels: np.ndarray) -> None:
    path = write_nifti(tmp_path / "seg.nii", voxels)
    with pytest.raises(vq.DataError, match=r"seg\.nii.*label"):
        vq.ingest({"a": vq.Labels(path)}, tmp_path / "store.zarr")


def test_one_bad_file_costs_its_own_subject_only(tmp_path: Path) -> None:
    good = write_nifti(tmp_path / "good.nii", noise((6, 5, 4), "i2"))
    late = write_nifti(tmp_path / "late.nii.gz", noise((40, 40, 40), "i2"))
    content = bytearray(late.read_bytes())
    content[-6] ^= 1
    late.write_bytes(content)
    with pytest.raises(vq.DataError, match="late"):
        vq.ingest({"a": good, "b": late, "c": good}, tmp_path / "store.zarr")
    assert "b" not in vq.open(tmp_path / "store.zarr")
    assert vq.verify(tmp_path / "store.zarr")["subjects"] >= 1
