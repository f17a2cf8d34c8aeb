"""Ingests and inferences that processes share: equal to one process, whatever is killed."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth, write_nifti

import voxquarry as vq
import voxquarry.slurm

SIZE = (160, 40, 40)
PARTS = 16


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pytest.fixture
def volume(tmp_path: Path) -> vq.Volume:
    source = write_nifti(tmp_path / "a.nii", smooth(SIZE[::-1]))
    return vq.ingest({"case": source}, tmp_path / "in.zarr", patch_size=16)["case"]["image"]


def model(patches: np.ndarray) -> np.ndarray:
    values = patches.astype("f4") * np.float32(1e-3)
    return np.concatenate([values, -values, np.sin(values)], axis=1)


OPTIONS = {"memory_bytes": "34MiB", "batch_size": 5, "threads": 1}


@pytest.mark.parametrize(
    ("finish", "mask"), [("none", None), ("argmax", None), ("none", (20, 0, 0, 100, 40, 30))]
)
def test_parts_of_an_inference_are_the_whole(
    volume: vq.Volume, tmp_path: Path, finish: str, mask: tuple[int, ...] | None
) -> None:
    """Issue 25: every file is equal, and a patch is asked for twice only where parts meet."""
    asked: list[bytes] = []

    def counted(patches: np.ndarray) -> np.ndarray:
        asked.extend(patch.tobytes() for patch in patches)
        return model(patches)

    options = {"finish": finish, "mask": mask, **OPTIONS}
    whole = vq.infer(counted, volume, 16, 8, tmp_path / "whole.zarr" / "case" / "p", **options)
    of_whole = len(asked)
    for count in (1, 3, 7):
        asked.clear()
        out = tmp_path / f"{count}.zarr" / "case" / "p"
        for number in range(count):
            done = vq.infer(counted, volume, 16, 8, out, part=(number, count), **options)
            assert done is None and not (tmp_path / f"{count}.zarr" / "zarr.json").exists()
        joined = vq.finalize(out)
        assert joined.stats == whole.stats
        assert digests(tmp_path / f"{count}.zarr") == digests(tmp_path / "whole.zarr")
        if count == 1:
            assert len(asked) == of_whole
        # Twice where parts meet, and the batch that shows the shape where a part has no shard.
        assert len(asked) <= 3 * of_whole
    assert vq.finalize(out).shape == whole.shape


def test_heads_are_joined_like_they_are_computed(volume: vq.Volume, tmp_path: Path) -> None:
    def heads(patches: np.ndarray) -> dict[str, np.ndarray]:
        return {"a": model(patches), "b": patches[:, 0].astype("f4")}

    outs = {name: tmp_path / "out.zarr" / "case" / name for name in "ab"}
    whole = {name: tmp_path / "whole.zarr" / "case" / name for name in "ab"}
    vq.infer(heads, volume, 16, 8, whole, **OPTIONS)
    for number in (2, 0, 1):
        vq.infer(heads, volume, 16, 8, outs, part=(number, 3), **OPTIONS)
    assert set(vq.finalize(outs)) == {"a", "b"}
    assert digests(tmp_path / "out.zarr") == digests(tmp_path / "whole.zarr")


SCRIPT = """
import sys, numpy as np, voxquarry as vq
sys.path.insert(0, sys.argv[1])
from test_parts import OPTIONS, model
volume = vq.open(sys.argv[2])["case"]["image"]
vq.infer(model, volume, 16, 8, sys.argv[3], part=(int(sys.argv[4]), int(sys.argv[5])), **OPTIONS)
"""


def command(tmp_path: Path, out: Path, number: int, count: int) -> list[str]:
    here = str(Path(__file__).parent)
    numbers = [str(number), str(count)]
    return [sys.executable, "-c", SCRIPT, here, str(tmp_path / "in.zarr"), str(out), *numbers]


def test_killed_parts_of_an_inference_are_continued(volume: vq.Volume, tmp_path: Path) -> None:
    """Issue 25: ``VOXQUARRY_KILLS`` asks for another number of kills."""
    vq.infer(model, volume, 16, 8, tmp_path / "whole.zarr" / "case" / "p", **OPTIONS)
    wanted = int(os.environ.get("VOXQUARRY_KILLS", "24"))
    seed = int(os.environ.get("VOXQUARRY_SEED", random.randrange(2**32)))
    print(f"VOXQUARRY_SEED={seed}")
    rng = random.Random(seed)
    kills = rounds = 0
    # What it takes until the first patch is there, on this machine at this moment.
    begun = time.monotonic()
    subprocess.run(command(tmp_path, tmp_path / "try.zarr" / "case" / "p", 0, 4), check=True)
    whole = time.monotonic() - begun
    while kills < wanted or rounds == 0:
        out = tmp_path / f"{rounds}.zarr" / "case" / "p"
        left = list(range(PARTS))
        while left:
            number = rng.choice(left)
            run = subprocess.Popen(command(tmp_path, out, number, PARTS))
            limit = rng.uniform(0.3, 1.1) * whole if kills < wanted else None
            try:
                assert run.wait(limit) == 0
                left.remove(number)
            except subprocess.TimeoutExpired:
                os.kill(run.pid, signal.SIGKILL)
                run.wait()
                kills += 1
        vq.finalize(out)
        assert digests(out.parent.parent) == digests(tmp_path / "whole.zarr"), f"{kills} kills"
        rounds += 1
    print(f"{kills} kills in {rounds} rounds")


def test_two_processes_with_one_part_never_mix(volume: vq.Volume, tmp_path: Path) -> None:
    vq.infer(model, volume, 16, 8, tmp_path / "whole.zarr" / "case" / "p", **OPTIONS)
    out = tmp_path / "out.zarr" / "case" / "p"
    runs = [
        subprocess.Popen(command(tmp_path, out, 0, 2), stderr=subprocess.PIPE) for _ in range(2)
    ]
    errors = [run.communicate()[1].decode() for run in runs]
    # One has the lock, or had it and was done before the other came.
    assert sorted(run.returncode for run in runs) in ([0, 0], [0, 1])
    assert all(
        "is writing this volume" in e for e, r in zip(errors, runs, strict=True) if r.returncode
    )
    vq.infer(model, volume, 16, 8, out, part=(1, 2), **OPTIONS)
    vq.finalize(out)
    assert digests(tmp_path / "out.zarr") == digests(tmp_path / "whole.zarr")


def test_what_a_part_lacks_is_told(volume: vq.Volume, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr" / "case" / "p"
    with pytest.raises(vq.UsageError, match="not a voxquarry store"):
        vq.finalize(out)
    for options, words in [
        ({"part": (0, 2)}, "an array ends with its process"),
        ({"part": (3, 2), "out": out}, "i from 0 to n - 1"),
        ({"part": 3, "out": out}, r"expected \(i, n\)"),
        ({"part": (0, 2), "out": out, "resume": False}, "discard"),
        ({"part": (0, 2), "out": out, "spacing": 2}, "cannot be divided"),
    ]:
        with pytest.raises(vq.UsageError, match=words):
            vq.infer(model, volume, 16, 8, **options)
    with pytest.raises(vq.UsageError, match='state the dtype of the result.*"int16"'):
        vq.infer(lambda p: p // 64, volume, 16, 8, out, part=(0, 2), window="crop")
    vq.infer(model, volume, 16, 8, out, part=(0, 2), **OPTIONS)
    with pytest.raises(vq.UsageError, match="part 1/2 is missing: run it again"):
        vq.finalize(out)
    with pytest.raises(vq.UsageError, match=r"part 0/2, was begun with other arguments"):
        vq.infer(model, volume, 16, 8, out, part=(1, 2), window="average", **OPTIONS)
    with pytest.raises(vq.UsageError, match="another model"):
        vq.infer(model, volume, 16, 8, out, part=(0, 2), resume="another model", **OPTIONS)
    assert vq.finalize(out, discard=True) is None
    with pytest.raises(vq.UsageError, match="not a voxquarry store"):
        vq.finalize(out)
    vq.ingest(tmp_path / "a.nii", tmp_path / "out.zarr", 16)
    with pytest.raises(vq.UsageError, match="no part of case/p was begun"):
        vq.finalize(out)


def sources(tmp_path: Path) -> dict[str, dict[str, object]]:
    """Five subjects of an image and labels, always of the same bytes, as `.nii.gz` with their time
    would not be.
    """
    found: dict[str, dict[str, object]] = {}
    for i in range(5):
        shape = (20 + 7 * i, 24, 18)
        image = write_nifti(tmp_path / f"{i}.nii", smooth(shape))
        labels = write_nifti(tmp_path / f"{i}-seg.nii", (smooth(shape) > 0).astype("u1"))
        found[f"s{i}"] = {"ct": image, "seg": vq.Labels(labels)}
    return found


def test_parts_of_an_ingest_are_the_whole(tmp_path: Path) -> None:
    whole, store, plan = tmp_path / "whole.zarr", tmp_path / "s.zarr", tmp_path / "plan.json"
    vq.ingest(sources(tmp_path), whole, 16, codec="compact")
    report = vq.ingest(sources(tmp_path), store, 16, codec="compact", plan=plan)
    assert report.done == [] and report.failed == []
    done: list[str] = []
    # By the file, and by the store that waits.
    for number, where in enumerate([{"plan": plan}, {"out": store}, {"plan": plan, "out": store}]):
        done += vq.ingest(part=(number, 3), threads=1, **where).done
        assert not (store / "zarr.json").exists()
    assert sorted(done) == sorted(sources(tmp_path))
    ds = vq.ingest(plan=plan, finalize=True)
    assert sorted(ds) == sorted(ds.report.done) == sorted(done)
    assert digests(store) == digests(whole)
    assert vq.ingest(plan=plan, finalize=True).report.skipped == sorted(done)


class Job:
    """A process that has begun, as submitit's jobs are."""

    def __init__(self, work: object, *arguments: object) -> None:
        code = "import pickle, sys; work, arguments = pickle.load(sys.stdin.buffer)"
        self._run = subprocess.Popen(
            [sys.executable, "-c", f"{code}; work(*arguments)"],
            stdin=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            },
        )
        assert self._run.stdin is not None
        self._run.stdin.write(pickle.dumps((work, arguments)))
        self._run.stdin.close()

    def result(self) -> None:
        if self._run.wait() != 0:
            raise RuntimeError("the job has failed")


class Executor:
    """What ``voxquarry.slurm`` asks of an executor of submitit."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def map_array(self, work: object, *columns: Iterable[object]) -> list[Job]:
        self.jobs = [Job(work, *row) for row in zip(*columns, strict=True)]
        return self.jobs


def test_job_arrays_run_the_parts(volume: vq.Volume, tmp_path: Path) -> None:
    whole, store = tmp_path / "whole.zarr", tmp_path / "s.zarr"
    vq.ingest(sources(tmp_path), whole, 16)
    given = {"plan": tmp_path / "plan.json", "parts": 2, "threads": 1}
    ds = voxquarry.slurm.ingest(Executor(), sources(tmp_path), store, patch_size=16, **given)
    assert len(ds) == 5 and digests(store) == digests(whole)
    vq.infer(model, volume, 16, 8, whole / "case" / "p", **OPTIONS)
    out = store / "case" / "p"
    voxquarry.slurm.infer(Executor(), model, volume, 16, 8, out=out, parts=2, **OPTIONS)
    assert digests(store) == digests(whole)
    # A job that fails fails the call, and the same call goes on.
    again = store / "case" / "q"
    executor = Executor()
    with pytest.raises(RuntimeError, match="has failed"):
        voxquarry.slurm.infer(executor, no_model, volume, 16, 8, out=again, parts=2, **OPTIONS)
    for job in executor.jobs:
        with pytest.raises(RuntimeError, match="has failed"):
            job.result()
    with pytest.raises(vq.UsageError, match="parts 0"):
        voxquarry.slurm.infer(Executor(), model, volume, 16, 8, out=again, parts=0)


def no_model(patches: np.ndarray) -> np.ndarray:
    raise ZeroDivisionError


def test_the_example_of_the_guide_runs(
    volume: vq.Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vq.ingest({"a": {"ct": tmp_path / "a.nii"}}, "store.zarr", 16)
    guide = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    first = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(compile(first, "cluster.md", "exec"), names)
    np.testing.assert_allclose(names["heat"][0], names["ct"][...], rtol=1e-6)


def test_what_a_plan_lacks_is_told(tmp_path: Path) -> None:
    store, plan = tmp_path / "s.zarr", tmp_path / "plan.json"
    array = {"s": {"ct": np.zeros((8, 8, 8), "i2")}}
    with pytest.raises(vq.UsageError, match="an array has no file"):
        vq.ingest(array, store, 8, plan=plan)
    with pytest.raises(vq.UsageError, match="expected a source"):
        vq.ingest(plan=plan)
    with pytest.raises(vq.UsageError, match="the plan has them"):
        vq.ingest(sources(tmp_path), store, part=(0, 2))
    with pytest.raises(vq.UsageError, match="without a plan and a store"):
        vq.ingest(part=(0, 2))
    with pytest.raises(vq.UsageError, match="waits for no part"):
        vq.ingest(out=store, part=(0, 2))
    vq.ingest(sources(tmp_path), store, 16, plan=plan)
    vq.ingest(plan=plan, part=(0, 2))
    with pytest.raises(vq.UsageError, match="run part 1/2 again"):
        vq.ingest(plan=plan, finalize=True)
