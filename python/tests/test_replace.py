"""Patches that replace those that came before: the result is that of a fresh aggregator with the
last ones, bit for bit.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import identical
from test_full_disk import room

import voxquarry as vq

SIZE = (13, 9, 16)
GRID = vq.GridSampler((6, 4, 5), overlap=(2, 2, 4))
STARTS = GRID.locations(SIZE)
DTYPES = ("f2", "f4", "f8", "i2", "u1")
WINDOWS = ["crop", "average", "hann", "gaussian", "gaussian-nnunet"]


def answers(seed: int, channels: int = 2) -> list[np.ndarray]:
    """A patch for each location, each in a dtype of its own."""
    random = np.random.default_rng(seed)
    values = random.uniform(0, 100, (len(STARTS), channels, *GRID.patch_size))
    return [patch.astype(random.choice(DTYPES)) for patch in values]


def fresh(patches: list[np.ndarray], **options: object) -> np.ndarray:
    aggregator = vq.Aggregator(GRID, SIZE, channels=2, **options)
    for patch, start in zip(patches, STARTS, strict=True):
        aggregator.add(patch, start)
    return aggregator.finish()


@pytest.mark.parametrize("memory_bytes", [0, 10_000, "1GiB"])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_last_patches_count(tmp_path: Path, window: str, memory_bytes: int | str) -> None:
    first, last = answers(1), answers(2)
    order = np.random.default_rng(3).permutation(len(STARTS))
    for options in ({}, {"finish": "argmax"}, {"dtype": "i2"}, {"finish": ("threshold", 40.0)}):
        expected = fresh(last, window=window, **options)
        for out in (None, tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr/case/pred"):
            aggregator = vq.Aggregator(
                GRID,
                SIZE,
                channels=2,
                window=window,
                out=out,
                memory_bytes=memory_bytes,
                replace=True,
                **options,
            )
            for n in order[: len(order) * 2 // 3]:
                aggregator.add(first[n], STARTS[n])
            missing = sorted(order[len(order) * 2 // 3 :].tolist())
            assert aggregator.missing == len(missing)
            assert identical(aggregator.needed(), STARTS[missing])
            for n in order[::-1]:
                aggregator.add(last[n], STARTS[n])
            assert aggregator.missing == 0
            assert identical(np.asarray(aggregator.finish()[...]), expected)


def test_within_a_batch_the_later_wins() -> None:
    last = [patch.astype("f4") for patch in answers(2)]
    aggregator = vq.Aggregator(GRID, SIZE, channels=2, replace=True)
    patches = np.concatenate([np.full_like(last, np.pi), last[::-1]])
    aggregator.add(patches, np.concatenate([STARTS, STARTS[::-1]]))
    assert identical(aggregator.finish(), fresh(last))


def test_a_result_of_another_resolution(tmp_path: Path) -> None:
    grid, size = vq.GridSampler((4, 4, 6), overlap=2), (8, 10, 14)
    starts = grid.locations(size)
    patches = np.random.default_rng(1).normal(size=(len(starts), 2, 2, 3)).astype("f4")
    once = vq.Aggregator(grid, size, channels=None, scale=0.5)
    once.add(patches, starts)
    twice = vq.Aggregator(grid, size, channels=None, scale=0.5, replace=True, memory_bytes=0)
    for values in (-patches, patches):
        twice.add(values[::-1], starts[::-1])
    assert identical(twice.finish(), once.finish())


def test_missing_patches_leave_it_usable() -> None:
    last = answers(4)
    aggregator = vq.Aggregator(GRID, SIZE, channels=2, memory_bytes=0, replace=True)
    for n in range(1, len(STARTS)):
        aggregator.add(last[-n], STARTS[n])
    with pytest.raises(
        vq.UsageError, match=r"1 of \d+ patches are missing, the first begins at \[0, 0, 0\]"
    ):
        aggregator.finish()
    assert (aggregator.missing, aggregator.has(STARTS[0]), aggregator.has(STARTS[1])) == (
        1,
        False,
        True,
    )
    for n in range(len(STARTS)):
        aggregator.add(last[n], STARTS[n])
    assert identical(aggregator.finish(), fresh(last))
    with pytest.raises(vq.UsageError, match="finished"):
        aggregator.add(last[0], STARTS[0])


def test_refused_patches_replace_nothing() -> None:
    last = [patch.astype("f4") for patch in answers(5)]
    aggregator = vq.Aggregator(GRID, SIZE, channels=2, nonfinite="error", replace=True)
    aggregator.add(np.stack(last), STARTS)
    bad = np.full((2, 2, *GRID.patch_size), 7.0, "f4")
    bad[1, 0, 0, 0, 2] = np.inf
    for patches, starts, message in (
        (bad, STARTS[:2], r"has inf at \[0, 0, 2\]"),
        (bad[0], (1, 0, 0), "no patch of the grid"),
        (bad[:, :1], STARTS[:2], "patches of shape"),
    ):
        with pytest.raises(vq.UsageError, match=message):
            aggregator.add(patches, starts)
    assert identical(aggregator.finish(), fresh(last))


def test_threads_that_replace_the_same_patches() -> None:
    """Of each location the patch of one thread counts, whole."""
    grid = vq.GridSampler(4)
    starts = grid.locations((8, 8, 12))
    for memory_bytes in (0, 1500, "1GiB"):
        aggregator = vq.Aggregator(
            grid, (8, 8, 12), channels=None, window="crop", memory_bytes=memory_bytes, replace=True
        )
        failures: list[BaseException] = []

        def work(
            who: int, to: vq.Aggregator = aggregator, failures: list[BaseException] = failures
        ) -> None:
            try:
                for n in np.random.default_rng(who).permutation(
                    np.repeat(np.arange(len(starts)), 10)
                ):
                    to.add(np.full((4, 4, 4), who, "f4"), starts[n])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(who,)) for who in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (failures, aggregator.missing) == ([], 0)
        found = aggregator.finish()
        for z, y, x in starts:
            patch = found[z : z + 4, y : y + 4, x : x + 4]
            assert patch[0, 0, 0] in (1, 2, 3, 4) and (patch == patch[0, 0, 0]).all()


def test_it_is_not_resumed(tmp_path: Path) -> None:
    out = tmp_path / "p.zarr/case/pred"
    with pytest.raises(vq.UsageError, match="resume and replace"):
        vq.Aggregator(GRID, SIZE, out=out, resume=True, replace=True)
    assert list(tmp_path.iterdir()) == []
    vq.Aggregator(GRID, SIZE, out=out, resume=False, replace=True).close()


def open_files(folder: Path) -> list[str]:
    """Of this process, below ``folder``; those without a name too."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            # That of the listing.
            continue
    return [name for name in found if name.startswith(str(folder))]


@pytest.mark.linux
def test_what_is_kept_goes_when_it_is_closed(tmp_path: Path) -> None:
    aggregator = vq.Aggregator(
        GRID, SIZE, channels=2, out=tmp_path / "p.zarr/case/pred", memory_bytes=0, replace=True
    )
    aggregator.add(answers(1)[0], STARTS[0])
    assert any("scratch" in name for name in open_files(tmp_path))
    aggregator.close()
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


def test_patches_that_found_the_disk_full_may_be_added_again(tmp_path: Path) -> None:
    last = [patch.astype("f4") for patch in answers(6)]
    aggregator = vq.Aggregator(
        GRID, SIZE, channels=2, out=tmp_path / "p.zarr/case/pred", memory_bytes=0, replace=True
    )
    aggregator.add(np.stack(last[:3]), STARTS[:3])
    # Room for one patch more, not for three; what was there stays.
    with room(4 * 4096), pytest.raises(vq.StorageError, match="cannot write scratch space"):
        aggregator.add(np.full((3, 2, *GRID.patch_size), np.pi), STARTS[2:5])
    assert identical(aggregator.needed(), STARTS[3:])
    for n in range(3, len(STARTS)):
        aggregator.add(last[n], STARTS[n])
    assert identical(aggregator.finish()[...], fresh(last))


def test_replacing_takes_no_more_room_than_the_last_patches(tmp_path: Path) -> None:
    last = [patch.astype("f4") for patch in answers(7)]
    out = tmp_path / "p.zarr/case/pred"
    aggregator = vq.Aggregator(GRID, SIZE, channels=2, out=out, memory_bytes=0, replace=True)
    blocks = -(-last[0].nbytes // 4096) * 4096
    # One patch is there twice, until its successor is whole.
    with room(blocks * (len(STARTS) + 1)):
        for _ in range(20):
            for patch, start in zip(last, STARTS, strict=True):
                aggregator.add(patch, start)
    assert identical(aggregator.finish()[...], fresh(last))
