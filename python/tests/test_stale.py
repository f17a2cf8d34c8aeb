"""Readers of a store that changes: what was opened is read as it was, or an error names it.

Every voxel of a subject is the number of its generation, so that a mixture of two shows.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import in_child, write_nifti

import voxquarry as vq

SHAPE = (20, 24, 16)
NAMES = ("a", "b", "c")


class Place:
    """A store whose subjects are replaced, removed and added."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "store.zarr"
        self.count = 0
        self.generations: dict[str, int] = {}
        for name in NAMES:
            self.replace(name)

    def replace(self, name: str) -> None:
        self.count += 1
        source = self.folder / "source.nii"
        write_nifti(source, np.full(SHAPE[::-1], self.count, "i2"))
        volumes = {"ct": source, "seg": vq.Labels(source), "w": vq.Weights(source)}
        options = {"patch_size": 8, "overwrite": True}
        vq.ingest({name: volumes}, self.path, codec=random_codec(self.count), **options)
        self.generations[name] = self.count

    def remove(self, name: str) -> None:
        shutil.rmtree(self.path / name, ignore_errors=True)
        self.generations.pop(name, None)


def random_codec(number: int) -> str:
    return ("fast", "compact", "none")[number % 3]


def one_of(voxels: np.ndarray, expected: int, name: str) -> None:
    assert (voxels == expected).all(), f"{name}: {np.unique(voxels)}, expected {expected}"


def or_error(name: str, read: Callable[[], None]) -> bool:
    """Whether ``read`` found what it should; what stopped it names the subject."""
    try:
        read()
    except (vq.DataError, vq.NotFoundError, vq.StorageError) as error:
        assert name in str(error), error
        return False
    return True


Step = Callable[[], None]


def opened_before(place: Place, name: str, rng: random.Random) -> Step:
    """Reads a volume that is open since now."""
    dataset, generation = vq.open(place.path, threads=1), place.generations[name]
    subject = dataset[name]
    volumes = [subject[volume] for volume in ("ct", "seg") if rng.random() < 0.8]

    def read() -> None:
        for volume in volumes or [subject["w"]]:
            one_of(volume[:], generation, name)
        if rng.random() < 0.5:
            starts = vq.WeightedSampler(8, "w").locations(subject, 5)
            one_of(subject["ct"].read_batch(starts, 8), generation, name)

    return lambda: or_error(f"/{name}", read) and None


def pickled_before(place: Place, name: str, there: ProcessPoolExecutor) -> Step:
    """Unpickles, here and in a spawned process, what was pickled now: it is opened again."""
    pickled = pickle.dumps(vq.open(place.path)[name]["ct"])

    def read() -> None:
        for found in (whole_of(pickled), there.submit(whole_of, pickled).result(60)):
            one_of(found, place.generations.get(name, -1), name)

    return lambda: or_error(name, read) and None


def whole_of(pickled: bytes) -> np.ndarray:
    return pickle.loads(pickled)[:]


def queue_before(place: Place, rng: random.Random) -> Step:
    """Goes on with a queue that was begun now: all of a subject is of one generation."""
    dataset, generations = vq.open(place.path, threads=2), set(place.generations.values())
    if not generations:
        return lambda: None
    queue = vq.Queue(
        dataset,
        vq.UniformSampler(8),
        ["ct", "seg"],
        12,
        batch_size=2,
        threads=rng.choice([1, 2]),
        buffer_bytes=1 << 13,
        seed=rng.randrange(100),
    )
    batches: Iterator[dict[str, np.ndarray]] = iter(queue)
    for batch in [next(batches) for _ in range(rng.randrange(2))]:
        assert set(np.unique(batch["ct"])) <= generations

    def read() -> None:
        for batch in batches:
            for ct, seg in zip(batch["ct"], batch["seg"], strict=True):
                (number,) = np.unique(ct)
                # A subject is opened at its first patch, and then all of it is of that time.
                assert (seg == number).all(), (number, np.unique(seg))

    def go_on() -> None:
        try:
            read()
        except (vq.DataError, vq.NotFoundError, vq.StorageError) as error:
            assert any(name in str(error) for name in NAMES), error

    return go_on


def fork_before(place: Place, name: str) -> Step:
    """Reads in a forked child what its parent has open since now."""
    volume, generation = vq.open(place.path)[name]["ct"], place.generations[name]
    volume.read((0, 0, 0), 8)

    def read() -> None:
        def child() -> list[int] | str:
            try:
                return np.unique(volume[:]).tolist()
            except vq.Error as error:
                return str(error)

        found = in_child(child)
        assert found == [generation] or (isinstance(found, str) and name in found), found

    return read


@pytest.fixture(scope="module")
def there() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("seed", range(24))
def test_schedules_of_readers_and_a_writer(
    tmp_path: Path, there: ProcessPoolExecutor, seed: int
) -> None:
    rng, place = random.Random(seed), Place(tmp_path)
    begun: list[Step] = []
    for _ in range(40):
        known = sorted(place.generations)
        kind = rng.randrange(9)
        if kind < 2 or not known:
            place.replace(rng.choice(NAMES))
        elif kind == 2 and len(known) > 1:
            place.remove(rng.choice(known))
        elif kind == 3:
            begun.append(opened_before(place, rng.choice(known), rng))
        elif kind == 4:
            begun.append(pickled_before(place, rng.choice(known), there))
        elif kind == 5:
            begun.append(queue_before(place, rng))
        elif kind == 6 and hasattr(signal, "SIGALRM"):
            begun.append(fork_before(place, rng.choice(known)))
        elif begun:
            begun.pop(rng.randrange(len(begun)))()
    for step in begun:
        step()
    # A dataset that is opened now has what is there now.
    dataset = vq.open(place.path)
    assert list(dataset) == sorted(place.generations)
    for name, generation in place.generations.items():
        one_of(dataset[name]["ct"][:], generation, name)
    vq.verify(place.path)


INTERRUPTED = """
import sys, numpy as np, voxquarry as vq
source, folder, what = sys.argv[1:]
def model(patches):
    print("ready", flush=True)
    return patches.astype("f4")
def ready(*_):
    print("ready", flush=True)
try:
    if what == "infer":
        volume = vq.open(source)["case"]["image"]
        vq.infer(model, volume, 8, 4, out=folder + "/p.zarr/case/p", batch_size=1)
    else:
        print("ready", flush=True)
        while True:
            vq.ingest({"case": folder + "/a.nii"}, folder + "/n.zarr", patch_size=8,
                      overwrite=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("what", ["infer", "ingest"])
def test_ctrl_c_publishes_nothing_half(tmp_path: Path, what: str) -> None:
    voxels = np.arange(64 * 48 * 32, dtype="i2").reshape(64, 48, 32) % 100
    source = write_nifti(tmp_path / "a.nii", voxels)
    store = tmp_path / "in.zarr"
    volume = vq.ingest({"case": source}, store, patch_size=8)["case"]["image"]
    arguments = [str(store), str(tmp_path), what]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (0, "interrupted")
    if what == "infer":
        assert not (tmp_path / "p.zarr" / "case").exists()
        found = vq.infer(lambda p: p, volume, 8, 4, out=tmp_path / "p.zarr/case/p")
        np.testing.assert_allclose(np.asarray(found[...]).squeeze(), volume[:], atol=1e-3)
        vq.verify(tmp_path / "p.zarr")
    else:
        again = vq.ingest({"case": source}, tmp_path / "n.zarr", patch_size=8, overwrite=True)
        assert (again["case"]["image"][:] == volume[:]).all()
        vq.verify(tmp_path / "n.zarr")
