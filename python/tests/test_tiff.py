"""TIFF files as sources; tifffile is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

import voxquarry as vq

SHAPE = (5, 37, 50)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def voxels(dtype: str = "u2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(7).normal(90, 30, shape)
    return np.clip(values, 0, 127).astype(dtype)


def write(path: Path, data: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, data, **options)
    return path


def ingest(source: Any, tmp_path: Path, **options: Any) -> vq.Dataset:
    return vq.ingest(source, tmp_path / "s.zarr", patch_size=16, **options)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str, order: str, bigtiff: bool) -> None:
    data = voxels(dtype)
    path = write(tmp_path / "a.tif", data, byteorder=order, bigtiff=bigtiff)
    volume = ingest(path, tmp_path)["a"]["image"]
    assert volume.dtype == data.dtype
    assert np.array_equal(volume[...], data)


COMPRESSIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "lzw, differences": {"compression": "lzw", "predictor": 2},
    "deflate": {"compression": "zlib"},
    "deflate, differences": {"compression": "zlib", "predictor": 2},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("cut", [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}])
@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4"])
def test_compressions(
    tmp_path: Path, dtype: str, name: str, cut: dict[str, Any], order: str
) -> None:
    data = voxels(dtype)
    path = write(tmp_path / "a.tif", data, byteorder=order, **cut, **COMPRESSIONS[name])
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("cut", [{}, {"tile": (16, 32)}])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_predictor_of_floats(tmp_path: Path, dtype: str, cut: dict[str, Any], order: str) -> None:
    data = np.random.default_rng(1).normal(0, 1, SHAPE).astype(dtype)
    options = {"compression": "zlib", "predictor": 3, "byteorder": order}
    path = write(tmp_path / "a.tif", data, **options, **cut)
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "predictor": 2, "tile": (16, 16)}])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours(tmp_path: Path, dtype: str, options: dict[str, Any], planar: str) -> None:
    """Three samples, in one plane or in three (of which other readers take the first)."""
    data = voxels(dtype, (5, 37, 50, 3))
    stored = data if planar == "contig" else np.moveaxis(data, -1, 1)
    path = write(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **options)
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], np.moveaxis(data, -1, 0))


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_values_are_those_that_are_stored(tmp_path: Path, photometric: str) -> None:
    data = voxels("u1")
    path = write(tmp_path / "a.tif", data, photometric=photometric)
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)


def test_masks_of_bits(tmp_path: Path) -> None:
    data = voxels() > 90
    path = write(tmp_path / "a.tif", data)
    assert np.array_equal(tifffile.imread(path), data)
    volume = ingest(path, tmp_path)["a"]["image"]
    assert volume.dtype == np.uint8
    assert np.array_equal(volume[...], data)


def test_jpeg(tmp_path: Path) -> None:
    """The inverse cosine transform is not rounded alike everywhere."""
    z, y, x = np.indices((3, 64, 96))
    data = (100 + 40 * np.sin(z + y / 9) * np.cos(x / 11)).astype("u1")
    options = {"compression": "jpeg", "tile": (32, 32)}
    path = write(tmp_path / "a.tif", data, photometric="minisblack", **options)
    found = ingest(path, tmp_path)["a"]["image"][...]
    assert np.abs(found.astype(int) - tifffile.imread(path)).max() <= 2
    rgb = np.stack([data, data[:, ::-1], 200 - data], -1)
    path = write(tmp_path / "b.tif", rgb, photometric="rgb", **options)
    found = np.moveaxis(ingest(path, tmp_path)["b"]["image"][...], 0, -1)
    assert np.abs(found.astype(int) - tifffile.imread(path)).max() <= 4


@pytest.mark.parametrize("order", "<>")
def test_hyperstacks_of_imagej(tmp_path: Path, order: str) -> None:
    data = voxels("u2", (4, 3, 20, 30))
    metadata = {"axes": "ZCYX", "spacing": 2.5, "unit": "um"}
    resolution = (1 / 0.25, 1 / 0.5)
    path = write(
        tmp_path / "a.tif",
        data,
        imagej=True,
        resolution=resolution,
        metadata=metadata,
        byteorder=order,
    )
    volume = ingest(path, tmp_path)["a"]["image"]
    assert np.array_equal(volume[...], np.moveaxis(data, 1, 0))
    assert volume.unit == "micrometer"
    assert np.allclose(volume.spacing, (2.5, 0.5, 0.25))


def test_one_page_for_a_whole_stack(tmp_path: Path) -> None:
    """Beyond 4 GiB ImageJ writes one page; here a small file is made like that."""
    data = voxels("u2", (6, 20, 30))
    path = write(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        first = file.pages[0]
        assert len(file.pages) == 6
        at = first.offset + 2 + 12 * len(first.tags)
    content = bytearray(path.read_bytes())
    content[at : at + 4] = bytes(4)
    path.write_bytes(bytes(content))
    assert np.array_equal(ingest(path, tmp_path)["a"]["image"][...], data)
    path.write_bytes(bytes(content[: first.dataoffsets[0] + data.nbytes - 2]))
    with pytest.raises(vq.DataError, match="6 pages, it has 1"):
        ingest({"b": {"ct": path}}, tmp_path)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZYX", (4, 20, 30), "zyx"),
        ("CZYX", (2, 4, 20, 30), "czyx"),
        ("ZCYX", (4, 2, 20, 30), "zcyx"),
        ("TYX", (4, 20, 30), "zyx"),
        ("TZCYX", (1, 4, 2, 20, 30), "1zcyx"),
    ],
)
@pytest.mark.parametrize("ome", [False, True])
def test_axes(tmp_path: Path, axes: str, shape: tuple[int, ...], expected: str, ome: bool) -> None:
    data = voxels("u2", shape)
    metadata: dict[str, Any] = {"axes": axes}
    if ome:
        metadata |= {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
        metadata |= {"PhysicalSizeZ": 2000.0, "PhysicalSizeZUnit": "nm"}
    name = "a.ome.tif" if ome else "a.tif"
    path = write(tmp_path / name, data, ome=ome, metadata=metadata, photometric="minisblack")
    subject = ingest(path, tmp_path)["a"]
    wanted = np.einsum(f"{expected.replace('1', 't')}->{'c' * ('c' in expected)}zyx", data)
    assert np.array_equal(subject["image"][...], wanted)
    if ome:
        assert subject["image"].unit == "micrometer"
        assert np.allclose(subject["image"].spacing, (2.0, 0.5, 0.25))


@pytest.mark.parametrize("shape", [(2, 6, 20, 30), (6, 2, 20, 30)])
def test_axes_without_names(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = voxels("u2", shape)
    path = write(tmp_path / "a.tif", data, photometric="minisblack")
    ds = ingest(path, tmp_path)
    wanted = data if shape[0] == 2 else np.moveaxis(data, 1, 0)
    assert np.array_equal(ds["a"]["image"][...], wanted)
    assert any("2 is taken for channels" in note for note in ds.report.notes)


def test_ome_in_several_files(tmp_path: Path) -> None:
    data = voxels("u2", (2, 4, 20, 30))
    parts = [
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="4"><UUID FileName="c{c}.ome.tif">'
        f"urn:uuid:0000000{c}-0000-0000-0000-000000000000</UUID></TiffData>"
        for c in range(2)
    ]
    pixels = (
        'DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="4" SizeC="2" SizeT="1"'
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" {pixels}>{"".join(parts)}</Pixels></Image></OME>'
    )
    options = {"metadata": None, "photometric": "minisblack"}
    for c in range(2):
        write(tmp_path / f"c{c}.ome.tif", data[c], description=xml, **options)
    for name in ("c0", "c1"):
        volume = ingest(tmp_path / f"{name}.ome.tif", tmp_path)[name]["image"]
        assert np.array_equal(volume[...], data)
    outside = xml.replace("c1.ome.tif", "../c1.ome.tif")
    write(tmp_path / "d.ome.tif", data[0], description=outside, **options)
    with pytest.raises(vq.DataError, match="no file beside it"):
        ingest(tmp_path / "d.ome.tif", tmp_path)


def test_several_images_and_pyramids(tmp_path: Path) -> None:
    data = voxels("u2", (4, 64, 64))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for name, part in (("first", data), ("second", data + 1), ("third", data[:2])):
            metadata = {"axes": "ZYX", "Name": name}
            file.write(part, metadata=metadata, subifds=1, photometric="minisblack")
            file.write(part[:, ::2, ::2], subfiletype=1, photometric="minisblack")
    ds = ingest(tmp_path / "a.ome.tif", tmp_path)
    # The third lies on another grid.
    assert {name: list(ds[name]) for name in ds} == {"a": ["first", "second"], "a_third": ["third"]}
    assert np.array_equal(ds["a"]["second"][...], data + 1)
    assert np.array_equal(ds["a_third"]["third"][...], data[:2])
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(data, photometric="minisblack")
        file.write(data[0, ::2, ::2], subfiletype=1)
    ds = ingest(tmp_path / "b.tif", tmp_path)
    assert np.array_equal(ds["b"]["image"][...], data)
    assert any("1 pages of another size" in note for note in ds.report.notes)


@pytest.mark.parametrize("ending", ["tif", "png"])
@pytest.mark.parametrize("shape", [(12, 20, 30), (12, 20, 30, 3)])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_folders_of_planes(tmp_path: Path, dtype: str, shape: tuple[int, ...], ending: str) -> None:
    data = voxels(dtype, shape)
    folder = tmp_path / "em"
    folder.mkdir()
    for z, plane in enumerate(data):
        if ending == "tif":
            photometric = "rgb" if len(shape) == 4 else "minisblack"
            write(folder / f"z{z}.tif", plane, photometric=photometric, metadata=None)
        else:
            (folder / f"z{z}.png").write_bytes(imagecodecs.png_encode(plane))
    wanted = np.moveaxis(data, -1, 0) if len(shape) == 4 else data
    ds = ingest(folder, tmp_path)
    assert np.array_equal(ds["em"]["image"][...], wanted)
    assert any("12 files are its planes, from z0" in note for note in ds.report.notes)
    subject = ingest({"named": {"em": folder}}, tmp_path)["named"]
    assert np.array_equal(subject["em"][...], wanted)
    write(folder / "z12.tif", np.zeros((9, 30), dtype), photometric="minisblack", metadata=None)
    with pytest.raises(vq.DataError, match="z12.tif: this plane is"):
        ingest({"other": {"em": folder}}, tmp_path)


def test_folders_of_stacks_are_folders_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    for name in ("one", "two"):
        write(folder / f"{name}.tif", voxels(), photometric="minisblack")
    assert list(ingest(folder, tmp_path)) == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": voxels("u2", (3, 4, 20, 30)), "metadata": {"axes": "TZYX"}}, "3 times"),
        ({"data": voxels("f4").astype("c8")}, "complex"),
        ({"data": voxels("u1"), "compression": "jpeg2000"}, "JPEG 2000"),
        ({"data": voxels("u1"), "compression": "lerc"}, "LERC"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.tif", photometric="minisblack", **options)
    with pytest.raises(vq.Error, match=message):
        ingest(path, tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Cut at 50 places, a byte changed at 150: an error or some voxels, never a crash."""
    path = write(tmp_path / "a.tif", voxels(), compression="lzw", tile=(16, 32))
    whole, random = path.read_bytes(), np.random.default_rng(3)
    damaged = [whole[: len(whole) * i // 50] for i in range(50)]
    for at in random.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[at] ^= int(random.integers(1, 256))
        damaged.append(bytes(flipped))
    refused = 0
    for i, content in enumerate(damaged):
        (tmp_path / "b.tif").write_bytes(content)
        store = tmp_path / f"s{i}.zarr"
        try:
            vq.ingest(tmp_path / "b.tif", store, patch_size=16, memory_bytes="200MiB")
        except vq.Error:
            refused += 1
            assert not (store / "b").exists()
    assert refused >= 50


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.btf"])
@pytest.mark.parametrize("shape", [SHAPE, (3, *SHAPE), (1, 9, 11)])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_export(tmp_path: Path, dtype: str, shape: tuple[int, ...], name: str) -> None:
    """tifffile reads what was exported, axes and sizes too; ingest gives the volume back."""
    data = voxels(dtype, shape)
    source = {"s": {"ct": data}}
    volume = ingest(source, tmp_path, spacing=(2.5, 0.5, 0.25))["s"]["ct"]
    vq.export(volume, tmp_path / name)
    with tifffile.TiffFile(tmp_path / name) as file:
        assert file.is_bigtiff == (name == "a.btf")
        series = file.series[0]
        found, axes = series.asarray(), series.axes
        assert file.is_imagej == (name == "a.tif" and dtype in ("u1", "u2", "f2", "f4"))
    wanted = {"ZCYX": "czyx->zcyx", "CZYX": "czyx->czyx", "ZYX": "zyx->zyx"}.get(axes)
    expected = np.einsum(wanted, data) if wanted else data.reshape(found.shape)
    assert np.array_equal(found, expected)
    again = ingest({"again": {"ct": tmp_path / name}}, tmp_path)["again"]["ct"]
    assert np.array_equal(again[...], data)
    assert np.allclose(again.spacing, (2.5, 0.5, 0.25), rtol=1e-6)
    assert again.unit == "millimeter"


def test_export_of_other_types(tmp_path: Path) -> None:
    volume = ingest({"s": {"ct": voxels("i8")}}, tmp_path)["s"]["ct"]
    with pytest.raises(vq.UsageError, match="no int64"):
        vq.export(volume, tmp_path / "a.tif")
    assert not (tmp_path / "a.tif").exists()
