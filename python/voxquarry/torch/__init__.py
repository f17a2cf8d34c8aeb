"""Patches as tensors: data sets for torch's ``DataLoader``, and a model over a whole volume.

Axes are those of the store, ``(c, z, y, x)``; tensors share the memory that the patches were read
into.
"""

from .inference import infer
from .patches import PatchDataset
from .queues import Loader, QueueDataset, loader

__all__ = ["Loader", "PatchDataset", "QueueDataset", "infer", "loader"]
