"""TorchIO's patch classes over a store: a script that trains with TorchIO 1.2 changes its imports.

They are subclasses of TorchIO's, so they take and give its ``Subject`` and tensors in its
``(c, i, j, k)`` order, which is ``(c, x, y, z)``. These tensors are views; nothing is transposed in
memory. Subjects of a store (``subject``) are read patch by patch, and ordinary ones work as in
TorchIO. With the same seed of torch, the same patches come. Values are real ones, as TorchIO loads
them.
"""

from .._extras import missing

try:
    from .aggregator import GridAggregator
    from .queue import Queue
    from .samplers import GridSampler, LabelSampler, UniformSampler, WeightedSampler
    from .subjects import LabelMap, ScalarImage, Subject, subject
except ModuleNotFoundError as error:
    raise missing(error, "torchio") from error

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
    "subject",
]
