"""Resampled reads in Python: shapes, types, batches, and what is refused."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import smooth

import voxquarry as vq

WHOLE = np.eye(4)


def begin(*start: float) -> np.ndarray:
    """The matrix of a patch that is not turned."""
    return np.column_stack([np.eye(3), start])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    folder: Path = tmp_path_factory.mktemp("resample")
    image = nib.Nifti1Image(smooth((30, 28, 26)), np.diag([1.0, 1, 2, 1]))
    image.header.set_slope_inter(0.5, -100)
    nib.save(image, folder / "ct.nii.gz")
    labels = (smooth((26, 28, 30)) % 5).astype("u1")
    channels = smooth((3, 26, 28, 30), "f4")
    volumes = {"ct": folder / "ct.nii.gz"}
    vq.ingest({"case": volumes}, folder / "store.zarr", patch_size=16)
    return vq.ingest(
        {"case": {"seg": vq.Labels(labels), "mr": channels}},
        folder / "store.zarr",
        patch_size=16,
        spacing=(2, 1, 1),
        add=True,
    )


@pytest.fixture(scope="module")
def subject(dataset: vq.Dataset) -> vq.Subject:
    return dataset["case"]


@pytest.mark.parametrize("order", [0, 1, 3])
def test_whole_indices_copy_real_values(subject: vq.Subject, order: int) -> None:
    ct = subject["ct"]
    patch = ct.read_affine(begin(3, -2, 5), (10, 12, 20), order=order, padding="edge")
    assert patch.dtype == np.float32
    expected = ct.scaled.read((3, -2, 5), (10, 12, 20), padding="edge")
    np.testing.assert_array_equal(patch, expected)
    # The padding is a real value.
    patch = ct.read_affine(begin(-20, 0, 0), 8, order=order, padding=0.25)
    np.testing.assert_array_equal(patch, np.full((8, 8, 8), 0.25, "f4"))
    stored = ct.read_affine(begin(1, 2, 3), 8, order=order, dtype=ct.dtype)
    np.testing.assert_array_equal(stored, ct.read((1, 2, 3), 8))


def test_defaults_are_linear_and_zero(subject: vq.Subject) -> None:
    ct = subject["ct"].scaled[:]
    patch = subject["ct"].read_affine(begin(0, 0, -0.5), (26, 28, 31))
    padded = np.pad(ct, ((0, 0), (0, 0), (1, 1)))
    np.testing.assert_allclose(patch, (padded[..., 1:] + padded[..., :-1]) / 2, rtol=1e-6)


def test_labels_and_channels(subject: vq.Subject) -> None:
    seg, mr = subject["seg"], subject["mr"]
    turned = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    patch = seg.read_affine(turned, (26, 28, 20), order=0)
    assert patch.dtype == seg.dtype
    np.testing.assert_array_equal(patch, seg[:][:, :20, :28].transpose(0, 2, 1))
    patch = mr.read_affine(turned, (26, 28, 20), dtype="f2", padding=None)
    assert patch.shape == (3, 26, 28, 20)
    expected = mr[:][:, :, :20, :28].transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(patch, expected.astype("f2"))


def test_a_batch_is_its_patches(subject: vq.Subject) -> None:
    ct, random = subject["ct"], np.random.default_rng(3)
    matrices = np.eye(4) + random.uniform(-0.2, 0.2, (5, 4, 4))
    matrices[:, 3] = [0, 0, 0, 1]
    bent = random.uniform(-3, 3, (5, 3, 2, 3, 4))
    batch = ct.read_affine_batch(matrices, 12, order=3, displacements=bent, padding="reflect")
    assert batch.shape == (5, 12, 12, 12)
    for patch, matrix, knots in zip(batch, matrices, bent, strict=True):
        alone = ct.read_affine(matrix[:3], 12, 3, "reflect", displacement=knots)
        np.testing.assert_array_equal(patch, alone)
    assert ct.read_affine_batch(np.empty((0, 3, 4)), 12).shape == (0, 12, 12, 12)
    out = np.empty((5, 12, 12, 12), "f8")
    assert ct.read_affine_batch(matrices, 12, out=out, dtype="f8") is out


BAD = [
    ({"matrix": np.zeros((3, 4))}, "singular"),
    ({"matrix": np.full((4, 4), np.nan)}, "last row"),
    ({"matrix": begin(np.inf, 0, 0)}, "finite"),
    ({"matrix": np.eye(3)}, r"shape \(3, 4\)"),
    ({"matrix": "turned"}, "an array of numbers"),
    ({"matrix": begin(1e12, 0, 0)}, "indices of at most"),
    ({"patch_size": 0}, "at least 1"),
    ({"patch_size": (8, 8, 2**60)}, "address space"),
    ({"order": 2}, r"0 \(nearest\), 1 \(linear\) or 3 \(cubic\)"),
    ({"order": "linear"}, r"0 \(nearest\)"),
    ({"padding": "wrap"}, "edge"),
    ({"padding": None, "matrix": begin(25, 0, 0)}, "choose a padding"),
    ({"dtype": "i4"}, "float16, float32 or float64, or the volume's int16"),
    ({"dtype": "i2", "padding": 0.5}, "a value of int16"),
    ({"displacement": np.zeros((2, 2, 2))}, r"\(3, kz, ky, kx\)"),
    ({"displacement": np.full((3, 2, 2, 2), np.nan)}, "finite"),
    ({"displacement": np.full((3, 2, 2, 2), 1e6)}, "65536"),
    ({"displacement": np.zeros((3, 20, 1, 1))}, "at most 9"),
    ({"out": np.full((8, 8, 8), 7, "f8")}, "C-contiguous float32"),
    ({"out": np.full((8, 8, 9), 7, "f4")}, "C-contiguous float32"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_what_is_refused(subject: vq.Subject, change: dict[str, object], says: str) -> None:
    out = np.full((8, 8, 8), 7, "i2" if change.get("dtype") == "i2" else "f4")
    arguments = {"matrix": WHOLE, "patch_size": 8, "out": out} | change
    with pytest.raises(vq.UsageError, match=says):
        subject["ct"].read_affine(**arguments)
    assert (out == 7).all() and (np.asarray(arguments["out"]) == 7).all()


def test_labels_are_not_interpolated(subject: vq.Subject) -> None:
    out = np.full((8, 8, 8), 7, "u1")
    for arguments in ({}, {"order": 1}, {"order": 3}):
        with pytest.raises(vq.UsageError, match=r"0 \(nearest\) for labels"):
            subject["seg"].read_affine(WHOLE, 8, out=out, **arguments)
    with pytest.raises(vq.UsageError, match="labels keep the type"):
        subject["seg"].read_affine(WHOLE, 8, order=0, dtype="f4")
    assert (out == 7).all()
    whole = {"matrices": WHOLE[None], "patch_size": 8}
    for change in ({"matrices": WHOLE}, {"displacements": np.zeros((2, 3, 1, 1, 1))}):
        with pytest.raises(vq.UsageError, match="of shape"):
            subject["ct"].read_affine_batch(**(whole | change))


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide = Path(__file__).parents[2] / "docs/resampling.md"
    (example,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(guide), "exec"), {})


def test_views_at_another_spacing(dataset: vq.Dataset) -> None:
    subject = dataset["case"]
    ct = subject["ct"]
    view = dataset.at(spacing=(4, 2, 2), orientation="LAS")["case"]["ct"]
    assert (view.shape, view.dtype, view.spacing) == ((13, 14, 15), np.float32, (4, 2, 2))
    # x is mirrored, so the first voxel lies between the last two.
    stored = ct.scaled[:][:, :, ::-1]
    means = stored.reshape(13, 2, 14, 2, 15, 2).mean((1, 3, 5))
    np.testing.assert_allclose(view.read((0, 0, 0), view.shape), means, atol=1e-2)
    assert nib.aff2axcodes(view.affine) == ("L", "A", "S")
    first = np.linalg.inv(ct.affine) @ view.affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(first, [28.5, 0.5, 0.5, 1], atol=1e-12)
    again = pickle.loads(pickle.dumps(view))
    starts = [(0, 1, 2), (3, 4, 5)]
    batch = view.read_batch(starts, 8)
    np.testing.assert_array_equal(again.read_batch(starts, 8), batch)
    np.testing.assert_array_equal(view.read((3, 4, 5), 8), batch[1])
    with pytest.raises(vq.UsageError, match="choose a padding"):
        view.read((10, 0, 0), 8)
    assert (view.read((20, 0, 0), 8, padding=3) == 3).all()


def test_views_of_subjects_and_labels(dataset: vq.Dataset) -> None:
    subject = dataset["case"].at(orientation="RAS")
    assert list(subject) == list(dataset["case"]) and len(subject) == 3 and "seg" in subject
    seg = subject["seg"]
    assert seg.dtype == np.uint8 and seg.kind == "labels" and seg.volume.name == seg.name
    np.testing.assert_array_equal(seg.read((0, 0, 0), seg.shape), dataset["case"]["seg"][:])
    with pytest.raises(vq.UsageError, match="nearest"):
        seg.read((0, 0, 0), 8, order=1)
    assert subject["mr"].read((1, 2, 3), 4).shape == (3, 4, 4, 4)
    assert "LAS" in repr(dataset["case"]["ct"].at(1, "LAS"))
    for spacing in (0, (1, -1, 1), (1, 1), "fine", float("nan"), float("inf")):
        with pytest.raises(vq.UsageError, match="spacing"):
            dataset["case"]["ct"].at(spacing)
    for orientation in ("", "RAX", "RRS", "RASL"):
        with pytest.raises(vq.UsageError, match="orientation"):
            dataset.at(orientation=orientation)["case"]["ct"]
