"""``patch_subjects``: the patches of a batch as TorchIO's subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchio as tio

from .. import Queue
from .._values import widened
from .subjects import moved

#: Indices ``(i, j, k)`` of TorchIO are those of the store in the other order.
_TURNED = [2, 1, 0, 3]


def patch_subjects(batch: Mapping[str, Any], queue: Queue) -> list[tio.Subject]:
    """The patches of a batch of a ``voxquarry.Queue``, or of ``voxquarry.torch.loader``, as
    subjects of TorchIO.

    Each has an image ``(c, i, j, k)`` for each volume, a view of the batch's memory, with the
    affine of the patch, also where it was augmented; elastic displacements are left out. ``name``
    is the subject's; ``location`` is the box that the sampler chose, in ``(i, j, k)``.

    >>> for batch in queue:
    ...     for patch in voxquarry.torchio.patch_subjects(batch, queue):
    ...         patch["ct"].affine
    """
    return [_subject(batch, number, queue) for number in range(len(batch["subject"]))]


def _subject(batch: Mapping[str, Any], number: int, queue: Queue) -> tio.Subject:
    name = batch["subject"][number]
    location = np.asarray(batch["location"][number])
    images: dict[str, Any] = {}
    for volume in queue.volumes:
        stored = queue.dataset[name][volume]
        if "transform" in batch and "transform" not in queue.volumes:
            affine = np.asarray(batch["transform"][number])[:, _TURNED]
        else:
            affine = moved(stored.affine, location[:3][::-1].tolist())
        voxels = widened(np.asarray(batch[volume][number]))
        kind = tio.LabelMap if stored.kind == "labels" else tio.ScalarImage
        tensor = torch.from_numpy(voxels).permute(0, 3, 2, 1)
        images[volume] = kind(tensor=tensor, affine=affine)
    ends = torch.from_numpy(np.concatenate([location[:3][::-1], location[3:][::-1]]))
    return tio.Subject({**images, "name": name, tio.LOCATION: ends})
