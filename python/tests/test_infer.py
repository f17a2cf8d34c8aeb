"""A model over a whole volume in one call, against the same patches added by hand; and after kill
-9.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, smooth, write_nifti

import voxquarry as vq

SIZE = (40, 24, 20)


@pytest.fixture
def volume(tmp_path: Path) -> vq.Volume:
    source = write_nifti(tmp_path / "a.nii", smooth(SIZE[::-1]))
    return vq.ingest({"case": source}, tmp_path / "in.zarr", patch_size=8)["case"]["image"]


def model(patches: np.ndarray) -> np.ndarray:
    assert patches.ndim == 5 and patches.shape[1] == 1
    values = patches.astype("f4")
    return np.concatenate([values, -values, values * 0.5 + 3], axis=1)


@pytest.mark.parametrize("finish", ["none", "argmax"])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_one_call_is_reading_asking_and_adding(
    volume: vq.Volume, batch_size: int, finish: str
) -> None:
    grid = vq.GridSampler(8, overlap=4)
    expected = vq.Aggregator(grid, volume, channels=3, finish=finish)
    starts = grid.locations(volume)
    expected.add(model(volume.read_batch(starts, 8)[:, None]), starts)
    calls: list[tuple[int, int]] = []
    found = vq.infer(
        model,
        volume,
        8,
        4,
        batch_size=batch_size,
        finish=finish,
        progress=lambda *n: calls.append(n),
    )
    np.testing.assert_allclose(found, expected.finish(), rtol=1e-6)
    assert calls[-1] == (len(starts), len(starts))


def test_several_answers_of_several_resolutions(volume: vq.Volume, tmp_path: Path) -> None:
    def several(patches: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "same": patches[:, 0],
            "half": patches[:, :, ::2, ::2, ::2].astype("f4"),
        }

    outs = {name: tmp_path / "out.zarr" / name / "pred" for name in ("same", "half")}
    found = vq.infer(
        several,
        volume,
        8,
        4,
        out=outs,
        window="average",
        dtype={"same": "i2", "half": "f4"},
        scale={"same": 1, "half": 0.5},
    )
    assert identical(found["same"][...], volume[...])
    np.testing.assert_allclose(found["half"][0], volume[::2, ::2, ::2], rtol=1e-6)
    assert found["half"].spacing == tuple(2 * s for s in volume.spacing)


def test_errors_of_the_model_and_of_its_answers_come_through(volume: vq.Volume) -> None:
    def broken(patches: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("inside")

    with pytest.raises(ZeroDivisionError, match="inside"):
        vq.infer(broken, volume, 8, 4)
    with pytest.raises(vq.UsageError, match="answered with shape"):
        vq.infer(lambda p: p[0, 0], volume, 8, 4)
    with pytest.raises(vq.UsageError, match="batch_size"):
        vq.infer(model, volume, 8, 4, batch_size=0)


SCRIPT = """
import sys, numpy as np, voxquarry as vq
volume = vq.open(sys.argv[1])["case"]["image"]
half = lambda p: p * np.float32(0.5)
vq.infer(half, volume, 8, 4, out=sys.argv[2], batch_size=8, memory_bytes="33MiB")
"""


def test_a_run_over_a_replaced_volume_is_not_continued(tmp_path: Path) -> None:
    def ingest(voxels: np.ndarray) -> vq.Volume:
        source = {"case": write_nifti(tmp_path / "a.nii", voxels)}
        store = tmp_path / "in.zarr"
        return vq.ingest(source, store, patch_size=8, overwrite=True)["case"]["image"]

    class Killed(Exception):
        pass

    def dies(patches: np.ndarray) -> np.ndarray:
        dies.calls -= 1
        if dies.calls < 0:
            raise Killed
        return patches

    out = tmp_path / "out.zarr" / "case" / "pred"
    old, dies.calls = ingest(smooth(SIZE[::-1])), 20
    with pytest.raises(Killed):
        vq.infer(dies, old, 8, 4, batch_size=1, out=out, memory_bytes="4MiB")
    new = ingest(smooth(SIZE[::-1]) + 7)
    assert new.content_id != old.content_id and len(new.content_id) == 16
    with pytest.raises(vq.UsageError, match=old.content_id):
        vq.infer(lambda patches: patches, new, 8, 4, out=out)
    found = vq.infer(lambda patches: patches, new, 8, 4, out=out, resume=False)
    np.testing.assert_allclose(found[0], new[...], atol=0.01)


def test_a_killed_run_is_continued_to_the_same_result(volume: vq.Volume, tmp_path: Path) -> None:
    store, out = tmp_path / "in.zarr", tmp_path / "out.zarr" / "case"
    expected = vq.infer(lambda p: p * np.float32(0.5), volume, 8, 4)
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for round_ in range(4):
        pred = out / f"pred{round_}"
        command = [sys.executable, "-c", SCRIPT, str(store), str(pred)]
        # Twenty moments in all, of runs that continue each other.
        for _ in range(5):
            run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.05, 0.5))
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        if not (pred / "zarr.json").exists():
            subprocess.run(command, check=True)
        found = vq.open(tmp_path / "out.zarr")["case"][pred.name]
        assert identical(found[...], expected)
    vq.verify(tmp_path / "out.zarr")
