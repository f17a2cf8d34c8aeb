"""reader.py reads the golden stores as their README says and refuses what it must."""

import json
import os
import shutil
import struct
from pathlib import Path

import frames
import numpy as np
import pytest
import reader
from golden_store import (
    GOLDEN,
    SUMMARY,
    V1,
    f64,
    relist,
    relist_shards,
    seal,
    sealed,
    volume_of,
    with_contents,
)
from numcodecs import zstd

DELETE = object()


def open_all(path: Path) -> None:
    """Opens every volume."""
    opened = reader.open_store(path)
    for subject in opened.subjects:
        assert opened[subject]


def read_all(path: Path) -> None:
    """Reads everything, for tests that expect a refusal."""
    opened = reader.open_store(path)
    for subject in opened.subjects:
        for volume in opened[subject].values():
            volume.array()
            if volume.kind == "labels":
                volume.label_counts()


@pytest.mark.parametrize("cross_check", [False, True])
def test_golden_voxels(monkeypatch: pytest.MonkeyPatch, cross_check: bool) -> None:
    monkeypatch.setattr(frames, "CROSS_CHECK", cross_check)
    opened = reader.open_store(V1)
    assert opened.subjects == sorted(GOLDEN)
    for subject, volumes in GOLDEN.items():
        found = opened[subject]
        assert sorted(found) == sorted(volumes)
        for name, expected in volumes.items():
            array = found[name].array()
            assert array.dtype == expected.dtype and array.shape == expected.shape, name
            assert array.tobytes() == expected.tobytes(), name  # Bytes: NaN and -0.0 count too.


def test_golden_metadata() -> None:
    volumes = reader.open_store(V1)["grid"]
    affine = [[-2, 0.125, 0, 90], [0, 1.5, 0.25, -126], [0, 0, 0.5, -72], [0, 0, 0, 1]]
    for volume in volumes.values():
        assert volume.affine.tolist() == affine
        assert volume.attributes["patch_sizes"] == [[4, 8, 16]]
    assert (volumes["i16"].attributes["slope"], volumes["i16"].attributes["intercept"]) == (
        0.5,
        -1024,
    )
    assert volumes["u8"].attributes["source"]["origin"] == {"format": "golden"}
    figures = volumes["f64"].attributes["statistics"]
    finite = f64()[np.isfinite(f64())]
    assert (figures["voxels"], figures["non_finite"]) == (1200, 3)
    assert (figures["min"], figures["max"]) == (0, finite.max())
    assert (
        abs(figures["mean"] - finite.mean()) < 1e-12 and abs(figures["std"] - finite.std()) < 1e-12
    )


def test_golden_label_counts() -> None:
    volume = reader.open_store(V1)["grid"]["labels-i32"]
    voxels, expected = GOLDEN["grid"]["labels-i32"], []
    for z, y, x in np.ndindex(2, 2, 2):
        chunk = voxels[4 * z : 4 * z + 4, 8 * y : 8 * y + 8, 16 * x : 16 * x + 16]
        labels, counts = np.unique(chunk[chunk != 0], return_counts=True)
        expected.append(dict(zip(labels.tolist(), counts.tolist(), strict=True)))
    assert volume.label_counts() == expected
    assert reader.open_store(V1)["one voxel"]["labels-f32"].label_counts() == [{7: 1}]
    with pytest.raises(reader.Refused, match="only label maps"):
        reader.open_store(V1)["grid"]["u8"].label_counts()


def test_golden_names_and_splits() -> None:
    store = reader.open_store(V1.with_name("v1-names"))
    assert store.splits() == {"fold_0_val": ["grid"], "train": ["grid"]}
    assert store["grid"]["labels-i32"].labels == [
        {"ids": [3], "name": "liver", "color": "#ff8000"},
        {"ids": [-7, 3], "name": "abdomen"},
    ]
    assert store["grid"]["labels-i32"].array().tobytes() == GOLDEN["grid"]["labels-i32"].tobytes()
    plain = reader.open_store(V1)
    assert plain.splits() == {} and plain["grid"]["u8"].labels == []


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert reader.main(["--blosc", str(V1)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13
    assert reader.main([str(V1), "one voxel", "f32"]) == 0
    assert "float32 (1, 1, 1)" in capsys.readouterr().out
    assert reader.main([str(V1), "one voxel", "f23"]) == 3
    assert reader.main([str(V1 / "nowhere")]) == 3
    assert reader.main([]) == 2


def test_crc32c_without_the_fast_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    assert reader.crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value.


# Metadata that must be refused.

ROOT, SUBJECT, VOLUME, LEVEL = "", "grid", "grid/u16", "grid/u16/0"
OWN = ("attributes", "voxquarry")
OME = ("attributes", "ome", "multiscales", 0)
SHARDING = ("codecs", 0, "configuration")
BAD_METADATA = [
    (ROOT, ("zarr_format",), 2),
    (ROOT, ("node_type",), "array"),
    (ROOT, OWN, DELETE),
    (ROOT, ("surprise",), 1),
    (ROOT, (*OWN, "node"), "subject"),
    (ROOT, (*OWN, "version"), 2),
    (ROOT, (*OWN, "version"), DELETE),
    (ROOT, (*OWN, "version"), True),
    (ROOT, (*OWN, "version"), "1"),
    (ROOT, (*OWN, "version"), 1.0),
    (ROOT, (*OWN, "reader_features"), ["levels"]),
    (ROOT, (*OWN, "reader_features"), DELETE),
    (ROOT, (*OWN, "writer_features"), DELETE),
    (ROOT, (*OWN, "writer_features"), "none"),
    (SUBJECT, (*OWN, "node"), "volume"),
    (SUBJECT, OWN, []),
    *((SUBJECT, (*OWN, "name"), name) for name in (DELETE, "one voxel")),
    (VOLUME, (*OWN, "node"), "dataset"),
    (VOLUME, (*OWN, "version"), 0),
    (VOLUME, (*OWN, "reader_features"), ["x"]),
    *(
        (VOLUME, (*OWN, key), DELETE)
        for key in (
            "kind",
            "affine",
            "affine_index_order",
            "slope",
            "intercept",
            "patch_sizes",
            "codec",
            "statistics",
            "shard_files",
            "shards_crc32c",
        )
    ),
    (VOLUME, (*OWN, "kind"), "mesh"),
    (VOLUME, (*OWN, "affine_index_order"), "zyx"),
    (VOLUME, (*OWN, "affine"), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    (VOLUME, (*OWN, "affine", 0, 0), None),
    (VOLUME, (*OWN, "affine", 3), [0, 0, 0, 2]),
    (VOLUME, (*OWN, "affine", 3), [0, 0, 1, 1]),
    (VOLUME, (*OWN, "affine", 2), [0, 0, 0, 5]),
    (VOLUME, (*OWN, "affine", 1), [-4, 0.25, 0, 9]),
    (VOLUME, (*OWN, "affine", 0, 0), float("nan")),
    (VOLUME, (*OWN, "affine", 0, 0), float("inf")),
    (VOLUME, (*OWN, "slope"), "1"),
    (VOLUME, (*OWN, "intercept"), None),
    (VOLUME, (*OWN, "codec"), "best"),
    (VOLUME, (*OWN, "patch_sizes"), [4, 8, 16]),
    (VOLUME, (*OWN, "shard_files"), -1),
    (VOLUME, (*OWN, "shard_files"), 3),
    (VOLUME, (*OWN, "statistics", "std"), DELETE),
    (VOLUME, (*OWN, "statistics", "voxels"), 1199),
    (VOLUME, (*OWN, "source"), "file"),
    (VOLUME, ("attributes", "ome", "version"), "0.4"),
    (VOLUME, ("attributes", "ome"), DELETE),
    (VOLUME, ("attributes", "ome", "multiscales"), []),
    (VOLUME, (*OME, "axes", 0, "name"), "t"),
    (VOLUME, (*OME, "axes", 2, "unit"), "parsec"),
    (VOLUME, (*OME, "datasets", 0, "path"), "1"),
    (LEVEL, ("zarr_format",), 2),
    (LEVEL, ("node_type",), "group"),
    (LEVEL, ("surprise",), {"a": 1}),
    (LEVEL, ("shape",), [6, 10]),
    (LEVEL, ("shape",), [6, 0, 20]),
    (LEVEL, ("shape",), [6, 10, -20]),
    (LEVEL, ("shape",), [6, 10, 20.0]),
    (LEVEL, ("shape",), [1, 6, 10, 20]),
    (LEVEL, ("shape",), [6, 10, (1 << 40) + 1]),
    (LEVEL, ("shape",), [1 << 21, 1 << 20, 1 << 20]),
    (LEVEL, ("shape",), [6, 10, 21]),
    *(
        (LEVEL, ("data_type",), name)
        for name in ("int16x", "bool", "complex64", "<u2", ["uint16"], {"name": "uint16"})
    ),
    (LEVEL, ("chunk_grid", "name"), "rectilinear"),
    (LEVEL, ("chunk_grid", "configuration", "chunk_shape"), [4, 16]),
    (LEVEL, ("chunk_grid", "configuration", "chunk_shape"), [4, 16, 33]),
    (LEVEL, ("chunk_grid", "configuration", "chunk_shape"), [256, 1024, 1024]),
    (LEVEL, ("chunk_key_encoding", "name"), "v2"),
    (LEVEL, ("chunk_key_encoding", "configuration", "separator"), "."),
    *(
        (LEVEL, ("fill_value",), value)
        for value in (1, -0.0, None, False, "0", float("nan"), DELETE)
    ),
    (LEVEL, ("dimension_names",), DELETE),
    (LEVEL, ("dimension_names",), ["x", "y", "z"]),
    (LEVEL, ("dimension_names",), ["c", "z", "y", "x"]),
    (LEVEL, ("storage_transformers",), [{"name": "x"}]),
    (LEVEL, ("codecs",), []),
    (LEVEL, ("codecs", 0, "name"), "bytes"),
    (LEVEL, ("codecs", 1), {"name": "gzip", "configuration": {"level": 1}}),
    *(
        (LEVEL, (*SHARDING, "chunk_shape"), shape)
        for shape in ([4, 8], [0, 8, 16], [3, 8, 16], [4, 32, 16], ["4", 8, 16])
    ),
    (LEVEL, (*SHARDING, "index_location"), "start"),
    (LEVEL, (*SHARDING, "index_location"), DELETE),
    (LEVEL, (*SHARDING, "index_codecs", 1), DELETE),
    (LEVEL, (*SHARDING, "index_codecs", 0, "configuration", "endian"), "big"),
    (LEVEL, (*SHARDING, "codecs", 0, "configuration", "endian"), "big"),
    (LEVEL, (*SHARDING, "codecs", 0, "configuration"), DELETE),
    (LEVEL, (*SHARDING, "codecs", 2), DELETE),
    (LEVEL, (*SHARDING, "codecs", 1, "name"), "zstd"),
    (LEVEL, (*SHARDING, "codecs", 1, "configuration", "cname"), "blosclz"),
    (LEVEL, (*SHARDING, "codecs", 1, "configuration", "shuffle"), "delta"),
    (LEVEL, (*SHARDING, "codecs", 1, "configuration", "typesize"), 4),
    (SUMMARY, ("node_type",), "array"),
    (f"{SUMMARY}/offsets", ("shape",), [8]),
    (f"{SUMMARY}/labels", ("shape",), [13]),
    (f"{SUMMARY}/counts", ("data_type",), "int32"),
    (f"{SUMMARY}/counts", ("codecs", 1, "name"), "gzip"),
    (f"{SUMMARY}/labels", ("chunk_grid", "configuration", "chunk_shape"), [65535]),
    (f"{SUMMARY}/labels", ("codecs", 0, "configuration", "endian"), "big"),
]


def edit(folder: Path, pointer: tuple[str | int, ...], value: object) -> None:
    """Sets, appends or deletes one value of a zarr.json."""
    path = folder / "zarr.json"
    document = node = json.loads(path.read_text())
    for key in pointer[:-1]:
        node = node[key]
    if value is DELETE:
        del node[pointer[-1]]
    elif isinstance(node, list) and pointer[-1] == len(node):
        node.append(value)
    else:
        node[pointer[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("folder", "pointer", "value"), BAD_METADATA, ids=lambda v: str(v).replace("/", ".")
)
def test_metadata_outside_the_profile_is_refused(
    store: Path, folder: str, pointer: tuple, value: object
) -> None:
    edit(store / folder, pointer, value)
    relist(store)
    with pytest.raises(reader.Refused, match="^(?!.*(seal|subject lists))"):
        read_all(store)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff{}", b"null", b"[" * 100_000, b'{"zarr_format": 3, "x": NaN}']
)
@pytest.mark.parametrize("folder", [ROOT, SUBJECT, VOLUME, LEVEL])
def test_documents_that_are_not_json_objects_are_refused(
    store: Path, folder: str, text: bytes
) -> None:
    (store / folder / "zarr.json").write_bytes(text)
    with pytest.raises(reader.Refused):
        read_all(store)


def test_long_documents_are_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reader.LIMITS, "metadata_bytes", 3000)
    read_all(store)
    document = store / "zarr.json"
    document.write_bytes(document.read_bytes() + b" " * 3000)
    with pytest.raises(reader.Refused, match="longer"):
        read_all(store)


def test_what_does_not_matter_is_ignored(store: Path) -> None:
    edit(store, (*OWN, "writer_features"), ["levels"])
    edit(store / VOLUME, (*OWN, "surprise"), {"a": [1]})
    edit(store / VOLUME, ("attributes", "other"), 1)
    edit(store / LEVEL, ("surprise",), {"must_understand": False})
    # One byte has no order.
    edit(store / "grid/u8/0", (*SHARDING, "codecs", 0, "configuration"), DELETE)
    for name in ("__old", ".voxquarry-partial"):
        shutil.copytree(store / "grid", store / name)
    (store / "notes").mkdir()
    relist(store)
    shutil.copytree(store / "grid" / "u8", store / "grid" / "unlisted")
    assert reader.open_store(store).subjects == sorted(GOLDEN)
    found = reader.read(store)
    assert all((found["grid"][k].tobytes() == v.tobytes()) for k, v in GOLDEN["grid"].items())


def test_subjects_on_two_grids_are_refused(store: Path) -> None:
    shutil.copytree(store / "one voxel" / "f32", store / "grid" / "small")
    relist(store)
    with pytest.raises(reader.Refused, match="grids"):
        read_all(store)


# Shards that must be refused.


def test_every_truncation_is_refused(store: Path) -> None:
    volume = volume_of(store, "u8")
    shard = volume.shard_path((0, 0, 0))
    whole = shard.read_bytes()
    for length in range(len(whole)):
        shard.write_bytes(whole[:length])
        with pytest.raises(reader.Refused):
            volume.array()


def test_every_flipped_bit_is_refused(store: Path) -> None:
    volume = volume_of(store, "u8")
    shard = volume.shard_path((0, 0, 0))
    whole = shard.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(damaged)
        with pytest.raises(reader.Refused):
            volume.array()


def test_a_lost_subject_is_listed(store: Path) -> None:
    (store / "grid/zarr.json").unlink()
    with pytest.raises(reader.Refused):
        read_all(store)


def test_a_lost_shard_is_refused(store: Path) -> None:
    volume = volume_of(store, "u8")
    volume.shard_path((1, 0, 0)).unlink()
    with pytest.raises(reader.Refused, match="listed, and missing"):
        volume.array()
    relist_shards(volume)
    volume.attributes["shard_files"] += 1
    with pytest.raises(reader.Refused, match="shards have a file"):
        volume.array()


@pytest.mark.parametrize("folder", [ROOT, SUBJECT, VOLUME, LEVEL, "one voxel"])
def test_every_flipped_bit_of_a_document_is_refused(store: Path, folder: str) -> None:
    path = store / folder / "zarr.json"
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 29):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(reader.Refused):
            open_all(store)


def test_documents_without_a_right_seal_are_refused(store: Path) -> None:
    for folder in (store, store / "grid"):
        whole = (folder / "zarr.json").read_bytes()
        for value in (DELETE, "", "0" * 8, "F" * 8, 7, None):
            edit(folder, (*OWN, "crc32c"), value)
            with pytest.raises(reader.Refused, match="seal"):
                read_all(store)
        (folder / "zarr.json").write_bytes(whole)
    read_all(store)


@pytest.mark.parametrize("lost", ["u16", "u16/zarr.json", "u16/0", "u16/0/zarr.json", "u16/shards"])
def test_lost_parts_of_a_listed_volume_are_refused(store: Path, lost: str) -> None:
    path = store / "grid" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(reader.Refused, match="missing"):
        read_all(store)


def test_lists_of_volumes_outside_the_profile_are_refused(store: Path) -> None:
    sums = {"group_crc32c": 1, "level_crc32c": 2}
    for volumes in ([], None, {"../u8": sums}, {"u8": {}}, {"u8": {**sums, "level_crc32c": -1}}):
        seal(store / "grid", volumes=volumes)
        with pytest.raises(reader.Refused, match="volumes|no name"):
            read_all(store)


def test_shards_in_another_place_are_refused(store: Path) -> None:
    volume, other = volume_of(store, "u8"), volume_of(store, "i8")
    first, second = (volume.shard_path((z, 0, 0)) for z in (0, 1))
    ours, theirs = first.read_bytes(), second.read_bytes()
    first.write_bytes(theirs)
    second.write_bytes(ours)
    with pytest.raises(reader.Refused, match="not the shard"):
        volume.array()
    second.write_bytes(theirs)
    first.write_bytes(other.shard_path((0, 0, 0)).read_bytes())
    with pytest.raises(reader.Refused, match="not the shard"):
        volume.array()


def test_a_file_that_is_not_listed_is_ignored(store: Path) -> None:
    volume = volume_of(store, "labels-i32")
    path = volume.shard_path((0, 0, 0))
    path.parent.mkdir(parents=True)
    path.write_bytes(volume.shard_path((1, 0, 0)).read_bytes())
    assert (volume.array() == GOLDEN["grid"]["labels-i32"]).all()


def test_another_list_of_shards_is_refused(store: Path) -> None:
    volume = volume_of(store, "u8")
    path = store / "grid/u8/shards"
    whole = (path / "c/0").read_bytes()
    (path / "c/0").write_bytes(sealed(zstd.compress(bytes(8 << 16))))
    with pytest.raises(reader.Refused, match="another one"):
        volume.array()
    (path / "c/0").write_bytes(whole)
    edit(path, ("shape",), [3])
    with pytest.raises(reader.Refused, match="3 elements"):
        volume.array()


def test_links_and_fifos_are_refused(store: Path) -> None:
    places = ("zarr.json", "grid/zarr.json", "grid/u16/0/zarr.json", "grid/u16/0/c/0/0/0", "grid")
    for place in (*places, "grid/u16", "grid/u16/0"):
        path, moved = store / place, store.with_name("moved")
        path.rename(moved)
        path.symlink_to(moved)
        with pytest.raises(reader.Refused):
            read_all(store)
        path.unlink()
        if moved.is_file():
            os.mkfifo(path)
            with pytest.raises(reader.Refused, match="no regular file"):
                read_all(store)
            path.unlink()
        moved.rename(path)
    read_all(store)


@pytest.mark.parametrize(
    "entry",
    [
        (0, 4),
        (0, 0),
        (0, 1 << 20),
        (1 << 20, 5),
        ((1 << 64) - 1, 5),
        ((1 << 64) - 5, 5),
        ((1 << 64) - 4, 5),
        (0, (1 << 64) - 1),
        (353, 5),
    ],
)
def test_index_entries_outside_the_file_are_refused(store: Path, entry: tuple[int, int]) -> None:
    volume = volume_of(store, "u8")
    shard = volume.shard_path((0, 0, 0))
    data = shard.read_bytes()
    end = len(data) - 16 * 4 - 4
    index = struct.pack("<2Q", *entry) + data[end + 16 : -4]
    shard.write_bytes(data[:end] + sealed(index))
    relist_shards(volume)
    with pytest.raises(reader.Refused, match="before the index"):
        volume.array()


def one_chunk(volume: reader.Volume, payload: bytes) -> None:
    """Makes `payload` and its crc32c the only chunk of the volume's first shard."""
    slots = int(np.prod(volume.chunks_of_shard))
    index = struct.pack("<2Q", 0, len(payload) + 4) + b"\xff" * 16 * (slots - 1)
    chunk = sealed(payload)
    shard = with_contents(chunk, index, chunk[-4:])
    volume.shard_path((0,) * len(volume.shape)).write_bytes(shard)
    relist_shards(volume)


def first_frame(volume: reader.Volume) -> bytes:
    """The frame of the first chunk of the volume's first shard."""
    data = volume.shard_path((0,) * len(volume.shape)).read_bytes()
    end = len(data) - 16 * int(np.prod(volume.chunks_of_shard)) - 4
    offset, nbytes = struct.unpack_from("<2Q", data, end)
    return data[offset : offset + nbytes - 4]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 1),
        (0, 3),
        (1, 2),
        (2, 0x25),
        (2, 0x29),
        (2, 0x01),
        (2, 0x41),
        (2, 0x61),
        (3, 1),
        (3, 4),
        (4, 1),
        (5, 0),
        (8, 1),
        (11, 0x80),
        (12, 0),
        (13, 0x10),
        (16, 0),
        (16, 0xF0),
        (19, 0xFF),
        (24, 0xFF),
        (27, 0xFF),
        (27, 0x7F),
    ],
)
def test_frames_that_break_section_6_are_refused(store: Path, at: int, value: int) -> None:
    volume = volume_of(store, "i16")
    frame = bytearray(first_frame(volume))
    one_chunk(volume, bytes(frame))
    volume.array()
    frame[at] = value
    one_chunk(volume, bytes(frame))
    with pytest.raises(reader.Refused):
        volume.array()


@pytest.mark.parametrize("name", ["u8", "u16", "i16", "u64", "f32"])
def test_no_frame_is_more_than_refused(store: Path, name: str) -> None:
    volume = volume_of(store, name)
    frame, refused = first_frame(volume), 0
    for at in range(len(frame)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, frame[at] ^ 1):
            damaged = frame[:at] + bytes([value]) + frame[at + 1 :]
            try:
                out = frames.decode_frame(
                    damaged, 512 * volume.dtype.itemsize, volume.dtype.itemsize, "frame"
                )
            except reader.Refused:
                refused += 1
            else:
                assert len(out) == 512 * volume.dtype.itemsize
    assert refused > 100
    for length in range(len(frame)):
        with pytest.raises(reader.Refused):
            frames.decode_frame(
                frame[:length], 512 * volume.dtype.itemsize, volume.dtype.itemsize, "frame"
            )


def test_stored_frames_of_another_length_are_refused(store: Path) -> None:
    volume = volume_of(store, "u8")
    stored = struct.pack("<4B3I", 2, 1, 0x32, 1, 512, 512, 16 + 512) + bytes(512)
    one_chunk(volume, stored)
    volume.array()
    for wrong in (
        struct.pack("<4B3I", 2, 1, 0x32, 1, 512, 512, 16 + 511) + bytes(511),
        struct.pack("<4B3I", 2, 1, 0x32, 1, 512, 512, 16 + 513) + bytes(513),
    ):
        one_chunk(volume, wrong)
        with pytest.raises(reader.Refused):
            volume.array()


def test_streams_that_say_too_much_of_themselves_are_refused() -> None:
    for length, format_ in ((10_000_000, 4), (100, 4), (99, 4), (101, 4)):
        stream = zstd.compress(bytes(length))
        if length == 100:
            assert frames.decompress(stream, 100, format_, "stream") == bytes(100)
        else:
            with pytest.raises(reader.Refused):
                frames.decompress(stream, 100, format_, "stream")


def test_raw_chunks_of_another_length_are_refused(store: Path) -> None:
    volume = volume_of(store, "f64")
    for length in (639, 641, 1):
        one_chunk(volume, bytes(length))
        with pytest.raises(reader.Refused, match="bytes, expected 640"):
            volume.array()


def test_units_are_read_and_agree_with_the_axes(store: Path) -> None:
    golden = reader.open_store(V1.with_name("v1-units"))["grid"]
    assert sorted(golden) == ["labels-i32", "u8"]
    for name, volume in golden.items():
        assert volume.unit == "micrometer"
        assert np.array_equal(volume.array(), GOLDEN["grid"][name])
    assert volume_of(store, "u8").unit == "millimeter"
    for unit in ("micrometer", "inch", None, 1):
        edit(store / "grid/u8", ("attributes", "voxquarry", "unit"), unit)
        with pytest.raises(reader.Refused):
            volume_of(store, "u8")
