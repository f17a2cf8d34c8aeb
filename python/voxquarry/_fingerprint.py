"""The fingerprint of a data set: what nnU-Net's planner needs to know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import _native
from ._progress import shown
from ._types import VolumeProgress


def fingerprint(
    dataset: _native.Dataset,
    *,
    volumes: str | Sequence[str] | None = None,
    labels: str | None = None,
    progress: VolumeProgress | bool | None = None,
) -> dict[str, Any]:
    """Measures what nnU-Net's planner needs: spacings, sizes, values of the foreground, labels.

    Every voxel of the foreground counts, over all subjects; nnU-Net draws some of each case.
    Subjects are read side by side, each twice, in bounded memory.

    Args:
        dataset: The store, opened.
        volumes: The images, whose channels are numbered in this order; by default all images of the
            first subject, by their names.
        labels: The label map whose voxels above 0 are the foreground; by default the only one.
        progress: ``True`` for a bar, or a function that is called with the subject, the bytes read
            so far and the bytes in all.

    Returns:
        A dictionary with the keys of nnU-Net's ``dataset_fingerprint.json``:

        - ``spacings``: for each subject ``[z, y, x]`` in millimetres,
        - ``shapes_after_crop``: for each subject the extents ``[z, y, x]`` of the box of the voxels
          that are not 0 in all images,
        - ``median_relative_size_after_cropping``,
        - ``foreground_intensity_properties_per_channel``: for each channel (``"0"``, …) ``mean``,
          ``median``, ``std``, ``min``, ``max``, ``percentile_00_5``, ``percentile_99_5`` and
          ``voxels``; empty without foreground;

        and with ``subjects``, ``channel_names`` and ``labels`` (for each label except 0 its
        ``name``, ``subjects`` and ``voxels``).

    Raises:
        UsageError: A subject lacks an image, or several label maps could be meant.
        DataError: A damaged store.

    >>> import numpy as np, voxquarry as vq
    >>> ct, seg = np.arange(4096, dtype=np.int16).reshape(16, 16, 16), np.zeros((16, 16, 16), bool)
    >>> seg[8] = True
    >>> subject = {"ct": ct, "seg": vq.Labels(seg)}
    >>> ds = vq.ingest({"case01": subject}, "measured.zarr", patch_size=16)
    >>> found = vq.fingerprint(ds)
    >>> found["foreground_intensity_properties_per_channel"]["0"]["median"]
    2175.5
    """
    names = [volumes] if isinstance(volumes, str) else list(volumes or ())
    answer: dict[str, Any] = json.loads(
        _native.fingerprint(dataset, names, labels, shown(progress))
    )
    return answer
