"""TorchIO over a store: a script that trains with TorchIO changes its imports.

``import voxquarry.torchio as tio`` has every name of TorchIO; those that read or blend patches are
here, the others, such as transforms and loaders, are TorchIO's own. With TorchIO 1.2 they are
subclasses of its samplers, queue and aggregator, take and give its ``Subject`` and tensors in its
``(c, i, j, k)`` order, which is ``(c, x, y, z)``. These tensors are views; nothing is transposed in
memory. Subjects of a store (``subject``, or images of a path ``store.zarr/case01/ct``) are read
patch by patch, and ordinary ones work as in TorchIO. With the same seed of torch, the same patches
come. Values are real ones, as TorchIO loads them.

With TorchIO 2, an alpha, the names are its own: see ``voxquarry.torchio.v2``.
"""

from typing import TYPE_CHECKING, Any

from .._extras import check_version, missing

try:
    import torchio

    check_version("torchio", torchio.__version__, "1.2", "3", "torchio")

    if TYPE_CHECKING or torchio.__version__.startswith("1."):
        from . import data, inference, sampler
        from .aggregator import GridAggregator
        from .batches import patch_subjects
        from .queue import Queue
        from .samplers import GridSampler, LabelSampler, UniformSampler, WeightedSampler
        from .subjects import LabelMap, ScalarImage, Subject, subject

        __all__ = [
            "GridAggregator",
            "GridSampler",
            "LabelMap",
            "LabelSampler",
            "Queue",
            "ScalarImage",
            "Subject",
            "UniformSampler",
            "WeightedSampler",
            "data",
            "inference",
            "patch_subjects",
            "sampler",
            "subject",
        ]
    else:
        from .v2 import *  # noqa: F403
        from .v2 import __all__
except ModuleNotFoundError as error:
    raise missing(error, "torchio") from error


def __getattr__(name: str) -> Any:
    """TorchIO's own names."""
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(torchio, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *dir(torchio)})
