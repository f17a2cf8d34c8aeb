"""Sampling by labels: 512³ voxels, 100 labels, ten of them rare (0.01 %); Voxquarry and TorchIO.

Every measurement has its own processes, so that nothing is warm except the page cache.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from benches.compare.targets import Verdict

PATCH = 96
LABELS, RARE = 100, 10
ROUNDS = 7
WARM = 2000
ROOM_MB = 64


def measure(data, quick, say):
    """Measures Voxquarry's label samplers and TorchIO's."""
    side = 192 if quick else 512
    store, plain = data / f"labels-{side}.zarr", data / f"labels-{side}.npy"
    if not store.exists():
        say("making and ingesting a label map")
        prepare(store, plain, side)
    rounds = [child("ours", str(store)) for _ in range(2 if quick else ROUNDS)]
    say(f"first sample {statistics.median(r['first_ms'] for r in rounds):.1f} ms")
    theirs = child("theirs", str(plain))
    say(f"TorchIO's first sample {theirs['first_ms'] / 1000:.1f} s")
    rows = [
        {
            "sampler": "voxquarry, " + kind,
            **{key: [r[kind][key] for r in rounds] for key in rounds[0][kind]},
        }
        for kind in ("probabilities", "any label", "forced foreground")
    ]
    rows.append({"sampler": "TorchIO, probabilities", **theirs})
    record = {"label map": f"{side}³ uint8, {LABELS} labels, patch {PATCH}³", "samplers": rows}
    return record, verdicts(rows, theirs, quick)


def verdicts(rows, theirs, quick):
    if quick:
        return []
    found = []
    for row in rows[:-1]:
        name = row["sampler"]
        first, warm = (statistics.median(row[key]) for key in ("first_ms", "warm_us"))
        found.append(
            Verdict(f"first sample after open, {name}", f"{first:.1f} ms", "≤ 10 ms", first <= 10)
        )
        found.append(
            Verdict(f"each further sample, {name}", f"{warm:.0f} µs", "≤ 200 µs", warm <= 200)
        )
        memory = max(row["memory_mb"])
        found.append(
            Verdict(
                f"memory above the store, {name}",
                f"{memory:.1f} MB",
                f"≤ {ROOM_MB} MiB",
                memory <= ROOM_MB,
            )
        )
    times = theirs["first_ms"] / statistics.median(rows[0]["first_ms"])
    found.append(
        Verdict("first sample, TorchIO's time as a multiple", f"{times:.0f}", "≥ 500", times >= 500)
    )
    return found


def prepare(store, plain, side):
    """Sheared blocks not aligned with chunks, half of them background; rare labels in cubes."""
    import nibabel

    import voxquarry as vq

    random = np.random.default_rng(20)
    coarse = random.integers(1, LABELS - RARE + 1, (11, 11, 11)) * (
        random.random((11, 11, 11)) < 0.5
    )
    at = np.arange(side) * 11 // side
    labels = coarse.astype("u1")[np.ix_(at, at, at)]
    for z in range(side):
        labels[z] = np.roll(labels[z], z // 5, axis=z % 2)
    edge = max(round((side**3 * 1e-4) ** (1 / 3)), 1)
    for label in range(LABELS - RARE + 1, LABELS + 1):
        z, y, x = random.integers(PATCH // 2, side - PATCH // 2 - edge, 3)
        labels[z : z + edge, y : y + edge, x : x + edge] = label
    source = store.with_suffix(".nii")
    nibabel.save(nibabel.Nifti1Image(labels.T, np.eye(4)), source)
    np.save(plain, labels)
    vq.ingest({"a": {"seg": vq.Labels(source)}}, store, patch_size=PATCH, overwrite=True)
    source.unlink()


def child(role, path):
    command = [sys.executable, "-m", "benches.training.sampling", role, path]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def anonymous_mb():
    """Anonymous memory of this process: without the pages of mapped files."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def ours(store):
    import voxquarry as vq

    vq.UniformSampler(PATCH).locations(vq.open(store)["a"], 1)
    probabilities = dict.fromkeys(range(1, LABELS + 1), 1.0)
    samplers = {
        "probabilities": vq.LabelSampler(PATCH, "seg", probabilities),
        "any label": vq.LabelSampler(PATCH, "seg"),
        "forced foreground": vq.LabelSampler(PATCH, "seg", foreground_fraction=1),
    }
    found = {}
    for kind, sampler in samplers.items():
        before = anonymous_mb()
        began = time.perf_counter()
        subject = vq.open(store)["a"]
        sampler.locations(subject, 1)
        first = time.perf_counter() - began
        # Every class is drawn before the warm samples are timed.
        sampler.locations(subject, WARM)
        began = time.perf_counter()
        sampler.locations(subject, WARM, first=WARM)
        whole = time.perf_counter() - began
        began = time.perf_counter()
        for n in range(200):
            sampler.locations(subject, 1, first=n)
        single = (time.perf_counter() - began) / 200
        found[kind] = {
            "first_ms": first * 1000,
            "warm_us": single * 1e6,
            "warm_batch_us": whole / WARM * 1e6,
            "memory_mb": anonymous_mb() - before,
        }
    return found | {"first_ms": found["probabilities"]["first_ms"]}


def theirs(plain):
    import resource

    import torch
    import torchio as tio

    image = tio.LabelMap(tensor=torch.from_numpy(np.load(plain))[None])
    subject = tio.Subject(seg=image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sampler = tio.LabelSampler(PATCH, "seg", dict.fromkeys(range(1, LABELS + 1), 1.0))
    began = time.perf_counter()
    patches = iter(sampler(subject))
    next(patches)
    first = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(3):
        next(patches)
    warm = (time.perf_counter() - began) / 3
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"first_ms": first * 1000, "warm_us": warm * 1e6, "memory_mb": memory}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    print(json.dumps({"ours": ours, "theirs": theirs}[sys.argv[1]](sys.argv[2])))
