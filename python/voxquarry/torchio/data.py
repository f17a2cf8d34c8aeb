"""``torchio.data``: its names, of which those that read or blend patches are ours."""

from typing import Any

import torchio as tio

from .aggregator import GridAggregator
from .queue import Queue
from .samplers import GridSampler, LabelSampler, PatchSampler, UniformSampler, WeightedSampler
from .subjects import LabelMap, ScalarImage, Subject

__all__ = [
    "GridAggregator",
    "GridSampler",
    "LabelMap",
    "LabelSampler",
    "PatchSampler",
    "Queue",
    "ScalarImage",
    "Subject",
    "UniformSampler",
    "WeightedSampler",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(tio.data, name)
