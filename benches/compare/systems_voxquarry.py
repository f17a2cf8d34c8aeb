"""Voxquarry's three codecs, and a variant with a cache."""

import hashlib

import voxquarry

from .system import System


def library_digest():
    """Identifies the library that wrote a store, so that stores of an older one are rewritten."""
    with open(voxquarry._native.__file__, "rb") as library:
        return hashlib.file_digest(library, "sha256").hexdigest()


class Voxquarry(System):
    codec = "fast"
    layout_follows_patch = True
    # Every patch is decoded; the cache is measured separately.
    cache_bytes = 0

    @property
    def store(self):
        return f"voxquarry-{self.codec}"

    def recipe(self):
        return {"library": library_digest(), "patch": list(self.patch)}

    def write(self, folder):
        source = self.volume.nii
        if self.volume.name == "labels":
            source = voxquarry.Labels(source)
        voxquarry.ingest(
            {"subject": {"volume": source}}, folder / "store", self.patch, codec=self.codec
        )

    def open(self, threads=1):
        dataset = voxquarry.open(
            self.folder / "store", cache_bytes=self.cache_bytes, threads=threads
        )
        self.reader = dataset["subject"]["volume"]

    def read(self, start, size, out):
        return self.reader.read(start, size, out)


class Fast(Voxquarry):
    name = "voxquarry fast"
    codec = "fast"


class Compact(Voxquarry):
    name = "voxquarry compact"
    codec = "compact"


class Uncompressed(Voxquarry):
    name = "voxquarry none"
    codec = "none"


class FastCached(Fast):
    """With a cache of a quarter of the volume, which is read at random."""

    name = "voxquarry fast, cache of a quarter"

    @property
    def cache_bytes(self):
        return self.volume.raw_bytes // 4


SYSTEMS = (Fast, Compact, Uncompressed)
