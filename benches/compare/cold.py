"""Reads of evicted files: time per patch, and how much of the page cache each patch filled."""

import ctypes
import json
import os
import time
from functools import cache

import numpy as np

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROT_READ, MAP_SHARED, MADV_DONTNEED = 1, 1, 4

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
MAP_FAILED = ctypes.c_void_p(-1).value


class Residency:
    """Counts the pages of some files in the page cache, by mincore over maps that nobody reads."""

    def __init__(self, paths):
        self.files = []
        self.paths = {str(path) for path in paths}
        for path in sorted(self.paths):
            descriptor = os.open(path, os.O_RDONLY)
            length = os.fstat(descriptor).st_size
            if not length:
                os.close(descriptor)
                continue
            os.fsync(descriptor)
            address = libc.mmap(None, length, PROT_READ, MAP_SHARED, descriptor, 0)
            if address == MAP_FAILED:
                raise OSError(ctypes.get_errno(), "mmap", path)
            self.files.append(
                (descriptor, address, length, np.empty(-(-length // PAGE_BYTES), np.uint8))
            )

    def bytes(self):
        """Bytes of the files that the page cache holds now."""
        pages = 0
        for _, address, length, residence in self.files:
            if libc.mincore(address, length, residence.ctypes.data):
                raise OSError(ctypes.get_errno(), "mincore")
            pages += int(np.count_nonzero(residence & 1))
        return pages * PAGE_BYTES

    def close(self):
        for descriptor, address, length, _ in self.files:
            libc.munmap(address, length)
            os.close(descriptor)
        self.files = []

    def evict(self):
        """Drops the files from the page cache; returns the bytes that remained."""
        # Pages in this process's page tables cannot be evicted: unmap them everywhere first.
        ours = {address for _, address, _, _ in self.files}
        with open("/proc/self/maps") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5] in self.paths:
                    begin, end = (int(bound, 16) for bound in fields[0].split("-"))
                    if begin not in ours:
                        libc.madvise(begin, end - begin, MADV_DONTNEED)
        for descriptor, _, length, _ in self.files:
            os.posix_fadvise(descriptor, 0, length, os.POSIX_FADV_DONTNEED)
        return self.bytes()


def run(system, starts, out):
    """Reads each patch from evicted files.

    Returns for each: seconds, bytes that entered the page cache, compressed bytes of its chunks
    (None if the layout is not Zarr), and bytes that eviction left cached.
    """
    files = Residency(system.data_files())
    array = next(
        (path.parent for path in system.folder.rglob("zarr.json") if is_sharded(path)), None
    )
    rows = []
    for start in starts:
        left = files.evict()
        seconds = system.run([start], system.patch, out)
        rows.append(
            (
                seconds,
                settled(files) - left,
                array and encoded_bytes(array, start, system.patch),
                left,
            )
        )
    files.evict()
    files.close()
    return rows


def settled(files):
    """Cached bytes once pending read-ahead has arrived."""
    before, now = -1, files.bytes()
    while now != before:
        time.sleep(0.002)
        before, now = now, files.bytes()
    return now


def is_sharded(document):
    metadata = json.loads(document.read_bytes())
    return metadata["node_type"] == "array" and metadata["codecs"][0]["name"] == "sharding_indexed"


@cache
def array_layout(array):
    """Extents of shard and chunk and the location of the index, of a 3-D sharded array."""
    metadata = json.loads((array / "zarr.json").read_bytes())
    sharding = metadata["codecs"][0]["configuration"]
    shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    return np.array(shard), np.array(sharding["chunk_shape"]), sharding.get("index_location", "end")


@cache
def shard_lengths(array, shard):
    """Encoded bytes of each chunk of a shard, 0 for chunks that are not stored."""
    extents, chunk, location = array_layout(array)
    grid = extents // chunk
    entry_bytes = 16 * int(grid.prod())
    try:
        with open(array / "c" / "/".join(map(str, shard)), "rb") as file:
            if location == "end":
                file.seek(-entry_bytes - 4, os.SEEK_END)
            index = np.frombuffer(file.read(entry_bytes), "<u8").reshape(*grid, 2)
    except FileNotFoundError:
        return np.zeros(grid, np.int64)
    return np.where(index[..., 0] == 2**64 - 1, 0, index[..., 1]).astype(np.int64)


def encoded_bytes(array, start, size):
    """Encoded bytes of all chunks that the patch intersects."""
    extents, chunk, _ = array_layout(array)
    first, last = np.array(start) // chunk, (np.array(start) + size - 1) // chunk
    grid = extents // chunk
    total = 0
    for shard in np.ndindex(*(last // grid - first // grid + 1)):
        shard = tuple(int(n) for n in first // grid + shard)
        low, high = np.maximum(first - shard * grid, 0), np.minimum(last - shard * grid, grid - 1)
        inside = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
        total += int(shard_lengths(array, shard)[inside].sum())
    return total
