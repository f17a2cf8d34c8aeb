"""Stores 3-D medical images for patches, and samples, queues and blends these patches.

Axes are the array's, ``(c, z, y, x)`` with x fastest; a volume without channels is ``(z, y, x)``.
Sizes, starts, spacing and overlaps are given in ``(z, y, x)``, and an int means a cube. ``affine``
is nibabel's: it maps ``(x, y, z)`` voxel indices to RAS+ millimetres.
"""

from ._arrays import Array, Planes
from ._components import label_components, merge_labels
from ._errors import (
    DataError,
    Error,
    FileMissingError,
    NotFoundError,
    OutOfMemoryError,
    PathNotFoundError,
    StorageError,
    TooLargeError,
    UsageError,
)
from ._export import export
from ._fingerprint import fingerprint
from ._inference import infer
from ._ingest import Labels, Weights, ingest
from ._native import (
    Aggregator,
    Augment,
    ConstrainedSampler,
    Dataset,
    GridSampler,
    LabelSampler,
    ObjectSampler,
    Queue,
    ResampledVolume,
    Scale,
    ScaledVolume,
    Subject,
    SubjectSampler,
    UniformSampler,
    Volume,
    WeightedSampler,
    __version__,
    dataset,
    list_subjects,
    open,
    open_zarr,
)
from ._parts import finalize
from ._picture import Picture
from ._resampled import ResampledDataset, ResampledSubject
from ._resampling import resample_to
from ._verify import verify
from ._view import View, view

__all__ = [
    "Aggregator",
    "Array",
    "Augment",
    "ConstrainedSampler",
    "DataError",
    "Dataset",
    "Error",
    "FileMissingError",
    "GridSampler",
    "LabelSampler",
    "Labels",
    "NotFoundError",
    "ObjectSampler",
    "OutOfMemoryError",
    "PathNotFoundError",
    "Picture",
    "Planes",
    "Queue",
    "ResampledDataset",
    "ResampledSubject",
    "ResampledVolume",
    "Scale",
    "ScaledVolume",
    "StorageError",
    "Subject",
    "SubjectSampler",
    "TooLargeError",
    "UniformSampler",
    "UsageError",
    "View",
    "Volume",
    "WeightedSampler",
    "Weights",
    "__version__",
    "dataset",
    "export",
    "finalize",
    "fingerprint",
    "infer",
    "ingest",
    "label_components",
    "list_subjects",
    "merge_labels",
    "open",
    "open_zarr",
    "resample_to",
    "verify",
    "view",
]
