"""Turns paths, dictionaries and manifests into one list of sources, and ingests them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from . import _native
from ._errors import UsageError
from ._types import Bytes, Codec, Path, Size, VolumeProgress


@dataclass(frozen=True)
class Labels:
    """Marks a file as a label map or mask. Ingest counts its labels, so that samplers can balance
    classes.
    """

    path: Path


@dataclass(frozen=True)
class Weights:
    """Marks a file as weights of a ``WeightedSampler``: finite and not negative. Ingest sums them
    by chunk.
    """

    path: Path


Volumes = Mapping[str, "Path | Labels | Weights"]


def ingest(
    source: Path | Sequence[Path] | Mapping[str, Path | Labels | Weights | Volumes],
    out: Path,
    patch_size: Size | Sequence[Size] = 96,
    *,
    codec: Codec = "fast",
    memory_bytes: Bytes = "1GiB",
    threads: int | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    progress: VolumeProgress | None = None,
) -> _native.Dataset:
    """Converts images to the store at ``out`` and opens it.

    Args:
        source: A file (subject is its stem, volume ``image``), several files, a manifest
            ``TABLE.csv`` with the columns ``subject,volume,kind,path`` (kind: image, labels or
            weights), or ``{"case01": {"ct": path, "seg": Labels(path), "heat": Weights(path)}}``.
        out: The store; it is made if it is not there.
        patch_size: Patches that will be read, an int or ``(z, y, x)``; a list of them for mixed
            use.
        codec: ``"fast"`` decodes at memory speed, ``"compact"`` takes fewest bytes, ``"none"``
            stores voxels as they are.
        memory_bytes: Memory that the run may use, an int or a string such as ``"1GiB"``.
        threads: Threads that encode; all cores by default.
        overwrite: Replace subjects that are there.
        skip_existing: Leave subjects that are there.
        progress: Called with the volume (``"case01/ct"``), the bytes encoded so far and the bytes
            in all.

    Raises:
        UsageError: Arguments that cannot be; a subject that is there.
        DataError: A source that cannot be read, or volumes of one subject on different grids.
        StorageError: Disk or permissions. What was published before stays, nothing half-written is
            visible.
    """
    if overwrite and skip_existing:
        raise UsageError("overwrite and skip_existing exclude each other")
    existing: Literal["refuse", "skip", "overwrite"]
    existing = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    table, files = _sources(source)
    _native.ingest(
        table, files, os.fspath(out), patch_size, codec, memory_bytes, threads, existing, progress
    )
    return _native.open(os.fspath(out))


_Row = tuple[str | None, str, str, str]


def _sources(source: object) -> tuple[str | None, list[_Row]]:
    """A manifest's path, or rows of subject (None: the file's stem), volume, kind and path."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return (
            (path, [])
            if path.lower().endswith(".csv")
            else (None, [(None, "image", "image", path)])
        )
    if isinstance(source, Mapping):
        rows: list[_Row] = []
        for subject, volumes in source.items():
            named = volumes if isinstance(volumes, Mapping) else {"image": volumes}
            rows += [(str(subject), str(volume), *_kind(path)) for volume, path in named.items()]
        return None, rows
    if isinstance(source, Sequence):
        return None, [(None, "image", *_kind(path)) for path in source]
    raise UsageError(
        f"source is a {type(source).__name__}: expected a path, a list of paths or a dictionary"
    )


def _kind(path: object) -> tuple[str, str]:
    if isinstance(path, Labels):
        return "labels", os.fspath(path.path)
    if isinstance(path, Weights):
        return "weights", os.fspath(path.path)
    if isinstance(path, str | os.PathLike):
        return "image", os.fspath(path)
    raise UsageError(f"{path!r} is no path: expected a path, Labels(path) or Weights(path)")
