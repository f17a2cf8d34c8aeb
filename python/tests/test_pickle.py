"""Data sets, subjects and volumes in other processes: pickled small, opened again, read alike."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, smooth, write_nifti

import voxquarry as vq

SHAPE = (40, 33, 50)
STARTS = [(0, 0, 0), (-3, 5, 11), (30, 20, 40)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    sources = {
        name: {"ct": write_nifti(tmp_path / f"{name}.nii", smooth(SHAPE[::-1]) + seed)}
        for seed, name in enumerate(("a", "b"))
    }
    vq.ingest(sources, tmp_path / "store.zarr", patch_size=16, codec="compact")
    return tmp_path / "store.zarr"


@pytest.fixture(scope="module")
def other() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def patches(volume: vq.Volume) -> np.ndarray:
    return volume.read_batch(STARTS, 16, padding="edge")


def read_there(pickled: bytes, folder: str) -> tuple[int, list[np.ndarray]]:
    os.chdir(folder)
    dataset, subject, volume = pickle.loads(pickled)
    volumes = (dataset["a"]["ct"], subject["ct"], volume)
    return os.getpid(), [patches(volume) for volume in volumes]


def load_there(pickled: bytes) -> None:
    pickle.loads(pickled)


def test_another_process_reads_the_same(
    store: Path, other: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    dataset = vq.open(store.name, threads=2)
    subject = dataset["a"]
    pickled = pickle.dumps((dataset, subject, subject["ct"]))
    assert len(pickled) < 1000
    # It stands in another folder, so a relative path would mean another store there.
    pid, found = other.submit(read_there, pickled, "/").result(60)
    assert pid != os.getpid()
    expected = patches(subject["ct"])
    assert not identical(expected, patches(dataset["b"]["ct"]))
    assert len(found) == 3
    for there in found:
        assert identical(there, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cache_bytes": 0, "threads": 1, "verify": "never", "access": "read"},
        {"follow_links": True, "level": 1},
        {"cache_bytes": "3MiB", "threads": 3, "verify": "always", "access": "map"},
        {"cache_bytes": 2**64 - 1},
    ],
)
def test_options_go_with_it(store: Path, options: dict[str, object]) -> None:
    dataset = vq.open(store, **options)
    expected = {
        "cache_bytes": 256 << 20,
        "threads": None,
        "verify": "first",
        "access": "map",
        "follow_links": False,
        "level": 0,
    } | options
    if expected["cache_bytes"] == "3MiB":
        expected["cache_bytes"] = 3 << 20
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(dataset, protocol))
        for one in (dataset, copy):
            opener, (path,) = one.__reduce__()
            assert (opener.func, opener.keywords, path) == (vq.open, expected, str(store))
        assert list(copy) == ["a", "b"]
        assert repr(copy) == repr(dataset)


def test_options_work_there(store: Path) -> None:
    for cache, held in ((0, False), ("1MiB", True)):
        dataset = vq.open(store, cache_bytes=cache)
        volume, copy = pickle.loads(pickle.dumps((dataset["a"]["ct"], dataset)))
        for _ in range(3):
            patches(volume)
        assert (copy.cached_bytes > 0) == held


def test_what_is_pickled_together_shares_a_cache(store: Path) -> None:
    dataset = vq.open(store)
    together = [dataset["a"]["ct"], dataset["a"]["ct"], dataset["b"], dataset]
    first, second, subject, copy = pickle.loads(pickle.dumps(together))
    assert copy is not dataset
    assert subject.__reduce__()[1][0] is copy
    for volume in (first, second, subject["ct"]):
        before = copy.cached_bytes
        for _ in range(3):
            patches(volume)
        # The second is the same volume as the first, whose chunks are there already.
        assert (copy.cached_bytes > before) == (volume is not second)
    assert dataset.cached_bytes == 0


def test_a_finished_prediction_is_pickled(store: Path) -> None:
    grid = vq.GridSampler(SHAPE)
    result = vq.Aggregator(
        grid, SHAPE, channels=None, dtype="i2", out=store.parent / "pred.zarr" / "a" / "pred"
    )
    result.add(smooth(SHAPE), (0, 0, 0))
    volume = result.finish()
    copy = pickle.loads(pickle.dumps(volume))
    assert (copy.name, copy.shape) == ("pred", SHAPE)
    assert identical(copy[...], smooth(SHAPE))


def test_what_is_gone_is_an_ordinary_error(store: Path, other: ProcessPoolExecutor) -> None:
    dataset = vq.open(store)
    parts = [pickle.dumps(part) for part in (dataset["a"]["ct"], dataset["a"], dataset)]
    gone = [
        (store / "a" / "ct", vq.NotFoundError, r'no volume "ct"'),
        (store / "a", vq.NotFoundError, r'no subject "a"'),
        (store, vq.UsageError, "nothing at that path"),
    ]
    for pickled, (folder, error, message) in zip(parts, gone, strict=True):
        shutil.rmtree(folder)
        for load in (pickle.loads, lambda pickled: other.submit(load_there, pickled).result(60)):
            with pytest.raises(error, match=message):
                load(pickled)
