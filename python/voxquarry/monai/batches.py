"""``meta_batch``: a batch of a queue as ``MetaTensor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from .. import Queue
from .._values import widened
from .dataset import affine_at


def meta_batch(batch: Mapping[str, Any], queue: Queue) -> dict[str, Any]:
    """A batch of ``queue``, or of ``voxquarry.torch.loader(queue)``, whose volumes are batched
    ``MetaTensor`` over the same memory, as MONAI's own loader gives them.

    Each has ``affine``, ``(B, 4, 4)``: from the patch's ``(z, y, x)`` indices to RAS+ millimetres,
    also of patches that were augmented; elastic displacements are left out. ``decollate_batch``
    takes it apart. ``"location"`` and ``"subject"`` stay what they are, and ``"transform"``, if it
    is there, is a tensor.

    >>> for batch in voxquarry.torch.loader(queue):
    ...     batch = voxquarry.monai.meta_batch(batch, queue)
    ...     batch["ct"].affine
    """
    location = torch.as_tensor(batch["location"])
    result: dict[str, Any] = {"location": location, "subject": batch["subject"]}
    if "transform" in batch and "transform" not in queue.volumes:
        affines = torch.as_tensor(batch["transform"])
        result["transform"] = affines
    else:
        places = zip(batch["subject"], location.numpy(), strict=True)
        first = queue.volumes[0]
        affines = torch.stack(
            [affine_at(queue.dataset[name][first], at[:3]) for name, at in places]
        )
    for name in queue.volumes:
        values = torch.from_numpy(widened(np.asarray(batch[name])))
        result[name] = _batched(values, affines.clone(), batch["subject"], location)
    return result


def _batched(
    values: torch.Tensor, affines: torch.Tensor, subjects: list[str], location: torch.Tensor
) -> MetaTensor:
    count, _, *shape = values.shape
    batched = MetaTensor(values)
    batched.meta = {
        "affine": affines,
        "original_affine": affines.clone(),
        "location": location,
        "subject": list(subjects),
        "spatial_shape": torch.tensor([shape] * count),
        "space": ["RAS"] * count,
    }
    batched.applied_operations = [[] for _ in range(count)]
    batched.is_batch = True
    return batched
