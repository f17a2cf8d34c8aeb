"""Turns paths, arrays, dictionaries and manifests into one list of sources, and ingests them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike

from . import _native
from ._arrays import Spacing, Voxels, affine_of, is_voxels, own_affine, voxels_of
from ._errors import DataError, UsageError
from ._progress import shown
from ._types import (
    Bytes,
    Codec,
    IngestChoices,
    Layout,
    Levels,
    Normalize,
    Path,
    RawVoxels,
    Size,
    SourceKind,
    VolumeProgress,
)


@dataclass(frozen=True)
class Labels:
    """Marks a file or an array as a label map or mask. Ingest counts its labels, so that samplers
    can balance classes.
    """

    path: Any


@dataclass(frozen=True)
class Weights:
    """Marks a file or an array as weights of a ``WeightedSampler``: finite and not negative. Ingest
    sums them by chunk.
    """

    path: Any


@dataclass(frozen=True)
class Failure:
    """A subject that could not be ingested."""

    subject: str
    #: The volume at fault; empty if it is the whole subject.
    volume: str
    path: str
    error: str


@dataclass(frozen=True)
class IngestReport:
    """What :func:`ingest` did; the ``report`` of the dataset that it returns."""

    done: list[str]
    skipped: list[str]
    failed: list[Failure]
    #: What was recognised, ignored or decided for the caller.
    notes: list[str]


# A path, an array, an image, Array(…), Planes(…), Labels(…) or Weights(…).
Volumes = Mapping[str, Any]


@overload
def ingest(
    source: Path | Sequence[Path] | Mapping[str, Any | Volumes],
    out: Path,
    patch_size: Size | Sequence[Size] = 96,
    *,
    spacing: Spacing | None = None,
    affine: Any = None,
    dims: str | None = None,
    codec: Codec = "fast",
    memory_bytes: Bytes = "1GiB",
    threads: int | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    add: bool = False,
    keep_going: bool = False,
    layout: Layout = "auto",
    pattern: str | None = None,
    kinds: Mapping[str, SourceKind] | None = None,
    subset: str | Sequence[str] = (),
    grid_tolerance: float | None = None,
    grid_from: str | None = None,
    raw: RawVoxels | None = None,
    levels: Levels = 0,
    crop_foreground: bool = False,
    clip: tuple[float, float] | None = None,
    canonical: bool = False,
    target_spacing: Spacing | None = None,
    normalize: Normalize | None = None,
    dtype: DTypeLike | None = None,
    progress: VolumeProgress | bool | None = None,
) -> _native.Dataset: ...


@overload
def ingest(
    source: Path | Sequence[Path] | Mapping[str, Any | Volumes],
    out: Path,
    patch_size: Size | Sequence[Size] = 96,
    *,
    plan: Path,
    **options: Any,
) -> IngestReport: ...


@overload
def ingest(
    *,
    out: Path | None = None,
    plan: Path | None = None,
    part: tuple[int, int],
    threads: int | None = None,
    progress: VolumeProgress | bool | None = None,
) -> IngestReport: ...


@overload
def ingest(
    *, out: Path | None = None, plan: Path | None = None, finalize: Literal[True]
) -> _native.Dataset: ...


# A plan takes all options of an ingest.
def ingest(  # type: ignore[misc]
    source: Path | Sequence[Path] | Mapping[str, Any | Volumes] | None = None,
    out: Path | None = None,
    patch_size: Size | Sequence[Size] = 96,
    *,
    spacing: Spacing | None = None,
    affine: Any = None,
    dims: str | None = None,
    codec: Codec = "fast",
    memory_bytes: Bytes = "1GiB",
    threads: int | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    add: bool = False,
    keep_going: bool = False,
    layout: Layout = "auto",
    pattern: str | None = None,
    kinds: Mapping[str, SourceKind] | None = None,
    subset: str | Sequence[str] = (),
    grid_tolerance: float | None = None,
    grid_from: str | None = None,
    raw: RawVoxels | None = None,
    levels: Levels = 0,
    crop_foreground: bool = False,
    clip: tuple[float, float] | None = None,
    canonical: bool = False,
    target_spacing: Spacing | None = None,
    normalize: Normalize | None = None,
    dtype: DTypeLike | None = None,
    progress: VolumeProgress | bool | None = None,
    plan: Path | None = None,
    part: tuple[int, int] | None = None,
    finalize: bool = False,
) -> _native.Dataset | IngestReport:
    """Converts images to the store at ``out`` and opens it.

    Args:
        source: A file (subject is its stem, volume ``image``), the folder of a data set (nnU-Net,
            Medical Segmentation Decathlon, BIDS, images, or a folder for each subject), a name with
            ``*``, several of these, a manifest ``TABLE.csv`` with the columns
            ``subject,volume,kind,path`` (kind: image, labels or weights), or
            ``{"case01": {"ct": path, "seg": Labels(path), "heat": Weights(path)}}``.
            In a dictionary, an array, an image of nibabel or SimpleITK, :class:`Array` or
            :class:`Planes` can stand for a path. Arrays are read slab by slab, never copied whole.
        out: The store; it is made if it is not there.
        patch_size: Patches that will be read, an int or ``(z, y, x)``; a list of them for mixed
            use.
        spacing: Distance of the voxels of arrays along ``(z, y, x)``, or one number for all. For
            paths it takes the place of wrong headers, and of the 1 mm that ``.npy`` files get.
        affine: 4×4, from voxel index ``(x, y, z)`` to RAS+ millimetres, instead of ``spacing``.
            For paths it takes the place of wrong headers.
            If neither is given, images have their own affine, arrays that of the first image in
            memory of their subject, or else voxels of 1 mm.
        dims: The axes of arrays, such as ``"czyx"`` or ``"xyz"``; see :class:`Array`.
        codec: ``"fast"`` decodes at memory speed, ``"compact"`` takes fewest bytes, ``"none"``
            stores voxels as they are.
        memory_bytes: Memory that the run may use, an int or a string such as ``"1GiB"``.
        threads: Threads that encode; all cores by default.
        overwrite: Replace subjects that are there; with ``add``, their volumes of the same names.
        skip_existing: Leave subjects that are there, by their names alone. Without it they are left
            if they were made from the same bytes with the same options, and refused otherwise.
        add: Add volumes to subjects that are there, which keep their others.
        keep_going: Ingest the subjects that can be ingested; the others are in ``report.failed``.
        layout: The layout of folders.
        pattern: Where files lie below ``source``, as in ``"{subject}/{volume}.nii.gz"``.
        kinds: Kinds of volumes by name, where layout and name say otherwise.
        subset: A split such as ``"train"``, or names of subjects with ``*``.
        grid_tolerance: Millimetres that voxels of a subject's volumes may lie apart; a tenth of the
            smallest spacing by default. Volumes within it get one affine.
        grid_from: The volume whose affine all volumes of its subject get.
        raw: What files hold whose names tell no format: voxels and nothing else, as in
            ``raw={"shape": (40, 64, 64), "dtype": "uint16", "offset": 512, "byte_order": "big"}``.
        levels: Coarser levels of every volume, for viewers and patches at several scales: their
            number, or ``"auto"`` for as many as make the longest axis at most 128 voxels. Each
            halves the axes whose voxels are not much longer than others: means of images, the most
            frequent ids of label maps. ``volume.level(1)`` reads one.
        crop_foreground: Crop each subject to the box of the voxels of its images that are not 0.
            This and the next five arguments change voxels, in their order; ``volume.changes`` has
            what was done. Labels and weights are cropped, turned and resampled, and keep their
            values and their type.
        clip: The least and the largest real value of images.
        canonical: Exchange and mirror axes so that they ascend as RAS+, as nibabel's
            ``as_closest_canonical`` does.
        target_spacing: Resample to voxels of this size, ``(z, y, x)`` or one number, in millimetres
            (in the unit of the affine): images linearly, labels to the nearest voxel. (``spacing``
            states how large the voxels are.)
        normalize: ``"zscore"`` (mean 0, deviation 1 over the volume), or two values that become 0
            and 1 and bound what lies outside. Images become float32.
        dtype: The type of images, such as ``"int16"`` or ``np.float32``. A value that it does not
            hold is an error.
        progress: ``True`` for a bar, or a function that is called with the volume
            (``"case01/ct"``), the bytes encoded so far and the bytes in all.
        plan: A file. With sources: write a plan to it, for processes on any machines that share the
            ingest, and ingest nothing. With ``part`` or ``finalize``: the plan; without it that
            which the store at ``out`` waits for.
        part: ``(i, n)``: ingest part i of n of a plan, from 0 (n is 0 too, for those that count
            from 1). Sources and options are the plan's, but for ``threads`` and ``progress``. The
            same call continues a part that was killed; nothing is visible before all are done.
        finalize: Publish all parts of a plan in one step. Every file is that of one process
            without parts.

    Returns:
        The store; its ``report`` has ``done``, ``skipped``, ``failed`` and ``notes``. For a plan
        and for a part, that report alone.

    Raises:
        UsageError: Arguments that cannot be; a subject that is there; parts that are missing when
            a plan is finalized, which the message names; a part of another plan.
        DataError: A source that cannot be read, or volumes of one subject on different grids. The
            exception of an array or generator is its ``__cause__``.
        StorageError: Disk or permissions. What was published before stays, nothing half-written is
            visible.

    >>> import numpy as np, voxquarry as vq
    >>> ct, mask = np.zeros((40, 64, 64), np.int16), np.zeros((40, 64, 64), bool)
    >>> volumes = {"ct": ct, "seg": vq.Labels(mask)}
    >>> ds = vq.ingest({"case01": volumes}, "example.zarr", patch_size=32, spacing=(3, 1, 1))
    >>> ds["case01"]["ct"].spacing, ds["case01"]["seg"].kind
    ((3.0, 1.0, 1.0), 'labels')
    """
    if part is not None or finalize:
        if source is not None or (part is not None and finalize):
            raise UsageError("part and finalize exclude each other, and sources: the plan has them")
        return _of_plan(out, plan, part, threads, progress)
    if source is None or out is None:
        raise UsageError("ingest: expected a source and the store, out")
    if overwrite and skip_existing:
        raise UsageError("overwrite and skip_existing exclude each other")
    existing: Literal["refuse", "skip", "overwrite"]
    existing = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    source = list(source) if isinstance(source, Iterator) else source
    stated = None
    paths = _paths(source)
    rows: list[_Row] = []
    if paths is None:
        rows = _rows(source, dims, affine_of(spacing, affine))
    if all(isinstance(content, str) for _, _, _, content in rows):
        if dims is not None:
            raise UsageError("dims describes arrays, and files have their own")
        stated = affine_of(spacing, affine)
    choices: IngestChoices = {
        "layout": layout,
        "pattern": pattern,
        "kinds": [(str(name), str(kind)) for name, kind in (kinds or {}).items()],
        "subset": [subset] if isinstance(subset, str) else list(subset),
        "add": add,
        "keep_going": keep_going,
        "grid_tolerance": grid_tolerance,
        "grid_from": grid_from,
        "affine": stated,
        "raw": _raw(raw),
        "levels": str(levels),
        "crop_foreground": crop_foreground,
        "clip": None if clip is None else _two("clip", clip),
        "canonical": canonical,
        "target_spacing": _three("target_spacing", target_spacing),
        "normalize": normalize if normalize is None else _normalization(normalize),
        "dtype": None if dtype is None else _dtype(dtype),
    }
    store = os.fsdecode(out)
    asked = (paths, rows, store, patch_size, codec, memory_bytes, threads, existing, choices)
    if plan is not None:
        return _report(_native.plan_ingest(*asked, os.fsdecode(plan)))
    report = _report(_native.ingest(*asked, shown(progress)))
    return _opened(store, report)


def _of_plan(
    out: Path | None,
    plan: Path | None,
    part: tuple[int, int] | None,
    threads: int | None,
    progress: VolumeProgress | bool | None,
) -> _native.Dataset | IngestReport:
    """Runs a part of a plan, or publishes all of them."""
    file, store = (None if path is None else os.fsdecode(path) for path in (plan, out))
    place, outcome = _native.run_ingest_plan(file, store, part, threads, shown(progress))
    report = _report(outcome)
    return report if part is not None else _opened(place, report)


def _report(outcome: Any) -> IngestReport:
    done, skipped, failed, notes = outcome
    return IngestReport(done, skipped, [Failure(*failure) for failure in failed], notes)


def _opened(store: str, report: IngestReport) -> _native.Dataset:
    """The store, with what was done."""
    if report.failed and not report.done and not report.skipped:
        reasons = "\n".join(f"  {failure.subject}: {failure.error}" for failure in report.failed)
        raise DataError(f"every subject failed:\n{reasons}")
    dataset = _native.open(store)
    dataset._set_report(report)
    return dataset


_Row = tuple[str | None, str, str, str | Voxels]
_ANY_PATH = (str, bytes, os.PathLike)


def _two(name: str, value: Any) -> tuple[float, float]:
    """Two numbers."""
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        raise UsageError(
            f"{name} is {value!r}: expected two numbers, the lower one first"
        ) from None
    return low, high


def _three(name: str, value: Spacing | None) -> tuple[float, float, float] | None:
    """A number for ``z``, ``y`` and ``x`` each."""
    if value is None:
        return None
    try:
        z, y, x = (float(n) for n in np.broadcast_to(np.asarray(value, float), 3))
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {value!r}: expected a number, or (z, y, x)") from None
    return z, y, x


def _normalization(value: Normalize) -> str | tuple[float, float]:
    return value if isinstance(value, str) else _two("normalize", value)


def _dtype(value: DTypeLike) -> str:
    """The name of a dtype."""
    try:
        return np.dtype(value).name
    except TypeError:
        return str(value)


def _raw(raw: RawVoxels | None) -> tuple[list[int], str, int, str] | None:
    """Shape, dtype, offset and byte order of files that hold voxels and nothing else."""
    if raw is None:
        return None
    known = {"shape", "dtype", "offset", "byte_order"}
    if set(raw) - known or not {"shape", "dtype"} <= set(raw):
        raise UsageError(
            f"raw has the keys {sorted(raw)}: expected shape and dtype, and perhaps offset and "
            "byte_order"
        )
    dtype = np.dtype(raw["dtype"])
    order = "big" if dtype.str.startswith(">") else raw.get("byte_order", "little")
    shape = [int(extent) for extent in raw["shape"]]
    offset = int(raw.get("offset", 0))
    if offset < 0 or any(extent < 1 for extent in shape):
        raise UsageError(f"raw is {raw}: expected extents from 1 on, and an offset from 0 on")
    return shape, dtype.name, offset, order


def _paths(source: object) -> list[str] | None:
    """The paths, if there is nothing but paths."""
    if isinstance(source, _ANY_PATH):
        return [os.fsdecode(source)]
    if isinstance(source, Sequence) and all(isinstance(p, _ANY_PATH) for p in source):
        return [os.fsdecode(path) for path in source] or None
    return None


def _rows(source: object, dims: str | None, affine: list[list[float]] | None) -> list[_Row]:
    """Subject (None: the file's stem), volume, kind and input of each source."""
    if isinstance(source, Mapping):
        subjects: list[list[_Row]] = []
        for subject, volumes in source.items():
            named = volumes if isinstance(volumes, Mapping) else {"image": volumes}
            subjects.append(_subject(str(subject), named, dims, affine))
        return _described(subjects, affine)
    if is_voxels(_unmarked(source)):
        raise UsageError('an array needs the name of its subject: give {"case01": array}')
    if isinstance(source, Sequence):
        return [(None, "image", _kind(path), _file(path)) for path in source]
    raise UsageError(
        f"source is a {type(source).__name__}: expected a path, a list of paths or a dictionary"
    )


def _described(subjects: list[list[_Row]], affine: list[list[float]] | None) -> list[_Row]:
    """The rows of all subjects: beside arrays, a stated affine is that of the arrays alone."""
    of_files = [all(isinstance(row[3], str) for row in rows) for rows in subjects]
    if affine is not None and any(of_files) and not all(of_files):
        name = subjects[of_files.index(True)][0][0]
        raise UsageError(
            f"subject {name!r}: beside arrays, spacing and affine describe arrays, not files;"
            " ingest files and arrays one after the other"
        )
    return [row for rows in subjects for row in rows]


def _subject(
    subject: str, volumes: Volumes, dims: str | None, affine: list[list[float]] | None
) -> list[_Row]:
    """The rows of one subject, whose arrays lie where its first image lies."""
    contents = {str(name): _unmarked(source) for name, source in volumes.items()}
    arrays = {name: content for name, content in contents.items() if is_voxels(content)}
    own = {name: own_affine(content) for name, content in arrays.items()}
    first = next((found for found in own.values() if found is not None), None)
    rows: list[_Row] = []
    for name, source in volumes.items():
        content: str | Voxels
        if str(name) in arrays:
            place = affine if affine is not None or own[str(name)] is not None else first
            content = voxels_of(arrays[str(name)], dims, place)
        else:
            content = _file(source)
        rows.append((subject, str(name), _kind(source), content))
    return rows


def _kind(source: object) -> str:
    if isinstance(source, Labels):
        return "labels"
    return "weights" if isinstance(source, Weights) else "image"


def _unmarked(source: object) -> object:
    return source.path if isinstance(source, Labels | Weights) else source


def _file(source: object) -> str:
    path = _unmarked(source)
    if isinstance(path, _ANY_PATH):
        return os.fsdecode(path)
    hint = " (wrap a generator in Planes)" if hasattr(path, "__next__") else ""
    raise UsageError(
        f"{source!r} is no path and no array: expected either, or Labels or Weights of one{hint}"
    )
