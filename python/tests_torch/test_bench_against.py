"""``voxquarry bench --against`` with the loaders that need torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import voxquarry as vq


def test_monai_and_torchio_deliver_patches(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (24, 40, 32)).astype(np.int16)
    store = vq.ingest({f"case{i}": {"ct": voxels} for i in range(2)}, tmp_path / "s.zarr", 16)
    command = [sys.executable, "-m", "voxquarry", "bench", str(store.path), "--seconds", "1"]
    command += ["--against", "monai,torchio", "--threads", "2", "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    loaders = {found["loader"]: found for found in json.loads(run.stdout)["loaders"]}
    assert list(loaders) == ["voxquarry", "monai", "torchio"]
    assert all(found["patches"] >= 4 for found in loaders.values())
    assert loaders["monai"]["prepare_seconds"] > 0 and loaders["torchio"]["prepare_seconds"] is None
