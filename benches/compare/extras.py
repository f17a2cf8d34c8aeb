"""Single measurements: the cost of a call, opening a volume of 4 TiB, and the cost of the cache."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import google_crc32c
import numpy as np

from . import protocol, systems_voxquarry
from .worker import Worker

CALLS = 20_000
# 64 × 32 × 32 shards of 512 × 256 × 256 int16 voxels, 64 MiB each.
HUGE_SHARD = (512, 256, 256)
HUGE_SHAPE = (32768, 8192, 8192)


def call_microseconds(volume, patch, rounds):
    """For each codec, the time to read one voxel: with `none` the call alone, with the others also
    the decoding of a block.
    """
    first, _ = protocol.cores()
    found = {}
    for system in (
        kind(volume, patch) for kind in (systems_voxquarry.Uncompressed, systems_voxquarry.Fast)
    ):
        worker = Worker(system, {first})
        try:
            worker.receive()
            start = tuple(n // 2 for n in volume.shape)
            worker.ask("tiny", start, CALLS // 10)
            found[system.codec] = [
                worker.ask("tiny", start, CALLS) / CALLS * 1e6 for _ in range(rounds)
            ]
        finally:
            worker.close()
    return found


def cache_race(volume, patch, rounds, seconds, say):
    """Random reads of a volume four times the cache, and the same reads without a cache."""
    plain = protocol.one_thread(systems_voxquarry.Fast(volume, patch))
    cached = protocol.one_thread(systems_voxquarry.FastCached(volume, patch))
    protocol.warm([plain.system])
    starts = protocol.positions(volume, patch)
    protocol.race([plain, cached], starts, rounds, seconds, say)
    return plain, cached


# Runs in a separate process, in which nothing else has been loaded or cached; prints milliseconds
# and KiB. The peak is the kernel's VmHWM, because getrusage's survives an exec and would show the
# memory of the parent process.
OPENING = """
import sys, time
import numpy, voxquarry
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak()
begin = time.perf_counter()
volume = voxquarry.open(sys.argv[1])["subject"]["volume"]
opened = time.perf_counter()
after = peak()
patch = volume.read([n // 2 for n in volume.shape], 96)
done = time.perf_counter()
assert volume.shape == (32768, 8192, 8192) and not patch.any()
print((opened - begin) * 1e3, (done - opened) * 1e3, before, after, peak())
"""


def opening(volume, patch, folder, rounds, say):
    """Opens a volume of 4 TiB whose 65,536 shard files exist but contain no chunk."""
    say("laying out a volume of 4 TiB in 65,536 empty shards")
    source = systems_voxquarry.Fast(volume, patch).folder / "store"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        store = Path(temporary) / "store"
        lay_out_huge(source, store)
        rows = []
        for _ in range(rounds):
            command = [sys.executable, "-c", OPENING, str(store)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append(tuple(map(float, printed.split())))
    open_ms, first_ms, before_kib, opened_kib, peak_kib = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    return {
        "open_ms": open_ms,
        "first_patch_ms": first_ms,
        "process_before_mib": before_kib / 1024,
        "process_opened_mib": opened_kib / 1024,
        "process_first_patch_mib": peak_kib / 1024,
        "rounds": rows,
    }


def lay_out_huge(source, store):
    """Copies the metadata of `source` with a larger shape; every shard links to an empty one."""
    grid = [n // s for n, s in zip(HUGE_SHAPE, HUGE_SHARD, strict=True)]
    volume = Path("subject") / "volume"
    for part in (Path(), Path("subject"), volume, volume / "0"):
        (store / part).mkdir(parents=True)
        shutil.copy(source / part / "zarr.json", store / part)

    array_path = store / volume / "0" / "zarr.json"
    array = json.loads(array_path.read_text())
    sharding = array["codecs"][0]["configuration"]
    array["shape"], array["data_type"], array["fill_value"] = HUGE_SHAPE, "int16", 0
    array["chunk_grid"]["configuration"]["chunk_shape"] = HUGE_SHARD
    sharding["chunk_shape"] = [32, 32, 32]
    array_path.write_text(json.dumps(array))

    group_path = store / volume / "zarr.json"
    group = json.loads(group_path.read_text())
    ours = group["attributes"]["voxquarry"]
    ours["statistics"]["voxels"] = int(np.prod(HUGE_SHAPE))
    ours["shard_files"] = int(np.prod(grid))
    group_path.write_text(json.dumps(group))

    absent = np.full(2 * int(np.prod(HUGE_SHARD)) // 32**3, 2**64 - 1, "<u8").tobytes()
    shard = absent + google_crc32c.value(absent).to_bytes(4, "little")
    for z in range(grid[0]):
        original = None
        for y in range(grid[1]):
            row = store / volume / "0" / "c" / str(z) / str(y)
            row.mkdir(parents=True)
            for x in range(grid[2]):
                # One file for each plane of shards: file systems limit the links to a file.
                if original is None:
                    original = row / str(x)
                    original.write_bytes(shard)
                else:
                    os.link(original, row / str(x))
