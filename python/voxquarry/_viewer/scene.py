"""What a page shows: the subjects of an item, and for each its layers, windows and patches."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._errors import UsageError
from .._native import Dataset, GridSampler, ResampledVolume, Subject, Volume
from .._paths import is_url, item_at
from .._resampled import ResampledDataset, ResampledSubject
from .._windows import robust
from . import sources
from .arrays import TOGETHER
from .sources import Source
from .state import Boxes, Shown

# Subjects whose layers are kept.
_MOST_SUBJECTS = 8
# Blocks along each axis, and voxels along each side, that a window is computed from.
_SAMPLES, _SAMPLE_SIDE = 4, 16
#: Patches of a random sampler whose coverage is shown, and cells along each side of its map.
COVERAGE_PATCHES, _COVERAGE_CELLS = 10_000, 128

AnyVolume = Volume | ResampledVolume


@dataclass(frozen=True)
class Patches:
    """Patches to show: of a sampler, its first ``count`` ones of each subject."""

    sampler: Any
    count: int
    seed: int = 0


@dataclass(frozen=True)
class Layers:
    """The layers of one subject, the lowest first, and its patches."""

    shown: list[Shown]
    boxes: Boxes | None

    def source(self, key: str) -> Source | None:
        """The source of that key."""
        return next((s.source for s in self.shown if s.source.key == key), None)


class Scene:
    """The subjects of an item, each with layers that are made when it is first shown.

    Raises:
        UsageError: An item or an overlay of another type, or an item without a volume.
    """

    def __init__(
        self,
        item: Any,
        overlays: Sequence[Any] = (),
        window: tuple[float, float] | None = None,
        patches: Patches | None = None,
    ) -> None:
        self._item = _opened(item, "volume")
        self._overlays = [_opened(overlay, "overlay") for overlay in overlays]
        self._window, self._patches = window, patches
        self._lock = threading.Lock()
        self._made: OrderedDict[int, Layers] = OrderedDict()
        if isinstance(self._item, Dataset | ResampledDataset):
            self.names = list(self._item)
            if not self.names:
                raise UsageError(f"{self._item!r} has no subject")
        else:
            self.names = [_subject_of(self._item) or "array"]
        if len(self.names) == 1:
            # What cannot be shown is told at once.
            self.layers(0)

    @property
    def store(self) -> str | None:
        """The folder of the store whose files are handed out; None for an array, and for a store
        behind a URL.
        """
        item = self._item
        while not isinstance(item, Dataset):
            if isinstance(item, Subject):
                item = item.dataset
            elif isinstance(item, Volume):
                item = item.subject
            else:
                return None
        return None if is_url(item.path) else item.path

    def volume_names(self) -> list[str] | None:
        """The volumes whose files are handed out; None for all of a subject."""
        return [self._item.name] if isinstance(self._item, Volume) else None

    def size(self, number: int) -> str:
        """The extents of a subject, as text; of one on a server, which would have to be asked for
        each, nothing.
        """
        item = self._item
        is_near = isinstance(item, Dataset) and not is_url(item.path)
        shown = item[self.names[number]] if is_near else None
        return " × ".join(map(str, shown.size)) if shown is not None else ""

    def layers(self, number: int) -> Layers:
        """The layers of a subject by its number.

        Raises:
            Error: What cannot be read, or a sampler that has nothing to draw.
        """
        with self._lock:
            if number not in self._made:
                self._made[number] = self._make(number)
                while len(self._made) > _MOST_SUBJECTS:
                    self._made.popitem(last=False)
            self._made.move_to_end(number)
            return self._made[number]

    def _make(self, number: int) -> Layers:
        name = self.names[number]
        found = list(_sources(self._item, name, "v", None))
        if not found:
            raise UsageError(f"{self._item!r} has no volume")
        first = found[0]
        above = [
            source
            for n, overlay in enumerate(self._overlays)
            for source in _sources(overlay, name, f"o{n}-", first)
        ]
        images = [source for source in found if source.kind == "image"]
        labels = [source for source in found if source.kind == "labels"]
        # Of several images the first is seen, as an image hides what lies below it.
        shown = [self._shown(s, "volume", n == 0) for n, s in enumerate(images)]
        shown += [self._shown(s, "volume", n == 0) for n, s in enumerate(labels)]
        shown += [self._shown(s, "overlay", True) for s in above]
        boxes = None
        subject = _subject(self._item, name)
        if self._patches is not None:
            if subject is None:
                raise UsageError("patches are shown of a subject or a volume of a store")
            boxes, coverage = _patches_of(self._patches, subject, shown[0].source)
            if coverage is not None:
                shown.append(self._shown(coverage, "coverage", False))
        return Layers(_named_apart(shown), boxes)

    def _shown(
        self, source: Source, role: Literal["volume", "overlay", "coverage"], visible: bool
    ) -> Shown:
        windows: list[tuple[float, float]] = []
        if source.kind == "image" and not source.is_colour:
            several = source.channels is not None and source.channels <= TOGETHER
            channels = range(source.channels or 1) if several else [0]
            given = self._window if role == "volume" else None
            windows = [given or _window(source, channel) for channel in channels]
        return Shown(source, role, windows, visible)


def _opened(item: Any, what: str) -> Any:
    """An item by its path, or the item itself if it can be shown."""
    if isinstance(item, str | os.PathLike):
        return item_at(os.fspath(item))
    known = (Dataset, Subject, Volume, ResampledVolume, ResampledDataset, ResampledSubject)
    if isinstance(item, known):
        return item
    voxels = np.asarray(item)
    if voxels.ndim not in (3, 4) or voxels.dtype.kind not in "biuf" or not voxels.size:
        kind = type(item).__name__
        raise UsageError(
            f"{what} {kind}: expected a path, a data set, subject or volume of a store, or an array"
            " (z, y, x) or (c, z, y, x) of numbers"
        )
    return voxels


def _subject_of(item: Any) -> str | None:
    """The name of the subject that an item is or belongs to."""
    if isinstance(item, Subject | ResampledSubject):
        return item.name
    if isinstance(item, ResampledVolume):
        item = item.volume
    return item.subject.name if isinstance(item, Volume) else None


def _subject(item: Any, name: str) -> Subject | None:
    """The stored subject of that name, if its grid is that of the item."""
    if isinstance(item, Dataset):
        return item[name]
    if isinstance(item, Volume):
        return item.subject
    return item if isinstance(item, Subject) else None


def _sources(item: Any, name: str, prefix: str, below: Source | None) -> Iterator[Source]:
    """The volumes of an item, of the subject ``name`` where it has several."""
    if isinstance(item, Dataset | ResampledDataset):
        # Predictions of some subjects are shown over those.
        item = item.get(name, {})
    if isinstance(item, Mapping):
        for n, volume in enumerate(item.values()):
            yield sources.of_volume(volume, f"{prefix}{n}", volume.name)
    elif isinstance(item, Volume | ResampledVolume):
        yield sources.of_volume(item, f"{prefix}0", item.name)
    else:
        yield _array(item, prefix, below)


def _array(voxels: NDArray[Any], prefix: str, below: Source | None) -> Source:
    """An array on the grid of what lies below."""
    if below is None:
        return sources.of_array(voxels, f"{prefix}0", "array", np.eye(4), "millimeter")
    if voxels.shape[-3:] != below.size:
        raise UsageError(
            f"overlay of {voxels.shape[-3:]} voxels: expected {below.size}, as {below.title} has"
        )
    return sources.of_array(voxels, f"{prefix}0", "overlay", below.affine, below.unit)


def _named_apart(shown: list[Shown]) -> list[Shown]:
    """The layers with titles that differ, as the client wants them."""
    titles: dict[str, int] = {}
    apart = []
    for layer in shown:
        title = layer.source.title
        number = titles[title] = titles.get(title, 0) + 1
        if number > 1:
            role = "" if layer.role == "volume" else f"{layer.role} "
            title = f"{title} ({role}{number})"
        apart.append(replace(layer, source=replace(layer.source, title=title)))
    return apart


def _window(source: Source, channel: int) -> tuple[float, float]:
    """Robust percentiles of blocks that are spread over a channel."""
    starts = [
        np.unique(np.linspace(0, max(n - _SAMPLE_SIDE, 0), _SAMPLES).astype(int)).tolist()
        for n in source.size
    ]
    side_z, side_y, side_x = (min(_SAMPLE_SIDE, n) for n in source.size)
    channels = None if source.channels is None else [channel]
    corners = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    blocks = source.read_batch(corners, (side_z, side_y, side_x), channels)
    low, high = robust(blocks.ravel().astype(np.float64)) or source.extent or (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1.0)


def _patches_of(patches: Patches, subject: Subject, first: Source) -> tuple[Boxes, Source | None]:
    """The patches of a subject as boxes, and how many of many patches cover each voxel."""
    sampler, size = patches.sampler, np.array(patches.sampler.patch_size)
    if isinstance(sampler, GridSampler):
        starts = sampler.locations(subject)
        chosen = np.arange(min(patches.count, len(starts))) * len(starts)
        starts = starts[chosen // max(len(chosen), 1)]
        coverage = None
    else:
        starts = sampler.locations(subject, COVERAGE_PATCHES, patches.seed)
        coverage = _coverage(starts, size, first)
        starts = starts[: patches.count]
    corners = np.stack([starts, starts + size], axis=1)
    times = " × ".join(map(str, size.tolist()))
    return Boxes(corners, f"{len(starts)} patches of {times}"), coverage


def _coverage(starts: NDArray[np.int64], size: NDArray[np.int64], first: Source) -> Source:
    """How many patches cover the voxel in the middle of each cell of a map."""
    extents = np.array(first.size)
    step = -(-extents // _COVERAGE_CELLS)
    cells = -(-extents // step)
    ends = [np.clip(-(-(at - step // 2) // step), 0, cells) for at in (starts, starts + size)]
    counts = np.zeros(cells + 1, np.int32)
    for corner in np.ndindex(2, 2, 2):
        at = tuple(ends[side][:, axis] for axis, side in enumerate(corner))
        np.add.at(counts, at, (-1) ** sum(corner))
    for axis in range(3):
        counts = np.cumsum(counts, axis=axis, dtype=np.int32)
    shift = np.eye(4)
    # Axes x, y, z; the middle of cell 0 is voxel step // 2.
    shift[:3, :3] = np.diag(step[::-1])
    shift[:3, 3] = (step // 2)[::-1]
    title = f"coverage of {len(starts)} patches"
    covered = counts[:-1, :-1, :-1].astype(np.float32)
    return sources.of_array(covered, "coverage", title, first.affine @ shift, first.unit)
