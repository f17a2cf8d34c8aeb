"""How a queue ends: dropped at any moment, forked, interrupted, with errors; and what it refuses to
begin.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, in_child, smooth, write_nifti

import voxquarry as vq

PATCH = 16
BATCH_BYTES = 4 * PATCH**3 * 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("life")
    sources = {
        name: {"ct": write_nifti(folder / f"{name}.nii", smooth((40, 44, 48)) + i)}
        for i, name in enumerate("abc")
    }
    vq.ingest(sources, folder / "store.zarr", patch_size=PATCH, codec="compact")
    return folder / "store.zarr"


def queue_of(path: Path, **options: object) -> vq.Queue:
    options = {"patches_per_subject": 100} | options
    return vq.Queue(vq.open(path), vq.UniformSampler(PATCH), "ct", **options)


def readers() -> int:
    """Reader threads of this process."""
    found = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += Path(f"/proc/self/task/{task}/comm").read_text().startswith("voxquarry-read")
    return found


def has_readers(count: int) -> bool:
    """Whether there are so many: the system names a thread, and forgets one that was joined, a
    moment later.
    """
    end = time.monotonic() + 20
    while readers() != count:
        if time.monotonic() > end:
            return False
    return True


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.linux
@pytest.mark.parametrize("taken", [0, 1, 5, 74, 75])
@pytest.mark.parametrize("buffers", [1, 3, 1000])
def test_dropped_in_any_state_it_leaves_no_thread(path: Path, taken: int, buffers: int) -> None:
    queue = queue_of(path, threads=4, buffer_bytes=buffers * BATCH_BYTES)
    assert has_readers(0), "nothing starts before the iteration"
    batches = iter(queue)
    kept = [next(batches) for _ in range(taken)]
    if taken < 50 and buffers < 10:
        # They wait for room that only the consumer makes.
        assert has_readers(4)
    if taken == 75:
        with pytest.raises(StopIteration):
            next(batches)
        assert has_readers(0), "an epoch that is over has no threads"
    del batches
    assert has_readers(0)
    for batch in kept:
        assert identical(
            batch["ct"][3, 0],
            queue.dataset[batch["subject"][3]]["ct"].read(batch["location"][3, :3], PATCH),
        )


@pytest.mark.linux
def test_an_exception_in_the_loop_ends_it(path: Path) -> None:
    def train() -> None:
        for _ in queue_of(path, threads=2, buffer_bytes=2 * BATCH_BYTES):
            raise RuntimeError("the model's own")

    with pytest.raises(RuntimeError, match="own"):
        train()
    gc.collect()
    assert has_readers(0)


@pytest.mark.linux
def test_thousands_of_iterations_leave_no_file(path: Path) -> None:
    queue = queue_of(path, threads=2, buffer_bytes=4 * BATCH_BYTES)
    next(iter(queue))
    before = files()
    for _ in range(300):
        next(iter(queue))
    assert files() == before and has_readers(0)


def test_two_iterations_at_once_do_not_disturb_each_other(path: Path) -> None:
    queue = queue_of(path, patches_per_subject=10)
    expected = list(queue)
    queue.set_epoch(0)
    first = iter(queue)
    queue.set_epoch(0)
    for one, two, three in zip(first, queue, expected, strict=True):
        assert identical(one["ct"], two["ct"]) and identical(one["ct"], three["ct"])


def test_threads_may_share_an_iteration(path: Path) -> None:
    batches, found = iter(queue_of(path)), []

    def take() -> None:
        found.extend(batch["location"].tobytes() for batch in batches)

    takers = [threading.Thread(target=take) for _ in range(3)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(found) == sorted(batch["location"].tobytes() for batch in queue_of(path))


@pytest.mark.linux
@pytest.mark.parametrize("buffers", [1, 3, 1000])
def test_a_fork_goes_on_with_threads_of_its_own(path: Path, buffers: int) -> None:
    queue = queue_of(path, threads=2, buffer_bytes=buffers * BATCH_BYTES)
    expected = [batch["ct"].tobytes() for batch in queue]
    # Threads are reading, waiting or holding locks, as it happens: so more than once.
    for _ in range(10):
        queue.set_epoch(0)
        batches = iter(queue)
        held = next(batches)

        def child() -> tuple[list[bytes], list[bytes], int, bytes]:
            rest = [batch["ct"].tobytes() for batch in batches]
            queue.set_epoch(0)
            again = [batch["ct"].tobytes() for batch in queue]
            patch = queue.dataset["a"]["ct"].read((0, 0, 0), 40)
            return rest, again, has_readers(0), held["ct"].tobytes() + patch.tobytes()

        rest, again, alone, rest_bytes = in_child(child)
        assert rest == expected[1:] and again == expected and alone
        assert (
            rest_bytes
            == held["ct"].tobytes() + queue.dataset["a"]["ct"].read((0, 0, 0), 40).tobytes()
        )
        assert [batch["ct"].tobytes() for batch in batches] == expected[1:], "the parent's goes on"


def test_a_fork_may_drop_what_it_inherits(path: Path) -> None:
    queue = queue_of(path, threads=2, buffer_bytes=2 * BATCH_BYTES)
    for _ in range(10):
        things = [iter(queue)]
        things += [next(things[0]), next(things[0])]
        assert in_child(lambda things=things: [things.pop(0) is None, things.clear()]) == [
            False,
            None,
        ]


INTERRUPTED = """
import sys
import voxquarry as vq
# One batch that takes seconds to fill.
store, sampler = vq.open(sys.argv[1], cache_bytes=0), vq.UniformSampler(16)
queue = vq.Queue(store, sampler, "ct", 20_000, batch_size=20_000, threads=1)
try:
    print("ready", flush=True)
    next(iter(queue))
except KeyboardInterrupt:
    print("interrupted after", queue.stats()["batches"], flush=True)
"""


def test_ctrl_c_ends_the_wait_for_a_batch(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("interrupted after 0\n", None)
        assert process.returncode == 0


def test_the_interpreter_may_exit_at_any_moment(path: Path) -> None:
    program = """
import sys, voxquarry as vq
sampler = vq.UniformSampler(16)
queue = vq.Queue(vq.open(sys.argv[1]), sampler, "ct", 100, threads=4, buffer_bytes=100000)
batches = iter(queue)
kept = [next(batches) for _ in range(int(sys.argv[2]))]
"""
    for taken in ("0", "1", "30"):
        run = subprocess.run(
            [sys.executable, "-c", program, str(path), taken],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (run.returncode, run.stderr) == (0, "")


@pytest.fixture
def damaged(path: Path, tmp_path: Path) -> Path:
    """A copy whose subject ``b`` has a byte changed in its first chunk."""
    copy = shutil.copytree(path, tmp_path / "damaged.zarr")
    (shard,) = (file for file in (copy / "b" / "ct" / "0" / "c").rglob("*") if file.is_file())
    voxels = bytearray(shard.read_bytes())
    voxels[40] ^= 1
    shard.write_bytes(voxels)
    return copy


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_error_comes_in_place_of_its_batch(path: Path, damaged: Path, threads: int) -> None:
    options = {"batch_size": 1, "patches_per_subject": 30}
    good = {batch["location"].tobytes(): batch["subject"] for batch in queue_of(path, **options)}
    queue = queue_of(damaged, threads=threads, **options)
    batches, found, failed = iter(queue), [], []
    while True:
        before = queue.state_dict()
        try:
            found.append(next(batches)["location"].tobytes())
        except vq.DataError as error:
            assert "crc32c" in str(error) and f"b/ct: patch at {list(error.location[:3])}" in str(
                error
            )
            assert error.subject == "b"
            failed.append(np.array([error.location]).tobytes())
            found.append(failed[-1])
            assert queue.state_dict() == before, "what was not delivered is still due"
        except StopIteration:
            break
    assert found == list(good), "each in its own place"
    # Those that meet the first chunk, and no others.
    chunk = queue.dataset["b"]["ct"].chunks
    starts = {place: np.frombuffer(place, "i8")[:3] for place in good}
    meet = [place for place, name in good.items() if name == ["b"] and all(starts[place] < chunk)]
    assert failed == meet and 0 < len(meet) < 30


def test_a_subject_that_went_away_is_named(path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(path, tmp_path / "gone.zarr")
    queue = queue_of(copy, patches_per_subject=2, shuffle="none", batch_size=2)
    shutil.rmtree(copy / "b")
    batches = iter(queue)
    assert next(batches)["subject"] == ["a", "a"]
    with pytest.raises(vq.UsageError, match='subject "b"') as raised:
        next(batches)
    assert isinstance(raised.value, KeyError) and raised.value.subject == "b"
    assert next(batches)["subject"] == ["c", "c"]


def test_a_subject_too_small_or_of_another_kind_is_named(path: Path, tmp_path: Path) -> None:
    sources = {
        "a": {"ct": write_nifti(tmp_path / "a.nii", smooth((20, 20, 20)))},
        "b": {"ct": write_nifti(tmp_path / "b.nii", smooth((20, 20, 9)))},
        "c": {"ct": write_nifti(tmp_path / "c.nii", smooth((20, 20, 20), "f4"))},
    }
    store = vq.ingest(sources, tmp_path / "mixed.zarr", patch_size=PATCH)
    for subject, message in (("b", "larger than the volume"), ("c", "float32 with 1 channels")):
        with pytest.raises(vq.UsageError, match=message) as raised:
            vq.Queue(store, vq.UniformSampler(PATCH), "ct", subjects=["a", subject])
        assert raised.value.subject == subject


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volumes": []}, "at least one"),
        ({"volumes": ["ct", "ct"]}, '"ct" is repeated'),
        ({"volumes": 3}, "expected a name"),
        ({"volumes": ["mr"]}, 'no volume "mr"'),
        ({"subjects": ["a", "x"]}, 'no subject "x"'),
        ({"subjects": {"a": -1}}, "numbers of patches"),
        ({"subjects": 3}, "numbers of patches"),
        ({"patches_per_subject": 0}, "patches_per_subject 0"),
        ({"patches_per_subject": -1}, "2\\*\\*64"),
        ({"patches_per_subject": 2**62}, "2⁶²"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 2**60}, "address space"),
        (
            {"buffer_bytes": BATCH_BYTES - 1},
            f"buffer_bytes {BATCH_BYTES - 1}: expected at least the {BATCH_BYTES} bytes of one"
            " batch",
        ),
        ({"buffer_bytes": "much"}, "much"),
        ({"shuffle": "all"}, 'expected "global", "window" or "none"'),
        ({"eviction": "lru"}, 'expected "farthest" or "oldest"'),
        ({"seed": -1}, "2\\*\\*64"),
        ({"rank": 1}, "rank 1: expected less than world_size 1"),
        ({"world_size": 0}, "world_size 0"),
        ({"threads": 0}, "threads 0"),
        ({"padding": "mirror"}, "mirror"),
        ({"padding": {"seg": 0}}, "not read"),
    ],
)
def test_what_cannot_be_is_refused(path: Path, options: dict[str, object], message: str) -> None:
    arguments = {"volumes": ["ct"]} | options
    with pytest.raises(vq.UsageError, match=message):
        vq.Queue(vq.open(path), vq.UniformSampler(PATCH), **arguments)


def test_other_samplers_and_states_are_refused(path: Path) -> None:
    store = vq.open(path)
    with pytest.raises(vq.UsageError, match="expected a UniformSampler"):
        vq.Queue(store, 96, "ct")
    queue = queue_of(path)
    state = queue.state_dict()
    padding = vq.Queue(vq.open(path), vq.UniformSampler(PATCH, border="pad"), "ct", 100)
    for other in (
        queue_of(path, seed=1),
        queue_of(path, patches_per_subject=3),
        queue_of(path, shuffle="none"),
        padding,
    ):
        with pytest.raises(vq.UsageError, match="of another queue"):
            other.load_state_dict(state)
    for broken in (
        {},
        {**state, "position": -1},
        {**state, "plan": "x"},
        {**state, "version": 2},
        5,
        None,
    ):
        with pytest.raises(vq.UsageError, match="state_dict"):
            queue.load_state_dict(broken)
    assert queue.state_dict() == state


def test_a_queue_is_pickled_small(path: Path) -> None:
    queue = queue_of(
        path, padding={"ct": "edge"}, subjects={"a": 3, "b": 2}, window_bytes="1MiB", cache_bytes=0
    )
    pickled = pickle.dumps(queue)
    assert len(pickled) < 1000
    copy = pickle.loads(pickled)
    assert repr(copy) == repr(queue) and pickle.dumps(copy) == pickled
    for one, two in zip(queue, copy, strict=True):
        assert identical(one["ct"], two["ct"]) and one["subject"] == two["subject"]
