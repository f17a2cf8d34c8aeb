"""``Dataset``: the patches of a sampler as ``MetaTensor``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import apply_transform

from .. import Dataset as Store
from .. import ResampledVolume, Volume
from .._paths import path_of
from .._types import Channels, OnMissing, Padding
from .._values import widened
from ..torch.patches import PatchDataset, Sampler
from .subjects import name_after_subject


class Dataset(PatchDataset):
    """``voxquarry.torch.PatchDataset`` whose volumes are ``MetaTensor``, with the patch's affine,
    and its location in ``meta``.

    An item is a dictionary, for MONAI's dictionary transforms: ``{"ct": MetaTensor (c, z, y, x), …,
    "location": (6,), "subject": name}``.

    Args:
        dataset, sampler, volumes, patches_per_subject, seed, padding, scaled, on_missing, channels:
            As for ``voxquarry.torch.PatchDataset``.
        transform: MONAI transforms for each item; one that gives several items makes the item a
            list, as in MONAI.
    """

    transform: Any

    def __init__(
        self,
        dataset: Store,
        sampler: Sampler,
        volumes: Sequence[str] | None = None,
        patches_per_subject: int = 1,
        *,
        seed: int = 0,
        padding: Padding = None,
        transform: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        scaled: bool = True,
        on_missing: OnMissing = "error",
        channels: Channels | Mapping[str, Channels] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            sampler,
            volumes,
            patches_per_subject,
            seed=seed,
            padding=padding,
            scaled=scaled,
            on_missing=on_missing,
            channels=channels,
        )
        self.transform = transform

    def _finish(self, item: dict[str, Any], number: int) -> Any:
        subject = self.dataset[item["subject"]]
        for name in self.volumes:
            item[name] = meta_tensor(item[name], subject[name], item["location"], number)
        return item if self.transform is None else apply_transform(self.transform, item)


def meta_tensor(
    patch: torch.Tensor, volume: Volume, location: torch.Tensor, number: int
) -> MetaTensor:
    """A patch ``(c, z, y, x)`` with the affine of its place in ``volume``.

    ``meta`` has what MONAI's own loader puts there, for the patch: its writers save patch
    ``number`` of each subject as a file of its own, named after the subject. As of a file without
    channels, ``original_channel_dim`` is NaN if there is one channel; from MONAI 1.6.1 on, writers
    take anything else for an image with two spatial axes. It also has ``location`` and ``subject``.
    The affine maps the patch's ``(z, y, x)`` indices to RAS+
    millimetres.
    """
    subject = volume.subject
    values = torch.from_numpy(widened(patch.numpy()))
    affine = affine_at(volume, location[:3].numpy())
    meta = {
        "location": location,
        "subject": subject.name,
        "filename_or_obj": name_after_subject(path_of(volume), subject.name),
        "patch_index": number,
        "original_affine": affine.clone(),
        "original_channel_dim": float("nan") if len(values) == 1 else 0,
        "spatial_shape": np.array(values.shape[1:]),
        "space": "RAS",
    }
    return MetaTensor(values, affine=affine, meta=meta)


def affine_at(volume: Volume | ResampledVolume, start: np.ndarray) -> torch.Tensor:
    """The volume's affine for indices ``(z, y, x)`` that count from ``start``."""
    affine = volume.affine[:, [2, 1, 0, 3]]
    affine[:3, 3] += affine[:3, :3] @ start
    return torch.from_numpy(affine)
