"""``verify``: whether a store is as it was written."""

from __future__ import annotations

from . import _native
from ._progress import shown
from ._types import Path, VerifyReport, VolumeProgress


def verify(path: Path, *, progress: VolumeProgress | bool | None = None) -> VerifyReport:
    """Checks a whole store: every document, index, checksum, chunk and label count, of all levels.

    Ctrl-C stops it between chunks.

    Args:
        path: The store's folder.
        progress: ``True`` for a bar, or a function that is called with the volume
            (``"case01/ct"``), the bytes of voxels checked so far and the bytes in all, before
            compression.

    Returns:
        Counts of what was checked: ``subjects``, ``volumes``, ``shards``, ``chunks`` and
            ``encoded_bytes``.

    Raises:
        PathNotFoundError: There is nothing at that path.
        UsageError: It is no store, or behind a URL.
        DataError: Damage. The message names the first error; the attribute ``errors`` lists up to a
            hundred.
        StorageError: The disk cannot be read.

    >>> import numpy as np, voxquarry as vq
    >>> ds = vq.ingest({"case01": {"ct": np.ones((40, 40, 40), np.int16)}}, "s.zarr", patch_size=16)
    >>> report = vq.verify("s.zarr")
    >>> report["subjects"], report["volumes"]
    (1, 1)
    """
    return _native.verify(path, shown(progress))
