"""The queue: lookahead eviction (Belady), stalls of the model, time to the first batch, and leaks.

Everything is read with `voxquarry.Queue`. Belady's eviction is compared with LRU in the same
engine, with caches for all chunks, a quarter and a twentieth of them; chunks have the codec
`compact`, the only one that is cached decoded. The model is a wait as long as reading a batch.
"""

import gc
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np

import voxquarry as vq
from benches.compare.data import SYNTHETIC, Frame
from benches.compare.targets import Verdict

SUBJECTS = 8
ROUNDS = 3


def measure(data, quick, say):
    """Measures the queue; quick: small subjects and one round."""
    side, rounds = (96, 1) if quick else (192, ROUNDS)
    stores = {codec: store_of(data, side, codec, say) for codec in ("fast", "compact")}
    patch = side // 3
    foresight = foresights(stores["compact"], side, patch, rounds, say)
    stalls = [stall_of(stores["fast"], patch, say) for _ in range(rounds)]
    firsts = [first_batch(data, say) for _ in range(rounds)]
    endurance = endure(stores["fast"], 500 if quick else 10_000, say)
    record = {
        "foresight": foresight,
        "stall_fraction": stalls,
        "first_batch_ms": firsts,
        **endurance,
    }
    return record, verdicts_of(record)


def verdicts_of(record):
    stall, first = (
        statistics.median(record["stall_fraction"]),
        statistics.median(record["first_batch_ms"]),
    )
    flat, left = record["memory_drift_mib"], record["threads_left"] + record["files_left"]
    found = [
        Verdict(
            "consumer's stall, model as slow as reading", f"{stall:.1%}", "< 5 %", stall < 0.05
        ),
        Verdict(
            "first batch of 1,000 subjects after construction",
            f"{first:.0f} ms",
            "≤ 200 ms",
            first <= 200,
        ),
        Verdict(
            f"{record['batches']} batches: drift of resident memory",
            f"{flat:+.1f} MiB",
            "± 16 MiB",
            abs(flat) <= 16,
        ),
        Verdict(
            f"{record['batches']} batches: threads and files left behind", f"{left}", "0", left == 0
        ),
    ]
    for row in record["foresight"]:
        # With room for all chunks there is nothing to evict.
        if row["set / cache"] > 1:
            saved = 1 - row["decoded, Belady"] / row["decoded, LRU"]
            case = f"set {row['set / cache']} × the cache, {row['patches per subject']} patches"
            figure = f"chunks decoded, Belady / LRU: {case} a subject"
            found.append(Verdict(figure, f"{1 - saved:.2f}", "≤ 1", saved >= 0))
    return found


def store_of(data, side, codec, say):
    """Subjects of CT-like noise, made once."""
    path = data / f"queueing-{side}-{codec}-1.zarr"
    if not path.exists():
        say(f"making {SUBJECTS} subjects of {side}³, {codec}")
        make, dtype, _ = SYNTHETIC["int16"]
        source = data / "queueing.nii"
        for i in range(SUBJECTS):
            # Different slabs of one tall volume.
            frame = Frame((side * SUBJECTS, side, side), side * i, side * (i + 1))
            voxels = make(frame).astype(dtype)
            nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4)), source)
            vq.ingest({f"s{i}": {"ct": source}}, path, patch_size=side // 3, codec=codec)
        source.unlink()
    return path


def foresights(path, side, patch, rounds, say):
    """Belady's eviction and LRU, for each cache size and number of patches."""
    rows = []
    set_bytes = SUBJECTS * side**3 * 2
    for part in (1, 4, 20):
        for each in (1, 8, 64):
            say(f"set {part} × the cache, {each} patches of each subject")
            row = {"set / cache": part, "patches per subject": each}
            for name, eviction in (("Belady", "farthest"), ("LRU", "oldest")):
                rates = []
                for _ in range(rounds):
                    # If all are to fit, with room for chunks that extend past the border.
                    cache = set_bytes * 3 // 2 if part == 1 else set_bytes // part
                    dataset = vq.open(path)
                    queue = vq.Queue(
                        dataset,
                        vq.UniformSampler(patch),
                        "ct",
                        each,
                        cache_bytes=cache,
                        eviction=eviction,
                        buffer_bytes="64MiB",
                    )
                    for epoch in range(max(1, 64 // each)):
                        queue.set_epoch(epoch)
                        for _ in queue:
                            pass
                    stats = queue.stats()
                    rates.append(stats["patches_per_second"])
                row[f"decoded, {name}"] = stats["chunks_decoded"]
                row[f"MiB read, {name}"] = stats["bytes_read"] / 2**20
                row[f"patches/s, {name}"] = rates
            rows.append(row)
    return rows


def stall_of(path, patch, say):
    """The fraction of time that a model waits which is as slow as reading."""
    queue = vq.Queue(vq.open(path), vq.UniformSampler(patch), "ct", 500, batch_size=4)
    for _ in queue:
        pass
    # Warm, at full speed: how long a batch takes.
    queue.set_epoch(1)
    begun = time.perf_counter()
    for _ in queue:
        pass
    batch_seconds = (time.perf_counter() - begun) / len(queue)
    queue.set_epoch(2)
    before = queue.stats()
    for _ in queue:
        time.sleep(batch_seconds)
    after = queue.stats()
    seconds = after["seconds"] - before["seconds"]
    fraction = (after["stall_seconds"] - before["stall_seconds"]) / seconds
    say(f"a model of {batch_seconds * 1e3:.2f} ms a batch waits {fraction:.1%} of the time")
    return fraction


FIRST = """
import sys, time
import voxquarry as vq
dataset = vq.open(sys.argv[1])
begun = time.perf_counter()
next(iter(vq.Queue(dataset, vq.UniformSampler(32), "ct", 8)))
print((time.perf_counter() - begun) * 1e3)
"""


def first_batch(data, say):
    """Milliseconds from construction to the first batch of 1000 subjects, in a new process."""
    path = data / "queueing-thousand-1.zarr"
    if not path.exists():
        say("making 1,000 subjects")
        source = data / "queueing.nii"
        noise = np.random.default_rng(0).integers(-500, 500, (48, 48, 48), "i2")
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), source)
        vq.ingest({f"s{i:04}": {"ct": source} for i in range(1000)}, path, patch_size=32)
        source.unlink()
    answer = subprocess.run(
        [sys.executable, "-c", FIRST, str(path)], capture_output=True, text=True, check=True
    )
    return float(answer.stdout)


def endure(path, batches, say):
    """Memory, threads and files over many batches, each dropped when the next one arrives."""
    say(f"{batches} batches")
    dataset = vq.open(path)
    each = batches * 4 // SUBJECTS
    queue = vq.Queue(dataset, vq.UniformSampler(48), "ct", each, buffer_bytes="64MiB")
    for _, _ in zip(queue, range(batches // 10), strict=False):
        pass
    gc.collect()
    threads, files = _entries("task"), _entries("fd")
    resident = []
    for i, _ in enumerate(queue):
        if i % (batches // 10) == batches // 10 - 1:
            resident.append(_resident_mib())
    del _
    gc.collect()
    return {
        "batches": len(queue),
        "resident_mib": resident,
        "memory_drift_mib": max(resident[1:], key=lambda mib: abs(mib - resident[0])) - resident[0],
        "threads_left": _settled(threads) - threads,
        "files_left": _entries("fd") - files,
    }


def _entries(kind):
    return len(os.listdir(f"/proc/self/{kind}"))


def _settled(threads):
    """The number of threads, once the system has removed those that were joined."""
    end = time.monotonic() + 5
    while (found := _entries("task")) > threads and time.monotonic() < end:
        pass
    return found


def _resident_mib():
    """Anonymous resident memory: the process's memory without the pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024
