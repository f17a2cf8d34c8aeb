"""Patches of a store as MONAI's ``MetaTensor``, for ``monai.data.DataLoader``.

Axes are those of the store, ``(c, z, y, x)``, as everywhere in Voxquarry; so a ``MetaTensor``'s
affine maps ``(z, y, x)`` indices to RAS+ millimetres, and MONAI's spatial transforms
(``Orientationd``, ``Spacingd``, ``SaveImaged``) see where the voxels are.
"""

from .crops import (
    RandCropByLabelClassesD,
    RandCropByLabelClassesd,
    RandCropByLabelClassesDict,
    RandCropByPosNegLabelD,
    RandCropByPosNegLabeld,
    RandCropByPosNegLabelDict,
    RandWeightedCropD,
    RandWeightedCropd,
    RandWeightedCropDict,
    subjects,
)
from .dataset import Dataset
from .inference import sliding_window_inference

__all__ = [
    "Dataset",
    "RandCropByLabelClassesD",
    "RandCropByLabelClassesDict",
    "RandCropByLabelClassesd",
    "RandCropByPosNegLabelD",
    "RandCropByPosNegLabelDict",
    "RandCropByPosNegLabeld",
    "RandWeightedCropD",
    "RandWeightedCropDict",
    "RandWeightedCropd",
    "sliding_window_inference",
    "subjects",
]
