"""The whole default augmentation of nnU-Net v2, two processes or threads of either side:
``python -m benches.augment.nnunet`` in the environment of ``make test-nnunet``.

nnU-Net's own transforms get boxes of the size that its loader cuts, in memory; Voxquarry reads its
patches from a store, and hands out batches.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

import voxquarry as vq

RESULTS = Path(__file__).parents[1] / "results"
VOLUME = (320, 384, 384)
SIZE, WORKERS = 128, 2


def store(folder: Path) -> vq.Dataset:
    """An image with structure and noise, and labels."""
    rng, (z, y, x) = np.random.default_rng(0), np.ogrid[tuple(slice(n) for n in VOLUME)]
    waves = 300 * (np.sin(z / 9) + np.cos(y / 13) + np.sin(x / 7))
    ct = (waves + rng.normal(0, 20, VOLUME)).astype(np.int16)
    seg = ((z // 20 + y // 30 + x // 30) % 5).astype(np.uint8)
    path = folder / "store.zarr"
    return vq.ingest({"case": {"ct": ct, "seg": vq.Labels(seg)}}, path, patch_size=SIZE)


def ours(dataset: vq.Dataset, samples: int) -> float:
    """Samples a second of a queue with two threads, its buffers filled and emptied again."""
    queue = vq.Queue(
        dataset,
        vq.UniformSampler(SIZE),
        ["ct", "seg"],
        patches_per_subject=samples,
        batch_size=2,
        buffer_bytes="64MiB",
        augment=vq.Augment.nnunet(),
        normalize="zscore",
        threads=WORKERS,
    )
    for _ in zip(range(4), queue, strict=False):
        pass
    begin = time.perf_counter()
    count = sum(len(batch["subject"]) for batch in queue)
    return count / (time.perf_counter() - begin)


def worker(seed: int, samples: int, start: object, times: object) -> None:
    """One process of nnU-Net's: transforms of a box in memory."""
    torch.set_num_threads(1)
    np.random.seed(seed)
    torch.manual_seed(seed)
    turn = (-np.pi / 6, np.pi / 6)
    transforms = nnUNetTrainer.get_training_transforms(
        (SIZE,) * 3, turn, None, (0, 1, 2), do_dummy_2d_data_aug=False
    )
    shape = get_patch_size((SIZE,) * 3, turn, turn, turn, (0.85, 1.25))
    image = torch.randn(1, *(int(n) for n in shape))
    seg = (image * 2).to(torch.int16).clip(0, 4)
    transforms(image=image.clone(), segmentation=seg.clone())
    start.wait()
    begin = time.perf_counter()
    for _ in range(samples):
        transforms(image=image.clone(), segmentation=seg.clone())
    times.put(time.perf_counter() - begin)


def theirs(samples: int) -> float:
    """Samples a second of two processes."""
    context = multiprocessing.get_context("spawn")
    start, times = context.Barrier(WORKERS), context.Queue()
    processes = [
        context.Process(target=worker, args=(seed, samples, start, times))
        for seed in range(WORKERS)
    ]
    for process in processes:
        process.start()
    longest = max(times.get() for _ in processes)
    for process in processes:
        process.join()
    return WORKERS * samples / longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples; record nothing")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        own = ours(store(Path(folder)), 8 if quick else 300)
    other = theirs(2 if quick else 60)
    record = {"Voxquarry": own, "batchgeneratorsv2": other, "ratio": own / other}
    print(json.dumps(record, indent=1))
    if not quick:
        (RESULTS / "augment_nnunet.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
