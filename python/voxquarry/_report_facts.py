"""What a report says of each volume, and which numbers are unusual.

Numbers come from documents and label counts; a sample of an image from blocks that are spread over
it. Memory is that of eight volumes' blocks, the label counts of eight, and a few numbers for each
volume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import Dataset, Volume
from ._report_labels import LabelFacts, label_facts, listed
from ._values import real_range, real_values

_SIDE = 16
# Subjects that are looked at together: a server answers late, and many at a time.
_AT_A_TIME = 8
# A subject is unusual beyond this many deviations (scaled median absolute ones) from the median.
_UNUSUAL = 5.0


@dataclass(frozen=True)
class Facts:
    """What a report says of a volume."""

    subject: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    unit: str
    low: float | None
    high: float | None
    mean: float | None
    std: float | None
    not_finite: int
    #: Of a label map whose label counts the store holds.
    labels: LabelFacts | None
    sample: NDArray[np.float64]


#: The volumes of a data set by their name and kind.
AllFacts = dict[tuple[str, str], list[Facts]]


def facts_of(dataset: Dataset, samples: int) -> AllFacts:
    """The facts of all volumes.

    Args:
        dataset: The store.
        samples: Blocks of 16³ voxels that are read of each image.
    """

    def of_subject(name: str) -> list[tuple[tuple[str, str], Facts]]:
        volumes = dataset[name].values()
        return [((volume.name, volume.kind), _facts(volume, samples)) for volume in volumes]

    facts: AllFacts = defaultdict(list)
    pool = ThreadPoolExecutor(_AT_A_TIME)
    try:
        for found in pool.map(of_subject, dataset):
            for volume, own in found:
                facts[volume].append(own)
    finally:
        pool.shutdown(cancel_futures=True)
    return facts


def _facts(volume: Volume, samples: int) -> Facts:
    stats, extent = volume.stats, real_range(volume)
    is_image = volume.kind == "image"
    scale, shift = (volume.slope, volume.intercept) if is_image else (1.0, 0.0)
    mean, std = stats["mean"], stats["std"]
    return Facts(
        subject=volume.subject.name,
        shape=volume.shape,
        dtype=volume.dtype.name,
        spacing=volume.spacing,
        unit=volume.unit,
        low=extent[0] if extent else None,
        high=extent[1] if extent else None,
        mean=None if mean is None else mean * scale + shift,
        std=None if std is None else std * abs(scale),
        not_finite=stats["non_finite"],
        labels=label_facts(volume) if volume.has_label_counts else None,
        sample=_sample(volume, samples) if is_image else np.empty(0),
    )


def _sample(volume: Volume, samples: int) -> NDArray[np.float64]:
    """Real values of blocks that are spread over a volume."""
    if not samples:
        return np.empty(0)
    size = volume.shape[-3:]
    extent = [min(_SIDE, n) for n in size]
    # Places of a lattice without a common step: the fractional parts of multiples.
    steps = np.arange(1, samples + 1)[:, None] * [0.8191725134, 0.6710436067, 0.5497004779]
    room = np.array(size) - extent
    starts = np.floor(steps % 1.0 * (room + 1)).astype(np.int64)
    blocks = real_values(volume).read_batch(starts, extent)
    values = blocks.astype(np.float64).ravel()
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return np.quantile(finite, np.linspace(0, 1, 1001)) if finite.size else finite


def numbers_of(facts: Sequence[Facts], kind: str) -> dict[str, list[float | None]]:
    """The numbers that are compared between subjects, by their names."""
    numbers: dict[str, list[float | None]] = {
        "extent z": [float(f.shape[-3]) for f in facts],
        "extent y": [float(f.shape[-2]) for f in facts],
        "extent x": [float(f.shape[-1]) for f in facts],
        "spacing z": [f.spacing[0] for f in facts],
        "spacing y": [f.spacing[1] for f in facts],
        "spacing x": [f.spacing[2] for f in facts],
    }
    if kind == "image":
        return numbers | {
            "least": [f.low for f in facts],
            "greatest": [f.high for f in facts],
            "mean": [f.mean for f in facts],
            "deviation": [f.std for f in facts],
        }
    labelled = [None if f.labels is None else f.labels.all_voxels / prod(f.shape) for f in facts]
    return numbers | {"labelled": labelled}


def reasons_of(
    facts: Sequence[Facts], kind: str, numbers: dict[str, list[float | None]]
) -> dict[int, list[str]]:
    """Why volumes are unusual, by their place in the list; the others are left out."""
    reasons: dict[int, list[str]] = defaultdict(list)
    for name, values in numbers.items():
        for n in unusual(values):
            reasons[n].append(name)
    for n, f in enumerate(facts):
        if f.not_finite:
            reasons[n].append(f"{f.not_finite} voxels that are not finite")
        if kind == "image" and f.low is not None and f.low == f.high:
            reasons[n].append("all voxels are equal")
        if f.labels is not None and f.labels.count == 0:
            reasons[n].append("no label")
    return reasons


def unusual(values: Sequence[float | None]) -> list[int]:
    """The numbers far from the median: more than five deviations, by the median of deviations.

    Where more than half are equal, every other one that differs by more than a tenth is.
    """
    known = np.array([np.nan if value is None else value for value in values])
    finite = known[np.isfinite(known)]
    if finite.size < 3:
        return []
    middle = np.median(finite)
    deviations = np.abs(known - middle)
    scale = 1.4826 * np.median(np.abs(finite - middle))
    limit = _UNUSUAL * scale if scale > 0 else 0.1 * abs(middle)
    with np.errstate(invalid="ignore"):
        return [int(n) for n in np.flatnonzero(deviations > limit)]


def as_json(dataset: Dataset, volumes: AllFacts) -> dict[str, Any]:
    """The facts as JSON has them; what is no finite number is null."""
    found = []
    for (name, kind), facts in sorted(volumes.items()):
        reasons = reasons_of(facts, kind, numbers_of(facts, kind))
        for n, f in enumerate(facts):
            found.append(
                {
                    "subject": f.subject,
                    "volume": name,
                    "kind": kind,
                    "shape": list(f.shape),
                    "dtype": f.dtype,
                    "spacing": list(f.spacing),
                    "unit": f.unit,
                    "min": _finite(f.low),
                    "max": _finite(f.high),
                    "mean": _finite(f.mean),
                    "std": _finite(f.std),
                    "not_finite": f.not_finite,
                    "unusual": reasons.get(n, []),
                    "labels": None if f.labels is None else listed([f.labels]),
                }
            )
    labels = {
        name: listed([f.labels for f in facts if f.labels is not None])
        for (name, kind), facts in sorted(volumes.items())
        if kind == "labels"
    }
    return {
        "store": dataset.path,
        "subjects": len(dataset),
        "splits": {name: len(subjects) for name, subjects in dataset.splits.items()},
        "volumes": found,
        "labels": labels,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
