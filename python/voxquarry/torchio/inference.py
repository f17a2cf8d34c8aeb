"""``torchio.inference``: our sampler and aggregator."""

from typing import Any

import torchio as tio

from .aggregator import GridAggregator
from .samplers import GridSampler

__all__ = ["GridAggregator", "GridSampler"]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(tio.data.inference, name)
