"""NRRD, MetaImage, MGH and NumPy files as sources and as results; SimpleITK, pynrrd, nibabel and
numpy are the oracles.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import zarr
from helpers import identical, noise

import voxquarry as vq

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
DTYPES = [*INTEGERS, "f4", "f8"]
# Columns of unit length, x to the front and down.
DIRECTION = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ingest(source: Any, tmp_path: Path, **options: Any) -> vq.Volume:
    """The only volume of a source."""
    dataset = vq.ingest(source, tmp_path / "s.zarr", patch_size=16, overwrite=True, **options)
    (subject,) = dataset
    (volume,) = dataset[subject]
    return dataset[subject][volume]


def image(voxels: np.ndarray, *, vector: bool = False) -> sitk.Image:
    """An image of SimpleITK with an oblique affine; voxels ``(z, y, x)`` or ``(z, y, x, c)``."""
    made = sitk.GetImageFromArray(voxels, isVector=vector)
    made.SetSpacing((0.5, 2.0, 3.25))
    made.SetOrigin((7.5, -8.0, 9.125))
    made.SetDirection(DIRECTION.ravel())
    return made


def affine_of(made: sitk.Image) -> np.ndarray:
    """The affine of an image in RAS+."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(made.GetDirection(), (3, 3)) * made.GetSpacing()
    affine[:3, 3] = made.GetOrigin()
    return LPS @ affine


def expect_image(volume: vq.Volume, path: Path) -> None:
    """SimpleITK finds the same voxels at the same places."""
    oracle = sitk.ReadImage(str(path))
    voxels = sitk.GetArrayFromImage(oracle)
    if oracle.GetNumberOfComponentsPerPixel() > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    assert identical(volume[...], np.ascontiguousarray(voxels))
    assert np.allclose(volume.affine, affine_of(oracle), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_simpleitk(tmp_path: Path, dtype: str, name: str, packed: bool) -> None:
    path = tmp_path / name
    sitk.WriteImage(image(noise((5, 6, 7), dtype)), str(path), packed)
    expect_image(ingest(path, tmp_path), path)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd"])
@pytest.mark.parametrize(("dtype", "channels"), [("u1", 3), ("i2", 2), ("f4", 6), ("f8", 4)])
def test_vectors_of_simpleitk(tmp_path: Path, dtype: str, channels: int, name: str) -> None:
    path = tmp_path / name
    sitk.WriteImage(image(noise((5, 6, 7, channels), dtype), vector=True), str(path), True)
    expect_image(ingest(path, tmp_path), path)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_one_plane_of_simpleitk(tmp_path: Path, name: str) -> None:
    voxels = noise((6, 7), "i2")
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing((2, 3))
    sitk.WriteImage(made, str(tmp_path / name))
    volume = ingest(tmp_path / name, tmp_path)
    assert identical(volume[...], voxels[None])
    assert volume.spacing[1:] == (3, 2)


LINES = {
    "synonyms": "ElementSize = 1 2 3\nPosition = 4 5 6\nRotation = 0 1 0 1 0 0 0 0 1\n",
    "origin": "ElementSpacing = 1 2 3\nOrigin = 4 5 6\n",
    "big": "ElementSpacing=1 2 3\nElementByteOrderMSB=True\n",
    "sheared": "ElementSpacing = 1 2 3\nTransformMatrix = 1 0 0 0.6 0.8 0 0 0 1\n",
    "orientation": "ElementSpacing = 1 2 3\nAnatomicalOrientation = RAS\n",
    "long": "ElementSpacing = 1 2 3\nElementType = MET_LONG\n",
    "skipped": "ElementSpacing = 1 2 3\nHeaderSize = 16\n",
    "tail": "ElementSpacing = 1 2 3\nHeaderSize = -1\n",
    "slope": "ElementSpacing = 1 2 3\nElementToIntensityFunctionSlope = 2\n",
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("data", ["a.raw", "LIST", "s%d.raw 0 4 1"])
def test_headers_of_metaimage(tmp_path: Path, name: str, data: str) -> None:
    voxels = noise((5, 6, 7), "u4" if name == "long" else "u2").tobytes()
    head = bytes(range(16)) if name in ("skipped", "tail") else b""
    (tmp_path / "a.raw").write_bytes(head + voxels)
    each = len(voxels) // 5
    for i in range(5):
        (tmp_path / f"s{i}.raw").write_bytes(head + voxels[i * each : (i + 1) * each])
    lines = (
        LINES[name] if "ElementType" in LINES[name] else LINES[name] + "ElementType = MET_USHORT\n"
    )
    listed = "".join(f"s{i}.raw\n" for i in range(5)) if data == "LIST" else ""
    path = tmp_path / "a.mhd"
    path.write_text(f"NDims = 3\nDimSize = 7 6 5\n{lines}ElementDataFile = {data}\n{listed}")
    volume = ingest(path, tmp_path)
    expect_image(volume, path)
    assert volume.slope == (2 if name == "slope" else 1)


def write_nrrd(path: Path, voxels: np.ndarray, **header: Any) -> Path:
    """Writes voxels ``(…, z, y, x)``, whose last axis is the first of the file."""
    detached = path.suffix == ".nhdr"
    nrrd.write(str(path), voxels, header, detached_header=detached, index_order="C")
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_pynrrd(tmp_path: Path, dtype: str, endian: str, encoding: str, name: str) -> None:
    voxels = noise((5, 6, 7), dtype)
    if encoding == "ascii" and dtype in ("u8", "i8"):
        # pynrrd writes them as float64.
        voxels >>= 12
    voxels = voxels.astype(voxels.dtype.newbyteorder("<>"[endian == "big"]))
    path = write_nrrd(tmp_path / name, voxels, encoding=encoding, endian=endian)
    volume = ingest(path, tmp_path)
    if encoding == "ascii" and voxels.dtype.kind == "f":
        # pynrrd writes fewer digits than a number has.
        voxels = nrrd.read(str(path), index_order="C")[0]
    assert identical(volume[...], voxels.astype(voxels.dtype.newbyteorder("=")))


@pytest.mark.parametrize(
    "space",
    [
        "right-anterior-superior",
        "left-anterior-superior",
        "left-posterior-superior",
        "RAS",
        "LAS",
        "LPS",
        "scanner-xyz",
        "3D-right-handed",
    ],
)
def test_spaces_of_nrrd(tmp_path: Path, space: str) -> None:
    directions = (DIRECTION * [0.5, 2.0, 3.25]).T
    path = write_nrrd(
        tmp_path / "a.nrrd",
        noise((5, 6, 7), "i2"),
        space=space,
        **{"space directions": directions, "space origin": np.array([7.5, -8.0, 9.125])},
    )
    expect_image(ingest(path, tmp_path), path)


STEPS = [
    "",
    "spacings: 1 2 3\n",
    "spacings: 1 nan 3\n",
    "spacings: 1 2 3\naxis mins: 5 6 7\n",
    "spacings: 1 2 3\naxismins: 5 6 7\ncenters: node cell ???\n",
    "spacings: 1 2 3\naxis mins: 5 6 7\ncenterings: node node node\n",
    "space dimension: 3\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (4,5,6)\n",
]


@pytest.mark.parametrize("lines", STEPS)
def test_steps_of_nrrd(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "a.nrrd"
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: big\nencoding: raw\n"
    path.write_bytes(f"{head}{lines}\n".encode() + noise((5, 6, 7), "i2").tobytes())
    expect_image(ingest(path, tmp_path), path)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("kind", ["vector", "list", "RGB-color"])
def test_channels_of_nrrd(tmp_path: Path, place: int, kind: str) -> None:
    voxels = noise((5, 6, 7), "i2")
    stacked = np.stack([voxels, voxels + 1, voxels + 2], axis=place)
    kinds = ["domain", "domain", "domain"]
    # The header begins with the axis that is last here.
    kinds.insert(3 - place, kind)
    path = write_nrrd(tmp_path / "a.nrrd", stacked, kinds=kinds)
    volume = ingest(path, tmp_path)
    assert identical(volume[...], np.moveaxis(stacked, place, 0).copy())


def test_a_segmentation_of_slicer(tmp_path: Path) -> None:
    voxels = (noise((5, 6, 7), "u1") % 3).astype("u1")
    pairs: dict[str, Any] = {
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "tumour",
        "Segment0_Color": "0.5 0.25 1",
        "Segment0_LabelValue": "1",
        "Segment1_Name": "edema",
        "Segment1_LabelValue": "2",
        "Segmentation_SourceRepresentation": "Jane Doe",
    }
    path = write_nrrd(tmp_path / "case.seg.nrrd", voxels, **pairs)
    volume = ingest(path, tmp_path)
    assert volume.kind == "labels"
    assert volume.label_names == {1: "tumour", 2: "edema"}
    assert volume.label_colors[1] == "#8040ff"
    stored = b"".join(p.read_bytes() for p in (tmp_path / "s.zarr").rglob("*") if p.is_file())
    assert b"Doe" not in stored


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz"])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u2", "f4"])
def test_files_of_freesurfer(tmp_path: Path, dtype: str, frames: int, name: str) -> None:
    voxels = noise((7, 6, 5, frames), dtype)
    affine = LPS @ np.array(
        [[0.5, -1.6, 1.95, 7.5], [1, 0, 0, -8], [0, 1.2, 2.6, 9.125], [0, 0, 0, 1]]
    )
    made = nib.MGHImage(voxels if frames > 1 else voxels[..., 0], affine)
    nib.save(made, tmp_path / name)
    check_mgh(tmp_path / name, tmp_path)


def load_mgh(path: Path) -> nib.MGHImage:
    """What nibabel finds in the file, which it would leave open."""
    content = path.read_bytes()
    return nib.MGHImage.from_bytes(gzip.decompress(content) if path.suffix == ".mgz" else content)


def check_mgh(path: Path, tmp_path: Path) -> None:
    oracle = load_mgh(path)
    volume = ingest(path, tmp_path)
    voxels = np.asanyarray(oracle.dataobj)
    voxels = voxels.transpose(2, 1, 0) if voxels.ndim == 3 else voxels.transpose(3, 2, 1, 0)
    assert identical(volume[...], np.ascontiguousarray(voxels.astype(volume.dtype)))
    assert np.array_equal(volume.affine, oracle.affine)


def test_the_file_of_nibabel(tmp_path: Path) -> None:
    check_mgh(Path(nib.__file__).parent / "tests/data/test.mgz", tmp_path)


SHAPES = [(5, 6, 7), (2, 5, 6, 7), (6, 7)]


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("dtype", [*DTYPES, "f2", "?"])
def test_arrays_of_numpy(tmp_path: Path, dtype: str, endian: str, order: str) -> None:
    for shape in SHAPES:
        voxels = noise(shape, "u1" if dtype == "?" else dtype)
        voxels = voxels > 90 if dtype == "?" else voxels
        stored = np.asarray(voxels.astype(voxels.dtype.newbyteorder(endian)), order=order)
        expected = voxels.astype("u1") if dtype == "?" else voxels
        expected = expected[None] if len(shape) == 2 else expected
        np.save(tmp_path / "a.npy", stored)
        assert identical(ingest(tmp_path / "a.npy", tmp_path)[...], expected)
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / "a.npz", ct=stored, spacing=np.ones(3))
            if len(shape) > 2:
                assert identical(ingest(tmp_path / "a.npz", tmp_path)[...], expected)
            assert identical(ingest(f"{tmp_path}/a.npz::ct", tmp_path)[...], expected)


def test_several_arrays_are_volumes_of_a_subject(tmp_path: Path) -> None:
    ct, seg = noise((5, 6, 7), "i2"), (noise((5, 6, 7), "u1") % 3).astype("i8")
    np.savez(tmp_path / "case.npz", ct=ct, seg=seg)
    source, store = tmp_path / "case.npz", tmp_path / "s.zarr"
    dataset = vq.ingest(source, store, spacing=(3, 2, 1))
    assert identical(dataset["case"]["ct"][...], ct)
    assert identical(dataset["case"]["seg"][...], seg)
    assert (dataset["case"]["seg"].kind, dataset["case"]["ct"].spacing) == ("labels", (3, 2, 1))
    assert vq.ingest(source, store, spacing=(3, 2, 1)).report.skipped == ["case"]


def write_plainly(path: Path) -> Path:
    """A volume without a voxel size, in the format of the name's ending."""
    voxels = noise((5, 36, 37), "u1")
    if path.suffix == ".npy":
        np.save(path, voxels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, voxels)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["raw"] = voxels
    elif path.suffix == ".zarr":
        zarr.save_array(path, voxels)
    else:
        path.mkdir()
        for z, plane in enumerate(voxels):
            tifffile.imwrite(path / f"{z}.tif", plane)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.h5", "a.zarr", "planes"])
def test_a_size_of_voxels_that_nobody_states_is_told(tmp_path: Path, name: str) -> None:
    source = write_plainly(tmp_path / name)
    assumed = vq.ingest(source, tmp_path / "assumed.zarr").report.notes
    assert "1 mm is assumed" in " ".join(assumed)
    stated = vq.ingest(source, tmp_path / "stated.zarr", spacing=(3, 2, 1)).report.notes
    assert "assumed" not in " ".join(stated)


@pytest.mark.parametrize(("dtype", "order"), [("<i2", "little"), (">i2", "little"), ("i2", "big")])
def test_voxels_of_a_stated_shape(tmp_path: Path, dtype: str, order: Any) -> None:
    voxels = noise((2, 5, 6, 7), dtype)
    path = tmp_path / "case.raw"
    path.write_bytes(b"head" + voxels.tobytes())
    raw: Any = {"shape": (2, 5, 6, 7), "dtype": dtype, "offset": 4, "byte_order": order}
    volume = ingest(path, tmp_path, raw=raw, spacing=(3, 2, 1))
    expected = voxels.view(">i2") if order == "big" else voxels
    assert identical(volume[...], expected.astype("i2"))
    assert volume.spacing == (3, 2, 1)
    for wrong in ({"shape": (2, 5, 6, 7)}, {**raw, "offset": -1}, {**raw, "shape": (0, 1, 1)}):
        with pytest.raises(vq.UsageError, match="raw"):
            ingest(path, tmp_path, raw=wrong)
    with pytest.raises(vq.DataError, match="844 bytes"):
        ingest(path, tmp_path, raw={**raw, "offset": 5})


@pytest.fixture(scope="module")
def sheared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, vq.Volume]:
    """Volumes of every dtype, with channels and without, whose affine is oblique and sheared."""
    folder = tmp_path_factory.mktemp("sheared")
    affine = affine_of(image(noise((5, 6, 7), "u1"))) @ np.array(
        [[1, 0.25, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    volumes = {}
    for dtype in [*DTYPES, "f2"]:
        volumes[dtype] = noise((5, 6, 7), dtype)
        volumes[f"{dtype}, channels"] = noise((3, 5, 6, 7), dtype)
    arrays = {f"s{i}": {"v": voxels} for i, voxels in enumerate(volumes.values())}
    dataset = vq.ingest(arrays, folder / "s.zarr", affine=affine)
    return {name: dataset[f"s{i}"]["v"] for i, name in enumerate(volumes)}


CASES = [name for dtype in [*DTYPES, "f2"] for name in (dtype, f"{dtype}, channels")]


@pytest.mark.parametrize("case", CASES)
def test_exports_are_read_by_others(
    tmp_path: Path, sheared: dict[str, vq.Volume], case: str
) -> None:
    volume = sheared[case]
    voxels = volume[...]
    np_path = tmp_path / "a.npy"
    vq.export(volume, np_path)
    assert identical(np.load(np_path), voxels)
    widened = voxels.astype("f4") if voxels.dtype == np.float16 else voxels
    for name in ["a.nrrd", "a.nhdr"]:
        vq.export(volume, tmp_path / name)
        found, header = nrrd.read(str(tmp_path / name), index_order="C")
        assert identical(found, widened)
        lps = np.eye(4)
        lps[:3, :3] = header["space directions"][:3].T
        lps[:3, 3] = header["space origin"]
        assert np.allclose(LPS @ lps, volume.affine, rtol=1e-12, atol=1e-12)
    for name in ["a.mha", "a.mhd", "a.nrrd"]:
        if name != "a.nrrd":
            vq.export(volume, tmp_path / name)
        made = sitk.ReadImage(str(tmp_path / name))
        found = sitk.GetArrayFromImage(made)
        if made.GetNumberOfComponentsPerPixel() > 1:
            found = np.moveaxis(found, -1, 0).copy()
        assert identical(found, widened)
        if made.GetDimension() == 3:
            assert np.allclose(affine_of(made), volume.affine, atol=1e-9)
    if widened.dtype.str[1:] in ("u1", "i1", "u2", "i2", "i4", "f4"):
        vq.export(volume, tmp_path / "a.mgz")
        made = load_mgh(tmp_path / "a.mgz")
        found = np.asanyarray(made.dataobj)
        found = found.transpose(2, 1, 0) if found.ndim == 3 else found.transpose(3, 2, 1, 0)
        widened = widened.astype("i2") if widened.dtype == np.int8 else widened
        assert identical(found.astype(widened.dtype).copy(), widened)
        assert np.allclose(made.affine, volume.affine, atol=1e-5)
    else:
        with pytest.raises(vq.UsageError, match="MGH cannot hold"):
            vq.export(volume, tmp_path / "a.mgz")


def test_formats_without_a_slope_hold_real_values(tmp_path: Path) -> None:
    voxels = noise((7, 6, 5), "i2")
    made = nib.Nifti1Image(voxels, np.diag([1, 2, 3, 1]))
    made.header.set_slope_inter(0.5, -1024)
    nib.save(made, tmp_path / "a.nii")
    volume = ingest(tmp_path / "a.nii", tmp_path)
    real = (volume[...] * volume.slope + volume.intercept).astype("f4")
    vq.export(volume, tmp_path / "b.mha")
    assert identical(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.mha"))), real)
