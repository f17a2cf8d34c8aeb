"""What a user writes who wants every type checked: ``mypy --strict`` reads it, and it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import voxquarry as vq


def predict(store: Path, out: Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The volume put together from its patches, and what a model makes of it."""
    dataset = vq.open(
        store,
        cache_bytes="64MiB",
        threads=None,
        verify="first",
        cache_dir=None,
        cache_disk_bytes="1GiB",
    )
    vq.list_subjects(store)
    volume = dataset["case01"]["ct"]
    size: tuple[int, ...] = volume.shape

    queue = vq.Queue(dataset, vq.UniformSampler(8, border="clamp"), "ct", 4, batch_size=2, seed=0)
    for batch in queue:
        assert batch["ct"].shape == (2, 1, 8, 8, 8), size

    grid = vq.GridSampler((8, 6, 8), overlap=2)
    result = vq.Aggregator(
        grid, volume, channels=None, window="hann", memory_bytes="1MiB", replace=True
    )
    starts: NDArray[np.int64] = grid.locations(volume)
    for start in starts:
        result.add(volume.read(start, grid.patch_size, padding="edge"), start)
    mean: NDArray[np.float32] = result.finish()

    def model(patches: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([patches < 0, patches >= 0], axis=1).astype(np.float32)

    labels = vq.infer(model, volume, 8, 0.5, out=out, finish="argmax", placement="even")
    return mean, labels[...]
