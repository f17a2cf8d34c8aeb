"""Time and memory of blending overlapping patches: Voxquarry, TorchIO and MONAI.

All read the same patches with `Volume.read_batch` from one store, take them as the model's answers,
and blend them. The time runs from the first read to the finished result, some planes of which are
compared with the volume. Every contestant has a new process in each round.
"""

import json
import math
import multiprocessing
import statistics
import subprocess
import time
from pathlib import Path

import nibabel
import numpy as np

import voxquarry as vq
from benches.compare import data
from benches.compare.protocol import median_ratio
from benches.compare.targets import Verdict

ROUNDS, QUICK_ROUNDS = 5, 2
SHAPE, QUICK_SHAPE = (1024, 512, 512), (256, 192, 192)
MEMORY = "288MiB"
CLASSES = 104
BATCH = 4
# 16 GiB. A layer of patches is four times that of `SHAPE`, so more of it is in scratch files.
HUGE_SHAPE, HUGE_QUICK_SHAPE = (4096, 1024, 1024), (256, 160, 160)
HUGE_MEMORY, HUGE_QUICK_MEMORY = "128MiB", "8MiB"
STORE, ARRAY, INFER = (
    "voxquarry into a store",
    "voxquarry into an array",
    "voxquarry.infer into a store",
)
TORCHIO, MONAI, MONAI_WHOLE = (
    "TorchIO, hann",
    "MONAI, gaussian",
    "MONAI, gaussian, volume read at once",
)
# Ours, theirs, and the least ratio of their time to ours.
TARGETS = (
    (STORE, TORCHIO, 2.0),
    (ARRAY, TORCHIO, 2.5),
    *(
        (ours, monai, least)
        for monai in (MONAI, MONAI_WHOLE)
        for ours, least in ((STORE, 1.3), (ARRAY, 1.7))
    ),
)


def measure(folder, quick, say):
    """Rounds of all contestants in turn, then labels of many classes and a huge result."""
    shape, patch, rounds = (QUICK_SHAPE, 48, QUICK_ROUNDS) if quick else (SHAPE, 96, ROUNDS)
    store = store_of(folder, shape, patch, data.ct_normalised, say)
    out = folder / "aggregation-out.zarr"
    rows = {
        name: {"contestant": name, "seconds": [], "peak anonymous MiB": []} for name in BLENDERS
    }
    for _ in range(rounds):
        for name, row in rows.items():
            remove(out)
            found, peak = run_alone(name, store, out, patch)
            row["seconds"].append(found["seconds"])
            row["peak anonymous MiB"].append(peak)
            row["patches"] = found["patches"]
            say(f"{name}: {found['seconds']:.2f} s, {peak:.0f} MiB")
    remove(out)
    labels, huge = labels_of(folder, quick, say), huge_of(folder, quick, say)
    record = {
        "volume": f"{shape} float32, patches of {patch}³ overlapping by half",
        "blending": list(rows.values()),
        "labels": [labels],
        "huge": [huge],
    }
    return record, [
        *speeds({name: row["seconds"] for name, row in rows.items()}),
        *memories(rows, labels, huge),
    ]


def speeds(seconds):
    found = []
    for ours, theirs, least in TARGETS:
        middle, low, high = median_ratio(seconds[theirs], seconds[ours])
        found.append(
            Verdict(
                f"aggregation: {ours} / {theirs}",
                f"{middle:.2f} ({low:.2f}–{high:.2f})",
                f"≥ {least}",
                middle >= least,
            )
        )
    return found


def memories(rows, labels, huge):
    peak = statistics.median(rows[STORE]["peak anonymous MiB"])
    limit = 1.15 * labels["slab MiB"] + 200
    most, of_huge = labels["peak anonymous MiB"], huge["peak anonymous MiB"]
    return [
        Verdict(
            "aggregation into a store: peak anonymous memory",
            f"{peak:.0f} MiB",
            "≤ 400 MiB",
            peak <= 400,
        ),
        Verdict(
            f"{huge['output GiB']:.3g} GiB into a store: peak anonymous memory",
            f"{of_huge:.0f} MiB",
            "≤ 400 MiB",
            of_huge <= 400,
        ),
        Verdict(
            f"argmax of {CLASSES} classes: peak anonymous memory",
            f"{most:.0f} MiB",
            f"≤ {limit:.0f} MiB",
            most <= limit,
        ),
        Verdict(
            f"argmax of {CLASSES} classes in a quarter of the slab",
            labels["in a quarter"],
            "the same",
            labels["in a quarter"] == "the same",
        ),
    ]


def store_of(folder, shape, patch, make, say):
    """A store of one volume, made once."""
    path = (
        folder / f"aggregation-{'x'.join(map(str, shape))}-{make.__name__}-{data.GENERATION}.zarr"
    )
    if not path.exists():
        say(f"making a volume of {shape}")
        source = folder / "aggregation.nii"
        slabs = [make(data.Frame(shape, z, min(z + 32, shape[0]))) for z in range(0, shape[0], 32)]
        nibabel.save(nibabel.Nifti1Image(np.concatenate(slabs).T, np.eye(4)), source)
        vq.ingest({"s": {"ct": source}}, path, patch_size=patch)
        source.unlink()
    return path


def remove(store):
    subprocess.run(["rm", "-rf", str(store)], check=True)


def run_alone(name, *arguments):
    """Runs a contestant in a new process; returns its result and peak anonymous memory in MiB."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(theirs, name, *arguments))
    process.start()
    theirs.close()
    peak = 0.0
    while not mine.poll(0.02):
        peak = max(peak, _anonymous_mib(process.pid))
    try:
        found = json.loads(mine.recv())
    except EOFError:
        raise RuntimeError(f"{name}: its process ended, its error is above") from None
    process.join()
    return found, peak


def serve(pipe, name, *arguments):
    by_name = {"labels": labelled, "huge": repeated}
    found = by_name[name](*arguments) if name in by_name else blended(name, *arguments)
    pipe.send(json.dumps(found))


def blended(name, store, out, patch):
    volume = vq.open(store)["s"]["ct"]
    grid = vq.GridSampler(patch, overlap=patch // 2)
    run = BLENDERS[name](volume, grid, f"{out}/s/pred")
    begun = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - begun
    planes = range(0, volume.shape[0], 37)
    if not all(np.allclose(_plane(result, z), volume[z], rtol=1e-5, atol=1e-5) for z in planes):
        raise RuntimeError(f"{name}: the result is not the volume")
    return {"seconds": seconds, "patches": len(grid.locations(volume))}


def _plane(result, z):
    """A plane of `(z, y, x)` or of `(1, z, y, x)`."""
    return np.asarray(result[z] if result.ndim == 3 else result[0, z])


# Each returns the function that is timed; imports and one-time preparations come before.
def ours_stored(volume, grid, out):
    return lambda: ours(volume, grid, out)


def ours_in_memory(volume, grid, out):
    return lambda: ours(volume, grid, None)


def ours(volume, grid, out):
    aggregator = vq.Aggregator(
        grid, volume, channels=None, window="hann", out=out, memory_bytes=MEMORY
    )
    for starts, patches in batches(volume, grid):
        aggregator.add(patches, starts)
    return aggregator.finish()


def ours_inferred(volume, grid, out):
    half = grid.patch_size[0] // 2
    return lambda: vq.infer(
        lambda x: x[:, 0],
        volume,
        grid.patch_size,
        half,
        out,
        BATCH,
        "hann",
        memory_bytes=MEMORY,
        resume=False,
    )


def batches(volume, grid, shape=None, period=None):
    """The patches, `(n, z, y, x)`, in a buffer that is reused.

    A `shape` larger than the volume is read as if the volume repeated every `period` voxels.
    """
    starts = grid.locations(shape or volume)
    buffer = np.empty((BATCH, *grid.patch_size), volume.dtype)
    for n in range(0, len(starts), BATCH):
        some = starts[n : n + BATCH]
        inside = some % period if period else some
        yield some, volume.read_batch(inside, grid.patch_size, out=buffer[: len(some)])


def torchio(volume, grid, out):
    import torch
    import torchio as tio

    # A subject of the volume's shape that takes no memory; TorchIO does not care what we call axes.
    whole = torch.zeros(1).expand(1, *volume.shape)
    subject = tio.Subject(image=tio.ScalarImage(tensor=whole))

    def run():
        half = grid.patch_size[0] // 2
        aggregator = tio.GridAggregator(
            tio.GridSampler(subject, grid.patch_size, half), overlap_mode="hann"
        )
        for starts, patches in batches(volume, grid):
            locations = np.hstack([starts, starts + np.array(grid.patch_size)])
            aggregator.add_batch(torch.from_numpy(patches)[:, None], torch.from_numpy(locations))
        return aggregator.get_output_tensor()

    return run


def monai(volume, grid, out):
    import torch
    from monai.inferers import sliding_window_inference

    # MONAI slides over a tensor of the volume's shape that takes no memory; patches come from the
    # store.
    shape = torch.zeros(1).expand(1, 1, *volume.shape)
    buffer = np.empty(grid.patch_size, volume.dtype)

    def predictor(_, places):
        start = [s.start for s in places[0][2:]]
        return torch.from_numpy(volume.read_batch([start], grid.patch_size, out=buffer[None]))[None]

    return lambda: sliding_window_inference(
        shape, grid.patch_size, 1, predictor, 0.5, "gaussian", with_coord=True
    )[0]


def monai_whole(volume, grid, out):
    import torch
    from monai.inferers import sliding_window_inference

    def run():
        whole = torch.from_numpy(volume.read((0, 0, 0), volume.shape))[None, None]
        # MONAI multiplies the model's answer in place.
        return sliding_window_inference(
            whole, grid.patch_size, BATCH, lambda x: x, 0.5, "gaussian"
        )[0]

    return run


BLENDERS = {
    STORE: ours_stored,
    ARRAY: ours_in_memory,
    INFER: ours_inferred,
    TORCHIO: torchio,
    MONAI: monai,
    MONAI_WHOLE: monai_whole,
}


def huge_of(folder, quick, say):
    """Memory of a result much larger than RAM, whose patches repeat a small volume."""
    shape, patch, memory = (
        (HUGE_QUICK_SHAPE, 32, HUGE_QUICK_MEMORY) if quick else (HUGE_SHAPE, 96, HUGE_MEMORY)
    )
    store = store_of(folder, (5 * patch,) * 3, patch, repeating, say)
    out = folder / "aggregation-huge.zarr"
    remove(out)
    found, peak = run_alone("huge", store, out, patch, shape, memory)
    stored = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    remove(out)
    gib = math.prod(shape) * 4 / 2**30
    row = {"volume": f"{shape} float32", "memory_bytes": memory, "output GiB": gib, **found}
    row |= {
        "GiB/s": gib / found["seconds"],
        "stored GiB": stored / 2**30,
        "peak anonymous MiB": peak,
    }
    say(f"{gib:.3g} GiB into a store: {found['seconds']:.0f} s, {peak:.0f} MiB")
    return row


def repeating(frame):
    """A CT in whole Hounsfield units whose last fifth along every axis repeats the first."""
    fifth = frame.shape[0] // 5
    period, z = 4 * fifth, frame.z0 % (4 * fifth)
    voxels = data.ct(data.Frame((period,) * 3, z, z + len(frame.planes))).astype(np.float32)
    return np.pad(voxels, ((0, 0), (0, fifth), (0, fifth)), mode="wrap")


def repeated(store, out, patch, shape, memory):
    """Blends a volume that repeats the stored one."""
    volume = vq.open(store)["s"]["ct"]
    period = 4 * patch
    grid = vq.GridSampler(patch, overlap=patch // 2)
    begun = time.perf_counter()
    aggregator = vq.Aggregator(
        grid, shape, channels=None, window="hann", out=f"{out}/s/pred", memory_bytes=memory
    )
    for starts, patches in batches(volume, grid, shape, period):
        aggregator.add(patches, starts)
    result = aggregator.finish()
    seconds = time.perf_counter() - begun
    rows, columns = (np.arange(n) % period for n in shape[1:])
    if not all(
        np.array_equal(result[z], volume[z % period][np.ix_(rows, columns)])
        for z in range(0, shape[0], 37)
    ):
        raise RuntimeError("the result does not repeat the volume")
    return {"seconds": seconds, "patches": len(grid.locations(shape))}


def labels_of(folder, quick, say):
    """Memory of argmax over many classes, with twice a slab of memory and with a quarter of one."""
    shape, patch = ((96, 64, 64), 32) if quick else ((192, 144, 144), 48)
    store = store_of(folder, shape, patch, classes, say)
    out = folder / "aggregation-labels.zarr"
    slab = patch * shape[1] * shape[2] * CLASSES * 4
    row = {"classes": CLASSES, "volume": f"{shape}", "slab MiB": slab / 2**20}
    for key, memory in (("", 2 * slab), (" in a quarter", slab // 4)):
        remove(out)
        found, peak = run_alone("labels", store, out, patch, memory)
        row["seconds" + key], row["peak anonymous MiB" + key] = found["seconds"], peak
        say(
            f"argmax of {CLASSES} classes{key}: {found['seconds']:.2f} s, {peak:.0f} MiB,"
            f" slab {row['slab MiB']:.0f} MiB"
        )
        if found["wrong"] and not key:
            raise RuntimeError(f"{found['wrong']} labels are not the volume's")
    remove(out)
    row["in a quarter"] = f"{found['wrong']} other labels" if found["wrong"] else "the same"
    return row


def classes(frame):
    """A class for each voxel."""
    return np.floor(np.abs(frame.smooth(41, 9)) * 40 % CLASSES).astype(np.float32)


def labelled(store, out, patch, memory):
    """Blends the answers of a model that is most confident of each voxel's own class."""
    volume = vq.open(store)["s"]["ct"]
    grid = vq.GridSampler(patch, overlap=patch // 2)
    number = np.arange(CLASSES, dtype=np.float32)[:, None, None, None]
    # v·c − c²/2 has its maximum at c = v.
    answer = np.empty((CLASSES, *grid.patch_size), np.float32)
    begun = time.perf_counter()
    aggregator = vq.Aggregator(
        grid,
        volume,
        channels=CLASSES,
        dtype="uint8",
        finish="argmax",
        out=f"{out}/s/labels",
        memory_bytes=memory,
    )
    for start in grid.locations(volume):
        np.multiply(volume.read(start, patch), number, out=answer)
        answer -= number**2 / 2
        aggregator.add(answer, start)
    result = aggregator.finish()
    seconds = time.perf_counter() - begun
    wrong = sum(int(np.count_nonzero(result[z] != volume[z])) for z in range(volume.shape[0]))
    return {"seconds": seconds, "wrong": wrong}


def _anonymous_mib(pid):
    """Anonymous resident memory: a process's memory without the pages of mapped files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")), 0.0)
