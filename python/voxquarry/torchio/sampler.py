"""``torchio.sampler``: its names, and our samplers."""

from typing import Any

import torchio as tio

from .samplers import (
    GridSampler,
    LabelSampler,
    PatchSampler,
    UniformSampler,
    WeightedSampler,
)

__all__ = [
    "GridSampler",
    "LabelSampler",
    "PatchSampler",
    "UniformSampler",
    "WeightedSampler",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(tio.data.sampler, name)
