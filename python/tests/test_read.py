"""Reading is numpy: slices, paddings, batches, the caller's arrays; from threads, forks, within the
cache's bound.
"""

from __future__ import annotations

import threading
import timeit
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, in_child, noise, smooth, store_of

import voxquarry as vq

SHAPE = (23, 40, 35)


@pytest.fixture(scope="module", params=[None, 3], ids=["plain", "channels"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[vq.Volume, np.ndarray]:
    voxels = noise(SHAPE if request.param is None else (request.param, *SHAPE), "i2", 3)
    # Some chunks hold nothing but zeros.
    voxels[..., 18:, 20:, :] = 0
    return store_of(tmp_path_factory.mktemp("read"), voxels, patch_size=16), voxels


def test_random_regions_are_numpys_slices(pair: tuple[vq.Volume, np.ndarray]) -> None:
    volume, voxels = pair
    random = np.random.default_rng(seed := 11)
    for n in range(200):
        low = [int(random.integers(0, extent)) for extent in SHAPE]
        size = tuple(
            int(random.integers(1, extent - at + 1)) for extent, at in zip(SHAPE, low, strict=True)
        )
        box = tuple(slice(at, at + extent) for at, extent in zip(low, size, strict=True))
        expected = np.ascontiguousarray(voxels[..., *box])
        assert identical(volume.read(low, size), expected), f"seed {seed}, case {n}"
        assert identical(volume[..., *box], expected), f"seed {seed}, case {n}"


@pytest.mark.parametrize(
    ("padding", "mode"),
    [(-7, "constant"), (np.float32(0), "constant"), ("edge", "edge"), ("reflect", "reflect")],
)
def test_padding_is_numpys(pair: tuple[vq.Volume, np.ndarray], padding: object, mode: str) -> None:
    volume, voxels = pair
    margin = 90
    around = [(0, 0)] * (voxels.ndim - 3) + [(margin, margin)] * 3
    padded = np.pad(
        voxels, around, mode=mode, **({"constant_values": padding} if mode == "constant" else {})
    )
    random, starts = np.random.default_rng(seed := 13), []
    size = (9, 14, 11)
    for n in range(120):
        # Across a border, far outside, inside.
        start = [
            int(random.integers(-margin, extent + margin - p + 1))
            for extent, p in zip(SHAPE, size, strict=True)
        ]
        starts.append(start)
        box = tuple(slice(at + margin, at + margin + p) for at, p in zip(start, size, strict=True))
        expected = np.ascontiguousarray(padded[..., *box])
        assert identical(volume.read(start, size, padding=padding), expected), (
            f"seed {seed}, case {n}: {start}"
        )
    whole = volume.read((-margin,) * 3, [extent + 2 * margin for extent in SHAPE], padding=padding)
    assert identical(whole, padded)
    batch = volume.read_batch(starts, size, padding=padding)
    for patch, start in zip(batch, starts, strict=True):
        assert identical(patch, volume.read(start, size, padding=padding))


def test_an_axis_of_one_voxel_reflects_as_numpys(tmp_path: Path) -> None:
    voxels = smooth((1, 3, 2))
    volume = store_of(tmp_path, voxels)
    for mode in ("edge", "reflect"):
        expected = np.pad(voxels, 9, mode=mode)
        assert identical(volume.read((-9, -9, -9), expected.shape, padding=mode), expected)


def test_paddings_the_dtype_does_not_have_are_refused(pair: tuple[vq.Volume, np.ndarray]) -> None:
    volume, _ = pair
    for padding, message in (
        (0.5, "int16"),
        (1e6, "int16"),
        (float("nan"), "int16"),
        ("wrap", "wrap"),
        ([1], "padding"),
    ):
        with pytest.raises(vq.UsageError, match=message):
            volume.read((-1, 0, 0), 4, padding=padding)
    with pytest.raises(vq.UsageError, match="choose a padding"):
        volume.read((20, 0, 0), 4)


def test_batches(pair: tuple[vq.Volume, np.ndarray]) -> None:
    volume, voxels = pair
    starts = np.random.default_rng(17).integers(0, (15, 30, 25), (40, 3))
    expected = np.stack([voxels[..., z : z + 8, y : y + 9, x : x + 10] for z, y, x in starts])
    for given in (
        starts,
        starts.tolist(),
        starts.astype("i4"),
        starts.astype("u8"),
        np.asfortranarray(starts),
        tuple(map(tuple, starts)),
    ):
        assert identical(volume.read_batch(given, (8, 9, 10)), expected)
    out = np.empty_like(expected)
    assert volume.read_batch(starts, (8, 9, 10), out=out) is out
    assert identical(out, expected)
    for empty in ([], np.empty((0, 3), int), np.empty((0, 3))):
        assert volume.read_batch(empty, 8).shape == (0, *voxels.shape[:-3], 8, 8, 8)
    for wrong in (starts.astype(float), starts[:, :2], starts[0], "abc", 3):
        with pytest.raises(vq.UsageError, match=r"starts: expected integers of shape \(n, 3\)"):
            volume.read_batch(wrong, 8)


def test_out_is_filled_or_refused_untouched(pair: tuple[vq.Volume, np.ndarray]) -> None:
    volume, voxels = pair
    shape = (*voxels.shape[:-3], 6, 7, 8)
    out = np.full(shape, 99, "i2")
    assert volume.read((1, 2, 3), (6, 7, 8), out=out) is out
    assert identical(out, np.ascontiguousarray(voxels[..., 1:7, 2:9, 3:11]))
    frozen = np.full(shape, 99, "i2")
    frozen.flags.writeable = False
    refused = [
        (np.full(shape, 99, "i4"), "int32"),
        (np.full(shape, 99, ">i2"), ">i2|int16"),
        (np.full(shape[1:], 99, "i2"), "expected a C-contiguous int16 of shape"),
        (np.full(shape, 99, "i2", order="F"), "not C-contiguous"),
        (np.full((*shape, 2), 99, "i2")[..., 0], "not C-contiguous"),
        (frozen, "read-only"),
    ]
    for array, message in refused:
        with pytest.raises(vq.UsageError, match=message):
            volume.read((1, 2, 3), (6, 7, 8), out=array)
        assert (array == 99).all(), message
    with pytest.raises(vq.UsageError, match="list"):
        volume.read((1, 2, 3), (6, 7, 8), out=[0])


INDICES = [
    np.s_[2],
    np.s_[-1],
    np.s_[...],
    np.s_[:],
    np.s_[2:9],
    np.s_[-5:],
    np.s_[::3],
    np.s_[::-1],
    np.s_[20:2:-3],
    np.s_[5:5],
    np.s_[9:2],
    np.s_[100:200],
    np.s_[-100:5],
    np.s_[1:2, 3],
    np.s_[..., 4],
    np.s_[..., ::-2],
    np.s_[0, ..., 0],
    np.s_[1, 2, 3],
    np.s_[:, 5:30:7, -1],
    np.s_[::-1, ::-1, ::-1],
    np.s_[..., 2:2, :],
    np.s_[np.int64(2), ..., np.uint8(1)],
    (),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_basic_indexing_is_numpys(pair: tuple[vq.Volume, np.ndarray], index: object) -> None:
    volume, voxels = pair
    found, expected = volume[index], voxels[index]
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "index",
    [
        99,
        -99,
        np.s_[..., 99],
        (0, 0, 0, 0, 0),
        np.s_[..., ...],
        1.5,
        "x",
        None,
        [1, 2],
        np.array([1]),
    ],
    ids=str,
)
def test_other_indices_are_index_errors(pair: tuple[vq.Volume, np.ndarray], index: object) -> None:
    with pytest.raises(IndexError):
        pair[0][index]


def test_slice_steps_of_zero_are_value_errors(pair: tuple[vq.Volume, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="zero"):
        pair[0][::0]


def test_a_volume_is_an_array(pair: tuple[vq.Volume, np.ndarray]) -> None:
    volume, voxels = pair
    assert (volume.shape, volume.ndim, len(volume), volume.dtype) == (
        voxels.shape,
        voxels.ndim,
        len(voxels),
        voxels.dtype,
    )
    assert identical(np.asarray(volume), voxels)
    assert identical(np.asarray(volume, dtype="f4"), voxels.astype("f4"))
    assert volume.stats["voxels"] == voxels.size
    assert (volume.stats["min"], volume.stats["max"]) == (voxels.min(), voxels.max())
    assert volume.stats["mean"] == pytest.approx(voxels.mean(), rel=1e-12)
    assert volume.stats["std"] == pytest.approx(voxels.std(), rel=1e-9)


@pytest.mark.parametrize("size", [0, -1, (4, 0, 4), (4, 4), 1.5, "a", None, 2**63])
def test_impossible_sizes_are_refused(pair: tuple[vq.Volume, np.ndarray], size: object) -> None:
    with pytest.raises(vq.UsageError, match="size"):
        pair[0].read((0, 0, 0), size)


def test_sizes_beyond_memory_are_refused_before_they_are_made(
    pair: tuple[vq.Volume, np.ndarray],
) -> None:
    with pytest.raises(vq.UsageError, match="address space"):
        pair[0].read((0, 0, 0), 2**40, padding=0)


def test_many_threads_read_alike(tmp_path: Path) -> None:
    voxels = smooth((48, 64, 64))
    volume = store_of(tmp_path, voxels, patch_size=32, cache_bytes="300KiB", threads=2)
    wrong: list[object] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(60):
            z, y, x = random.integers(0, (16, 32, 32))
            if not np.array_equal(
                volume.read((z, y, x), 32), voxels[z : z + 32, y : y + 32, x : x + 32]
            ):
                wrong.append((seed, z, y, x))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_forked_child_reads_on(tmp_path: Path) -> None:
    voxels = smooth((64, 128, 128))
    volume = store_of(tmp_path, voxels, patch_size=64, threads=2)
    expected = voxels[0:64, 5:125, 5:125].tobytes()
    assert read_on_the_pool(volume) == expected
    assert in_child(lambda: read_on_the_pool(volume)) == expected
    assert read_on_the_pool(volume) == expected


def read_on_the_pool(volume: vq.Volume) -> bytes:
    """Enough to be shared among threads."""
    return volume.read((0, 5, 5), (64, 120, 120)).tobytes()


def test_a_forked_child_may_let_go_of_all_it_inherits(tmp_path: Path) -> None:
    """Threads of the parent's pool are not there: the child neither ends nor awaits them, and the
    parent keeps its own.
    """
    inherited = [store_of(tmp_path, smooth((64, 128, 128)), patch_size=64, threads=2)]
    expected = read_on_the_pool(inherited[0])

    def read_and_let_go() -> bytes:
        first = read_on_the_pool(inherited[0])
        return first + let_go_and_read()

    def let_go_and_read() -> bytes:
        inherited.clear()
        return read_on_the_pool(vq.open(tmp_path / "store.zarr", threads=2)["case01"]["ct"])

    for _ in range(5):
        assert in_child(read_and_let_go) == 2 * expected
        assert in_child(let_go_and_read) == expected
        assert read_on_the_pool(inherited[0]) == expected


def test_the_process_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = smooth((12, 9, 10))
    store_of(tmp_path, voxels, patch_size=8)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = vq.open("store.zarr")
    grid = vq.GridSampler((4, 3, 5))
    result = vq.Aggregator(
        grid, (12, 9, 10), channels=None, dtype="i2", out="pred.zarr/case01/pred"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    volume = store["case01"]["ct"]
    assert identical(volume[...], voxels)
    assert Path(store.path) == tmp_path / "store.zarr"
    for start in grid.locations(volume):
        result.add(volume.read(start, grid.patch_size), start)
    assert identical(result.finish()[...], voxels)
    assert identical(vq.open(tmp_path / "pred.zarr")["case01"]["pred"][...], voxels)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("budget", [0, 200_000, "1MiB"])
def test_the_cache_keeps_its_bound(tmp_path: Path, budget: int | str) -> None:
    voxels = smooth((64, 96, 96))
    # Chunks of the fast codec are as quickly decoded as copied, and not kept.
    store_of(tmp_path, voxels, patch_size=32, codec="compact")
    store = vq.open(tmp_path / "store.zarr", cache_bytes=budget)
    volume, most = store["case01"]["ct"], {0: 0, 200_000: 200_000, "1MiB": 1 << 20}[budget]
    held = 0
    for n in range(40):
        at = n * 5 % 30
        for _ in range(2):
            assert np.array_equal(
                volume.read((at, at, at), 32), voxels[at : at + 32, at : at + 32, at : at + 32]
            )
            assert store.cached_bytes <= most
            held = max(held, store.cached_bytes)
    # A bound that nothing comes near would show nothing.
    assert held >= most / 2


def resident_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


@pytest.mark.linux
def test_memory_does_not_grow_with_what_was_read(tmp_path: Path) -> None:
    voxels = smooth((96, 256, 256), "f4")
    volume = store_of(tmp_path, voxels, patch_size=64, cache_bytes="4MiB")
    del voxels
    out = np.empty((64, 64, 64), "f4")
    random = np.random.default_rng(23)
    volume.read((0, 0, 0), 64, out=out)
    before = resident_bytes()
    for start in random.integers(0, (32, 192, 192), (200, 3)):
        volume.read(start, 64, out=out)
    # 24 MiB of voxels were read many times over; the cache may hold 4.
    assert resident_bytes() - before < 12 << 20


def test_a_call_costs_microseconds(tmp_path: Path) -> None:
    # With the other codecs a block's decoding is in the time, which depends on the machine.
    volume, out = (
        store_of(tmp_path, smooth((32, 32, 32)), patch_size=32, codec="none"),
        np.empty((1, 1, 1), "i2"),
    )
    volume.read((3, 4, 5), 1, out=out)
    seconds = (
        min(timeit.repeat(lambda: volume.read((3, 4, 5), 1, out=out), number=1000, repeat=9)) / 1000
    )
    assert seconds < 10e-6, f"{seconds * 1e6:.1f} µs"
