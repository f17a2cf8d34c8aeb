"""Metadata documents of a store: sections 2 to 5 and 10 of README.md beside this file."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from frames import Refused, crc32c, need

LIMITS = {  # section 10; the two limits of writers are absent
    "name_bytes": 200,
    "axis_voxels": 1 << 40,
    "volume_voxels": 1 << 60,
    "chunk_bytes": 1 << 24,
    "shard_chunks": 1 << 16,
    "metadata_bytes": 1 << 24,
    "metadata_values": 1 << 17,
    "summary_chunk": 1 << 16,
}
DTYPES = {
    f"{kind}{8 * size}": np.dtype(f"<{kind[0]}{size}")
    for kind, sizes in {"uint": (1, 2, 4, 8), "int": (1, 2, 4, 8), "float": (2, 4, 8)}.items()
    for size in sizes
}
ABSENT = (1 << 64) - 1
U32 = (1 << 32) - 1


def is_count(value: Any, low: int = 0, high: int = ABSENT) -> bool:
    """Whether `value` is a JSON integer in `[low, high]`; `true`, an int in Python, is none."""
    return type(value) is int and low <= value <= high


def is_number(value: Any) -> bool:
    """Whether `value` is a finite JSON number."""
    return (type(value) is float and math.isfinite(value)) or (
        type(value) is int and abs(value) < 1 << 1023
    )


def is_shape(value: Any, rank: int) -> bool:
    """Whether `value` is `rank` extents of at least 1."""
    return (
        isinstance(value, list)
        and len(value) == rank
        and all(is_count(v, 1, LIMITS["axis_voxels"]) for v in value)
    )


def read_node(folder: Path, node_type: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """The zarr.json of `folder`, which must be a Zarr v3 group or array."""
    path = folder / "zarr.json"
    text = read_file(path)
    need(text is not None, f"{path}: missing")
    need(
        len(text) <= LIMITS["metadata_bytes"],
        f"{path}: longer than {LIMITS['metadata_bytes']} bytes",
    )

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        document = json.loads(text.decode("utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: {error}") from error
    need(isinstance(document, dict), f"{path}: not an object")
    need(
        count_values(document) <= LIMITS["metadata_values"],
        f"{path}: more than {LIMITS['metadata_values']} values",
    )
    need(
        is_count(document.get("zarr_format"), 3, 3),
        f"{path}: zarr_format {document.get('zarr_format')!r}, expected 3",
    )
    need(
        document.get("node_type") == node_type,
        f"{path}: node_type {document.get('node_type')!r}, expected {node_type}",
    )
    need(isinstance(document.get("attributes", {}), dict), f"{path}: attributes is not an object")
    for key in document.keys() - {"zarr_format", "node_type", "attributes", *keys}:
        # Zarr v3 lets a reader ignore an unknown key only if the key itself allows it.
        value = document[key]
        need(
            isinstance(value, dict) and value.get("must_understand") is False,
            f"{path}: unknown key {key!r}",
        )
    return document


def read_attributes(folder: Path, node: str) -> dict[str, Any]:
    """`attributes` of a group, its `voxquarry` checked as section 3 says."""
    attributes = read_node(folder, "group").get("attributes", {})
    own = attributes.get("voxquarry")
    need(isinstance(own, dict), f"{folder}: attributes.voxquarry is not an object")
    need(own.get("node") == node, f"{folder}: node {own.get('node')!r}, expected {node}")
    if node != "subject":
        need(
            is_count(own.get("version"), 1, 1),
            f"{folder}: version {own.get('version')!r}, this reader knows 1",
        )
        for key in ("reader_features", "writer_features"):
            features = own.get(key)
            need(
                isinstance(features, list) and all(isinstance(f, str) for f in features),
                f"{folder}: {key} {features!r}",
            )
        for feature in own["reader_features"]:
            raise Refused(f"{folder}: needs the reader feature {feature!r}, unknown here")
    if node != "volume":
        check_seal(folder, own)
    return attributes


def count_values(document: Any) -> int:
    """The JSON values of a document, itself included."""
    count, rest = 0, [document]
    while rest:
        value = rest.pop()
        count += 1
        if isinstance(value, (dict, list)):
            rest.extend(value.values() if isinstance(value, dict) else value)
    return count


def check_seal(folder: Path, own: dict[str, Any]) -> None:
    """Checks the document's own checksum: section 3."""
    seal = own.get("crc32c")
    need(
        isinstance(seal, str) and re.fullmatch("[0-9a-f]{8}", seal),
        f"{folder}: the seal is {seal!r}, expected eight hexadecimal digits",
    )
    text = read_file(folder / "zarr.json") or b""
    open_text = text.replace(f'"{seal}"'.encode(), b'"00000000"', 1)
    need(f"{crc32c(open_text):08x}" == seal, f"{folder}: the seal {seal} is wrong")


def read_subject(folder: Path) -> dict[str, Any]:
    """`attributes.voxquarry` of the subject in `folder`, which has the folder's name: section 3."""
    own = read_attributes(folder, "subject")["voxquarry"]
    need(own.get("name") == folder.name, f"{folder}: the subject {own.get('name')!r}")
    return own


def read_volume_list(folder: Path) -> dict[str, dict[str, int]]:
    """The volumes that a subject lists, with the checksums of their documents: section 3."""
    volumes = read_subject(folder).get("volumes")
    need(isinstance(volumes, dict), f"{folder}: volumes {volumes!r}")
    for name, sums in volumes.items():
        need(is_name(name), f"{folder}: {name!r} is no name of a volume")
        need(
            isinstance(sums, dict)
            and all(is_count(sums.get(f"{k}_crc32c"), 0, U32) for k in ("group", "level")),
            f"{folder}: volumes.{name} {sums!r}",
        )
    return volumes


def read_splits(folder: Path) -> list[str]:
    """The splits that a subject belongs to: section 3."""
    splits = read_subject(folder).get("splits", [])
    need(
        isinstance(splits, list) and all(isinstance(s, str) and is_name(s) for s in splits),
        f"{folder}: splits {splits!r}",
    )
    return splits


def is_name(name: str) -> bool:
    """Whether a subject or volume can have that name: section 2."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:  # How Python shows a file name that is not UTF-8.
        return False
    return (
        1 <= size <= LIMITS["name_bytes"]
        and not name.startswith((".", "__"))
        and name != "zarr.json"
        and not any(c in "/\\" or unicodedata.category(c) == "Cc" for c in name)
    )


def list_subjects(folder: Path) -> list[str]:
    """Sorted names of the subjects in `folder`; anything else is ignored.

    A subject that has lost its document is listed: opening it is refused.
    """
    return sorted(
        e.name
        for e in os.scandir(folder)
        if is_name(e.name)
        and (
            os.path.lexists(Path(e.path, "zarr.json"))
            or (e.is_dir(follow_symlinks=False) and holds_volumes(Path(e.path)))
        )
    )


def holds_volumes(folder: Path) -> bool:
    """Whether `folder` holds folders with a document."""
    with os.scandir(folder) as entries:
        return any(
            e.is_dir(follow_symlinks=False) and os.path.lexists(Path(e.path, "zarr.json"))
            for e in entries
        )


def configuration(entry: Any, name: str, where: str) -> dict[str, Any]:
    """The configuration of `entry`, a codec or another extension point, which must be `name`."""
    need(
        isinstance(entry, dict) and entry.get("name") == name,
        f"{where}: found {entry!r}, expected {name}",
    )
    found = entry.get("configuration", {})
    need(isinstance(found, dict), f"{where}: configuration of {name} is not an object")
    return found


def check_bytes(entry: Any, itemsize: int, where: str) -> None:
    """Checks the codec `bytes`: little-endian, which one-byte types may omit."""
    endian = configuration(entry, "bytes", where).get("endian", "little" if itemsize == 1 else None)
    need(endian == "little", f"{where}: endian {endian!r}, expected little")


ARRAY_KEYS = (
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "dimension_names",
    "codecs",
    "storage_transformers",
)


def read_array(folder: Path) -> tuple[dict[str, Any], np.dtype, list[int]]:
    """A Zarr array's document, data type and chunk shape, for volumes and summaries alike."""
    array = read_node(folder, "array", ARRAY_KEYS)
    dtype = DTYPES.get(array.get("data_type")) if isinstance(array.get("data_type"), str) else None
    need(dtype, f"{folder}: data_type {array.get('data_type')!r}")
    keys = configuration(
        array.get("chunk_key_encoding"), "default", f"{folder}: chunk_key_encoding"
    )
    need(keys.get("separator") == "/", f"{folder}: separator {keys.get('separator')!r}, expected /")
    fill = array.get("fill_value")
    need(
        is_number(fill) and fill == 0 and math.copysign(1, fill) == 1,
        f"{folder}: fill_value {fill!r}, expected 0",
    )
    need(
        array.get("storage_transformers", []) == [],
        f"{folder}: storage_transformers are outside the profile",
    )
    grid = configuration(array.get("chunk_grid"), "regular", f"{folder}: chunk_grid")
    return array, dtype, grid.get("chunk_shape")


def read_file(path: Path) -> bytes | None:
    """A regular file's bytes, or None if it does not exist; links and devices are refused."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    need(stat.S_ISREG(mode), f"{path}: no regular file")
    return path.read_bytes()


def covered(folder: Path, values: np.ndarray) -> bytes:
    """The bytes of an array beside a volume that a checksum covers: section 8."""
    return (read_file(folder / "zarr.json") or b"") + values.tobytes()


def covered_counts(folder: Path, *arrays: np.ndarray) -> bytes:
    """As `covered`, for the three arrays of label counts in their group."""
    parts = zip(("offsets", "labels", "counts"), arrays, strict=True)
    group = read_file(folder / "zarr.json") or b""
    return group + b"".join(covered(folder / name, values) for name, values in parts)


def is_label_name(entry: Any) -> bool:
    """Whether an entry of `labels` is as section 4 says."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("ids"), list)
        and all(isinstance(i, int) and not isinstance(i, bool) for i in entry["ids"])
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("color", ""), str)
    )
