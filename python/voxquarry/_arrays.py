"""Turns arrays, images in memory and planes into voxels that ingest reads slab by slab.

A source here is never copied whole: a slab of planes is taken, made contiguous, and given away.
torch, dask, xarray, nibabel and SimpleITK are recognised, never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any, Literal

import numpy as np

from ._errors import DataError, UsageError

# The largest number of channels that are read together where they are not the outermost axis.
_INTERLEAVED = 4
# A row of chunks up to this size is computed once, whatever the depth of the slabs.
_ROW_BYTES = 256 << 20

Spacing = float | Sequence[float]


class Array:
    """An array with its axes and geometry, for ``ingest``.

    Args:
        data: A numpy, torch, dask or xarray array, or another that is sliced like them (zarr,
            h5py, tensorstore); an image of nibabel or SimpleITK.
        dims: The names of its axes in their order, such as ``"zyx"`` or ``"xyzc"``. By default
            those of xarray, else ``"zyx"`` or ``"czyx"``. Axes of other names must have length 1.
        spacing: Distance of voxels along ``(z, y, x)``, or one number for all.
        affine: 4×4, from voxel index ``(x, y, z)`` to RAS+ positions; instead of ``spacing``.
        unit: The unit of spacing and affine: ``"millimeter"``, ``"micrometer"`` or ``"meter"``.

    Without spacing or affine, images have their own, and an array lies where the other images of
    its subject lie.

    >>> import numpy as np, voxquarry as vq
    >>> fluorescence = np.zeros((2, 8, 64, 64), np.uint16)
    >>> vq.Array(fluorescence, dims="czyx", spacing=(0.5, 0.1, 0.1)).dims
    'czyx'
    """

    def __init__(
        self,
        data: Any,
        dims: str | None = None,
        spacing: Spacing | None = None,
        affine: Any = None,
        unit: Literal["meter", "millimeter", "micrometer"] | None = None,
    ) -> None:
        if unit not in (None, "meter", "millimeter", "micrometer"):
            raise UsageError(f"unit {unit!r}: expected meter, millimeter or micrometer")
        self.data, self.dims, self.spacing, self.affine = data, dims, spacing, affine
        self.unit = unit


class Planes:
    """Voxels that come plane by plane, for ``ingest``: from a camera, a simulation, a generator.

    Args:
        planes: An iterable of planes ``(y, x)``, or ``(c, y, x)`` with channels, in ascending z.
        shape: ``(z, y, x)`` or ``(c, z, y, x)``; needed unless ``planes`` has a length.
        dtype: By default that of the first plane.

    A plane of another shape or dtype, and another number of planes, is a ``DataError``. An
    exception of the generator is the ``__cause__`` of the error that ``ingest`` raises.

    >>> import numpy as np, voxquarry as vq
    >>> planes = vq.Planes((np.full((64, 64), z, np.uint8) for z in range(16)), shape=(16, 64, 64))
    """

    def __init__(
        self, planes: Iterable[Any], shape: Sequence[int] | None = None, dtype: Any = None
    ) -> None:
        self._source, self._is_used = planes, False
        self._planes: Iterable[Any] = planes
        if shape is None and not hasattr(planes, "__len__"):
            raise UsageError("Planes of unknown number: give shape=(z, y, x) or (c, z, y, x)")
        first: np.ndarray[Any, Any] | None = None
        if shape is None or dtype is None:
            iterator = iter(planes)
            try:
                first = _numpy(next(iterator))
            except StopIteration:
                raise UsageError("Planes without a plane: expected at least one") from None
            if iterator is planes:
                self._planes = chain([first], iterator)
        if shape is None and first is not None:
            shape = (*first.shape[:-2], len(planes), *first.shape[-2:])  # type: ignore[arg-type]
        self.shape = tuple(int(n) for n in shape or ())
        if len(self.shape) not in (3, 4) or min(self.shape) < 1:
            raise UsageError(f"Planes of shape {self.shape}: expected (z, y, x) or (c, z, y, x)")
        dtype = first.dtype if dtype is None and first is not None else dtype
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    @property
    def _is_rereadable(self) -> bool:
        return iter(self._source) is not self._source

    def _iterate(self) -> Iterator[Any]:
        if self._is_used and not self._is_rereadable:
            raise UsageError("the generator of these planes is used up: make new Planes")
        self._is_used = True
        return iter(self._planes)


@dataclass(frozen=True)
class Voxels:
    """What the native module reads: a volume's description, and its slabs."""

    type: str
    size: tuple[int, int, int]
    channels: int | None
    # Channels that are read together; 1, or all of them.
    interleaved: int
    dtype: str
    affine: list[list[float]] | None
    unit: str | None
    slope: float
    intercept: float
    is_rereadable: bool
    # Makes a function of (group of channels, first plane, planes), which gives the bytes of
    # (interleaved, planes, y, x) in C order; and one that is called at the end.
    open: Callable[[], tuple[Callable[[int, int, int], Any], Callable[[], None]]]


@dataclass(frozen=True)
class _Grid:
    """Where the axes of a volume are in an array."""

    size: tuple[int, int, int]
    channels: int | None
    interleaved: int
    # Positions of z, and of all axes that are kept in the order (c, z, y, x).
    z: int
    kept: tuple[int, ...]


def is_voxels(source: object) -> bool:
    """Whether ``source`` is something that ``voxels_of`` takes."""
    return isinstance(source, Array | Planes) or _is_image(source) or _is_array(source)


def voxels_of(source: Any, dims: str | None, affine: list[list[float]] | None) -> Voxels:
    """Describes ``source``; ``dims`` and ``affine`` hold where it states none of its own."""
    if isinstance(source, Array):
        own = affine_of(source.spacing, source.affine) or affine
        found = voxels_of(source.data, source.dims or dims, own)
        return replace(found, unit=source.unit or found.unit)
    if isinstance(source, Planes):
        return _voxels_of_planes(source, affine)
    if _is_nibabel(source):
        return _voxels_of_nibabel(source, dims, affine)
    if _is_simpleitk(source):
        return _voxels_of_simpleitk(source, dims, affine)
    return _voxels_of_array(source, dims, affine, _type_name(source))


def affine_of(spacing: Spacing | None, affine: Any) -> list[list[float]] | None:
    """The affine that a caller states."""
    if spacing is not None and affine is not None:
        raise UsageError("spacing and affine exclude each other: an affine holds the spacing")
    if spacing is not None:
        try:
            z, y, x = (float(v) for v in np.broadcast_to(np.asarray(spacing, float), 3))
        except (TypeError, ValueError):
            raise UsageError(f"spacing {spacing!r}: expected a number or (z, y, x)") from None
        if not min(z, y, x) > 0:
            raise UsageError(f"spacing {spacing!r}: expected numbers above 0")
        return [[x, 0, 0, 0], [0, y, 0, 0], [0, 0, z, 0], [0, 0, 0, 1]]
    if affine is None:
        return None
    try:
        rows = np.asarray(affine, float)
    except (TypeError, ValueError):
        rows = np.zeros(0)
    if rows.shape != (4, 4):
        raise UsageError(f"affine {affine!r}: expected 4×4 numbers")
    return [[float(value) for value in row] for row in rows]


def own_affine(source: Any) -> list[list[float]] | None:
    """The affine that ``source`` states itself."""
    if isinstance(source, Array):
        return affine_of(source.spacing, source.affine) or own_affine(source.data)
    if _is_nibabel(source):
        return affine_of(None, source.affine)
    if _is_simpleitk(source) and source.GetDimension() in (3, 4):
        return _simpleitk_affine(source)
    return None


def _voxels_of_array(
    data: Any,
    dims: str | None,
    affine: list[list[float]] | None,
    type_name: str,
    scaling: tuple[float, float] = (1.0, 0.0),
) -> Voxels:
    dtype = _stored_dtype(_dtype_of(data, type_name), type_name)
    grid = _grid_of(data, dims, type_name)
    if isinstance(data, np.ma.MaskedArray):
        raise UsageError("a masked array: a store has no masks, fill it first (.filled(value))")
    slabs = _Slabs(data, grid, dtype, type_name)
    return Voxels(
        type=type_name,
        size=grid.size,
        channels=grid.channels,
        interleaved=grid.interleaved,
        dtype=_stored_name(dtype),
        affine=affine,
        unit=None,
        slope=scaling[0],
        intercept=scaling[1],
        is_rereadable=True,
        open=lambda: (slabs.read, lambda: None),
    )


class _Slabs:
    """Reads slabs of an array; of an array in chunks, each row of chunks once."""

    def __init__(self, data: Any, grid: _Grid, dtype: np.dtype[Any], type_name: str) -> None:
        self._data, self._grid, self._dtype, self._type = data, grid, dtype, type_name
        self._edges = _row_edges(data, grid, dtype)
        self._row: tuple[tuple[int, int], np.ndarray[Any, Any]] | None = None

    def read(self, group: int, z: int, planes: int) -> np.ndarray[Any, Any]:
        if self._edges is None:
            return _bytes(self._take(group, z, z + planes), self._dtype)
        parts, end = [], z + planes
        while z < end:
            row = int(np.searchsorted(self._edges, z, side="right")) - 1
            first, last = int(self._edges[row]), int(self._edges[row + 1])
            if self._row is None or self._row[0] != (group, row):
                self._row = None  # Freed before the next one is computed.
                self._row = (group, row), self._take(group, first, last)
            stop = min(end, last)
            parts.append(self._row[1][:, z - first : stop - first])
            z = stop
        return _bytes(parts[0] if len(parts) == 1 else np.concatenate(parts, 1), self._dtype)

    def _take(self, group: int, first: int, last: int) -> np.ndarray[Any, Any]:
        """The planes ``(interleaved, z, y, x)``, in whatever memory order."""
        grid = self._grid
        where: list[Any] = [0] * len(self._data.shape)
        for axis in grid.kept:
            where[axis] = slice(None)
        where[grid.z] = slice(first, last)
        kept = grid.kept
        if grid.channels is not None and grid.interleaved == 1:
            where[kept[0]] = group
            kept = kept[1:]
        part = _numpy(self._data[tuple(where)])
        part = part.transpose([sorted(kept).index(axis) for axis in kept])
        part = part if len(kept) == 4 else part[None]
        _, height, width = grid.size
        _check(self._type, part, (grid.interleaved, last - first, height, width), self._dtype)
        return part


def _voxels_of_planes(planes: Planes, affine: list[list[float]] | None) -> Voxels:
    dtype = _stored_dtype(planes.dtype, "Planes")
    channels = planes.shape[0] if len(planes.shape) == 4 else None
    depth, height, width = planes.shape[-3:]
    expected = (*planes.shape[:-3], height, width)

    def open() -> tuple[Callable[[int, int, int], Any], Callable[[], None]]:
        iterator = planes._iterate()

        def read(group: int, first: int, count: int) -> np.ndarray[Any, Any]:
            slab = np.empty((channels or 1, count, height, width), dtype.newbyteorder("<"))
            for i in range(count):
                try:
                    plane = _numpy(next(iterator))
                except StopIteration:
                    raise DataError(
                        f"Planes end after {first + i}, expected {depth}: state their number in "
                        "shape"
                    ) from None
                _check(f"plane {first + i}", plane, expected, dtype)
                slab[:, i] = plane
            return _bytes(slab, dtype)

        def finish() -> None:
            for _ in iterator:
                raise DataError(
                    f"Planes go on after {depth}: state their number in shape, or cut them off"
                )

        return read, finish

    return Voxels(
        type="Planes",
        size=(depth, height, width),
        channels=channels,
        interleaved=channels or 1,
        dtype=_stored_name(dtype),
        affine=affine,
        unit=None,
        slope=1.0,
        intercept=0.0,
        is_rereadable=planes._is_rereadable,
        open=open,
    )


def _voxels_of_nibabel(image: Any, dims: str | None, affine: list[list[float]] | None) -> Voxels:
    data, scaling = image.dataobj, (1.0, 0.0)
    proxy = sys.modules["nibabel"].arrayproxy.ArrayProxy
    if type(data) is proxy:
        # The stored voxels, with slope and intercept beside them as ingest keeps those of a file.
        scaling = (float(data.slope), float(data.inter))
        spec = (data.shape, data.dtype, data.offset)
        data = proxy(data.file_like, spec, order=data.order, keep_file_open=True)
    shape = data.shape
    if len(shape) not in (3, 4):
        # As a file's: one plane, or all further axes as channels.
        shape = (*shape, 1, 1)[:3] if len(shape) < 3 else (*shape[:3], prod(shape[3:]))
        data = np.reshape(data, shape, "F") if isinstance(data, np.ndarray) else data.reshape(shape)
    found = _voxels_of_array(
        data, dims or "xyzc"[: len(shape)], affine or own_affine(image), _type_name(image), scaling
    )
    units = getattr(image.header, "get_xyzt_units", lambda: ("unknown", "unknown"))()
    names = {"meter": "meter", "mm": "millimeter", "micron": "micrometer"}
    return replace(found, unit=names.get(units[0]))


def _voxels_of_simpleitk(image: Any, dims: str | None, affine: list[list[float]] | None) -> Voxels:
    dimension = image.GetDimension()
    if dimension not in (3, 4):
        raise UsageError(f"an image of {dimension} dimensions: expected 3, or 4 with channels")
    has_components = image.GetNumberOfComponentsPerPixel() > 1
    if has_components and dimension == 4:
        raise UsageError("an image of 4 dimensions and several components: choose a component")
    data = sys.modules["SimpleITK"].GetArrayViewFromImage(image)
    names = "zyxc" if has_components else "czyx"[4 - dimension :]
    found = _voxels_of_array(data, dims or names, affine or own_affine(image), "SimpleITK.Image")
    # The view does not keep the image alive.
    keep = found.open
    return replace(found, open=lambda: (image, keep())[1])


def _simpleitk_affine(image: Any) -> list[list[float]]:
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    # ITK's positions are LPS+.
    rows: list[list[float]] = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine).tolist()
    return rows


def _grid_of(data: Any, dims: str | None, type_name: str) -> _Grid:
    shape = tuple(int(n) for n in data.shape)
    names = _names_of(data, dims, type_name, len(shape))
    place = {name: axis for axis, name in enumerate(names)}
    if len(place) != len(names) or not {"z", "y", "x"} <= set(place):
        raise UsageError(f"dims {names!r}: expected z, y and x once each, and perhaps c")
    extra = [name for name in names if name not in "czyx" and shape[place[name]] != 1]
    if extra:
        raise UsageError(
            f"{type_name} of shape {shape}: axis {extra[0]!r} has {shape[place[extra[0]]]} "
            "entries: take one of them, or name the axis c"
        )
    if min(shape) < 1:
        raise UsageError(f"{type_name} of shape {shape}: expected at least one voxel")
    size = (shape[place["z"]], shape[place["y"]], shape[place["x"]])
    kept = tuple(place[name] for name in "czyx" if name in place)
    channels = shape[place["c"]] if "c" in place else None
    together = channels is not None and kept[0] > min(kept) and channels <= _INTERLEAVED
    return _Grid(size, channels, channels or 1 if together else 1, place["z"], kept)


def _names_of(data: Any, dims: str | None, type_name: str, rank: int) -> list[str]:
    own = getattr(data, "dims", None)
    if dims is not None:
        names = [str(name).lower() for name in dims]
    elif isinstance(own, tuple) and _of_module(data, "xarray"):
        names = [str(name).lower() for name in own]
        if not {"z", "y", "x"} <= set(names):
            raise UsageError(
                f"dimensions {own}: expected z, y, x and perhaps c: rename them, or say which "
                'they are (dims="zyx")'
            )
    elif rank in (3, 4):
        names = list("czyx"[4 - rank :])
    else:
        raise UsageError(
            f"{type_name} of shape {tuple(data.shape)}: expected axes (z, y, x) or (c, z, y, x); "
            'name others (dims="tczyx"), or add one (array[None])'
        )
    if len(names) != rank:
        raise UsageError(f"dims {dims!r} names {len(names)} axes, the {type_name} has {rank}")
    return names


def _row_edges(data: Any, grid: _Grid, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """Where rows of chunks begin and end along z, if each is to be computed once."""
    chunks = getattr(data, "shards", None) or getattr(data, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) != len(data.shape):
        return None
    along = [c if isinstance(c, tuple) else (c,) for c in chunks]
    depths = chunks[grid.z]
    if not isinstance(depths, tuple):
        depths = (depths,) * -(-grid.size[0] // depths)
    _, height, width = grid.size
    row = max(depths) * height * width * grid.interleaved * dtype.itemsize
    chunk = prod(max(c) for c in along) * dtype.itemsize
    if row > max(_ROW_BYTES, 2 * chunk):
        return None
    edges: np.ndarray[Any, Any] = np.minimum(np.cumsum([0, *depths]), grid.size[0])
    return edges


def _bytes(slab: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    whole = np.ascontiguousarray(slab, dtype.newbyteorder("<"))
    return whole.reshape(-1).view(np.uint8)


def _check(
    what: str, part: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    if part.shape != shape or part.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise DataError(
            f"{what} is {part.dtype} of shape {part.shape}, expected {dtype} of shape {shape}"
        )


def _numpy(part: Any) -> np.ndarray[Any, Any]:
    if _of_module(part, "torch"):
        part = part.detach().cpu()
    elif _of_module(part, "cupy"):
        part = part.get()
    if not hasattr(part, "__array__") and hasattr(part, "__dlpack__"):
        return np.from_dlpack(part)
    return np.asarray(part)


def _dtype_of(data: Any, type_name: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(data.dtype)
    except TypeError:
        return _dtype_of_slice(data, type_name)
    return dtype


def _dtype_of_slice(data: Any, type_name: str) -> np.dtype[Any]:
    try:
        empty = _numpy(data[(slice(0, 0),) * len(data.shape)])
    except (TypeError, RuntimeError) as error:
        raise UsageError(
            f"{type_name} of {data.dtype} does not become an array of numpy: convert it first, "
            "such as to float32"
        ) from error
    dtype: np.dtype[Any] = empty.dtype
    return dtype


def _stored_dtype(dtype: np.dtype[Any], type_name: str) -> np.dtype[Any]:
    if dtype.kind == "b" or (dtype.kind in "iu") or (dtype.kind == "f" and dtype.itemsize <= 8):
        return dtype
    raise UsageError(
        f"{type_name} of {dtype}: a store holds integers, float16, float32 and float64: convert "
        "it first"
    )


def _stored_name(dtype: np.dtype[Any]) -> str:
    return "uint8" if dtype.kind == "b" else dtype.newbyteorder("=").name


def _of_module(value: object, name: str) -> bool:
    return any(base.__module__.partition(".")[0] == name for base in type(value).__mro__)


def _is_nibabel(source: Any) -> bool:
    return _of_module(source, "nibabel") and hasattr(source, "dataobj")


def _is_simpleitk(source: Any) -> bool:
    return _of_module(source, "SimpleITK") and hasattr(source, "GetDirection")


def _is_image(source: object) -> bool:
    return _is_nibabel(source) or _is_simpleitk(source)


def _is_array(source: Any) -> bool:
    return all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__"))


def _type_name(source: object) -> str:
    return f"{type(source).__module__.partition('.')[0]}.{type(source).__name__}"
