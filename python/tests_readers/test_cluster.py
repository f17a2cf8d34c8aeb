"""Parts as tasks of Dask: the guide's script, and workers that are killed."""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import voxquarry as vq
import voxquarry.dask

GUIDE = Path(__file__).parents[2] / "docs" / "cluster.md"
SIZE = (160, 40, 40)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(3)
    for i in range(3):
        voxels = random.integers(-1000, 1000, SIZE).astype("i2")
        np.save(tmp_path / "data" / f"s{i}.npy", voxels)
    return tmp_path


def test_the_script_of_the_guide_gives_the_files_of_one_process(data: Path) -> None:
    script = re.search(r"```python\n# ingest_and_infer\.py\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert script is not None
    (data / "ingest_and_infer.py").write_text(script[1])
    runpy.run_path(str(data / "ingest_and_infer.py"), run_name="__main__")
    ds = vq.ingest("data", "whole.zarr", 32)
    assert digests(data / "store.zarr") == digests(data / "whole.zarr")
    for name, subject in ds.items():
        vq.infer(lambda p: p.astype(np.float32), subject["image"], 32, out=f"all.zarr/{name}/heat")
    assert digests(data / "pred.zarr") == digests(data / "all.zarr")


def slow(patches: np.ndarray) -> np.ndarray:
    time.sleep(0.02)
    return patches.astype(np.float32)


def test_workers_that_are_killed_change_nothing(data: Path) -> None:
    """Issue 25: the nanny starts another worker, and the part goes on there."""
    import dask
    from dask.distributed import Client, LocalCluster

    volume = vq.ingest("data/s0.npy", "in.zarr", 16)["s0"]["image"]
    options = {"memory_bytes": "34MiB", "threads": 1}
    vq.infer(slow, volume, 16, 8, "all.zarr/s/heat", **options)
    ended = threading.Event()
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 100}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        killed = 0

        def kill() -> None:
            nonlocal killed
            while killed < 6 and not ended.wait(1.0):
                pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                if pids:
                    os.kill(pids[killed % len(pids)], signal.SIGKILL)
                    killed += 1

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            voxquarry.dask.infer(
                client, slow, volume, 16, 8, out="pred.zarr/s/heat", parts=8, **options
            )
        finally:
            ended.set()
            killer.join()
    assert killed > 0
    assert digests(data / "pred.zarr") == digests(data / "all.zarr")
