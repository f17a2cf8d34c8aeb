"""NIfTI there and back: nibabel sees the same in the original, the volume and the exported file."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import NUMBERS, RGB, RGBA, identical, noise, write_nifti

import voxquarry as vq

SHAPES = {2: (7, 5), 3: (7, 5, 3), 4: (7, 5, 3, 2), 5: (4, 3, 2, 3, 2)}


def as_volume(raw: np.ndarray) -> np.ndarray:
    """nibabel's ``(x, y, z, …)`` voxels as the volume's ``(c, z, y, x)``."""
    if raw.dtype.names:
        raw = np.stack([raw[name] for name in raw.dtype.names], axis=-1)
        raw = raw.reshape(*raw.shape[:-1], *(1,) * (4 - raw.ndim), raw.shape[-1])
        raw = np.moveaxis(raw, -1, 3)
    raw = raw.reshape(*raw.shape, *(1,) * (3 - raw.ndim))
    flipped = raw.transpose()
    volume = flipped.reshape(-1, *flipped.shape[-3:]) if raw.ndim > 3 else flipped
    return np.ascontiguousarray(volume, raw.dtype.newbyteorder("="))


def assert_same_image(found: nib.Nifti1Image, expected: nib.Nifti1Image, name: str) -> None:
    assert type(found) is type(expected), name
    assert found.shape == expected.shape, name
    for raw in (
        lambda image: np.asanyarray(image.dataobj.get_unscaled()),
        lambda image: np.asanyarray(image.dataobj),
    ):
        one, two = raw(found), raw(expected)
        assert one.dtype.newbyteorder("=") == two.dtype.newbyteorder("="), name
        assert (
            one.astype(one.dtype.newbyteorder("=")).tobytes()
            == two.astype(two.dtype.newbyteorder("=")).tobytes()
        ), name
    assert np.array_equal(found.affine, expected.affine), name
    one, two = found.header, expected.header
    assert one.get_data_dtype().newbyteorder("=") == two.get_data_dtype().newbyteorder("="), name
    assert one.get_zooms() == two.get_zooms(), name
    assert one.get_xyzt_units() == two.get_xyzt_units(), name
    assert (found.dataobj.slope, found.dataobj.inter) == (
        expected.dataobj.slope,
        expected.dataobj.inter,
    ), name
    assert one.get_intent() == two.get_intent(), name
    for key in ("sform_code", "qform_code", "descrip"):
        assert one[key] == two[key], f"{name}: {key}"


def round_trip(folder: Path, files: list[Path]) -> None:
    """All files go through one store and come back under their own names."""
    subjects = {f"case {i}": path for i, path in enumerate(files)}
    store = vq.ingest(subjects, folder / "store.zarr", patch_size=16)
    back = folder / "back"
    back.mkdir()
    for subject, path in subjects.items():
        image, volume = nib.load(path), store[subject]["image"]
        raw = np.asanyarray(image.dataobj.get_unscaled())
        assert identical(volume[...], as_volume(raw)), path.name
        assert np.array_equal(volume.affine, image.affine), path.name
        assert (volume.slope, volume.intercept) == (image.dataobj.slope, image.dataobj.inter), (
            path.name
        )
        vq.export(volume, back / path.name)
        assert_same_image(nib.load(back / path.name), image, path.name)


@pytest.mark.parametrize("extension", ["nii", "nii.gz", "hdr"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_dtype_order_and_dimension(tmp_path: Path, version: int, extension: str) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header["pixdim"][1:6] = [0.7, 1.3, 2.9, 4.1, 5.3]
        header.set_xyzt_units("mm", "msec")
        header["descrip"] = b"made by a test"

    files = []
    cases = itertools.product([*NUMBERS, RGB, RGBA], "<>", SHAPES)
    for seed, (dtype, order, ndim) in enumerate(cases):
        name = f"{seed}.{extension}"
        voxels = noise(SHAPES[ndim], dtype, seed)
        files.append(write_nifti(tmp_path / name, voxels, version=version, order=order, edit=edit))
    round_trip(tmp_path, files)


def test_every_orientation(tmp_path: Path) -> None:
    files = []
    for permutation in itertools.permutations(range(3)):
        for signs in itertools.product((-1, 1), repeat=3):
            affine = np.zeros((4, 4))
            for axis, (world, sign) in enumerate(zip(permutation, signs, strict=True)):
                affine[world, axis] = sign * (0.5, 1.25, 3.0)[axis]
            affine[:, 3] = -10.5, 20.25, 30.125, 1
            for form in ("sform", "qform"):

                def edit(header: nib.Nifti1Header, affine=affine, form=form) -> None:
                    header.set_zooms((0.5, 1.25, 3.0))
                    getattr(header, f"set_{form}")(affine, code=1)

                name = f"{form}{len(files)}.nii"
                files.append(
                    write_nifti(tmp_path / name, noise((3, 4, 2), "i2", len(files)), edit=edit)
                )
    assert len(files) == 2 * 48
    round_trip(tmp_path, files)
    orientations = {nib.aff2axcodes(nib.load(path).affine) for path in files}
    assert len(orientations) == 48


@pytest.mark.parametrize("version", [1, 2])
def test_forms_and_codes(tmp_path: Path, version: int) -> None:
    random, files = np.random.default_rng(5), []
    for sform, qform, qfac in itertools.product((0, 1, 4), (0, 1, 2), (-1, 1)):
        rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation)) * np.array([1, 1, qfac])
        rigid = nib.affines.from_matvec(rotation * (0.7, 1.1, 2.3), random.normal(size=3) * 100)
        sheared = nib.affines.from_matvec(
            random.normal(size=(3, 3)) + 3 * np.eye(3), random.normal(size=3)
        )

        def edit(
            header: nib.Nifti1Header, rigid=rigid, sheared=sheared, codes=(sform, qform)
        ) -> None:
            header.set_qform(rigid, code=codes[1])
            header.set_sform(sheared, code=codes[0])

        path = tmp_path / f"{len(files)}.nii"
        files.append(
            write_nifti(path, noise((3, 4, 2), "u1", len(files)), version=version, edit=edit)
        )
        assert nib.load(path).header["pixdim"][0] == qfac
    round_trip(tmp_path, files)


def test_scaling_is_kept_beside_the_integers(tmp_path: Path) -> None:
    scales = [
        (np.nan, np.nan),
        (0, 0),
        (0, 5),
        (np.nan, 3),
        (1, 0),
        (1, 10),
        (2, -1024),
        (0.1, 0.3),
        (-1, 0),
    ]
    files = []
    for (slope, intercept), dtype in itertools.product(scales, ["i2", "u1", "f4"]):

        def edit(header: nib.Nifti1Header, slope=slope, intercept=intercept) -> None:
            header["scl_slope"], header["scl_inter"] = slope, intercept

        path = tmp_path / f"{len(files)}.nii"
        files.append(write_nifti(path, noise((4, 3, 2), dtype, len(files)), edit=edit))
    round_trip(tmp_path, files)


def test_what_nibabel_repairs_is_repaired(tmp_path: Path) -> None:
    """Steps of 0, negative steps, a qfac of 0, a bitpix of another type: read as nibabel reads
    them.
    """
    repairs = [("pixdim", 2, 0), ("pixdim", 1, -1.5), ("pixdim", 0, 0), ("bitpix", (), 8)]
    files = []
    for (name, at, value), form in itertools.product(repairs, (0, 1)):

        def edit(header: nib.Nifti1Header, name=name, at=at, value=value, form=form) -> None:
            header["pixdim"][1:4], header["qform_code"] = (1.5, 2.5, 3.5), form
            header[name][at] = value

        files.append(write_nifti(tmp_path / f"{len(files)}.nii", noise((4, 3, 2), "i2"), edit=edit))
    round_trip(tmp_path, files)


def test_gzip_in_several_members(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "plain.nii", noise((9, 8, 7), "i2")).read_bytes()
    members = tmp_path / "members.nii.gz"
    members.write_bytes(
        b"".join(gzip.compress(plain[i : i + 200]) for i in range(0, len(plain), 200))
    )
    round_trip(tmp_path, [members])


def test_units_and_intent_come_back(tmp_path: Path) -> None:
    files = []
    for space, time in itertools.product(
        ("unknown", "meter", "mm", "micron"), ("unknown", "sec", "usec", "hz")
    ):

        def edit(header: nib.Nifti1Header, space=space, time=time) -> None:
            header.set_xyzt_units(space, time)
            header.set_intent("t test", (2,), name="a map")

        files.append(write_nifti(tmp_path / f"{len(files)}.nii", noise((2, 2, 2), "f4"), edit=edit))
    round_trip(tmp_path, files)


def test_an_array_of_a_store_is_exported_for_nibabel(tmp_path: Path) -> None:
    """A volume that never was a NIfTI file gets a header of its own."""
    affine = nib.affines.from_matvec(np.diag((0.5, -1.5, 2.0)), (1, 2, 3))
    source = write_nifti(
        tmp_path / "a.nii", noise((4, 5, 6), "u1"), edit=lambda h: h.set_sform(affine, 1)
    )
    subject = vq.ingest({"a": source}, tmp_path / "store.zarr")["a"]
    grid = vq.GridSampler((3, 4, 2), overlap=1)
    result = vq.Aggregator(grid, subject, channels=2, dtype="i2", out=tmp_path / "pred.zarr/a/pred")
    voxels = np.random.default_rng(0).integers(-9, 9, (2, 6, 5, 4)).astype("i2")
    for z, y, x in grid.locations(subject):
        result.add(voxels[:, z : z + 3, y : y + 4, x : x + 2], (z, y, x))
    vq.export(result.finish(), tmp_path / "pred.nii.gz")
    image = nib.load(tmp_path / "pred.nii.gz")
    assert image.get_data_dtype() == "i2"
    assert np.array_equal(np.asanyarray(image.dataobj), voxels.transpose(3, 2, 1, 0))
    assert np.array_equal(image.affine, affine)


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", noise((2, 3, 4), "u1"))
    volume = vq.ingest({"a": path}, tmp_path / "store.zarr")["a"]["image"]
    (tmp_path / "b.nii").write_bytes(b"mine")
    with pytest.raises(vq.UsageError, match="exists already"):
        vq.export(volume, tmp_path / "b.nii")
    assert (tmp_path / "b.nii").read_bytes() == b"mine"
    vq.export(volume, tmp_path / "b.nii", overwrite=True)
    assert_same_image(nib.load(tmp_path / "b.nii"), nib.load(path), "b.nii")
    with pytest.raises(vq.UsageError, match="png"):
        vq.export(volume, tmp_path / "b.png")
