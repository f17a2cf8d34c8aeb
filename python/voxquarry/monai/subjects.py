"""The subjects of a store as items of a ``monai.data.Dataset``: lazy volumes, or paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch

from .. import Dataset, Subject, UsageError, Volume
from .._paths import path_of

# Keys of items and the volumes that stand there; or volumes under their own names.
Names = Mapping[str, str] | Sequence[str]


class NotLoadedError(UsageError, AttributeError):
    """A transform met a volume of which no voxel was read."""


class LazyVolume(torch.Tensor):
    """A volume that a crop of this module, or ``LoadImaged``, will read.

    It has the attributes and the ``read`` methods of ``Volume``, and ``volume`` is that one. It is
    a tensor only so that all of torch and MONAI meet the error below.

    Raises:
        NotLoadedError: Whatever else is done with it: MONAI's own transforms need the voxels in
            memory.
    """

    volume: Volume

    @staticmethod
    def __new__(cls, volume: Volume) -> LazyVolume:
        # It owns no memory.
        made = torch.Tensor._make_wrapper_subclass(cls, volume.shape, dtype=torch.float32)
        made.volume = volume
        return made

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: object, arguments: Any = (), named: Any = None
    ) -> NoReturn:
        _refuse([arguments, named])

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, _types: object, arguments: Any = (), named: Any = None
    ) -> NoReturn:
        _refuse([arguments, named])

    def __repr__(self, **_: Any) -> str:
        return f"LazyVolume({self.volume!r})"

    def __reduce_ex__(self, _protocol: object) -> tuple[type, tuple[Volume]]:
        return LazyVolume, (self.volume,)

    def __deepcopy__(self, _memo: object) -> LazyVolume:
        # A published volume never changes.
        return self


def _forwarded(name: str) -> property:
    return property(lambda lazy: getattr(lazy.volume, name))


for _name in dir(Volume):
    # The attributes of a tensor that a volume has, too, such as its shape, are the volume's.
    if not _name.startswith("_"):
        setattr(LazyVolume, _name, _forwarded(_name))


def _refuse(arguments: Any) -> NoReturn:
    """Refuses a function whose arguments, or lists of them, hold a lazy volume."""
    waiting = [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, LazyVolume):
            volume = value.volume
            raise NotLoadedError(
                f"volume {volume.name!r} of subject {volume.subject.name!r} is in the store, and"
                " this transform needs its voxels: crop patches before it with a crop of"
                " voxquarry.monai, or read whole volumes before it with voxquarry.monai.LoadImaged"
            )
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    raise NotLoadedError("a volume of the store was not read before it was used as a tensor")


def unwrapped(value: Any) -> Any:
    """The volume of a lazy one; everything else as it is."""
    return value.volume if isinstance(value, LazyVolume) else value


def subjects(
    dataset: Dataset, volumes: Names | None = None, *, split: str | None = None
) -> list[dict[str, Any]]:
    """The items of a ``monai.data.Dataset`` for the crops of this module and for ``LoadImaged``: a
    dictionary of lazy volumes for each subject. No voxel is read.

    Args:
        dataset: The store.
        volumes: Names of the volumes, or ``{"image": "ct"}`` to name the keys; all of each subject
            if None.
        split: Only the subjects of that split, a key of ``dataset.splits``.

    Returns:
        ``{"ct": LazyVolume, "seg": LazyVolume, …, "subject": name}`` for each subject.

    Raises:
        UsageError: A split that is not there.
        KeyError: A subject without one of the volumes.
    """
    return [
        {key: LazyVolume(subject[name]) for key, name in _named(subject, volumes).items()}
        | {"subject": subject.name}
        for subject in _chosen(dataset, split)
    ]


def datalist(
    dataset: Dataset, volumes: Names | None = None, *, split: str | None = None
) -> list[dict[str, str]]:
    """The items of a ``monai.data.Dataset`` for ``LoadImaged``: dictionaries of paths, as
    ``monai.data.load_decathlon_datalist`` gives.

    Args:
        dataset, volumes, split: As for ``subjects``.

    Returns:
        ``{"image": "store.zarr/case01/ct", …, "subject": "case01"}`` for each subject, with the
            store's absolute path.

    Raises:
        UsageError: A split that is not there, or a data set that was opened at a level: paths name
            whole volumes.
        KeyError: A subject without one of the volumes.
    """
    return [
        {key: _path(subject[name]) for key, name in _named(subject, volumes).items()}
        | {"subject": subject.name}
        for subject in _chosen(dataset, split)
    ]


def _path(volume: Volume) -> str:
    if volume.level_number:
        raise UsageError(
            f"{path_of(volume)} is opened at level {volume.level_number}, which no path names: use"
            " subjects(dataset), or open the data set without a level"
        )
    return path_of(volume)


def name_after_subject(path: str, subject: str) -> str:
    """A path below that of a volume, for MONAI's writers: they take the last part, without its
    extension, as the name of their file.
    """
    return f"{path}/{subject}.nii.gz"


def _named(subject: Subject, volumes: Names | None) -> Mapping[str, str]:
    if isinstance(volumes, str):
        raise UsageError(f"volumes {volumes!r}: expected a list of names")
    return (
        volumes if isinstance(volumes, Mapping) else {name: name for name in (volumes or subject)}
    )


def _chosen(dataset: Dataset, split: str | None) -> Iterable[Subject]:
    if split is None:
        return (dataset[name] for name in dataset)
    splits = dataset.splits
    if split not in splits:
        raise UsageError(f"no split {split!r}; the store has: {', '.join(splits) or 'none'}")
    return (dataset[name] for name in splits[split])
