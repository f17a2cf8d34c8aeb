"""Converting one `.nii.gz` with each system: time, peak memory and bytes on disk.

Each conversion has a process of its own, on all cores: `python -m benches.compare.conversion WAY
SOURCE TARGET DATA`. The kernel's VmHWM is the peak, because getrusage's survives an exec and would
show the memory of the parent process.
"""

import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from . import data as volumes

PATCH = (96, 96, 96)
# Every way of converting, and the name of what it makes.
WAYS = {
    "voxquarry fast": "fast",
    "voxquarry none": "none",
    "tensorstore": "array",
    "blosc2, nnU-Net's layout": "case.b2nd",
}


def race(volume, data, rounds, say):
    """Rows of every way; they take turns, and every result is compared with the volume once."""
    source = volume.folder / "volume.nii.gz"
    if not source.exists():
        say(f"compressing {volume.name} as {source.name}")
        volumes.gzip_copy(volume.nii, source.with_suffix(".part"))
        source.with_suffix(".part").rename(source)
    rows = {name: {"name": name, "seconds": [], "peak_bytes": []} for name in WAYS}
    target = volume.folder / "converted"
    for number in range(rounds):
        for name, made in WAYS.items():
            say(f"converting with {name}, round {number + 1}")
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            command = [sys.executable, "-m", __spec__.name, name, source, target / made, data]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak = json.loads(printed)
            rows[name]["seconds"].append(seconds)
            rows[name]["peak_bytes"].append(peak)
            if not number:
                files = [path for path in target.rglob("*") if path.is_file()]
                rows[name]["bytes"] = sum(path.stat().st_size for path in files)
                if not holds(name, target / made, volume):
                    raise RuntimeError(f"{name} made other voxels")
            # What one conversion left to be written must not slow down the next.
            os.sync()
    shutil.rmtree(target)
    return list(rows.values())


def holds(name, made, volume):
    """Whether the converted voxels are the volume's."""
    if name.startswith("voxquarry"):
        import voxquarry

        reader = voxquarry.open(made)["subject"]["volume"]
        found = reader.read((0, 0, 0), volume.shape)
    elif name == "tensorstore":
        from .systems_zarr import open_array

        found = open_array(made).read().result()
    else:
        import blosc2

        found = blosc2.open(str(made))[0]
    return np.array_equal(found, volume.voxels())


def convert(name, source, target, data):
    """Seconds of one conversion, until its files are flushed."""
    if name.startswith("voxquarry"):
        import voxquarry

        begin = time.perf_counter()
        named = {"subject": {"volume": source}}
        voxquarry.ingest(named, target, patch_size=PATCH, codec=target.name)
        return time.perf_counter() - begin
    begin = time.perf_counter()
    with opened(source) as (shape, dtype, read):
        if name == "tensorstore":
            from .systems_zarr import SHARD, create_array

            array = create_array(target, shape, dtype)
            for z in range(0, shape[0], SHARD):
                part = read(min(SHARD, shape[0] - z))
                array[z : z + len(part)].write(part).result()
        else:
            from .systems_blosc2 import write_case

            write_case(read(shape[0]), PATCH, target, data)
    flush(target)
    return time.perf_counter() - begin


@contextlib.contextmanager
def opened(source):
    """The shape, the data type, and a function that reads the next planes, of a `.nii.gz`."""
    import nibabel

    stored = nibabel.load(source).dataobj
    shape, dtype = stored.shape[::-1], stored.dtype
    with gzip.open(source) as stream:
        stream.read(stored.offset)

        def read(count):
            voxels = np.empty((count, *shape[1:]), dtype)
            if stream.readinto(voxels.data.cast("B")) != voxels.nbytes:
                raise RuntimeError(f"{source} ends early")
            return voxels

        yield shape, dtype, read


def flush(target):
    """Waits until the disk has all files, as Voxquarry does before it publishes them."""
    for path in [target, *target.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def main():
    name, source, target, data = sys.argv[1], *map(Path, sys.argv[2:])
    seconds = convert(name, source, target, data)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps([seconds, peak]))


if __name__ == "__main__":
    main()
