"""The interface of a system under comparison; the systems are in the modules `systems_*`."""

import json
import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path


class Unavailable(Exception):
    """The system cannot take part: it is not installed, or does not support this volume."""


class System(ABC):
    """A way to keep a volume on disk and to read patches from it.

    `name` is the row of the table. An instance belongs to one volume and one patch size; every
    process creates its own.
    """

    name: str
    # The layout on disk depends on the patch size, so every patch size has its own store.
    layout_follows_patch = False
    # Reading is so slow that only two rounds of a single patch are measured.
    slow = False
    # Systems that read the same bytes share a store.
    store: str

    def __init__(self, volume, patch):
        self.volume = volume
        self.patch = patch

    @property
    def folder(self) -> Path:
        """The folder with this system's files."""
        part = "x".join(map(str, self.patch)) if self.layout_follows_patch else "any"
        return self.volume.folder / "stores" / self.store / part

    def recipe(self) -> dict:
        """What the bytes on disk depend on besides the volume; a change makes a new store."""
        return {}

    @abstractmethod
    def write(self, folder: Path):
        """Converts the volume into `folder`, which is empty."""

    @abstractmethod
    def open(self, threads=1):
        """Opens what `write` wrote; reads follow."""

    @abstractmethod
    def read(self, start, size, out):
        """Reads one patch into `out`, or into a new array if the library can only return that."""

    def run(self, starts, size, out):
        """Reads a patch at each of `starts`; returns the seconds."""
        read = self.read
        begin = time.perf_counter()
        for start in starts:
            read(start, size, out)
        return time.perf_counter() - begin

    def data_files(self):
        """The files with voxels, which are evicted before a cold read."""
        return sorted(
            path for path in self.folder.rglob("*") if path.is_file() and path.name != "recipe.json"
        )

    def prepare(self, say):
        """Writes the store unless one with this recipe exists; returns the seconds it took."""
        marker = self.folder / "recipe.json"
        recipe = {"store": self.store, **self.recipe()}
        if marker.exists():
            noted = json.loads(marker.read_text())
            if noted["recipe"] == recipe:
                return noted["seconds"]
        say(f"writing {self.name} for {self.volume.name} {self.patch}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        begin = time.perf_counter()
        self.write(self.folder)
        seconds = time.perf_counter() - begin
        marker.write_text(json.dumps({"recipe": recipe, "seconds": seconds}))
        return seconds

    def stored_bytes(self):
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.data_files())


def box(start, size):
    """Slices of the patch at `start`."""
    return tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
