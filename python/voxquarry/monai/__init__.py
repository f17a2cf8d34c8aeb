"""Patches of a store as MONAI's ``MetaTensor``, for ``monai.data.DataLoader``.

Axes are those of the store, ``(c, z, y, x)``, as everywhere in Voxquarry. The affine of a
``MetaTensor`` therefore maps ``(z, y, x)`` indices to RAS+ millimetres, and MONAI's spatial
transforms (``Orientationd``, ``Spacingd``, ``SaveImaged``) see where the voxels are. Values are
real ones, as MONAI loads them.
"""

from .._extras import missing

try:
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
except ModuleNotFoundError as error:
    raise missing(error, "monai") from error

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
