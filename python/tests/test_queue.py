"""What a queue gives: the voxels of its plan, the same on any number of threads and ranks, and
after a resume.
"""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, noise, smooth, write_nifti

import voxquarry as vq

NAMES = ["a", "b", "c", "d", "e"]
PATCH = 12
SHUFFLES = ["global", "window", "none"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects of different size; ``ct`` has two channels, ``seg`` none."""
    folder = tmp_path_factory.mktemp("queue")
    sources = {}
    for i, name in enumerate(NAMES):
        shape = (30 + i, 28, 26 - i)
        ct = write_nifti(folder / f"{name}.nii", noise((*shape, 1, 2), "i2", i))
        seg = write_nifti(folder / f"{name}-seg.nii", (smooth(shape) % 3).astype("u1"))
        sources[name] = {"ct": ct, "seg": vq.Labels(seg)}
    vq.ingest(sources, folder / "store.zarr", patch_size=PATCH, codec="compact")
    return folder / "store.zarr"


@pytest.fixture
def store(path: Path) -> vq.Dataset:
    return vq.open(path)


def queue_of(store: vq.Dataset, **options: object) -> vq.Queue:
    options = {"volumes": ["ct", "seg"], "patches_per_subject": 5} | options
    return vq.Queue(store, vq.UniformSampler(PATCH), **options)


def digest(batches: object) -> str:
    found = hashlib.sha256()
    for batch in batches:
        for key, value in batch.items():
            found.update(
                key.encode()
                + (value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())
            )
    return found.hexdigest()


def places(batches: object) -> list[tuple[object, ...]]:
    rows = ((batch["subject"], batch["location"].tolist()) for batch in batches)
    return [
        (name, *corner)
        for names, corners in rows
        for name, corner in zip(names, corners, strict=True)
    ]


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_batches_are_the_patches_at_their_locations(store: vq.Dataset, shuffle: str) -> None:
    queue = queue_of(store, shuffle=shuffle, batch_size=4, window_bytes="200KiB")
    batches = list(queue)
    assert len(queue) == len(batches) == 7
    assert [len(batch["subject"]) for batch in batches] == [4] * 6 + [1]
    for batch in batches:
        n = len(batch["subject"])
        assert list(batch) == ["ct", "seg", "location", "subject"]
        assert (batch["ct"].shape, batch["ct"].dtype) == ((n, 2, PATCH, PATCH, PATCH), np.int16)
        assert (batch["seg"].shape, batch["seg"].dtype) == ((n, 1, PATCH, PATCH, PATCH), np.uint8)
        assert (batch["location"].shape, batch["location"].dtype) == ((n, 6), np.int64)
        for i, name in enumerate(batch["subject"]):
            start, end = batch["location"][i, :3], batch["location"][i, 3:]
            assert (end - start).tolist() == [PATCH] * 3
            assert identical(batch["ct"][i], store[name]["ct"].read(start, PATCH))
            assert identical(batch["seg"][i, 0], store[name]["seg"].read(start, PATCH))
    sampler = vq.UniformSampler(PATCH)
    expected = [
        (name, *start) for name in NAMES for start in sampler.locations(store[name], 5).tolist()
    ]
    found = [place[:4] for place in places(batches)]
    assert (found if shuffle == "none" else sorted(found)) == (
        expected if shuffle == "none" else sorted(expected)
    )
    assert (found == expected) == (shuffle == "none")


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_the_stream_is_the_same_on_any_number_of_threads(store: vq.Dataset, shuffle: str) -> None:
    found = set()
    for threads in (1, 2, 8):
        # The smallest ring, one chunk's cache and none: how it is read must not show.
        for options in (
            {},
            {"buffer_bytes": 4 * 5 * PATCH**3 + 128},
            {"cache_bytes": 0},
            {"cache_bytes": 20_000},
        ):
            queue = queue_of(store, shuffle=shuffle, threads=threads, seed=3, **options)
            found.add(digest(queue))
    assert len(found) == 1
    assert digest(queue_of(store, shuffle=shuffle, seed=4)) not in found


def test_every_iteration_is_another_epoch(store: vq.Dataset) -> None:
    """The same patches came in every epoch where nobody called ``set_epoch`` (DALI#4134,
    MIScnn#17).
    """
    expected = []
    for epoch in range(4):
        chosen = queue_of(store)
        chosen.set_epoch(epoch)
        expected.append(digest(chosen))
    assert len(set(expected)) == 4
    queue = queue_of(store)
    assert [digest(queue) for _ in range(3)] == expected[:3]
    assert queue.epoch == 2
    # The choice is for one iteration, also of the epoch that was just read.
    for epoch in (2, 0, 0):
        queue.set_epoch(epoch)
        assert (digest(queue), queue.epoch) == (expected[epoch], epoch)
    assert digest(queue) == expected[1]
    # An iteration that was left half-way was one, too.
    next(iter(queue))
    assert digest(queue) == expected[3]


def test_shards_stay_in_an_epoch(store: vq.Dataset) -> None:
    whole = places(queue_of(store, batch_size=1))
    queue = queue_of(store, batch_size=1)
    parts = [places(queue.shard(2, index)) for index in (0, 1)]
    assert parts == [whole[::2], whole[1::2]]
    assert places(queue) == whole
    assert places(queue.shard(1, 0)) == places(queue) != whole


def test_a_state_of_a_finished_epoch_continues_with_the_next(store: vq.Dataset) -> None:
    queue = queue_of(store)
    expected = [digest(queue) for _ in range(3)]
    trained = queue_of(store)
    for _ in trained:
        at_the_last_batch = trained.state_dict()
    after_the_loop = trained.state_dict()
    assert (at_the_last_batch["epoch"], at_the_last_batch["position"]) == (0, 25)
    assert (after_the_loop["epoch"], after_the_loop["position"]) == (1, 0)
    for state, first in ((after_the_loop, expected[1]), (at_the_last_batch, digest([]))):
        resumed = queue_of(store)
        resumed.load_state_dict(state)
        assert digest(resumed) == first
    assert digest(resumed) == expected[1]
    # An epoch that is chosen is read again, even if it was over.
    resumed = queue_of(store)
    resumed.load_state_dict(after_the_loop)
    resumed.set_epoch(0)
    assert digest(resumed) == expected[0]


@pytest.mark.parametrize("world", [2, 3, 4, 26])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_the_plan(store: vq.Dataset, world: int, drop_last: bool) -> None:
    everything = places(queue_of(store))
    ranks = [
        queue_of(store, rank=r, world_size=world, batch_size=3, drop_last=drop_last)
        for r in range(world)
    ]
    assert len({len(queue) for queue in ranks}) == 1
    parts = [places(queue) for queue in ranks]
    each = 25 // world // 3 * 3 if drop_last else -(-25 // world)
    assert [len(part) for part in parts] == [each] * world == [queue.patches for queue in ranks]
    together = [place for step in zip(*parts, strict=True) for place in step]
    if drop_last:
        assert together == everything[: each * world]
    else:
        # What is missing at the end is the beginning again.
        assert together == (everything * 2)[: each * world]


def test_drop_last_leaves_out_what_fills_no_batch(store: vq.Dataset) -> None:
    queue = queue_of(store, batch_size=4, drop_last=True)
    assert len(queue) == 6 and [len(batch["subject"]) for batch in queue] == [4] * 6
    assert len(queue_of(store, batch_size=26, drop_last=True)) == 0
    assert list(queue_of(store, batch_size=26, drop_last=True)) == []


def test_every_position_can_be_resumed_from(store: vq.Dataset) -> None:
    queue = queue_of(store, batch_size=2, world_size=2, rank=1)
    queue.set_epoch(5)
    batches, states = [], [queue.state_dict()]
    for batch in queue:
        batches.append(batch)
        states.append(queue.state_dict())
    assert len(batches) == 7
    following = digest(queue)
    for i, state in enumerate(states):
        fresh = queue_of(store, batch_size=2, world_size=2, rank=1, threads=3)
        fresh.load_state_dict(state)
        # To name the epoch that was loaded takes nothing back.
        fresh.set_epoch(5)
        assert fresh.state_dict() == state
        assert digest(fresh) == digest(batches[i:])
        assert digest(fresh) == following, "the next iteration is the whole next epoch"
        copy = pickle.loads(pickle.dumps(fresh))
        copy.load_state_dict(state)
        assert digest(pickle.loads(pickle.dumps(copy))) == digest(batches[i:])


def test_a_state_is_good_for_other_ranks_and_batches(store: vq.Dataset) -> None:
    everything = places(queue_of(store))
    four = queue_of(store, world_size=4, rank=2, batch_size=3)
    next(iter(four))
    two = [queue_of(store, world_size=2, rank=rank, batch_size=5) for rank in range(2)]
    for queue in two:
        queue.load_state_dict(four.state_dict())
    rest = [place for step in zip(*map(places, two), strict=True) for place in step]
    assert rest == (everything * 2)[12:26]
    three = queue_of(store, world_size=5)
    with pytest.raises(vq.UsageError, match=r"position 12: .* world_size 5"):
        three.load_state_dict(four.state_dict())


RESUME = """
import json, os, signal, sys
import voxquarry as vq
store, state = sys.argv[1:]
volumes = ["ct", "seg"]
queue = vq.Queue(
    vq.open(store), vq.UniformSampler(12), volumes=volumes, patches_per_subject=5, batch_size=1
)
if os.path.exists(state):
    queue.load_state_dict(json.load(open(state)))
for i, batch in enumerate(queue):
    print(batch["subject"][0], *batch["location"][0], batch["ct"].astype("i8").sum(), flush=True)
    json.dump(queue.state_dict(), open(state + ".new", "w"))
    os.replace(state + ".new", state)
    if i == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_processes_go_on_where_they_were(
    path: Path, store: vq.Dataset, tmp_path: Path
) -> None:
    lines, runs = [], 0
    while len(lines) < 25:
        command = [sys.executable, "-c", RESUME, str(path), str(tmp_path / "state")]
        lines += subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        runs += 1
        assert runs <= 7
    assert runs == 7
    expected = [
        " ".join(
            map(str, (batch["subject"][0], *batch["location"][0], batch["ct"].astype("i8").sum()))
        )
        for batch in queue_of(store, batch_size=1)
    ]
    assert lines == expected


def test_subjects_are_chosen_ordered_and_repeated(store: vq.Dataset) -> None:
    listed = queue_of(store, subjects=["d", "a", "d"], shuffle="none", patches_per_subject=2)
    sampler = vq.UniformSampler(PATCH)
    d, a = (sampler.locations(store[name], 4).tolist() for name in "da")
    assert [place[:4] for place in places(listed)] == [
        ("d", *d[0]), ("d", *d[1]), ("a", *a[0]), ("a", *a[1]), ("d", *d[2]), ("d", *d[3])
    ]  # fmt: skip
    weighted = queue_of(store, subjects={"b": 1, "e": np.int64(3), "c": 0})
    assert Counter(place[0] for place in places(weighted)) == {"b": 1, "e": 3}
    drawn = vq.SubjectSampler(store, "volume").counts(11)
    assert Counter(place[0] for place in places(queue_of(store, subjects=drawn))) == drawn


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_grid_gives_all_its_patches(store: vq.Dataset, shuffle: str) -> None:
    grid = vq.GridSampler(PATCH, overlap=4, padding="reflect")
    queue = vq.Queue(store, grid, "ct", shuffle=shuffle, batch_size=7)
    batches = list(queue)
    expected = [(name, *start) for name in NAMES for start in grid.locations(store[name]).tolist()]
    assert queue.patches == len(expected) and len(queue) == -(-len(expected) // 7)
    found = [place[:4] for place in places(batches)]
    assert sorted(found) == sorted(expected) and (found == expected) == (shuffle == "none")
    for batch in batches[:5]:
        for i, name in enumerate(batch["subject"]):
            patch = store[name]["ct"].read(batch["location"][i, :3], PATCH, padding="reflect")
            assert identical(batch["ct"][i], patch)


def test_patches_outside_are_padded_as_each_volume_says(store: vq.Dataset) -> None:
    sampler = vq.UniformSampler(PATCH, border="pad")
    plain = vq.Queue(store, sampler, ["ct", "seg"], 5)
    mapped = vq.Queue(store, sampler, ["ct", "seg"], 5, padding={"ct": "edge", "seg": 7})
    outside = 0
    for batch, other in zip(plain, mapped, strict=True):
        for i, name in enumerate(batch["subject"]):
            start = batch["location"][i, :3]
            outside += any(start < 0)
            for found, volume, padding in (
                (batch, "ct", 0), (batch, "seg", 0), (other, "ct", "edge"), (other, "seg", 7)
            ):  # fmt: skip
                patch = store[name][volume].read(start, PATCH, padding=padding)
                assert np.array_equal(found[volume][i].reshape(patch.shape), patch)
    assert outside > 5


def test_every_random_sampler_serves(store: vq.Dataset) -> None:
    for sampler in (vq.LabelSampler(PATCH, "seg"), vq.WeightedSampler(PATCH, "seg")):
        queue = vq.Queue(store, sampler, "seg", 3, shuffle="none")
        expected = [
            (name, *start) for name in NAMES for start in sampler.locations(store[name], 3).tolist()
        ]
        assert [place[:4] for place in places(queue)] == expected


def test_nothing_to_read_is_no_batch(store: vq.Dataset) -> None:
    for queue in (
        queue_of(store, subjects=[]),
        queue_of(store, subjects={"a": 0}),
        queue_of(store, subjects={}),
    ):
        assert len(queue) == 0 and list(queue) == [] and queue.state_dict()["position"] == 0


def test_kept_batches_are_never_written_over(store: vq.Dataset) -> None:
    size = 4 * 5 * PATCH**3 + 128
    queue = queue_of(store, patches_per_subject=40, buffer_bytes=2 * size)
    kept, sums = [], []
    for batch in queue:
        kept.append(batch["seg"] if len(kept) % 3 else batch["ct"][1:, :, ::2])
        sums.append(kept[-1].astype("i8").sum())
        batch["ct"][...] = -1  # the consumer's own
        if len(kept) % 3 == 1:
            sums[-1] = -kept[-1].size
    assert [part.astype("i8").sum() for part in kept] == sums
    assert digest(queue_of(store)) == digest(queue_of(store, buffer_bytes=size))


def test_what_it_did_is_counted(store: vq.Dataset) -> None:
    queue = queue_of(store, cache_bytes="64MiB", threads=2)
    assert set(queue.stats().values()) == {0, 2}
    list(queue)
    first = queue.stats()
    assert (first["patches"], first["batches"]) == (25, 7)
    assert first["voxel_bytes"] == 25 * 5 * PATCH**3
    assert 0 <= first["stall_seconds"] <= first["seconds"] and first["decode_seconds"] > 0
    assert first["patches_per_second"] == pytest.approx(25 / first["seconds"])
    assert first["chunks_decoded"] > 0 and first["bytes_read"] > 0 and first["cache_hits"] > 0
    # All chunks fit, so another time nothing is decoded.
    queue.set_epoch(0)
    list(queue)
    second = queue.stats()
    assert (
        second["chunks_decoded"] == first["chunks_decoded"]
        and second["cache_hits"] > first["cache_hits"]
    )
    assert second["patches"] == 50
