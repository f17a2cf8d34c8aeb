"""Whole data sets: layouts, splits and names of labels, broken subjects, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import voxquarry as vq


def image(path: Path, value: int = 1, size: tuple[int, ...] = (7, 6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full(size, value, np.uint8), np.eye(4)), path)
    return path


def nnunet(root: Path) -> Path:
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    document = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "file_ending": ".nii.gz"}
    for case in ("a", "b"):
        image(root / "imagesTr" / f"{case}_0000.nii.gz", 3)
        image(root / "imagesTr" / f"{case}_0001.nii.gz", 4)
        image(root / "labelsTr" / f"{case}.nii.gz", 2)
    (root / "dataset.json").write_text(json.dumps(document))
    return root


def test_an_nnunet_data_set_in_one_call(tmp_path: Path) -> None:
    root, store = nnunet(tmp_path / "Dataset001"), tmp_path / "s.zarr"
    ds = vq.ingest(root, store, 8)
    assert ds.splits == {"train": ["a", "b"]}
    assert (list(ds["a"]), ds["a"]["label"].kind) == (["T1", "T2", "label"], "labels")
    label = ds["b"]["label"]
    assert (label.label_names, label.label_regions) == (
        {0: "background", 2: "core"},
        {"whole": (1, 2)},
    )
    assert label.label_colors == {} and ds["a"]["T1"].label_names == {}
    assert ds.report.done == ["a", "b"] and ds.report.failed == []
    assert any("nnU-Net data set of 2 subjects" in note for note in ds.report.notes)
    assert vq.open(store).report is None
    assert vq.ingest(root / "dataset.json", store, 8).report.skipped == ["a", "b"]
    assert list(vq.ingest(root, tmp_path / "t.zarr", 8, subset="b")) == ["b"]


def test_broken_subjects_are_reported(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / "in" / f"{name}.nii.gz")
    broken = tmp_path / "in" / "b.nii.gz"
    broken.write_bytes(b"no image")
    store = tmp_path / "s.zarr"
    with pytest.raises(vq.DataError, match=r"b\.nii\.gz"):
        vq.ingest(tmp_path / "in", store)
    assert not store.exists()
    ds = vq.ingest(tmp_path / "in", store, keep_going=True)
    assert (list(ds), ds.report.done) == (["a", "c"], ["a", "c"])
    (failure,) = ds.report.failed
    assert (failure.subject, failure.volume, failure.path) == ("b", "image", str(broken))
    assert "b.nii.gz" in failure.error
    image(broken)
    report = vq.ingest(tmp_path / "in", store, keep_going=True).report
    assert (report.done, report.skipped, report.failed) == (["b"], ["a", "c"], [])
    broken.write_bytes(b"no image")
    with pytest.raises(vq.DataError, match=r"every subject failed:\n  b: .*b\.nii\.gz"):
        vq.ingest([broken], tmp_path / "t.zarr", keep_going=True)


def test_volumes_are_added(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    first, second = image(tmp_path / "1.nii.gz", 1), image(tmp_path / "2.nii.gz", 2)
    vq.ingest({"a": {"ct": first}}, store)
    with pytest.raises(vq.UsageError, match=r"would remove.*ct.*add=True"):
        vq.ingest({"a": {"pet": second}}, store, overwrite=True)
    ds = vq.ingest({"a": {"pet": second}}, store, add=True)
    assert [ds["a"][name][0, 0, 0] for name in ("ct", "pet")] == [1, 2]
    image(first, 9)
    with pytest.raises(vq.UsageError, match=r"made from something else.*overwrite=True"):
        vq.ingest({"a": {"ct": first, "pet": second}}, store)


def test_patterns_generators_and_bytes_name_sources(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / "in" / case / f"{case}_t1.nii.gz")
        image(tmp_path / "in" / case / f"{case}_seg.nii.gz")
    pattern = "{subject}/{subject}_{volume}.nii.gz"
    ds = vq.ingest(tmp_path / "in", tmp_path / "1.zarr", pattern=pattern, kinds={"seg": "image"})
    assert {v.kind for v in ds["b"].values()} == {"image"}
    ds = vq.ingest((tmp_path / "in").glob("*/*_t1.nii.gz"), tmp_path / "2.zarr")
    assert list(ds) == ["a_t1", "b_t1"]
    single = bytes(tmp_path / "in" / "a" / "a_t1.nii.gz")
    assert list(vq.ingest(single, tmp_path / "3.zarr")) == ["a_t1"]
    assert list(vq.ingest({"x": single}, tmp_path / "4.zarr")) == ["x"]
    assert list(vq.ingest(str(tmp_path / "in/*/*_t1.nii.gz"), tmp_path / "5.zarr")) == list(ds)


@pytest.mark.parametrize("size", ["96", b"96", ["96"], "9,6,4"])
def test_a_text_is_no_size(tmp_path: Path, size: object) -> None:
    with pytest.raises(vq.UsageError, match="patch_size"):
        vq.ingest(image(tmp_path / "a.nii.gz"), tmp_path / "s.zarr", size)


def test_grids_are_stated(tmp_path: Path) -> None:
    ct, seg = image(tmp_path / "ct.nii.gz"), tmp_path / "seg.nii.gz"
    moved = np.eye(4)
    moved[0, 3] = 1.0
    nib.save(nib.Nifti1Image(np.ones((7, 6, 5), np.uint8), moved), seg)
    sources = {"a": {"ct": ct, "seg": vq.Labels(seg)}}
    with pytest.raises(vq.DataError, match=r"shifted by 1\.000 mm"):
        vq.ingest(sources, tmp_path / "1.zarr")
    ds = vq.ingest(sources, tmp_path / "2.zarr", grid_tolerance=1)
    assert (ds["a"]["seg"].affine == np.eye(4)).all()
    ds = vq.ingest(sources, tmp_path / "3.zarr", grid_from="seg")
    assert (ds["a"]["ct"].affine == moved).all()
    affine = np.diag([3.0, 2.0, 1.0, 1.0])
    assert vq.ingest(ct, tmp_path / "4.zarr", affine=affine)["ct"]["image"].spacing == (1, 2, 3)


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ds = vq.ingest(image(tmp_path / "a.nii.gz"), tmp_path / "s.zarr", progress=True)
    assert "a/image" in capsys.readouterr().err
    vq.export(ds["a"]["image"], tmp_path / "b.nii.gz", progress=True)
    assert "a/image" in capsys.readouterr().err
