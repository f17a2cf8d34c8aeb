"""xarray's backend ``voxquarry``, which opens subjects and volumes of a store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from xarray import Dataset, DataTree, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from . import Dataset as StoredDataset
from . import UsageError, Volume
from ._paths import is_store, is_url, is_volume, item_at, volumes_at
from ._values import is_scaled, real_values

_AXES = ("c", "z", "y", "x")


class VoxquarryBackend(BackendEntrypoint):
    """Opens a subject, or one of its volumes, as an ``xarray.Dataset`` of lazy arrays.

    Each volume is a variable with the dimensions ``z``, ``y``, ``x``, and before them ``c_NAME`` if
    it has channels. Values are real ones. If the grid is not turned, ``z``, ``y`` and ``x`` have
    coordinates: RAS+ positions in ``unit``. The attributes of a variable are ``affine`` (16
    numbers, row by row: voxel ``(x, y, z, 1)`` to RAS+ positions), ``spacing``, ``unit`` and
    ``kind``, and for labels ``label_ids`` and ``label_names``.

    ``xarray.open_datatree`` gives all levels, each as a group that its number names.
    """

    description = "Volumes of a Voxquarry store"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "scaled", "level")
    supports_groups = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scaled: bool = True,
        level: int = 0,
    ) -> Dataset:
        """Opens ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME``, or its URL; no voxel is read.

        Args:
            filename_or_obj: The path.
            drop_variables: Names of volumes to leave out.
            scaled: ``False`` gives stored values.
            level: The level of all volumes; 0 is the full resolution.

        Raises:
            UsageError: A path of neither, or a volume that has no such level; also a KeyError where
                a subject or volume is missing.
        """
        volumes = _kept(volumes_at(_place(filename_or_obj)), drop_variables)
        return _dataset([volume.level(level) for volume in volumes], scaled=scaled)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scaled: bool = True,
    ) -> DataTree:
        """Opens the levels of ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME`` as groups ``/0``,
        ``/1``, …, and those of all subjects of ``STORE`` as ``/SUBJECT/0``, …; no voxel is read.

        Args:
            filename_or_obj: The path, or its URL.
            drop_variables: Names of volumes to leave out.
            scaled: ``False`` gives stored values.

        Raises:
            UsageError: A path of something else, or volumes of a subject whose levels are not on
                one grid; also a KeyError where a subject or volume is missing.
        """
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, scaled=scaled
        )
        return DataTree.from_dict(groups)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scaled: bool = True,
    ) -> dict[str, Dataset]:
        """The groups of ``open_datatree`` by their paths.

        Args:
            filename_or_obj, drop_variables, scaled: As for ``open_datatree``.

        Raises:
            UsageError: As for ``open_datatree``.
        """
        item = item_at(_place(filename_or_obj))
        if not isinstance(item, StoredDataset):
            volumes = [item] if isinstance(item, Volume) else list(item.values())
            return dict(_levels("", _kept(volumes, drop_variables), scaled=scaled))
        groups = {"/": Dataset()}
        for name, subject in item.items():
            volumes = _kept(list(subject.values()), drop_variables)
            groups |= _levels(f"/{name}", volumes, scaled=scaled)
        return groups

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether the path is a subject or a volume of a store; no server is asked."""
        if not isinstance(filename_or_obj, str | Path) or is_url(filename_or_obj):
            return False
        return is_volume(filename_or_obj) or is_store(Path(filename_or_obj).parent)


def _place(filename_or_obj: Any) -> str:
    try:
        return os.fspath(filename_or_obj)
    except TypeError:
        kind = type(filename_or_obj).__name__
        raise UsageError(f"{kind}: expected STORE/SUBJECT or STORE/SUBJECT/VOLUME") from None


def _kept(volumes: list[Volume], dropped: str | Iterable[str] | None) -> list[Volume]:
    names = {dropped} if isinstance(dropped, str) else set(dropped or ())
    return [volume for volume in volumes if volume.name not in names]


def _dataset(volumes: list[Volume], *, scaled: bool) -> Dataset:
    """Volumes of a subject, all at one level."""
    if not volumes:
        return Dataset()
    variables = {volume.name: _variable(volume, scaled=scaled) for volume in volumes}
    attributes = {"subject": volumes[0].subject.name, "level": volumes[0].level_number}
    return Dataset(variables, coords=_coordinates(volumes[0]), attrs=attributes)


def _levels(above: str, volumes: list[Volume], *, scaled: bool) -> Iterator[tuple[str, Dataset]]:
    """The groups of a subject's volumes: one without variables, and one for each level."""
    attributes = {"subject": volumes[0].subject.name} if volumes else {}
    yield above or "/", Dataset(attrs=attributes)
    for number in range(max((len(volume.levels) for volume in volumes), default=0)):
        having = [volume for volume in volumes if number < len(volume.levels)]
        factors = having[0].levels[number]
        for volume in having:
            if volume.levels[number] != factors:
                raise UsageError(
                    f"level {number} of {volume.name} covers {volume.levels[number]} voxels, that"
                    f" of {having[0].name} {factors}: open each volume by itself"
                )
        found = _dataset([volume.level(number) for volume in having], scaled=scaled)
        yield f"{above}/{number}", found.assign_attrs(factors=list(factors))


class _LazyVolume(BackendArray):
    """A volume that is read where it is indexed."""

    def __init__(self, volume: Volume, *, scaled: bool) -> None:
        self.volume = real_values(volume) if scaled else volume
        self.shape, self.dtype = volume.shape, self.volume.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, index: tuple[Any, ...]) -> np.ndarray:
        return np.asarray(self.volume[index])


def _variable(volume: Volume, *, scaled: bool) -> Variable:
    lazy = indexing.LazilyIndexedArray(_LazyVolume(volume, scaled=scaled))
    axes = (*((f"c_{volume.name}",) if volume.ndim == 4 else ()), *_AXES[1:])
    attributes: dict[str, Any] = {
        "affine": volume.affine.ravel().tolist(),
        "spacing": list(volume.spacing),
        "unit": volume.unit,
        "kind": volume.kind,
    }
    if volume.kind == "labels":
        names = volume.label_names
        attributes |= {"label_ids": list(names), "label_names": list(names.values())}
    elif is_scaled(volume) and not scaled:
        attributes |= {"scale_factor": volume.slope, "add_offset": volume.intercept}
    # Chunks of dask fit those of the store.
    chunks = (*((1,) if volume.ndim == 4 else ()), *volume.chunks)
    preferred = dict(zip(axes, chunks, strict=True))
    return Variable(axes, lazy, attributes, {"preferred_chunks": preferred})


def _coordinates(volume: Volume) -> dict[str, Any]:
    """Positions along each axis; none where the axes of the grid are not those of the patient."""
    linear, origin = volume.affine[:3, :3], volume.affine[:3, 3]
    if np.any(linear != np.diag(np.diag(linear))):
        return {}
    return {
        name: ((name,), origin[2 - n] + linear[2 - n, 2 - n] * np.arange(volume.shape[n - 3]))
        for n, name in enumerate(_AXES[1:])
    }
