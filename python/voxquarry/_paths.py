"""Volumes by their paths, ``STORE/SUBJECT/VOLUME``, for the loaders of other projects."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from ._errors import UsageError
from ._native import Dataset, Subject, Volume
from ._native import open as open_store

# Stores that stay open between two paths; each has a cache of its own.
_OPEN_STORES = 4


def is_store(path: Path | str) -> bool:
    """Whether a folder is a store."""
    document = Path(path) / "zarr.json"
    if not document.is_file():
        return False
    try:
        attributes = json.loads(document.read_text()).get("attributes", {})
    except (ValueError, AttributeError, OSError):
        return False
    node = attributes.get("voxquarry", {}) if isinstance(attributes, dict) else {}
    return isinstance(node, dict) and node.get("node") == "dataset"


def is_volume(path: Path | str) -> bool:
    """Whether a store is two folders up, so that the path can be nothing else."""
    return is_store(Path(path).parent.parent)


def volume_at(path: Path | str) -> Volume:
    """Opens a volume; those of one store share its cache.

    Raises:
        UsageError: No such store; also a KeyError where a subject or volume is missing.
    """
    path = Path(path)
    store = os.path.abspath(path.parent.parent)
    # Subjects that were added or replaced changed the folder.
    changed = os.stat(store).st_mtime_ns if os.path.isdir(store) else 0
    return _opened(store, changed)[path.parent.name][path.name]


def volumes_at(path: Path | str) -> list[Volume]:
    """All volumes of ``STORE/SUBJECT``, or the one of ``STORE/SUBJECT/VOLUME``.

    Raises:
        UsageError: A path of neither; also a KeyError where a subject or volume is missing.
    """
    path = Path(path)
    if is_volume(path):
        return [volume_at(path)]
    if is_store(path.parent):
        return list(open_store(path.parent)[path.name].values())
    if is_store(path):
        names = list(open_store(path))
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UsageError(f"{path}: expected a subject of the store, {path}/NAME; it has: {some}")
    raise UsageError(f"{path}: expected STORE/SUBJECT or STORE/SUBJECT/VOLUME")


def level_of(subject: Subject, name: str, level: int) -> Volume:
    """A level of a volume, for pickle; a data set that was opened at a level has that alone."""
    volume = subject[name]
    return volume if volume.level_number == level else volume.level(level)


@lru_cache(_OPEN_STORES)
def _opened(store: str, _changed: int) -> Dataset:
    return open_store(store)


def path_of(volume: Volume) -> str:
    """``STORE/SUBJECT/VOLUME``, with the store's absolute path."""
    subject = volume.subject
    return f"{subject.dataset.path}/{subject.name}/{volume.name}"


def document(volume: Volume) -> dict[str, Any]:
    """The attributes of a volume's document, as the store has them."""
    attributes: dict[str, Any] = json.loads(
        (Path(path_of(volume)) / "zarr.json").read_text(encoding="utf-8")
    )["attributes"]
    return attributes


def item_at(path: Path | str) -> Dataset | Subject | Volume:
    """Opens ``STORE``, ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME``.

    Raises:
        UsageError: No store there; also a KeyError where a subject or volume is missing.
    """
    store, names = Path(os.path.abspath(path)), list[str]()
    while len(names) <= 2:
        if is_store(store):
            item: Any = open_store(store)
            for name in reversed(names):
                item = item[name]
            found: Dataset | Subject | Volume = item
            return found
        names.append(store.name)
        store = store.parent
    # Opening the path itself gives the best error.
    return open_store(path)
