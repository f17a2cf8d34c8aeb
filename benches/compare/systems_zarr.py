"""General Zarr v3 readers.

All read one array: shards of 256³, inner chunks of 32³, Blosc with LZ4 and byte shuffle.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import tensorstore
import zarr
import zarrs  # noqa: F401  registers its codec pipeline

from .system import System, Unavailable, box

CHUNK = 32
SHARD = 256
RUST_READER = Path(__file__).parent / "zarrs"
BUILT = Path(__file__).parents[2] / "target" / "zarrs-reader"


def create_array(folder, shape, dtype):
    """Creates the array that all these readers read."""
    blosc = {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "shuffle",
        "typesize": dtype.itemsize,
        "blocksize": 0,
    }
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = [little, {"name": "blosc", "configuration": blosc}]
    index = [little, {"name": "crc32c"}]
    sharding = {"chunk_shape": [CHUNK] * 3, "codecs": inner, "index_codecs": index}
    metadata = {
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SHARD] * 3}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    kvstore = f"file://{folder}/"
    spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata, "create": True}
    return tensorstore.open(spec).result()


def open_array(folder):
    """Opens such an array for reading."""
    spec = {"driver": "zarr3", "kvstore": f"file://{folder}/"}
    return tensorstore.open(spec, read=True).result()


class SharedArray(System):
    store = "zarr"

    def recipe(self):
        return {"chunk": CHUNK, "shard": SHARD}

    def write(self, folder):
        voxels = self.volume.voxels()
        array = create_array(folder / "array", voxels.shape, voxels.dtype)
        for z in range(0, voxels.shape[0], SHARD):
            part = voxels[z : z + SHARD]
            array[z : z + len(part)].write(part).result()

    @property
    def array(self):
        return self.folder / "array"


class TensorStore(SharedArray):
    name = "tensorstore"
    cache_bytes = 0

    def open(self, threads=1):
        limits = {
            "cache_pool": {"total_bytes_limit": self.cache_bytes},
            "data_copy_concurrency": {"limit": threads},
            "file_io_concurrency": {"limit": threads},
        }
        spec = {
            "driver": "zarr3",
            "kvstore": f"file://{self.array}/",
            "context": limits,
            "recheck_cached_data": False,
        }
        self.reader = tensorstore.open(spec, read=True).result()

    def read(self, start, size, out):
        return self.reader[box(start, size)].read().result()


class TensorStoreCached(TensorStore):
    """With a cache of decoded chunks; a warm round of a volume that fits reads only from it."""

    name = "tensorstore, 1 GiB cache"
    cache_bytes = 1 << 30


class TensorStoreParallel(TensorStore):
    """With up to 32 file reads in flight, which is faster on a cold disk."""

    name = "tensorstore, 32 reads in flight"

    def open(self, threads=1):
        super().open(32)


class ZarrPython(SharedArray):
    name = "zarr-python, sharded 32³"
    pipeline = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def open(self, threads=1):
        zarr.config.set(
            {
                "codec_pipeline.path": self.pipeline,
                "threading.max_workers": threads,
                "async.concurrency": threads,
                "codec_pipeline.max_workers": threads,
            }
        )
        self.reader = zarr.open_array(str(self.array), mode="r")

    def read(self, start, size, out):
        return self.reader[box(start, size)]


class ZarrPythonPlain(ZarrPython):
    """Chunks of 64³ without shards: fewer and larger chunks, because each one is expensive."""

    name = "zarr-python, 64³"
    store = "zarr-plain"

    def recipe(self):
        return {"chunk": 64}

    def write(self, folder):
        voxels = self.volume.voxels()
        codec = zarr.codecs.BloscCodec(
            cname="lz4", clevel=5, shuffle="shuffle", typesize=voxels.itemsize
        )
        array = zarr.create_array(
            folder / "array",
            shape=voxels.shape,
            dtype=voxels.dtype,
            chunks=(64,) * 3,
            compressors=codec,
        )
        for z in range(0, voxels.shape[0], 64):
            array[z : z + 64] = voxels[z : z + 64]


class ZarrsPython(ZarrPython):
    name = "zarrs-python"
    pipeline = "zarrs.ZarrsCodecPipeline"


class ZarrsCrate(SharedArray):
    """The zarrs crate in a program that times itself; `zarrs/src/main.rs` has its protocol."""

    name = "zarrs crate"

    def prepare(self, say):
        if shutil.which("cargo") is None:
            raise Unavailable("no cargo to build the reader of the zarrs crate")
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(BUILT)]
        subprocess.run(command, cwd=RUST_READER, check=True)
        return super().prepare(say)

    def open(self, threads=1):
        command = [str(BUILT / "release" / "zarrs-reader"), str(self.array), str(threads)]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _ask(self, command, starts, size):
        numbers = np.array([*size, *np.ravel(starts)], np.uint64)
        self.program.stdin.write(command + struct.pack("<Q", len(starts)) + numbers.tobytes())
        self.program.stdin.flush()

    def read(self, start, size, out):
        self._ask(b"g", [start], size)
        if self.program.stdout.readinto(out.data.cast("B")) != out.nbytes:
            raise RuntimeError("the zarrs reader stopped; its complaint is above")
        return out

    def run(self, starts, size, out):
        self._ask(b"t", starts, size)
        (nanoseconds,) = struct.unpack("<Q", self.program.stdout.read(8))
        return nanoseconds / 1e9


SYSTEMS = (TensorStore, TensorStoreCached, ZarrsCrate, ZarrsPython, ZarrPython, ZarrPythonPlain)
