"""Patches out of volumes bigger than RAM.

Axes are the array's, ``(c, z, y, x)`` with x fastest; a volume without channels is ``(z, y, x)``.
Sizes, starts, spacing and overlaps are given in ``(z, y, x)``, and an int means a cube. ``affine``
is nibabel's: it maps ``(x, y, z)`` voxel indices to RAS+ millimetres.
"""

from collections.abc import Mapping as _Mapping

from ._errors import DataError, Error, NotFoundError, StorageError, UsageError
from ._inference import infer
from ._ingest import Labels, Weights, ingest
from ._native import (
    Aggregator,
    ConstrainedSampler,
    Dataset,
    GridSampler,
    LabelSampler,
    Queue,
    Scale,
    Subject,
    SubjectSampler,
    UniformSampler,
    Volume,
    WeightedSampler,
    __version__,
    export,
    open,
    verify,
)

_Mapping.register(Dataset)
_Mapping.register(Subject)

__all__ = [
    "Aggregator",
    "ConstrainedSampler",
    "DataError",
    "Dataset",
    "Error",
    "GridSampler",
    "LabelSampler",
    "Labels",
    "NotFoundError",
    "Queue",
    "Scale",
    "StorageError",
    "Subject",
    "SubjectSampler",
    "UniformSampler",
    "UsageError",
    "Volume",
    "WeightedSampler",
    "Weights",
    "__version__",
    "export",
    "infer",
    "ingest",
    "open",
    "verify",
]
