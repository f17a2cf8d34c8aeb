"""Types of the arguments that several functions and classes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict

from numpy.typing import ArrayLike, DTypeLike

Path: TypeAlias = str | os.PathLike[str]
#: An int for a cube, or ``(z, y, x)``.
Size: TypeAlias = int | Sequence[int]
#: Bytes, or a string such as ``"256MiB"``.
Bytes: TypeAlias = int | str

Border: TypeAlias = Literal["exclude", "clamp", "pad"]
#: The number of a channel, or several, each once.
Channels: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Padding: TypeAlias = float | Literal["edge", "reflect"] | None
Placement: TypeAlias = Literal["flush", "even"]
Margin: TypeAlias = Literal["half-overlap", "none"]
OnFailure: TypeAlias = Literal["guided", "error", "best"]
OnMissing: TypeAlias = Literal["error", "skip", "background"]

Shuffle: TypeAlias = Literal["global", "window", "none"]
Eviction: TypeAlias = Literal["farthest", "oldest"]
Verify: TypeAlias = Literal["never", "first", "always"]
Access: TypeAlias = Literal["map", "read"]
#: A number of coarser levels, or as many as make the longest axis at most 128 voxels.
Levels: TypeAlias = int | Literal["auto"]
Codec: TypeAlias = Literal["fast", "compact", "none"]
Kind: TypeAlias = Literal["image", "labels"]
SourceKind: TypeAlias = Literal["image", "labels", "weights"]
Layout: TypeAlias = Literal["nnunet", "msd", "bids", "pattern", "auto"]

Window: TypeAlias = (
    Literal["crop", "average", "hann", "gaussian", "gaussian-nnunet"]
    | tuple[Literal["gaussian"], float | Sequence[float]]
    | Sequence[ArrayLike]
)
Finish: TypeAlias = (
    Literal["none", "argmax", "softmax+argmax", "threshold"]
    | tuple[Literal["threshold"], float]
    | tuple[Literal["quantize"], float, float]
)
#: ``"zscore"``, or a window whose ends become 0 and 1.
Normalize: TypeAlias = Literal["zscore"] | tuple[float, float]
#: A number, or the lowest and the greatest one.
Range: TypeAlias = float | tuple[float, float]
#: One range for all axes, or three for ``(z, y, x)``.
Ranges: TypeAlias = Range | Sequence[Range]
NonFinite: TypeAlias = Literal["keep", "warn", "error"]
#: The name of a prediction, or its number.
Head: TypeAlias = str | int
#: A number for all axes, or ``(z, y, x)``.
Scale: TypeAlias = float | Sequence[float]
Merge: TypeAlias = Literal["mean", "max", "min", "vote"]
#: Called with a volume such as ``"case01/ct"``, the bytes done and the bytes in all.
VolumeProgress: TypeAlias = Callable[[str, int, int], None]


class VerifyReport(TypedDict):
    """What :func:`voxquarry.verify` has checked."""

    subjects: int
    volumes: int
    shards: int
    chunks: int
    encoded_bytes: int


class IngestChoices(TypedDict):
    """How :func:`voxquarry.ingest` finds sources and meets failures."""

    layout: str
    pattern: str | None
    kinds: list[tuple[str, str]]
    subset: list[str]
    add: bool
    keep_going: bool
    grid_tolerance: float | None
    grid_from: str | None
    affine: list[list[float]] | None
    raw: tuple[list[int], str, int, str] | None
    levels: str
    crop_foreground: bool
    clip: tuple[float, float] | None
    canonical: bool
    target_spacing: tuple[float, float, float] | None
    normalize: str | tuple[float, float] | None
    dtype: str | None


class RawVoxels(TypedDict, total=False):
    """What a file of voxels and nothing else holds: ``shape`` and ``dtype`` are needed."""

    #: ``(z, y, x)`` or ``(c, z, y, x)``, in C order.
    shape: Sequence[int]
    #: The element type, such as ``"uint16"`` or ``">i2"``.
    dtype: DTypeLike
    #: Bytes before the first voxel; none by default.
    offset: int
    #: The byte order where ``dtype`` does not say it; ``"little"`` by default.
    byte_order: Literal["little", "big"]


class InferOptions(TypedDict, total=False):
    """The keyword arguments of :func:`voxquarry.infer` that other functions pass on to it."""

    dtype: DTypeLike | Mapping[Head, DTypeLike] | None
    finish: Finish | Mapping[Head, Finish]
    merge: Merge | Mapping[Head, Merge]
    mask: Any
    outside: float
    scale: Scale | Mapping[Head, Scale] | None
    valid: bool | int | Sequence[int] | None
    channels: Channels | None
    padding: Padding
    placement: Placement
    margin: Margin
    spacing: float | Sequence[float] | None
    orientation: str | None
    back_order: Literal[0, 1, 3] | None
    memory_bytes: Bytes
    nonfinite: NonFinite
    resume: bool | str
    threads: int | None
    scaled: bool
    part: tuple[int, int] | None
