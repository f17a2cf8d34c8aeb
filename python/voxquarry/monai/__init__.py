"""Patches of a store as MONAI's ``MetaTensor``, for ``monai.data.DataLoader``.

Axes are those of the store, ``(c, z, y, x)``, as everywhere in Voxquarry. The affine of a
``MetaTensor`` therefore maps ``(z, y, x)`` indices to RAS+ millimetres, and MONAI's spatial
transforms (``Orientationd``, ``Spacingd``, ``SaveImaged``) see where the voxels are. Values are
real ones, as MONAI loads them. Only what ``LoadImaged`` loads by a path has the axes that it has
from a file, ``(x, y, z)``.
"""

from .._extras import check_version, missing

try:
    import monai

    check_version("monai", monai.__version__, "1.6", "2", "monai")

    from .batches import meta_batch
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
    )
    from .dataset import Dataset
    from .inference import sliding_window_inference
    from .loading import LoadImage, LoadImageD, LoadImaged, LoadImageDict, StoreReader
    from .subjects import LazyVolume, NotLoadedError, datalist, subjects
except ModuleNotFoundError as error:
    raise missing(error, "monai") from error

__all__ = [
    "Dataset",
    "LazyVolume",
    "LoadImage",
    "LoadImageD",
    "LoadImageDict",
    "LoadImaged",
    "NotLoadedError",
    "RandCropByLabelClassesD",
    "RandCropByLabelClassesDict",
    "RandCropByLabelClassesd",
    "RandCropByPosNegLabelD",
    "RandCropByPosNegLabelDict",
    "RandCropByPosNegLabeld",
    "RandWeightedCropD",
    "RandWeightedCropDict",
    "RandWeightedCropd",
    "StoreReader",
    "datalist",
    "meta_batch",
    "sliding_window_inference",
    "subjects",
]
