"""xarray's backend ``voxquarry``, which opens subjects and volumes of a store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from xarray import Dataset, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from . import Volume
from ._paths import is_store, is_volume, volumes_at
from ._values import is_scaled, real_values

_AXES = ("c", "z", "y", "x")


class VoxquarryBackend(BackendEntrypoint):
    """Opens a subject, or one of its volumes, as an ``xarray.Dataset`` of lazy arrays.

    Each volume is a variable with the dimensions ``z``, ``y``, ``x``, and before them ``c_NAME`` if
    it has channels. Values are real ones. If the grid is not turned, ``z``, ``y`` and ``x`` have
    coordinates: RAS+ positions in ``unit``. The attributes of a variable are ``affine`` (16
    numbers, row by row: voxel ``(x, y, z, 1)`` to RAS+ positions), ``spacing``, ``unit`` and
    ``kind``, and for labels ``label_ids`` and ``label_names``.
    """

    description = "Volumes of a Voxquarry store"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "scaled")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scaled: bool = True,
    ) -> Dataset:
        """Opens ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME``; no voxel is read.

        Args:
            filename_or_obj: The path.
            drop_variables: Names of volumes to leave out.
            scaled: ``False`` gives stored values.

        Raises:
            UsageError: A path of neither; also a KeyError where a subject or volume is missing.
        """
        path = Path(filename_or_obj)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        volumes = [volume for volume in volumes_at(path) if volume.name not in dropped]
        variables = {volume.name: _variable(volume, scaled=scaled) for volume in volumes}
        coordinates = _coordinates(volumes[0]) if volumes else {}
        subject = volumes[0].subject.name if volumes else path.name
        return Dataset(variables, coords=coordinates, attrs={"subject": subject})

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether the path is a subject or a volume of a store."""
        if not isinstance(filename_or_obj, str | Path):
            return False
        return is_volume(filename_or_obj) or is_store(Path(filename_or_obj).parent)


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
