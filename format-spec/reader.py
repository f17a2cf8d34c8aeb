"""Reads a Voxquarry store; written only from README.md beside it.

It prefers plain code to speed and gives a second opinion on the text: whatever it refuses or
returns, the text says so. It needs numpy and numcodecs. From Python:

    store = open_store("brains.vxq")
    volume = store["patient1"]["ct"]
    volume.array()          # numpy, (z, y, x) or (c, z, y, x), stored values
    volume.affine           # 4x4, index (x, y, z, 1) to millimetres
    volume.chunk_sums()     # one number for each chunk, or None
    volume.label_counts()   # labels only: one {label: voxels} for each chunk
    volume.levels           # the factors of each level, [z, y, x]; level 0 has [1, 1, 1]
    volume.level(1).array() # a coarser level

On a command line: python reader.py [--blosc] STORE [SUBJECT VOLUME]
"""

from __future__ import annotations

import math
import os
import struct
import sys
from itertools import product
from pathlib import Path
from typing import Any

import frames
import numpy as np
from frames import Refused, crc32c, decode_frame, need, strip_crc32c, unzstd
from metadata import (
    ABSENT,
    ARRAY_KEYS,
    LIMITS,
    U32,
    check_bytes,
    check_seal,
    configuration,
    covered,
    covered_counts,
    is_count,
    is_label_name,
    is_number,
    is_shape,
    list_subjects,
    read_array,
    read_attributes,
    read_file,
    read_node,
    read_splits,
    read_volume_list,
)


class Volume:
    """One volume; its metadata are checked when it is opened, its voxels when they are read."""

    number = 0

    def __init__(self, folder: Path, listed: dict[str, int] | None = None) -> None:
        self.folder = folder
        for part in (folder, folder / "0"):
            need(not part.is_symlink(), f"{part}: a link")
        if listed is not None:
            for key, place in (("group", folder), ("level", folder / "0")):
                text = read_file(place / "zarr.json")
                need(text is not None, f"{place}: listed by the subject, and missing")
                need(
                    crc32c(text) == listed[f"{key}_crc32c"],
                    f"{place}: another document than the subject lists",
                )
        attributes = read_attributes(folder, "volume")
        self._read_level(folder / "0")
        own = self.attributes = attributes["voxquarry"]
        self.unit: str = own.get("unit", "millimeter")
        need(self.unit in ("meter", "millimeter", "micrometer"), f"{folder}: unit {self.unit!r}")
        self._check_ome(attributes.get("ome"), self.unit)
        self.kind: str = own.get("kind")
        need(self.kind in ("image", "labels"), f"{folder}: kind {self.kind!r}")
        rows = own.get("affine")
        need(
            isinstance(rows, list)
            and len(rows) == 4
            and all(
                isinstance(row, list) and len(row) == 4 and all(map(is_number, row)) for row in rows
            ),
            f"{folder}: affine is not 4 rows of 4 numbers",
        )
        self.affine = np.array(rows, np.float64)
        need(
            (self.affine[3] == (0, 0, 0, 1)).all(),
            f"{folder}: the affine's last row is not 0 0 0 1",
        )
        (a, b, c), (d, e, f), (g, h, i) = self.affine[:3, :3].tolist()
        determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
        lengths = math.hypot(a, d, g) * math.hypot(b, e, h) * math.hypot(c, f, i)
        need(
            0 < lengths < math.inf and abs(determinant) >= 1e-6 * lengths,
            f"{folder}: the affine is singular",
        )
        need(
            own.get("affine_index_order") == "xyz",
            f"{folder}: affine_index_order {own.get('affine_index_order')!r}",
        )
        need(
            is_number(own.get("slope")) and is_number(own.get("intercept")),
            f"{folder}: slope or intercept",
        )
        patches = own.get("patch_sizes")
        need(
            isinstance(patches, list)
            and all(isinstance(p, list) and len(p) == 3 and all(map(is_count, p)) for p in patches),
            f"{folder}: patch_sizes {patches!r}",
        )
        need(
            own.get("codec") in ("fast", "compact", "none"), f"{folder}: codec {own.get('codec')!r}"
        )
        self._check_statistics(own.get("statistics"))
        need(is_count(own.get("shard_files")), f"{folder}: shard_files {own.get('shard_files')!r}")
        has_counts = self.kind == "labels" and "summary_crc32c" in own
        optional = ["summary_crc32c"] * has_counts + ["nifti_crc32c"] * ("nifti_crc32c" in own)
        for key in ["shards_crc32c", *optional]:
            need(is_count(own.get(key), 0, U32), f"{folder}: {key} {own.get(key)!r}")
        need(isinstance(own.get("source", {}), dict), f"{folder}: source is not an object")
        self.labels: list[dict[str, Any]] = own.get("labels", [])
        need(
            isinstance(self.labels, list) and all(map(is_label_name, self.labels)),
            f"{folder}: labels {self.labels!r}",
        )
        self._check_levels(own.get("levels", []))

    def _check_statistics(self, figures: Any) -> None:
        need(
            isinstance(figures, dict)
            and all(is_count(figures.get(k)) for k in ("voxels", "non_finite"))
            and all(
                k in figures and (figures[k] is None or is_number(figures[k]))
                for k in ("min", "max", "mean", "std")
            ),
            f"{self.folder}: statistics {figures!r}",
        )
        need(
            figures["voxels"] == math.prod(self.shape),
            f"{self.folder}: statistics of {figures['voxels']} voxels, not {self.shape}",
        )

    def _check_levels(self, levels: Any) -> None:
        """Checks what the volume says of its coarser levels: section 8."""
        need(isinstance(levels, list), f"{self.folder}: levels {levels!r}")
        self.levels = [[1, 1, 1]]
        for entry in levels:
            where = f"{self.folder}: levels, {entry!r}"
            need(isinstance(entry, dict) and is_shape(entry.get("factors"), 3), where)
            before, factors = self.levels[-1], entry["factors"]
            need(
                factors != before and all(f % b == 0 for f, b in zip(factors, before, strict=True)),
                f"{where}: factors after {before}",
            )
            need(
                all(is_count(entry.get(f"{k}_crc32c"), 0, U32) for k in ("level", "shards"))
                and is_count(entry.get("shard_files")),
                where,
            )
            self.levels.append(factors)

    def level(self, number: int) -> Volume:
        """The volume at a level; 0 is itself."""
        need(0 <= number < len(self.levels), f"{self.folder}: no level {number}")
        return Level(self, number) if number else self

    @property
    def level_folder(self) -> Path:
        return self.folder / str(self.number)

    @property
    def list_folder(self) -> Path:
        return self.folder / ("shards" if self.number == 0 else f"shards-{self.number}")

    def _check_ome(self, ome: Any, unit: Any) -> None:
        """Checks the OME-Zarr metadata: section 4."""
        need(
            isinstance(ome, dict) and ome.get("version") == "0.5",
            f"{self.folder}: OME-Zarr version is not 0.5",
        )
        scales = ome.get("multiscales")
        need(
            isinstance(scales, list) and len(scales) == 1 and isinstance(scales[0], dict),
            f"{self.folder}: multiscales",
        )
        axes = [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
        if len(self.shape) == 4:
            axes.insert(0, {"name": "c", "type": "channel"})
        found = scales[0].get("axes")
        need(
            isinstance(found, list)
            and len(found) == len(axes)
            and all(
                isinstance(f, dict) and a.items() <= f.items()
                for f, a in zip(found, axes, strict=True)
            ),
            f"{self.folder}: axes {found!r}",
        )
        levels = scales[0].get("datasets")
        need(
            isinstance(levels, list)
            and levels
            and isinstance(levels[0], dict)
            and levels[0].get("path") == "0",
            f"{self.folder}: datasets {levels!r}, the first has to be 0",
        )

    def _read_level(self, folder: Path) -> None:
        """Reads and checks the level array's metadata: section 5."""
        array, self.dtype, shard = read_array(folder)
        names = array.get("dimension_names")
        need(
            names in (["z", "y", "x"], ["c", "z", "y", "x"]), f"{folder}: dimension_names {names!r}"
        )
        rank = len(names)
        need(is_shape(array.get("shape"), rank), f"{folder}: shape {array.get('shape')!r}")
        self.shape: tuple[int, ...] = tuple(array["shape"])
        need(
            math.prod(self.shape) <= LIMITS["volume_voxels"],
            f"{folder}: {self.shape} has too many voxels",
        )
        codecs = array.get("codecs")
        need(
            isinstance(codecs, list) and len(codecs) == 1,
            f"{folder}: codecs, expected sharding_indexed alone",
        )
        sharding = configuration(codecs[0], "sharding_indexed", f"{folder}: codecs")
        chunk = sharding.get("chunk_shape")
        need(
            is_shape(shard, rank) and is_shape(chunk, rank),
            f"{folder}: shards of {shard!r}, chunks of {chunk!r}",
        )
        need(
            all(s % c == 0 for s, c in zip(shard, chunk, strict=True)),
            f"{folder}: chunks of {chunk} do not divide shards of {shard}",
        )
        need(rank == 3 or shard[0] == chunk[0] == 1, f"{folder}: more than one channel in a shard")
        need(
            math.prod(chunk) * self.dtype.itemsize <= LIMITS["chunk_bytes"],
            f"{folder}: chunks of {chunk} are too large",
        )
        self.shard, self.chunk = tuple(shard), tuple(chunk)
        self.chunks_of_shard = tuple(s // c for s, c in zip(shard, chunk, strict=True))
        need(
            math.prod(self.chunks_of_shard) <= LIMITS["shard_chunks"],
            f"{folder}: too many chunks in a shard",
        )
        need(
            sharding.get("index_location") == "end",
            f"{folder}: index_location {sharding.get('index_location')!r}",
        )
        index = sharding.get("index_codecs")
        need(isinstance(index, list) and len(index) == 2, f"{folder}: index_codecs {index!r}")
        check_bytes(index[0], 8, f"{folder}: index_codecs")
        configuration(index[1], "crc32c", f"{folder}: index_codecs")
        inner = sharding.get("codecs")
        need(isinstance(inner, list) and len(inner) in (2, 3), f"{folder}: inner codecs {inner!r}")
        check_bytes(inner[0], self.dtype.itemsize, f"{folder}: inner codecs")
        configuration(inner[-1], "crc32c", f"{folder}: inner codecs")
        self.blosc = len(inner) == 3
        if self.blosc:
            asked = configuration(inner[1], "blosc", f"{folder}: inner codecs")
            need(
                asked.get("cname") in ("lz4", "lz4hc", "zstd")
                and asked.get("typesize") == self.dtype.itemsize
                and asked.get("shuffle") in ("noshuffle", "shuffle", "bitshuffle")
                and is_count(asked.get("clevel"))
                and is_count(asked.get("blocksize")),
                f"{folder}: blosc {asked!r}",
            )

    def shard_path(self, position: tuple[int, ...]) -> Path:
        """The file of the shard at a grid position."""
        return self.level_folder.joinpath("c", *map(str, position))

    def array(self) -> np.ndarray:
        """Every stored value; slope and intercept are not applied."""
        out = np.zeros(self.shape, self.dtype)
        identities = self.shard_list()
        grid = [-(-n // s) for n, s in zip(self.shape, self.shard, strict=True)]
        for position, identity in zip(product(*map(range, grid)), identities, strict=True):
            if identity != 0:
                data = read_file(self.shard_path(position))
                need(data is not None, f"{self.shard_path(position)}: listed, and missing")
                found = self.identity(data, position)
                need(
                    found == identity,
                    f"{self.shard_path(position)}: not the shard that the volume lists",
                )
                start = [i * s for i, s in zip(position, self.shard, strict=True)]
                self._read_shard(
                    data,
                    out[tuple(slice(a, a + s) for a, s in zip(start, self.shard, strict=True))],
                    position,
                )
        files, expected = sum(identity != 0 for identity in identities), self.attributes
        need(
            files == expected["shard_files"],
            f"{self.folder}: {files} shards have a file, expected {expected['shard_files']}",
        )
        return out

    def shard_list(self) -> list[int]:
        """The identity of each shard in C order, 0 for one without a file: section 8."""
        grid = [-(-n // s) for n, s in zip(self.shape, self.shard, strict=True)]
        found = self._vector(self.list_folder, "uint64", math.prod(grid))
        need(
            crc32c(covered(self.list_folder, found)) == self.attributes["shards_crc32c"],
            f"{self.list_folder}: the list of shards is another one",
        )
        return found.tolist()

    def identity(self, data: bytes, position: tuple[int, ...]) -> int:
        """The identity of a shard's bytes: section 5."""
        slots = math.prod(self.chunks_of_shard)
        where, end = str(self.shard_path(position)), len(data) - 16 * slots - 8
        need(end >= 0, f"{where}: {len(data)} bytes are shorter than the index")
        (contents,), (index,) = struct.unpack_from("<I", data, end), struct.unpack("<I", data[-4:])
        return max(1, contents | index << 32)

    def _read_shard(self, data: bytes, out: np.ndarray, position: tuple[int, ...]) -> None:
        """Puts a shard's chunks into `out`, the part of the array that it covers."""
        where = str(self.shard_path(position))
        end = len(data) - 16 * math.prod(self.chunks_of_shard) - 8
        index = (
            np.frombuffer(strip_crc32c(data[end + 4 :], f"{where}: index"), "<u8")
            .reshape(-1, 2)
            .tolist()
        )
        for number, at in enumerate(np.ndindex(*self.chunks_of_shard)):
            offset, nbytes = index[number]
            if offset == nbytes == ABSENT:
                continue
            here = f"{where}: chunk {number} at byte {offset}"
            need(
                nbytes >= 5 and offset + nbytes <= end,
                f"{here}: {nbytes} bytes do not lie before the index",
            )
            voxels = strip_crc32c(data[offset : offset + nbytes], here)
            size = math.prod(self.chunk) * self.dtype.itemsize
            if self.blosc:
                voxels = decode_frame(voxels, size, self.dtype.itemsize, here)
            need(len(voxels) == size, f"{here}: {len(voxels)} bytes, expected {size}")
            target = out[
                tuple(slice(a * c, (a + 1) * c) for a, c in zip(at, self.chunk, strict=True))
            ]
            chunk = np.frombuffer(voxels, self.dtype).reshape(self.chunk)
            target[...] = chunk[tuple(slice(n) for n in target.shape)]

    def label_counts(self) -> list[dict[int, int]]:
        """For each chunk, in C order of the grid, the voxels of each label but 0: section 8."""
        need(self.kind == "labels", f"{self.folder}: only label maps have counts")
        grid = [-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True)]
        if "summary_crc32c" not in self.attributes:
            return self._counted(grid)
        read_node(self.folder / "summary", "group")
        offsets = self._summary("offsets", "uint64", math.prod(grid) + 1)
        labels, counts = self._summary("labels", "int64"), self._summary("counts", "uint32")
        where = self.folder / "summary"
        need(
            crc32c(covered_counts(where, offsets, labels, counts))
            == self.attributes["summary_crc32c"],
            f"{where}: the label counts are those of another volume",
        )
        need(
            len(labels) == len(counts) == offsets[-1] and offsets[0] == 0,
            f"{where}: lengths disagree",
        )
        need((offsets[1:] >= offsets[:-1]).all(), f"{where}: offsets descend")
        need((labels != 0).all() and (counts > 0).all(), f"{where}: a label or a count of 0")
        found = []
        for number, at in enumerate(np.ndindex(*grid)):
            part = slice(int(offsets[number]), int(offsets[number + 1]))
            need(
                (labels[part][1:] > labels[part][:-1]).all(),
                f"{where}: labels of chunk {number} do not ascend",
            )
            voxels = math.prod(
                min(c, n - a * c) for a, c, n in zip(at, self.chunk, self.shape, strict=True)
            )
            need(
                counts[part].sum(dtype=np.uint64) <= voxels,
                f"{where}: chunk {number} has {voxels} voxels, not more",
            )
            found.append(dict(zip(labels[part].tolist(), counts[part].tolist(), strict=True)))
        return found

    def chunk_sums(self) -> list[float] | None:
        """For each chunk, in C order of the grid, the sum of its real values: section 8.

        None if the store has no sums.
        """
        folder = self.folder / "sums"
        if read_file(folder / "zarr.json") is None:
            return None
        found = read_node(folder, "array", ARRAY_KEYS).get("attributes", {}).get("voxquarry")
        sums = {
            f"{name}_crc32c": crc32c(read_file(place / "zarr.json") or b"")
            for name, place in (("volume", self.folder), ("level", self.folder / "0"))
        }
        need(isinstance(found, dict), f"{folder}: attributes.voxquarry is not an object")
        check_seal(folder, found)
        length = math.prod(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))
        values = self._vector(folder, "float64", length)
        named = {"node": "sums", **sums, "sums_crc32c": crc32c(values.tobytes())}
        need(
            all(found.get(key) == value for key, value in named.items()),
            f"{folder}: sums of another volume",
        )
        need(
            (np.isfinite(values) & (values >= 0)).all(),
            f"{folder}: a number that is no sum of weights",
        )
        return values.tolist()

    def nifti_header(self) -> bytes | None:
        """The NIfTI-2 header beside the levels, None if there is none: section 8."""
        if "nifti_crc32c" not in self.attributes:
            return None
        header = self._vector(self.folder / "nifti", "uint8", 540)
        need(
            crc32c(covered(self.folder / "nifti", header)) == self.attributes["nifti_crc32c"],
            f"{self.folder}: the NIfTI header is another one",
        )
        return header.tobytes()

    def _counted(self, grid: list[int]) -> list[dict[int, int]]:
        """The label counts of a label map that has none, from its voxels."""
        array, found = self.array(), []
        for at in np.ndindex(*grid):
            part = tuple(slice(a * c, (a + 1) * c) for a, c in zip(at, self.chunk, strict=True))
            labels, counts = np.unique(array[part], return_counts=True)
            pairs = zip(labels.tolist(), counts.tolist(), strict=True)
            found.append({int(label): count for label, count in pairs if label != 0})
        return found

    def _summary(self, name: str, data_type: str, length: int | None = None) -> np.ndarray:
        """One of the three arrays of a summary."""
        return self._vector(self.folder / "summary" / name, data_type, length)

    def _vector(self, folder: Path, data_type: str, length: int | None) -> np.ndarray:
        """A 1-D array beside a volume: section 8."""
        array, dtype, chunk = read_array(folder)
        need(
            array["data_type"] == data_type,
            f"{folder}: data_type {array['data_type']}, expected {data_type}",
        )
        shape = array.get("shape")
        need(
            isinstance(shape, list)
            and len(shape) == 1
            and is_count(shape[0], 0, LIMITS["volume_voxels"]),
            f"{folder}: shape {shape!r}",
        )
        need(
            length is None or shape[0] == length,
            f"{folder}: {shape[0]} elements, expected {length}",
        )
        need(chunk == [LIMITS["summary_chunk"]], f"{folder}: chunk_shape {chunk!r}")
        codecs = array.get("codecs")
        need(isinstance(codecs, list) and len(codecs) == 3, f"{folder}: codecs {codecs!r}")
        check_bytes(codecs[0], dtype.itemsize, str(folder))
        configuration(codecs[1], "zstd", str(folder))
        configuration(codecs[2], "crc32c", str(folder))
        parts = [np.zeros(0, dtype)]
        for number in range(-(-shape[0] // chunk[0])):
            path = folder / "c" / str(number)
            data = read_file(path)
            need(data is not None, f"{path}: missing")
            size = chunk[0] * dtype.itemsize
            # Not `decompress`: a stream of section 6 may be stored uncompressed, this may not.
            try:
                decoded = unzstd(strip_crc32c(data, str(path)), size)
            except (RuntimeError, ValueError) as error:
                raise Refused(f"{path}: {error}") from error
            need(len(decoded) == size, f"{path}: {len(decoded)} bytes, expected {size}")
            parts.append(np.frombuffer(decoded, dtype))
        return np.concatenate(parts)[: shape[0]]


class Level(Volume):
    """A coarser level, read as a volume is; nothing is beside its voxels: section 8."""

    def __init__(self, volume: Volume, number: int) -> None:
        self.folder, self.number, self.kind = volume.folder, number, volume.kind
        self.unit, self.labels, self.levels = volume.unit, volume.labels, [[1, 1, 1]]
        self.attributes = volume.attributes["levels"][number - 1]
        text = (
            None if self.level_folder.is_symlink() else read_file(self.level_folder / "zarr.json")
        )
        need(
            text is not None and crc32c(text) == self.attributes["level_crc32c"],
            f"{self.level_folder}: missing, or another document than the volume names",
        )
        self._read_level(self.level_folder)
        factors = volume.levels[number]
        size = [-(-n // f) for n, f in zip(volume.shape[-3:], factors, strict=True)]
        need(
            self.shape == (*volume.shape[:-3], *size) and self.dtype == volume.dtype,
            f"{self.level_folder}: {self.shape} {self.dtype} is no level of {volume.shape}",
        )
        self._check_statistics(self.attributes.get("statistics"))
        matrix = np.diag([*map(float, factors[::-1]), 1.0])
        matrix[:3, 3] = [(f - 1) / 2 for f in factors[::-1]]
        self.affine = volume.affine @ matrix

    def chunk_sums(self) -> None:
        """A level has none."""


class Store:
    """A dataset: a mapping from subject to a dict of its volumes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        read_attributes(self.path, "dataset")
        self.subjects = list_subjects(self.path)

    def __getitem__(self, subject: str) -> dict[str, Volume]:
        need(subject in self.subjects, f"{self.path}: no subject {subject!r}")
        folder = self.path / subject
        need(not folder.is_symlink(), f"{folder}: a link")
        listed = read_volume_list(folder)
        volumes = {name: Volume(folder / name, listed[name]) for name in sorted(listed)}
        need(
            len({volume.shape[-3:] for volume in volumes.values()}) <= 1,
            f"{folder}: volumes on different grids",
        )
        return volumes

    def splits(self) -> dict[str, list[str]]:
        """The subjects of each split: section 3."""
        found: dict[str, list[str]] = {}
        for subject in self.subjects:
            for split in read_splits(self.path / subject):
                found.setdefault(split, []).append(subject)
        return found


def open_store(path: str | os.PathLike[str]) -> Store:
    """Opens the store at `path`."""
    return Store(path)


def read(path: str | os.PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    """Every voxel of a store: subject, volume, array."""
    store = open_store(path)
    return {
        subject: {name: volume.array() for name, volume in store[subject].items()}
        for subject in store.subjects
    }


def main(arguments: list[str]) -> int:
    """Prints a line for each volume: names, data type, shape, crc32c of its voxels in C order."""
    frames.CROSS_CHECK = "--blosc" in arguments
    arguments = [argument for argument in arguments if argument != "--blosc"]
    if len(arguments) not in (1, 3):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        store = open_store(arguments[0])
        for subject in store.subjects if len(arguments) == 1 else arguments[1:2]:
            volumes = store[subject]
            for name in volumes if len(arguments) == 1 else arguments[2:]:
                need(name in volumes, f"{store.path}: no volume {name!r} in {subject!r}")
                volume = volumes[name]
                crc = crc32c(volume.array().tobytes())
                labels = (
                    f" {sum(map(len, volume.label_counts()))} label counts"
                    if volume.kind == "labels"
                    else ""
                )
                print(f"{subject} {name} {volume.dtype} {volume.shape} crc32c {crc:#010x}{labels}")
    except (Refused, OSError) as error:
        print(f"reader.py: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
