"""Patches as tensors: datasets for torch's ``DataLoader``, and a model over a whole volume.

Axes are those of the store, ``(c, z, y, x)``. Tensors share the memory that the patches were read
into. Values are real ones, stored value × slope + intercept, unless ``scaled=False`` is given.
"""

from .._extras import missing

try:
    from .inference import infer
    from .patches import PatchDataset
    from .queues import Loader, QueueDataset, loader
except ModuleNotFoundError as error:
    raise missing(error, "torch") from error

__all__ = ["Loader", "PatchDataset", "QueueDataset", "infer", "loader"]
