"""What a system under comparison has to say about itself; the systems are in the modules
`systems_*`.
"""

import json
import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path


class Unavailable(Exception):
    """The system cannot take part: not installed, or not made for this volume."""


class System(ABC):
    """A way to keep a volume on disk and to read patches out of it.

    `name` is the row of the table. An instance belongs to one volume and one patch size; it is made
    anew in every process.
    """

    name: str
    # The layout on disk follows the patch size, so that every patch size has a store of its own.
    layout_follows_patch = False
    # A patch takes so long that only two rounds of a single patch are measured.
    slow = False
    # Others that read the same bytes name the same store.
    store: str

    def __init__(self, volume, patch):
        self.volume = volume
        self.patch = patch

    @property
    def folder(self) -> Path:
        """Where this system's files are."""
        part = "x".join(map(str, self.patch)) if self.layout_follows_patch else "any"
        return self.volume.folder / "stores" / self.store / part

    def recipe(self) -> dict:
        """What the bytes on disk depend on beside the volume; a store with another recipe is made
        anew.
        """
        return {}

    @abstractmethod
    def write(self, folder: Path):
        """Converts the volume into `folder`, which is empty."""

    @abstractmethod
    def open(self, threads=1):
        """Opens what `write` wrote; reads follow."""

    @abstractmethod
    def read(self, start, size, out):
        """One patch: in `out`, or in an array of the library's own where it cannot write into the
        caller's.
        """

    def run(self, starts, size, out):
        """Reads a patch at each of `starts`; the seconds it took."""
        read = self.read
        begin = time.perf_counter()
        for start in starts:
            read(start, size, out)
        return time.perf_counter() - begin

    def data_files(self):
        """The files that hold voxels; what a cold read must find evicted."""
        return sorted(
            path for path in self.folder.rglob("*") if path.is_file() and path.name != "recipe.json"
        )

    def prepare(self, say):
        """Writes the store if it is not there, or was made otherwise; the seconds of writing, or
        those noted when it was.
        """
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
