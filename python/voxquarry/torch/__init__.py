"""Patches as tensors: datasets for torch's ``DataLoader``, and a model over a whole volume.

Axes are those of the store, ``(c, z, y, x)``. Tensors share the memory that the patches were read
into. Values are real ones, stored value × slope + intercept, unless ``scaled=False`` is given.
"""

from .._extras import check_version, missing

try:
    import torch

    # Older ones cannot hold the voxels of a uint16 volume.
    check_version("torch", torch.__version__, "2.3", "3", "torch")

    from .inference import infer
    from .patches import PatchDataset, PatchSampler
    from .queues import Loader, QueueDataset, loader
except ModuleNotFoundError as error:
    raise missing(error, "torch") from error

__all__ = ["Loader", "PatchDataset", "PatchSampler", "QueueDataset", "infer", "loader"]
