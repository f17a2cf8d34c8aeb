"""Results that several processes compute, each a part: what a part may be, and joining them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import _native
from ._errors import UsageError
from ._types import Head, Path


def finalize(out: Path | Sequence[Path] | Mapping[Head, Path], *, discard: bool = False) -> Any:
    """Joins the parts of a result, ``infer(…, out, part=(i, n))``, into the volume at ``out``.

    The volume appears in one step, and every file of it is that of one process without parts.
    Shards are linked, not copied, where the disk has hard links. A volume that was finalized
    before is returned again.

    Args:
        out: As for :func:`infer`: ``"STORE/SUBJECT/VOLUME"``, or a dict or a list of paths.
        discard: Remove the unfinished parts instead; there is nothing to return then.

    Returns:
        The volume at ``out``, or a dict or list of them.

    Raises:
        UsageError: Parts are missing: the message names them; none was begun; or a process works
            on one.
        DataError: The store is damaged.
        StorageError: The store cannot be written.

    >>> import numpy as np, voxquarry as vq
    >>> ct = np.zeros((64, 64, 64), np.int16)
    >>> volume = vq.ingest({"case01": {"ct": ct}}, "example.zarr", patch_size=32)["case01"]["ct"]
    >>> def model(patches):
    ...     return patches.astype(np.float32)
    >>> for i in range(2):  # each in a process of its own, on any machine that sees the store
    ...     vq.infer(model, volume, 32, out="example.zarr/case01/heat", part=(i, 2))
    >>> vq.finalize("example.zarr/case01/heat").shape
    (64, 64, 64)
    """
    join = _native.discard_volume_parts if discard else _native.finalize_volume
    if isinstance(out, str | os.PathLike):
        joined: Any = join(os.fspath(out))
    elif isinstance(out, Mapping):
        joined = {name: join(os.fspath(path)) for name, path in out.items()}
    else:
        joined = [join(os.fspath(path)) for path in out]
    return None if discard else joined


def checked_part(
    part: Any, *, out: Any, resume: bool | str, views: Sequence[Any]
) -> tuple[int, int]:
    """``part`` as two ints, of an inference that can be divided."""
    try:
        number, count = (int(n) for n in part)
    except (TypeError, ValueError):
        raise UsageError(f"part {part!r}: expected (i, n), as in (3, 16)") from None
    if out is None:
        raise UsageError("part: an array ends with its process: give an out")
    if resume is False:
        raise UsageError(
            "part: a part is always continued: leave out resume=False; to start again, remove all"
            " parts first (finalize with discard)"
        )
    if any(view is not None for view in views):
        raise UsageError(
            "part: an inference at another spacing or orientation cannot be divided: ingest the"
            " volume at the model's spacing, or resample it (resample_to), and divide the"
            " inference on that"
        )
    if not 0 <= number <= count or count < 1:
        raise UsageError(f"part {part!r}: expected (i, n) with i from 0 to n - 1, or from 1 to n")
    return number, count
