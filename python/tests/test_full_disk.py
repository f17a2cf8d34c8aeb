"""A disk that is full: an error that names the file, nothing visible, and the same result from the
same call once there is room.

Room is what a file may hold, which the system lets every user limit for a process.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EFBIG
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, noise, store_of

import voxquarry as vq

SIZE = (64, 48, 40)
GRID = vq.GridSampler(16, overlap=8)
# Too little for shards of several layers of chunks, enough for all tiles.
MEMORY = "64MiB"
# Of a shard: noise does not fit, what repeats does.
LITTLE_BYTES = 15_000
# Of a tile's means, which is what lies in a scratch file.
TILE_BYTES = 8 * 16 * 16 * 4


@contextmanager
def room(file_bytes: int) -> Iterator[None]:
    """No file may grow beyond so many bytes; Python ignores the signal that this raises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def voxels() -> np.ndarray:
    """Few bytes in front, so that some shards are written, and many behind."""
    voxels = np.random.default_rng(0).normal(size=SIZE).astype("f4")
    voxels[: SIZE[0] // 2] = np.arange(SIZE[2])
    return voxels


def begin(out: Path | None, **options: object) -> vq.Aggregator:
    return vq.Aggregator(GRID, SIZE, channels=None, out=out, **options)


def add(aggregator: vq.Aggregator, voxels: np.ndarray) -> None:
    for z, y, x in aggregator.needed():
        aggregator.add(voxels[z : z + 16, y : y + 16, x : x + 16], (z, y, x))


def blended(voxels: np.ndarray) -> np.ndarray:
    aggregator = begin(None)
    add(aggregator, voxels)
    return aggregator.finish()


def nothing_is_seen(out: Path) -> bool:
    try:
        return not list(vq.open(out.parent.parent)) and not out.exists()
    except vq.Error:
        return not out.exists()


@pytest.mark.parametrize("memory_bytes", [MEMORY, 0], ids=["shards", "scratch"])
def test_a_result_is_continued_once_there_is_room(
    tmp_path: Path, voxels: np.ndarray, memory_bytes: object
) -> None:
    out = tmp_path / "pred.zarr/case/pred"
    options = {"resume": "a model", "memory_bytes": memory_bytes}
    # Tracebacks are kept, as a notebook keeps the last, and with them what failed.
    caught, needed = [], [len(GRID.locations(SIZE))]
    full = LITTLE_BYTES if memory_bytes else TILE_BYTES - 1
    for _ in range(2):
        with room(full):
            aggregator = begin(out, **options)
            with pytest.raises(vq.StorageError, match="cannot") as error:
                add(aggregator, voxels)
        caught.append((error, aggregator))
        assert error.value.errno == EFBIG
        assert str(out.parent.parent) in str(error.value)
        assert nothing_is_seen(out)
        assert repr(aggregator) == "<voxquarry.Aggregator: [64, 48, 40] float32, failed>"
        for call in (aggregator.finish, aggregator.needed, lambda: add(aggregator, voxels)):
            with pytest.raises(vq.StorageError, match="aggregator"):
                call()
        again = begin(out, **options)
        needed.append(len(again.needed()))
        again.close()
    # Shards that fitted are there; of scratch nothing was written.
    assert (0 < needed[1] < needed[0]) if memory_bytes else (needed[1] == needed[0])
    assert needed[2] == needed[1]
    again = begin(out, **options)
    add(again, voxels)
    assert identical(again.finish()[...], blended(voxels))
    assert vq.verify(out.parent.parent)["volumes"] == 1
    assert sorted(path.name for path in out.parent.parent.iterdir()) == ["case", "zarr.json"]


@pytest.mark.parametrize("memory_bytes", [MEMORY, 0], ids=["shards", "scratch"])
def test_without_resume_nothing_is_left(
    tmp_path: Path, voxels: np.ndarray, memory_bytes: object
) -> None:
    out = tmp_path / "pred.zarr/case/pred"
    aggregator = begin(out, memory_bytes=memory_bytes)
    with room(1000), pytest.raises(vq.StorageError):
        add(aggregator, voxels)
    assert list(tmp_path.iterdir()) == []


def test_metadata_may_meet_it_too(tmp_path: Path, voxels: np.ndarray) -> None:
    out = tmp_path / "pred.zarr/case/pred"
    for limit in (0, 100, 600):
        with room(limit), pytest.raises(vq.StorageError, match="pred.zarr"):
            aggregator = begin(out, resume=True)
            # All zeros: no shard has a file.
            add(aggregator, np.zeros_like(voxels))
            aggregator.finish()
        assert nothing_is_seen(out)
    aggregator = begin(out, resume=True)
    add(aggregator, np.zeros_like(voxels))
    assert not aggregator.finish()[...].any()


def test_what_cannot_be_published_is_kept(tmp_path: Path, voxels: np.ndarray) -> None:
    out = tmp_path / "pred.zarr/case/pred"
    aggregator = begin(out, resume=True)
    add(aggregator, voxels)
    out.parent.mkdir()
    with pytest.raises(vq.UsageError, match="exists already"):
        aggregator.finish()
    out.parent.rmdir()
    aggregator = begin(out, resume=True)
    assert len(aggregator.needed()) == 0
    assert identical(aggregator.finish()[...], blended(voxels))
    assert sorted(path.name for path in out.parent.parent.iterdir()) == ["case", "zarr.json"]


def test_an_array_needs_room_for_scratch_alone(
    tmp_path: Path, voxels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    aggregator = begin(None, memory_bytes=0)
    with room(TILE_BYTES - 1), pytest.raises(vq.StorageError, match="scratch") as caught:
        add(aggregator, voxels)
    assert caught.value.errno == EFBIG
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    aggregator = begin(None, memory_bytes=0)
    add(aggregator, voxels)
    assert identical(aggregator.finish(), blended(voxels))


def test_infer_is_called_again(tmp_path: Path, voxels: np.ndarray) -> None:
    volume = store_of(tmp_path, voxels, patch_size=16)
    outs = {name: tmp_path / "pred.zarr" / name / "pred" for name in ("a", "b")}
    asked = []

    def model(patches: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(len(patches))
        # One answer fits, the other does not.
        return {"a": np.zeros_like(patches[:, 0]), "b": patches[:, 0]}

    def infer() -> dict[str, vq.Volume]:
        return vq.infer(model, volume, 16, 8, outs, memory_bytes=MEMORY)

    caught = []
    for _ in range(2):
        with room(LITTLE_BYTES), pytest.raises(vq.StorageError) as error:
            infer()
        caught.append(error)
        assert all(map(nothing_is_seen, outs.values()))
    del asked[:]
    found = infer()
    assert sum(asked) < len(GRID.locations(SIZE))
    assert not found["a"][...].any()
    assert identical(found["b"][...], blended(voxels))


def test_infer_after_an_error_of_the_model(tmp_path: Path, voxels: np.ndarray) -> None:
    volume = store_of(tmp_path, voxels, patch_size=16)
    calls = []

    def model(patches: np.ndarray) -> np.ndarray:
        calls.append(len(patches))
        if len(calls) == 9:
            raise RuntimeError("out of memory")
        return patches[:, 0]

    with pytest.raises(RuntimeError, match="out of memory") as caught:
        vq.infer(model, volume, 16, 8, tmp_path / "pred.zarr/case/pred")
    # The traceback is still there, and would hold the work.
    assert caught.tb is not None
    found = vq.infer(model, volume, 16, 8, tmp_path / "pred.zarr/case/pred")
    assert identical(found[...], blended(voxels))


def test_a_closed_aggregator_lets_go(tmp_path: Path, voxels: np.ndarray) -> None:
    out = tmp_path / "pred.zarr/case/pred"
    first = begin(out, resume=True)
    add(first, voxels)
    with pytest.raises(vq.UsageError):
        begin(out, resume=True)
    first.close()
    first.close()
    assert repr(first) == "<voxquarry.Aggregator: [64, 48, 40] float32, closed>"
    with pytest.raises(vq.UsageError, match="closed"):
        first.finish()
    second = begin(out, resume=True)
    assert len(second.needed()) == 0
    assert identical(second.finish()[...], blended(voxels))
    # Of what is finished nothing is taken away.
    second.close()
    assert out.is_dir()
    third = begin(tmp_path / "other.zarr/case/pred")
    third.close()
    assert not (tmp_path / "other.zarr").exists()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_an_export_leaves_nothing_and_works_once_there_is_room(tmp_path: Path, name: str) -> None:
    volume = store_of(tmp_path, noise((90, 64, 64), "i2"), patch_size=16)
    vq.export(volume, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for limit in (0, 20_000, 400_000, 700_000):
        with room(limit), pytest.raises(vq.StorageError, match="a\\.") as caught:
            vq.export(volume, tmp_path / name, overwrite=True)
        assert caught.value.errno == EFBIG
        assert {
            path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
        } == before
    vq.export(volume, tmp_path / name, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
