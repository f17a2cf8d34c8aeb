"""What a path or a URL names: ``STORE``, ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME``."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ._errors import Error, StorageError, UsageError
from ._native import Dataset, Subject, Volume
from ._native import open as open_store

# Stores that stay open between two paths; each has a cache of its own.
_OPEN_STORES = 4
# What the library opens as a URL; ``pathlib`` has perhaps made one slash of two.
_URL = re.compile(r"(https?|s3a?|gs|az|azure):/|[A-Za-z0-9]+://", re.IGNORECASE)


def is_url(path: Path | str) -> bool:
    """Whether a path is the URL of something on a server, as the library understands it."""
    return _URL.match(os.fspath(path)) is not None


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
    if not is_url(path):
        path = Path(path)
        if is_volume(path):
            return [volume_at(path)]
        if not (is_store(path.parent) or is_store(path)):
            raise UsageError(f"{path}: expected STORE/SUBJECT or STORE/SUBJECT/VOLUME")
    item = item_at(path)
    if isinstance(item, Dataset):
        names = list(item)
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        place = item.path
        raise UsageError(f"{place}: expected a subject of the store, {place}/NAME; it has: {some}")
    return [item] if isinstance(item, Volume) else list(item.values())


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
    """Opens ``STORE``, ``STORE/SUBJECT`` or ``STORE/SUBJECT/VOLUME``, also of a store at a URL.

    Raises:
        UsageError: No store there; also a KeyError where a subject or volume is missing.
        StorageError: A server or a network that refuses.
    """
    if is_url(path):
        return _item_at_url(os.fspath(path))
    store, names = Path(os.path.abspath(path)), list[str]()
    while len(names) <= 2:
        if is_store(store):
            return _below(open_store(store), names)
        names.append(store.name)
        store = store.parent
    # Opening the path itself gives the best error.
    return open_store(path)


def _item_at_url(url: str) -> Dataset | Subject | Volume:
    """The same behind a URL: the store is the innermost of its last three folders that is one."""
    # A token of an HTTP server goes to every request; a bucket's keys may hold question marks.
    url = re.sub(r"^(\w+):/+", r"\1://", url)
    mark = url.find("?") if url[:4].lower() == "http" else -1
    place, token = (url, "") if mark < 0 else (url[:mark], url[mark:])
    store, names, first = place.rstrip("/"), list[str](), None
    while True:
        try:
            opened = open_store(store + token)
        except StorageError:
            raise
        except Error as error:
            first = first or error
        else:
            return _below(opened, names)
        above, _, name = store.rpartition("/")
        if len(names) == 2 or not above or above.endswith("/"):
            # Opening the URL itself gave the best error.
            raise first
        names.append(name)
        store = above


def _below(dataset: Dataset, names: list[str]) -> Dataset | Subject | Volume:
    """What ``names``, the innermost first, name in a store."""
    item: Any = dataset
    for name in reversed(names):
        item = item[name]
    found: Dataset | Subject | Volume = item
    return found
