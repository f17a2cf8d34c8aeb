"""Connected components of stored volumes, and instance labels joined across blocks."""

from __future__ import annotations

import os
from typing import Any, Literal

from numpy.typing import DTypeLike

from . import _native
from ._errors import UsageError
from ._parts import checked_part
from ._progress import Progress, steps
from ._types import Bytes, Path, Size


def label_components(
    volume: _native.Volume,
    out: Path | None = None,
    *,
    connectivity: Literal[1, 2, 3, 6, 18, 26] = 1,
    join: Literal["foreground", "equal"] = "foreground",
    min_voxels: int = 1,
    largest: int | None = None,
    dtype: DTypeLike | None = None,
    block_size: Size | None = None,
    memory_bytes: Bytes = "1GiB",
    threads: int | None = None,
    part: tuple[int, int] | None = None,
    progress: Progress = False,
) -> Any:
    """Numbers the connected components of ``volume``, box by box.

    The numbers are those of ``scipy.ndimage.label``: from 1, in C order of each object's first
    voxel, whatever the boxes. The volume is read twice. Memory is a few boxes, 8 bytes for each
    voxel of a z plane, and about 28 bytes for each piece of an object in a box.

    Args:
        volume: A stored volume of integers without channels; 0 is the background.
        out: ``"STORE/SUBJECT/VOLUME"``, or ``None`` for an array.
        connectivity: 1, 2 or 3 as in scipy and scikit-image, or 6, 18 or 26 neighbours: voxels
            touch by a face, by an edge too, or by a corner too.
        join: ``"foreground"``: all voxels that touch are one object; ``"equal"``: only those that
            are equal, so that classes stay apart.
        min_voxels: Objects with fewer voxels become background.
        largest: How many objects stay, those with most voxels; of equal ones, the first.
        dtype: Type of the labels, an integer; by default the smallest of uint8, uint16 and uint32
            that holds the number of objects.
        block_size: Extents of the boxes, an int or ``(z, y, x)``; by default as many whole chunks
            as the memory allows.
        memory_bytes: Memory for boxes that are read and written; a result that is an array does not
            count.
        threads: Threads that read, label and encode; by default those of the volume's dataset.
        part: ``(i, n)`` with ``out``: only the shards of part i of n are written, and
            :func:`finalize` makes the volume of all parts, that of one process byte for byte. Each
            part reads the whole volume once to number its objects.
        progress: As for :func:`infer`, in voxels of both readings.

    Returns:
        An array ``(z, y, x)``, or the volume at ``out``, which is a label map with counts; ``None``
        for a part. The largest label, ``stats["max"]`` of a volume, is the number of objects.

    Raises:
        UsageError: Floats, channels, or arguments that are not accepted; ``out`` exists.
        DataError: Damaged chunks.
        StorageError: The result cannot be written.
        MemoryError: There is no room for the table of pieces, a plane or the array.

    >>> import numpy as np, voxquarry as vq
    >>> mask = np.zeros((40, 40, 40), np.uint8)
    >>> mask[2:9, 2:9, 2:9] = mask[20:22, 30:39, 1:40] = 1
    >>> volume = vq.ingest({"case01": {"mask": vq.Labels(mask)}}, "masks.zarr", patch_size=16)
    >>> labels = vq.label_components(volume["case01"]["mask"], "masks.zarr/case01/lesions")
    >>> labels.stats["max"], int(labels[5, 5, 5]), int(labels[20, 30, 1])
    (2, 1, 2)
    """
    return _written(
        volume,
        out,
        join,
        None,
        connectivity,
        min_voxels,
        largest,
        dtype,
        block_size,
        memory_bytes,
        threads,
        part,
        progress,
    )


def merge_labels(
    volume: _native.Volume,
    block_size: Size,
    out: Path | None = None,
    *,
    connectivity: Literal[1, 2, 3, 6, 18, 26] = 1,
    min_voxels: int = 1,
    largest: int | None = None,
    dtype: DTypeLike | None = None,
    memory_bytes: Bytes = "1GiB",
    threads: int | None = None,
    part: tuple[int, int] | None = None,
    progress: Progress = False,
) -> Any:
    """Makes one label map of instance labels that were predicted block by block.

    In each block of ``block_size`` voxels, equal ids are one object, and ids say nothing about
    other blocks. Objects of different blocks that touch across the blocks' faces become one. The
    result is numbered from 1 in C order of each object's first voxel.

    With one block as large as the volume, the labels are only numbered anew, without gaps.

    Args:
        volume: A stored volume of integer ids without channels; 0 is the background.
        block_size: Extents of the blocks, an int or ``(z, y, x)``; the first begins at the first
            voxel, and those at the end may be smaller.
        out, connectivity, min_voxels, largest, dtype, memory_bytes, threads, part, progress: As
            for :func:`label_components`. A table of 24 to 48 bytes for each id of a block comes to
            its memory.

    Returns:
        As for :func:`label_components`.

    Raises:
        UsageError, DataError, StorageError, MemoryError: As for :func:`label_components`.

    >>> import numpy as np, voxquarry as vq
    >>> ids = np.zeros((16, 16, 32), np.uint16)
    >>> ids[4:8, 4:8, 10:16] = 7  # the left half of an object, as its block names it
    >>> ids[4:8, 4:8, 16:20] = 1  # its right half, in the next block
    >>> volume = vq.ingest({"case01": {"ids": vq.Labels(ids)}}, "ids.zarr", patch_size=16)
    >>> np.unique(vq.merge_labels(volume["case01"]["ids"], 16)).tolist()
    [0, 1]
    """
    if block_size is None:
        raise UsageError("block_size: expected the extents of the blocks that were predicted")
    return _written(
        volume,
        out,
        "foreground",
        block_size,
        connectivity,
        min_voxels,
        largest,
        dtype,
        None,
        memory_bytes,
        threads,
        part,
        progress,
    )


def _written(
    volume: Any,
    out: Path | None,
    join: str,
    blocks: Size | None,
    connectivity: int,
    min_voxels: int,
    largest: int | None,
    dtype: DTypeLike | None,
    block_size: Size | None,
    memory_bytes: Bytes,
    threads: int | None,
    part: tuple[int, int] | None,
    progress: Progress,
) -> Any:
    if not isinstance(volume, _native.Volume):
        raise UsageError(
            f"volume is a {type(volume).__name__}: expected a stored volume; ingest arrays first"
            " (vq.ingest), and read Zarr in place (vq.open_zarr)"
        )
    return _native.write_components(
        volume,
        None if out is None else os.fspath(out),
        join,
        blocks,
        connectivity,
        min_voxels,
        largest,
        dtype,
        block_size,
        memory_bytes,
        threads,
        None if part is None else checked_part(part, out=out, resume=True, views=()),
        steps(progress, "voxel"),
    )
