"""Patches as tensors: data sets for torch's ``DataLoader``.

Axes are those of the store, ``(c, z, y, x)``; tensors share the memory that the patches were read into.
"""

from .patches import PatchDataset
from .queues import Loader, QueueDataset, loader

__all__ = ["Loader", "PatchDataset", "QueueDataset", "loader"]
