"""The voxels of the golden stores, computed from the formulas of golden/README.md."""

import json
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import reader
from numcodecs import zstd

SUMMARY = "grid/labels-i32/summary"
V1 = Path(__file__).parent / "golden" / "v1"
C, Z, Y, X = np.indices((2, 6, 10, 20))
N = 1 + 40 * C + 5 * (Z // 2) + 3 * (Y // 4) + X % 4
N3 = N[0]
COUNT = np.arange(1200, dtype=np.uint64).reshape(N3.shape)


def f64() -> np.ndarray:
    """The volume whose formula has exceptions."""
    voxels = N3 * 0.1
    voxels[:4, 5:, 16:], voxels[4:, 5:, 16:] = 0.0, -0.0
    voxels[0, 0, :3] = np.inf, -np.inf, np.nan
    return voxels


# Formulas of golden/README.md in numpy.
GOLDEN = {
    "grid": {
        "u8": N3.astype(np.uint8),
        "i8": ((COUNT * COUNT * 2654435761 & 0xFFFFFFFF) >> 24).astype(np.uint8).view(np.int8),
        "u16": (3 * N3).astype(np.uint16),
        "i16": (-257 * N).astype(np.int16),
        "u32": (1000003 * N[:1]).astype(np.uint32),
        "labels-i32": np.where(
            Z[0] < 4, 0, np.array([0, -7, 3, 2**31 - 1, -(2**31)])[N3 % 5]
        ).astype(np.int32),
        "u64": N3.astype(np.uint64) * np.uint64(0x0123456789ABCDEF),
        "i64": np.zeros(N3.shape, np.int64),
        "f16": (N3 / 4).astype(np.float16),
        "f32": (0.37 * N3).astype(np.float32),
        "f64": f64(),
    },
    "one voxel": {
        "f32": np.full((1, 1, 1), 1.5, np.float32),
        "labels-f32": np.full((1, 1, 1), 7, np.float32),
    },
}


def coarser(voxels: np.ndarray, step: tuple[int, int, int], labels: bool) -> np.ndarray:
    """The next level, box by box as section 8 says."""
    size = [-(-n // s) for n, s in zip(voxels.shape[-3:], step, strict=True)]
    out = np.zeros((*voxels.shape[:-3], *size), voxels.dtype)
    for at in np.ndindex(*out.shape):
        box = tuple(slice(i * s, (i + 1) * s) for i, s in zip(at[-3:], step, strict=True))
        values = voxels[at[:-3]][box].ravel().tolist()
        if labels:
            out[at] = max(values, key=lambda v: (values.count(v), v != 0, -v))
        elif voxels.dtype.kind != "f":
            out[at] = round(Fraction(sum(values), len(values)))
        else:
            there, total = [v for v in values if v == v], 0.0
            for value in there:  # `sum` of newer Pythons loses less.
                total += value
            out[at] = total / len(there) if there else np.nan
    return out


def sealed(data: bytes) -> bytes:
    """`data` with its crc32c behind it."""
    return data + struct.pack("<I", reader.crc32c(data))


def relist(store: Path) -> None:
    """Makes every list and seal of a store agree with its files again, as far as they parse."""
    for subject in [p for p in store.iterdir() if (p / "zarr.json").is_file()]:
        volumes = {}
        for folder in sorted(p for p in subject.iterdir() if (p / "zarr.json").is_file()):
            sums = [
                reader.crc32c(text.read_bytes()) if (text := place / "zarr.json").is_file() else 0
                for place in (folder, folder / "0")
            ]
            volumes[folder.name] = dict(zip(("group_crc32c", "level_crc32c"), sums, strict=True))
        with suppress(ValueError, KeyError, TypeError):
            seal(subject, volumes=volumes)
    with suppress(ValueError, KeyError, TypeError):
        seal(store)


def seal(folder: Path, **changed: object) -> None:
    """Changes keys of a sealed document and seals it again."""
    path = folder / "zarr.json"
    document = json.loads(path.read_text())
    own = document["attributes"]["voxquarry"]
    own |= {**changed, "crc32c": "0" * 8}
    own["crc32c"] = f"{reader.crc32c(json.dumps(document).encode()):08x}"
    path.write_text(json.dumps(document))


def relist_shards(volume: reader.Volume) -> None:
    """Makes a volume list its shards as they are now; the lists of its subject stay."""
    grid = [-(-n // s) for n, s in zip(volume.shape, volume.shard, strict=True)]
    values = []
    for position in np.ndindex(*grid):
        data = reader.read_file(volume.shard_path(position))
        values.append(0 if data is None else volume.identity(data, position))
    listed = np.array(values, "<u8")
    whole = np.zeros(1 << 16, "<u8")
    whole[: len(listed)] = listed
    (volume.folder / "shards/c/0").write_bytes(sealed(zstd.compress(whole.tobytes())))
    volume.attributes["shards_crc32c"] = reader.crc32c(
        reader.covered(volume.folder / "shards", listed)
    )
    volume.attributes["shard_files"] = int((listed != 0).sum())


def with_contents(chunks: bytes, index: bytes, *checksums: bytes) -> bytes:
    """A shard's bytes: chunks, the crc32c of their checksums, and the index with its own."""
    return chunks + struct.pack("<I", reader.crc32c(b"".join(checksums))) + sealed(index)


def volume_of(store: Path, name: str) -> reader.Volume:
    return reader.Volume(store / "grid" / name)
