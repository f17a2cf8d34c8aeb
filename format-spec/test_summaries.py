"""reader.py refuses label counts and chunk sums that contradict themselves or their volume."""

import json
from pathlib import Path

import numpy as np
import pytest
import reader
from golden_store import GOLDEN, SUMMARY, V1, seal, sealed, volume_of
from numcodecs import zstd

SUMMARY_TYPES = {"offsets": "uint64", "labels": "int64", "counts": "uint32"}


def put_summary(store: Path, name: str, values: list[int], dtype: str) -> None:
    whole = np.zeros(1 << 16, dtype)
    whole[: len(values)] = values
    (store / SUMMARY / name / "c" / "0").write_bytes(sealed(zstd.compress(whole.tobytes())))


@pytest.mark.parametrize(
    ("name", "dtype", "change"),
    [
        ("offsets", "<u8", lambda v: [1, *v[1:]]),
        ("offsets", "<u8", lambda v: [*v[:6], v[7], v[6], *v[8:]]),
        ("offsets", "<u8", lambda v: [*v[:-1], v[-1] + 1]),
        ("offsets", "<u8", lambda v: [*v[:-1], 1 << 63]),
        ("labels", "<i8", lambda v: [0, *v[1:]]),
        ("labels", "<i8", lambda v: [v[1], v[0], *v[2:]]),
        ("labels", "<i8", lambda v: [v[1], *v[1:]]),
        ("counts", "<u4", lambda v: [0, *v[1:]]),
        ("counts", "<u4", lambda v: [1 << 31, *v[1:]]),
    ],
)
def test_summaries_that_contradict_themselves_are_refused(
    store: Path, name: str, dtype: str, change
) -> None:
    volume = volume_of(store, "labels-i32")
    data_type, length = {
        "offsets": ("uint64", 9),
        "labels": ("int64", None),
        "counts": ("uint32", None),
    }[name]
    values = volume._summary(name, data_type, length).tolist()
    before = volume.label_counts()
    put_summary(store, name, values, dtype)
    assert volume.label_counts() == before
    put_summary(store, name, change(values), dtype)
    with pytest.raises(reader.Refused):
        volume.label_counts()
    # Counts that the volume names are refused for what they say.
    parts = [volume._summary(n, t) for n, t in SUMMARY_TYPES.items()]
    covered = reader.covered_counts(store / SUMMARY, *parts)
    volume.attributes["summary_crc32c"] = reader.crc32c(covered)
    with pytest.raises(reader.Refused) as refusal:
        volume.label_counts()
    assert "another volume" not in str(refusal.value)


def test_label_counts_that_were_left_out_are_those_of_the_voxels(store: Path) -> None:
    volume = volume_of(store, "labels-i32")
    stored = volume.label_counts()
    del volume.attributes["summary_crc32c"]
    assert volume.label_counts() == stored


def test_label_counts_of_another_volume_are_refused(store: Path) -> None:
    volume = volume_of(store, "labels-i32")
    volume.label_counts()
    volume.attributes["summary_crc32c"] ^= 1
    with pytest.raises(reader.Refused, match="another volume"):
        volume.label_counts()


@pytest.mark.parametrize("name", ["offsets", "labels", "counts"])
def test_damaged_and_lost_summaries_are_refused(store: Path, name: str) -> None:
    volume = volume_of(store, "labels-i32")
    path = store / SUMMARY / name / "c" / "0"
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(reader.Refused):
            volume.label_counts()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(reader.Refused):
            volume.label_counts()
    path.write_bytes(sealed(zstd.compress(bytes(8))))
    with pytest.raises(reader.Refused):
        volume.label_counts()
    path.unlink()
    with pytest.raises(reader.Refused, match="missing"):
        volume.label_counts()


def put_sums(store: Path, values: list[float], **changed: object) -> None:
    """Sums beside `grid/u8`, whose chunks are 2 × 2 × 2."""
    folder = store / "grid/u8/sums"
    (folder / "c").mkdir(parents=True, exist_ok=True)
    document = json.loads((store / SUMMARY / "offsets" / "zarr.json").read_text())
    sums = {
        f"{name}_crc32c": reader.crc32c((store / "grid/u8" / place / "zarr.json").read_bytes())
        for name, place in (("volume", ""), ("level", "0"))
    }
    document |= {"data_type": "float64", "shape": [len(values)]}
    whole = np.zeros(1 << 16)
    whole[: len(values)] = values
    sums["sums_crc32c"] = reader.crc32c(whole[: len(values)].tobytes())
    document["attributes"] = {"voxquarry": {"node": "sums", **sums}}
    (folder / "zarr.json").write_text(json.dumps(document))
    seal(folder, **changed)
    (folder / "c" / "0").write_bytes(sealed(zstd.compress(whole.tobytes())))


def test_golden_chunk_sums() -> None:
    voxels, expected = GOLDEN["grid"]["f32"], []
    for z, y, x in np.ndindex(2, 2, 2):
        rows = voxels[4 * z : 4 * z + 4, 8 * y : 8 * y + 8, 16 * x : 16 * x + 16].reshape(
            -1, min(16, 20 - 16 * x)
        )
        total = 0.0
        for row in rows.tolist():
            line = 0.0
            for value in row:
                line += value
            total += line
        expected.append(total)
    assert reader.open_store(V1.with_name("v1-sums"))["grid"]["f32"].chunk_sums() == expected


def test_chunk_sums_are_believed_for_their_own_volume_alone(store: Path) -> None:
    volume = volume_of(store, "u8")
    assert volume.chunk_sums() is None
    sums = [
        volume.array()[4 * z : 4 * z + 4, 8 * y : 8 * y + 8, 16 * x : 16 * x + 16].sum(dtype=float)
        for z, y, x in np.ndindex(2, 2, 2)
    ]
    put_sums(store, sums)
    assert volume.chunk_sums() == sums
    for values, changed in (
        (sums[1:], {}),
        ([-1.0, *sums[1:]], {}),
        ([float("nan"), *sums[1:]], {}),
        (sums, {"node": "sum"}),
        (sums, {"volume_crc32c": 1}),
        (sums, {"level_crc32c": None}),
        (sums, {"sums_crc32c": 1}),
    ):
        put_sums(store, values, **changed)
        with pytest.raises(reader.Refused):
            volume.chunk_sums()


def test_every_flipped_bit_of_their_documents_is_refused(store: Path) -> None:
    put_sums(store, [1.0] * 8)
    labels, image = volume_of(store, "labels-i32"), volume_of(store, "u8")
    for path, read in (
        (store / SUMMARY / "zarr.json", labels.label_counts),
        (store / SUMMARY / "counts/zarr.json", labels.label_counts),
        (store / "grid/u8/shards/zarr.json", image.shard_list),
        (store / "grid/u8/sums/zarr.json", image.chunk_sums),
    ):
        whole = path.read_bytes()
        read()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(reader.Refused):
                read()
        path.write_bytes(whole)
