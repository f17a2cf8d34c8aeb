"""Parts as job arrays of a real SLURM, whose jobs are killed and queued again."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import submitit
from models import PAUSE, slow
from single_node import INSTALL, PARTITION, missing, single_node

import voxquarry as vq
import voxquarry.slurm

HERE = Path(__file__).parent
SIZE = (160, 40, 40)
PARTS = 8
OPTIONS = {"memory_bytes": "34MiB", "threads": 1}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    assert not missing(), f"{INSTALL} (not found: {', '.join(missing())})"
    with single_node(tmp_path_factory.mktemp("slurm")):
        yield


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def executor(folder: Path) -> submitit.AutoExecutor:
    found = submitit.AutoExecutor(folder=folder, cluster="slurm")
    found.update_parameters(
        timeout_min=5,
        cpus_per_task=1,
        slurm_partition=PARTITION,
        slurm_array_parallelism=2,
        slurm_setup=[f"export PYTHONPATH={HERE}:{os.environ.get('PYTHONPATH', '')}"],
    )
    return found


class Killer(threading.Thread):
    """Kills the processes of running tasks of arrays, and queues the tasks again, until it is
    stopped.
    """

    def __init__(self, wanted: int, seed: int) -> None:
        super().__init__()
        self.kills = 0
        self._wanted, self._random = wanted, random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._random.uniform(0.2, 1.0)):
            for job in told("squeue", "--noheader", "--states=FAILED", "--format=%i").split():
                told("scontrol", "requeue", job)
                # By default a task that is queued again waits for two minutes.
                told("scontrol", "update", f"JobId={job}", "StartTime=now")
            tasks = running_tasks()
            if tasks and self.kills < self._wanted:
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(tasks), signal.SIGKILL)
                    self.kills += 1

    def stop(self) -> None:
        self._ended.set()
        self.join()


def running_tasks() -> list[int]:
    """The Python processes of tasks of arrays."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_task = b"SLURM_ARRAY_TASK_ID=" in (folder / "environ").read_bytes()
            if is_task and b"submitit" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_killed_jobs_give_the_files_of_one_process(slurm: None, tmp_path: Path) -> None:
    """Issue 25: ``VOXQUARRY_KILLS`` asks for another number of kills in each half."""
    seed = int(os.environ.get("VOXQUARRY_SEED", random.randrange(2**32)))
    wanted = int(os.environ.get("VOXQUARRY_KILLS", "6"))
    print(f"VOXQUARRY_SEED={seed}")
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(3)
    for i in range(2 * PARTS):
        np.save(data / f"s{i:02}.npy", rng.integers(-1000, 1000, (96, 96, 96)).astype("i2"))
    whole = vq.ingest(str(data), tmp_path / "whole.zarr", 32)
    killer = Killer(wanted, seed)
    killer.start()
    store = voxquarry.slurm.ingest(
        executor(tmp_path / "logs"),
        str(data),
        tmp_path / "store.zarr",
        plan=tmp_path / "plan.json",
        parts=PARTS,
        patch_size=32,
        threads=1,
    )
    killer.stop()
    ingest_kills = killer.kills
    assert digests(tmp_path / "store.zarr") == digests(tmp_path / "whole.zarr")

    volume = store["s00"]["image"]
    assert volume.shape == whole["s00"]["image"].shape
    vq.infer(slow, volume, 16, 8, tmp_path / "all.zarr/s/heat", **OPTIONS)
    killer = Killer(wanted, seed + 1)
    killer.start()
    voxquarry.slurm.infer(
        executor(tmp_path / "logs"),
        slow,
        volume,
        16,
        8,
        out=tmp_path / "pred.zarr/s/heat",
        parts=PARTS,
        **OPTIONS,
    )
    killer.stop()
    print(f"{ingest_kills} kills of an ingest, {killer.kills} of an inference")
    assert ingest_kills + killer.kills >= wanted
    assert PAUSE > 0
    assert digests(tmp_path / "pred.zarr") == digests(tmp_path / "all.zarr")
