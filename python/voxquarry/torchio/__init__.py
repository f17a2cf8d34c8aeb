"""TorchIO's patch classes over a store: a script that trains with TorchIO 1.2 changes its imports.

They are TorchIO's own classes with other insides, so they take and give its ``Subject`` and tensors
in its ``(c, i, j, k)`` order, which is ``(c, x, y, z)``: views of what the store holds, nothing is
transposed in memory. Subjects of a store (``subject``) are read patch by patch; ordinary ones work
as in TorchIO. With the same seed of torch, the same patches come.
"""

from .aggregator import GridAggregator
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
    "subject",
]
