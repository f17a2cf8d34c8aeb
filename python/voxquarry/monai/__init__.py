"""Patches of a store as MONAI's ``MetaTensor``, for ``monai.data.DataLoader``.

Axes are those of the store, ``(c, z, y, x)``, as everywhere in Voxquarry; so a ``MetaTensor``'s affine maps ``(z, y, x)`` indices to RAS+
millimetres, and MONAI's spatial transforms (``Orientationd``, ``Spacingd``, ``SaveImaged``) see where the voxels are.
"""

from .dataset import Dataset

__all__ = ["Dataset"]
