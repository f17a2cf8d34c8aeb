"""nnU-Net's trainers on stores, which it finds here by ``nnUNet_extTrainer``.

``nnUNetTrainerVoxquarry`` is its default trainer; each other one is there by its name and
``Voxquarry``, for example ``nnUNetTrainer_250epochsVoxquarry``.
"""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

# Importing it makes nnU-Net know folders with a store.
import voxquarry.nnunet  # noqa: F401

_SUFFIX = "Voxquarry"


class nnUNetTrainerVoxquarry(nnUNetTrainer):
    """nnU-Net's trainer; preprocessed folders may have a store."""


def __getattr__(name: str) -> type:
    if not name.endswith(_SUFFIX) or name.startswith("_"):
        raise AttributeError(name)
    base = recursive_find_trainer_class_by_name(name.removesuffix(_SUFFIX))
    return type(name, (base,), {"__doc__": f"``{base.__name__}`` on stores."})
